//! Who opens an event feed with what, and what of it they ask for: tickets and filters.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Account, Event, PASSWORD, TestApp, unique_email};

async fn start_shop() -> (TestApp, Account, String) {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    (app, admin, tea)
}

#[tokio::test]
async fn order_events_have_no_address() {
    let (app, admin, tea) = start_shop().await;
    let ada = app.customer().await;
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let address = crate::support::person::address();
    let body = json!({"shipping_address": address, "billing_address": address});
    let order = app.post("/api/checkout", &body).token(&ada).key("k").await.is(201).json();
    assert!(order["shipping_address"].is_object());
    for account in [&ada, &admin] {
        let mut feed = app.open_whole_feed(Some(account)).await;
        let placed = feed.read_until(|event| event.kind == "order.placed").await.pop().unwrap();
        let mut wanted = order.clone();
        for member in ["email", "shipping_address", "billing_address"] {
            assert!(wanted.as_object_mut().unwrap().remove(member).is_some());
        }
        assert_eq!(placed.body["data"], wanted);
    }
}

#[tokio::test]
async fn types_and_subject_narrow_a_feed() {
    let (app, admin, tea) = start_shop().await;
    let cup = app.new_product(&admin, &json!(7), 100).await;
    let ada = app.customer().await;
    app.add_to_cart(&ada, &tea, 2).await.ok();
    app.update_cart(&ada, &tea, 0).await.ok();
    app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "r"})).await.ok();
    app.change_stock(&admin, &cup, &json!({"delta": 1, "reason": "r"})).await.ok();
    let read = async |query: String, count: usize| {
        let path = format!("/api/events?last_event_id=none&{query}");
        let mut feed = app.open_feed_at(&path, Some(&ada), None).await;
        feed.expect_gap().await;
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(feed.next().await.kind);
        }
        // Nothing else comes before what happens next.
        app.add_to_cart(&ada, &cup, 1).await.ok();
        app.change_stock(&admin, &cup, &json!({"delta": 1, "reason": "r"})).await.ok();
        kinds.push(feed.next().await.kind);
        kinds
    };
    let (added, removed) = ("cart.item.added", "cart.item.removed");
    let changed = "inventory.stock.changed";
    assert_eq!(read("types=cart.item.*".into(), 2).await, [added, removed, added]);
    assert_eq!(read(format!("subject={cup}&types=inventory.*"), 2).await, [changed; 3]);
    let removed_only = format!("types={removed}&subject={}", ada.id);
    let mut feed = app.open_feed_at(&format!("/api/events?{removed_only}"), Some(&ada), None).await;
    app.update_cart(&ada, &cup, 0).await.ok();
    let event = feed.next().await;
    assert_eq!((&*event.kind, event.subject()), (removed, &*ada.id));
}

#[tokio::test]
async fn filter_that_nothing_matches_is_rejected() {
    let app = TestApp::start().await;
    for query in [
        "types=carts.*",
        "types=",
        "types=order.payed",
        "types=cart.*,cart.item.added.*",
        "subject=tea",
        "subject=",
    ] {
        let problem =
            app.get(&format!("/api/events?{query}")).await.problem(422, "validation_failed");
        let field = query.split('=').next().unwrap();
        assert_eq!(problem["errors"][0]["field"], field, "{query}");
    }
    app.get("/api/events?types=*&types=*").await.problem(422, "validation_failed");
    app.open_feed_at("/api/events?types=*", None, None).await;
}

/// The path that opens a feed with a new ticket of `account`.
async fn ticket_path(app: &TestApp, account: &Account) -> String {
    let response = app.call("POST", "/api/events/ticket").token(account).await.is(201);
    assert_eq!(response.header("cache-control"), Some("no-store"));
    let body = response.json();
    assert_eq!(body["expires_in"], 60);
    format!("/api/events?ticket={}", body["ticket"].as_str().unwrap())
}

#[tokio::test]
async fn ticket_opens_one_feed() {
    let mut app = TestApp::with_settings(&[("catalog.public_read", "false")]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    for account in [app.customer().await, app.guest().await] {
        let path = ticket_path(&app, &account).await;
        // A request that is refused for another reason leaves the ticket unused.
        app.get(&format!("{path}&types=none")).await.problem(422, "validation_failed");
        let mut feed = app.open_feed_at(&path, None, None).await;
        app.add_to_cart(&account, &tea, 1).await.ok();
        assert_eq!(feed.next().await.subject(), account.id);
        app.get(&path).await.problem(401, "ticket_invalid");
    }
    let ada = app.customer().await;
    let path = ticket_path(&app, &ada).await;
    let statuses = join_all((0..8).map(|_| app.status_of_head(&path))).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    // A ticket is no token, and a token no ticket.
    let ticket = path.split_once('=').unwrap().1;
    app.get("/api/cart").token(ticket).await.problem(401, "unauthenticated");
    for bad in ["", "x", &*ada.token, &ticket[1..]] {
        app.get(&format!("/api/events?ticket={bad}")).await.problem(401, "ticket_invalid");
    }
    app.call("POST", "/api/events/ticket").await.problem(401, "unauthenticated");
    // The single use holds after a restart.
    let path = ticket_path(&app, &ada).await;
    app.call("HEAD", &path).await.is(200);
    app.kill_9().await;
    app.restart().await;
    app.get(&path).await.problem(401, "ticket_invalid");
}

#[tokio::test]
async fn feed_of_a_ticket_ends_with_its_session() {
    let (app, _, _) = start_shop().await;
    let ada = app.customer().await;
    let (path, unused) = (ticket_path(&app, &ada).await, ticket_path(&app, &ada).await);
    let mut feed = app.open_feed_at(&path, None, None).await;
    app.call("POST", "/api/auth/logout").token(&ada).await.is(204);
    let ended_at = Instant::now();
    assert_eq!(feed.next_or_end().await, None);
    // The check comes every five seconds; the rest is for a busy machine.
    assert!(ended_at.elapsed() < Duration::from_secs(15), "{:?}", ended_at.elapsed());
    app.get(&unused).await.problem(401, "ticket_invalid");
}

#[tokio::test]
async fn account_events_name_nobody() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let (email, name) = (unique_email(), "Ada Lovelace");
    let body = json!({"email": email, "password": PASSWORD, "name": name});
    let ada = app.post("/api/auth/register", &body).await.is(201).json()["user"].clone();
    let end = app.new_product(&admin, &json!(1), 0).await;
    let mut feed = app.open_whole_feed(Some(&admin)).await;
    let events = feed.read_until(|event| event.subject() == end).await;
    let is_hers =
        |event: &&Event| event.kind == "auth.user.registered" && ada["id"] == event.subject();
    let registered = events.iter().find(is_hers).unwrap();
    assert_eq!(registered.body["data"], json!({"user_id": ada["id"], "role": "customer"}));
    for event in &events {
        let text = event.body.to_string();
        assert!(!text.contains(&email) && !text.contains(name), "{text}");
    }
}
