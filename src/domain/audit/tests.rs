mod pages;

use proptest::prelude::*;

use super::{
    AuditOutcome, Correction, EventAudit, FindingKind, LedgerTotals, MovementTotals, OrderAudit,
    OrderItemAudit, ProductAudit, StoredStock,
};
use crate::domain::{
    ids::{OrderId, ProductId},
    inventory::{MovementKind, StockChange, StockDelta, StockLevel},
    order::OrderStatus,
};

/// Ten units on hand, four of them reserved by two movements, and an order that needs those four.
fn consistent_product() -> ProductAudit {
    ProductAudit {
        product_id: ProductId::new(),
        known: true,
        stock: StoredStock { on_hand: 10, reserved: 4, version: 3, last_movement: 3 },
        ledger: LedgerTotals { count: 3, first: 1, last: 3, on_hand: 10, reserved: 4 },
        promised: 4,
    }
}

fn finding_kinds(outcome: &AuditOutcome) -> Vec<FindingKind> {
    outcome.findings.iter().map(|finding| finding.kind).collect()
}

fn stock_delta(kind: MovementKind, on_hand: i64, reserved: i64) -> StockDelta {
    StockDelta { kind, on_hand, reserved }
}

#[test]
fn consistent_product_has_no_findings() {
    assert_eq!(consistent_product().evaluate(), AuditOutcome::default());
    let never_moved = ProductAudit { known: true, ..ProductAudit::empty(ProductId::new()) };
    assert_eq!(never_moved.evaluate(), AuditOutcome::default());
}

#[test]
fn on_hand_mismatch_adjusts_ledger_to_level() {
    let product = ProductAudit {
        stock: StoredStock { on_hand: 12, ..consistent_product().stock },
        ..consistent_product()
    };
    let outcome = product.evaluate();
    assert_eq!(finding_kinds(&outcome), [FindingKind::OnHand]);
    let line = outcome.findings[0].to_string();
    assert_eq!(
        line,
        format!("product {}: on_hand is 12, but its movements add up to 10", product.product_id)
    );
    let correction = Correction {
        product_id: product.product_id,
        expected_version: 3,
        movements: vec![stock_delta(MovementKind::Adjusted, 2, 0)],
        reserved: Some(4),
        order_id: None,
    };
    assert_eq!(outcome.corrections, [correction]);
}

#[test]
fn reserved_is_corrected_to_open_orders() {
    let with = |level: i64, ledger: i64, promised: i64| {
        let product = consistent_product();
        let (stock, ledger) = (
            StoredStock { reserved: level, ..product.stock },
            LedgerTotals { reserved: ledger, ..product.ledger },
        );
        let outcome = ProductAudit { stock, ledger, promised, ..product }.evaluate();
        let moves = outcome.corrections[0].movements.clone();
        assert_eq!(
            (moves.len(), outcome.corrections[0].reserved),
            (1, u64::try_from(promised).ok())
        );
        (finding_kinds(&outcome), moves[0])
    };
    let (ledger, orders) = (FindingKind::Reserved, FindingKind::OpenOrders);
    assert_eq!(with(4, 6, 4), (vec![ledger], stock_delta(MovementKind::Released, 0, -2)));
    assert_eq!(with(4, 4, 7), (vec![orders], stock_delta(MovementKind::Reserved, 0, 3)));
    assert_eq!(
        with(7, 4, 4),
        (vec![ledger, orders], stock_delta(MovementKind::Adjusted, 0, 0)),
        "only the level is off"
    );
    assert_eq!(
        with(12, 12, 4),
        (vec![orders, FindingKind::ReservedOutOfRange], stock_delta(MovementKind::Released, 0, -8))
    );
}

#[test]
fn sequence_gaps_are_reported_but_not_corrected() {
    let numbered = |count, first, last, noted| {
        let product = consistent_product();
        let stock = StoredStock { last_movement: noted, ..product.stock };
        ProductAudit {
            stock,
            ledger: LedgerTotals { count, first, last, ..product.ledger },
            ..product
        }
        .evaluate()
    };
    for (count, first, last, noted) in [(2, 1, 3, 3), (2, 2, 3, 3), (4, 1, 3, 3), (3, 1, 3, 4)] {
        let outcome = numbered(count, first, last, noted);
        assert_eq!(
            (finding_kinds(&outcome), outcome.corrections.len()),
            (vec![FindingKind::MovementSequence], 0)
        );
        assert!(outcome.findings[0].advice.as_ref().unwrap().contains("backup"));
    }
    let behind = numbered(3, 1, 3, 2);
    assert_eq!(finding_kinds(&behind), [FindingKind::MovementSequence]);
    assert!(
        behind.findings[0]
            .advice
            .as_ref()
            .unwrap()
            .contains("set last_movement of its stock in the store to 3")
    );
    let gone = ProductAudit { ledger: LedgerTotals::default(), ..consistent_product() }.evaluate();
    assert_eq!(
        finding_kinds(&gone),
        [FindingKind::OnHand, FindingKind::Reserved, FindingKind::MovementSequence]
    );
    assert_eq!(
        gone.corrections[0].movements,
        [stock_delta(MovementKind::Adjusted, 10, 0), stock_delta(MovementKind::Reserved, 0, 4)]
    );
}

