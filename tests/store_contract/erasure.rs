//! Addresses, and the erasure of accounts.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use souk::{
    domain::{
        account::{AddressBook, Email, PostalAddress, Rights, Role, Session, User, UserFilter},
        clock::Timestamp,
        ids::{AddressId, UserId},
        mail::{Mail, MailKind},
        order::{BuyerKey, Order, OrderAddress, OrderStatus},
    },
    events::{DomainEvent, parse::CacheChange},
    messages::command_context::IdempotencyKey,
    store::{
        Commit, CommitError, Condition, Store, StoredReplyUsage, Write,
        commit::{IdempotencyRecord, StoredReplyBody},
    },
};

use crate::{
    fixtures::{
        apply, apply_one, commit, key, order, put_order, put_session, put_user, session,
        shipped_order, user, with_response,
    },
    harness::Harness,
};

fn address(city: &str) -> PostalAddress {
    PostalAddress {
        name: "Ada".into(),
        line1: "12 Mint Street".into(),
        line2: Some("\"Æ\"".into()),
        city: city.into(),
        region: None,
        postal_code: "75001".into(),
        country: "FR".into(),
        phone: Some("+33 1".into()),
    }
}

fn put_addresses(book: &AddressBook) -> Write {
    Write::AddressBook(Arc::new(book.clone()))
}

fn shipping_address(fields: &[(&str, &str)]) -> Option<OrderAddress> {
    let fields = fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    OrderAddress::from_stored(fields.collect::<BTreeMap<_, _>>())
}

pub(crate) fn erasure(user: &User) -> Commit {
    let sequence = user.event_sequence + 1;
    Commit {
        conditions: vec![Condition::NoOpenOrders {
            user_id: user.id,
            guest_email: user.email_verified.then(|| user.email.clone()),
        }],
        events: vec![DomainEvent::UserDeleted { user_id: user.id, sequence }],
        ..commit([Write::EraseAccount(Arc::new(user.clone()))])
    }
}

pub(crate) async fn registered(store: &dyn Store, email: &str) -> User {
    let user = user(email);
    apply_one(store, commit([put_user(&user)])).await.unwrap();
    user
}

pub(crate) async fn address_books_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let empty = AddressBook::empty(ada.id);
    assert_eq!(store.find_address_book(ada.id).await, Ok(empty.clone()));
    let (book, first) = empty.with_new(AddressId::new(), address("Paris")).unwrap();
    let (book, _) = book.with_new(AddressId::new(), address("Lyon")).unwrap();
    let (changed, _) = book.with_replaced(&first, address("Nice"));
    let mut ada = ada;
    for book in [&book, &changed, &changed.without(first.id), &empty] {
        ada.version += 1;
        apply_one(&*store, commit([put_user(&ada), put_addresses(book)])).await.unwrap();
        assert_eq!(store.find_address_book(ada.id).await.as_ref(), Ok(book));
    }
    // The version of the account guards them.
    let stale = commit([put_user(&ada), put_addresses(&book)]);
    assert_eq!(apply_one(&*store, stale).await, Err(CommitError::Conflict));
    store.close().await;
    assert_eq!(harness.open().await.find_address_book(ada.id).await, Ok(empty));
}

/// A reply about an account or its orders that is stored for `owner`.
fn reply_about(user: UserId, key: &IdempotencyKey, body: Bytes) -> Commit {
    let record = IdempotencyRecord {
        key: key.clone(),
        body: StoredReplyBody::Ready(body),
        about: Some(user),
    };
    Commit { idempotency_record: Some(record), ..commit([]) }
}

