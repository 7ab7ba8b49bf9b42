//! The event feed: visibility, order, and resumption.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Account, Event, Feed, PASSWORD, TestApp, assert_gap_free};

async fn start_shop() -> (TestApp, Account, String) {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    (app, admin, tea)
}

/// The events so far; a new product marks their end.
async fn events_so_far(app: &TestApp, admin: &Account, feed: &mut Feed) -> Vec<Event> {
    let last = app.new_product(admin, &json!(1), 0).await;
    let mut events = feed.read_until(|event| event.subject() == last).await;
    events.pop();
    events
}

fn kinds_and_sequences(events: &[Event]) -> Vec<(&str, u64)> {
    events.iter().map(|event| (&*event.kind, event.sequence())).collect()
}

#[tokio::test]
async fn events_are_cloud_events() {
    let (app, _, tea) = start_shop().await;
    let ada = app.customer().await;
    let mut feed = app.open_feed(Some(&ada), None).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    app.add_to_cart(&ada, &tea, 2).header("traceparent", trace).await.ok();
    let mut event = feed.next().await.body;
    let event = event.as_object_mut().unwrap();
    let mut take = |name: &str| event.remove(name).unwrap_or_else(|| panic!("no {name}"));
    let id = uuid::Uuid::try_parse(take("id").as_str().unwrap()).unwrap();
    assert_eq!(id.get_version_num(), 7);
    assert!(take("time").as_str().unwrap().ends_with('Z'));
    let data = take("data");
    let wanted = json!({
        "specversion": "1.0", "source": "/souk", "type": "cart.item.added", "subject": ada.id,
        "sequence": "1",
        "sequencetype": "Integer", "traceparent": trace, "datacontenttype": "application/json",
    });
    assert_eq!(Value::from(event.clone()), wanted);
    assert_eq!(
        (&data["user_id"], &data["version"], &data["quantity"]),
        (&json!(ada.id), &json!(1), &json!(2))
    );
    app.add_to_cart(&ada, &tea, 1).header("traceparent", "nonsense").await.ok();
    assert!(feed.next().await.body.get("traceparent").is_none());
}

