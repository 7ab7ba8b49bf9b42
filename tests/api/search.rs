//! Finding products: filters, sort orders, pages, facets, and suggestions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{Account, TestApp};

const CATEGORIES: [&str; 3] = ["tea", "coffee", "cups & pots"];

/// 240 products: prices from 0.05 to 12.00 in steps of 0.05, a third in each category, a quarter
/// out of stock.
async fn start_shop() -> (TestApp, Account) {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let line = |n: u64| {
        json!({
            "sku": format!("SKU-{n:03}"), "name": format!("Product {}", (n * 7) % 240),
            "price": f64::from(5 * (n as u32 + 1)) / 100.0,
            "category": CATEGORIES[n as usize % 3], "tags": [format!("t{}", n % 5), "all"],
            "stock": n % 4,
            "description": if n.is_multiple_of(2) { "even" } else { "odd" },
        })
        .to_string()
    };
    let lines: Vec<String> = (0..240).map(line).collect();
    assert_eq!(app.import_products(&admin, lines.join("\n")).await["created"], 240);
    (app, admin)
}

async fn count_matches(app: &TestApp, query: &str) -> u64 {
    app.get(&format!("/api/products?{query}")).await.ok()["total"].as_u64().unwrap()
}

#[tokio::test]
async fn filters_narrow_the_results() {
    let (app, admin) = start_shop().await;
    for (query, wanted) in [
        ("", 240),
        ("q=", 240),
        ("q=product", 240),
        ("q=PRODUCT+EVEN", 120),
        ("q=even+odd", 0),
        ("q=sku-017", 1),
        ("q=%20sku-017%20%20odd", 1),
        ("q=nothing", 0),
        ("category=tea", 80),
        ("category=cups+%26+pots", 80),
        ("category=te", 0),
        ("category=Tea", 0),
        ("tag=all", 240),
        ("tag=t3", 48),
        ("tag=t", 0),
        ("in_stock=true", 180),
        ("in_stock=false", 60),
        ("min_price=0.05&max_price=0.05", 1),
        ("min_price=0.10&max_price=0.2", 3),
        ("min_price=11.95", 2),
        ("max_price=0", 0),
        ("max_price=1e1", 200),
        ("min_price=5&max_price=4", 0),
        ("category=tea&tag=t0&in_stock=true&q=even", 4),
    ] {
        assert_eq!(count_matches(&app, query).await, wanted, "{query}");
        let items = app.all_pages(&admin, &format!("/api/products?{query}"), 100).await;
        assert_eq!(items.len() as u64, wanted, "{query}");
    }
    // A product that sells out is found as sold out immediately.
    let found = app.get("/api/products?q=sku-001").await.ok();
    let id = found["items"][0]["id"].as_str().unwrap().to_owned();
    app.change_stock(&admin, &id, &json!({"set": 0, "reason": "count"})).await.ok();
    assert_eq!(count_matches(&app, "in_stock=false").await, 61);
}

fn is_sorted_by_key(items: &[Value], key: impl Fn(&Value) -> Value) -> bool {
    let keys: Vec<Value> = items.iter().map(key).collect();
    let number = |value: &Value| value.as_f64();
    keys.windows(2).all(|pair| match (number(&pair[0]), number(&pair[1])) {
        (Some(a), Some(b)) => a <= b,
        _ => pair[0].as_str().unwrap().to_lowercase() <= pair[1].as_str().unwrap().to_lowercase(),
    })
}

#[tokio::test]
async fn every_sort_order_is_paged_without_gaps_or_repeats() {
    let (app, admin) = start_shop().await;
    for sort in ["relevance", "price", "-price", "name", "newest"] {
        for filter in ["q=product", "category=tea", ""] {
            let path = format!("/api/products?sort={sort}&{filter}");
            let whole = app.all_pages(&admin, &path, 100).await;
            let ids: BTreeSet<_> =
                whole.iter().map(|product| product["id"].as_str().unwrap()).collect();
            assert_eq!(
                (ids.len(), whole.len() as u64),
                (whole.len(), count_matches(&app, filter).await),
                "{path}"
            );
            for limit in [7, 40, 80] {
                assert_eq!(
                    app.all_pages(&admin, &path, limit).await,
                    whole,
                    "{path} in pages of {limit}"
                );
            }
        }
    }
    let sorted =
        async |sort: &str| app.all_pages(&admin, &format!("/api/products?sort={sort}"), 100).await;
    assert!(is_sorted_by_key(&sorted("price").await, |product| product["price"].clone()));
    assert!(is_sorted_by_key(&sorted("-price").await, |product| json!(
        -product["price"].as_f64().unwrap()
    )));
    assert!(is_sorted_by_key(&sorted("name").await, |product| product["name"].clone()));
    let mut newest = sorted("newest").await;
    newest.reverse();
    assert!(is_sorted_by_key(&newest, |product| product["created_at"].clone()));
    let latest = app.new_product(&admin, &json!(1), 1).await;
    assert_eq!(sorted("newest").await[0]["id"], *latest);
}

