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
const ALL: usize = (CARTS + STOCKS) * CLIENTS * CHANGES;

#[tokio::test]
async fn history_is_linearizable_across_a_primary_failure() {
    let Some(mut members) = Members::start(3).await else { return };
    // Requests time out before a failover completes, so that some outcomes are unknown.
    let mut cluster =
        Cluster::on(&Members::uri(members.hosts()), &[("http.request_timeout", "1s")]).await;
    cluster.expect_faults();
    let (here, there) = cluster.pair();
    let admin = here.admin().await;
    let price = json!(4.5);
    let wares = join_all((0..4).map(|_| here.product(&admin, &price, 1_000_000))).await;
    let stocked = join_all((0..STOCKS).map(|_| there.product(&admin, &price, 500_000_000))).await;
    let users = here.customers(CARTS).await;

    let recorder = Recorder::new(&cluster);
    let carts = join_all(users.iter().map(|user| cart_history(&recorder, &cluster, user, &wares)));
    let stocks =
        join_all(stocked.iter().map(|product| stock_history(&recorder, &cluster, &admin, product)));
    let strike = async {
        recorder.acknowledged.reaches(ALL / 3).await;
        let struck = members.primary().await;
        members.kill(struck);
        let (began, before) = (Instant::now(), recorder.acknowledged.count());
        // More than the number of pending requests.
        recorder.acknowledged.reaches(before + (CARTS + STOCKS) * CLIENTS + 1).await;
        eprintln!("service resumed {:?} after the primary was killed", began.elapsed());
        recorder.acknowledged.reaches(ALL * 2 / 3).await;
        assert_ne!(members.primary().await, struck, "another member is primary");
        members.restart(struck);
    };
    let (carts, stocks, ()) = tokio::join!(carts, stocks, strike);

    for history in &carts {
        tell("cart", history.reads.len(), history.changes.iter().map(|asked| kind(&asked.outcome)));
        history.check().unwrap();
        assert_corrupt_cart_histories_fail(history);
    }
    for history in &stocks {
        tell(
            "stock",
            history.reads.len(),
            history.changes.iter().map(|asked| kind(&asked.outcome)),
        );
        history.check().unwrap();
        assert_corrupt_stock_histories_fail(history);
    }
    cluster.end().await;
}

#[tokio::test]
async fn reads_fail_fast_without_a_majority_or_a_responsive_store()
{
    let Some(members) = Members::start(3).await else { return };
    let mut cluster =
        Cluster::on(&Members::uri(members.hosts()), &[("http.request_timeout", "1s")]).await;
    cluster.expect_faults();
    let (here, there) = cluster.pair();
    let admin = here.admin().await;
    let tea = here.product(&admin, &json!(4.5), 10).await;
    let ada = here.customer().await;
    let path = format!("/api/products/{tea}");
    let fresh =
        |node: &TestApp, path: &str| node.get(path).token(&ada).header("cache-control", "no-cache");
    fresh(there, &path).await.ok();

    // The primary steps down only after ten seconds without a majority; another may lead by then.
    let primary = members.primary().await;
    let secondaries: Vec<usize> = (0..3).filter(|place| *place != primary).collect();
    secondaries.iter().for_each(|place| members.signal(*place, "STOP"));
    for path in [&*path, "/api/cart", "/api/orders"] {
        fresh(there, path).await.problem(503, "store_unavailable");
    }

    members.signal(primary, "STOP");
    // A node may serve its cached state for another 250 ms.
    while there.get("/api/cart").token(&ada).await.status == 200 {}
    for path in ["/api/cart", "/%61pi/cart", "/api/%63art"] {
        there.get(path).token(&ada).await.problem(503, "store_unavailable");
    }

    (0..3).for_each(|place| members.signal(place, "CONT"));
    while fresh(there, "/api/cart").await.status == 503 {}
    assert_eq!(fresh(there, &path).await.ok()["stock"], 10);
    cluster.end().await;
}

const fn kind<T>(outcome: &Outcome<T>) -> usize {
    match outcome {
        Outcome::Done(_) => 0,
        Outcome::Refused => 1,
        Outcome::Unknown => 2,
    }
}

fn tell(what: &str, reads: usize, kinds: impl Iterator<Item = usize>) {
    let mut counts = [0; 3];
    kinds.for_each(|kind| counts[kind] += 1);
    let [done, refused, unknown] = counts;
    eprintln!("{what}: {reads} reads; changes: {done} made, {refused} refused, {unknown} unknown");
}

async fn cart_history(
    recorder: &Recorder<'_>,
    cluster: &Cluster,
    user: &Account,
    wares: &[String],
) -> carts::History {
    let mut history = recorder.begin_cart(user, wares).await;
    let over = Cell::new(false);
    let clients = async {
        let histories =
            join_all((0..CLIENTS).map(|client| recorder.shop(user, wares, client))).await;
        over.set(true);
        histories
    };
    let reader = async {
        let mut history = carts::History::default();
        while !over.get() {
            recorder.look_into_cart(cluster.any(), user, &mut history).await;
        }
        for node in &cluster.nodes {
            while !recorder.look_into_cart(node, user, &mut history).await {}
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

async fn stock_history(
    recorder: &Recorder<'_>,
    cluster: &Cluster,
    admin: &Account,
    product: &str,
) -> stock::History {
    let mut history = stock::History::default();
    let clients =
        join_all((0..CLIENTS).map(|client| recorder.restock(admin, product, client))).await;
    for part in clients {
        history.changes.extend(part.changes);
        history.reads.extend(part.reads);
    }
    for node in &cluster.nodes {
        while !recorder.look_at_stock(node, admin, product, &mut history).await {}
    }
    history.ledger = ledger(cluster.any(), admin, product).await;
    history
}

async fn ledger(node: &TestApp, admin: &Account, product: &str) -> Vec<stock::Movement> {
    let movements =
        node.pages(admin, &format!("/api/products/{product}/stock/movements"), 100).await;
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
        .find(|read| read.shown.version < good.reads[last].shown.version)
        .unwrap();
    let mut stale = good.clone();
    stale.reads[last].shown = older.shown.clone();
    stale.check().unwrap_err();

    let is_set = |asked: &carts::Asked| {
        matches!((&asked.change, &asked.outcome), (Change::Set(..), Outcome::Done(_)))
    };
    let made = good.changes.iter().position(is_set).unwrap();
    let mut never_asked = good.clone();
    never_asked.changes.remove(made);
    never_asked.check().unwrap_err();
    let mut refused = good.clone();
    refused.changes[made].outcome = Outcome::Refused;
    refused.check().unwrap_err();

    let mut twice = good.clone();
    let again = carts::Shown {
        version: good.reads[last].shown.version + 1,
        ..good.reads[last].shown.clone()
    };
    twice.reads.push(carts::Read { shown: again, ..good.reads[last].clone() });
    twice.check().unwrap_err();
}

fn assert_corrupt_stock_histories_fail(good: &stock::History) {
    let last = good.reads.len() - 1;
    let older = good
        .reads
        .iter()
        .rev()
        .find(|read| read.shown.version < good.reads[last].shown.version)
        .unwrap();
    let mut stale = good.clone();
    stale.reads[last].shown = older.shown;
    stale.check().unwrap_err();

    let done =
        good.changes.iter().position(|asked| matches!(asked.outcome, Outcome::Done(_))).unwrap();
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
