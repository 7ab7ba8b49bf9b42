//! Stock and its ledger of movements.

use serde_json::{Value, json};

use crate::support::TestApp;

fn stock_numbers(stock: &Value) -> [u64; 4] {
    ["on_hand", "reserved", "available", "version"].map(|name| stock[name].as_u64().unwrap())
}

#[tokio::test]
async fn every_stock_change_is_recorded_as_a_movement() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    for (change, wanted) in [
        (json!({"delta": 5, "reason": "delivery", "reference": "D-17"}), [15, 0, 15, 2]),
        (json!({"delta": -3, "reason": "broken"}), [12, 0, 12, 3]),
        (json!({"set": 20, "reason": "count"}), [20, 0, 20, 4]),
        (json!({"set": 20, "reason": "count"}), [20, 0, 20, 4]),
        (json!({"delta": 0, "reason": "nothing"}), [20, 0, 20, 4]),
        (json!({"set": 0, "reason": "sold out", "reference": null}), [0, 0, 0, 5]),
    ] {
        let response = app.change_stock(&admin, &tea, &change).await.is(200);
        assert_eq!(stock_numbers(&response.json()), wanted, "after {change}");
        assert_eq!(response.etag(), format!("\"{}\"", wanted[3]));
        let shown = app.get(&format!("/api/products/{tea}/stock")).token(&admin).await.is(200);
        assert_eq!((shown.text(), shown.etag()), (response.text(), response.etag()));
        assert_eq!(app.get(&format!("/api/products/{tea}")).await.ok()["stock"], wanted[2]);
    }
    let mut movements =
        app.all_pages(&admin, &format!("/api/products/{tea}/stock/movements"), 3).await;
    for movement in &mut movements {
        assert!(
            movement
                .as_object_mut()
                .unwrap()
                .remove("at")
                .unwrap()
                .as_str()
                .unwrap()
                .ends_with('Z')
        );
    }
    let movement = |sequence: u64, kind: &str, on_hand: i64| {
        json!({
            "sequence": sequence, "kind": kind, "on_hand_delta": on_hand, "reserved_delta": 0,
            "actor": {"type": "user", "id": admin.id},
        })
    };
    let with = |mut movement: Value, reason: &str, reference: Option<&str>| {
        movement["reason"] = json!(reason);
        reference.into_iter().for_each(|reference| movement["reference"] = json!(reference));
        movement
    };
    let wanted = vec![
        with(movement(5, "adjusted", -20), "sold out", None),
        with(movement(4, "adjusted", 8), "count", None),
        with(movement(3, "adjusted", -3), "broken", None),
        with(movement(2, "received", 5), "delivery", Some("D-17")),
        movement(1, "received", 10),
    ];
    assert_eq!(movements, wanted);
}

#[tokio::test]
async fn first_stock_is_a_received_movement() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    for change in [json!({"set": 7, "reason": "count"}), json!({"delta": 7, "reason": "delivery"})]
    {
        let tea = app.new_product(&admin, &json!(4.5), 0).await;
        assert_eq!(stock_numbers(&app.stock(&admin, &tea).await), [0, 0, 0, 0]);
        let path = format!("/api/products/{tea}/stock/movements");
        assert_eq!(
            app.get(&path).token(&admin).await.ok(),
            json!({"items": [], "next_cursor": null})
        );
        assert_eq!(
            stock_numbers(&app.change_stock(&admin, &tea, &change).await.ok()),
            [7, 0, 7, 1]
        );
        let movements = app.all_pages(&admin, &path, 20).await;
        assert_eq!(
            (&movements[0]["kind"], &movements[0]["on_hand_delta"]),
            (&json!("received"), &json!(7))
        );
    }
}

#[tokio::test]
async fn stock_does_not_go_below_zero() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 3).await;
    for delta in [-4, -1_000_000_000_000_i64] {
        let change = json!({"delta": delta, "reason": "sold"});
        let problem =
            app.change_stock(&admin, &tea, &change).await.problem(409, "insufficient_stock");
        assert_eq!(
            problem["lines"],
            json!([{"product_id": tea, "requested": -delta, "available": 3}])
        );
    }
    assert_eq!(stock_numbers(&app.stock(&admin, &tea).await), [3, 0, 3, 1]);
    assert_eq!(
        stock_numbers(
            &app.change_stock(&admin, &tea, &json!({"delta": -3, "reason": "sold"})).await.ok()
        ),
        [0, 0, 0, 2]
    );
}

#[tokio::test]
async fn movements_are_paged_newest_first_without_gaps_or_repeats() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1).await;
    for n in 0..44 {
        let delta = if n % 3 == 0 { 5 } else { -1 };
        app.change_stock(&admin, &tea, &json!({"delta": delta, "reason": format!("change {n}")}))
            .await
            .ok();
    }
    let path = format!("/api/products/{tea}/stock/movements");
    let all = app.all_pages(&admin, &path, 100).await;
    let sequences: Vec<_> =
        all.iter().map(|movement| movement["sequence"].as_u64().unwrap()).collect();
    assert_eq!(sequences, (1..=45).rev().collect::<Vec<_>>());
    let sum = |name: &str| all.iter().map(|movement| movement[name].as_i64().unwrap()).sum::<i64>();
    let stock = app.stock(&admin, &tea).await;
    assert_eq!(
        (json!(sum("on_hand_delta")), json!(sum("reserved_delta"))),
        (stock["on_hand"].clone(), stock["reserved"].clone())
    );
    for limit in [1, 4, 9, 15, 45, 46] {
        assert_eq!(app.all_pages(&admin, &path, limit).await, all, "pages of {limit}");
    }
    // A new movement appears before the first page and does not shift the others.
    let first = app.get(&format!("{path}?limit=20")).token(&admin).await.ok();
    app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "meanwhile"})).await.ok();
    let next = first["next_cursor"].as_str().unwrap();
    let second = app.get(&format!("{path}?limit=20&cursor={next}")).token(&admin).await.ok();
    assert_eq!(second["items"].as_array().unwrap()[..], all[20..40]);
    assert_eq!(
        app.get(&path).token(&admin).await.ok()["items"].as_array().unwrap().len(),
        20,
        "the default page size is 20"
    );
}
