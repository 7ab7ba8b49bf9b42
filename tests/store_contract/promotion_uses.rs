//! How often promotions are used, and what carts and orders come to.

use std::collections::HashMap;

use souk::{
    domain::{
        cart::{Cart, CartOwner, CartShipping},
        ids::{PromotionId, ShippingMethodId, UserId},
        order::{Buyer, Order, OrderStatus},
        pricing::{
            Charges, CodeOutcome, CodeRefusal, Destination, Discount, LineAmounts, PromotionUses,
            Rate, Shipping, Tax, UseChange,
        },
    },
    events::parse::CacheChange,
    store::{Commit, CommitError, Condition, Store, Write},
};

use crate::{
    erasure::{erasure, registered},
    fixtures::{
        apply, apply_one, cart, commit, customer, order, order_commit, price, put_cart, put_order,
    },
    harness::{Harness, Mongo},
    nodes::{commit_concurrently, start_node},
};

fn destination() -> Destination {
    Destination {
        country: "DE".into(),
        region: Some("BE".into()),
        postal_code: Some("10115".into()),
    }
}

fn charges(promotion_id: PromotionId) -> Box<Charges> {
    Box::new(Charges {
        lines: vec![LineAmounts { discount: price("0.90"), tax: price("1.54") }],
        discounts: vec![Discount {
            promotion_id,
            name: "Ten ☕".into(),
            code: Some("TEN".into()),
            amount: price("0.90"),
        }],
        codes: vec![
            CodeOutcome { code: "TEN".into(), refusal: None },
            CodeOutcome { code: "OLD".into(), refusal: Some(CodeRefusal::Expired) },
        ],
        destination: Some(destination()),
        shipping: Some(Shipping {
            method_id: ShippingMethodId::new(),
            name: "Parcel".into(),
            amount: price("4.90"),
            tax: Some(price("0.93")),
        }),
        taxes: vec![Tax {
            name: "VAT".into(),
            rate: Rate::from_millionths(190_000).unwrap(),
            amount: price("2.47"),
            included: false,
        }],
    })
}

pub(crate) fn order_with(user_id: UserId, promotion_id: PromotionId) -> Order {
    Order { charges: Some(charges(promotion_id)), ..order(user_id) }
}

fn take(promotion: PromotionId, limit: u64) -> Write {
    Write::PromotionUse(promotion, UseChange::Take { limit: Some(limit) })
}

/// A checkout of an order with a promotion that `limit` orders can have.
fn check_out(user_id: UserId, promotion: PromotionId, limit: u64) -> Commit {
    let owner = CartOwner { id: user_id, is_guest: false };
    let order = order_with(user_id, promotion);
    commit([put_cart(&cart(owner, 1)), put_order(&order), take(promotion, limit)])
}

async fn uses(store: &dyn Store, promotion: PromotionId) -> Option<u64> {
    let found = store.list_promotion_uses(Some([promotion].into())).await.unwrap();
    found.first().map(|uses| uses.used)
}

pub(crate) async fn charges_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    let full = Cart {
        codes: vec!["TEN".into(), "Free-1".into()],
        shipping: Some(CartShipping {
            destination: destination(),
            method: Some(ShippingMethodId::new()),
        }),
        ..cart(customer(), 1)
    };
    apply_one(&*store, commit([put_cart(&full)])).await.unwrap();
    let mut order = order_with(full.owner.id, PromotionId::new());
    order.payment.amount = order.total();
    apply_one(&*store, order_commit(&order)).await.unwrap();
    store.close().await;
    let store = harness.open().await;
    assert_eq!(store.find_cart(full.owner.id).await.unwrap(), Some(full.clone()));
    assert_eq!(store.find_order(order.id).await.unwrap(), Some(order));
    let bare = Cart { version: 2, codes: Vec::new(), shipping: None, ..full };
    apply_one(&*store, commit([put_cart(&bare)])).await.unwrap();
    assert_eq!(store.find_cart(bare.owner.id).await.unwrap(), Some(bare));
}

