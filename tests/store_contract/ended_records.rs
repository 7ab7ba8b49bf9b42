//! Sessions and guest carts that have ended are deleted.

use std::{sync::Arc, time::Duration};

use mongodb::bson::{Document, doc};
use souk::{
    domain::{
        account::{ENDED_SESSION_RETENTION, Session},
        cart::{Cart, CartOwner, GUEST_LIFETIME},
        clock::Timestamp,
        ids::UserId,
    },
    store::Store,
};
use uuid::Uuid;

use crate::{
    fixtures::{
        apply, apply_one, cart, commit, customer, now, put_cart, put_session, put_user, session,
        user,
    },
    harness::{Harness, Mongo},
    migration::set_schema_version,
};

const MINUTE: Duration = Duration::from_secs(60);

fn ago(span: Duration) -> Timestamp {
    now().saturating_sub(span)
}

fn revoked(at: Timestamp) -> Session {
    Session { revoked_at: Some(at), ..session(UserId::new()) }
}

/// The owner of a cart, created at this time.
fn owner(is_guest: bool, at: Timestamp) -> CartOwner {
    let random = UserId::new().as_uuid().as_u128() & (u128::MAX >> 48);
    let id = UserId::earliest_at(at).as_uuid().as_u128() | random;
    CartOwner { id: Uuid::from_u128(id).into(), is_guest }
}

async fn delete_all(store: &dyn Store) -> u64 {
    let mut total = 0;
    loop {
        match store.delete_ended_records().await.unwrap() {
            0 => return total,
            deleted => total += deleted,
        }
    }
}

pub(crate) async fn ended_sessions_and_guest_carts_are_deleted(harness: &dyn Harness) {
    let store = harness.open().await;
    let due = ENDED_SESSION_RETENTION + MINUTE;
    let expired = |at| Session { expires_at: at, ..session(UserId::new()) };
    let gone = [revoked(ago(due)), expired(ago(due))];
    let kept = [
        revoked(ago(ENDED_SESSION_RETENTION - MINUTE)),
        expired(ago(ENDED_SESSION_RETENTION - MINUTE)),
        session(UserId::new()),
    ];
    let sessions = gone.iter().chain(&kept).map(|session| commit([put_session(session)]));
    apply(&*store, sessions).await;
    let guest = |age| owner(true, ago(age));
    let old = || guest(GUEST_LIFETIME + due);
    let young = || guest(GUEST_LIFETIME + ENDED_SESSION_RETENTION - MINUTE);
    let merged = |owner| Cart { lines: vec![], merged_into: Some(UserId::new()), ..cart(owner, 1) };
    let abandoned = |owner| Cart { abandoned: true, ..cart(owner, 1) };
    let empty = |owner| Cart { lines: vec![], ..cart(owner, 1) };
    let gone_carts = [merged(old()), abandoned(old()), empty(old())];
    let kept_carts = [
        merged(young()),
        abandoned(young()),
        empty(young()),
        // Not reported as abandoned yet.
        cart(old(), 1),
        abandoned(owner(false, ago(GUEST_LIFETIME + due))),
        cart(customer(), 1),
    ];
    let carts = gone_carts.iter().chain(&kept_carts).map(|cart| commit([put_cart(cart)]));
    apply(&*store, carts).await;
    assert_eq!(delete_all(&*store).await, 5);
    for session in gone {
        assert_eq!(store.find_session(session.id).await, Ok(None));
    }
    for session in kept {
        assert_eq!(store.find_session(session.id).await, Ok(Some(session)));
    }
    for cart in gone_carts {
        assert_eq!(store.find_cart(cart.owner.id).await, Ok(None));
    }
    for cart in kept_carts {
        assert_eq!(store.find_cart(cart.owner.id).await, Ok(Some(cart)));
    }
}

pub(crate) async fn ended_records_are_deleted_a_few_at_a_time(harness: &dyn Harness) {
    const COUNT: u64 = 1000;
    let store = harness.open().await;
    let at = ago(ENDED_SESSION_RETENTION + MINUTE);
    apply_one(&*store, commit((0..COUNT).map(|_| put_session(&revoked(at))))).await.unwrap();
    let mut deletions = 0;
    loop {
        match store.delete_ended_records().await.unwrap() {
            0 => break,
            deleted => assert!(deleted <= 200, "{deleted} at once"),
        }
        deletions += 1;
    }
    assert!(deletions >= 5);
    assert_eq!(store.list_sessions_revoked_since(Timestamp::from_millis(0)).await, Ok(vec![]));
}

/// Two nodes delete while a third one commits.
pub(crate) async fn deleting_beside_commits_loses_nothing(harness: &dyn Harness) {
    const COUNT: usize = 600;
    let store = harness.open().await;
    let at = ago(ENDED_SESSION_RETENTION + MINUTE);
    apply_one(&*store, commit((0..COUNT).map(|_| put_session(&revoked(at))))).await.unwrap();
    let deleting = |store: Arc<dyn Store>| async move { delete_all(&*store).await };
    let committing = async {
        let mut written = Vec::new();
        for n in 0..50 {
            let ada = user(&format!("ada{n}@example.com"));
            let login = session(ada.id);
            apply_one(&*store, commit([put_user(&ada), put_session(&login)])).await.unwrap();
            written.push(login);
        }
        written
    };
    let (first, second, written) =
        tokio::join!(deleting(Arc::clone(&store)), deleting(Arc::clone(&store)), committing);
    assert_eq!(first + second, COUNT as u64);
    for login in written {
        assert_eq!(store.find_session(login.id).await, Ok(Some(login)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn carts_of_schema_version_10_are_found_after_the_upgrade() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let old = || owner(true, ago(GUEST_LIFETIME + ENDED_SESSION_RETENTION + MINUTE));
    let idle = Cart { updated_at: Timestamp::from_millis(999), ..cart(customer(), 1) };
    let abandoned = Cart { abandoned: true, ..cart(old(), 1) };
    let in_use = cart(old(), 1);
    let puts = [&idle, &abandoned, &in_use].map(|cart| commit([put_cart(cart)]));
    apply(&*store, puts).await;
    store.close().await;
    // The form of version 10.
    let database = mongo.raw_database();
    let carts = database.collection::<Document>("carts");
    let dates = doc! { "maintenance": { "$type": "date" } };
    let rename = doc! { "$rename": { "maintenance": "idle_since" } };
    assert_eq!(carts.update_many(dates, rename).await.unwrap().modified_count, 2);
    let unset = doc! { "$unset": { "maintenance": "" } };
    assert_eq!(carts.update_many(doc! {}, unset).await.unwrap().modified_count, 1);
    carts.drop_index("maintenance").await.unwrap();
    let indexes = [
        doc! { "name": "idle", "key": { "idle_since": 1 }, "sparse": true },
        doc! { "name": "of_guests", "key": { "guest": 1, "_id": 1 } },
    ];
    let create = doc! { "createIndexes": "carts", "indexes": indexes.to_vec() };
    database.run_command(create).await.unwrap();
    set_schema_version(&mongo, 10).await;

    let store = mongo.open().await;
    assert_eq!(store.list_idle_carts(Timestamp::from_millis(1000), 10).await, Ok(vec![idle.owner]));
    assert_eq!(delete_all(&*store).await, 1);
    for (cart, is_kept) in [(idle, true), (abandoned, false), (in_use, true)] {
        assert_eq!(store.find_cart(cart.owner.id).await, Ok(is_kept.then_some(cart)));
    }
    let mut names = carts.list_index_names().await.unwrap();
    names.sort();
    assert_eq!(names, ["_id_", "maintenance"]);
    mongo.drop_database().await;
}
