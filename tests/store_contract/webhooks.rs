//! Webhooks: endpoints, cursors, what waits, attempts, and who delivers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use souk::{
    domain::{
        clock::Timestamp,
        ids::{AttemptId, EventId, UserId, WebhookId},
        webhook::{
            DeliveryAttempt, DeliveryError, DeliveryStatus, FormerSecret, PauseReason,
            PendingDelivery, Webhook, WebhookDetails,
        },
    },
    events::{OutboxCursor, OutboxPosition},
    store::{
        Commit, CommitError, Store, Write,
        webhook_store::{WEBHOOK_SHARDS, WebhookHeads, WebhookProgress, WebhookState},
    },
};
use uuid::Uuid;

use crate::{
    fixtures::{apply, apply_one, cart, cart_commit, commit, customer, now},
    harness::Harness,
};

fn webhook() -> Webhook {
    Webhook {
        id: WebhookId::new(),
        details: WebhookDetails {
            url: "https://erp.example/hook?a=1&b=ä".into(),
            types: vec!["order.*".into(), "cart.merged".into()],
            description: Some("Wärehouse ✓".into()),
        },
        paused: None,
        sealed_secret: "c2VjcmV0".into(),
        former_secret: None,
        created_by: UserId::new(),
        created_at: now(),
        updated_at: now(),
        version: 1,
        event_sequence: 3,
        start: "0.17-3.2".into(),
        deleted: false,
    }
}

fn put(webhook: &Webhook) -> Commit {
    commit([Write::Webhook(Arc::new(webhook.clone()))])
}

fn pending(webhook: WebhookId, due_at: Option<i64>) -> PendingDelivery {
    PendingDelivery {
        webhook_id: webhook,
        event_id: EventId::new(),
        kind: "order.paid".into(),
        subject: Uuid::from_u128(7),
        body: Bytes::from_static("{\"name\":\"Thé\"}".as_bytes()),
        attempts: 2,
        due_at: due_at.map(Timestamp::from_millis),
        requested: false,
        updated_at: now(),
    }
}

fn attempt(webhook: WebhookId, event: EventId, status: DeliveryStatus) -> DeliveryAttempt {
    DeliveryAttempt {
        id: AttemptId::new(),
        webhook_id: webhook,
        event_id: event,
        kind: "order.paid".into(),
        subject: Uuid::from_u128(7),
        attempt: 1,
        status,
        status_code: Some(200),
        error: None,
        duration: Duration::from_millis(84),
        at: now(),
        next_at: None,
        position: Some(17),
    }
}

fn progress(webhook: WebhookId, offset: u64) -> WebhookProgress {
    let cursor = [OutboxPosition { partition: 0, offset }].into_iter().collect();
    WebhookProgress {
        webhook_id: Some(webhook),
        state: WebhookState { cursor: Some(cursor), failing_since: None },
        ..WebhookProgress::default()
    }
}

async fn save(store: &dyn Store, node: Uuid, progress: WebhookProgress) {
    store.save_webhook_progress(node, [progress].into()).await.unwrap();
}

pub(crate) async fn webhooks_round_trip_and_are_listed(harness: &dyn Harness) {
    let store = harness.open().await;
    assert_eq!(store.list_webhook_heads().await, Ok(WebhookHeads::default()));
    let first = webhook();
    let former = FormerSecret { sealed: "b2xk".into(), valid_until: now() };
    let details = WebhookDetails { description: None, ..webhook().details };
    let paused = Some(PauseReason::Gone);
    let second = Webhook { former_secret: Some(former), paused, details, ..webhook() };
    apply(&*store, [&first, &second].map(put)).await;
    assert_eq!(apply_one(&*store, put(&first)).await, Err(CommitError::Conflict));
    store.close().await;
    let store = harness.open().await;
    for one in [&first, &second] {
        assert_eq!(store.find_webhook(one.id).await, Ok(Some(one.clone())));
    }
    assert_eq!(store.find_webhook(WebhookId::new()).await, Ok(None));
    let page = store.list_webhooks(None, 1).await.unwrap();
    assert_eq!(page, std::slice::from_ref(&second), "newest first");
    assert_eq!(store.list_webhooks(Some(second.id), 9).await, Ok(vec![first.clone()]));
    let next = first.next_version(now());
    apply_one(&*store, put(&next)).await.unwrap();
    apply_one(&*store, put(&second.to_deleted(now()))).await.unwrap();
    assert_eq!(store.find_webhook(second.id).await, Ok(None));
    let heads = store.list_webhook_heads().await.unwrap();
    assert_eq!((heads.webhooks, heads.requested), (vec![(first.id, 2)], vec![]));
}

