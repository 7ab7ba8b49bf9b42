//! What an audit reads, finds and repairs.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use souk::{
    audit::{AuditSummary, Auditor},
    domain::{
        action::ActionOrigin,
        audit::{
            EventAudit, Finding, FindingKind, IdRange, MovementTotals, OrderAudit, ProductAudit,
        },
        clock::SystemClock,
        ids::{OrderId, ProductId, UserId},
        inventory::{MovementKind, StockChange, StockDelta},
        order::{Order, OrderCommand, OrderStatus},
    },
    events::OutboxPosition,
    store::{Commit, CommitError, StockWrite, Store, Write, writer::CommitWriter},
};
use tokio::runtime::Handle;

use crate::{
    fixtures::{
        apply, apply_one, commit, now, order, order_commit, order_stock_write, product, put_order,
        put_product, stock, stock_level, stocked_product,
    },
    harness::{Harness, NoopObserver},
};

fn start_auditor(store: &Arc<dyn Store>) -> (Auditor, CommitWriter) {
    let observer = Arc::new(NoopObserver);
    let (writer, _) = CommitWriter::start(&Handle::current(), Arc::clone(store), observer);
    let origin = ActionOrigin::command_line("audit_stock");
    (Auditor::new(Arc::clone(store), writer.clone(), Arc::new(SystemClock), origin), writer)
}

async fn run_audit(auditor: &Auditor, repair: bool) -> (AuditSummary, Vec<Finding>) {
    let mut findings = Vec::new();
    let summary = auditor.run(repair, |finding| findings.push(finding.clone())).await.unwrap();
    assert_eq!(summary.found, findings.len() as u64);
    (summary, findings)
}

/// A new order for two units of a product.
fn audited_order(product_id: ProductId) -> Order {
    let mut order = order(UserId::new());
    order.lines[0].product_id = product_id;
    order
}

fn checkout_commit(order: &Order) -> Commit {
    let mut commit = order_commit(order);
    commit.writes.push(order_stock_write(order, StockChange::Reserve));
    commit
}

/// The commit of an order transition, and the order after it.
fn advance(order: &Order, command: OrderCommand) -> (Commit, Order) {
    let next = order.decide(command, now()).unwrap();
    let mut commit = order_commit(&next.order);
    let moves = next.stock_changes.into_iter().map(|(_, change)| match change {
        StockChange::Ship(_) => order_stock_write(order, StockChange::Ship),
        _ => order_stock_write(order, StockChange::Release),
    });
    commit.writes.extend(moves);
    (commit, next.order)
}

/// A movement that does not change the stock level.
fn unbalanced_movement(
    product_id: ProductId,
    delta: StockDelta,
    order_id: Option<OrderId>,
) -> Write {
    let change = StockChange::Correct { delta, reserved: None };
    Write::Stock(StockWrite {
        product_id,
        change,
        expected_version: None,
        order_id,
        reference: None,
        reason: None,
    })
}

async fn all_products(store: &dyn Store, limit: u32) -> Vec<ProductAudit> {
    let (mut found, mut rest) = (Vec::new(), Some(IdRange::ALL));
    while let Some(span) = rest {
        let page = store.audit_products(span, limit).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        found.extend(page.items);
        rest = page.remaining;
    }
    found
}

async fn all_orders(store: &dyn Store, limit: u32) -> Vec<OrderAudit> {
    let (mut found, mut rest) = (Vec::new(), Some(IdRange::ALL));
    while let Some(span) = rest {
        let page = store.audit_orders(span, limit).await.unwrap();
        found.extend(page.items);
        rest = page.remaining;
    }
    found
}

