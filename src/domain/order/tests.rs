use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::domain::{
    cart::{Cart, CartEvent, CartRefusal, Line, Owner, Shortage},
    catalog::product::{Product, ProductFacts},
    inventory::{StockChange, StockLevel},
};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const RULES: OrderRules = OrderRules { payment_timeout: Duration::from_secs(60), max_pending: 20 };

fn euro() -> Currency {
    "EUR".parse().unwrap()
}

fn price(text: &str) -> Money {
    Money::parse(text, euro()).unwrap()
}

fn product(name: &str, cost: &str, version: u64) -> Arc<Product> {
    let facts = ProductFacts {
        sku: Some(name.to_uppercase()),
        name: name.into(),
        description: String::new(),
        price: price(cost),
        category: None,
        tags: Vec::new(),
        image_url: None,
        attributes: BTreeMap::new(),
    };
    Arc::new(Product { version, ..Product::new(ProductId::new(), facts, NOW) })
}

/// A cart with so many of each, put in when each cost 1.
fn cart(wares: &[(&Arc<Product>, u32)]) -> Cart {
    let line = |(product, quantity): &(&Arc<Product>, u32)| Line {
        product_id: product.id,
        name: "as it was called then".into(),
        quantity: *quantity,
        price: price("1"),
    };
    let owner = Owner { id: UserId::new(), guest: false };
    Cart { version: 4, lines: wares.iter().map(line).collect(), ..Cart::untouched(owner) }
}

fn check_out(
    cart: &Cart,
    checkout: Checkout,
    wares: &[(&Arc<Product>, u64)],
) -> Result<CheckedOut, CheckoutRefusal> {
    let ware = |id| {
        let found = wares.iter().find(|(product, _)| product.id == id);
        found.map(|(product, available)| (Arc::clone(product), *available))
    };
    cart.check_out(checkout, OrderId::new(), ware, euro(), RULES, NOW)
}

fn order() -> Order {
    let (tea, cup) = (product("tea", "4.50", 1), product("cup", "7", 1));
    check_out(&cart(&[(&tea, 2), (&cup, 3)]), Checkout::default(), &[(&tea, 2), (&cup, 3)])
        .unwrap()
        .order
}

fn pay() -> OrderCommand {
    OrderCommand::Pay { reference: Some("transfer 17".into()) }
}

fn fulfil() -> OrderCommand {
    OrderCommand::Fulfil { reference: None }
}

#[test]
fn a_checkout_buys_everything_at_todays_prices() {
    let (tea, cup) = (product("tea", "4.50", 3), product("cup", "7", 8));
    let cart = cart(&[(&tea, 2), (&cup, 1)]);
    let CheckedOut { cart: (after, event), order, decided_on } =
        check_out(&cart, Checkout::default(), &[(&tea, 2), (&cup, 9)]).unwrap();
    assert_eq!(
        (after.version, after.lines.len(), event),
        (5, 0, CartEvent::CheckedOut { order_id: order.id })
    );
    assert_eq!(
        (order.user_id, order.status, order.version),
        (cart.owner.id, OrderStatus::PendingPayment, 1)
    );
    assert_eq!((order.placed_at, order.expires_at), (NOW, Some(NOW.plus(RULES.payment_timeout))));
    assert_eq!(order.total(), price("16"));
    let lines: Vec<_> = order
        .lines
        .iter()
        .map(|line| (&*line.name, line.sku.as_deref(), line.quantity, line.total()))
        .collect();
    assert_eq!(lines, [("tea", Some("TEA"), 2, price("9")), ("cup", Some("CUP"), 1, price("7"))]);
    assert_eq!(decided_on, [(tea.id, 3), (cup.id, 8)]);
}

#[test]
fn a_checkout_names_every_line_that_is_short_or_gone() {
    let (tea, cup, pot) =
        (product("tea", "4.50", 1), product("cup", "7", 1), product("pot", "12", 1));
    let short = check_out(
        &cart(&[(&tea, 2), (&cup, 3), (&pot, 4)]),
        Checkout::default(),
        &[(&tea, 2), (&cup, 1)],
    );
    let shortage = |product: &Product, requested, available| Shortage {
        product_id: product.id,
        requested,
        available,
    };
    assert_eq!(
        short,
        Err(CheckoutRefusal::InsufficientStock(vec![shortage(&cup, 3, 1), shortage(&pot, 4, 0)]))
    );
    assert_eq!(check_out(&cart(&[]), Checkout::default(), &[]), Err(CheckoutRefusal::CartEmpty));
    let merged = Cart { merged_into: Some(UserId::new()), ..cart(&[(&tea, 1)]) };
    let closed = Err(CheckoutRefusal::Cart(CartRefusal::GuestCartMerged));
    assert_eq!(check_out(&merged, Checkout::default(), &[(&tea, 2)]), closed);
}

