mod provider;
mod provider_book;
mod provider_refunds;
mod transitions;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::*;
use crate::domain::{
    account::PostalAddress,
    cart::{Cart, CartError, CartEvent, CartLine, CartOwner, Shortage},
    catalog::product::{Product, ProductDetails},
    inventory::{StockChange, StockLevel},
    money::MAX_MINOR_UNITS,
    pricing::{PricingRules, ShopPricing},
};

const NOW: Timestamp = Timestamp::from_millis(1_000);
const RULES: OrderRules = OrderRules {
    payment_timeout: Duration::from_secs(60),
    max_pending: 20,
    max_pending_units: 1000,
};

fn euro() -> Currency {
    "EUR".parse().unwrap()
}

fn eur_price(text: &str) -> Money {
    Money::parse(text, euro()).unwrap()
}

fn sample_product(name: &str, cost: &str, version: u64) -> Arc<Product> {
    let details = ProductDetails {
        sku: Some(name.to_uppercase()),
        price: eur_price(cost),
        ..ProductDetails::sample(name)
    };
    Arc::new(Product { version, ..Product::new(ProductId::new(), details, NOW) })
}

/// A cart with these quantities, added when each unit cost 1.
fn cart_with(products: &[(&Arc<Product>, u32)]) -> Cart {
    let line = |(product, quantity): &(&Arc<Product>, u32)| CartLine {
        product_id: product.id,
        name: "as it was called then".into(),
        quantity: *quantity,
        price: eur_price("1"),
    };
    let owner = CartOwner { id: UserId::new(), is_guest: false };
    Cart { version: 4, lines: products.iter().map(line).collect(), ..Cart::empty(owner) }
}

fn check_out_cart(
    cart: &Cart,
    checkout: CheckoutOptions,
    products: &[(&Arc<Product>, u64)],
) -> Result<CheckoutOutcome, CheckoutError> {
    let find_product = |id| {
        let found = products.iter().find(|(product, _)| product.id == id);
        found.map(|(product, available)| (Arc::clone(product), *available))
    };
    let shop = ShopPricing { currency: euro(), rules: &PricingRules::default(), buyer_uses: None };
    cart.check_out(checkout, OrderId::new(), find_product, shop, RULES, NOW)
}

fn pending_order() -> Order {
    let (tea, cup) = (sample_product("tea", "4.50", 1), sample_product("cup", "7", 1));
    check_out_cart(
        &cart_with(&[(&tea, 2), (&cup, 3)]),
        CheckoutOptions::default(),
        &[(&tea, 2), (&cup, 3)],
    )
    .unwrap()
    .order
}

fn pay_command() -> OrderCommand {
    OrderCommand::Pay { reference: Some("transfer 17".into()) }
}

fn fulfill_command() -> OrderCommand {
    OrderCommand::fulfill_all()
}

#[test]
fn checkout_orders_all_lines_at_current_prices() {
    let (tea, mut cup) = (sample_product("tea", "4.50", 3), sample_product("cup", "7", 8));
    Arc::make_mut(&mut cup).details.purchase_limit = Some(5);
    let cart = cart_with(&[(&tea, 2), (&cup, 1)]);
    let CheckoutOutcome {
        cart: (after, new_event),
        order,
        product_versions: decided_on,
        limited_lines,
        rules_version,
        ..
    } = check_out_cart(&cart, CheckoutOptions::default(), &[(&tea, 2), (&cup, 9)]).unwrap();
    assert_eq!(
        (after.version, after.lines.len(), new_event),
        (5, 0, CartEvent::CheckedOut { order_id: order.id })
    );
    assert_eq!(
        (order.user_id, order.status, order.version),
        (cart.owner.id, OrderStatus::PendingPayment, 1)
    );
    assert_eq!(
        (order.placed_at, order.expires_at),
        (NOW, Some(NOW.saturating_add(RULES.payment_timeout)))
    );
    assert_eq!(order.total(), eur_price("16"));
    let lines: Vec<_> = order
        .lines
        .iter()
        .map(|line| (&*line.name, line.sku.as_deref(), line.quantity, line.total()))
        .collect();
    assert_eq!(
        lines,
        [("tea", Some("TEA"), 2, eur_price("9")), ("cup", Some("CUP"), 1, eur_price("7"))]
    );
    assert_eq!(decided_on, [(tea.id, 3), (cup.id, 8)]);
    assert_eq!(limited_lines, [LimitedLine { product_id: cup.id, quantity: 1, limit: 5 }]);
    assert_eq!((order.units(), rules_version), (3, 0));
}

#[test]
fn checkout_refuses_a_total_above_the_limit() {
    let flat = sample_product("flat", "100000000000", 1);
    let rest = sample_product("rest", "71992547409.91", 1);
    let cent = sample_product("cent", "0.01", 1);
    let stock = [(&flat, 900), (&rest, 1), (&cent, 1)];
    let check_out =
        |products: &[_]| check_out_cart(&cart_with(products), CheckoutOptions::default(), &stock);
    let order = check_out(&[(&flat, 900), (&rest, 1)]).unwrap().order;
    assert_eq!(order.total().minor_units(), MAX_MINOR_UNITS);
    assert_eq!(
        check_out(&[(&flat, 900), (&rest, 1), (&cent, 1)]),
        Err(CheckoutError::TotalLimitExceeded)
    );
}

