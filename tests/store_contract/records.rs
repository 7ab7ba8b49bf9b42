//! Records are read back as written, also after reopening the store.

use std::collections::{BTreeMap, HashMap};

use serde_json::Number;
use souk::{
    domain::{
        account::{Role, known_networks::KnownNetwork, login_failures::LoginKey},
        cart::{Cart, CartLine, CartOwner},
        catalog::product::{AttributeValue, Product},
        clock::Timestamp,
        ids::{OrderId, ProductId, SessionId, UserId},
        inventory::{MovementKind, StockChange, StockDelta, StockLevel, StockMovement},
        money::{MAX_MINOR_UNITS, Money},
        order::OrderFilter,
    },
    events::OutboxCursor,
    store::{StockWrite, Write},
};

use crate::{
    fixtures::{
        apply, apply_one, cart, commit, customer, euro, key, now, price, product, product_commit,
        put_cart, put_product, put_session, put_user, session, stocked_product, user,
    },
    harness::Harness,
};

/// Quotes, a backslash, line breaks, an emoji, a combining accent, a right-to-left mark, SQL and
/// JSON.
pub(crate) const UNUSUAL_TEXT: &str = "\"'`\\ \r\n\t 🫖 e\u{301} \u{200f}\u{2028} \
                                       '; DROP TABLE carts; -- {\"$set\": [1]} %_?1 \u{10FFFF}";

pub(crate) async fn new_store_is_empty(harness: &dyn Harness) {
    let store = harness.open().await;
    assert_eq!(store.find_cart(UserId::new()).await, Ok(None));
    assert_eq!(store.list_idle_carts(Timestamp::from_millis(i64::MAX), 10).await, Ok(vec![]));
    assert_eq!(store.list_products(None, 10).await, Ok(vec![]));
    assert_eq!(store.find_product(ProductId::new()).await, Ok(None));
    assert_eq!(store.list_movements(ProductId::new(), None, 10).await, Ok(vec![]));
    assert_eq!(store.find_order(OrderId::new()).await, Ok(None));
    assert_eq!(store.list_orders(OrderFilter::default(), None, 10).await, Ok(vec![]));
    assert_eq!(
        store.list_overdue_orders(Timestamp::from_millis(i64::MAX), None, 10).await,
        Ok(vec![])
    );
    assert_eq!(store.find_user(UserId::new()).await, Ok(None));
    assert_eq!(store.find_user_by_email(&user("ada@example.com").email).await, Ok(None));
    assert_eq!(store.has_admin().await, Ok(false));
    assert_eq!(store.find_session(SessionId::new()).await, Ok(None));
    assert_eq!(
        store.list_active_sessions(UserId::new(), Timestamp::from_millis(0), 10).await,
        Ok(vec![])
    );
    assert_eq!(
        store.list_stale_sessions(UserId::new(), Timestamp::from_millis(0), 0, 10).await,
        Ok(vec![])
    );
    assert_eq!(store.delete_ended_records().await, Ok(0));
    assert_eq!(store.list_sessions_revoked_since(Timestamp::from_millis(0)).await, Ok(vec![]));
    assert_eq!(store.find_stored_reply(&key(UserId::new(), "k", 1)).await, Ok(None));
    let page = store.list_events_after(&OutboxCursor::default(), u32::MAX).await.unwrap();
    assert!(page.events.is_empty() && !page.has_more && !page.has_gap, "{page:?}");
    assert_eq!(page.end, OutboxCursor::default());
    assert_eq!(store.outbox_heads().await, Ok(OutboxCursor::default()));
    assert_eq!(store.linearizable_outbox_heads().await, Ok(OutboxCursor::default()));
    assert_eq!(store.published_cursor().await, Ok(OutboxCursor::default()));
    assert_eq!(store.ping().await, Ok(()));
}

