//! Refunds that a provider reports twice, as a sum and one by one, and what buyers hear of them.

use super::{
    provider::{apply_update, begun, paid, stripe_order, succeeded},
    *,
};
use crate::domain::payment::{
    PaymentEvent, PaymentStatus, ProviderRefund, ProviderUpdate, RefundStatus,
};

fn refunded_total(total: &str) -> ProviderUpdate {
    ProviderUpdate::RefundedTotal { intent: "pi_1".into(), total: eur_price(total) }
}

fn refund(id: &str, amount: &str, outcome: Option<bool>) -> ProviderUpdate {
    ProviderUpdate::Refund(ProviderRefund {
        intent: "pi_1".into(),
        id: id.into(),
        refund: None,
        amount: Some(eur_price(amount)),
        outcome,
    })
}

/// Applies updates one after another. Returns the order, and the amounts in the notices to the
/// buyer after each.
fn apply_all(updates: &[ProviderUpdate]) -> (Order, Vec<Vec<String>>) {
    let (mut order, mut noticed) = (paid(), Vec::new());
    for update in updates {
        let (after, event) = apply_update(&order, update);
        let notices = after.notices_since(Some(&order));
        let amount = |notice: &OrderNotice| {
            let refunds = &after.payment.refunds;
            let refund =
                refunds.iter().find(|refund| OrderNotice::Refunded(refund.id) == *notice).unwrap();
            refund.amount.to_string()
        };
        noticed.push(notices.iter().map(amount).collect::<Vec<_>>());
        assert_eq!(event == PaymentEvent::Refunded, !notices.is_empty());
        order = after;
    }
    (order, noticed)
}

#[test]
fn refund_at_the_provider_is_one_refund_and_one_notice() {
    for outcome in [Some(true), None] {
        let (before, _) = apply_update(&paid(), &refunded_total("5"));
        let (after, event) = apply_update(&before, &refund("re_1", "5", outcome));
        assert_eq!(event, PaymentEvent::PaymentChanged);
        let [refund] = &*after.payment.refunds else { panic!("{:?}", after.payment) };
        assert_eq!(refund.id, before.payment.refunds[0].id, "it keeps its id");
        assert_eq!(
            (refund.provider_id.as_deref(), refund.status),
            (Some("re_1"), RefundStatus::Succeeded)
        );
        assert_eq!(after.notices_since(Some(&before)), []);
    }
    // It can fail all the same.
    let (order, noticed) = apply_all(&[
        refunded_total("5"),
        refund("re_1", "5", None),
        refund("re_1", "5", Some(false)),
    ]);
    assert_eq!(noticed, [vec!["5.00"], vec![], vec![]]);
    assert_eq!(order.payment.status, PaymentStatus::Paid);
    assert_eq!(order.payment.refunds[0].status, RefundStatus::Failed);
}

#[test]
fn sum_of_several_refunds_is_told_once() {
    let parts = [refund("re_1", "5", Some(true)), refund("re_2", "10", Some(true))];
    let (order, noticed) = apply_all(&[&[refunded_total("15")], &parts[..]].concat());
    assert_eq!(noticed, [vec!["15.00"], vec![], vec![]]);
    let ids: Vec<_> =
        order.payment.refunds.iter().map(|refund| refund.provider_id.clone().unwrap()).collect();
    assert_eq!((ids.len(), order.payment.succeeded_refunds()), (2, eur_price("15")));
    // A part that is still pending at the provider is no news either, nor is its success.
    let pending = [refunded_total("15"), refund("re_1", "5", None)];
    let (order, noticed) = apply_all(&pending);
    assert_eq!(noticed, [vec!["15.00"], vec![]]);
    let success = refund("re_1", "5", Some(true));
    assert!(order.decide_provider_update(&success, LateMoney::Revives, NOW).is_none());
    let (order, noticed) = apply_all(&[&pending[..], &[refund("re_1", "5", Some(false))]].concat());
    assert_eq!(
        (noticed.concat(), order.payment.succeeded_refunds()),
        (vec!["15.00".into()], eur_price("10"))
    );
    // What is new beyond the sum is news.
    let (order, noticed) = apply_all(&[refunded_total("5"), refund("re_2", "10", Some(true))]);
    assert_eq!(noticed, [["5.00"], ["10.00"]]);
    assert_eq!(order.payment.succeeded_refunds(), eur_price("10"));
    let (order, noticed) = apply_all(&[parts[0].clone(), parts[1].clone()]);
    assert_eq!(noticed, [["5.00"], ["10.00"]]);
    assert!(order.decide_provider_update(&refunded_total("15"), LateMoney::Revives, NOW).is_none());
}

#[test]
fn expired_order_whose_money_went_back_is_not_paid_by_staff() {
    let pending = begun(&stripe_order());
    let late = Timestamp::from_millis(61_000);
    let expired = pending.decide(OrderCommand::Expire, late).unwrap().order;
    assert!(expired.decide(pay_command(), late).is_ok(), "nobody has paid");
    let late_money = succeeded("30");
    let done = expired.decide_provider_update(&late_money, LateMoney::GoesBack, late).unwrap();
    let order = done.order;
    assert_eq!(order.payment.refunds[0].status, RefundStatus::Pending);
    assert_eq!(order.decide(pay_command(), late), Err(OrderError::LateMoneyReturned));
    let id = order.payment.refunds[0].id;
    let answer = |outcome| {
        let ProviderUpdate::Refund(reported) = refund("re_1", "30", outcome) else {
            unreachable!()
        };
        ProviderUpdate::Refund(ProviderRefund { refund: Some(id), ..reported })
    };
    let (returned, _) = apply_update(&order, &answer(Some(true)));
    assert_eq!(returned.payment.status, PaymentStatus::Refunded);
    assert_eq!(returned.decide(pay_command(), late), Err(OrderError::LateMoneyReturned));
    // The shop still has the money of a refund that failed.
    let (kept, _) = apply_update(&order, &answer(Some(false)));
    assert_eq!(kept.decide(pay_command(), late).unwrap().order.status, OrderStatus::Paid);
}
