//! What a provider's answers and messages do, in any order and any number of times.

use proptest::prelude::*;

use super::{provider_book::Book, *};
use crate::domain::{
    ids::RefundId,
    payment::{
        PaymentEvent, PaymentFailure, PaymentStatus, ProviderTask, ProviderUpdate, RefundStatus,
    },
};

#[derive(Debug, Clone)]
enum Step {
    Command(OrderCommand),
    /// The shop carries out its next task; the answer may be lost.
    Task {
        is_answer_lost: bool,
    },
    /// The buyer pays the newest intent.
    Pay,
    Decline,
    /// Somebody cancels the newest intent at the provider.
    CancelAtProvider,
    /// Somebody refunds this amount at the provider.
    RefundAtProvider(i64),
    /// The provider says what became of a refund.
    SettleRefund {
        place: prop::sample::Index,
        has_succeeded: bool,
    },
    /// A message of the provider arrives: again, late, or out of order.
    Message {
        place: prop::sample::Index,
    },
    /// Others have bought the units meanwhile.
    SellOut,
}

const AMOUNT: i64 = 3_000;

/// When everything happens: the order's deadline has passed.
const LATE: Timestamp = Timestamp::from_millis(61_000);

fn cents(cents: i64) -> Money {
    Money::from_minor_units(cents, euro()).unwrap()
}

pub(super) fn stripe_order() -> Order {
    let order = pending_order();
    let payment = Payment::placed(PaymentMethod::Stripe, order.total(), NOW);
    Order { payment, ..order }
}

fn steps() -> impl Strategy<Value = Step> {
    let refund = |cents: Option<i64>| {
        OrderCommand::Refund(RefundRequest {
            id: RefundId::new(),
            amount: cents.map(self::cents),
            reason: None,
            restock: Vec::new(),
        })
    };
    let command = prop_oneof![
        Just(()).prop_map(|()| OrderCommand::Pay { reference: None }),
        Just(()).prop_map(|()| OrderCommand::Cancel(CancelledBy::Owner)),
        Just(()).prop_map(|()| OrderCommand::cancel_by_staff()),
        Just(()).prop_map(|()| OrderCommand::Expire),
        Just(()).prop_map(|()| OrderCommand::fulfill_all()),
        prop::option::of(1..AMOUNT).prop_map(refund),
    ];
    let any_place = || any::<prop::sample::Index>();
    prop_oneof![
        4 => command.prop_map(Step::Command),
        8 => any::<bool>().prop_map(|is_answer_lost| Step::Task { is_answer_lost }),
        4 => Just(Step::Pay),
        1 => Just(Step::Decline),
        1 => Just(Step::CancelAtProvider),
        2 => (1..AMOUNT).prop_map(Step::RefundAtProvider),
        3 => (any_place(), any::<bool>())
            .prop_map(|(place, has_succeeded)| Step::SettleRefund { place, has_succeeded }),
        6 => any_place().prop_map(|place| Step::Message { place }),
        1 => Just(Step::SellOut),
    ]
}

/// The shop's side.
struct Shop {
    order: Order,
    levels: HashMap<ProductId, StockLevel>,
    /// What others have reserved.
    others: HashMap<ProductId, u64>,
}

impl Shop {
    fn new(order: Order) -> Self {
        let ids = || order.lines.iter().map(|line| (line.product_id, u64::from(line.quantity)));
        let level = |id| StockLevel { on_hand: 10, reserved: 5, ..StockLevel::empty(id) };
        let levels = ids().map(|(id, _)| (id, level(id))).collect();
        let others = ids().map(|(id, quantity)| (id, 5 - quantity)).collect();
        Self { order, levels, others }
    }

    fn take(&mut self, order: Order, changes: Vec<(ProductId, StockChange)>) -> bool {
        let mut levels = self.levels.clone();
        for (id, change) in changes {
            match levels[&id].apply(change) {
                Ok(Some((level, _))) => drop(levels.insert(id, level)),
                Ok(None) => {}
                Err(_) => return false,
            }
        }
        assert_eq!(order.version, self.order.version + 1);
        (self.order, self.levels) = (order, levels);
        true
    }

    fn command(&mut self, command: OrderCommand) {
        if let Ok(done) = self.order.decide(command, LATE) {
            self.take(done.order, done.stock_changes);
        }
    }

