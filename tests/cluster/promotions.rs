//! A code that is good for a few orders on several nodes, one of which is killed: exactly as many
//! orders have it, and every other buyer is told.
//!
//! `SOUK_TEST_BUYERS` sets the number of buyers (250), `SOUK_TEST_NODES` that of nodes (3).

use std::{collections::BTreeSet, time::Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    flash_sale::{Buyer, CONCURRENCY, env_or},
    forwarding::FORWARDING,
    members::Members,
    shared_replica_set,
    support::{Account, Progress, Response, TestApp, unique_number},
};

const USES: usize = 100;

/// Of so many buyers who are told that the code is used up, one buys without it.
const BUYS_ANYWAY: usize = 20;

/// A product, and a code that takes 10 % off so many orders.
struct Sale {
    product: String,
    code: String,
    promotion: String,
}

impl Sale {
    async fn open(node: &TestApp, admin: &Account, uses: usize) -> Self {
        let product = node.new_product(admin, &json!(10), 100_000).await;
        let code = format!("HOT-{}", unique_number());
        let body = json!({"name": "Hot", "code": code, "effect": {"percent_off": 10},
            "usage_limit": uses});
        let created = node.post("/api/promotions", &body).token(admin).await.is(201).json();
        Self { product, code, promotion: created["id"].as_str().unwrap().to_owned() }
    }

    async fn used(&self, node: &TestApp, admin: &Account) -> Value {
        node.get(&format!("/api/promotions/{}", self.promotion)).token(admin).await.ok()["used"]
            .clone()
    }
}

/// Puts one unit and the code into the buyer's cart, while no order has the code yet.
async fn fill_cart(buyer: &Buyer<'_>, sale: &Sale) {
    let add = json!({"product_id": sale.product, "quantity": 1});
    buyer.retry_until_answered("add", |node| node.post("/api/cart/add", &add)).await.is(200);
    let code = json!({"code": sale.code});
    let given = |node: &TestApp| node.post("/api/cart/codes", &code);
    let cart = buyer.retry_until_answered("code", given).await.is(200).json();
    assert_eq!((&cart["total_amount"], &cart["codes"][0]["applied"]), (&json!(9), &json!(true)));
}

async fn check_out(buyer: &Buyer<'_>, key: &str) -> Response {
    buyer.retry_until_answered(key, |node| node.post("/api/checkout", &json!({}))).await
}

/// Buys with the code. The order id, or `None` if the code is used up.
async fn buy(buyer: &Buyer<'_>) -> Option<String> {
    let response = check_out(buyer, "buy").await;
    if response.status == 409 {
        let problem = response.problem(409, "code_exhausted");
        assert_eq!(problem["reason"], "usage_limit", "{problem}");
        return None;
    }
    let order = response.is(201).json();
    assert_eq!((&order["total_amount"], &order["discounts"][0]["amount"]), (&json!(9), &json!(1)));
    Some(order["id"].as_str().unwrap().to_owned())
}

/// A buyer who was told buys without the code. Each node may tell once more.
async fn buy_without_code(buyer: &Buyer<'_>) {
    for attempt in 0.. {
        let response = check_out(buyer, &format!("without-{attempt}")).await;
        if response.status == 201 {
            let order = response.json();
            assert_eq!((&order["total_amount"], &order["discounts"]), (&json!(10), &json!([])));
            return;
        }
        response.problem(409, "code_exhausted");
    }
}

/// All buyers have the code in their carts, and check out. Kills a node when half of the uses are
/// taken. Returns the orders that have the code.
async fn redeem(cluster: &Cluster, sale: &Sale, count: usize) -> BTreeSet<String> {
    let buyers: Vec<Buyer<'_>> = (0..count).map(|_| Buyer::new(cluster)).collect();
    let began = Instant::now();
    let fill = stream::iter(&buyers).map(async |buyer| fill_cart(buyer, sale).await);
    fill.buffer_unordered(CONCURRENCY).collect::<()>().await;
    let (filled, began) = (began.elapsed(), Instant::now());
    let (used, told) = (Progress::new(), Progress::new());
    let all = stream::iter(&buyers).map(async |buyer| {
        let order = buy(buyer).await;
        match order {
            Some(_) => used.increment(),
            None => told.increment(),
        }
        if order.is_none() && told.count().is_multiple_of(BUYS_ANYWAY) {
            buy_without_code(buyer).await;
        }
        order
    });
    let all = all.buffer_unordered(CONCURRENCY).collect::<Vec<Option<String>>>();
    let kill = async {
        used.wait_for(USES / 2).await;
        cluster.nodes[0].signal("KILL");
    };
    let (orders, ()) = tokio::join!(all, kill);
    eprintln!(
        "{} of {count} buyers on {} nodes got the code and {} were told: {filled:?} to fill the \
         carts, {:?} to check out",
        used.count(),
        cluster.nodes.len(),
        told.count(),
        began.elapsed()
    );
    assert_eq!((used.count(), told.count()), (USES, count - USES));
    orders.into_iter().flatten().collect()
}

