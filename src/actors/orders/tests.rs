//! Tests order expiry on a real store: many overdue orders, and orders that fail to expire.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use tempfile::TempDir;

use super::OrderService;
use crate::{
    domain::{
        clock::{Clock, Timestamp},
        ids::{OrderId, ProductId, PromotionId, RuleId, UserId},
        inventory::StockChange,
        money::{Currency, Money},
        order::{Order, OrderLine, OrderStatus, Payment, PaymentMethod},
        payment::ProviderUpdate,
        pricing::{Charges, Discount, LineAmounts, Rate, Rule, RuleRecord, TaxRate},
    },
    metrics::payments::PaymentMetrics,
    store::{
        Commit, CommitError, CommittedChanges, StockWrite, Store, Write,
        sqlite::{SqliteOptions, SqliteStore},
        writer::{CommitObserver, CommitWriter},
    },
};

struct MockClock(AtomicI64);

impl Clock for MockClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

struct NoopObserver;

impl CommitObserver for NoopObserver {
    fn on_committed(&self, _: &CommittedChanges) {}
}

struct OrderFixture {
    _dir: TempDir,
    service: OrderService,
    clock: Arc<MockClock>,
    tea: ProductId,
}

fn eur() -> Currency {
    "EUR".parse().unwrap()
}

fn stock_write(product_id: ProductId, change: StockChange) -> Write {
    Write::Stock(StockWrite {
        product_id,
        change,
        expected_version: None,
        order_id: None,
        reference: None,
        reason: None,
    })
}

impl OrderFixture {
    fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SqliteOptions::sample(dir.path());
        let clock = Arc::new(MockClock(AtomicI64::new(0)));
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(options, Arc::clone(&clock) as Arc<dyn Clock>).unwrap());
        let (writer, _) = CommitWriter::start(
            &tokio::runtime::Handle::current(),
            Arc::clone(&store),
            Arc::new(NoopObserver),
        );
        let service = OrderService {
            store,
            writer,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            sends_mail: false,
            provider: None,
            payment_metrics: PaymentMetrics::default(),
            pricing_rules: Arc::default(),
        };
        Self { _dir: dir, service, clock, tea: ProductId::new() }
    }

    /// Builds an unpaid order of one unit that expires at `expires_at`, in milliseconds.
    fn pending_order(&self, expires_at: i64) -> Order {
        let name = "Tea".to_owned();
        let line = OrderLine {
            product_id: self.tea,
            sku: None,
            name,
            quantity: 1,
            unit_price: Money::zero(eur()),
            fulfilled: 0,
            restocked: 0,
        };
        Order {
            id: OrderId::new(),
            user_id: UserId::new(),
            status: OrderStatus::PendingPayment,
            version: 1,
            currency: eur(),
            lines: vec![line],
            payment: Payment::awaiting(PaymentMethod::Manual, Money::zero(eur())),
            shipments: Vec::new(),
            email: None,
            guest: false,
            shipping_address: None,
            billing_address: None,
            placed_at: Timestamp::default(),
            expires_at: Some(Timestamp::from_millis(expires_at)),
            updated_at: Timestamp::default(),
            actor: None,
            anonymized: false,
            charges: None,
        }
    }

    /// Places orders, with or without reserving their stock.
    async fn place_orders(&self, orders: impl Iterator<Item = Order>, reserve: bool) {
        let commit = |order: Order| {
            let reserve = reserve.then(|| stock_write(self.tea, StockChange::Reserve(1)));
            let writes = std::iter::once(Write::Order(Arc::new(order))).chain(reserve).collect();
            Commit {
                writes,
                ..Commit::new(Timestamp::default(), Instant::now() + Duration::from_secs(60))
            }
        };
        let orders: Vec<Commit> = orders.map(commit).collect();
        for batch in orders.chunks(1000) {
            let applied = self.service.store.apply(batch.to_vec().into()).await.unwrap();
            assert!(applied.outcomes.iter().all(Result::is_ok));
        }
    }

    async fn set_stock(&self, units: u64) {
        let writes = vec![stock_write(self.tea, StockChange::Set(units))];
        let commit = Commit {
            writes,
            ..Commit::new(Timestamp::default(), Instant::now() + Duration::from_secs(60))
        };
        self.service.writer.commit(commit).await.unwrap();
    }

    async fn count_due_orders(&self) -> usize {
        self.service
            .store
            .list_overdue_orders(self.clock.now(), None, u32::MAX)
            .await
            .unwrap()
            .len()
    }
}

#[actix_rt::test]
async fn overdue_orders_expire_in_shared_transactions() {
    const OVERDUE: u64 = 2500;
    let shop = OrderFixture::open();
    shop.set_stock(OVERDUE + 500).await;
    shop.place_orders(
        (0..OVERDUE + 500).map(|n| shop.pending_order(if n < OVERDUE { 1000 } else { 1001 })),
        true,
    )
    .await;
    shop.clock.0.store(999, Ordering::Relaxed);
    assert_eq!(shop.service.expire_overdue_orders().await, Ok(0));
    assert_eq!(shop.count_due_orders().await, 0, "no order is due yet");
    shop.clock.0.store(1000, Ordering::Relaxed);
    assert_eq!(shop.count_due_orders().await as u64, OVERDUE);
    let before = shop.service.writer.stats().batches.load(Ordering::Relaxed);
    assert_eq!(shop.service.expire_overdue_orders().await, Ok(0));
    let batches = shop.service.writer.stats().batches.load(Ordering::Relaxed) - before;
    assert_eq!(shop.count_due_orders().await, 0);
    assert!(batches < OVERDUE / 10, "{batches} transactions for {OVERDUE} orders");
    let newest = shop.service.store.list_movements(shop.tea, None, u32::MAX).await.unwrap();
    assert_eq!(
        newest.iter().map(|movement| movement.delta.reserved).sum::<i64>(),
        500,
        "orders that are not overdue keep their reserved stock"
    );
}

