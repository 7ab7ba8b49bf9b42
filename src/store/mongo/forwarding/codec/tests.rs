//! What one node writes, another one reads.

use super::*;
use crate::{
    domain::{
        account::Email,
        action::{ActionOrigin, Actor},
        cart::{Cart, CartLine, CartOwner, Shortage},
        clock::Timestamp,
        ids::OrderId,
        inventory::{StockChange, StockLevel},
        mail::Mail,
        money::{Currency, Money},
        order::{
            LimitedLine, Order, OrderAddress, OrderLine, OrderNotice, OrderStatus, Payment,
            PaymentMethod, PurchaseExcess,
        },
    },
    events::DomainEvent,
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn usd(minor: i64) -> Money {
    let currency: Currency = "USD".parse().unwrap();
    Money::from_minor_units(minor, currency).unwrap()
}

fn stock_write(change: StockChange) -> Write {
    Write::Stock(StockWrite {
        product_id: ProductId::new(),
        change,
        expected_version: Some(7),
        order_id: Some(OrderId::new()),
        reference: Some("delivery 7".to_owned()),
        reason: None,
    })
}

fn key(body: StoredReplyBody) -> Option<IdempotencyRecord> {
    let key = IdempotencyKey {
        owner: UserId::new(),
        key: "once".into(),
        fingerprint: std::array::from_fn(|index| index as u8),
        received_at: Timestamp::from_millis(1_767_225_600_119),
    };
    Some(IdempotencyRecord { key, body, about: Some(UserId::new()) })
}

fn cart() -> Arc<Cart> {
    let line = CartLine {
        product_id: ProductId::new(),
        name: "Mint tea".to_owned(),
        quantity: 2,
        price: usd(450),
    };
    Arc::new(Cart {
        owner: CartOwner { id: UserId::new(), is_guest: true },
        version: 3,
        lines: vec![line],
        updated_at: Timestamp::from_millis(1_767_225_600_121),
        merged_into: None,
        abandoned: false,
        codes: vec!["TEN".into()],
        shipping: None,
    })
}

fn order() -> Arc<Order> {
    let line = OrderLine {
        product_id: ProductId::new(),
        sku: Some("TEA-1".to_owned()),
        name: "Mint tea".to_owned(),
        quantity: 2,
        unit_price: usd(450),
        fulfilled: 1,
        restocked: 0,
    };
    let fields = [("street".to_owned(), "Rua Nova 7".to_owned())];
    let time = Timestamp::from_millis(1_767_225_600_122);
    Arc::new(Order {
        id: OrderId::new(),
        user_id: UserId::new(),
        status: OrderStatus::PendingPayment,
        version: 1,
        currency: "USD".parse().unwrap(),
        lines: vec![line],
        payment: Payment::awaiting(PaymentMethod::Manual, usd(900)),
        shipments: Vec::new(),
        email: Some(Email::from_stored("ada@example.com".to_owned())),
        guest: true,
        billing_address: OrderAddress::from_stored(fields.clone().into()),
        shipping_address: OrderAddress::from_stored(fields.into()),
        placed_at: time,
        expires_at: Some(time),
        updated_at: time,
        actor: Some(Actor::Cli),
        anonymized: false,
        charges: None,
    })
}

fn checkout(now: Instant) -> Commit {
    let (cart, order, product) = (cart(), order(), ProductId::new());
    let (user_id, limited) =
        (cart.owner.id, LimitedLine { product_id: product, quantity: 2, limit: 3 });
    Commit {
        conditions: vec![
            Condition::ProductUnchanged(product, 12),
            Condition::PendingOrdersBelow(user_id, 20),
            Condition::PendingUnitsWithin { user_id, units: 2, limit: 1000 },
            Condition::PurchaseWithin(user_id, limited),
        ],
        writes: vec![
            Write::Cart(Arc::clone(&cart)),
            Write::Order(Arc::clone(&order)),
            stock_write(StockChange::Reserve(2)),
            stock_write(StockChange::Reserve(1)),
            Write::Mail(Arc::new(Mail::about_order(&order, OrderNotice::Placed, order.placed_at))),
        ],
        events: vec![
            DomainEvent::Cart(cart, CartEvent::CheckedOut { order_id: order.id }),
            DomainEvent::Order(order),
        ],
        idempotency_record: key(StoredReplyBody::Ready(Bytes::from_static(b"{\"id\":7}"))),
        trace: TraceParent::parse(TRACE),
        ..Commit::new(Timestamp::from_millis(1_767_225_600_120), now + Duration::from_secs(2))
    }
}

fn change_of_stock(now: Instant) -> Commit {
    Commit {
        writes: vec![stock_write(StockChange::Adjust(i64::MIN))],
        idempotency_record: key(StoredReplyBody::StockLevelOf(ProductId::new())),
        inbox_message_id: Some("message 7".into()),
        action: Some(Arc::new(ActionOrigin {
            actor: Actor::User(UserId::new()),
            operation: "adjust_stock".into(),
            request_id: Some("request 7".into()),
        })),
        ..Commit::new(Timestamp::from_millis(-1), now + Duration::from_secs(2))
    }
}

#[test]
fn commits_arrive_as_they_were() {
    let now = Instant::now();
    for (commit, has_priority) in [(checkout(now), false), (change_of_stock(now), true)] {
        let encoded = encode_commit(&commit, has_priority, now).unwrap();
        // The other node reads it later, and on another clock.
        let later = now + Duration::from_secs(3600);
        let ForwardedCommit { commit: decoded, has_priority: decoded_priority } =
            decode_commit(&encoded, later).unwrap();
        assert_eq!(decoded_priority, has_priority);
        assert_eq!(decoded.deadline, later + Duration::from_secs(2) - REPLY_MARGIN);
        let decoded = Commit { deadline: commit.deadline, ..decoded };
        assert_eq!(format!("{decoded:?}"), format!("{commit:?}"));
    }
}

#[test]
fn what_another_node_cannot_take_is_not_encoded() {
    let now = Instant::now();
    let is_refused = |commit: Commit| encode_commit(&commit, false, now).is_none();
    assert!(!is_refused(change_of_stock(now)));
    assert!(is_refused(Commit { deadline: now, ..change_of_stock(now) }), "no time is left");
    let refusal = key(StoredReplyBody::Refused);
    assert!(is_refused(Commit { idempotency_record: refusal, ..change_of_stock(now) }));
    let level = StockLevel::empty(ProductId::new());
    let foreign = [
        DomainEvent::StockChanged(level),
        DomainEvent::Order(order()),
        DomainEvent::Cart(cart(), CartEvent::Cleared),
    ];
    for event in foreign {
        assert!(is_refused(Commit { events: vec![event], ..checkout(now) }), "not its record");
    }
    let mut two_carts = checkout(now);
    two_carts.writes.push(Write::Cart(cart()));
    assert!(is_refused(two_carts), "an event does not say which");
}

#[test]
fn outcomes_arrive_as_they_were() {
    let product_id = ProductId::new();
    let level = StockLevel { on_hand: 7, reserved: 2, version: 12, last_movement: 31, product_id };
    let shortage = Shortage { product_id, requested: 3, available: 1 };
    for outcome in [
        Ok(CommitReceipt { stock: vec![level, StockLevel::empty(ProductId::new())] }),
        Err(CommitError::Conflict),
        Err(CommitError::StockVersionMismatch(7)),
        Err(CommitError::InsufficientStock(vec![shortage])),
        Err(CommitError::StockOverflow),
        Err(CommitError::TooManyPendingOrders),
        Err(CommitError::TooManyPendingUnits { left: 7 }),
        Err(CommitError::PurchaseLimitReached(vec![PurchaseExcess {
            product_id,
            requested: 3,
            left: 1,
        }])),
        Err(CommitError::Replayed(StoredReply { body: Bytes::from_static(b"{}") })),
        Err(CommitError::IdempotencyKeyReused),
        Err(CommitError::SupersededByRefusal),
        Err(CommitError::AlreadyApplied),
        Err(CommitError::Overloaded),
        Err(CommitError::Unavailable),
        Err(CommitError::OutcomeUnknown),
    ] {
        let encoded = encode_outcome(outcome.clone()).unwrap();
        assert_eq!(decode_outcome(&encoded).unwrap(), outcome);
    }
}

#[test]
fn frames_are_split_into_their_messages() {
    let outcome = encode_outcome(Err(CommitError::Conflict)).unwrap();
    let mut frame = Vec::new();
    push_message(&mut frame, 7, &outcome);
    push_message(&mut frame, u64::MAX, &outcome);
    assert_eq!(split_messages(&frame).unwrap(), [(7, &*outcome), (u64::MAX, &*outcome)]);
    assert_eq!(split_messages(&[]).unwrap(), []);
    for length in 1..frame.len() {
        assert!(length == frame.len() / 2 || split_messages(&frame[..length]).is_none());
    }
    for length in [-1, 0, 3, i32::MAX] {
        frame[8..12].copy_from_slice(&i32::to_le_bytes(length));
        assert!(split_messages(&frame).is_none());
    }
}