pub(crate) async fn requested_deliveries_are_found_until_they_are_made(harness: &dyn Harness) {
    let store = harness.open().await;
    let (hook, node) = (webhook(), Uuid::from_u128(1));
    apply_one(&*store, put(&hook)).await.unwrap();
    let asked = PendingDelivery { requested: true, ..pending(hook.id, Some(5_000)) };
    let request = || commit([Write::WebhookDelivery(Arc::new(asked.clone()))]);
    apply(&*store, [request(), request()]).await;
    assert_eq!(store.list_webhook_heads().await.unwrap().requested, [hook.id]);
    assert_eq!(store.list_waiting_deliveries(hook.id, 9).await, Ok(vec![asked.clone()]));
    store.open_webhook(hook.id, node).await.unwrap();
    let after = PendingDelivery { requested: false, ..asked.clone() };
    let failed = WebhookProgress { pending: vec![after.clone()], ..progress(hook.id, 1) };
    save(&*store, node, failed).await;
    assert!(store.list_webhook_heads().await.unwrap().requested.is_empty());
    assert_eq!(store.find_delivery(hook.id, asked.event_id).await, Ok((None, Some(after))));
}

/// Staff asks for an event while an attempt that began before is in progress.
pub(crate) async fn request_during_an_attempt_stays(harness: &dyn Harness) {
    let store = harness.open().await;
    let (hook, node) = (webhook(), Uuid::from_u128(1));
    apply_one(&*store, put(&hook)).await.unwrap();
    let began = now();
    let asked_at = began.saturating_add(Duration::from_secs(1));
    let asked = PendingDelivery {
        requested: true,
        updated_at: asked_at,
        ..pending(hook.id, Some(asked_at.as_millis()))
    };
    let request = commit([Write::WebhookDelivery(Arc::new(asked.clone()))]);
    apply_one(&*store, request).await.unwrap();
    let after = PendingDelivery {
        attempts: 3,
        due_at: None,
        requested: false,
        updated_at: began,
        ..asked.clone()
    };
    let failed = WebhookProgress { pending: vec![after], ..progress(hook.id, 1) };
    let delivered = WebhookProgress { done: vec![(asked.event_id, began)], ..progress(hook.id, 1) };
    for earlier in [failed, delivered] {
        save(&*store, node, earlier).await;
        let counted = PendingDelivery { attempts: 3, ..asked.clone() };
        assert_eq!(store.list_waiting_deliveries(hook.id, 9).await, Ok(vec![counted]));
        assert_eq!(store.list_webhook_heads().await.unwrap().requested, [hook.id]);
    }
    let done = vec![(asked.event_id, asked_at)];
    save(&*store, node, WebhookProgress { done, ..progress(hook.id, 1) }).await;
    assert_eq!(store.count_waiting_deliveries(hook.id).await, Ok(0));
}

pub(crate) async fn progress_is_kept_of_the_node_that_delivers(harness: &dyn Harness) {
    let store = harness.open().await;
    let (hook, first, second) = (webhook(), Uuid::from_u128(1), Uuid::from_u128(2));
    apply_one(&*store, put(&hook)).await.unwrap();
    assert_eq!(store.open_webhook(hook.id, first).await, Ok(WebhookState::default()));
    let failing_since = Some(Timestamp::from_millis(77));
    let mut ahead = progress(hook.id, 5);
    ahead.state.failing_since = failing_since;
    let state = ahead.state.clone();
    save(&*store, first, ahead).await;
    store.close().await;
    let store = harness.open().await;
    assert_eq!(store.open_webhook(hook.id, second).await, Ok(state.clone()));
    // The first node has not noticed: it takes nothing back, and moves nothing on.
    for offset in [3, 9] {
        save(&*store, first, progress(hook.id, offset)).await;
    }
    assert_eq!(store.open_webhook(hook.id, second).await, Ok(state));
    save(&*store, second, progress(hook.id, 6)).await;
    let opened = store.open_webhook(hook.id, second).await.unwrap();
    assert_eq!(opened, progress(hook.id, 6).state);
}