#[tokio::test]
async fn every_cart_version_has_one_event() {
    let (app, admin, tea) = start_shop().await;
    let cup = app.new_product(&admin, &json!(7), 100).await;
    let (ada, guest) = (app.customer().await, app.guest().await);
    let mut feed = app.open_feed(Some(&ada), None).await;
    let mut guests = app.open_feed(Some(&guest), None).await;
    app.add_to_cart(&guest, &cup, 3).await.ok();
    app.delete("/api/cart").token(&ada).await.ok();
    app.add_to_cart(&ada, &tea, 2).await.ok();
    app.add_to_cart(&ada, &tea, 1).await.ok();
    app.update_cart(&ada, &tea, 3).await.ok();
    app.update_cart(&ada, &tea, 5).await.ok();
    app.update_cart(&ada, &tea, 1000).await.problem(422, "quantity_limit");
    app.add_to_cart(&ada, &cup, 1).key("k").await.ok();
    app.add_to_cart(&ada, &cup, 1).key("k").await.ok();
    app.update_cart(&ada, &tea, 0).await.ok();
    app.merge_cart(&ada, &guest).await.ok();
    app.merge_cart(&ada, &guest).await.ok();
    app.delete(&format!("/api/cart/remove/{cup}")).token(&ada).await.ok();
    app.add_to_cart(&ada, &tea, 1).await.ok();
    app.delete("/api/cart").token(&ada).await.ok();
    app.delete("/api/cart").token(&ada).await.ok();
    let events = events_so_far(&app, &admin, &mut feed).await;
    let wanted = [
        ("cart.item.added", 1),
        ("cart.item.added", 2),
        ("cart.item.updated", 3),
        ("cart.item.added", 4),
        ("cart.item.removed", 5),
        ("cart.merged", 6),
        ("cart.item.removed", 7),
        ("cart.item.added", 8),
        ("cart.cleared", 9),
    ];
    assert_eq!(kinds_and_sequences(&events), wanted);
    assert!(events.iter().all(|event| event.subject() == ada.id));
    assert_eq!(
        (&events[1].body["data"]["added"], &events[1].body["data"]["quantity"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(events[5].body["data"]["guest_id"], guest.id);
    assert_eq!(app.cart(&ada).await["version"], 9);
    let events = events_so_far(&app, &admin, &mut guests).await;
    assert_eq!(events.iter().filter(|event| event.family() == "cart").count(), 2);
    let (added, closed) =
        (&events[0], events.iter().find(|event| event.kind == "cart.closed").unwrap());
    assert_eq!(
        (&*added.kind, closed.sequence(), closed.subject()),
        ("cart.item.added", 2, &*guest.id)
    );
    assert_eq!(closed.body["data"]["merged_into"], ada.id);
}

#[tokio::test]
async fn product_events_are_public_cart_events_private_and_an_admin_gets_all() {
    let (app, admin, tea) = start_shop().await;
    let (ada, eve) = (app.customer().await, app.customer().await);
    let mut feeds = vec![app.open_feed(None, None).await];
    for account in [&ada, &eve, &admin] {
        feeds.push(app.open_feed(Some(account), None).await);
    }
    let path = format!("/api/products/{tea}");
    app.patch(&path, &json!({"name": "Sage"})).token(&admin).await.ok();
    app.add_to_cart(&ada, &tea, 1).await.ok();
    app.customer().await;
    app.call("POST", "/api/auth/logout").token(app.login(&eve.email, PASSWORD).await).await.is(204);
    app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "r"})).await.ok();
    app.add_to_cart(&admin, &tea, 1).await.ok();
    app.delete(&path).token(&admin).await.is(204);
    app.new_product(&admin, &json!(1), 1).await;
    let public = [
        "catalog.product.updated",
        "inventory.stock.changed",
        "catalog.product.deleted",
        "catalog.product.created",
    ];
    for (feed, (own, accounts)) in feeds.iter_mut().zip([(0, 0), (1, 0), (0, 0), (2, 2)]) {
        let events = feed.read_until(|event| event.kind == "catalog.product.created").await;
        let count = |family: &str| events.iter().filter(|event| event.family() == family).count();
        let others = events.iter().filter(|event| !["cart", "auth"].contains(&event.family()));
        assert_eq!(others.map(|event| &*event.kind).collect::<Vec<_>>(), public);
        assert_eq!((count("cart"), count("auth")), (own, accounts));
    }
    let deleted = json!({"product_id": tea, "sku": null, "version": 3});
    let mut again = app.open_whole_feed(None).await;
    let events = again.read_until(|event| event.kind == "catalog.product.deleted").await;
    assert_eq!(events.last().unwrap().body["data"], deleted);
    assert_eq!(events[0].body["data"]["price"], 4.5);
}

#[tokio::test]
async fn low_and_depleted_stock_raises_events() {
    let (app, admin, tea) = start_shop().await;
    let mut feed = app.open_feed(None, None).await;
    for change in [
        json!({"set": 6}),
        json!({"set": 6}),
        json!({"delta": -1}),
        json!({"delta": -1}),
        json!({"set": 0}),
        json!({"delta": 3}),
        json!({"delta": 90}),
        json!({"set": 0}),
    ] {
        let mut change = change;
        change["reason"] = json!("test");
        app.change_stock(&admin, &tea, &change).await.ok();
    }
    let events = events_so_far(&app, &admin, &mut feed).await;
    let (changed, low, depleted) =
        ("inventory.stock.changed", "inventory.stock.low", "inventory.stock.depleted");
    let wanted = [
        (changed, 2),
        (changed, 3),
        (low, 3),
        (changed, 4),
        (changed, 5),
        (depleted, 5),
        (changed, 6),
        (changed, 7),
        (changed, 8),
        (depleted, 8),
    ];
    assert_eq!(kinds_and_sequences(&events), wanted);
    let data = json!({"product_id": tea, "available": 5, "version": 3});
    assert_eq!((&events[1].body["data"], &events[2].body["data"]), (&data, &data));
    // An admin gets all of it.
    let mut full = app.open_whole_feed(Some(&admin)).await;
    let event = full.read_until(|event| event.kind == low).await.pop().unwrap();
    let data =
        json!({"product_id": tea, "on_hand": 5, "reserved": 0, "available": 5, "version": 3});
    assert_eq!(event.body["data"], data);
    assert!(events.iter().all(|event| event.subject() == tea));
}

