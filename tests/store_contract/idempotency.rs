//! A key makes a repeat harmless: for a day, after a restart, and within one batch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use souk::{
    domain::{
        clock::{Clock, Timestamp},
        ids::UserId,
        inventory::StockChange,
    },
    events::inventory::stock_json,
    messages::command_context::{IdempotencyKey, StoredReply},
    store::{
        Commit, CommitError, StoredReplyUsage,
        commit::{IdempotencyRecord, StoredReplyBody},
    },
};

use crate::{
    fixtures::{
        apply, apply_one, cart, cart_commit, commit, customer, events, key, now, put_cart,
        remembered_response, stock, stock_level, stocked_product, with_response,
    },
    harness::Harness,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MINUTE: Duration = Duration::from_secs(60);

pub(crate) async fn repeat_gets_the_first_response_after_reopening(harness: &dyn Harness) {
    let store = harness.open().await;
    let cart = cart(customer(), 1);
    let key = key(cart.owner.id, "key", 1);
    apply_one(&*store, with_response(cart_commit(&cart), &key, "first")).await.unwrap();
    let before = events(&*store).await;
    store.close().await;
    let store = harness.open().await;
    let repeat = with_response(cart_commit(&cart), &key, "second");
    assert_eq!(
        apply_one(&*store, repeat).await,
        Err(CommitError::Replayed(remembered_response("first"))),
        "a replay comes before a version conflict"
    );
    assert_eq!(
        store.find_stored_reply(&key).await,
        Ok(Some((key.fingerprint, remembered_response("first"))))
    );
    assert_eq!(events(&*store).await, before);
}

pub(crate) async fn responses_of_any_form_are_remembered(harness: &dyn Harness) {
    let store = harness.open().await;
    let owner = UserId::new();
    let odd: String = (33..127_u8).map(char::from).collect();
    for (text, body) in [
        (odd.as_str(), Bytes::new()),
        ("bytes", (0..=255).collect()),
        ("long", vec![b'x'; 300_000].into()),
    ] {
        let key = key(owner, text, 255);
        let remember = IdempotencyRecord {
            key: key.clone(),
            body: StoredReplyBody::Ready(body.clone()),
            about: None,
        };
        apply_one(
            &*store,
            Commit { idempotency_record: Some(remember), ..cart_commit(&cart(customer(), 1)) },
        )
        .await
        .unwrap();
        assert_eq!(
            store.find_stored_reply(&key).await,
            Ok(Some(([255; 32], StoredReply { body })))
        );
    }
}

pub(crate) async fn key_identifies_one_request_of_one_owner(harness: &dyn Harness) {
    let store = harness.open().await;
    let (mine, yours) = (cart(customer(), 1), cart(customer(), 1));
    apply_one(&*store, with_response(cart_commit(&mine), &key(mine.owner.id, "key", 1), "mine"))
        .await
        .unwrap();
    let other =
        with_response(cart_commit(&cart(customer(), 1)), &key(mine.owner.id, "key", 2), "other");
    assert_eq!(apply_one(&*store, other).await, Err(CommitError::IdempotencyKeyReused));
    for (owner, text) in [(yours.owner.id, "key"), (mine.owner.id, "KEY"), (mine.owner.id, "key2")]
    {
        let fresh = with_response(cart_commit(&cart(customer(), 1)), &key(owner, text, 2), "fresh");
        assert!(apply_one(&*store, fresh).await.is_ok(), "{text}");
    }
    assert_eq!(
        store.find_stored_reply(&key(mine.owner.id, "key", 9)).await,
        Ok(Some(([1; 32], remembered_response("mine"))))
    );
}

pub(crate) async fn repeat_in_the_same_batch_is_replayed(harness: &dyn Harness) {
    let store = harness.open().await;
    let cart = cart(customer(), 1);
    let key_1 = key(cart.owner.id, "key", 1);
    let batch = [
        with_response(cart_commit(&cart), &key_1, "first"),
        with_response(cart_commit(&cart), &key_1, "second"),
        with_response(cart_commit(&cart), &key(cart.owner.id, "key", 2), "other"),
    ];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1], Err(CommitError::Replayed(remembered_response("first"))));
    assert_eq!(outcomes[2], Err(CommitError::IdempotencyKeyReused));
    assert_eq!(events(&*store).await.len(), 1);
}

pub(crate) async fn repeat_of_a_refused_request_is_decided_again(harness: &dyn Harness) {
    let store = harness.open().await;
    let cart = cart(customer(), 1);
    let key = key(cart.owner.id, "key", 1);
    let stale = with_response(
        commit([put_cart(&souk::domain::cart::Cart { version: 2, ..cart.clone() })]),
        &key,
        "stale",
    );
    assert_eq!(apply_one(&*store, stale.clone()).await, Err(CommitError::Conflict));
    assert_eq!(store.find_stored_reply(&key).await, Ok(None));
    let outcomes =
        apply(&*store, [stale, with_response(cart_commit(&cart), &key, "good")]).await.outcomes;
    assert_eq!(outcomes[0], Err(CommitError::Conflict));
    assert!(outcomes[1].is_ok());
    assert_eq!(
        store.find_stored_reply(&key).await,
        Ok(Some(([1; 32], remembered_response("good"))))
    );
}