#[test]
fn uncorrectable_findings_give_advice() {
    let product = consistent_product();
    let stock = |stock| ProductAudit { stock, ..product };
    for (product, word) in [
        (ProductAudit { promised: 11, ..product }, "receive them"),
        (stock(StoredStock { on_hand: -1, ..product.stock }), "counted"),
        (stock(StoredStock { reserved: -1, ..product.stock }), "counted"),
        (stock(StoredStock { on_hand: i64::MAX, ..product.stock }), "counted"),
        (stock(StoredStock { on_hand: 11, last_movement: 2, ..product.stock }), "last_movement"),
    ] {
        let outcome = product.evaluate();
        assert!(outcome.corrections.is_empty(), "{product:?}");
        assert!(outcome.findings[0].to_string().contains(word), "{:?}", outcome.findings);
    }
    let unknown = ProductAudit { known: false, ..product }.evaluate();
    assert_eq!(
        (finding_kinds(&unknown), unknown.corrections.len()),
        (vec![FindingKind::UnknownProduct], 0)
    );
}

fn evaluate_order(status: OrderStatus, quantity: i64, moved: (i64, i64, i64)) -> AuditOutcome {
    let (on_hand, reserved, ever_reserved) = moved;
    let moved = MovementTotals { on_hand, reserved, total_reserved: ever_reserved };
    let item = OrderItemAudit {
        product_id: ProductId::new(),
        quantity,
        fulfilled: if status == OrderStatus::Fulfilled { quantity } else { 0 },
        restocked: 0,
        movements: moved,
        stock_version: 7,
    };
    OrderAudit { order_id: OrderId::new(), status: Some(status), items: vec![item] }.evaluate()
}

#[test]
fn order_movements_are_corrected_to_order_status() {
    use OrderStatus::{Cancelled, Expired, Fulfilled, Paid, PendingPayment};
    for (status, moved) in [
        (PendingPayment, (0, 2, 2)),
        (Paid, (0, 2, 2)),
        (Fulfilled, (-2, 0, 2)),
        (Cancelled, (0, 0, 2)),
        (Expired, (0, 0, 2)),
    ] {
        assert_eq!(evaluate_order(status, 2, moved), AuditOutcome::default(), "{status:?}");
    }
    let (reserved, released) =
        (stock_delta(MovementKind::Reserved, 0, 2), stock_delta(MovementKind::Released, 0, -2));
    let shipped = stock_delta(MovementKind::Shipped, -2, -2);
    for (status, moved, moves) in [
        (PendingPayment, (0, 0, 0), vec![reserved]),
        (Paid, (0, 4, 4), vec![released]),
        (Paid, (0, 0, 2), vec![reserved]),
        (Paid, (-2, 0, 2), vec![stock_delta(MovementKind::Adjusted, 2, 0), reserved]),
        (Cancelled, (0, 2, 2), vec![released]),
        (Cancelled, (0, 0, 0), vec![reserved, released]),
        (Expired, (0, -2, 2), vec![reserved]),
        (Fulfilled, (0, 2, 2), vec![shipped]),
        (Fulfilled, (0, 0, 0), vec![reserved, shipped]),
        (Fulfilled, (-4, -2, 2), vec![stock_delta(MovementKind::Adjusted, 2, 0), reserved]),
    ] {
        let outcome = evaluate_order(status, 2, moved);
        assert_eq!(finding_kinds(&outcome), [FindingKind::OrderMovements], "{status:?} {moved:?}");
        let correction = &outcome.corrections[0];
        assert_eq!(
            (&correction.movements, correction.expected_version, correction.reserved),
            (&moves, 7, None)
        );
        assert_eq!(correction.order_id, outcome.findings[0].order_id);
    }
    let stray = evaluate_order(Paid, 0, (0, 3, 3));
    assert_eq!(
        stray.corrections[0].movements,
        [stock_delta(MovementKind::Released, 0, -3)],
        "a product that it does not have"
    );
}

#[test]
fn units_that_were_shipped_in_part_are_expected_to_be_gone() {
    let evaluate = |status, fulfilled, (on_hand, reserved): (i64, i64)| {
        let item = OrderItemAudit {
            product_id: ProductId::new(),
            quantity: 5,
            fulfilled,
            restocked: 1,
            movements: MovementTotals { on_hand, reserved, total_reserved: 5 },
            stock_version: 7,
        };
        OrderAudit { order_id: OrderId::new(), status: Some(status), items: vec![item] }.evaluate()
    };
    assert!(evaluate(OrderStatus::PartiallyFulfilled, 2, (-1, 3)).findings.is_empty());
    assert!(evaluate(OrderStatus::Cancelled, 2, (-1, 0)).findings.is_empty());
    let wrong = evaluate(OrderStatus::PartiallyFulfilled, 2, (-5, 0));
    assert_eq!(finding_kinds(&wrong), [FindingKind::OrderMovements]);
}