pub(crate) async fn audit_pages_include_deleted_products(harness: &dyn Harness) {
    let store = harness.open().await;
    let (tea, cup) = (stocked_product(&*store, 10).await, stocked_product(&*store, 3).await);
    let bare = product(None);
    apply_one(&*store, commit([put_product(&bare)])).await.unwrap();
    let gone = product(None);
    apply_one(&*store, commit([put_product(&gone), stock(gone.id, StockChange::Set(5))]))
        .await
        .unwrap();
    apply_one(&*store, commit([put_product(&gone.to_deleted(now()))])).await.unwrap();
    let (pending, paid, cancelled) = (audited_order(tea), audited_order(tea), audited_order(tea));
    apply(&*store, [&pending, &paid, &cancelled].map(checkout_commit)).await;
    apply_one(&*store, advance(&paid, OrderCommand::Pay { reference: None }).0).await.unwrap();
    let cancel = advance(&cancelled, OrderCommand::cancel_by_staff()).0;
    apply_one(&*store, cancel).await.unwrap();
    let whole = all_products(&*store, 100).await;
    assert_eq!(
        whole.iter().map(|facts| facts.product_id).collect::<Vec<_>>(),
        [tea, cup, bare.id, gone.id]
    );
    for limit in 1..=4 {
        assert_eq!(all_products(&*store, limit).await, whole, "{limit}");
    }
    let of_tea = whole[0];
    assert!(
        whole.iter().all(|facts| facts.known && facts.evaluate().findings.is_empty()),
        "{whole:?}"
    );
    assert_eq!(
        (of_tea.stock.on_hand, of_tea.stock.reserved, of_tea.stock.last_movement, of_tea.promised),
        (10, 4, 5, 4)
    );
    assert_eq!((of_tea.ledger.count, of_tea.ledger.first, of_tea.ledger.last), (5, 1, 5));
    assert_eq!(of_tea.stock.version, stock_level(&*store, tea).await.version);
    assert_eq!(whole[2], ProductAudit { known: true, ..ProductAudit::empty(bare.id) });
    assert_eq!((whole[3].stock.on_hand, whole[3].ledger.on_hand), (5, 5));
    assert_eq!(
        store.audit_products(IdRange::single(cup.as_uuid()), 9).await.unwrap().items,
        [whole[1]]
    );
    // Stock of an unknown product.
    let stray = ProductId::new();
    apply_one(&*store, commit([stock(stray, StockChange::Set(1))])).await.unwrap();
    let found = all_products(&*store, 2).await;
    assert_eq!(
        (found.len(), found[4].product_id, found[4].known, found[4].stock.on_hand),
        (5, stray, false, 1)
    );
}

pub(crate) async fn audited_orders_include_their_movements(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = stocked_product(&*store, 100).await;
    let orders: Vec<Order> = (0..5).map(|_| audited_order(tea)).collect();
    apply(&*store, orders.iter().map(checkout_commit)).await;
    let cancel = advance(&orders[1], OrderCommand::cancel_by_staff()).0;
    apply_one(&*store, cancel).await.unwrap();
    let (pay, paid) = advance(&orders[2], OrderCommand::Pay { reference: None });
    apply_one(&*store, pay).await.unwrap();
    apply_one(&*store, advance(&paid, OrderCommand::fulfill_all()).0).await.unwrap();
    let whole = all_orders(&*store, 100).await;
    let ids: Vec<OrderId> = orders.iter().map(|order| order.id).collect();
    assert_eq!(whole.iter().map(|facts| facts.order_id).collect::<Vec<_>>(), ids);
    assert!(whole.iter().all(|facts| facts.evaluate().findings.is_empty()), "{whole:?}");
    for limit in 1..=6 {
        assert_eq!(all_orders(&*store, limit).await, whole, "{limit}");
    }
    let moved = |place: usize| (whole[place].status.unwrap(), whole[place].items[0].movements);
    let sums = |on_hand, reserved| MovementTotals { on_hand, reserved, total_reserved: 2 };
    assert_eq!(moved(0), (OrderStatus::PendingPayment, sums(0, 2)));
    assert_eq!(moved(1), (OrderStatus::Cancelled, sums(0, 0)));
    assert_eq!(moved(2), (OrderStatus::Fulfilled, sums(-2, 0)));
    let version = stock_level(&*store, tea).await.version;
    assert!(
        whole.iter().all(|facts| facts.items.len() == 1 && facts.items[0].stock_version == version)
    );
    let missing = audited_order(tea);
    apply_one(&*store, commit([order_stock_write(&missing, StockChange::Reserve)])).await.unwrap();
    let found = all_orders(&*store, 5).await;
    assert_eq!((found.len(), found[5].order_id, found[5].status), (6, missing.id, None));
}

pub(crate) async fn event_positions_are_audited(harness: &dyn Harness) {
    let store = harness.open().await;
    let empty = |audit: &EventAudit| audit.ranges.is_empty();
    assert!(store.audit_events().await.unwrap().iter().all(empty));
    let tea = stocked_product(&*store, 100).await;
    for _ in 0..5 {
        apply(
            &*store,
            [checkout_commit(&audited_order(tea)), checkout_commit(&audited_order(tea))],
        )
        .await;
    }
    let heads: Vec<OutboxPosition> = store.outbox_heads().await.unwrap().positions().collect();
    let [OutboxPosition { partition, offset: last }] = heads[..] else { panic!("{heads:?}") };
    let audits = store.audit_events().await.unwrap();
    let [audit] = &audits[..] else { panic!("{audits:?}") };
    assert_eq!((audit.partition, &*audit.ranges), (partition, &[(1, last)][..]));
    assert!(audit.recorded_last.is_none_or(|recorded| recorded == last));
}