/// On a store that only one node uses, a repeat waits for its first attempt instead.
pub(crate) async fn refusal_bars_earlier_attempts_on_other_nodes(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 1).await;
    let owner = UserId::new();
    let received = |text, seconds| {
        let received_at = now().saturating_add(Duration::from_secs(seconds));
        IdempotencyKey { received_at, ..key(owner, text, 1) }
    };
    let sale = |key: &IdempotencyKey| {
        with_response(commit([stock(id, StockChange::Adjust(-2))]), key, "sold")
    };
    let refusal = |key: IdempotencyKey| {
        let record = IdempotencyRecord { key, body: StoredReplyBody::Refused, about: None };
        Commit { idempotency_record: Some(record), ..commit([]) }
    };
    let short = apply_one(&*store, sale(&received("sale", 20))).await;
    assert!(matches!(short, Err(CommitError::InsufficientStock(_))), "{short:?}");
    assert!(apply_one(&*store, refusal(received("other", 20))).await.is_ok());
    assert!(apply_one(&*store, refusal(received("other", 10))).await.is_ok());
    apply_one(&*store, commit([stock(id, StockChange::Set(10))])).await.unwrap();
    for text in ["sale", "other"] {
        assert_eq!(store.find_stored_reply(&received(text, 0)).await, Ok(None));
        if store.is_shared() {
            let first = apply_one(&*store, sale(&received(text, 19))).await;
            assert_eq!(first, Err(CommitError::SupersededByRefusal));
        }
        assert!(apply_one(&*store, sale(&received(text, 20))).await.is_ok());
        let late = apply_one(&*store, refusal(received(text, 30))).await;
        assert_eq!(late, Err(CommitError::Replayed(remembered_response("sold"))));
    }
    assert_eq!(stock_level(&*store, id).await.on_hand, 6);
    let batch = [refusal(received("third", 20)), sale(&received("third", 10))];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert_eq!(outcomes[1], Err(CommitError::SupersededByRefusal), "in one batch, too");
}

pub(crate) async fn stored_replies_are_counted_and_compressed(harness: &dyn Harness) {
    let store = harness.open().await;
    let (owner, other) = (UserId::new(), UserId::new());
    let usage = async |owner| store.stored_reply_usage(owner).await.unwrap();
    assert_eq!(usage(owner).await, StoredReplyUsage::default());
    let line = format!(r#"{{"product_id":"{}","name":"A mug"}},"#, UserId::new());
    let cart = Bytes::from(line.repeat(200));
    let remember = |key: IdempotencyKey, body: Bytes| {
        let record = IdempotencyRecord { key, body: StoredReplyBody::Ready(body), about: None };
        Commit { idempotency_record: Some(record), ..commit([]) }
    };
    apply_one(&*store, remember(key(owner, "large", 1), cart.clone())).await.unwrap();
    let large = usage(owner).await;
    assert_eq!(large.keys, 1);
    assert!(large.bytes < cart.len() as u64 / 10, "{large:?} of {}", cart.len());
    apply_one(&*store, remember(key(owner, "small", 1), Bytes::from_static(b"{}"))).await.unwrap();
    apply_one(&*store, remember(key(other, "large", 1), cart.clone())).await.unwrap();
    let both = usage(owner).await;
    assert!(both.keys == 2 && both.bytes > large.bytes, "{both:?}");
    let reply = store.find_stored_reply(&key(owner, "large", 1)).await;
    assert_eq!(reply, Ok(Some(([1; 32], StoredReply { body: cart }))));
}

pub(crate) async fn stock_response_reflects_the_whole_batch(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 10).await;
    let key = key(UserId::new(), "key", 1);
    let adjust = |by| commit([stock(id, StockChange::Adjust(by))]);
    let remember = Some(IdempotencyRecord {
        key: key.clone(),
        body: StoredReplyBody::StockLevelOf(id),
        about: None,
    });
    let first = Commit { idempotency_record: remember, ..adjust(1) };
    let outcomes =
        apply(&*store, [adjust(5), first.clone(), adjust(-3), first.clone()]).await.outcomes;
    let after = stock_level(&*store, id).await;
    assert_eq!((after.on_hand, after.version), (13, 2));
    let remembered = StoredReply { body: stock_json(&after) };
    assert_eq!(outcomes[3], Err(CommitError::Replayed(remembered.clone())));
    apply_one(&*store, adjust(100)).await.unwrap();
    assert_eq!(
        apply_one(&*store, first).await,
        Err(CommitError::Replayed(remembered)),
        "the response is not updated later"
    );
}

