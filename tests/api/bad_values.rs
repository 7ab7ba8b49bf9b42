//! Values of the right type but out of range: too small, too large, too long, too precise.

use serde_json::{Value, json};

use crate::support::{Account, TestApp};

fn with_fields(good: &Value, change: &Value) -> Value {
    let mut body = good.clone();
    for (name, value) in change.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[track_caller]
fn assert_names_field(problem: &Value, field: &str) {
    let errors = problem["errors"].as_array().unwrap();
    assert!(
        errors.iter().any(|error| error["field"].as_str().unwrap().starts_with(field)),
        "{field} is not named: {problem}"
    );
}

/// Sends text, because serde_json cannot write some of these numbers.
async fn send_raw(
    app: &TestApp,
    account: &Account,
    method: &str,
    path: &str,
    body: &str,
) -> crate::support::Response {
    app.call(method, path)
        .token(account)
        .header("content-type", "application/json")
        .body(body.to_owned())
        .await
}

#[tokio::test]
async fn quantities_are_limited() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10_000).await;
    let ada = app.customer().await;
    let body = |quantity: &str| format!(r#"{{"product_id":"{tea}","quantity":{quantity}}}"#);
    for (method, path) in [("POST", "/api/cart/add"), ("PUT", "/api/cart/update")] {
        for quantity in [
            "-1",
            "-9223372036854775808",
            "1.5",
            "1.0",
            "1e2",
            "\"1\"",
            "9223372036854775808",
            "1e30",
        ] {
            assert_names_field(
                &send_raw(&app, &ada, method, path, &body(quantity))
                    .await
                    .problem(422, "validation_failed"),
                "quantity",
            );
        }
        let huge = send_raw(&app, &ada, method, path, &body("1e400")).await;
        assert!(matches!(huge.status, 400 | 422), "{huge}");
        for id in [
            "",
            "1",
            "../../etc/passwd",
            "01a206bc-0609-7165-8b52-173bd2923da",
            "zzzzzzzz-0609-7165-8b52-173bd2923daf",
        ] {
            let problem = send_raw(
                &app,
                &ada,
                method,
                path,
                &json!({"product_id": id, "quantity": 1}).to_string(),
            )
            .await;
            assert_names_field(&problem.problem(422, "validation_failed"), "product_id");
        }
    }
    assert_names_field(
        &app.add_to_cart(&ada, &tea, 0).await.problem(422, "validation_failed"),
        "quantity",
    );
    for quantity in [1000, 4_294_967_295, 4_294_967_296, 4_294_967_297, 9_223_372_036_854_775_807] {
        app.add_to_cart(&ada, &tea, quantity).await.problem(422, "quantity_limit");
    }
    assert_eq!(app.cart(&ada).await["version"], 0);
    app.add_to_cart(&ada, &tea, 999).await.ok();
    app.add_to_cart(&ada, &tea, 1).await.problem(422, "quantity_limit");
    app.add_to_cart(&ada, &tea, 4_294_967_295).await.problem(422, "quantity_limit");
    app.update_cart(&ada, &tea, 1000).await.problem(422, "quantity_limit");
    assert_eq!(app.cart(&ada).await["item_count"], 999);
}

#[tokio::test]
async fn cart_lines_are_limited() {
    let app = TestApp::with_settings(&[("cart.max_lines", "3"), ("cart.max_quantity", "5")]).await;
    let admin = app.admin().await;
    let (ada, mut products) = (app.customer().await, Vec::new());
    for _ in 0..4 {
        products.push(app.new_product(&admin, &json!(1), 100).await);
    }
    for product in &products[..3] {
        app.add_to_cart(&ada, product, 5).await.ok();
    }
    let fourth = app.add_to_cart(&ada, &products[3], 1).await.problem(422, "line_limit");
    assert_eq!(
        fourth["detail"],
        "A cart can hold at most 3 lines. This cart would have 4. Remove a line first."
    );
    let sixth = app.add_to_cart(&ada, &products[0], 1).await.problem(422, "quantity_limit");
    assert_eq!(sixth["detail"], "A line can hold at most 5 units. This line would have 6.");
    let cart = app.cart(&ada).await;
    assert_eq!((&cart["version"], &cart["item_count"]), (&json!(3), &json!(15)));
}

