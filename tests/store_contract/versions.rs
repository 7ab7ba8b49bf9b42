//! A record is written only over the version it was decided on.

use souk::{
    domain::{
        account::{Session, User},
        cart::Cart,
        catalog::product::Product,
        order::Order,
    },
    store::{CommitError, Store, Write},
};

use crate::{
    fixtures::{
        apply, apply_one, cart, commit, customer, order, product, put_cart, put_order, put_product,
        put_session, put_user, session, user,
    },
    harness::Harness,
};

/// Writes a record at a given version.
type AtVersion = Box<dyn Fn(u64) -> Write>;

/// A record of each kind.
fn record_kinds() -> Vec<(&'static str, AtVersion)> {
    let (cart, product, user) =
        (cart(customer(), 1), product(Some("TEA")), user("ada@example.com"));
    let (session, order) = (session(user.id), order(user.id));
    vec![
        ("cart", Box::new(move |version| put_cart(&Cart { version, ..cart.clone() }))),
        ("product", Box::new(move |version| put_product(&Product { version, ..product.clone() }))),
        ("order", Box::new(move |version| put_order(&Order { version, ..order.clone() }))),
        ("user", Box::new(move |version| put_user(&User { version, ..user.clone() }))),
        ("session", Box::new(move |version| put_session(&Session { version, ..session.clone() }))),
    ]
}

async fn write_record(store: &dyn Store, write: Write) -> Result<(), CommitError> {
    apply_one(store, commit([write])).await.map(drop)
}

pub(crate) async fn first_version_is_stored_once(harness: &dyn Harness) {
    let store = harness.open().await;
    for (kind, version) in record_kinds() {
        assert_eq!(
            write_record(&*store, version(2)).await,
            Err(CommitError::Conflict),
            "{kind}: version 1 does not exist"
        );
        assert_eq!(
            write_record(&*store, version(0)).await,
            Err(CommitError::Conflict),
            "{kind}: 0 is not a version"
        );
        assert_eq!(write_record(&*store, version(1)).await, Ok(()), "{kind}");
        assert_eq!(
            write_record(&*store, version(1)).await,
            Err(CommitError::Conflict),
            "{kind}: the record exists already"
        );
    }
}

pub(crate) async fn next_version_requires_the_previous_one(harness: &dyn Harness) {
    let mut store = harness.open().await;
    for (kind, version) in record_kinds() {
        for next in 1..=3 {
            assert_eq!(write_record(&*store, version(next)).await, Ok(()), "{kind} {next}");
        }
        store.close().await;
        store = harness.open().await;
        for wrong in [1, 2, 3, 5, u64::MAX] {
            assert_eq!(
                write_record(&*store, version(wrong)).await,
                Err(CommitError::Conflict),
                "{kind} {wrong} on 3"
            );
        }
        assert_eq!(write_record(&*store, version(4)).await, Ok(()), "{kind}");
    }
}

pub(crate) async fn versions_follow_each_other_within_a_batch(harness: &dyn Harness) {
    let store = harness.open().await;
    for (kind, version) in record_kinds() {
        let batch = [1, 2, 4, 3, 3, 4].map(|n| commit([version(n)]));
        let outcomes = apply(&*store, batch).await.outcomes;
        let done: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(done, [true, true, false, true, false, true], "{kind}");
        assert_eq!(write_record(&*store, version(5)).await, Ok(()), "{kind}: version 4 is stored");
    }
}

pub(crate) async fn first_of_two_commits_on_the_same_version_wins(harness: &dyn Harness) {
    let store = harness.open().await;
    let first = cart(customer(), 1);
    let second = cart(first.owner, 1);
    let outcomes =
        apply(&*store, [commit([put_cart(&first)]), commit([put_cart(&second)])]).await.outcomes;
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1], Err(CommitError::Conflict));
    assert_eq!(store.find_cart(first.owner.id).await, Ok(Some(first)));
}
