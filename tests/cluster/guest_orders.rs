//! A guest checks out on one node while it logs in on another.

use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    support::{Account, PASSWORD, TestApp, assert_gap_free, unique_email, unique_number},
};

async fn order_ids(node: &TestApp, account: &Account) -> Vec<Value> {
    let page = node.get("/api/orders?limit=100").token(account).await.ok();
    page["items"].as_array().unwrap().iter().map(|order| order["id"].clone()).collect()
}

#[tokio::test]
async fn order_that_is_placed_during_a_login_is_neither_lost_nor_left() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = here.new_product(&admin, &json!(1), 10_000).await;
    let (mut before, mut after) = (0, 0);
    for _ in 0..15 {
        let ada = here.customer().await;
        let guest = here.guest().await;
        let check_out = || {
            let body = json!({"email": "guest@shop.example"});
            here.check_out(&guest, format!("guest-{}", unique_number())).json(&body)
        };
        here.add_to_cart(&guest, &tea, 1).await.ok();
        let mut placed = vec![check_out().await.is(201).json()["id"].clone()];
        here.add_to_cart(&guest, &tea, 1).await.ok();
        let (response, _, _) = tokio::join!(
            async { check_out().await },
            there.login_with_guest(&ada, &guest),
            here.login_with_guest(&ada, &guest),
        );
        match response.status {
            201 => {
                before += 1;
                placed.insert(0, response.json()["id"].clone());
            }
            _ => {
                after += 1;
                response.problem(409, "guest_cart_merged");
            }
        }
        for node in [here, there] {
            assert_eq!(order_ids(node, &ada).await, placed);
            assert_eq!(order_ids(node, &guest).await, [json!(null); 0]);
        }
    }
    println!("{before} orders were placed before the move, {after} refused after it");
    let mut feed = there.open_whole_feed(Some(&admin)).await;
    let end = here.new_product(&admin, &json!(1), 0).await;
    let history = feed.read_until(|event| event.subject() == end).await;
    assert_gap_free(&history);
    drop(feed);
    let audit = here.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
    cluster.shut_down().await;
}

#[tokio::test]
async fn code_is_used_once_with_one_email_on_two_nodes() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = here.new_product(&admin, &json!(10), 10_000).await;
    for round in 0..5 {
        let code = format!("ONCE-{round}");
        let promotion = json!({"name": "Once", "code": code, "effect": {"percent_off": 10},
            "per_customer_limit": 1});
        here.post("/api/promotions", &promotion).token(&admin).await.is(201);
        let ada = here.customer().await;
        let mut buyers = vec![(here, ada.clone())];
        for node in [here, there, there] {
            buyers.push((node, node.guest().await));
        }
        for (node, buyer) in &buyers {
            node.add_to_cart(buyer, &tea, 1).await.ok();
            // The node knows the code once it has caught up.
            node.get("/api/cart").token(buyer).header("cache-control", "no-cache").await.ok();
            node.post("/api/cart/codes", &json!({"code": code})).token(buyer).await.ok();
        }
        let calls = buyers.iter().map(async |(node, buyer)| {
            let call = node.check_out(buyer, format!("once-{}", unique_number()));
            call.json(&json!({"email": ada.email})).await
        });
        let responses = futures_util::future::join_all(calls).await;
        let bought = responses.iter().filter(|response| response.status == 201).count();
        assert_eq!(bought, 1, "round {round}");
        for response in responses.into_iter().filter(|response| response.status != 201) {
            response.problem(409, "code_exhausted");
        }
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn order_has_an_address_that_was_changed_on_another_node() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let tea = here.new_product(&here.admin().await, &json!(1), 100).await;
    let ada = here.customer().await;
    let check_out = async |key: &str| {
        there.add_to_cart(&ada, &tea, 1).await.ok();
        there.check_out(&ada, key).await.is(201).json()["email"].clone()
    };
    assert_eq!(check_out("before").await, ada.email);
    let changed = unique_email();
    let body = json!({"email": changed, "current_password": PASSWORD});
    here.patch("/api/auth/me", &body).token(&ada).await.ok();
    assert_eq!(check_out("after").await, changed);
}
