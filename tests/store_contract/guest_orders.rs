//! Orders of guests, and what becomes of them when the guest has an account.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use mongodb::bson::{Document, doc};
use souk::{
    domain::{
        account::{Email, User},
        clock::Timestamp,
        ids::{OrderId, PromotionId, UserId},
        order::{Buyer, BuyerKey, Order, OrderAddress, OrderFilter, OrderStatus},
        payment::PaymentStatus,
        pricing::UseChange,
    },
    events::DomainEvent,
    store::{Commit, CommitError, Condition, Write},
};

use crate::{
    erasure::{erasure, registered},
    fixtures::{
        apply, apply_one, commit, key, order, put_order, put_user, shipped_order, user,
        with_response,
    },
    harness::{Harness, Mongo},
    migration::set_schema_version,
    nodes::{commit_concurrently, start_node},
    promotion_uses::order_with,
};

fn email(name: &str) -> Email {
    Email::parse(&format!("{name}@x.example")).unwrap()
}

fn address(city: &str) -> Option<OrderAddress> {
    let fields = [("name", "Ada"), ("city", city), ("country", "FR")];
    let fields = fields.map(|(part, text)| (part.to_owned(), text.to_owned()));
    OrderAddress::from_stored(BTreeMap::from(fields))
}

/// The order of a guest with all that only such orders have.
fn of_guest(guest: UserId, name: &str, order: fn(UserId) -> Order) -> Order {
    Order {
        guest: true,
        email: Some(email(name)),
        shipping_address: address("Paris"),
        billing_address: address("Lyon"),
        ..order(guest)
    }
}

/// The commit that moves orders to an account.
fn moving(orders: &[&Order], user_id: UserId) -> Commit {
    let moved = orders.iter().map(|order| order.moved_to(user_id, Timestamp::default()));
    let moved: Vec<_> = moved.map(std::sync::Arc::new).collect();
    let writes = moved.iter().cloned().map(Write::Order);
    let reassignment = Write::ReassignGuestReplies { guest_id: orders[0].user_id, user_id };
    Commit {
        events: moved.iter().cloned().map(DomainEvent::OrderOwnerChanged).collect(),
        ..commit(writes.chain([reassignment]).collect::<Vec<_>>())
    }
}

pub(crate) async fn orders_of_guests_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    let placed = of_guest(UserId::new(), "ada", order);
    apply_one(&*store, commit([put_order(&placed)])).await.unwrap();
    store.close().await;
    let store = harness.open().await;
    assert_eq!(store.find_order(placed.id).await, Ok(Some(placed.clone())));
    let paid = Order { version: 2, status: OrderStatus::Paid, expires_at: None, ..placed };
    apply_one(&*store, commit([put_order(&paid)])).await.unwrap();
    assert_eq!(store.find_order(paid.id).await, Ok(Some(paid)));
}

pub(crate) async fn orders_are_found_by_email(harness: &dyn Harness) {
    let store = harness.open().await;
    let (guest, customer) = (UserId::new(), UserId::new());
    let first = of_guest(guest, "ada", order);
    let second = Order { email: Some(email("ada")), ..shipped_order(customer) };
    let others = [of_guest(guest, "bob", order), order(customer)];
    for order in [&first, &second].into_iter().chain(&others) {
        apply_one(&*store, commit([put_order(order)])).await.unwrap();
    }
    let of_ada = OrderFilter { email: Some(email("ada")), ..OrderFilter::default() };
    let found = store.list_orders(of_ada.clone(), None, 10).await;
    assert_eq!(found, Ok(vec![second.clone(), first.clone()]));
    let found = store.list_orders(of_ada.clone(), Some(second.id), 10).await;
    assert_eq!(found, Ok(vec![first.clone()]));
    let pending = OrderFilter { status: Some(OrderStatus::PendingPayment), ..of_ada };
    assert_eq!(store.list_orders(pending, None, 10).await, Ok(vec![first.clone()]));
    let guests = BuyerKey::GuestEmail(email("ada"));
    assert_eq!(store.list_unfinished_orders(guests, 10).await, Ok(vec![first]));
}

