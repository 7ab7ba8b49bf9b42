use super::*;
use crate::domain::{
    money::{Currency, MAX_MINOR_UNITS, MAX_PRICE_MINOR_UNITS},
    pricing::{PricingRules, ShopPricing},
};

const LIMITS: CartLimits = CartLimits { max_quantity: 999, max_lines: 3 };
const NOW: Timestamp = Timestamp::from_millis(1_000);

fn user_cart() -> Cart {
    Cart::empty(CartOwner { id: UserId::new(), is_guest: false })
}

fn guest_cart() -> Cart {
    Cart::empty(CartOwner { id: UserId::new(), is_guest: true })
}

fn tea_offer(available: u64) -> impl Fn(ProductId) -> Option<Offer> {
    move |_| {
        Some(Offer {
            name: "Tea".into(),
            price: Money::parse("4.50", "EUR".parse().unwrap()).unwrap(),
            available,
            product: None,
        })
    }
}

fn add_item(cart: &Cart, product_id: ProductId, quantity: u32) -> Result<Cart, CartError> {
    let command = CartCommand::AddItem { product_id, quantity };
    cart.decide(command, tea_offer(10_000), LIMITS, NOW).map(|changed| changed.unwrap().0)
}

#[test]
fn adding_a_product_twice_makes_one_line() {
    let tea = ProductId::new();
    let after = add_item(&add_item(&user_cart(), tea, 2).unwrap(), tea, 3).unwrap();
    assert_eq!((after.version, after.lines.len(), after.lines[0].quantity), (2, 1, 5));
}

#[test]
fn quantity_and_line_limits_are_enforced() {
    let tea = ProductId::new();
    let full = add_item(&user_cart(), tea, 999).unwrap();
    let too_many = |quantity| CartError::QuantityLimitExceeded { quantity, limit: 999 };
    assert_eq!(add_item(&full, tea, 1), Err(too_many(1000)));
    assert_eq!(add_item(&full, tea, u32::MAX), Err(too_many(999 + u64::from(u32::MAX))));
    let three = (0..2).fold(full, |cart, _| add_item(&cart, ProductId::new(), 1).unwrap());
    assert_eq!(
        add_item(&three, ProductId::new(), 1),
        Err(CartError::LineLimitExceeded { lines: 4, limit: 3 })
    );
    assert_eq!(
        three.decide(
            CartCommand::UpdateItem { product_id: tea, quantity: 1000 },
            tea_offer(10_000),
            LIMITS,
            NOW
        ),
        Err(too_many(1000))
    );
}

#[test]
fn stock_is_checked_for_the_whole_line() {
    let tea = ProductId::new();
    let four = add_item(&user_cart(), tea, 4).unwrap();
    let short = |requested| {
        Err(CartError::InsufficientStock(Shortage { product_id: tea, requested, available: 5 }))
    };
    assert_eq!(
        four.decide(
            CartCommand::AddItem { product_id: tea, quantity: 2 },
            tea_offer(5),
            LIMITS,
            NOW
        ),
        short(6)
    );
    assert_eq!(
        four.decide(
            CartCommand::UpdateItem { product_id: tea, quantity: 7 },
            tea_offer(5),
            LIMITS,
            NOW
        ),
        short(7)
    );
    assert_eq!(
        user_cart().decide(
            CartCommand::AddItem { product_id: tea, quantity: 1 },
            |_| None,
            LIMITS,
            NOW
        ),
        Err(CartError::ProductNotFound)
    );
}

#[test]
fn noop_commands_change_nothing() {
    let tea = ProductId::new();
    let four = add_item(&user_cart(), tea, 4).unwrap();
    let unchanged = |cart: &Cart, command| {
        assert_eq!(cart.decide(command, tea_offer(0), LIMITS, NOW), Ok(None))
    };
    unchanged(&four, CartCommand::UpdateItem { product_id: tea, quantity: 4 });
    unchanged(&user_cart(), CartCommand::Clear);
    unchanged(&four, CartCommand::Abandon { idle_before: Timestamp::from_millis(999) });
}

