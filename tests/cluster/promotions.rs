//! A code that is good for a few orders on three nodes, one of which is killed: exactly as many
//! orders have it, and every other buyer is told.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    flash_sale::Buyer,
    forwarding::FORWARDING,
    members::Members,
    shared_replica_set,
    support::{Account, Progress, TestApp, unique_number},
};

const USES: usize = 50;
const BUYERS: usize = 150;
/// Buyers served at the same time.
const CONCURRENCY: usize = 64;

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

/// Buys one unit with the code. The order id, or `None` if the code is used up.
async fn buy(buyer: &Buyer<'_>, sale: &Sale) -> Option<String> {
    let add = json!({"product_id": sale.product, "quantity": 1});
    buyer.retry_until_answered("add", |node| node.post("/api/cart/add", &add)).await.is(200);
    let code = json!({"code": sale.code});
    let given = |node: &TestApp| node.post("/api/cart/codes", &code);
    let response = buyer.retry_until_answered("code", given).await;
    if response.status == 409 {
        response.problem(409, "code_exhausted");
        return None;
    }
    // The answer of the first attempt may be lost, and the last use taken before the next one: then
    // the code is in the cart, and shown as used up.
    let cart = response.is(200).json();
    if cart["codes"][0]["applied"] == false {
        assert_eq!(cart["codes"][0]["reason"], "usage_limit", "{cart}");
        return None;
    }
    let response =
        buyer.retry_until_answered("buy", |node| node.post("/api/checkout", &json!({}))).await;
    if response.status == 409 {
        response.problem(409, "code_exhausted");
        return None;
    }
    let order = response.is(201).json();
    assert_eq!((&order["total_amount"], &order["discounts"][0]["amount"]), (&json!(9), &json!(1)));
    Some(order["id"].as_str().unwrap().to_owned())
}

async fn run_sale(settings: &[(&str, &str)]) {
    let Some(members) = Members::start(1).await else { return };
    let mut cluster = Cluster::start_nodes(3, &Members::uri(members.hosts()), settings).await;
    cluster.expect_faults();
    let admin = cluster.nodes[0].admin().await;
    let sale = Sale::open(&cluster.nodes[0], &admin, USES).await;
    let used = Progress::new();
    let all = stream::iter(0..BUYERS).map(async |_| {
        let order = buy(&Buyer::new(&cluster), &sale).await;
        if order.is_some() {
            used.increment();
        }
        order
    });
    let all = all.buffer_unordered(CONCURRENCY).collect::<Vec<Option<String>>>();
    let kill = async {
        used.wait_for(USES / 2).await;
        cluster.nodes[0].signal("KILL");
    };
    let (orders, ()) = tokio::join!(all, kill);
    let acknowledged: BTreeSet<String> = orders.into_iter().flatten().collect();
    assert_eq!(acknowledged.len(), USES);
    let survivor = &cluster.nodes[1];
    assert_eq!(sale.used(survivor, &admin).await, USES);
    let listed = survivor.all_pages(&admin, "/api/orders?all=true", 100).await;
    let with_code = listed.iter().filter(|order| order["discounts"] != json!([]));
    let with_code: BTreeSet<String> =
        with_code.map(|order| order["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(with_code, acknowledged, "exactly the acknowledged orders have it");
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
