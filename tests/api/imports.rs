//! Imports: large, chunked, and with invalid lines.

use futures_util::stream;
use serde_json::{Value, json};

use crate::support::{Account, Call, TestApp};

pub(crate) async fn start_shop() -> (TestApp, Account) {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    (app, admin)
}

pub(crate) fn post_import(
    app: &TestApp,
    admin: &Account,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> Call {
    app.call("POST", "/api/products/import")
        .token(admin)
        .header("content-type", content_type)
        .body(body)
}

/// A body without a length, in chunks of these sizes in rotation.
pub(crate) fn in_chunks(text: &str, sizes: &[usize]) -> reqwest::Body {
    let (mut chunks, mut rest) = (Vec::new(), text.as_bytes());
    for size in sizes.iter().cycle() {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        chunks.push(Ok::<_, std::io::Error>(chunk.to_vec()));
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    reqwest::Body::wrap_stream(stream::iter(chunks))
}

async fn find_by_sku(app: &TestApp, sku: &str) -> Value {
    let found = app.get(&format!("/api/products?q={sku}")).await.ok();
    assert_eq!(found["total"], 1, "{sku}");
    found["items"][0].clone()
}

pub(crate) fn report_counts(report: &Value) -> [u64; 3] {
    ["created", "updated", "failed"].map(|name| report[name].as_u64().unwrap())
}

#[tokio::test]
async fn large_import_accepts_chunks_of_any_size() {
    let (app, admin) = start_shop().await;
    let mut lines = Vec::new();
    for n in 1..=20_000 {
        lines.push(match n % 100 {
            10 => String::new(),
            20 => "   ".to_owned(),
            30 => "not JSON".to_owned(),
            40 => json!({"sku": format!("S-{n}"), "name": "Bad", "price": 1.001}).to_string(),
            50 => json!({
                "sku": format!("S-{n}"), "name": "Bad", "price": 1, "role": "admin",
            })
            .to_string(),
            _ => json!({
                "sku": format!("S-{n}"), "name": format!("Product {n}"), "price": 1.25, "stock": n,
            })
            .to_string(),
        });
    }
    let text = lines.join("\n");
    let report = post_import(
        &app,
        &admin,
        "application/x-ndjson",
        in_chunks(&text, &[1, 7, 1000, 65_537, 3]),
    )
    .await
    .ok();
    assert_eq!(report_counts(&report), [19_000, 0, 600]);
    let errors = report["errors"].as_array().unwrap();
    let numbers: Vec<_> = errors.iter().map(|error| error["line"].as_u64().unwrap()).collect();
    let wanted: Vec<u64> = (1..=20_000).filter(|n| matches!(n % 100, 30 | 40 | 50)).collect();
    assert_eq!(numbers, wanted, "errors have the numbers of the invalid lines");
    for error in &errors[..3] {
        assert!(
            ["malformed_json", "validation_failed"].contains(&error["code"].as_str().unwrap()),
            "{error}"
        );
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(app.get("/api/products?limit=1").await.ok()["total"], 19_000);
    let one = find_by_sku(&app, "S-19999").await;
    assert_eq!((&one["stock"], &one["version"]), (&json!(19_999), &json!(1)));
    app.change_stock(&admin, one["id"].as_str().unwrap(), &json!({"delta": 1, "reason": "r"}))
        .await
        .ok();
    // A repeated import restores only what changed since.
    let report = post_import(&app, &admin, "application/x-ndjson", text).await.ok();
    assert_eq!(report_counts(&report), [0, 19_000, 600]);
    let again = find_by_sku(&app, "S-19999").await;
    assert_eq!(
        (&again["stock"], &again["version"], &again["id"]),
        (&json!(19_999), &json!(1), &one["id"])
    );
}

/// Asserts that imports received nine units of a product and then removed them.
async fn assert_import_movements(app: &TestApp, admin: &Account, product: &Value) {
    let stock = format!("/api/products/{}/stock/movements", product["id"].as_str().unwrap());
    let movements = app.all_pages(admin, &stock, 10).await;
    let moved: Vec<_> = movements
        .iter()
        .map(|m| (m["kind"].as_str().unwrap(), m["on_hand_delta"].as_i64().unwrap()))
        .collect();
    assert_eq!(moved, [("adjusted", -9), ("received", 9)]);
    assert!(movements.iter().all(|movement| movement["reason"] == "import"), "{movements:?}");
}

#[tokio::test]
async fn line_with_a_known_sku_updates_that_product() {
    let (app, admin) = start_shop().await;
    let first = "{\"sku\":\"A\",\"name\":\"Pot\",\"price\":5,\"stock\":9,\
                 \"category\":\"pots\",\"tags\":[\"x\"]}\n\n\
                 {\"name\":\"No sku\",\"price\":1}\n{\"sku\":\"B\",\"name\":\"Cup\",\"price\":2}\n";
    assert_eq!(
        app.import_products(&admin, first.into()).await,
        json!({"created": 3, "updated": 0, "failed": 0, "errors": []})
    );
    let pot = find_by_sku(&app, "A").await;
    let second = "{\"sku\":\"A\",\"name\":\"Kettle\",\"price\":6.5}\n\
                  {\"name\":\"No sku\",\"price\":1}\n\
                  {\"sku\":\"B\",\"name\":\"Cup\",\"price\":2,\"stock\":4}\n\
                  {\"sku\":\"A\",\"name\":\"Kettle\",\"price\":7,\"stock\":0}\n";
    assert_eq!(
        app.import_products(&admin, second.into()).await,
        json!({"created": 1, "updated": 3, "failed": 0, "errors": []})
    );
    let kettle = find_by_sku(&app, "A").await;
    assert_eq!(
        (&kettle["id"], &kettle["name"], &kettle["price"]),
        (&pot["id"], &json!("Kettle"), &json!(7))
    );
    // Two lines for one product are two changes in order; a line keeps the fields it omits.
    assert_eq!(
        (&kettle["version"], &kettle["category"], &kettle["tags"]),
        (&json!(3), &json!("pots"), &json!(["x"]))
    );
    assert_eq!(kettle["stock"], 0);
    assert_import_movements(&app, &admin, &pot).await;
    let cup = find_by_sku(&app, "B").await;
    assert_eq!(
        (&cup["version"], &cup["stock"]),
        (&json!(1), &json!(4)),
        "stock has its own version"
    );
    assert_eq!(app.get("/api/products").await.ok()["total"], 4);
    let delta = json!({"delta": 6, "reason": "found"});
    app.change_stock(&admin, kettle["id"].as_str().unwrap(), &delta).await.ok();
    // Null removes a value, omitted stock is kept, and a line with only a SKU and stock sets the
    // stock.
    let third = "{\"sku\":\"A\",\"category\":null,\"tags\":null}\n\
                 {\"sku\":\"B\",\"stock\":0}\n{\"sku\":\"C\",\"stock\":1}\n";
    let report = app.import_products(&admin, third.into()).await;
    assert_eq!(
        (report_counts(&report), &report["errors"][0]["line"]),
        ([0, 2, 1], &json!(3)),
        "a new product needs a name and a price"
    );
    let kettle = find_by_sku(&app, "A").await;
    assert_eq!(
        (&kettle["category"], &kettle["tags"], &kettle["name"]),
        (&Value::Null, &json!([]), &json!("Kettle"))
    );
    assert_eq!(kettle["stock"], 6);
    let cup = find_by_sku(&app, "B").await;
    assert_eq!((&cup["version"], &cup["stock"], &cup["price"]), (&json!(1), &json!(0), &json!(2)));
}

#[tokio::test]
async fn csv_from_spreadsheets_is_accepted() {
    let (app, admin) = start_shop().await;
    let text = "\u{feff}sku,name,price,stock,tags,attributes,description,category,image_url\r\n\
                A-1,\"Tea, \"\"green\"\"\",4.50,7,green|loose,\
                \"{\"\"organic\"\":true,\"\"g\"\":2.5}\",\
                \"two\r\nlines\",tea,\r\n\
                \r\n\
                A-2,Cup,9.999,,,,,,\r\n\
                A-3,Pot,12,,,,,pots,https://souk.example/pot.png\r\n\
                A-4,Too,few\r\n\
                A-5,Bad,1,-1,,,,,\r\n\
                A-6,Bad,one,1,,,,,\r\n\
                A-7,Bad,1,1,,\"{organic}\",,,\r\n\
                ,Last,1,1,,,,,";
    for sizes in [&[1][..], &[5, 11, 2], &[100_000]] {
        let report =
            post_import(&app, &admin, "text/csv; charset=utf-8", in_chunks(text, sizes)).await.ok();
        let lines: Vec<_> = report["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["line"].as_u64().unwrap())
            .collect();
        assert_eq!(lines, [5, 7, 8, 9, 10], "{report}");
        assert_eq!(report["failed"], 5);
    }
    let tea = find_by_sku(&app, "A-1").await;
    assert_eq!(
        (&tea["name"], &tea["description"]),
        (&json!("Tea, \"green\""), &json!("two\r\nlines"))
    );
    assert_eq!(
        (&tea["tags"], &tea["attributes"]),
        (&json!(["green", "loose"]), &json!({"organic": true, "g": 2.5}))
    );
    assert_eq!(
        (&tea["price"], &tea["stock"], &tea["category"], &tea["image_url"]),
        (&json!(4.5), &json!(7), &json!("tea"), &Value::Null)
    );
    let pot = find_by_sku(&app, "A-3").await;
    assert_eq!(
        (&pot["stock"], &pot["image_url"]),
        (&json!(0), &json!("https://souk.example/pot.png"))
    );
    assert_eq!(
        product_total(&app).await,
        5,
        "two products with a SKU, and one without for each import"
    );
}

#[tokio::test]
async fn price_list_changes_only_prices() {
    let (app, admin) = start_shop().await;
    let full = json!({
        "sku": "A", "name": "Pot", "description": "Blue", "price": 5, "stock": 3,
        "category": "pots", "tags": ["x"],
    });
    let before = app.create_product(&admin, &full).await;
    let report = post_import(&app, &admin, "text/csv", "sku,price\nA,6\nB,7\n").await.ok();
    assert_eq!(
        (report_counts(&report), &report["errors"][0]["line"]),
        ([0, 1, 1], &json!(3)),
        "a new product needs a name"
    );
    let mut after = find_by_sku(&app, "A").await;
    assert_eq!(after["price"], 6);
    for member in ["price", "version", "updated_at"] {
        after[member] = before[member].clone();
    }
    assert_eq!(after, before);
    // An empty cell keeps the value, and null removes it.
    post_import(&app, &admin, "text/csv", "sku,category\nA,\n").await.ok();
    assert_eq!(find_by_sku(&app, "A").await["category"], "pots");
    assert_eq!(
        app.import_products(&admin, "{\"sku\":\"A\",\"tags\":null}\n".into()).await["updated"],
        1
    );
    let after = find_by_sku(&app, "A").await;
    assert_eq!(
        (&after["category"], &after["tags"], &after["description"]),
        (&json!("pots"), &json!([]), &json!("Blue"))
    );
}

pub(crate) async fn product_total(app: &TestApp) -> u64 {
    app.get("/api/products").await.ok()["total"].as_u64().unwrap()
}

#[tokio::test]
async fn unknown_csv_header_is_rejected() {
    let (app, admin) = start_shop().await;
    for text in
        ["prize,name\n1,a\n", "name\na\n", "name,price,role\na,1,admin\n", "name|price\na|1\n"]
    {
        let problem =
            post_import(&app, &admin, "text/csv", text).await.problem(422, "validation_failed");
        assert_eq!(problem["errors"][0]["field"], "header", "{text}");
    }
    let nothing = json!({"created": 0, "updated": 0, "failed": 0, "errors": []});
    for text in ["", "name,price", "name,price\r\n\r\n", "\n\n"] {
        assert_eq!(post_import(&app, &admin, "text/csv", text).await.ok(), nothing, "{text:?}");
    }
    assert_eq!(post_import(&app, &admin, "application/x-ndjson", "").await.ok(), nothing);
    for content_type in ["application/json", "text/plain", ""] {
        post_import(&app, &admin, content_type, "{}").await.problem(415, "unsupported_media_type");
    }
    let unclosed = "name,price\nPot,1\n\"Cup,2\nTray,3\n";
    let report = post_import(&app, &admin, "text/csv", unclosed).await.ok();
    assert_eq!(
        (report_counts(&report), &report["errors"][0]["line"]),
        ([1, 0, 1], &json!(3)),
        "an unclosed quote fails its line"
    );
    assert_eq!(product_total(&app).await, 1);
}

#[tokio::test]
async fn invalid_line_does_not_fail_the_others() {
    let (app, admin) = start_shop().await;
    let long = "x".repeat(70_000);
    let text = format!(
        "{{\"name\":\"A\",\"price\":1}}\n{{\"name\":\"{long}\",\"price\":1}}\n\
         {{\"name\":\"B\",\"price\":1,\"stock\":1000000000001}}\n\
         [1]\n{{\"name\":\"C\",\"price\":1}}\n{{\"name\":\"\\u0007\",\"price\":-1}}\r\n\
         {{\"name\":\"D\",\"price\":1}}"
    );
    let report = app.import_products(&admin, text).await;
    assert_eq!(report_counts(&report), [3, 0, 4]);
    let codes: Vec<_> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["line"].as_u64().unwrap(), e["code"].as_str().unwrap()))
        .collect();
    let invalid = "validation_failed";
    assert_eq!(codes, [(2, "payload_too_large"), (3, invalid), (4, invalid), (6, invalid)]);
    let bytes = b"{\"name\":\"E\",\"price\":1}\n{\"name\":\"\xff\",\"price\":1}\n".to_vec();
    let report = post_import(&app, &admin, "application/x-ndjson", bytes).await.ok();
    assert_eq!(
        (report_counts(&report), &report["errors"][0]["code"]),
        ([1, 0, 1], &json!("malformed_json"))
    );
}

#[tokio::test]
async fn report_lists_the_first_thousand_errors() {
    let (app, admin) = start_shop().await;
    let report = app.import_products(&admin, "nope\n".repeat(1500)).await;
    assert_eq!(
        (report_counts(&report), report["errors"].as_array().unwrap().len()),
        ([0, 0, 1500], 1000)
    );
}

#[tokio::test]
async fn sample_catalog_can_be_imported() {
    let (app, admin) = start_shop().await;
    let sample =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/products.ndjson"))
            .unwrap();
    let report = app.import_products(&admin, sample.clone()).await;
    assert_eq!(report_counts(&report), [sample.lines().count() as u64, 0, 0], "{report}");
    assert_eq!(
        report_counts(&app.import_products(&admin, sample.clone()).await),
        [0, sample.lines().count() as u64, 0]
    );
}