/// The number of findings of each kind.
fn count_by_kind(findings: &[Finding]) -> BTreeMap<&'static str, usize> {
    let mut count = BTreeMap::new();
    findings.iter().for_each(|finding| *count.entry(finding.kind.as_str()).or_default() += 1);
    count
}

/// Tea: units without a movement. Cup: an order without a reservation, and one that released
/// nothing. Pot: units reserved without an order. Returns the two orders.
async fn damage_stock(store: &dyn Store, [tea, cup, pot]: [ProductId; 3]) -> (Order, Order) {
    apply_one(
        store,
        commit([unbalanced_movement(
            tea,
            StockDelta { kind: MovementKind::Adjusted, on_hand: -3, reserved: 0 },
            None,
        )]),
    )
    .await
    .unwrap();
    let (bare, kept) = (audited_order(cup), audited_order(cup));
    apply(store, [commit([put_order(&bare)]), checkout_commit(&kept)]).await;
    let cancelled = advance(&kept, OrderCommand::cancel_by_staff()).1;
    apply_one(store, commit([put_order(&cancelled)])).await.unwrap();
    apply_one(store, commit([stock(pot, StockChange::Reserve(1))])).await.unwrap();
    (bare, kept)
}

/// Asserts the movements and levels after the repair of [`damage_stock`].
async fn assert_corrections(
    store: &Arc<dyn Store>,
    [tea, cup, pot]: [ProductId; 3],
    [bare, kept]: [OrderId; 2],
) {
    let newest = |id| {
        let store = Arc::clone(store);
        async move {
            let newest = store.list_movements(id, None, 2).await.unwrap();
            assert_eq!(newest[0].reason.as_deref(), Some("audit"));
            (newest[0].delta, newest[0].order_id, newest[1].order_id)
        }
    };
    let delta = |kind, on_hand, reserved| StockDelta { kind, on_hand, reserved };
    assert_eq!(newest(tea).await.0, delta(MovementKind::Adjusted, 3, 0));
    assert_eq!(newest(cup).await, (delta(MovementKind::Released, 0, -2), Some(kept), Some(bare)));
    assert_eq!(newest(pot).await.0, delta(MovementKind::Released, 0, -1));
    let levels = [
        stock_level(&**store, tea).await,
        stock_level(&**store, cup).await,
        stock_level(&**store, pot).await,
    ];
    assert_eq!(levels.map(|level| (level.on_hand, level.reserved)), [(10, 2), (10, 4), (10, 2)]);
}

/// With more units promised than on hand, no repair is possible, but the finding says what to do.
async fn assert_overcommitment_is_reported(store: &dyn Store, auditor: &Auditor, tea: ProductId) {
    let mut large = audited_order(tea);
    large.lines[0].quantity = 20;
    apply_one(store, commit([put_order(&large)])).await.unwrap();
    let (summary, findings) = run_audit(auditor, true).await;
    assert_eq!(
        (summary.found - summary.repaired, findings.last().unwrap().kind),
        (2, FindingKind::OpenOrders),
        "{findings:?}"
    );
    assert!(
        findings
            .last()
            .unwrap()
            .to_string()
            .contains("open orders need 12 more units than are on hand"),
        "{findings:?}"
    );
    apply_one(store, commit([stock(tea, StockChange::Adjust(12))])).await.unwrap();
    assert_eq!(run_audit(auditor, true).await.0.repaired, 2);
    assert_eq!(run_audit(auditor, false).await.0.found, 0);
}