async fn run_sale(settings: &[(&str, &str)]) {
    let Some(members) = Members::start(1).await else { return };
    let nodes = env_or("SOUK_TEST_NODES", 3);
    let mut cluster = Cluster::start_nodes(nodes, &Members::uri(members.hosts()), settings).await;
    cluster.expect_faults();
    let admin = cluster.nodes[0].admin().await;
    let sale = Sale::open(&cluster.nodes[0], &admin, USES).await;
    let acknowledged = redeem(&cluster, &sale, env_or("SOUK_TEST_BUYERS", 250)).await;
    let survivor = &cluster.nodes[1];
    assert_eq!(sale.used(survivor, &admin).await, USES);
    let listed = survivor.all_pages(&admin, "/api/orders?all=true", 100).await;
    let with_code = listed.iter().filter(|order| order["discounts"] != json!([]));
    let with_code: BTreeSet<String> =
        with_code.map(|order| order["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(with_code, acknowledged, "exactly the acknowledged orders have it");
    let audit = survivor.call("POST", "/api/admin/audit").token(&admin).await.ok();
    assert_eq!(audit["clean"], true, "{audit}");
    cluster.nodes[0].reap().await;
    cluster.nodes[0].restart().await;
    cluster.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_is_used_exactly_as_often_as_it_can_be() {
    run_sale(&[FORWARDING]).await;
}

/// The nodes take turns, rather than forward to one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_is_used_exactly_as_often_as_it_can_be_in_turns() {
    run_sale(&[]).await;
}

#[tokio::test]
async fn rules_and_uses_are_known_on_every_node() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let (admin, ada) = (here.admin().await, here.customer().await);
    let bob = here.customer().await;
    let sale = Sale::open(here, &admin, 1).await;
    let fresh = |node: &TestApp, buyer: &Account| {
        node.get("/api/cart").token(buyer).header("cache-control", "no-cache")
    };
    let code = json!({"code": sale.code});
    for buyer in [&ada, &bob] {
        fresh(there, buyer).await.ok();
        there.add_to_cart(buyer, &sale.product, 1).await.ok();
        let cart = there.post("/api/cart/codes", &code).token(buyer).await.ok();
        assert_eq!(cart["total_amount"], 9);
    }
    let order = here.check_out(&ada, "1").await.is(201).json();
    let cart = fresh(there, &bob).await.ok();
    assert_eq!(cart["codes"][0]["reason"], "usage_limit", "{cart}");
    assert_eq!(sale.used(there, &admin).await, 1);
    here.order_action(&ada, &order, "cancel").await.ok();
    assert_eq!(fresh(there, &bob).await.ok()["total_amount"], 9);
    here.delete(&format!("/api/promotions/{}", sale.promotion)).token(&admin).await.is(204);
    let cart = fresh(there, &bob).await.ok();
    assert_eq!(
        (&cart["codes"][0]["reason"], &cart["total_amount"]),
        (&json!("inactive"), &json!(10))
    );
    cluster.shut_down().await;
}

#[tokio::test]
async fn what_a_buyer_has_ordered_is_known_on_every_node() {
    let Some(cluster) = Cluster::start_shared().await else { return };
    let (here, there) = cluster.both_nodes();
    let (admin, ada) = (here.admin().await, here.customer().await);
    let tea = here.new_product(&admin, &json!(10), 100).await;
    let body = json!({"name": "Once", "effect": {"percent_off": 10}, "per_customer_limit": 1});
    here.post("/api/promotions", &body).token(&admin).await.is(201);
    let fresh = |node: &TestApp| {
        let cart = node.get("/api/cart").token(&ada).header("cache-control", "no-cache");
        async { cart.await.ok()["total_amount"].clone() }
    };
    here.add_to_cart(&ada, &tea, 1).await.ok();
    for node in [here, there] {
        assert_eq!(fresh(node).await, 9);
    }
    let order = here.check_out(&ada, "1").await.is(201).json();
    here.add_to_cart(&ada, &tea, 1).await.ok();
    for node in [here, there] {
        assert_eq!(fresh(node).await, 10, "the buyer has had it");
    }
    // The cart does not change, but what the buyer has ordered.
    here.order_action(&ada, &order, "cancel").await.ok();
    for node in [there, here] {
        assert_eq!(fresh(node).await, 9);
    }
    let body = json!({"expected_total": 9});
    there.check_out(&ada, "2").json(&body).await.is(201);
    cluster.shut_down().await;
}

#[tokio::test]
async fn rule_that_changes_on_another_node_raises_no_total_unseen() {
    let Some(uri) = shared_replica_set::uri().await else { return };
    let cluster = Cluster::start(&uri, &[]).await;
    let (here, there) = cluster.both_nodes();
    let (admin, ada) = (here.admin().await, here.customer().await);
    let tea = here.new_product(&admin, &json!(10), 100).await;
    here.put("/api/cart/shipping", &json!({"country": "DE"})).token(&ada).await.ok();
    let seen = here.add_to_cart(&ada, &tea, 1).await.ok();
    let rate = json!({"name": "VAT", "country": "DE", "rate": "0.07"});
    there.post("/api/tax-rates", &rate).token(&admin).await.is(201);
    let body = json!({"expected_total": seen["total_amount"]});
    let problem = here.check_out(&ada, "1").json(&body).await.problem(409, "price_changed");
    assert_eq!(problem["total_amount"], 10.7);
    cluster.shut_down().await;
}
