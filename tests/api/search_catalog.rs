//! Filters, facets and pages of the catalog.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Account, TestApp};

/// Six lamps in three rooms and two colors.
async fn start_shop() -> (TestApp, Account) {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let lines = [
        ("A", "kitchen", "red", 1, 10, true),
        ("B", "kitchen", "blue", 20, 20, false),
        ("C", "bath", "red", 30, 30, true),
        ("D", "bath", "blue", 60, 40, false),
        ("E", "hall", "red", 1200, 10, true),
        ("F", "hall", "blue", 1300, 20, false),
    ]
    .map(|(sku, room, color, price, watts, dim)| {
        json!({
            "sku": sku, "name": format!("Lamp {sku}"), "category": room, "tags": [color, "lamp"],
            "price": price, "stock": u64::from(dim),
            "attributes": {"watts": watts, "dim": dim, "finish": format!("{color} {room}")},
        })
        .to_string()
    });
    assert_eq!(app.import_products(&admin, lines.join("\n")).await["created"], 6);
    (app, admin)
}

async fn list(app: &TestApp, query: &str) -> Value {
    app.get(&format!("/api/products?{query}")).await.ok()
}

fn skus(page: &Value) -> String {
    page["items"].as_array().unwrap().iter().map(|item| item["sku"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn repeated_filters_match_any_of_their_values() {
    let (app, _) = start_shop().await;
    for (query, wanted) in [
        ("category=kitchen&category=hall", "ABEF"),
        ("category=kitchen&category=none", "AB"),
        ("category=none", ""),
        ("tag=red&tag=blue", "ABCDEF"),
        ("tag=red&category=bath&category=hall", "CE"),
        ("attr.watts=10", "AE"),
        ("attr.watts=10&attr.watts=40", "ADE"),
        ("attr.watts=10.0", "AE"),
        ("attr.dim=true", "ACE"),
        ("attr.dim=true&attr.watts=30", "C"),
        ("attr.finish=red+hall", "E"),
        ("attr.finish=red", ""),
        ("attr.none=1", ""),
        ("attr.watts=", ""),
        ("q=lamp&tag=red", "ACE"),
        ("q=red+lamp&max_price=30", "AC"),
        ("in_stock=true&tag=red&attr.watts=10&min_price=5", "E"),
    ] {
        let page = list(&app, &format!("{query}&sort=name")).await;
        assert_eq!(skus(&page), wanted, "{query}");
        assert_eq!(page["total"], wanted.len(), "{query}");
    }
}

#[tokio::test]
async fn ids_choose_products() {
    let (app, _) = start_shop().await;
    let all = list(&app, "sort=name").await;
    let id = |at: usize| all["items"][at]["id"].as_str().unwrap().to_owned();
    let (a, d, unknown) = (id(0), id(3), "01a206bc-0609-7165-8b52-173bd2923daf");
    let page = list(&app, &format!("ids={d}&ids={a}&ids={unknown}&ids={a}&sort=name")).await;
    assert_eq!((skus(&page).as_str(), &page["total"]), ("AD", &json!(2)));
    assert_eq!(skus(&list(&app, &format!("ids={d}&ids={a}&tag=red")).await), "A");
    assert_eq!(list(&app, &format!("ids={unknown}")).await["total"], 0);
    for bad in ["ids=", "ids=1", "ids=x&ids=y"] {
        let problem = app.get(&format!("/api/products?{bad}")).await;
        assert_eq!(problem.problem(422, "validation_failed")["errors"][0]["field"], "ids", "{bad}");
    }
}

fn facet(page: &Value, pointer: &str) -> String {
    let counts = page["facets"].pointer(pointer).and_then(Value::as_array).cloned();
    let show = |count: &Value| format!("{}:{}", count["value"], count["count"]).replace('"', "");
    counts.unwrap_or_default().iter().map(show).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn facet_counts_under_all_filters_but_its_own() {
    let (app, _) = start_shop().await;
    for (query, category, tag, watts, dim) in [
        (
            "",
            "bath:2 hall:2 kitchen:2",
            "blue:3 lamp:6 red:3",
            "10:2 20:2 30:1 40:1",
            "false:3 true:3",
        ),
        (
            "category=bath",
            "bath:2 hall:2 kitchen:2",
            "blue:1 lamp:2 red:1",
            "30:1 40:1",
            "false:1 true:1",
        ),
        ("tag=red", "bath:1 hall:1 kitchen:1", "blue:3 lamp:6 red:3", "10:2 30:1", "true:3"),
        (
            "category=bath&tag=red",
            "bath:1 hall:1 kitchen:1",
            "blue:1 lamp:2 red:1",
            "30:1",
            "true:1",
        ),
        ("attr.watts=10", "hall:1 kitchen:1", "lamp:2 red:2", "10:2 20:2 30:1 40:1", "true:2"),
        ("attr.watts=10&attr.dim=false", "", "", "20:2 40:1", "true:2"),
        ("q=red", "bath:1 hall:1 kitchen:1", "lamp:3 red:3", "10:2 30:1", "true:3"),
        (
            "max_price=30",
            "bath:1 kitchen:2",
            "blue:1 lamp:3 red:2",
            "10:1 20:1 30:1",
            "false:1 true:2",
        ),
    ] {
        let page = list(&app, query).await;
        assert_eq!(facet(&page, "/category"), category, "{query}");
        assert_eq!(facet(&page, "/tag"), tag, "{query}");
        assert_eq!(facet(&page, "/attributes/watts"), watts, "{query}");
        assert_eq!(facet(&page, "/attributes/dim"), dim, "{query}");
    }
    let page = list(&app, "attr.watts=10&max_price=20").await;
    assert_eq!(page["total"], 1);
    assert_eq!(
        page["facets"]["price"],
        json!([{"from": 0, "to": 9.99, "count": 1}, {"from": 1000, "to": 1200, "count": 1}])
    );
    assert_eq!(page["facets"]["attributes"]["dim"], json!([{"value": true, "count": 1}]));
    assert_eq!(page["facets"]["attributes"]["watts"][0], json!({"value": 10, "count": 1}));
}

#[tokio::test]
async fn facets_follow_changes() {
    let (app, admin) = start_shop().await;
    let page = list(&app, "sort=name").await;
    let path = format!("/api/products/{}", page["items"][0]["id"].as_str().unwrap());
    let patch = json!({"category": "attic", "attributes": {"watts": 99, "dim": null}, "price": 30});
    app.patch(&path, &patch).token(&admin).await.ok();
    let page = list(&app, "").await;
    assert_eq!(facet(&page, "/category"), "attic:1 bath:2 hall:2 kitchen:1");
    assert_eq!(facet(&page, "/attributes/watts"), "10:1 20:2 30:1 40:1 99:1");
    assert_eq!(facet(&page, "/attributes/dim"), "false:3 true:2");
    app.delete(&path).token(&admin).await.is(204);
    assert_eq!(facet(&list(&app, "").await, "/category"), "bath:2 hall:2 kitchen:1");
    assert_eq!(list(&app, "").await["total"], 5);
}

#[tokio::test]
async fn filters_are_bounded() {
    let (app, _) = start_shop().await;
    let repeat = |count: usize, name: &str| -> String {
        (0..count).map(|number| format!("{name}={number}&")).collect()
    };
    assert_eq!(list(&app, &repeat(100, "category")).await["total"], 0);
    assert_eq!(list(&app, &format!("{}tag=red", repeat(99, "tag"))).await["total"], 3);
    let attributes: String = (0..20).map(|number| format!("attr.a{number}=1&")).collect();
    assert_eq!(list(&app, &attributes).await["total"], 0);
    let many_attributes: String = (0..21).map(|number| format!("attr.a{number}=1&")).collect();
    let mixed = repeat(60, "tag") + &repeat(41, "attr.x");
    for query in [repeat(101, "category"), repeat(101, "attr.x"), many_attributes, mixed] {
        let problem = app.get(&format!("/api/products?{query}")).await;
        let problem = problem.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["code"], "too_many", "{problem}");
    }
    let nameless = app.get("/api/products?attr.=1").await.problem(422, "validation_failed");
    assert_eq!(nameless["errors"][0]["code"], "unknown_parameter");
}

#[tokio::test]
async fn queries_are_plain_text() {
    let (app, _) = start_shop().await;
    for text in [
        "lamp",
        "LAMP",
        "\"lamp\"",
        "lamp*",
        "+lamp",
        "-lamp",
        "lamp~",
        "(lamp)",
        "lamp^",
        "^lamp$",
        "'lamp'",
        "lamp\\",
        "{lamp}",
        "lamp;",
        "lamp\u{0}",
        "lamp\n\tlamp",
    ] {
        let mut url = reqwest::Url::parse("http://localhost/api/products").unwrap();
        url.query_pairs_mut().append_pair("q", text);
        assert_eq!(list(&app, url.query().unwrap()).await["total"], 6, "{text:?}");
        let suggest = app.get(&format!("/api/products/suggest?{}", url.query().unwrap())).await;
        assert_eq!(suggest.ok()["items"].as_array().unwrap().len(), 6, "{text:?}");
    }
    for text in ["lamp XOR bath", "lamp AND NOT red", "category:bath", "[a TO z]", "?*", "%"] {
        let mut url = reqwest::Url::parse("http://localhost/api/products").unwrap();
        url.query_pairs_mut().append_pair("q", text);
        assert_eq!(list(&app, url.query().unwrap()).await["total"], 0, "{text:?}");
    }
}

#[tokio::test]
async fn cursor_belongs_to_its_parameters() {
    let (app, _) = start_shop().await;
    for query in
        ["", "sort=price", "q=lamp", "q=lamp&sort=-price", "tag=red&tag=blue", "sort=newest"]
    {
        let page = list(&app, &format!("{query}&limit=2")).await;
        let cursor = page["next_cursor"].as_str().unwrap();
        for others in [
            "sort=name",
            "q=lamps",
            "category=bath",
            "tag=red",
            "tag=blue&tag=red&tag=lamp",
            "in_stock=true",
            "min_price=1",
            "attr.watts=10",
            "q=lamp&sort=price",
        ] {
            let path = format!("/api/products?{others}&cursor={cursor}");
            let problem = app.get(&path).await.problem(422, "validation_failed");
            assert_eq!(problem["errors"][0]["field"], "cursor", "{query}, then {others}");
        }
        let rest = list(&app, &format!("cursor={cursor}&{query}&limit=5")).await;
        let all: BTreeSet<char> = (skus(&page) + &skus(&rest)).chars().collect();
        assert_eq!(all.len(), 6, "{query}");
    }
    for cursor in ["", "x", "W10", "WyIiLG51bGxd"] {
        let problem = app.get(&format!("/api/products?cursor={cursor}")).await;
        problem.problem(422, "validation_failed");
    }
}

#[tokio::test]
async fn pages_are_stable_while_products_change() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let line = |number: u32| {
        json!({"sku": format!("S{number}"), "name": format!("Vase {number:03}"),
            "price": 100 + number % 7, "stock": 1})
        .to_string()
    };
    let lines: Vec<String> = (0..60).map(line).collect();
    app.import_products(&admin, lines.join("\n")).await;
    for (round, query) in
        ["q=vase", "sort=price", "sort=-price", "sort=name", "sort=newest"].into_iter().enumerate()
    {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        for number in 0.. {
            let page = list(&app, &format!("{query}&limit=7{cursor}")).await;
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|item| item["sku"].as_str().unwrap().to_owned()));
            // A new product, and another name of one that was already shown.
            let new = json!({"name": format!("Vase new {round} {number}"), "price": 103, "stock": 1,
                "sku": format!("NEW-{round}-{number}"), "description": ""});
            app.create_product(&admin, &new).await;
            let shown = items[0]["id"].as_str().unwrap();
            let patch = json!({"description": format!("Round {round}, page {number}")});
            app.patch(&format!("/api/products/{shown}"), &patch).token(&admin).await.ok();
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let unique: BTreeSet<&String> = seen.iter().collect();
        assert_eq!(unique.len(), seen.len(), "{query}: no product twice");
        let old = |sku: &&String| sku.starts_with('S');
        assert_eq!(seen.iter().filter(old).count(), 60, "{query}: no product is missing");
    }
}