pub(crate) async fn uses_are_limited_and_given_back(harness: &dyn Harness) {
    let store = harness.open().await;
    let promotion = PromotionId::new();
    let used_up = Err(CommitError::PromotionUsedUp(promotion));
    assert_eq!(uses(&*store, promotion).await, None);
    let before = store.outbox_heads().await.unwrap();
    let batch = [0; 5].map(|_| check_out(customer().id, promotion, 3));
    let applied = apply(&*store, batch).await;
    let done = applied.outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!((done, applied.outcomes.last()), (3, Some(&used_up)));
    let told = PromotionUses { promotion_id: promotion, used: 3, version: 3 };
    assert_eq!(applied.changes.promotion_uses, [told]);
    assert_eq!(apply_one(&*store, check_out(customer().id, promotion, 3)).await, used_up);
    let give_back = || commit([Write::PromotionUse(promotion, UseChange::GiveBack)]);
    apply_one(&*store, give_back()).await.unwrap();
    assert_eq!(uses(&*store, promotion).await, Some(2));
    store.close().await;
    let store = harness.open().await;
    assert_eq!(uses(&*store, promotion).await, Some(2));
    apply_one(&*store, check_out(customer().id, promotion, 3)).await.unwrap();
    assert_eq!(apply_one(&*store, check_out(customer().id, promotion, 3)).await, used_up);
    let all = store.list_promotion_uses(None).await.unwrap();
    assert_eq!(all, [PromotionUses { promotion_id: promotion, used: 3, version: 5 }]);
    let other = order_with(customer().id, promotion);
    let give_back = Write::PromotionUse(promotion, UseChange::GiveBack);
    let writes = vec![put_order(&other), give_back];
    apply_one(&*store, Commit { writes, ..order_commit(&other) }).await.unwrap();
    let changes = store.list_changes_after(&before, 100).await.unwrap().changes;
    let told = PromotionUses { promotion_id: promotion, used: 2, version: 6 };
    if store.is_shared() {
        assert!(changes.contains(&CacheChange::PromotionUses(told)), "{changes:?}");
        let buyer = CacheChange::PromotionBuyer { user_id: other.user_id };
        assert!(changes.contains(&buyer), "{changes:?}");
    }
}

pub(crate) async fn buyers_have_a_promotion_so_often(harness: &dyn Harness) {
    let store = harness.open().await;
    let (promotion, other) = (PromotionId::new(), PromotionId::new());
    let used_up = Err(CommitError::PromotionUsedUp(promotion));
    let buyer = customer();
    let place = |order: &Order, version| Commit {
        conditions: vec![Condition::BuyerUsesBelow {
            buyer: order.buyer(),
            promotion_id: promotion,
            limit: 2,
        }],
        ..commit([put_cart(&cart(buyer, version)), put_order(order), take(promotion, 9)])
    };
    let [first, second, third] = [0; 3].map(|_| order_with(buyer.id, promotion));
    apply_one(&*store, place(&first, 1)).await.unwrap();
    // Orders of others, and with other promotions, do not count.
    for order in [order_with(customer().id, promotion), order_with(buyer.id, other)] {
        apply_one(&*store, commit([put_order(&order)])).await.unwrap();
    }
    apply_one(&*store, place(&second, 2)).await.unwrap();
    assert_eq!(apply_one(&*store, place(&third, 3)).await, used_up);
    let known = Buyer { user_id: buyer.id, emails: Vec::new() };
    let counted = store.count_buyer_uses(known, [promotion, other].into()).await.unwrap();
    assert_eq!(counted, HashMap::from([(promotion, 2), (other, 1)]));
    let paid = Order { version: 2, status: OrderStatus::Paid, ..first.clone() };
    apply_one(&*store, commit([put_order(&paid)])).await.unwrap();
    assert_eq!(apply_one(&*store, place(&third, 3)).await, used_up);
    let cancelled = Order { version: 3, status: OrderStatus::Cancelled, ..first };
    apply_one(&*store, commit([put_order(&cancelled)])).await.unwrap();
    apply_one(&*store, place(&third, 3)).await.unwrap();
}

pub(crate) async fn erased_orders_keep_the_place_without_the_postal_code(harness: &dyn Harness) {
    let store = harness.open().await;
    let user = registered(&*store, "ada@x.example").await;
    let order = order_with(user.id, PromotionId::new());
    let order = Order { status: OrderStatus::Cancelled, ..order };
    apply_one(&*store, commit([put_order(&order)])).await.unwrap();
    apply_one(&*store, erasure(&user)).await.unwrap();
    let found = store.find_order(order.id).await.unwrap().unwrap();
    let place = found.charges.unwrap().destination.unwrap();
    assert_eq!(place, Destination { postal_code: None, ..destination() });
}

#[tokio::test]
async fn two_nodes_use_a_promotion_as_often_as_it_can_be() {
    let Some(mongo) = Mongo::new().await else { return };
    let ((here, first), (there, second)) = (start_node(&mongo).await, start_node(&mongo).await);
    let promotion = PromotionId::new();
    for limit in [5, 10, 15] {
        let commits = (0..16).map(|number| {
            let writer = if number % 2 == 0 { &first } else { &second };
            (writer.clone(), check_out(customer().id, promotion, limit))
        });
        let outcomes = commit_concurrently(commits.collect()).await;
        let refused = Err(CommitError::PromotionUsedUp(promotion));
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(done, 5, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| **outcome == refused).count(), 11);
        assert_eq!(uses(&*here, promotion).await, Some(limit));
    }
    here.close().await;
    there.close().await;
    mongo.drop_database().await;
}