#[test]
fn a_checkout_buys_no_more_than_it_may_and_leaves_the_rest() {
    let (tea, cup, pot) =
        (product("tea", "4.50", 1), product("cup", "7", 1), product("pot", "12", 1));
    let wares = [(&tea, 9), (&cup, 9), (&pot, 0)];
    let most = |bounds: &[(&Arc<Product>, u32)]| {
        let at_most = Some(bounds.iter().map(|(product, most)| (product.id, *most)).collect());
        Checkout { expected_total: Some(price("16")), at_most, ..Checkout::default() }
    };
    let cart = cart(&[(&tea, 3), (&cup, 1), (&pot, 1)]);
    let CheckedOut { cart: (after, _), order, decided_on } =
        check_out(&cart, most(&[(&tea, 2), (&cup, 5)]), &wares).unwrap();
    let bought: Vec<_> = order.lines.iter().map(|line| (line.product_id, line.quantity)).collect();
    assert_eq!((bought, order.total()), (vec![(tea.id, 2), (cup.id, 1)], price("16")));
    assert_eq!(decided_on, [(tea.id, 1), (cup.id, 1)]);
    assert_eq!((after.version, after.pieces()), (5, HashMap::from([(tea.id, 1), (pot.id, 1)])));
    assert_eq!(
        check_out(&cart, most(&[]), &wares),
        Err(CheckoutRefusal::CartEmpty),
        "nothing is left of what was to be bought"
    );
}

#[test]
fn a_price_that_rose_is_told_and_one_that_fell_is_paid() {
    let tea = product("tea", "4.50", 1);
    let expecting = |total: &str| {
        let checkout = Checkout { expected_total: Some(price(total)), ..Checkout::default() };
        check_out(&cart(&[(&tea, 2)]), checkout, &[(&tea, 2)]).map(|done| done.order.total())
    };
    assert_eq!(expecting("8.99"), Err(CheckoutRefusal::PriceChanged(price("9"))));
    assert_eq!(expecting("9"), Ok(price("9")));
    assert_eq!(expecting("9.01"), Ok(price("9")));
}

#[test]
fn every_transition_is_allowed_or_refused_as_the_contract_says() {
    use OrderStatus::{Cancelled, Expired, Fulfilled, Paid, PendingPayment};
    let late = NOW.plus(RULES.payment_timeout);
    let allowed = [
        (PendingPayment, Paid),
        (PendingPayment, Cancelled),
        (PendingPayment, Expired),
        (Paid, Fulfilled),
        (Paid, Cancelled),
    ];
    for from in OrderStatus::ALL {
        for command in [pay(), OrderCommand::Cancel, OrderCommand::Expire, fulfil()] {
            let to = command.leads_to();
            let decided = Order { status: from, ..order() }.decide(command, late);
            if allowed.contains(&(from, to)) {
                let after = decided.unwrap().order;
                assert_eq!(
                    (after.status, after.version, after.updated_at, after.expires_at),
                    (to, 2, late, None)
                );
            } else {
                assert_eq!(decided, Err(OrderRefusal::InvalidTransition { from, to }));
            }
        }
    }
}

#[test]
fn pieces_are_given_back_or_shipped_once() {
    let order = order();
    let [tea, cup] = [order.lines[0].product_id, order.lines[1].product_id];
    let released = vec![(tea, StockChange::Release(2)), (cup, StockChange::Release(3))];
    assert_eq!(order.decide(OrderCommand::Cancel, NOW).unwrap().stock, released);
    let paid = order.decide(pay(), NOW).unwrap();
    assert_eq!((&paid.order.payment.reference, paid.stock), (&Some("transfer 17".into()), vec![]));
    assert_eq!(paid.order.decide(OrderCommand::Cancel, NOW).unwrap().stock, released);
    let fulfilled = paid.order.decide(fulfil(), NOW).unwrap();
    assert_eq!(fulfilled.stock, [(tea, StockChange::Ship(2)), (cup, StockChange::Ship(3))]);
    assert_eq!(
        fulfilled.order.payment.reference.as_deref(),
        Some("transfer 17"),
        "a payment is not forgotten"
    );
}

