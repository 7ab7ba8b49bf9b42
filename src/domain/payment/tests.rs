use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_000);

fn euros(text: &str) -> Money {
    Money::parse(text, "EUR".parse().unwrap()).unwrap()
}

fn paid(amount: &str) -> Payment {
    let mut payment = Payment::awaiting(PaymentMethod::Manual, euros(amount));
    payment.confirm(Some("bank 7".into()), NOW);
    payment
}

fn refund(payment: &mut Payment, amount: Option<&str>) -> Result<(), RefundError> {
    payment.refund(RefundId::new(), amount.map(euros), None, NOW)
}

#[test]
fn refunds_add_up_to_at_most_what_was_paid() {
    let mut payment = paid("10");
    assert_eq!(refund(&mut payment, Some("4")), Ok(()));
    assert_eq!(payment.status, PaymentStatus::PartiallyRefunded);
    let before = payment.clone();
    let left = euros("6");
    assert_eq!(refund(&mut payment, Some("6.01")), Err(RefundError::ExceedsPayment { left }));
    assert_eq!(payment, before, "a refund that is refused changes nothing");
    assert_eq!(refund(&mut payment, None), Ok(()));
    assert_eq!((payment.status, payment.refunded()), (PaymentStatus::Refunded, euros("10")));
    let nothing = RefundError::NothingToRefund(PaymentStatus::Refunded);
    assert_eq!(refund(&mut payment, None), Err(nothing));
}

#[test]
fn refund_of_what_is_left_never_exceeds_the_payment() {
    let mut payment = paid("10");
    payment.refund_up_to(euros("7"), RefundId::new(), NOW);
    payment.refund_up_to(euros("7"), RefundId::new(), NOW);
    payment.refund_up_to(euros("7"), RefundId::new(), NOW);
    let amounts: Vec<Money> = payment.refunds.iter().map(|refund| refund.amount).collect();
    assert_eq!(amounts, [euros("7"), euros("3")]);
    assert_eq!(payment.status, PaymentStatus::Refunded);
}

#[test]
fn nothing_is_refunded_that_was_not_paid() {
    let mut payment = Payment::awaiting(PaymentMethod::Manual, euros("10"));
    let nothing = |status| Err(RefundError::NothingToRefund(status));
    assert_eq!(refund(&mut payment, Some("1")), nothing(PaymentStatus::Awaiting));
    payment.call_off(NOW);
    assert_eq!(refund(&mut payment, None), nothing(PaymentStatus::Cancelled));
    assert_eq!(refund(&mut paid("0"), None), nothing(PaymentStatus::Paid));
}

#[test]
fn money_that_arrived_is_not_called_off() {
    let mut payment = paid("10");
    payment.call_off(NOW);
    assert_eq!(payment.status, PaymentStatus::Paid);
}

#[test]
fn names_round_trip() {
    for method in PaymentMethod::ALL {
        assert_eq!(method.as_str().parse(), Ok(*method));
    }
    for status in PaymentStatus::ALL {
        assert_eq!(status.as_str().parse(), Ok(*status));
    }
    for status in RefundStatus::ALL {
        assert_eq!(status.as_str().parse(), Ok(*status));
    }
}
