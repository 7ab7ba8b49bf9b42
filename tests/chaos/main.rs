//! A shop on MongoDB while servers, connections and nodes fail: no acknowledged write is lost,
//! nothing is applied twice, every client gets an answer in time, and service resumes by itself.
#![cfg(test)]

mod deadlines;
mod load;
#[path = "../support/members.rs"]
mod members;
mod processes;
#[path = "../support/proxy.rs"]
#[expect(dead_code, reason = "other test crates use the rest")]
mod proxy;
#[path = "../support/replica_set.rs"]
mod replica_set;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "other test crates use the rest")]
mod support;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use mongodb::bson::{Document, doc};
use tokio::time::sleep;

use self::{load::Load, members::Members, proxy::Proxy};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_resumes_after_primary_failure_and_step_down() {
    let Some(mut members) = Members::start(3).await else { return };
    let load = Load::start(&Members::uri(members.hosts()), 2, 24).await;
    load.wait_for_purchases(200).await;
    let primary = members.primary().await;
    members.kill(primary);
    eprintln!(
        "service resumed {:?} after the primary was killed",
        load.wait_for_purchases(1).await
    );
    load.wait_for_purchases(200).await;
    members.restart(primary);
    sleep(Duration::from_secs(2)).await;
    let primary = members.primary().await;
    let admin = replica_set::direct(&members.hosts()[primary]).await.database("admin");
    admin
        .run_command(doc! { "replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 5 })
        .await
        .unwrap();
    eprintln!(
        "service resumed {:?} after the primary had stepped down",
        load.wait_for_purchases(1).await
    );
    load.wait_for_purchases(200).await;
    load.stop_and_verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_resumes_after_all_servers_were_down() {
    let Some(mut members) = Members::start(1).await else { return };
    let load = Load::start(&Members::uri(members.hosts()), 2, 24).await;
    load.wait_for_purchases(200).await;
    members.kill(0);
    sleep(Duration::from_secs(20)).await;
    let done = load.counts().done.load(Ordering::Acquire);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(
        load.counts().done.load(Ordering::Acquire),
        done,
        "nothing is acknowledged without servers"
    );
    assert!(load.counts().not_done.load(Ordering::Acquire) > 0);
    members.restart(0);
    eprintln!("service resumed {:?} after the servers came back", load.wait_for_purchases(1).await);
    load.wait_for_purchases(200).await;
    load.stop_and_verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_transaction_does_not_block_other_nodes() {
    let Some(members) = Members::start(1).await else { return };
    let uri = Members::uri(members.hosts());
    let nodes = [load::connect(&uri).await, load::connect(&uri).await];
    let mut waits = Vec::new();
    for _ in 0..3 {
        load::change(&*nodes[0], Duration::from_secs(30)).await.unwrap();
        members.signal(0, "STOP");
        load::change(&*nodes[0], Duration::from_secs(1)).await.unwrap_err();
        // The server now takes locks for a request that the node has given up.
        members.signal(0, "CONT");
        let began = Instant::now();
        load::change(&*nodes[1], Duration::from_secs(60)).await.unwrap();
        waits.push(began.elapsed());
    }
    eprintln!("the other node continued after {waits:?}");
    waits.sort_unstable();
    // The server itself would free the lock after 5 s.
    assert!(waits[1] < Duration::from_secs(4), "{waits:?}");
}

/// Some maintenance commands wait for a majority. They must not delay the heartbeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_continue_without_a_majority() {
    let Some(members) = Members::start(3).await else { return };
    let store =
        load::connect_with_timeout(&Members::uri(members.hosts()), Duration::from_secs(5)).await;
    load::change(&*store, Duration::from_secs(30)).await.unwrap();
    store.mark_published(&store.outbox_heads().await.unwrap()).await.unwrap();
    let primary = members.primary().await;
    let database = replica_set::direct(&members.hosts()[primary]).await.database("shop");
    // A far head makes the first event old enough for the deletion, which is maintenance.
    let many = doc! { "$set": { "last": 100_000_i64 } };
    let outbox = database.collection::<Document>("outbox");
    let moved = outbox.update_one(doc! { "_id": { "partition": 0_i64 } }, many).await.unwrap();
    assert_eq!(moved.modified_count, 1);
    let nodes = database.collection::<Document>("nodes");
    // The secondaries still answer the primary but write nothing.
    let have_others = async |command: Document| {
        for index in (0..3).filter(|index| *index != primary) {
            let admin = replica_set::direct(&members.hosts()[index]).await.database("admin");
            admin.run_command(command.clone()).await.unwrap();
        }
    };
    have_others(doc! { "fsync": 1, "lock": true }).await;
    let locked = Instant::now();
    let mut silence = Duration::ZERO;
    let (mut last, mut since) = (None, Instant::now());
    // A node runs maintenance every 5 s and counts as dead after 2.5 s.
    while locked.elapsed() < Duration::from_secs(11) {
        let at = nodes
            .find_one(doc! {})
            .await
            .unwrap()
            .and_then(|node| node.get_datetime("at").ok().copied());
        if std::mem::replace(&mut last, at) != at {
            since = Instant::now();
        }
        silence = silence.max(since.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    have_others(doc! { "fsyncUnlock": 1 }).await;
    eprintln!("the longest time without a heartbeat was {silence:?}");
    // With heartbeats behind maintenance it would be 5 s.
    assert!(silence < Duration::from_secs(4), "{silence:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_survive_cut_connections() {
    let Some(mut members) = Members::start_uninitiated(1) else { return };
    let proxy = Proxy::start(members.hosts()[0].clone()).await;
    // The proxy's address as host name leaves no way around the proxy.
    let hosts = [proxy.host.clone()];
    members.initiate(&hosts).await;
    let load = Load::start(&Members::uri(&hosts), 2, 24).await;
    load.wait_for_purchases(100).await;
    proxy.lose_commit_responses(3);
    load.wait_for_purchases(300).await;
    assert!(proxy.lost_count() > 0, "no response was lost");
    // The node cannot ask again either: the outcome stays unknown until the deadline.
    for _ in 0..3 {
        proxy.lose_commit_responses(1);
        while load.counts().done.load(Ordering::Acquire) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_millis(100)).await;
        proxy.cut();
        sleep(Duration::from_millis(2500)).await;
        proxy.lose_commit_responses(0);
        proxy.restore();
        eprintln!("service resumed {:?} after a cut", load.wait_for_purchases(1).await);
        load.wait_for_purchases(100).await;
    }
    let counts = load.counts();
    eprintln!(
        "{} responses lost; {} outcomes unknown",
        proxy.lost_count(),
        counts.unknown.load(Ordering::Acquire)
    );
    assert!(counts.unknown.load(Ordering::Acquire) > 0);
    load.stop_and_verify().await;
}