#[tokio::test]
async fn feed_resumes_after_last_event_id() {
    let (mut app, admin, tea) = start_shop().await;
    let ada = app.customer().await;
    for n in 0..20 {
        app.add_to_cart(&ada, &tea, 1).await.ok();
        app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": format!("{n}")})).await.ok();
    }
    let mut feed = app.open_whole_feed(Some(&ada)).await;
    let all = events_so_far(&app, &admin, &mut feed).await;
    assert_eq!(all.len(), 2 + 20 + 20);
    assert_gap_free(&all);
    for crash in [None, Some(false), Some(true)] {
        match crash {
            None => {}
            Some(false) => drop(app.stop().await),
            Some(true) => app.kill_9().await,
        }
        if crash.is_some() {
            app.restart().await;
        }
        for at in [0, 7, 25, all.len() - 1] {
            let mut feed = app.open_feed(Some(&ada), all[at].feed_id.as_deref()).await;
            for wanted in &all[at + 1..] {
                assert_eq!(&feed.next().await, wanted);
            }
        }
    }
    // An unknown id counts as older than every event: repeats are better than gaps.
    for unknown in ["01a206bc-0609-7165-8b52-173bd2923daf", "x", "0", "0.1000000", "1.1"] {
        let mut feed = app.open_feed(Some(&ada), Some(unknown)).await;
        feed.expect_gap().await;
        assert_eq!(&feed.next().await, &all[0], "after {unknown}");
    }
    // Events that this listener may not see are skipped when it resumes.
    let mut public = app.open_feed(None, all[2].feed_id.as_deref()).await;
    assert!(public.next().await.kind.starts_with("inventory."));
}

#[tokio::test]
async fn feed_resumes_although_it_sent_no_event() {
    let (app, admin, tea) = start_shop().await;
    let (ada, eve) = (app.customer().await, app.customer().await);
    let mut feed = app.open_feed(Some(&eve), None).await;
    let opened_at = feed.last_id().expect("the opening has an id").to_owned();
    // The listener may not see this, but the keep-alive tells that it need not be read again.
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let alive_at = feed.next_keep_alive().await;
    assert_ne!(alive_at, opened_at);
    drop(feed);
    app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "found"})).await.ok();
    app.add_to_cart(&eve, &tea, 1).await.ok();
    for last in [&opened_at, &alive_at] {
        let mut feed = app.open_feed(Some(&eve), Some(last)).await;
        let (first, second) = (feed.next().await, feed.next().await);
        assert_eq!((&*first.kind, &*second.kind), ("inventory.stock.changed", "cart.item.added"));
        assert_eq!(second.subject(), eve.id);
    }
}

#[tokio::test]
async fn last_event_id_may_be_in_the_query() {
    let (app, admin, _) = start_shop().await;
    let mut feed = app.open_whole_feed(None).await;
    let all = events_so_far(&app, &admin, &mut feed).await;
    let id = |at: usize| all[at].feed_id.as_deref().unwrap();
    let path = format!("/api/events?last_event_id={}", id(0));
    assert_eq!(app.open_feed_at(&path, None, None).await.next().await, all[1]);
    // A browser that reconnects keeps the query and sends the header.
    let newest = app.new_product(&admin, &json!(1), 0).await;
    let mut feed = app.open_feed_at(&path, None, Some(id(all.len() - 1))).await;
    let events = feed.read_until(|event| event.subject() == newest).await;
    assert!(events.iter().all(|event| !all.contains(event)), "the header wins: {events:?}");
    let path = "/api/events?last_event_id=unknown";
    let mut feed = app.open_feed_at(path, None, None).await;
    feed.expect_gap().await;
    assert_eq!(feed.next().await, all[0]);
    let mut feed = app.open_feed_at(path, None, Some(id(0))).await;
    assert_eq!(feed.next().await, all[1]);
    app.get("/api/events?last_id=1").await.problem(422, "validation_failed");
}