pub(crate) async fn moved_order_belongs_to_the_account(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let guest = UserId::new();
    let orders = [of_guest(guest, "ada", order), of_guest(guest, "eve", order)];
    let (own, about) = (key(guest, "a", 1), key(UserId::new(), "s", 1));
    let reply = r#"{"email":"ada@x.example","shipping_address":{"city":"Paris","country":"FR"}}"#;
    let batch = orders.each_ref().map(|order| commit([put_order(order)]));
    assert!(apply(&*store, batch).await.outcomes.iter().all(Result::is_ok));
    apply_one(&*store, with_response(commit([]), &own, reply)).await.unwrap();
    let mut of_staff = with_response(commit([]), &about, reply);
    of_staff.idempotency_record.as_mut().unwrap().about = Some(guest);
    apply_one(&*store, of_staff).await.unwrap();

    let stale = moving(&[&orders[0]], ada.id);
    apply_one(&*store, moving(&[&orders[0], &orders[1]], ada.id)).await.unwrap();
    assert_eq!(apply_one(&*store, stale).await, Err(CommitError::Conflict));
    let moved = store.list_orders(OrderFilter::of_user(ada.id), None, 10).await.unwrap();
    assert_eq!(moved.len(), 2);
    for (moved, before) in moved.iter().zip(orders.iter().rev()) {
        assert_eq!(*moved, before.moved_to(ada.id, Timestamp::default()));
        assert_eq!((moved.version, moved.guest, &moved.email), (2, false, &before.email));
    }
    assert_eq!(store.list_orders(OrderFilter::of_user(guest), None, 10).await, Ok(vec![]));
    // Both count for the account now, and neither for the guest.
    let below = |user, limit| Commit {
        conditions: vec![Condition::PendingOrdersBelow(user, limit)],
        ..commit([])
    };
    let batch = [below(ada.id, 2), below(ada.id, 3), below(guest, 1)];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert_eq!(outcomes[0], Err(CommitError::TooManyPendingOrders));
    assert!(outcomes[1..].iter().all(Result::is_ok), "{outcomes:?}");

    let cancelled = moved.iter().map(|order| Order {
        version: 3,
        status: OrderStatus::Cancelled,
        expires_at: None,
        ..order.clone()
    });
    let mut erased = erasure(&ada);
    erased.writes.extend(cancelled.map(|order| put_order(&order)));
    apply_one(&*store, erased).await.unwrap();
    for key in [own, about] {
        let (_, reply) = store.find_stored_reply(&key).await.unwrap().unwrap();
        let left = Bytes::from_static(br#"{"email":null,"shipping_address":{"country":"FR"}}"#);
        assert_eq!(reply.body, left);
    }
}

pub(crate) async fn order_does_not_move_to_an_erased_account(harness: &dyn Harness) {
    let store = harness.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let placed = of_guest(UserId::new(), "ada", order);
    apply_one(&*store, commit([put_order(&placed)])).await.unwrap();
    let move_it = || moving(&[&placed], ada.id);
    // The deletion does not cancel the order that moves in the same batch.
    let outcomes = apply(&*store, [move_it(), erasure(&ada)]).await.outcomes;
    assert_eq!((outcomes[0].is_ok(), &outcomes[1]), (true, &Err(CommitError::Conflict)));
    let bob = registered(&*store, "bob@x.example").await;
    let other = of_guest(UserId::new(), "bob", order);
    apply_one(&*store, commit([put_order(&other)])).await.unwrap();
    apply_one(&*store, erasure(&bob)).await.unwrap();
    assert_eq!(apply_one(&*store, moving(&[&other], bob.id)).await, Err(CommitError::Conflict));
    assert_eq!(store.find_order(other.id).await, Ok(Some(other)));
}

pub(crate) async fn orders_of_guests_are_erased_with_their_verified_email(harness: &dyn Harness) {
    let store = harness.open().await;
    let verified = |name| User { email_verified: true, ..user(&format!("{name}@x.example")) };
    let (ada, bob) = (verified("ada"), user("bob@x.example"));
    let guests = [(); 3].map(|()| UserId::new());
    let own = of_guest(guests[0], "ada", shipped_order);
    let kept = [
        of_guest(guests[1], "bob", shipped_order),
        // The account of somebody else has named the address.
        Order { guest: false, ..of_guest(guests[2], "ada", shipped_order) },
    ];
    let reply_key = key(guests[0], "a", 1);
    let mut batch = vec![commit([put_user(&ada)]), commit([put_user(&bob)])];
    batch.extend([&own, &kept[0], &kept[1]].map(|order| commit([put_order(order)])));
    batch.push(with_response(commit([]), &reply_key, r#"{"email":"ada@x.example"}"#));
    assert!(apply(&*store, batch).await.outcomes.iter().all(Result::is_ok));
    for account in [&ada, &bob] {
        apply_one(&*store, erasure(account)).await.unwrap();
    }
    let place = BTreeMap::from([("country".to_owned(), "FR".to_owned())]);
    let erased_address = OrderAddress::from_stored(place.clone());
    let erased = Order {
        anonymized: true,
        email: None,
        shipping_address: erased_address.clone(),
        billing_address: OrderAddress::from_stored(place),
        ..own
    };
    assert_eq!(store.find_order(erased.id).await, Ok(Some(erased)));
    for order in kept {
        assert_eq!(store.find_order(order.id).await, Ok(Some(order)));
    }
    let (_, reply) = store.find_stored_reply(&reply_key).await.unwrap().unwrap();
    assert_eq!(reply.body, Bytes::from_static(br#"{"email":null}"#));
    // One that is paid and not shipped may be a stranger's. The shop knows where to send it, unless
    // all of the money went back.
    let eve = verified("eve");
    let [open, partly_shipped] = [OrderStatus::Paid, OrderStatus::PartiallyFulfilled]
        .map(|status| Order { status, expires_at: None, ..of_guest(guests[1], "eve", order) });
    let unpaid = of_guest(guests[1], "eve", order);
    let mut refunded = Order { email: open.email.clone(), ..open.clone() };
    refunded.id = OrderId::new();
    refunded.payment.status = PaymentStatus::Refunded;
    let batch =
        [&open, &partly_shipped, &unpaid, &refunded].map(|order| commit([put_order(order)]));
    apply(&*store, [commit([put_user(&eve)])].into_iter().chain(batch)).await;
    let guests = BuyerKey::GuestEmail(email("eve"));
    assert_eq!(store.list_unfinished_orders(guests, 10).await, Ok(vec![unpaid.clone()]));
    assert_eq!(apply_one(&*store, erasure(&eve)).await, Err(CommitError::Conflict));
    let mut last = erasure(&eve);
    let cancelled =
        Order { status: OrderStatus::Cancelled, version: 2, expires_at: None, ..unpaid };
    last.writes.push(put_order(&cancelled));
    apply_one(&*store, last).await.unwrap();
    for order in [open, partly_shipped] {
        let left = Order { anonymized: true, email: None, ..order.clone() };
        assert_eq!(store.find_order(order.id).await, Ok(Some(left)));
    }
    let left = store.find_order(refunded.id).await.unwrap().unwrap();
    assert_eq!((left.anonymized, left.shipping_address), (true, erased_address));
}

pub(crate) async fn promotion_is_counted_by_email_too(harness: &dyn Harness) {
    let store = harness.open().await;
    let promotion = PromotionId::new();
    let buyer = |user_id, name: Option<&str>| Buyer {
        user_id,
        emails: name.map(email).into_iter().collect(),
    };
    let place = |buyer: Buyer| {
        let order = order_with(buyer.user_id, promotion);
        let order = Order { email: buyer.emails.first().cloned(), guest: true, ..order };
        Commit {
            conditions: vec![Condition::BuyerUsesBelow {
                buyer,
                promotion_id: promotion,
                limit: 2,
            }],
            ..commit([
                put_order(&order),
                Write::PromotionUse(promotion, UseChange::Take { limit: None }),
            ])
        }
    };
    let [ada, guest, other] = [(); 3].map(|()| UserId::new());
    let used_up = Err(CommitError::PromotionUsedUp(promotion));
    // One order is found by both the user and the address, and counts once.
    apply_one(&*store, place(buyer(ada, Some("ada")))).await.unwrap();
    let batch = [place(buyer(guest, Some("ada"))), place(buyer(other, Some("ada")))];
    let outcomes = apply(&*store, batch).await.outcomes;
    assert_eq!((outcomes[0].is_ok(), &outcomes[1]), (true, &used_up));
    assert_eq!(apply_one(&*store, place(buyer(ada, Some("ada")))).await, used_up);
    apply_one(&*store, place(buyer(other, Some("bob")))).await.unwrap();
    let counted = store.count_buyer_uses(buyer(ada, Some("ada")), [promotion].into()).await;
    assert_eq!(counted, Ok(HashMap::from([(promotion, 2)])));
    let counted = store.count_buyer_uses(buyer(ada, None), [promotion].into()).await;
    assert_eq!(counted, Ok(HashMap::from([(promotion, 1)])));
}

#[tokio::test]
async fn two_nodes_move_an_order_or_erase_the_account() {
    let Some(mongo) = Mongo::new().await else { return };
    let ((here, first), (there, second)) = (start_node(&mongo).await, start_node(&mongo).await);
    let mut moves = 0;
    for number in 0..20 {
        let ada = registered(&*here, &format!("ada{number}@x.example")).await;
        let placed = of_guest(UserId::new(), "ada", shipped_order);
        apply_one(&*here, commit([put_order(&placed)])).await.unwrap();
        let commits =
            vec![(first.clone(), moving(&[&placed], ada.id)), (second.clone(), erasure(&ada))];
        let outcomes = commit_concurrently(commits).await;
        assert!(outcomes[1].is_ok(), "{outcomes:?}");
        // Either it moved before, and was erased, or it stays with the guest.
        let found = here.find_order(placed.id).await.unwrap().unwrap();
        let has_moved = outcomes[0].is_ok();
        assert_eq!((found.user_id == ada.id, found.anonymized), (has_moved, has_moved));
        moves += usize::from(has_moved);
    }
    println!("{moves} of 20 orders moved before the erasure");
    here.close().await;
    there.close().await;
    mongo.drop_database().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_of_schema_version_9_get_the_email_of_their_account() {
    let Some(mongo) = Mongo::new().await else { return };
    let store = mongo.open().await;
    let ada = registered(&*store, "ada@x.example").await;
    let erased = Order { anonymized: true, ..shipped_order(ada.id) };
    let orders = [order(ada.id), erased, shipped_order(UserId::new())];
    for order in &orders {
        apply_one(&*store, commit([put_order(order)])).await.unwrap();
    }
    store.close().await;
    mongo.raw_database().collection::<Document>("nodes").delete_many(doc! {}).await.unwrap();
    set_schema_version(&mongo, 9).await;
    let store = mongo.open().await;
    let [own, erased, strangers] = orders;
    for wanted in [Order { email: Some(email("ada")), ..own }, erased, strangers] {
        assert_eq!(store.find_order(wanted.id).await, Ok(Some(wanted)));
    }
    store.close().await;
    mongo.drop_database().await;
}