/// A reply that is long enough to be compressed.
fn long_reply() -> Bytes {
    let name = "Ada ".repeat(300);
    format!(r#"{{"id":"7","name":"{name}","shipping_address":{{"line1":"1","country":"FR"}}}}"#)
        .into()
}

fn shipped_to(user_id: UserId, email: &Email, address: Option<OrderAddress>) -> Order {
    Order {
        expires_at: None,
        email: Some(email.clone()),
        billing_address: address.clone(),
        shipping_address: address,
        ..shipped_order(user_id)
    }
}

/// An order after its buyer's erasure, with what is left of its address.
fn anonymized(order: &Order, address: Option<OrderAddress>) -> Order {
    Order {
        anonymized: true,
        email: None,
        billing_address: address.clone(),
        shipping_address: address,
        ..order.clone()
    }
}

pub(crate) async fn erased_account_is_gone_from_every_record(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut ada = registered(&*store, "ada@x.example").await;
    let bob = registered(&*store, "bob@x.example").await;
    let (book, _) =
        AddressBook::empty(ada.id).with_new(AddressId::new(), address("Paris")).unwrap();
    ada.version += 1;
    let [of_ada, of_bob] = [ada.id, bob.id].map(session);
    let full = shipping_address(&[("name", "Ada"), ("country", "FR"), ("region", "IDF")]);
    let street = shipping_address(&[("street", "12 Mint Street")]);
    let shipped = |user, address| shipped_to(user, &ada.email, address);
    let orders = [
        shipped(ada.id, full.clone()),
        shipped(ada.id, street),
        shipped(ada.id, None),
        shipped(bob.id, full.clone()),
    ];
    let (own, others, staff) = (key(ada.id, "a", 1), key(bob.id, "a", 1), key(bob.id, "s", 1));
    let mut batch = vec![
        commit([put_user(&ada), put_addresses(&book)]),
        commit([put_session(&of_ada)]),
        commit([put_session(&of_bob)]),
        with_response(commit([]), &own, r#"{"name":"Ada"}"#),
        with_response(commit([]), &others, r#"{"name":"Bob"}"#),
        reply_about(ada.id, &staff, long_reply()),
    ];
    batch.extend(orders.iter().map(|order| commit([put_order(order)])));
    assert!(apply(&*store, batch).await.outcomes.iter().all(Result::is_ok));
    apply_one(&*store, erasure(&ada)).await.unwrap();
    store.close().await;

    let store = harness.open().await;
    assert_eq!(store.find_user(ada.id).await, Ok(None));
    assert_eq!(store.find_user_by_email(&ada.email).await, Ok(None));
    let left = store.list_users(UserFilter::default(), None, 10).await.unwrap();
    assert_eq!(left, [bob]);
    assert_eq!(store.find_address_book(ada.id).await, Ok(AddressBook::empty(ada.id)));
    let erased = Session { address: None, user_agent: None, ..of_ada.clone() };
    assert_eq!(store.find_session(of_ada.id).await, Ok(Some(erased)));
    assert_eq!(store.find_session(of_bob.id).await, Ok(Some(of_bob)));
    let kept = shipping_address(&[("country", "FR"), ("region", "IDF")]);
    for (order, address) in orders.iter().zip([kept, None, None]) {
        let wanted = anonymized(order, address);
        assert_eq!(store.find_order(order.id).await, Ok(Some(wanted)));
    }
    assert_eq!(store.find_order(orders[3].id).await, Ok(Some(orders[3].clone())));
    assert_eq!(store.find_stored_reply(&own).await, Ok(None));
    assert_eq!(store.stored_reply_usage(ada.id).await, Ok(StoredReplyUsage::default()));
    let (_, reply) = store.find_stored_reply(&others).await.unwrap().unwrap();
    assert_eq!(reply.body, Bytes::from_static(br#"{"name":"Bob"}"#));
    let (_, reply) = store.find_stored_reply(&staff).await.unwrap().unwrap();
    let wanted =
        serde_json::json!({"id": "7", "name": null, "shipping_address": {"country": "FR"}});
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap(), wanted);
    assert_stale_order_is_refused(&*store, &orders[0]).await;
}

/// What was read before the erasure cannot be written after it.
async fn assert_stale_order_is_refused(store: &dyn Store, read_before: &Order) {
    let stale = Order { version: 2, ..read_before.clone() };
    assert_eq!(apply_one(store, commit([put_order(&stale)])).await, Err(CommitError::Conflict));
    let fresh = Order {
        anonymized: true,
        email: None,
        shipping_address: None,
        billing_address: None,
        ..stale
    };
    apply_one(store, commit([put_order(&fresh)])).await.unwrap();
    assert_eq!(store.find_order(fresh.id).await, Ok(Some(fresh)));
}

pub(crate) async fn mails_to_an_erased_account_are_deleted(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let bob = registered(&*store, "bob@x.example").await;
    let mail = |user: &User, user_id| {
        Mail::new(MailKind::PasswordReset, user.email.clone(), user_id, Timestamp::default())
    };
    // A request for a new password names only the address.
    let mails = [mail(&ada, Some(ada.id)), mail(&ada, None), mail(&bob, None)];
    for mail in &mails {
        apply_one(&*store, commit([Write::Mail(Arc::new(mail.clone()))])).await.unwrap();
    }
    apply_one(&*store, erasure(&ada)).await.unwrap();
    let [_, _, of_bob] = mails;
    assert_eq!(store.list_due_mails(Timestamp::default(), 10).await, Ok(vec![of_bob]));
}

pub(crate) async fn email_of_an_erased_account_is_free_in_the_same_batch(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let next = user("ada@x.example");
    let stale = User { version: 7, ..ada.clone() };
    let batch = [erasure(&stale), commit([put_user(&next)])];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert_eq!(outcomes, [Err(CommitError::Conflict), Err(CommitError::EmailTaken)]);
    let batch = [erasure(&ada), commit([put_user(&next)]), commit([put_user(&stale)])];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert!(outcomes[0].is_ok() && outcomes[1].is_ok(), "{outcomes:?}");
    assert_eq!(outcomes[2], Err(CommitError::Conflict));
    assert_eq!(store.find_user_by_email(&ada.email).await, Ok(Some(next)));
    assert_eq!(store.find_user(ada.id).await, Ok(None));
}

pub(crate) async fn account_with_an_open_order_is_not_erased(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let pending = order(ada.id);
    let older = Order { status: OrderStatus::Cancelled, expires_at: None, ..order(ada.id) };
    apply(&*store, [&pending, &older].map(|order| commit([put_order(order)]))).await;
    assert_eq!(
        store.list_unfinished_orders(BuyerKey::User(ada.id), 10).await,
        Ok(vec![pending.clone()])
    );
    assert_eq!(store.list_unfinished_orders(BuyerKey::User(UserId::new()), 10).await, Ok(vec![]));
    let paid = Order { status: OrderStatus::Paid, version: 2, expires_at: None, ..pending };
    let outcomes = apply(&*store, [commit([put_order(&paid)]), erasure(&ada)]).await.outcomes;
    assert_eq!(outcomes[1], Err(CommitError::OrdersOpen));
    assert_eq!(apply_one(&*store, erasure(&ada)).await, Err(CommitError::OrdersOpen));
    assert_eq!(
        store.list_unfinished_orders(BuyerKey::User(ada.id), 10).await,
        Ok(vec![paid.clone()])
    );
    assert_eq!(store.find_user(ada.id).await, Ok(Some(ada.clone())));
    let shipped = Order { status: OrderStatus::Fulfilled, version: 3, ..paid };
    apply_one(&*store, commit([put_order(&shipped)])).await.unwrap();
    apply_one(&*store, erasure(&ada)).await.unwrap();
}

pub(crate) async fn erased_rights_are_told_to_caches(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let staff = ada.with_rights(Rights { role: Role::Staff, ..Rights::CUSTOMER });
    apply_one(&*store, commit([put_user(&staff)])).await.unwrap();
    let heads = store.outbox_heads().await.unwrap();
    let applied = apply(&*store, [erasure(&staff)]).await;
    let [told] = &applied.changes.rights[..] else { panic!("{:?}", applied.changes) };
    assert_eq!((told.user_id, told.rights), (ada.id, Rights::CUSTOMER));
    assert!(told.version > staff.version);
    let changes = store.list_changes_after(&heads, 10).await.unwrap().changes;
    assert_eq!(changes, [CacheChange::Rights { user_id: ada.id }]);
}