#[tokio::test]
async fn slow_listener_misses_no_events() {
    let (app, admin, tea) = start_shop().await;
    let mut slow = app.open_feed(None, None).await;
    let lines = (0..6000).map(|n| {
        format!(
            "{{\"name\":\"Product {n}\",\"description\":\"{}\",\"price\":1,\"stock\":1}}\n",
            "x".repeat(500)
        )
    });
    app.import_products(&admin, lines.collect()).await;
    for _ in 0..300 {
        app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "r"})).await.ok();
    }
    let events = events_so_far(&app, &admin, &mut slow).await;
    let ids: BTreeSet<_> = events.iter().map(|event| &event.id).collect();
    assert_eq!((events.len(), ids.len()), (6000 * 2 + 300, events.len()));
    let own: Vec<_> =
        events.iter().filter(|event| event.subject() == tea).map(Event::sequence).collect();
    assert_eq!(own, (2..=301).collect::<Vec<_>>());
    assert_gap_free(events.iter().filter(|event| event.subject() != tea));
}

#[tokio::test]
async fn feed_ends_with_its_session() {
    let (app, _, tea) = start_shop().await;
    let ada = app.customer().await;
    let other = app.login(&ada.email, PASSWORD).await;
    let mut feed = app.open_feed(Some(&ada), None).await;
    app.add_to_cart(&other, &tea, 1).await.ok();
    assert_eq!(feed.next().await.sequence(), 1);
    app.call("POST", "/api/auth/logout").token(&ada).await.is(204);
    app.add_to_cart(&other, &tea, 1).await.ok();
    assert_eq!(feed.next_or_end().await, None, "no event after the logout");
    assert_eq!(
        app.open_whole_feed(Some(&other))
            .await
            .read_until(|event| event.sequence() == 2)
            .await
            .last()
            .unwrap()
            .kind,
        "cart.item.added"
    );
}

#[tokio::test]
async fn feed_of_a_private_catalog_opens_for_a_guest() {
    let app = TestApp::with_settings(&[("catalog.public_read", "false")]).await;
    app.get("/api/events").await.problem(401, "unauthenticated");
    let (admin, guest) = (app.admin().await, app.guest().await);
    let mut feed = app.open_feed(Some(&guest), None).await;
    let tea = app.new_product(&admin, &json!(4.5), 1).await;
    assert_eq!(feed.next().await.subject(), tea);
}

/// Waits until another customer's cart, touched now, is abandoned: by then every cart was checked.
async fn wait_for_abandonment_check(app: &TestApp, tea: &str) {
    let other = app.guest().await;
    let mut feed = app.open_feed(Some(&other), None).await;
    app.add_to_cart(&other, tea, 1).await.ok();
    feed.read_until(|event| event.kind == "cart.abandoned").await;
}

#[tokio::test]
async fn idle_cart_is_abandoned_once() {
    let mut app = TestApp::with_settings(&[("cart.abandoned_after", "1s")]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let ada = app.customer().await;
    let emptied = app.customer().await;
    app.add_to_cart(&emptied, &tea, 1).await.ok();
    app.delete("/api/cart").token(&emptied).await.ok();
    let mut feed = app.open_feed(Some(&ada), None).await;
    let added = app.add_to_cart(&ada, &tea, 2).await.is(200);
    let events = feed.read_until(|event| event.kind == "cart.abandoned").await;
    assert_eq!(kinds_and_sequences(&events), [("cart.item.added", 1), ("cart.abandoned", 2)]);
    let left = app.get("/api/cart").token(&ada).await.is(200);
    assert_eq!((left.json()["version"].clone(), left.lines()), (json!(2), added.lines()));
    assert_ne!(left.etag(), added.etag());
    assert_eq!(
        left.json()["updated_at"],
        added.json()["updated_at"],
        "abandonment does not touch the cart"
    );

    wait_for_abandonment_check(&app, &tea).await;
    app.stop().await;
    app.restart().await;
    wait_for_abandonment_check(&app, &tea).await;
    let mut feed = app.open_feed(Some(&ada), events[1].feed_id.as_deref()).await;
    app.add_to_cart(&ada, &tea, 1).await.ok();
    let own: Vec<Event> = feed.read_until(|event| event.kind == "cart.abandoned").await;
    assert_eq!(
        kinds_and_sequences(&own),
        [("cart.item.added", 3), ("cart.abandoned", 4)],
        "abandoned again only after another change"
    );
    assert_eq!(app.cart(&emptied).await["version"], 2, "an empty cart is not abandoned");
}