#[test]
fn lines_are_updated_removed_and_cleared() {
    let tea = ProductId::new();
    let four = add_item(&user_cart(), tea, 4).unwrap();
    let decide = |command| four.decide(command, tea_offer(10), LIMITS, NOW).unwrap().unwrap();
    assert_eq!(
        decide(CartCommand::UpdateItem { product_id: tea, quantity: 7 }).0.lines[0].quantity,
        7
    );
    for command in [
        CartCommand::UpdateItem { product_id: tea, quantity: 0 },
        CartCommand::RemoveItem { product_id: tea },
    ] {
        assert_eq!(
            decide(command),
            (
                Cart { version: 2, lines: vec![], ..four.clone() },
                CartEvent::ItemRemoved { product_id: tea }
            )
        );
    }
    assert_eq!(decide(CartCommand::Clear).1, CartEvent::Cleared);
    let other = CartCommand::RemoveItem { product_id: ProductId::new() };
    assert_eq!(four.decide(other, tea_offer(10), LIMITS, NOW), Err(CartError::LineNotFound));
}

#[test]
fn cart_is_abandoned_once_until_changed_again() {
    let tea = ProductId::new();
    let abandon = CartCommand::Abandon { idle_before: NOW };
    let (left, event) = add_item(&user_cart(), tea, 1)
        .unwrap()
        .decide(abandon, tea_offer(1), LIMITS, NOW)
        .unwrap()
        .unwrap();
    assert_eq!((left.version, event), (2, CartEvent::Abandoned));
    assert_eq!(left.decide(abandon, tea_offer(1), LIMITS, NOW), Ok(None));
    let touched = add_item(&left, tea, 1).unwrap();
    assert!(touched.decide(abandon, tea_offer(1), LIMITS, NOW).unwrap().is_some());
}

#[test]
fn merge_caps_quantities_and_drops_no_line() {
    let (tea, cup) = (ProductId::new(), ProductId::new());
    let user = add_item(&user_cart(), tea, 998).unwrap();
    let visitor = add_item(&add_item(&guest_cart(), tea, 5).unwrap(), cup, 2).unwrap();
    let merge = user.merge(&visitor, tea_offer(0), LIMITS, NOW).unwrap();
    let (merged, event) = merge.user.unwrap();
    assert_eq!(
        merged.lines.iter().map(|l| (l.product_id, l.quantity)).collect::<Vec<_>>(),
        [(tea, 999), (cup, 2)]
    );
    assert_eq!(event, CartEvent::Merged { guest_id: visitor.owner.id });
    let (closed, _) = merge.guest.unwrap();
    assert_eq!(
        (closed.version, closed.lines.len(), closed.merged_into),
        (3, 0, Some(user.owner.id))
    );
    assert_eq!(
        merged.merge(&closed, tea_offer(0), LIMITS, NOW),
        Ok(CartMerge { user: None, guest: None })
    );
    assert_eq!(
        user_cart().merge(&closed, tea_offer(0), LIMITS, NOW),
        Err(CartError::GuestCartMerged)
    );
    assert_eq!(add_item(&closed, tea, 1), Err(CartError::GuestCartMerged));
}