#[test]
fn unknown_order_is_reported() {
    let item = OrderItemAudit {
        product_id: ProductId::new(),
        quantity: 0,
        fulfilled: 0,
        restocked: 0,
        movements: MovementTotals::default(),
        stock_version: 1,
    };
    let outcome =
        OrderAudit { order_id: OrderId::new(), status: None, items: vec![item] }.evaluate();
    assert_eq!(
        (finding_kinds(&outcome), outcome.corrections.len()),
        (vec![FindingKind::UnknownOrder], 0)
    );
    assert!(outcome.findings[0].to_string().contains(&item.product_id.to_string()));
}

#[test]
fn gaps_in_event_positions_are_reported() {
    let evaluate = |runs: &[(u64, u64)], last| {
        EventAudit { partition: 0, ranges: runs.to_vec(), recorded_last: last }.evaluate()
    };
    for (runs, last) in [(&[][..], None), (&[], Some(7)), (&[(3, 9)], None), (&[(3, 9)], Some(9))] {
        assert_eq!(evaluate(runs, last), AuditOutcome::default());
    }
    let gap = evaluate(&[(3, 9), (12, 14)], Some(14));
    assert_eq!(finding_kinds(&gap), [FindingKind::EventPositions]);
    assert!(
        gap.findings[0]
            .to_string()
            .starts_with("events: position 9 is followed by 12 instead of 10; ")
    );
    assert_eq!(finding_kinds(&evaluate(&[(3, 9)], Some(11))), [FindingKind::EventPositions]);
}

proptest! {
    /// Every inconsistency either has advice, or its repair leads to a clean audit.
    #[test]
    fn product_correction_leaves_no_findings(
        on_hand in -2..20_i64,
        reserved in -2..20_i64,
        promised in 0..20_i64,
        sums in (-20..20_i64, -20..20_i64),
        ahead in 0..2_i64,
    ) {
        let product = ProductAudit {
            stock: StoredStock { on_hand, reserved, version: 3, last_movement: 3 - ahead },
            ledger: LedgerTotals { count: 3, first: 1, last: 3, on_hand: sums.0, reserved: sums.1 },
            promised,
            ..consistent_product()
        };
        let outcome = product.evaluate();
        for correction in &outcome.corrections {
            let mut level = StockLevel {
                product_id: product.product_id,
                on_hand: u64::try_from(on_hand).unwrap(),
                reserved: u64::try_from(reserved).unwrap(),
                version: 3,
                last_movement: 3,
            };
            let mut ledger = product.ledger;
            for delta in &correction.movements {
                let change = StockChange::Correct { delta: *delta, reserved: correction.reserved };
                level = level.apply(change).unwrap().unwrap().0;
                ledger = LedgerTotals {
                    count: ledger.count + 1,
                    last: ledger.last + 1,
                    on_hand: ledger.on_hand + delta.on_hand,
                    reserved: ledger.reserved + delta.reserved,
                    ..ledger
                };
            }
            let stock = StoredStock {
                on_hand: i64::try_from(level.on_hand).unwrap(),
                reserved: i64::try_from(level.reserved).unwrap(),
                version: 4,
                last_movement: i64::try_from(level.last_movement).unwrap(),
            };
            let audit = ProductAudit { stock, ledger, ..product };
            prop_assert_eq!(audit.evaluate(), AuditOutcome::default());
            prop_assert_eq!(stock.on_hand, on_hand);
        }
        let silent = outcome.corrections.is_empty()
            && outcome.findings.iter().any(|finding| finding.advice.is_none());
        prop_assert!(!silent);
    }

    #[test]
    fn order_correction_leaves_no_findings(
        quantity in 0..9_i64,
        moved in (-9..9_i64, -9..9_i64, 0..9_i64),
        status in 0..5_usize,
    ) {
        use OrderStatus::{Cancelled, Expired, Fulfilled, Paid, PendingPayment};
        let status = [PendingPayment, Paid, Fulfilled, Cancelled, Expired][status];
        let outcome = evaluate_order(status, quantity, moved);
        let mut after = moved;
        for delta in outcome.corrections.iter().flat_map(|correction| &correction.movements) {
            let ever = if delta.kind == MovementKind::Reserved { delta.reserved } else { 0 };
            after = (after.0 + delta.on_hand, after.1 + delta.reserved, after.2 + ever);
        }
        prop_assert_eq!(evaluate_order(status, quantity, after), AuditOutcome::default());
    }
}