pub(crate) async fn waiting_deliveries_are_listed_by_due_time(harness: &dyn Harness) {
    let store = harness.open().await;
    let (hook, other, node) = (webhook(), webhook(), Uuid::from_u128(1));
    apply(&*store, [put(&hook), put(&other)]).await;
    let waiting = [30, 10, 20].map(|due| pending(hook.id, Some(due)));
    let failed = pending(hook.id, None);
    let all = [waiting.to_vec(), vec![failed.clone()]].concat();
    let written = WebhookProgress { pending: all, ..progress(hook.id, 1) };
    save(&*store, node, written.clone()).await;
    // Written again after an unknown outcome.
    save(&*store, node, written).await;
    let [third, first, second] = waiting;
    let listed = store.list_waiting_deliveries(hook.id, 2).await.unwrap();
    assert_eq!(listed, [first.clone(), second.clone()]);
    assert_eq!(store.count_waiting_deliveries(hook.id).await, Ok(3));
    assert_eq!(store.count_waiting_deliveries(other.id).await, Ok(0));
    let done = vec![(first.event_id, now()), (EventId::new(), now())];
    save(&*store, node, WebhookProgress { done, ..progress(hook.id, 1) }).await;
    let listed = store.list_waiting_deliveries(hook.id, 9).await.unwrap();
    assert_eq!(listed, [second, third]);
    let found = store.find_delivery(hook.id, failed.event_id).await.unwrap();
    assert_eq!(found, (None, Some(failed)), "what has failed can be delivered again");
}

pub(crate) async fn attempts_are_paged_and_trimmed(harness: &dyn Harness) {
    let store = harness.open().await;
    let (hook, node) = (webhook(), Uuid::from_u128(1));
    apply_one(&*store, put(&hook)).await.unwrap();
    let event = EventId::new();
    let failed = DeliveryAttempt {
        status_code: None,
        error: Some(DeliveryError::AddressNotAllowed),
        next_at: Some(Timestamp::from_millis(1_999_999_999_123)),
        position: None,
        ..attempt(hook.id, event, DeliveryStatus::Retrying)
    };
    let delivered = attempt(hook.id, event, DeliveryStatus::Delivered);
    let last = attempt(hook.id, EventId::new(), DeliveryStatus::Failed);
    let attempts = vec![failed.clone(), delivered.clone(), last.clone()];
    let gone = pending(hook.id, None);
    let old = PendingDelivery { updated_at: Timestamp::from_millis(5), ..gone };
    let kept = PendingDelivery { updated_at: last.at, ..pending(hook.id, None) };
    let rows = vec![old.clone(), kept.clone()];
    let written = WebhookProgress { attempts, pending: rows, ..progress(hook.id, 1) };
    save(&*store, node, written).await;
    let list = async |status, before, limit| {
        store.list_delivery_attempts(hook.id, status, before, limit).await.unwrap()
    };
    assert_eq!(list(None, None, 2).await, [last.clone(), delivered.clone()]);
    assert_eq!(list(None, Some(delivered.id), 2).await, std::slice::from_ref(&failed));
    assert_eq!(list(Some(DeliveryStatus::Retrying), None, 9).await, std::slice::from_ref(&failed));
    let found = store.find_delivery(hook.id, event).await.unwrap();
    assert_eq!(found, (Some(delivered.clone()), None), "the last one");
    store.trim_webhook_attempts(hook.id, Timestamp::from_millis(0), 2).await.unwrap();
    assert_eq!(list(None, None, 9).await, [last.clone(), delivered]);
    let row = async |event| store.find_delivery(hook.id, event).await.unwrap().1;
    assert_eq!((row(old.event_id).await, row(kept.event_id).await), (None, Some(kept)));
    store.trim_webhook_attempts(hook.id, Timestamp::NEVER, 9).await.unwrap();
    assert!(list(None, None, 9).await.is_empty());
}

/// Only the first attempt comes from the outbox, and is wanted for another delivery.
pub(crate) async fn last_attempt_has_the_position_of_the_first(harness: &dyn Harness) {
    let store = harness.open().await;
    let (hook, event) = (webhook(), EventId::new());
    apply_one(&*store, put(&hook)).await.unwrap();
    let first = attempt(hook.id, event, DeliveryStatus::Retrying);
    let delivered = attempt(hook.id, event, DeliveryStatus::Delivered);
    let second = DeliveryAttempt { attempt: 2, position: None, ..delivered };
    let attempts = vec![first.clone(), second.clone()];
    let written = WebhookProgress { attempts, ..progress(hook.id, 1) };
    save(&*store, Uuid::from_u128(1), written).await;
    let expected = DeliveryAttempt { position: first.position, ..second };
    assert_eq!(store.find_delivery(hook.id, event).await, Ok((Some(expected), None)));
}