pub(crate) async fn products_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut full = product(Some("TEA-1!~"));
    full.details.name = UNUSUAL_TEXT.into();
    full.details.description = UNUSUAL_TEXT.repeat(100);
    full.details.price = Money::from_minor_units(MAX_MINOR_UNITS, euro()).unwrap();
    full.details.category = Some(UNUSUAL_TEXT.into());
    full.details.tags = vec![UNUSUAL_TEXT.into(), String::new(), "b".into(), "a".into()];
    full.details.purchase_limit = Some(u32::MAX);
    full.details.weight_grams = Some(u32::MAX);
    full.details.tax_class = Some(UNUSUAL_TEXT.into());
    full.details.image_url = Some("https://example.com/a?b=%20&c=ü".into());
    full.details.attributes = BTreeMap::from([
        (UNUSUAL_TEXT.into(), AttributeValue::Text(UNUSUAL_TEXT.into())),
        ("$set.x".into(), AttributeValue::Bool(true)),
        ("no".into(), AttributeValue::Bool(false)),
        ("true".into(), AttributeValue::Text("true".into())),
        ("1".into(), AttributeValue::Text("1".into())),
        (String::new(), AttributeValue::Text(String::new())),
    ]);
    full.created_at = Timestamp::from_millis(-1);
    full.updated_at = Timestamp::from_millis(253_402_300_799_999);
    let mut bare = product(None);
    bare.details.description = String::new();
    bare.details.price = price("0");
    bare.details.category = None;
    bare.details.tags = vec![];
    let deleted = Product { deleted: true, ..product(Some("GONE")) };
    for written in [&full, &bare, &deleted] {
        apply_one(&*store, commit([put_product(written)])).await.unwrap();
    }
    store.close().await;
    let store = harness.open().await;
    for written in [full, bare, deleted] {
        let none = StockLevel::empty(written.id);
        assert_eq!(store.find_product(written.id).await, Ok(Some((written, none))));
    }
}

pub(crate) async fn products_are_found_by_ids(harness: &dyn Harness) {
    let store = harness.open().await;
    let many: Vec<_> = (0..1200).map(|_| product(None)).collect();
    apply(&*store, many.iter().map(product_commit)).await;
    let full = stocked_product(&*store, 7).await;
    apply_one(&*store, product_commit(&Product { version: 2, ..many[0].to_deleted(now()) }))
        .await
        .unwrap();
    let ids = many.iter().map(|product| product.id).chain([full, ProductId::new()]);
    let mut found = store.find_products_by_id(ids.collect()).await.unwrap();
    found.sort_unstable_by_key(|(product, _)| product.id);
    assert_eq!(found.len(), many.len() + 1);
    for (product, stock_level) in found {
        assert_eq!(store.find_product(product.id).await, Ok(Some((product, stock_level))));
    }
    assert_eq!(store.find_products_by_id(Vec::new()).await, Ok(Vec::new()));
}

pub(crate) async fn numbers_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    let floats = [
        1.0,
        -0.0,
        0.1,
        0.1 + 0.2,
        1.1e-7,
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
        1e21,
        9_007_199_254_740_993.0,
    ];
    let mut numbers: Vec<Number> =
        floats.into_iter().map(|n| Number::from_f64(n).unwrap()).collect();
    numbers.extend([0_i64, 1, -1, i64::MIN, i64::MAX, (1 << 53) + 1].map(Number::from));
    numbers.push(Number::from(u64::MAX));
    // Numbers that an inexact parser gets wrong.
    numbers
        .extend((1..2000_u32).map(|n| {
            Number::from_f64(f64::from(n).sqrt() * 1e-5_f64.powi(n as i32 % 40)).unwrap()
        }));
    let mut measured = product(None);
    for (place, number) in numbers.into_iter().enumerate() {
        measured.details.attributes.insert(format!("n{place}"), AttributeValue::Number(number));
    }
    apply_one(&*store, commit([put_product(&measured)])).await.unwrap();
    let (read, _) = store.find_product(measured.id).await.unwrap().unwrap();
    assert_eq!(read, measured);
    let text = |product: &Product| serde_json::to_string(&product.details.attributes).unwrap();
    assert_eq!(text(&read), text(&measured), "1 and 1.0 stay distinct");
}

