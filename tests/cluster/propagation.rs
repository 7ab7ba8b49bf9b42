//! Changes on one node are visible on the other.

use std::{collections::BTreeSet, future::IntoFuture};

use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use serde_json::json;

use crate::{
    cluster::Cluster,
    support::{Account, Event, TestApp, assert_gap_free},
};

#[tokio::test]
async fn product_created_on_one_node_sells_on_the_other() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let ada = here.customer().await;
    for n in 1..=10 {
        // No waiting for propagation: the client only has the response.
        let (one, other) = if n % 2 == 0 { (here, there) } else { (there, here) };
        let product = one.new_product(&admin, &json!(4.5), 3).await;
        assert_eq!(other.add_to_cart(&ada, &product, 3).await.ok()["version"], n);
        other.add_to_cart(&ada, &product, 1).await.problem(409, "insufficient_stock");
        one.change_stock(&admin, &product, &json!({"delta": -1, "reason": "broken"})).await.ok();
        let stock = other
            .get(&format!("/api/products/{product}/stock"))
            .token(&admin)
            .header("cache-control", "no-cache");
        assert_eq!(stock.await.ok()["available"], 2);
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn import_is_read_in_few_queries_on_the_other_node() {
    const PRODUCTS: usize = 1000;
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let database = &cluster.database;
    // The profiler records every operation.
    database
        .run_command(doc! { "create": "system.profile", "capped": true, "size": 64 << 20 })
        .await
        .unwrap();
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    let lines = (0..PRODUCTS).map(|n| {
        json!({"sku": format!("TEA-{n}"), "name": "Tea", "price": 4.5, "stock": 1}).to_string()
            + "\n"
    });
    assert_eq!(here.import_products(&admin, lines.collect()).await["created"], PRODUCTS);
    let found = there.get("/api/products?limit=1").header("cache-control", "no-cache").await.ok();
    assert_eq!(found["total"], PRODUCTS);
    let profile = database.collection::<Document>("system.profile");
    let mut reads = 0;
    for collection in ["products", "stock"] {
        let name = format!("{}.{collection}", database.name());
        reads += profile.count_documents(doc! { "op": "query", "ns": name }).await.unwrap();
    }
    assert!(reads < PRODUCTS as u64 / 2, "{reads} reads for {PRODUCTS} products");
    cluster.shut_down().await;
}

#[tokio::test]
async fn change_on_one_node_is_found_on_the_other() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let names = async |query: &str| {
        let page = there
            .get(&format!("/api/products?{query}"))
            .header("cache-control", "no-cache")
            .await
            .ok();
        let items = page["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let body = json!({"name": "Alpha", "description": "", "price": 5, "stock": 1});
    let product = here.create_product(&admin, &body).await;
    let path = format!("/api/products/{}", product["id"].as_str().unwrap());
    assert_eq!(names("q=alpha&max_price=5").await, ["Alpha"]);
    here.patch(&path, &json!({"name": "Omega", "price": 7})).token(&admin).await.ok();
    assert_eq!(names("q=alpha").await, [""; 0]);
    assert_eq!(names("q=omega&max_price=5").await, [""; 0]);
    assert_eq!(names("q=omga&min_price=7&in_stock=true").await, [""; 0], "four letters");
    assert_eq!(names("q=omeag&min_price=7&in_stock=true").await, ["Omega"]);
    here.call("DELETE", &path).token(&admin).await.is(204);
    assert_eq!(names("q=omega").await, [""; 0]);
    cluster.shut_down().await;
}

#[tokio::test]
async fn logout_on_one_node_applies_on_the_other() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let ada = here.customer().await;
    assert_eq!(there.get("/api/auth/me").token(&ada).await.ok()["id"], ada.id);
    let mut feed = there.open_feed(None, None).await;
    // After one delivered event, the logout arrives through regular propagation.
    let first = here.new_product(&admin, &json!(1), 0).await;
    feed.read_until(|event| event.subject() == first).await;
    here.call("POST", "/api/auth/logout").token(&ada).await.is(204);
    let later = here.new_product(&admin, &json!(1), 0).await;
    feed.read_until(|event| event.subject() == later).await;
    there.get("/api/auth/me").token(&ada).await.problem(401, "unauthenticated");
    assert_eq!(
        there.post("/api/auth/validate", &json!({"token": ada.token})).await.ok()["valid"],
        false
    );
    there.post("/api/auth/refresh", &json!({"refresh_token": ada.refresh_token})).await.is(401);
    drop(feed);
    cluster.shut_down().await;
}

#[tokio::test]
async fn refreshes_on_two_nodes_get_the_same_token() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let mut session = here.customer().await;
    for _ in 0..10 {
        let body = json!({"refresh_token": session.refresh_token});
        let (one, other) = tokio::join!(
            here.post("/api/auth/refresh", &body).into_future(),
            there.post("/api/auth/refresh", &body).into_future()
        );
        let (one, other) = (Account::from_session(&one.ok()), Account::from_session(&other.ok()));
        assert_eq!(one.refresh_token, other.refresh_token);
        let again = Account::from_session(&there.post("/api/auth/refresh", &body).await.ok());
        assert_eq!(again.refresh_token, one.refresh_token);
        session = other;
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn feed_of_one_node_shows_both_in_order() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let ada = here.customer().await;
    let mut feeds = Vec::new();
    for node in &cluster.nodes {
        feeds.push(node.open_feed(Some(&ada), None).await);
    }
    let teas = [
        here.new_product(&admin, &json!(1), 1000).await,
        here.new_product(&admin, &json!(2), 1000).await,
    ];
    let delta = json!({"delta": -1, "reason": "sold at the counter"});
    let adds = (0..30).map(|n: usize| here.add_to_cart(&ada, &teas[n % 2], 1).into_future());
    join_all(adds).await.into_iter().for_each(|response| drop(response.ok()));
    let mixed = (0..40).map(|n: usize| {
        let node = cluster.any_node();
        match n % 4 {
            0 | 1 => node.add_to_cart(&ada, &teas[n % 2], 1),
            2 => node.change_stock(&admin, &teas[0], &delta),
            _ => node
                .patch(
                    &format!("/api/products/{}", teas[1]),
                    &json!({"description": format!("{n}")}),
                )
                .token(&admin),
        }
        .into_future()
    });
    join_all(mixed).await.into_iter().for_each(|response| drop(response.ok()));
    let last = there.new_product(&admin, &json!(1), 0).await;
    let mut received = Vec::new();
    for feed in &mut feeds {
        let events = feed.read_until(|event| event.subject() == last).await;
        let newest = assert_gap_free(&events);
        assert_eq!(newest[&(ada.id.clone(), "cart".into())], 50, "every cart change has an event");
        assert_eq!(newest[&(teas[1].clone(), "catalog".into())], 11);
        let stock = there.stock(&admin, &teas[0]).await;
        assert_eq!(newest[&(teas[0].clone(), "inventory".into())], stock["version"]);
        assert_eq!(
            events.iter().map(|event| &event.id).collect::<BTreeSet<_>>().len(),
            events.len(),
            "each event is sent once"
        );
        received.push(events);
    }
    // Both have the order of each subject; `assert_gap_free` has compared it.
    received.iter_mut().for_each(|events| events.sort_by(|a, b| a.id.cmp(&b.id)));
    assert!(received[0] == received[1], "both feeds have the same events");
    assert!(received[0].iter().all(|event: &Event| event.kind != "auth.user.registered"));
    drop(feeds);
    cluster.shut_down().await;
}

/// Changes a cart and a product's stock in turn.
async fn keep_changing(node: &TestApp, admin: &Account, ada: &Account, tea: &str, changes: usize) {
    let sold = json!({"delta": -1, "reason": "sold at the counter"});
    for _ in 0..changes {
        node.add_to_cart(ada, tea, 1).await.ok();
        node.change_stock(admin, tea, &sold).await.ok();
    }
}

#[tokio::test]
async fn feed_resumes_at_the_other_node_while_both_write() {
    const CHANGES: usize = 60;
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let ada = here.customer().await;
    // Both nodes change the same cart and the same stock.
    let tea = here.new_product(&admin, &json!(4.5), 1000).await;
    let mut received: Vec<Event> = Vec::new();
    let listening = async {
        let mut nodes = [there, here].into_iter().cycle();
        let mut feed = here.open_whole_feed(Some(&ada)).await;
        while received.len() < 4 * CHANGES {
            for _ in 0..rand::random_range(1..10) {
                received.push(feed.next().await);
                if received.len() == 4 * CHANGES {
                    break;
                }
            }
            // As a browser does it.
            let last = feed.last_id().unwrap().to_owned();
            feed = nodes.next().unwrap().open_feed(Some(&ada), Some(&last)).await;
        }
        feed
    };
    let (mut feed, ..) = tokio::join!(
        listening,
        keep_changing(here, &admin, &ada, &tea, CHANGES),
        keep_changing(there, &admin, &ada, &tea, CHANGES)
    );
    let last = there.new_product(&admin, &json!(1), 0).await;
    let is_last = |event: &Event| event.subject() == last;
    received.extend(feed.read_until(is_last).await);
    let sequences = assert_gap_free(&received);
    assert_eq!(sequences[&(ada.id.clone(), "cart".into())], 2 * CHANGES as u64);
    assert_eq!(sequences[&(tea, "inventory".into())], 2 * CHANGES as u64 + 1);
    received.sort_by(|a, b| a.id.cmp(&b.id));
    for node in [here, there] {
        let mut whole = node.open_whole_feed(Some(&ada)).await;
        let mut all = whole.read_until(is_last).await;
        assert_gap_free(&all);
        all.sort_by(|a, b| a.id.cmp(&b.id));
        assert!(received == all, "no event is missing or repeated");
    }
    drop(feed);
    cluster.shut_down().await;
}

#[tokio::test]
async fn unknown_feed_id_starts_with_the_oldest_event() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = here.new_product(&admin, &json!(4.5), 10).await;
    let cup = there.new_product(&admin, &json!(4.5), 10).await;
    for unknown in ["01a206bc-0609-7165-8b52-173bd2923daf", "0.1000000", "17.1", "x"] {
        for node in [here, there] {
            let mut feed = node.open_feed(None, Some(unknown)).await;
            feed.expect_gap().await;
            let events = feed.read_until(|event| event.subject() == cup).await;
            assert_eq!(events[0].subject(), tea, "after {unknown}");
        }
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn event_ticket_opens_one_feed_on_all_nodes() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let ada = here.customer().await;
    for _ in 0..10 {
        let response = here.call("POST", "/api/events/ticket").token(&ada).await.is(201).json();
        let path = format!("/api/events?ticket={}", response["ticket"].as_str().unwrap());
        let opened = (0..8).map(|n| [here, there][n % 2].status_of_head(&path));
        let statuses = join_all(opened).await;
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        there.get(&path).await.problem(401, "ticket_invalid");
    }
    cluster.shut_down().await;
}