    fn receive(&mut self, update: &ProviderUpdate) {
        for late in [LateMoney::Revives, LateMoney::GoesBack] {
            let Some(done) = self.order.decide_provider_update(update, late, LATE) else { return };
            if self.take(done.order, done.stock_changes) {
                return;
            }
        }
        panic!("late money is neither booked nor given back");
    }

    fn sell_out(&mut self) {
        for (id, level) in &mut self.levels {
            *self.others.get_mut(id).unwrap() += level.on_hand - level.reserved;
            level.reserved = level.on_hand;
        }
    }

    fn check(&self) {
        let payment = &self.order.payment;
        assert!(!payment.refunded().exceeds(payment.amount), "{:?}", self.order);
        for line in &self.order.lines {
            let unshipped = u64::from(line.quantity - line.fulfilled);
            let held = if self.order.status.holds_reservation() { unshipped } else { 0 };
            let level = &self.levels[&line.product_id];
            assert_eq!(level.reserved, self.others[&line.product_id] + held, "{:?}", self.order);
            assert_eq!(level.on_hand, 10 - u64::from(line.fulfilled));
        }
        let due = payment.provider.as_ref().and_then(|provider| provider.due_at);
        assert_eq!(due.is_some(), payment.provider_task().is_some(), "{:?}", self.order);
    }
}

fn run(steps: Vec<Step>) {
    let mut shop = Shop::new(stripe_order());
    let mut book = Book::new(AMOUNT);
    for step in steps {
        match step {
            Step::Command(command) => shop.command(command),
            Step::Task { is_answer_lost } => {
                let task = shop.order.payment.provider_task();
                let answer = task.and_then(|task| book.carry_out(&task));
                if let Some(answer) = answer.filter(|_| !is_answer_lost) {
                    shop.receive(&answer);
                }
            }
            Step::Pay => book.pay(),
            Step::Decline => book.decline(),
            Step::CancelAtProvider => book.cancel(),
            Step::RefundAtProvider(cents) => book.refund_at_provider(cents),
            Step::SettleRefund { place, has_succeeded } => book.settle(place, has_succeeded),
            Step::Message { place } => {
                if !book.messages.is_empty() {
                    let message = book.messages[place.index(book.messages.len())].clone();
                    shop.receive(&message);
                }
            }
            Step::SellOut => shop.sell_out(),
        }
        assert!(book.paid() <= 1, "paid twice: {book:?}");
        shop.check();
    }
    finish(&mut shop, &mut book);
    check_end(&shop, &book);
}

/// In the end every task is carried out and every message has arrived.
fn finish(shop: &mut Shop, book: &mut Book) {
    for _ in 0..30 {
        for message in book.messages.clone() {
            shop.receive(&message);
            shop.check();
        }
        if let Some(task) = shop.order.payment.provider_task() {
            if let ProviderTask::LookUpRefund { .. } = task {
                book.settle_all();
            }
            if let Some(answer) = book.carry_out(&task) {
                shop.receive(&answer);
                shop.check();
            }
        }
    }
    let task = shop.order.payment.provider_task();
    let is_idle = task.as_ref().is_none_or(|task| matches!(task, ProviderTask::LookUp { .. }));
    assert!(is_idle, "something is left to do: {task:?} {:?}", shop.order);
}

fn check_end(shop: &Shop, book: &Book) {
    let (order, payment) = (&shop.order, &shop.order.payment);
    let kept = book.kept();
    let sum = |status| {
        let refunds = payment.refunds.iter().filter(|refund| refund.status == status);
        refunds.map(|refund| refund.amount.minor_units()).sum::<i64>()
    };
    let shipped = |line: &OrderLine| line.unit_price.saturating_mul(line.fulfilled).minor_units();
    let goods: i64 = order.lines.iter().map(shipped).sum();
    let both = || format!("{order:#?} {book:#?}");
    assert_eq!(sum(RefundStatus::Pending), 0, "{}", both());
    if payment.method == PaymentMethod::Manual {
        // What somebody refunded by hand and failed stays with the provider.
        assert!(kept <= book.failed(), "{}", both());
        return;
    }
    if order.status == OrderStatus::PendingPayment || book.paid() == 0 {
        assert_eq!(kept, 0, "{}", both());
        return;
    }
    let expected = payment.amount.minor_units() - sum(RefundStatus::Succeeded);
    assert_eq!(kept, expected, "the books differ: {}", both());
    if matches!(order.status, OrderStatus::Cancelled | OrderStatus::Expired) {
        // Staff sees a refund that failed, and sends the money otherwise.
        let unsent = sum(RefundStatus::Failed);
        assert!(kept <= goods + unsent, "charged without goods or refund: {}", both());
    }
    assert_ne!(payment.status, PaymentStatus::Unclear);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn nobody_is_charged_for_nothing_or_twice(steps in prop::collection::vec(steps(), 0..50)) {
        run(steps);
    }
}

