//! The history of carts and stock on both nodes stays linearizable while the primary fails.

use std::{cell::Cell, time::Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::{
    checker::{
        Outcome,
        carts::{self, Change},
        stock,
    },
    cluster::Cluster,
    members::Members,
    recorder::{CHANGES, CLIENTS, Recorder},
    support::{Account, TestApp},
};

const CARTS: usize = 6;
const STOCKS: usize = 2;
/// The total number of requested changes.
const TOTAL_CHANGES: usize = (CARTS + STOCKS) * CLIENTS * CHANGES;

#[tokio::test]
async fn history_is_linearizable_across_a_primary_failure() {
    let Some(mut members) = Members::start(3).await else { return };
    // Requests time out before a failover completes, so that some outcomes are unknown.
    let mut cluster =
        Cluster::start_nodes(3, &Members::uri(members.hosts()), &[("http.request_timeout", "1s")])
            .await;
    cluster.expect_faults();
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let price = json!(4.5);
    let product_ids = join_all((0..4).map(|_| here.new_product(&admin, &price, 1_000_000))).await;
    let stocked =
        join_all((0..STOCKS).map(|_| there.new_product(&admin, &price, 500_000_000))).await;
    let users = here.customers(CARTS).await;

    let recorder = Recorder::new(&cluster);
    let carts =
        join_all(users.iter().map(|user| cart_history(&recorder, &cluster, user, &product_ids)));
    let stocks =
        join_all(stocked.iter().map(|product| stock_history(&recorder, &cluster, &admin, product)));
    let kill = async {
        recorder.acknowledged.wait_for(TOTAL_CHANGES / 3).await;
        let killed = members.primary().await;
        members.kill(killed);
        let (began, before) = (Instant::now(), recorder.acknowledged.count());
        // More than the number of pending requests.
        recorder.acknowledged.wait_for(before + (CARTS + STOCKS) * CLIENTS + 1).await;
        eprintln!("service resumed {:?} after the primary was killed", began.elapsed());
        recorder.acknowledged.wait_for(TOTAL_CHANGES * 2 / 3).await;
        assert_ne!(members.primary().await, killed, "another member is primary");
        members.restart(killed);
    };
    let (carts, stocks, ()) = tokio::join!(carts, stocks, kill);

    for history in &carts {
        print_summary(
            "cart",
            history.reads.len(),
            history.changes.iter().map(|request| outcome_index(&request.outcome)),
        );
        history.check().unwrap();
        assert_corrupt_cart_histories_fail(history);
    }
    for history in &stocks {
        print_summary(
            "stock",
            history.reads.len(),
            history.changes.iter().map(|request| outcome_index(&request.outcome)),
        );
        history.check().unwrap();
        assert_corrupt_stock_histories_fail(history);
    }
    cluster.shut_down().await;
}

#[tokio::test]
async fn reads_fail_fast_without_a_majority_or_a_responsive_store() {
    let Some(members) = Members::start(3).await else { return };
    let mut cluster =
        Cluster::start(&Members::uri(members.hosts()), &[("http.request_timeout", "1s")]).await;
    cluster.expect_faults();
    let (here, there) = cluster.both_nodes();
    let admin = here.admin().await;
    let tea = here.new_product(&admin, &json!(4.5), 10).await;
    let ada = here.customer().await;
    let path = format!("/api/products/{tea}");
    let fresh =
        |node: &TestApp, path: &str| node.get(path).token(&ada).header("cache-control", "no-cache");
    fresh(there, &path).await.ok();

    // The primary steps down only after ten seconds without a majority; another may lead by then.
    let primary = members.primary().await;
    let secondaries: Vec<usize> = (0..3).filter(|index| *index != primary).collect();
    secondaries.iter().for_each(|index| members.signal(*index, "STOP"));
    for path in [&*path, "/api/cart", "/api/orders"] {
        fresh(there, path).await.problem(503, "store_unavailable");
    }

    members.signal(primary, "STOP");
    // A node may serve its cached state for another 250 ms.
    while there.get("/api/cart").token(&ada).await.status == 200 {}
    for path in ["/api/cart", "/%61pi/cart", "/api/%63art"] {
        there.get(path).token(&ada).await.problem(503, "store_unavailable");
    }

    (0..3).for_each(|index| members.signal(index, "CONT"));
    while fresh(there, "/api/cart").await.status == 503 {}
    assert_eq!(fresh(there, &path).await.ok()["stock"], 10);
    cluster.shut_down().await;
}

const fn outcome_index<T>(outcome: &Outcome<T>) -> usize {
    match outcome {
        Outcome::Done(_) => 0,
        Outcome::Refused => 1,
        Outcome::Unknown => 2,
    }
}

fn print_summary(subject: &str, reads: usize, kinds: impl Iterator<Item = usize>) {
    let mut counts = [0; 3];
    kinds.for_each(|kind| counts[kind] += 1);
    let [done, refused, unknown] = counts;
    eprintln!(
        "{subject}: {reads} reads; changes: {done} made, {refused} refused, {unknown} unknown"
    );
}

async fn cart_history(
    recorder: &Recorder<'_>,
    cluster: &Cluster,
    user: &Account,
    product_ids: &[String],
) -> carts::History {
    let mut history = recorder.begin_cart(user, product_ids).await;
    let over = Cell::new(false);
    let clients = async {
        let histories = join_all(
            (0..CLIENTS).map(|client| recorder.run_cart_client(user, product_ids, client)),
        )
        .await;
        over.set(true);
        histories
    };
    let reader = async {
        let mut history = carts::History::default();
        while !over.get() {
            recorder.read_cart(cluster.any_node(), user, &mut history).await;
        }
        for node in &cluster.nodes {
            while !recorder.read_cart(node, user, &mut history).await {}
        }
        history
    };
    let (clients, reader) = tokio::join!(clients, reader);
    for part in clients.into_iter().chain([reader]) {
        history.changes.extend(part.changes);
        history.reads.extend(part.reads);
    }
    history
}

/// Runs the clients of one product, and reads its ledger in the end.
pub(crate) async fn stock_history(
    recorder: &Recorder<'_>,
    cluster: &Cluster,
    admin: &Account,
    product: &str,
) -> stock::History {
    let mut history = stock::History::default();
    let clients =
        join_all((0..CLIENTS).map(|client| recorder.run_stock_client(admin, product, client)))
            .await;
    for part in clients {
        history.changes.extend(part.changes);
        history.reads.extend(part.reads);
    }
    for node in &cluster.nodes {
        while !recorder.read_stock(node, admin, product, &mut history).await {}
    }
    history.ledger = ledger(cluster.any_node(), admin, product).await;
    history
}

async fn ledger(node: &TestApp, admin: &Account, product: &str) -> Vec<stock::Movement> {
    let movements =
        node.all_pages(admin, &format!("/api/products/{product}/stock/movements"), 100).await;
    let line = |movement: &serde_json::Value| stock::Movement {
        sequence: movement["sequence"].as_u64().unwrap(),
        reference: movement["reference"].as_str().map(ToOwned::to_owned),
        delta: movement["on_hand_delta"].as_i64().unwrap(),
    };
    movements.iter().rev().map(line).collect()
}

/// A valid history with one corruption is invalid.
fn assert_corrupt_cart_histories_fail(good: &carts::History) {
    let last = good.reads.len() - 1;
    let older = good
        .reads
        .iter()
        .rev()
        .find(|read| read.view.version < good.reads[last].view.version)
        .unwrap();
    let mut stale = good.clone();
    stale.reads[last].view = older.view.clone();
    stale.check().unwrap_err();

    let is_set = |request: &carts::ChangeRequest| {
        matches!((&request.change, &request.outcome), (Change::Set(..), Outcome::Done(_)))
    };
    let made = good.changes.iter().position(is_set).unwrap();
    let mut never_asked = good.clone();
    never_asked.changes.remove(made);
    never_asked.check().unwrap_err();
    let mut refused = good.clone();
    refused.changes[made].outcome = Outcome::Refused;
    refused.check().unwrap_err();

    let mut twice = good.clone();
    let again =
        carts::View { version: good.reads[last].view.version + 1, ..good.reads[last].view.clone() };
    twice.reads.push(carts::Read { view: again, ..good.reads[last].clone() });
    twice.check().unwrap_err();
}

fn assert_corrupt_stock_histories_fail(good: &stock::History) {
    let last = good.reads.len() - 1;
    let older = good
        .reads
        .iter()
        .rev()
        .find(|read| read.view.version < good.reads[last].view.version)
        .unwrap();
    let mut stale = good.clone();
    stale.reads[last].view = older.view;
    stale.check().unwrap_err();

    let done = good
        .changes
        .iter()
        .position(|request| matches!(request.outcome, Outcome::Done(_)))
        .unwrap();
    let mut never_asked = good.clone();
    never_asked.changes.remove(done);
    never_asked.check().unwrap_err();

    let mut twice = good.clone();
    let (sequence, again) = (good.ledger.len() as u64 + 1, good.ledger[1].clone());
    twice.ledger.push(stock::Movement { sequence, ..again });
    twice.check().unwrap_err();

    let mut lost = good.clone();
    lost.ledger.pop();
    lost.check().unwrap_err();
}
