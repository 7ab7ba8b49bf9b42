//! Filters and exports of orders.

use serde_json::{Value, json};

use crate::{
    orders::Shop,
    support::{Account, TestApp},
};

/// Ids of the listed orders.
async fn listed(app: &TestApp, account: &Account, query: &str) -> Vec<Value> {
    let page = app.get(&format!("/api/orders?{query}")).token(account).await.ok();
    page["items"].as_array().unwrap().iter().map(|order| order["id"].clone()).collect()
}

fn ids(orders: &[&Value]) -> Vec<Value> {
    orders.iter().map(|order| order["id"].clone()).collect()
}

#[tokio::test]
async fn lists_have_only_orders_that_match_every_filter() {
    let Shop { app, admin, ada, tea, .. } = Shop::start().await;
    let bob = app.customer().await;
    let unpaid = app.buy(&ada, &tea, 1).await;
    let paid = app.buy(&ada, &tea, 1).await;
    app.order_action(&admin, &paid, "pay").await.ok();
    let of_bob = app.buy(&bob, &tea, 1).await;
    app.order_action(&admin, &of_bob, "pay").await.ok();
    let number = paid["number"].as_str().unwrap().to_lowercase().replace('-', "%20");
    let placed = |order: &Value| order["placed_at"].as_str().unwrap().to_owned();
    for (account, query, expected) in [
        (&admin, "all=true&status=paid".to_owned(), ids(&[&of_bob, &paid])),
        (&admin, "all=true&status=paid&limit=1".to_owned(), ids(&[&of_bob])),
        (&admin, "all=true&status=expired".to_owned(), vec![]),
        (&admin, format!("all=true&number={number}"), ids(&[&paid])),
        (&admin, format!("all=true&number={number}&status=fulfilled"), vec![]),
        (&admin, format!("all=true&user_id={}", ada.id), ids(&[&paid, &unpaid])),
        (&admin, format!("all=true&user_id={}&status=paid", ada.id), ids(&[&paid])),
        (&admin, format!("all=true&email={}", bob.email.to_uppercase()), ids(&[&of_bob])),
        (&admin, format!("all=true&email={}&user_id={}", bob.email, ada.id), vec![]),
        (&admin, "all=true&email=nobody@example.com".to_owned(), vec![]),
        (&admin, format!("all=true&email={}&status=paid", ada.email), ids(&[&paid])),
        (&admin, "status=paid".to_owned(), vec![]),
        (&ada, "status=paid".to_owned(), ids(&[&paid])),
        (&ada, format!("number={number}"), ids(&[&paid])),
        (&bob, format!("number={number}"), vec![]),
        (&ada, format!("to={}", placed(&paid)), ids(&[&paid, &unpaid])),
        (&ada, "from=2100-01-01T00:00:00%2B02:00".to_owned(), vec![]),
        (&ada, "to=2000-01-01T00:00:00Z".to_owned(), vec![]),
        (&ada, "from=2000-01-01T00:00:00Z&status=pending_payment".to_owned(), ids(&[&unpaid])),
    ] {
        assert_eq!(listed(&app, account, &query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn filters_that_are_not_understood_are_rejected() {
    let Shop { app, admin, ada, .. } = Shop::start().await;
    for query in [
        "all=true&status=payed",
        "all=true&status=",
        "all=true&stauts=paid",
        "all=true&status=paid&status=expired",
        "all=true&number=12",
        "all=true&from=yesterday",
        "all=true&to=2026-01-31",
        "all=true&user_id=ada",
        "all=true&email=nonsense",
        "user_id=01a206bc-0609-7165-8b52-173bd2923daf",
        "email=ada@example.com",
    ] {
        let call = app.get(&format!("/api/orders?{query}")).token(&admin);
        call.await.problem(422, "validation_failed");
    }
    for query in ["status=paid&all=true", "user_id=nonsense", "email=ada@example.com"] {
        app.get(&format!("/api/orders?{query}")).token(&ada).await.problem(403, "forbidden");
    }
    let export = |query: &str| app.get(&format!("/api/orders/export?{query}"));
    export("status=payed").token(&admin).await.problem(422, "validation_failed");
    export("limit=5").token(&admin).await.problem(422, "validation_failed");
    export("").token(&ada).await.problem(403, "forbidden");
    export("").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn orders_are_exported_as_ndjson_and_csv() {
    let Shop { app, admin, ada, tea, cup } = Shop::start().await;
    let name = "Pot, \"big\"";
    app.patch(&format!("/api/products/{cup}"), &json!({"name": name})).token(&admin).await.ok();
    app.add_to_cart(&ada, &cup, 2).await.ok();
    let paid = app.buy(&ada, &tea, 1).await;
    app.order_action(&admin, &paid, "pay").json(&json!({"reference": "bank 7"})).await.ok();
    let unpaid = app.buy(&ada, &tea, 3).await;
    let all = app.get("/api/orders/export").token(&admin).await.is(200);
    assert_eq!(all.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> =
        all.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = [app.order(&ada, &unpaid).await, app.order(&ada, &paid).await];
    assert_eq!(lines, expected);
    let csv = app
        .get("/api/orders/export?status=paid")
        .token(&admin)
        .header("accept", "text/csv")
        .await
        .is(200);
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let text = csv.text();
    let rows: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(rows.len(), 3, "{text}");
    assert!(rows[0].starts_with("number,id,status,"), "{text}");
    assert!(rows[1..].iter().all(|row| row.contains(&format!("{},{},USD,", ada.id, ada.email))));
    let cup_row = rows[1..].iter().find(|row| row.contains(&cup)).unwrap();
    assert!(cup_row.starts_with(paid["number"].as_str().unwrap()), "{cup_row}");
    assert!(cup_row.ends_with(",\"Pot, \"\"big\"\"\",2,0,7.00,14.00"), "{cup_row}");
    assert!(
        cup_row.contains(",paid,") && cup_row.contains(",18.50,manual,paid,bank 7,0.00,"),
        "{cup_row}"
    );
}

#[tokio::test]
async fn long_exports_have_every_order_once() {
    let Shop { app, admin, tea, .. } = Shop::with_settings(&[("orders.max_pending", "1000")]).await;
    let stock = json!({"set": 1000, "reason": "count"});
    app.call("POST", &format!("/api/products/{tea}/stock")).token(&admin).json(&stock).await.ok();
    let mut placed = Vec::new();
    for _ in 0..401 {
        placed.push(app.buy(&admin, &tea, 1).await["number"].as_str().unwrap().to_owned());
    }
    placed.reverse();
    let export = app.get("/api/orders/export").token(&admin).await.is(200);
    let exported: Vec<String> = export
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["number"].as_str().unwrap().into())
        .collect();
    assert_eq!(exported, placed);
}
