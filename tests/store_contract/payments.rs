//! Payments that a provider is to be asked about.

use std::time::Duration;

use futures_util::future::join_all;
use souk::{
    domain::{
        clock::Timestamp,
        ids::UserId,
        money::Money,
        order::{LateMoney, Order, OrderCommand, Payment, PaymentMethod},
        payment::ProviderUpdate,
    },
    store::Store,
};

use crate::{
    fixtures::{apply, apply_one, commit, euro, now, order, put_order},
    harness::Harness,
};

/// An order whose payment is to be begun at `at`.
fn stripe_order(at: Timestamp) -> Order {
    let amount = Money::from_minor_units(1_000, euro()).unwrap();
    let payment = Payment::placed(PaymentMethod::Stripe, amount, at);
    Order { payment, ..order(UserId::new()) }
}

async fn due(store: &dyn Store, now: Timestamp) -> Vec<Order> {
    let due = store.list_due_payments(now, 100).await.unwrap();
    assert_eq!(store.count_due_payments(now).await, Ok(due.len() as u64));
    due
}

fn apply_update(order: &Order, update: &ProviderUpdate, now: Timestamp) -> Order {
    order.decide_provider_update(update, LateMoney::Revives, now).unwrap().order
}

pub(crate) async fn payments_are_due_until_somebody_claims_them(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    let at = |seconds| start.saturating_add(Duration::from_secs(seconds));
    let (late, early) = (stripe_order(at(2)), stripe_order(at(1)));
    apply(&*store, [&late, &early].map(|order| commit([put_order(order)]))).await;
    assert_eq!(due(&*store, start).await, []);
    assert_eq!(due(&*store, at(1)).await, std::slice::from_ref(&early));
    assert_eq!(due(&*store, at(2)).await, [early.clone(), late.clone()]);
    assert_eq!(store.list_due_payments(at(2), 1).await, Ok(vec![early.clone()]));
    // One of several nodes gets it.
    let claims = (0..4).map(|n| store.move_payment_due(early.id, at(1), at(10 + n)));
    let claims: Vec<bool> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(claims.iter().filter(|claimed| **claimed).count(), 1);
    assert_eq!(due(&*store, at(9)).await, std::slice::from_ref(&late));
    let claimed = store.find_order(early.id).await.unwrap().unwrap();
    assert_eq!(claimed.version, early.version, "it is no change of the order");
    store.close().await;
    // It is due again when the node is gone.
    let store = harness.open().await;
    assert_eq!(due(&*store, at(20)).await, [late.clone(), claimed.clone()]);
    // A change of the order says anew when it is due, or that it is not.
    let update =
        ProviderUpdate::Begun { attempt: 1, intent: "pi_1".into(), client_secret: "s".into() };
    let begun = apply_update(&claimed, &update, at(20));
    apply_one(&*store, commit([put_order(&begun)])).await.unwrap();
    assert_eq!(due(&*store, at(20)).await, std::slice::from_ref(&late));
    assert_eq!(due(&*store, at(60)).await, [late, begun.clone()]);
    let amount = Some(begun.payment.amount);
    let paid =
        apply_update(&begun, &ProviderUpdate::Succeeded { intent: "pi_1".into(), amount }, at(20));
    apply_one(&*store, commit([put_order(&paid)])).await.unwrap();
    assert_eq!(due(&*store, at(60)).await.len(), 1);
    let missing = store.move_payment_due(paid.id, at(20), at(30)).await;
    assert_eq!(missing, Ok(false));
    store.close().await;
}

pub(crate) async fn orders_are_found_by_the_provider_s_id(harness: &dyn Harness) {
    let store = harness.open().await;
    let start = now();
    let orders = ["pi_1", "pi_2"].map(|id| {
        let update =
            ProviderUpdate::Begun { attempt: 1, intent: id.into(), client_secret: "s".into() };
        let placed = stripe_order(start);
        let begun = apply_update(&placed, &update, start);
        (placed, begun)
    });
    for (placed, begun) in &orders {
        apply_one(&*store, commit([put_order(placed)])).await.unwrap();
        apply_one(&*store, commit([put_order(begun)])).await.unwrap();
    }
    let find = async |id: &str| store.find_order_by_intent(id.to_owned()).await.unwrap();
    assert_eq!(find("pi_1").await.as_ref(), Some(&orders[0].1));
    assert_eq!(find("pi_2").await.as_ref(), Some(&orders[1].1));
    assert_eq!(find("pi_3").await, None);
    // Also when staff has the money, and the payment is called off.
    let confirmed = orders[0].1.decide(OrderCommand::Pay { reference: None }, start).unwrap();
    apply_one(&*store, commit([put_order(&confirmed.order)])).await.unwrap();
    assert_eq!(find("pi_1").await, Some(confirmed.order));
    store.close().await;
}

pub(crate) async fn method_manual_is_never_due(harness: &dyn Harness) {
    let store = harness.open().await;
    let order = order(UserId::new());
    apply_one(&*store, commit([put_order(&order)])).await.unwrap();
    let later = now().saturating_add(Duration::from_secs(86_400));
    assert_eq!(due(&*store, later).await, []);
    store.close().await;
}