#[actix_rt::test]
async fn orders_that_fail_to_expire_do_not_block_others() {
    // More than two pages of overdue orders.
    const BROKEN: usize = 2100;
    let shop = OrderFixture::open();
    shop.set_stock(3000).await;
    // Their stock is not reserved. No checkout does this, but a manual change to the store might.
    let mut broken: Vec<Order> = (0..BROKEN).map(|_| shop.pending_order(1)).collect();
    broken.iter_mut().for_each(|order| {
        order.lines.iter_mut().for_each(|line| line.product_id = ProductId::new())
    });
    shop.place_orders(broken.into_iter(), false).await;
    shop.place_orders((0..1500).map(|_| shop.pending_order(2)), true).await;
    shop.clock.0.store(10, Ordering::Relaxed);
    for _ in 0..2 {
        let expiry = shop.service.expire_overdue_orders();
        let left = tokio::time::timeout(Duration::from_secs(60), expiry)
            .await
            .expect("expiry retries a failed order endlessly");
        assert_eq!(left, Ok(BROKEN));
        assert_eq!(shop.count_due_orders().await, BROKEN);
    }
}

#[actix_rt::test]
async fn order_expiry_bypasses_the_checkout_queue() {
    let shop = OrderFixture::open();
    shop.set_stock(100_000).await;
    let writer = &shop.service.writer;
    let reserve_one = |order_id: Option<OrderId>| {
        let reserve = StockWrite {
            product_id: shop.tea,
            change: StockChange::Reserve(1),
            expected_version: None,
            order_id,
            reference: None,
            reason: None,
        };
        let commit = Commit::new(Timestamp::default(), Instant::now() + Duration::from_secs(60));
        Commit { writes: vec![Write::Stock(reserve)], ..commit }
    };
    // The writer takes no commit from the queue until this task yields.
    let mut buyers = 0;
    while writer.commit(reserve_one(None)).now_or_never().is_none() {
        buyers += 1;
    }
    assert!(buyers > 5000, "a long queue: {buyers}");
    let (rejected, expiring) = (writer.commit(reserve_one(None)), Some(OrderId::new()));
    let (rejected, done) =
        tokio::join!(rejected, writer.commit_with_priority(reserve_one(expiring)));
    assert_eq!((rejected, done.is_ok()), (Err(CommitError::Overloaded), true));
    let movements = shop.service.store.list_movements(shop.tea, None, u32::MAX).await.unwrap();
    let place = movements
        .iter()
        .find(|movement| movement.order_id == expiring)
        .map(|movement| movement.sequence);
    assert_eq!(place, Some(2), "right after the initial stock");
}

/// Otherwise it would decide on the same rules again and again.
#[actix_rt::test]
async fn late_money_is_booked_with_rules_that_have_changed_elsewhere() {
    let shop = OrderFixture::open();
    let price = Money::from_minor_units(450, eur()).unwrap();
    let mut order = shop.pending_order(1);
    order.status = OrderStatus::Expired;
    order.lines.iter_mut().for_each(|line| line.unit_price = price);
    order.payment = Payment::placed(PaymentMethod::Stripe, price, Timestamp::default());
    let discount = Discount {
        promotion_id: PromotionId::new(),
        name: "Ten".into(),
        code: None,
        amount: Money::zero(eur()),
    };
    order.charges = Some(Box::new(Charges {
        lines: vec![LineAmounts { discount: Money::zero(eur()), tax: Money::zero(eur()) }],
        discounts: vec![discount],
        codes: Vec::new(),
        destination: None,
        shipping: None,
        taxes: Vec::new(),
    }));
    let id = order.id;
    shop.set_stock(1).await;
    shop.place_orders(std::iter::once(order), false).await;
    // This node has not heard of the rule.
    let rule = Rule::TaxRate(TaxRate {
        id: RuleId::new().as_uuid().into(),
        name: "VAT".into(),
        country: "DE".into(),
        region: None,
        tax_class: None,
        rate: Rate::from_millionths(190_000).unwrap(),
    });
    let rule = Arc::new(RuleRecord::new(RuleId::new(), rule, Timestamp::default()));
    let commit = Commit::new(Timestamp::default(), Instant::now() + Duration::from_secs(60));
    let commit = Commit { writes: vec![Write::PricingRule(rule)], ..commit };
    shop.service.writer.commit(commit).await.unwrap();
    let paid = ProviderUpdate::Succeeded { intent: "pi_1".into(), amount: Some(price) };
    assert_eq!(shop.service.apply_provider_update(id, &paid).await, Ok(true));
    let order = shop.service.store.find_order(id).await.unwrap().unwrap();
    assert_eq!(order.status, OrderStatus::Paid);
}