#[test]
fn checkout_reports_every_short_or_missing_line() {
    let (tea, cup, pot) = (
        sample_product("tea", "4.50", 1),
        sample_product("cup", "7", 1),
        sample_product("pot", "12", 1),
    );
    let short = check_out_cart(
        &cart_with(&[(&tea, 2), (&cup, 3), (&pot, 4)]),
        CheckoutOptions::default(),
        &[(&tea, 2), (&cup, 1)],
    );
    let shortage = |product: &Product, requested, available| Shortage {
        product_id: product.id,
        requested,
        available,
    };
    assert_eq!(
        short,
        Err(CheckoutError::InsufficientStock(vec![shortage(&cup, 3, 1), shortage(&pot, 4, 0)]))
    );
    assert_eq!(
        check_out_cart(&cart_with(&[]), CheckoutOptions::default(), &[]),
        Err(CheckoutError::CartEmpty)
    );
    let merged = Cart { merged_into: Some(UserId::new()), ..cart_with(&[(&tea, 1)]) };
    let closed = Err(CheckoutError::Cart(CartError::GuestCartMerged));
    assert_eq!(check_out_cart(&merged, CheckoutOptions::default(), &[(&tea, 2)]), closed);
}

#[test]
fn checkout_respects_max_quantities_and_keeps_the_rest() {
    let (tea, cup, pot) = (
        sample_product("tea", "4.50", 1),
        sample_product("cup", "7", 1),
        sample_product("pot", "12", 1),
    );
    let products = [(&tea, 9), (&cup, 9), (&pot, 0)];
    let most = |bounds: &[(&Arc<Product>, u32)]| {
        let at_most = Some(bounds.iter().map(|(product, most)| (product.id, *most)).collect());
        CheckoutOptions {
            expected_total: Some(eur_price("16")),
            max_quantities: at_most,
            ..CheckoutOptions::default()
        }
    };
    let cart = cart_with(&[(&tea, 3), (&cup, 1), (&pot, 1)]);
    let CheckoutOutcome { cart: (after, _), order, product_versions: decided_on, .. } =
        check_out_cart(&cart, most(&[(&tea, 2), (&cup, 5)]), &products).unwrap();
    let bought: Vec<_> = order.lines.iter().map(|line| (line.product_id, line.quantity)).collect();
    assert_eq!((bought, order.total()), (vec![(tea.id, 2), (cup.id, 1)], eur_price("16")));
    assert_eq!(decided_on, [(tea.id, 1), (cup.id, 1)]);
    assert_eq!((after.version, after.quantities()), (5, HashMap::from([(tea.id, 1), (pot.id, 1)])));
    assert_eq!(
        check_out_cart(&cart, most(&[]), &products),
        Err(CheckoutError::CartEmpty),
        "nothing is left of what was to be bought"
    );
}

#[test]
fn price_increase_is_rejected_and_decrease_is_accepted() {
    let tea = sample_product("tea", "4.50", 1);
    let expecting = |total: &str| {
        let checkout = CheckoutOptions {
            expected_total: Some(eur_price(total)),
            ..CheckoutOptions::default()
        };
        check_out_cart(&cart_with(&[(&tea, 2)]), checkout, &[(&tea, 2)])
            .map(|done| done.order.total())
    };
    let rises = vec![PriceRise { product_id: tea.id, was: eur_price("1"), now: eur_price("4.50") }];
    let risen = CheckoutError::PriceChanged { total: eur_price("9"), rises };
    assert_eq!(expecting("8.99"), Err(risen));
    assert_eq!(expecting("9"), Ok(eur_price("9")));
    assert_eq!(expecting("9.01"), Ok(eur_price("9")));
}

#[test]
fn shipping_address_has_the_parts_that_are_given() {
    let address = PostalAddress {
        name: "Ada".into(),
        line1: "12 Mint Street".into(),
        line2: None,
        city: "Paris".into(),
        region: Some("IDF".into()),
        postal_code: "75001".into(),
        country: "FR".into(),
        phone: None,
    };
    let fields = [
        ("name", "Ada"),
        ("line1", "12 Mint Street"),
        ("city", "Paris"),
        ("region", "IDF"),
        ("postal_code", "75001"),
        ("country", "FR"),
    ];
    let fields = fields.map(|(name, text)| (name.to_owned(), text.to_owned()));
    assert_eq!(OrderAddress::from(address).fields(), &BTreeMap::from(fields));
}

#[test]
fn status_and_payment_method_names_round_trip() {
    for status in OrderStatus::ALL {
        assert_eq!(status.as_str().parse(), Ok(*status));
    }
    for method in PaymentMethod::ALL {
        assert_eq!(method.as_str().parse(), Ok(*method));
    }
    assert!("lost".parse::<OrderStatus>().is_err() && "gold".parse::<PaymentMethod>().is_err());
}
