//! Prices and totals are exact, compared as text.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::support::TestApp;

/// Numbers as they appear in the response, without conversion to floats.
#[derive(Deserialize)]
struct Cart<'a> {
    #[serde(borrow)]
    items: Vec<Line<'a>>,
    #[serde(borrow)]
    total_amount: &'a RawValue,
}

#[derive(Deserialize)]
struct Line<'a> {
    name: &'a str,
    #[serde(borrow)]
    unit_price: &'a RawValue,
    #[serde(borrow)]
    total: &'a RawValue,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    items: Vec<Product<'a>>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Product<'a> {
    id: String,
    name: String,
    #[serde(borrow)]
    price: &'a RawValue,
}

/// Cents as a decimal number in its shortest form.
fn decimal(cents: u64) -> String {
    let text = format!("{}.{:02}", cents / 100, cents % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[tokio::test]
async fn ten_thousand_prices_and_totals_are_exact() {
    let app = TestApp::with_settings(&[("cart.max_lines", "1000")]).await;
    let admin = app.admin().await;
    let mut lines = String::new();
    for cents in 1..=10_000 {
        let price = format!("{}.{:02}", cents / 100, cents % 100);
        writeln!(lines, r#"{{"name":"{cents}","price":{price},"stock":100000}}"#).unwrap();
    }
    let report = app.import_products(&admin, lines).await;
    assert_eq!(report, json!({"created": 10_000, "updated": 0, "failed": 0, "errors": []}));

    let products = all_products(&app).await;
    assert_eq!(products.len(), 10_000);
    for (at, quantity) in [(0, 1), (1, 3), (2, 7), (3, 99), (4, 999)] {
        let ada = app.customer().await;
        let (mut wanted, mut response) = (0, None);
        for (cents, id) in products.iter().filter(|(cents, _)| cents % 97 == at) {
            response = Some(app.add_to_cart(&ada, id, quantity).await.is(200));
            wanted += cents * quantity;
        }
        let body = response.unwrap().text();
        let cart: Cart<'_> = serde_json::from_str(&body).unwrap();
        assert_eq!(cart.total_amount.get(), decimal(wanted));
        assert!(cart.items.len() > 100);
        for line in &cart.items {
            let cents: u64 = line.name.parse().unwrap();
            assert_eq!(
                (line.unit_price.get(), line.total.get()),
                (&*decimal(cents), &*decimal(cents * quantity))
            );
        }
    }
}

#[tokio::test]
async fn total_is_exact_up_to_its_limit_and_refused_beyond() {
    let app = TestApp::with_settings(&[("shop.currency", "VND")]).await;
    let admin = app.admin().await;
    let create = async |price: u64| {
        let body = json!({"name": "Flat", "price": price, "stock": 2000});
        app.create_product(&admin, &body).await["id"].as_str().unwrap().to_owned()
    };
    let flat = create(10_000_000_000_000).await;
    let too_dear = json!({"name": "Flat", "price": 10_000_000_000_001_u64, "stock": 1});
    let refused = app.post("/api/products", &too_dear).token(&admin).await;
    assert_eq!(refused.problem(422, "validation_failed")["errors"][0]["code"], "out_of_range");
    let (rest, one) = (create(7_199_254_740_991).await, create(1).await);

    let ada = app.customer().await;
    app.add_to_cart(&ada, &flat, 900).await.is(200);
    let cart = app.add_to_cart(&ada, &rest, 1).await.is(200).text();
    assert!(cart.contains(r#""total_amount":9007199254740991,"#), "{cart}");
    app.add_to_cart(&ada, &one, 1).await.problem(422, "total_limit");
    app.update_cart(&ada, &flat, 901).await.problem(422, "total_limit");
    let guest = app.guest().await;
    app.add_to_cart(&guest, &one, 1).await.is(200);
    app.merge_cart(&ada, &guest).await.problem(422, "total_limit");
    assert_eq!(app.cart(&guest).await["item_count"], 1, "nothing was merged");

    // A price that rises in the meantime is read exactly, and only checkout refuses it.
    let price = json!({"price": 7_199_254_740_992_u64});
    app.patch(&format!("/api/products/{rest}"), &price).token(&admin).await.is(200);
    let cart = app.get("/api/cart").token(&ada).await.is(200).text();
    assert!(cart.contains(r#""total_amount":9007199254740992,"#), "{cart}");
    app.check_out(&ada, "dear").await.problem(422, "total_limit");
    app.update_cart(&ada, &flat, 899).await.is(200);
    let order = app.check_out(&ada, "less-dear").await.is(201).text();
    assert!(order.contains(r#""total_amount":8997199254740992,"#), "{order}");
}

/// Cents and id of every product; asserts that each price is exact.
async fn all_products(app: &TestApp) -> Vec<(u64, String)> {
    let mut products = Vec::new();
    let mut cursor = String::new();
    loop {
        let response =
            app.get(&format!("/api/products?sort=price&limit=100{cursor}")).await.is(200);
        let body = response.text();
        let page: Page<'_> = serde_json::from_str(&body).unwrap();
        for product in page.items {
            let cents = product.name.parse().unwrap();
            assert_eq!(product.price.get(), decimal(cents));
            products.push((cents, product.id));
        }
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert!(products.is_sorted_by_key(|(cents, _)| *cents), "sorted by price");
    products
}