#[test]
fn total_may_reach_the_limit_but_not_exceed_it() {
    let dong: Currency = "VND".parse().unwrap();
    // 900 units at the highest price are within the limit of 2^53-1. `rest` takes what remains.
    let (flat, rest, free) = (ProductId::new(), ProductId::new(), ProductId::new());
    let left = MAX_MINOR_UNITS - 900 * MAX_PRICE_MINOR_UNITS;
    let offer = |raised: i64| {
        move |id| {
            let price = match id {
                id if id == flat => MAX_PRICE_MINOR_UNITS,
                id if id == rest => left + raised,
                _ => 0,
            };
            let price = Money::from_minor_units(price, dong).unwrap();
            Some(Offer { name: "Flat".into(), price, available: 10_000, product: None })
        }
    };
    let add = |cart: &Cart, product_id, quantity, raised| {
        let command = CartCommand::AddItem { product_id, quantity };
        cart.decide(command, offer(raised), LIMITS, NOW).map(|change| change.unwrap().0)
    };
    let update = |cart: &Cart, quantity, raised| {
        let command = CartCommand::UpdateItem { product_id: flat, quantity };
        cart.decide(command, offer(raised), LIMITS, NOW).map(|change| change.unwrap().0)
    };
    let flats = add(&user_cart(), flat, 900, 0).unwrap();
    assert_eq!(add(&flats, rest, 1, 1), Err(CartError::TotalLimitExceeded));
    let full = add(&flats, rest, 1, 0).unwrap();
    let shop = ShopPricing { currency: dong, rules: &PricingRules::default(), buyer_uses: None };
    let total = full.with_prices(offer(0), shop, NOW).breakdown.total;
    assert_eq!(total.minor_units(), MAX_MINOR_UNITS);
    assert_eq!(add(&full, flat, 1, 0), Err(CartError::TotalLimitExceeded));
    assert_eq!(update(&full, 901, 0), Err(CartError::TotalLimitExceeded));
    assert_eq!(add(&full, free, 1, 0).unwrap().lines.len(), 3);

    // A later price increase keeps the total exact, and the quantity can still be lowered.
    let risen = full.with_prices(offer(1), shop, NOW).breakdown.total;
    assert_eq!(serde_json::to_string(&risen).unwrap(), "9007199254740992");
    assert!(update(&full, 899, MAX_PRICE_MINOR_UNITS / 2).is_ok());

    let guest = add(&guest_cart(), rest, 1, 0).unwrap();
    assert!(flats.merge(&guest, offer(0), LIMITS, NOW).unwrap().user.is_some());
    assert_eq!(flats.merge(&guest, offer(1), LIMITS, NOW), Err(CartError::TotalLimitExceeded));
}

#[test]
fn empty_guest_cart_merge_leaves_user_cart_unchanged() {
    let merge = user_cart().merge(&guest_cart(), tea_offer(0), LIMITS, NOW).unwrap();
    assert!(merge.user.is_none());
    assert_eq!(merge.guest.unwrap().0.version, 1);
}

#[test]
fn priced_cart_uses_current_prices_and_reports_changes() {
    let (tea, gone) = (ProductId::new(), ProductId::new());
    let euro: Currency = "EUR".parse().unwrap();
    let money = |text| Money::parse(text, euro).unwrap();
    let cart = add_item(&add_item(&user_cart(), tea, 2).unwrap(), gone, 3).unwrap();
    let today = |id| {
        (id == tea).then(|| Offer {
            name: "Mint tea".into(),
            price: money("5.00"),
            available: 7,
            product: None,
        })
    };
    let priced = cart.with_prices(
        today,
        ShopPricing { currency: euro, rules: &PricingRules::default(), buyer_uses: None },
        NOW,
    );
    assert_eq!((priced.item_count, priced.breakdown.total), (2, money("10")));
    let [first, second] = &priced.lines[..] else { panic!("two lines") };
    assert_eq!(
        (first.name.as_str(), first.previous_price, first.available),
        ("Mint tea", Some(money("4.50")), 7)
    );
    assert_eq!((second.name.as_str(), second.previous_price, second.available), ("Tea", None, 0));
}

#[test]
fn guest_cart_expires_after_thirty_days() {
    let guest = guest_cart();
    assert_eq!(guest.expires_at(), Some(guest.updated_at.saturating_add(GUEST_LIFETIME)));
    assert_eq!(user_cart().expires_at(), None);
}