pub(crate) async fn inconsistencies_are_found_and_repaired(harness: &dyn Harness) {
    let store = harness.open().await;
    let (auditor, _writer) = start_auditor(&store);
    assert_eq!(
        run_audit(&auditor, false).await,
        (AuditSummary::default(), Vec::new()),
        "an empty shop is clean"
    );
    let [tea, cup, pot] = [
        stocked_product(&*store, 10).await,
        stocked_product(&*store, 10).await,
        stocked_product(&*store, 10).await,
    ];
    apply(&*store, [tea, cup, pot].map(|id| checkout_commit(&audited_order(id)))).await;
    let (clean, none) = run_audit(&auditor, true).await;
    assert_eq!(
        (clean.products, clean.orders, clean.movements, clean.found, none.len()),
        (3, 3, 6, 0, 0)
    );
    let (bare, kept) = damage_stock(&*store, [tea, cup, pot]).await;
    let before = stock_level(&*store, cup).await;
    for _ in 0..2 {
        let (summary, findings) = run_audit(&auditor, false).await;
        assert_eq!(summary.repaired, 0);
        let wanted = [("on_hand_mismatch", 1), ("open_orders_mismatch", 1), ("order_movements", 2)];
        assert_eq!(count_by_kind(&findings), BTreeMap::from(wanted), "{findings:?}");
        let of = |id: OrderId| {
            findings
                .iter()
                .any(|finding| finding.order_id == Some(id) && finding.product_id == Some(cup))
        };
        assert!(of(bare.id) && of(kept.id), "{findings:?}");
    }
    assert_eq!(stock_level(&*store, cup).await, before, "an audit without repair changes nothing");
    let (summary, findings) = run_audit(&auditor, true).await;
    assert!(
        summary.found == summary.repaired && findings.iter().all(|finding| finding.repaired),
        "{findings:?}"
    );
    let (summary, findings) = run_audit(&auditor, true).await;
    assert_eq!((summary.found, findings), (0, Vec::new()));
    assert_corrections(&store, [tea, cup, pot], [bare.id, kept.id]).await;
    assert_overcommitment_is_reported(&*store, &auditor, tea).await;
}

/// Places orders of one product and pays, ships or cancels them, until all are done.
async fn trade(writer: &CommitWriter, product: ProductId, orders: usize) {
    let trade_one = |n: usize| async move {
        let order = audited_order(product);
        writer.commit(checkout_commit(&order)).await.unwrap();
        let (pay, paid) = advance(&order, OrderCommand::Pay { reference: None });
        let end = match n % 3 {
            0 => advance(&order, OrderCommand::cancel_by_staff()).0,
            1 => pay,
            _ => {
                writer.commit(pay).await.unwrap();
                advance(&paid, OrderCommand::fulfill_all()).0
            }
        };
        writer.commit(end).await.unwrap();
    };
    for group in 0..orders / 20 {
        join_all((0..20).map(|n| trade_one(group + n))).await;
    }
}

pub(crate) async fn audit_during_changes_reports_nothing(harness: &dyn Harness) {
    let store = harness.open().await;
    let (auditor, writer) = start_auditor(&store);
    let tea = stocked_product(&*store, 10_000).await;
    let trading = tokio::spawn(async move { trade(&writer, tea, 400).await });
    let mut audits = 0;
    while !trading.is_finished() {
        assert_eq!(run_audit(&auditor, false).await.1, []);
        audits += 1;
    }
    trading.await.unwrap();
    let (summary, findings) = run_audit(&auditor, false).await;
    assert_eq!((summary.orders, findings), (400, Vec::new()));
    assert!(audits > 1, "audits run during changes");
}

pub(crate) async fn repair_during_changes_corrects_once(harness: &dyn Harness) {
    let store = harness.open().await;
    let (auditor, writer) = start_auditor(&store);
    let tea = stocked_product(&*store, 10_000).await;
    let trading = tokio::spawn(async move { trade(&writer, tea, 200).await });
    let off = StockDelta { kind: MovementKind::Adjusted, on_hand: -7, reserved: 0 };
    let mut damaged = 0;
    while !trading.is_finished() {
        apply_one(&*store, commit([unbalanced_movement(tea, off, None)])).await.unwrap();
        damaged += 1;
        // Two concurrent repairs do not correct the same damage twice.
        let (first, second) = tokio::join!(run_audit(&auditor, true), run_audit(&auditor, true));
        for finding in first.1.iter().chain(&second.1) {
            assert_eq!(finding.kind, FindingKind::OnHand, "{finding:?}");
        }
    }
    trading.await.unwrap();
    run_audit(&auditor, true).await;
    assert_eq!(run_audit(&auditor, true).await.1, []);
    let movements = store.list_movements(tea, None, 10_000).await.unwrap();
    let corrections =
        movements.iter().filter(|movement| movement.reason.as_deref() == Some("audit"));
    assert_eq!(corrections.map(|movement| movement.delta.on_hand).sum::<i64>(), 7 * damaged);
    // A repair based on a stale version is refused.
    let Write::Stock(stale) = unbalanced_movement(tea, off, None) else { unreachable!() };
    let stale = Write::Stock(StockWrite { expected_version: Some(1), ..stale });
    assert!(matches!(
        apply_one(&*store, commit([stale])).await,
        Err(CommitError::StockVersionMismatch(_))
    ));
}