pub(super) fn begun(order: &Order) -> Order {
    let update = ProviderUpdate::Begun {
        attempt: 1,
        intent: "pi_1".into(),
        client_secret: "pi_1_secret".into(),
    };
    apply_update(order, &update).0
}

pub(super) fn apply_update(order: &Order, update: &ProviderUpdate) -> (Order, PaymentEvent) {
    let done = order.decide_provider_update(update, LateMoney::Revives, NOW).unwrap();
    (done.order, done.event)
}

pub(super) fn succeeded(amount: &str) -> ProviderUpdate {
    ProviderUpdate::Succeeded { intent: "pi_1".into(), amount: Some(eur_price(amount)) }
}

pub(super) fn paid() -> Order {
    apply_update(&begun(&stripe_order()), &succeeded("30")).0
}

#[test]
fn client_secret_is_there_while_the_buyer_can_pay() {
    let order = begun(&stripe_order());
    assert_eq!(order.payment.client_secret(), Some("pi_1_secret"));
    assert_eq!(order.payment.reference.as_deref(), Some("pi_1"));
    let failure = PaymentFailure { code: "card_declined".into(), message: "Declined.".into() };
    let declined = ProviderUpdate::Declined { intent: "pi_1".into(), failure };
    let (failed, event) = apply_update(&order, &declined);
    assert_eq!(event, PaymentEvent::PaymentChanged);
    assert_eq!(failed.payment.status, PaymentStatus::Failed);
    assert_eq!(failed.payment.client_secret(), Some("pi_1_secret"));
    assert!(failed.decide_provider_update(&declined, LateMoney::Revives, NOW).is_none());
    let (paid, event) = apply_update(&failed, &succeeded("30"));
    assert_eq!((paid.status, event), (OrderStatus::Paid, PaymentEvent::Paid));
    assert_eq!((paid.payment.failure.as_ref(), paid.payment.client_secret()), (None, None));
    assert!(paid.decide_provider_update(&declined, LateMoney::Revives, NOW).is_none());
    assert!(paid.decide_provider_update(&succeeded("30"), LateMoney::Revives, NOW).is_none());
}

#[test]
fn another_amount_or_currency_is_unclear() {
    let other_currency = ProviderUpdate::Succeeded { intent: "pi_1".into(), amount: None };
    for update in [succeeded("29.99"), succeeded("30.01"), other_currency] {
        let (order, event) = apply_update(&begun(&stripe_order()), &update);
        assert_eq!(order.payment.status, PaymentStatus::Unclear);
        assert_eq!(
            (order.status, event),
            (OrderStatus::PendingPayment, PaymentEvent::PaymentChanged)
        );
    }
}

#[test]
fn dispute_is_unclear_whichever_message_comes_first() {
    let disputed = ProviderUpdate::Disputed { intent: "pi_1".into() };
    let (order, _) = apply_update(&paid(), &disputed);
    assert_eq!(order.payment.status, PaymentStatus::Unclear);
    let (early, _) = apply_update(&begun(&stripe_order()), &disputed);
    let (order, _) = apply_update(&early, &succeeded("30"));
    assert_eq!(order.payment.status, PaymentStatus::Unclear);
}

#[test]
fn money_from_an_intent_that_nobody_asked_for_pays_or_goes_back() {
    // It pays the order, and the shop's own intent is called off.
    let foreign =
        |id: &str| ProviderUpdate::Succeeded { intent: id.into(), amount: Some(eur_price("30")) };
    let (order, event) = apply_update(&begun(&stripe_order()), &foreign("pi_x"));
    assert_eq!((order.status, event), (OrderStatus::Paid, PaymentEvent::Paid));
    assert_eq!(order.payment.reference.as_deref(), Some("pi_x"));
    let call_off = ProviderTask::CallOff { intent: "pi_1".into() };
    assert_eq!(order.payment.provider_task(), Some(call_off));
    // The order is paid already.
    let (order, _) = apply_update(&paid(), &foreign("pi_y"));
    let give_back = ProviderTask::GiveBack { intent: "pi_y".into() };
    assert_eq!(order.payment.provider_task(), Some(give_back));
    assert_eq!(order.payment.reference.as_deref(), Some("pi_1"));
}
