//! A refused repeat keeps its first attempt, which still waits on another node, from applying.

use serde_json::json;

use crate::{cluster::Cluster, members::Members, proxy::Proxy, support::TestApp};

/// Part of the first command of a transaction.
const FIRST_COMMAND: &[u8] = b"startTransaction\0";

/// Two nodes that reach their database through a proxy.
async fn start_behind_proxy() -> Option<(Members, Proxy, Cluster)> {
    let mut members = Members::start_uninitiated(1)?;
    let proxy = Proxy::start(members.hosts()[0].clone()).await;
    members.initiate(std::slice::from_ref(&proxy.host)).await;
    let uri = Members::uri(std::slice::from_ref(&proxy.host));
    let cluster = Cluster::start(&uri, &[("http.request_timeout", "60s")]).await;
    Some((members, proxy, cluster))
}

#[tokio::test]
async fn first_attempt_does_not_apply_after_its_repeat_was_refused() {
    let Some((_members, proxy, mut cluster)) = start_behind_proxy().await else { return };
    let (slow, quick) = cluster.both_nodes();
    let admin = quick.admin().await;
    let tea = quick.new_product(&admin, &json!(4.5), 3).await;
    let path = format!("/api/products/{tea}/stock");
    slow.get(&path).token(&admin).header("cache-control", "no-cache").await.ok();
    let sale = json!({"delta": -3, "reason": "sold at the counter"});
    let first = slow.change_stock(&admin, &tea, &sale).key("sale").attempt();
    let mut first = std::pin::pin!(first);
    let name = Cluster::node_name(0);
    tokio::select! {
        biased;
        () = proxy.withhold_request(&name, FIRST_COMMAND) => {}
        response = &mut first => panic!("the transaction was not withheld: {response:?}"),
    }
    quick.change_stock(&admin, &tea, &json!({"set": 0, "reason": "broken"})).await.ok();
    let repeat = quick.change_stock(&admin, &tea, &sale).key("sale").await;
    repeat.problem(409, "insufficient_stock");
    let restocked =
        quick.change_stock(&admin, &tea, &json!({"set": 5, "reason": "found"})).await.ok();
    // Ends the withheld request; the node tries its transaction again.
    proxy.cut();
    proxy.restore();
    first.await.unwrap().problem(503, "overloaded");
    let stock = quick.get(&path).token(&admin).header("cache-control", "no-cache").await.ok();
    assert_eq!(stock, restocked, "the first attempt changes nothing");
    let again = slow.change_stock(&admin, &tea, &sale).key("sale").await.ok();
    assert_eq!(again["on_hand"], 2, "a later attempt is decided anew");
    let replayed = quick.change_stock(&admin, &tea, &sale).key("sale").await;
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(replayed.ok(), again);
    cluster.expect_faults();
    cluster.shut_down().await;
}

/// A refusal that the node decides on its own caches has no commit; it is recorded all the same.
#[tokio::test]
async fn refusal_without_a_commit_holds_too() {
    let Some((_members, proxy, mut cluster)) = start_behind_proxy().await else { return };
    let (slow, quick) = cluster.both_nodes();
    let admin = quick.admin().await;
    let tea = quick.new_product(&admin, &json!(4.5), 3).await;
    let buyer = quick.customer().await;
    quick.add_to_cart(&buyer, &tea, 2).await.ok();
    let update = |node: &TestApp| {
        let body = json!({"product_id": tea, "quantity": 1});
        node.put("/api/cart/update", &body).token(&buyer).key("update")
    };
    slow.get("/api/cart").token(&buyer).header("cache-control", "no-cache").await.ok();
    let mut first = std::pin::pin!(update(slow).attempt());
    let name = Cluster::node_name(0);
    tokio::select! {
        biased;
        () = proxy.withhold_request(&name, FIRST_COMMAND) => {}
        response = &mut first => panic!("the transaction was not withheld: {response:?}"),
    }
    quick.delete("/api/cart").token(&buyer).await.ok();
    update(quick).await.problem(404, "line_not_found");
    let cart = quick.add_to_cart(&buyer, &tea, 3).await.ok();
    proxy.cut();
    proxy.restore();
    first.await.unwrap().problem(503, "overloaded");
    let read = quick.get("/api/cart").token(&buyer).header("cache-control", "no-cache").await;
    assert_eq!(read.ok(), cart, "the first attempt changes nothing");
    cluster.expect_faults();
    cluster.shut_down().await;
}