pub(crate) async fn unchanged_stock_is_remembered(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 10).await;
    let before = (stock_level(&*store, id).await, events(&*store).await);
    let key = key(UserId::new(), "key", 1);
    let same = with_response(commit([stock(id, StockChange::Set(10))]), &key, "same");
    assert!(apply_one(&*store, same.clone()).await.is_ok());
    assert_eq!((stock_level(&*store, id).await, events(&*store).await), before);
    apply_one(&*store, commit([stock(id, StockChange::Set(7))])).await.unwrap();
    assert_eq!(
        apply_one(&*store, same).await,
        Err(CommitError::Replayed(remembered_response("same"))),
        "the repeat does not undo what came in between"
    );
    assert_eq!(stock_level(&*store, id).await.on_hand, 7);
}

pub(crate) async fn commit_may_hold_only_a_response(harness: &dyn Harness) {
    let store = harness.open().await;
    let owner = UserId::new();
    let (key_1, key_2) = (key(owner, "key", 1), key(owner, "key", 2));
    let only = |key, text| with_response(commit([]), key, text);
    let batch = [only(&key_1, "first"), only(&key_1, "second"), only(&key_2, "other")];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1], Err(CommitError::Replayed(remembered_response("first"))));
    assert_eq!(outcomes[2], Err(CommitError::IdempotencyKeyReused));
    assert_eq!(
        apply_one(&*store, only(&key_1, "later")).await,
        Err(CommitError::Replayed(remembered_response("first")))
    );
    assert!(events(&*store).await.is_empty());
}

pub(crate) async fn key_is_forgotten_after_a_day(harness: &dyn Harness) {
    let store = harness.open().await;
    let (mut cart, key_1) = (cart(customer(), 1), key(customer().id, "key", 1));
    let key_2 = key(key_1.owner, "key", 2);
    let yesterday = now().saturating_sub(DAY).saturating_sub(MINUTE);
    apply_one(
        &*store,
        Commit { decided_at: yesterday, ..with_response(cart_commit(&cart), &key_1, "yesterday") },
    )
    .await
    .unwrap();
    cart.version = 2;
    let almost = Commit {
        decided_at: yesterday.saturating_add(DAY).saturating_sub(MINUTE),
        ..with_response(cart_commit(&cart), &key_1, "again")
    };
    assert_eq!(
        apply_one(&*store, almost).await,
        Err(CommitError::Replayed(remembered_response("yesterday")))
    );
    assert_eq!(store.find_stored_reply(&key_1).await, Ok(None), "an expired key is not returned");
    apply_one(&*store, with_response(cart_commit(&cart), &key_2, "today")).await.unwrap();
    assert_eq!(
        store.find_stored_reply(&key_2).await,
        Ok(Some(([2; 32], remembered_response("today"))))
    );
    assert_eq!(
        apply_one(&*store, with_response(cart_commit(&cart), &key_1, "first")).await,
        Err(CommitError::IdempotencyKeyReused)
    );
}

/// A clock that stands still until a test moves it.
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

pub(crate) async fn keys_expire_by_the_given_clock(harness: &dyn Harness) {
    let decided_at = now().saturating_add(DAY * 365);
    let clock = Arc::new(ManualClock(AtomicI64::new(decided_at.as_millis())));
    let store = harness.open_with_clock(Arc::clone(&clock) as Arc<dyn Clock>).await;
    let cart = cart(customer(), 1);
    let key = key(cart.owner.id, "key", 1);
    let commit = with_response(cart_commit(&cart), &key, "first");
    apply_one(&*store, Commit { decided_at, ..commit }).await.unwrap();
    let stored = Some(([1; 32], remembered_response("first")));
    clock.0.fetch_add(i64::try_from((DAY - MINUTE).as_millis()).unwrap(), Ordering::Relaxed);
    assert_eq!(store.find_stored_reply(&key).await, Ok(stored));
    clock.0.fetch_add(i64::try_from(MINUTE.as_millis()).unwrap(), Ordering::Relaxed);
    assert_eq!(store.find_stored_reply(&key).await, Ok(None));
}

pub(crate) async fn concurrent_repeats_change_stock_once(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = stocked_product(&*store, 1000).await;
    let key = key(UserId::new(), "key", 1);
    let repeats: Vec<_> = (0..40)
        .map(|_| {
            let (store, key) = (Arc::clone(&store), key.clone());
            tokio::spawn(async move {
                apply_one(
                    &*store,
                    with_response(commit([stock(id, StockChange::Reserve(1))]), &key, "done"),
                )
                .await
            })
        })
        .collect();
    let mut done = 0;
    for repeat in repeats {
        match repeat.await.unwrap() {
            Ok(_) => done += 1,
            outcome => assert_eq!(outcome, Err(CommitError::Replayed(remembered_response("done")))),
        }
    }
    assert_eq!((done, stock_level(&*store, id).await.reserved), (1, 1));
}