pub(crate) async fn carts_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    let line = |name: &str, quantity, minor| CartLine {
        product_id: ProductId::new(),
        name: name.into(),
        quantity,
        price: Money::from_minor_units(minor, euro()).unwrap(),
    };
    let guest = CartOwner { id: UserId::new(), is_guest: true };
    let full = Cart {
        lines: vec![
            line(UNUSUAL_TEXT, 1, 0),
            line("", u32::MAX, MAX_MINOR_UNITS),
            line("b", 2, 450),
        ],
        ..cart(customer(), 1)
    };
    let large = Cart {
        lines: (1..=800).map(|n| line(UNUSUAL_TEXT, n, 1)).collect(),
        ..cart(customer(), 1)
    };
    let empty = Cart { lines: vec![], ..cart(customer(), 1) };
    let merged = Cart { lines: vec![], merged_into: Some(full.owner.id), ..cart(guest, 1) };
    let abandoned = Cart { abandoned: true, ..cart(customer(), 1) };
    let carts = [full, large, empty, merged, abandoned];
    for cart in &carts {
        apply_one(&*store, commit([put_cart(cart)])).await.unwrap();
    }
    store.close().await;
    let store = harness.open().await;
    for cart in carts {
        assert_eq!(store.find_cart(cart.owner.id).await, Ok(Some(cart)));
    }
}

pub(crate) async fn accounts_and_sessions_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut admin = user("zoë'\"@exämple.com");
    admin.name = UNUSUAL_TEXT.into();
    admin.role = Role::Admin;
    admin.event_sequence = 17;
    admin.known_networks = (1..=16)
        .map(|number| KnownNetwork {
            key: LoginKey::from_bytes([number; 16]),
            last_login_at: Timestamp::from_millis(1_767_225_600_000 + i64::from(number)),
        })
        .collect();
    let mut live = session(admin.id);
    live.refresh_hash = std::array::from_fn(|n| (n * 37) as u8);
    let mut revoked = session(admin.id);
    revoked.revoked_at = Some(Timestamp::from_millis(1_767_225_600_001));
    apply_one(&*store, commit([put_user(&admin), put_session(&live), put_session(&revoked)]))
        .await
        .unwrap();
    store.close().await;
    let store = harness.open().await;
    assert_eq!(store.find_user(admin.id).await, Ok(Some(admin.clone())));
    let emails = store.find_emails(vec![UserId::new(), admin.id]).await;
    assert_eq!(emails, Ok(HashMap::from([(admin.id, admin.email.clone())])));
    assert_eq!(store.find_user_by_email(&admin.email).await, Ok(Some(admin)));
    assert_eq!(store.find_session(live.id).await, Ok(Some(live)));
    assert_eq!(store.find_session(revoked.id).await, Ok(Some(revoked)));
}

pub(crate) async fn movements_round_trip(harness: &dyn Harness) {
    let store = harness.open().await;
    let tea = product(None);
    let order = OrderId::new();
    let write = |change, order_id, text: Option<&str>| {
        let text: Option<String> = text.map(Into::into);
        let (reference, reason) = (text.clone(), text);
        Write::Stock(StockWrite {
            product_id: tea.id,
            change,
            expected_version: None,
            order_id,
            reference,
            reason,
        })
    };
    let writes = [
        write(StockChange::Set(1_000_000_000_000), None, None),
        write(StockChange::Reserve(5), Some(order), None),
        write(StockChange::Release(2), Some(order), None),
        write(StockChange::Ship(3), Some(order), None),
        write(StockChange::Adjust(-7), None, Some(UNUSUAL_TEXT)),
        write(StockChange::Adjust(2), None, Some("")),
    ];
    let first = commit([put_product(&tea)]);
    let at = first.decided_at;
    apply_one(&*store, first).await.unwrap();
    apply_one(&*store, souk::store::Commit { decided_at: at, ..commit(writes) }).await.unwrap();
    let movement =
        |sequence, kind, on_hand, reserved, order_id, text: Option<&str>| StockMovement {
            product_id: tea.id,
            sequence,
            delta: StockDelta { kind, on_hand, reserved },
            order_id,
            reference: text.map(Into::into),
            reason: text.map(Into::into),
            actor: None,
            occurred_at: at,
        };
    let mut expected = vec![
        movement(1, MovementKind::Received, 1_000_000_000_000, 0, None, None),
        movement(2, MovementKind::Reserved, 0, 5, Some(order), None),
        movement(3, MovementKind::Released, 0, -2, Some(order), None),
        movement(4, MovementKind::Shipped, -3, -3, Some(order), None),
        movement(5, MovementKind::Adjusted, -7, 0, None, Some(UNUSUAL_TEXT)),
        movement(6, MovementKind::Received, 2, 0, None, Some("")),
    ];
    expected.reverse();
    store.close().await;
    let store = harness.open().await;
    assert_eq!(store.list_movements(tea.id, None, 100).await, Ok(expected));
}