#[tokio::test]
async fn deletes_between_pages_do_not_shift_them() {
    let (app, admin) = start_shop().await;
    let first = app.get("/api/products?sort=price&limit=10").await.ok();
    for product in first["items"].as_array().unwrap() {
        app.delete(&format!("/api/products/{}", product["id"].as_str().unwrap()))
            .token(&admin)
            .await
            .is(204);
    }
    let next = first["next_cursor"].as_str().unwrap();
    let second = app.get(&format!("/api/products?sort=price&limit=10&cursor={next}")).await.ok();
    let skus: Vec<_> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|product| product["sku"].as_str().unwrap())
        .collect();
    assert_eq!(skus, (10..20).map(|n| format!("SKU-{n:03}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn best_match_comes_first() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for (name, category, description) in [
        ("Tray", "copper", "For mint tea."),
        ("Green tea", "mint", ""),
        ("Mint pot", "herbs", ""),
        ("Peppermint", "herbs", ""),
        ("Mint", "herbs", ""),
    ] {
        let body = json!({
            "name": name, "category": category, "description": description, "price": 1, "stock": 1,
        });
        app.create_product(&admin, &body).await;
    }
    let found = app.get("/api/products?q=mint").await.ok();
    let names: Vec<_> = found["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|product| product["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Mint", "Mint pot", "Green tea", "Tray"]);
}

#[tokio::test]
async fn facets_count_all_matches() {
    let (app, _) = start_shop().await;
    let admin = app.admin().await;
    for (filter, own, facet) in [
        ("", "limit=1", "category"),
        ("q=even", "category=tea", "category"),
        ("q=even&in_stock=true", "min_price=3&max_price=10.05", "price"),
        ("category=tea&in_stock=true", "limit=1", "price"),
        ("min_price=9.95&max_price=10.05", "category=coffee", "category"),
        ("q=nothing", "limit=1", "price"),
    ] {
        let query = format!("{filter}&{own}");
        let page = app.get(&format!("/api/products?{query}")).await.ok();
        let all = app.all_pages(&admin, &format!("/api/products?{filter}"), 100).await;
        let counts = page["facets"][facet].as_array().unwrap();
        if facet == "category" {
            let mut categories = BTreeMap::new();
            for product in &all {
                *categories.entry(product["category"].as_str().unwrap()).or_insert(0) += 1;
            }
            let wanted: Vec<Value> = categories
                .iter()
                .map(|(value, count)| json!({"value": value, "count": count}))
                .collect();
            assert_eq!(counts, &wanted, "{query}");
            continue;
        }
        let mut counted = 0;
        for step in counts {
            let (from, to) = (step["from"].as_f64().unwrap(), step["to"].as_f64().unwrap());
            let count = all
                .iter()
                .filter(|product| (from..=to).contains(&product["price"].as_f64().unwrap()))
                .count();
            assert_eq!(step["count"], count, "{query}: {step}");
            assert!(count > 0, "{query}: {step}");
            counted += count;
        }
        assert_eq!(counted, all.len(), "{query}: every product is in one price range");
    }
}

#[tokio::test]
async fn suggestions_match_prefixes_with_up_to_one_typo() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for name in ["Moroccan mint tea", "Mint candy", "Copper tray", "Café crème", "Mocha"] {
        app.create_product(
            &admin,
            &json!({"name": name, "description": "mint", "price": 1, "stock": 1}),
        )
        .await;
    }
    let suggest = async |typed: &str| {
        let response = app.get(&format!("/api/products/suggest?q={typed}")).await.ok();
        let items = response["items"].as_array().unwrap().clone();
        assert!(
            items.iter().all(|item| item.as_object().unwrap().len() == 2 && item["id"].is_string())
        );
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(suggest("mo").await, ["Mocha", "Moroccan mint tea"]);
    assert_eq!(suggest("MINT").await, ["Mint candy", "Moroccan mint tea"]);
    for typed in ["moroccan", "morocan", "morroccan", "mroocc", "moroccan+min", "omroc", "nint"] {
        assert!(suggest(typed).await.contains(&"Moroccan mint tea".to_owned()), "{typed}");
    }
    assert_eq!(suggest("caf%C3%A9").await, ["Café crème"]);
    assert_eq!(suggest("copepr").await, ["Copper tray"]);
    for typed in ["", "+", "zebra", "mxnx", "crxmm%C3%A8"] {
        assert_eq!(suggest(typed).await, [""; 0], "{typed}");
    }
    assert_eq!(
        app.get("/api/products/suggest?q=m&limit=2").await.ok()["items"].as_array().unwrap().len(),
        2
    );
    assert_eq!(app.get("/api/products/suggest").await.ok(), json!({"items": []}));
    assert_eq!(app.get("/api/products/suggest?q=%00").await.ok(), json!({"items": []}));
}