pub(crate) async fn remains_of_deleted_webhooks_are_deleted(harness: &dyn Harness) {
    let store = harness.open().await;
    let (hook, kept, node) = (webhook(), webhook(), Uuid::from_u128(1));
    apply(&*store, [put(&hook), put(&kept)]).await;
    for id in [hook.id, kept.id] {
        store.open_webhook(id, node).await.unwrap();
        let event = pending(id, Some(5));
        let attempts = vec![attempt(id, event.event_id, DeliveryStatus::Retrying)];
        let written = WebhookProgress { attempts, pending: vec![event], ..progress(id, 1) };
        save(&*store, node, written).await;
    }
    assert_eq!(store.delete_webhook_remains().await, Ok(0));
    apply_one(&*store, put(&hook.to_deleted(now()))).await.unwrap();
    assert_eq!(store.delete_webhook_remains().await, Ok(3));
    assert_eq!(store.delete_webhook_remains().await, Ok(0));
    assert_eq!(store.count_waiting_deliveries(hook.id).await, Ok(0));
    assert_eq!(store.count_waiting_deliveries(kept.id).await, Ok(1));
}

pub(crate) async fn nodes_share_the_endpoints_of_a_shop(harness: &dyn Harness) {
    const LONG: Duration = Duration::from_secs(600);
    let store = harness.open().await;
    let all = WEBHOOK_SHARDS as usize;
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let alone = store.renew_webhook_leases(first, LONG).await.unwrap();
    assert_eq!((alone.shards.len(), alone.fair_share), (all, all));
    if !store.is_shared() {
        return;
    }
    let late = store.renew_webhook_leases(second, LONG).await.unwrap();
    assert_eq!((late.shards.len(), late.fair_share), (0, all / 2), "all leases are taken");
    let shared = store.renew_webhook_leases(first, LONG).await.unwrap();
    assert_eq!((shared.shards.len(), shared.fair_share), (all, all / 2));
    let excess: Vec<u32> = shared.shards[all / 2..].to_vec();
    store.release_webhook_leases(first, excess.clone()).await.unwrap();
    // Not even a node that may have more takes one that another one has.
    let mut taken = store.renew_webhook_leases(second, LONG).await.unwrap().shards;
    taken.sort_unstable();
    let mut expected = excess;
    expected.sort_unstable();
    assert_eq!(taken, expected);
    assert_eq!(store.renew_webhook_leases(first, LONG).await.unwrap().shards.len(), all / 2);
    // A node that stops renews nothing more; the other one gets everything when the leases end.
    store.renew_webhook_leases(second, Duration::ZERO).await.unwrap();
    let left = store.renew_webhook_leases(first, LONG).await.unwrap();
    assert_eq!((left.shards.len(), left.fair_share), (all, all));
    let back = store.renew_webhook_leases(second, LONG).await.unwrap();
    assert_eq!(back.shards.len(), 0);
}

pub(crate) async fn events_are_kept_for_endpoints_that_have_not_heard_them(harness: &dyn Harness) {
    const EVENTS: u64 = 22_000;
    let store = harness.open().await;
    let (hook, node) = (webhook(), Uuid::from_u128(1));
    let heads = store.outbox_heads().await.unwrap();
    apply_one(&*store, put(&Webhook { start: heads.to_string(), ..hook.clone() })).await.unwrap();
    let owner = customer();
    let write = async |versions: std::ops::RangeInclusive<u64>| {
        for version in versions {
            let change = cart_commit(&cart(owner, version));
            let events = vec![change.events[0].clone(); 1_000];
            apply(&*store, [Commit { events, ..change }]).await;
        }
    };
    write(1..=EVENTS / 1_000).await;
    let first = store.list_events_after(&OutboxCursor::default(), 1).await.unwrap();
    assert!(!first.has_gap, "the endpoint has heard nothing");
    store.open_webhook(hook.id, node).await.unwrap();
    let cursor = Some(store.outbox_heads().await.unwrap());
    let state = WebhookState { cursor, failing_since: None };
    save(&*store, node, WebhookProgress { state, ..progress(hook.id, 1) }).await;
    write(EVENTS / 1_000 + 1..=EVENTS / 1_000 + 1).await;
    let trimmed = async {
        while !store.list_events_after(&OutboxCursor::default(), 1).await.unwrap().has_gap {
            // The nodes of a cluster delete every few seconds.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), trimmed).await.expect("no event is deleted");
}