#[tokio::test]
async fn prices_are_valid_currency_amounts() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let product = app.new_product(&admin, &json!(4.5), 1).await;
    let path = format!("/api/products/{product}");
    for price in [
        "19.999",
        "0.001",
        "-1",
        "-0.01",
        "1e300",
        "1e-400",
        "1e400",
        "99999999999999999999",
        "100000000000.01",
        "1e999999999999",
    ] {
        let facts = format!(r#""name":"Pot","description":"","price":{price}"#);
        let created =
            send_raw(&app, &admin, "POST", "/api/products", &format!(r#"{{{facts},"stock":1}}"#))
                .await;
        assert_names_field(&created.problem(422, "validation_failed"), "price");
        let replaced = send_raw(&app, &admin, "PUT", &path, &format!("{{{facts}}}")).await;
        assert_names_field(&replaced.problem(422, "validation_failed"), "price");
        let patched =
            send_raw(&app, &admin, "PATCH", &path, &format!(r#"{{"price":{price}}}"#)).await;
        assert_names_field(&patched.problem(422, "validation_failed"), "price");
    }
    assert_eq!(app.get(&path).await.ok()["version"], 1);
    assert_eq!(app.get("/api/products").await.ok()["total"], 1);
    for (price, shown) in [
        ("0", "0"),
        ("0.00", "0"),
        ("1e1", "10"),
        ("5.00", "5"),
        ("12512512.51", "12512512.51"),
        ("100000000000", "100000000000"),
        ("-0.0", "0"),
    ] {
        let patched = send_raw(&app, &admin, "PATCH", &path, &format!(r#"{{"price":{price}}}"#))
            .await
            .is(200)
            .text();
        assert!(patched.contains(&format!(r#""price":{shown},"#)), "{price}: {patched}");
    }
}

#[tokio::test]
async fn decimals_depend_on_the_currency() {
    for (currency, good, bad) in
        [("JPY", "500", "500.5"), ("KWD", "1.255", "1.2555"), ("EUR", "1.25", "1.255")]
    {
        let app = TestApp::with_settings(&[("shop.currency", currency)]).await;
        let admin = app.admin().await;
        let body =
            |price| format!(r#"{{"name":"Pot","description":"","price":{price},"stock":9}}"#);
        let product = send_raw(&app, &admin, "POST", "/api/products", &body(good)).await.is(201);
        assert!(
            product.text().contains(&format!(r#""price":{good},"currency":"{currency}""#)),
            "{product}"
        );
        let ada = app.customer().await;
        assert_eq!(
            app.add_to_cart(&ada, product.json()["id"].as_str().unwrap(), 2).await.ok()["currency"],
            currency
        );
        assert_names_field(
            &send_raw(&app, &admin, "POST", "/api/products", &body(bad))
                .await
                .problem(422, "validation_failed"),
            "price",
        );
    }
}

#[tokio::test]
async fn product_fields_have_limits() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let good = json!({"name": "Pot", "description": "", "price": 12.5, "stock": 3});
    let many = |count: usize| (0..count).map(|n| n.to_string());
    let attributes = |count| Value::Object(many(count).map(|name| (name, json!(1))).collect());
    let long = |length: usize| json!("x".repeat(length));
    let bad = [
        ("name", json!("")),
        ("name", json!(" \t ")),
        ("name", long(201)),
        ("name", json!("a\u{0}b")),
        ("name", json!("a\u{7}b")),
        ("description", long(10_001)),
        ("stock", json!(-1)),
        ("stock", json!(1.5)),
        ("stock", json!(1_000_000_000_001_u64)),
        ("stock", json!(u64::MAX)),
        ("sku", json!("")),
        ("sku", json!("  ")),
        ("sku", json!("two\nlines")),
        ("sku", json!("a\u{7}b")),
        ("sku", long(101)),
        ("category", json!("")),
        ("category", long(101)),
        ("tags", json!([""])),
        ("tags", json!(["a|b"])),
        ("tags", json!(many(51).collect::<Vec<_>>())),
        ("tags", json!([long(65)])),
        ("image_url", json!("javascript:alert(1)")),
        ("image_url", json!("ftp://souk.example/pot.png")),
        ("image_url", json!("https://souk.example/a pot.png")),
        ("image_url", json!(format!("https://souk.example/{}", "x".repeat(2048)))),
        ("attributes", json!({"": 1})),
        ("attributes", json!({"a": null})),
        ("attributes", json!({"a": [1]})),
        ("attributes", json!({"a": long(1001)})),
        ("attributes", attributes(101)),
    ];
    for (field, value) in bad {
        let response = app
            .post("/api/products", &with_fields(&good, &json!({field: value})))
            .token(&admin)
            .await;
        let problem = response.problem(422, "validation_failed");
        assert_names_field(&problem, field);
        let text = problem.to_string();
        assert!(
            !["enum", "i64", "u64", "variant"].iter().any(|word| text.contains(word)),
            "{text}"
        );
    }
    assert_eq!(app.get("/api/products").await.ok()["total"], 0);
    let most = json!({
        "name": "x".repeat(200), "description": "é".repeat(10_000), "sku": "品".repeat(100),
        "category": "x".repeat(100),
        "tags": many(50).collect::<Vec<_>>(), "attributes": attributes(100),
        "stock": 1_000_000_000_000_u64,
    });
    app.create_product(&admin, &with_fields(&good, &most)).await;
}

#[tokio::test]
async fn stock_change_is_either_delta_or_set() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let product = app.new_product(&admin, &json!(4.5), 10).await;
    let long = "x".repeat(201);
    for (field, body) in [
        ("delta", json!({"reason": "r"})),
        ("delta", json!({"reason": "r", "delta": 1, "set": 1})),
        ("delta", json!({"reason": "r", "delta": 1_000_000_000_001_i64})),
        ("delta", json!({"reason": "r", "delta": i64::MIN})),
        ("set", json!({"reason": "r", "set": -1})),
        ("set", json!({"reason": "r", "set": 1_000_000_000_001_i64})),
        ("stock", json!({"reason": "r", "delta": 1_000_000_000_000_i64})),
        ("reason", json!({"reason": "", "delta": 1})),
        ("reason", json!({"reason": long, "delta": 1})),
        ("reference", json!({"reason": "r", "reference": long, "delta": 1})),
    ] {
        assert_names_field(
            &app.change_stock(&admin, &product, &body).await.problem(422, "validation_failed"),
            field,
        );
    }
    let stock = app.stock(&admin, &product).await;
    assert_eq!((&stock["on_hand"], &stock["version"]), (&json!(10), &json!(1)));
}

#[tokio::test]
async fn account_fields_are_validated() {
    let app = TestApp::start().await;
    let good = json!({"email": "ada@souk.example", "password": "a2345678", "name": "Ada"});
    for (field, value) in [
        ("email", json!("")),
        ("email", json!("ada")),
        ("email", json!("@souk.example")),
        ("email", json!("ada@")),
        ("email", json!("a b@souk.example")),
        ("email", json!("a@b@c")),
        ("email", json!("ada@souk.example\r\nbcc: all")),
        ("email", json!(format!("{}@souk.example", "a".repeat(250)))),
        ("password", json!("1234567")),
        ("password", json!("x".repeat(72))),
        ("password", json!("é".repeat(36))),
        ("password", json!("12345678\0")),
        ("name", json!("")),
        ("name", json!("   ")),
        ("name", json!("x".repeat(101))),
    ] {
        let response =
            app.post("/api/auth/register", &with_fields(&good, &json!({field: value}))).await;
        assert_names_field(&response.problem(422, "validation_failed"), field);
    }
    let all = json!({"email": "", "password": "", "name": ""});
    let problem = app.post("/api/auth/register", &all).await.problem(422, "validation_failed");
    for field in ["email", "password", "name"] {
        assert_names_field(&problem, field);
    }
    // No invalid request has taken the address, and the longest password is not truncated.
    let longest = "é".repeat(35) + "x";
    app.post("/api/auth/register", &with_fields(&good, &json!({"password": longest})))
        .await
        .is(201);
    app.login("ada@souk.example", &longest).await;
    for near in [&longest[..70], &format!("{longest}x")] {
        let login = app
            .post("/api/auth/login", &json!({"email": "ada@souk.example", "password": near}))
            .await;
        login.problem(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn page_limits_and_cursors_are_validated() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for _ in 0..3 {
        app.new_product(&admin, &json!(4.5), 10).await;
    }
    let product = app.new_product(&admin, &json!(4.5), 10).await;
    for set in 1..4 {
        app.change_stock(&admin, &product, &json!({"set": set, "reason": "count"})).await.ok();
    }
    let movements = format!("/api/products/{product}/stock/movements");
    for path in ["/api/products", &movements, "/api/products/suggest"] {
        for limit in ["0", "101", "-1", "1.5", "ten", "99999999999999999999"] {
            assert_names_field(
                &app.get(&format!("{path}?limit={limit}"))
                    .token(&admin)
                    .await
                    .problem(422, "validation_failed"),
                "limit",
            );
        }
    }
    let next = |page: Value| page["next_cursor"].as_str().unwrap().to_owned();
    let of_movements = next(app.get(&format!("{movements}?limit=1")).token(&admin).await.ok());
    let of_products = next(app.get("/api/products?limit=1&sort=price").await.ok());
    for cursor in ["none", "%00", "bnVsbA", "eyJhIjoxfQ", &of_movements] {
        assert_names_field(
            &app.get(&format!("/api/products?cursor={cursor}"))
                .await
                .problem(422, "validation_failed"),
            "cursor",
        );
    }
    assert_names_field(
        &app.get(&format!("/api/products?sort=name&cursor={of_products}"))
            .await
            .problem(422, "validation_failed"),
        "cursor",
    );
    for cursor in ["none", "eyJhIjoxfQ", "LTE", &of_products] {
        let response = app.get(&format!("{movements}?cursor={cursor}")).token(&admin).await;
        assert_names_field(&response.problem(422, "validation_failed"), "cursor");
    }
    for query in
        ["min_price=cheap", "max_price=1.001", "min_price=-1", "sort=best", "in_stock=maybe"]
    {
        let field = query.split('=').next().unwrap();
        assert_names_field(
            &app.get(&format!("/api/products?{query}")).await.problem(422, "validation_failed"),
            field,
        );
    }
    for field in ["limit", "cursor"] {
        let response = app.get(&format!("/api/products?{field}=")).await;
        assert_names_field(&response.problem(422, "validation_failed"), field);
    }
    app.get("/api/products?nobody=asks&role=admin").await.problem(422, "validation_failed");
    assert_eq!(app.get("/api/products").await.ok()["total"], 4);
}