#[test]
fn an_order_expires_at_its_deadline_and_not_before() {
    let order = order();
    let deadline = order.expires_at.unwrap();
    let early = deadline.minus(Duration::from_millis(1));
    assert_eq!(order.decide(OrderCommand::Expire, early), Err(OrderRefusal::NotDue));
    assert!(order.decide(OrderCommand::Expire, deadline).is_ok());
    assert!(order.decide(pay(), deadline).is_ok(), "until it has expired it can be paid");
}

#[test]
fn an_address_has_bounds() {
    let field = |name: &str, text: &str| BTreeMap::from([(name.to_owned(), text.to_owned())]);
    let faults = |fields| {
        let faults = ShippingAddress::parse(fields).unwrap_err();
        faults.into_vec().into_iter().map(|fault| fault.field).collect::<Vec<_>>()
    };
    for good in [
        field("street", ""),
        field("postal_code-2", &"ü".repeat(200)),
        field(&"x".repeat(40), "a\nb"),
    ] {
        assert_eq!(ShippingAddress::parse(good.clone()).unwrap().fields(), &good);
    }
    assert_eq!(faults(BTreeMap::new()), ["shipping_address"]);
    for name in ["", "a.b", "$set", "a b", "straße", &"x".repeat(41)] {
        assert_eq!(faults(field(name, "x")), ["shipping_address"], "{name}");
    }
    assert_eq!(faults(field("street", &"x".repeat(201))), ["shipping_address.street"]);
    assert_eq!(faults(field("street", "a\0b")), ["shipping_address.street"]);
    let many = |count: usize| {
        (0..count).map(|n| (format!("f{n}"), String::new())).collect::<BTreeMap<_, _>>()
    };
    assert!(ShippingAddress::parse(many(MAX_ADDRESS_FIELDS)).is_ok());
    assert_eq!(faults(many(MAX_ADDRESS_FIELDS + 1)), ["shipping_address"]);
}

#[test]
fn words_name_what_they_came_from() {
    for status in OrderStatus::ALL {
        assert_eq!(OrderStatus::from_word(status.as_str()), Some(status));
    }
    for method in PaymentMethod::ALL {
        assert_eq!(PaymentMethod::from_word(method.as_str()), Some(method));
    }
    assert_eq!((OrderStatus::from_word("lost"), PaymentMethod::from_word("gold")), (None, None));
}

fn any_command() -> impl Strategy<Value = OrderCommand> {
    prop_oneof![Just(pay()), Just(OrderCommand::Cancel), Just(OrderCommand::Expire), Just(fulfil())]
}

proptest! {
    #[test]
    fn whatever_is_asked_of_an_order_its_pieces_are_reserved_exactly_while_its_status_says_so(
        asked in prop::collection::vec((any_command(), 0..120_u64), 0..12),
    ) {
        let mut order = order();
        let full = |id| StockLevel { on_hand: 10, reserved: 5, ..StockLevel::none(id) };
        let mut levels: HashMap<ProductId, StockLevel> = order.lines.iter().map(|line| (line.product_id, full(line.product_id))).collect();
        for (command, seconds) in asked {
            let before = order.clone();
            if let Ok(Transition { order: after, stock }) = order.decide(command, NOW.plus(Duration::from_secs(seconds))) {
                for (id, change) in stock {
                    let (level, _) = levels[&id].apply(change).unwrap().unwrap();
                    levels.insert(id, level);
                }
                order = after;
            }
            prop_assert_eq!(order.version, before.version + u64::from(order.status != before.status));
            for line in &order.lines {
                let quantity = u64::from(line.quantity);
                let (level, held) = (levels[&line.product_id], if order.status.reserves() { 0 } else { quantity });
                let shipped = if order.status == OrderStatus::Fulfilled { quantity } else { 0 };
                prop_assert_eq!((level.reserved, level.on_hand), (5 - held, 10 - shipped));
            }
        }
    }
}
