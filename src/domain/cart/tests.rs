use super::*;
use crate::domain::money::Currency;

const LIMITS: CartLimits = CartLimits { max_quantity: 999, max_lines: 3 };
const NOW: Timestamp = Timestamp::from_millis(1_000);

fn cart() -> Cart {
    Cart::untouched(Owner { id: UserId::new(), guest: false })
}

fn guest() -> Cart {
    Cart::untouched(Owner { id: UserId::new(), guest: true })
}

fn offer(available: u64) -> impl Fn(ProductId) -> Option<Offer> {
    move |_| {
        Some(Offer {
            name: "Tea".into(),
            price: Money::parse("4.50", "EUR".parse().unwrap()).unwrap(),
            available,
        })
    }
}

fn add(cart: &Cart, product_id: ProductId, quantity: u32) -> Result<Cart, CartRefusal> {
    let command = CartCommand::Add { product_id, quantity };
    cart.decide(command, offer(10_000), LIMITS, NOW).map(|changed| changed.unwrap().0)
}

#[test]
fn adding_twice_makes_one_line() {
    let tea = ProductId::new();
    let after = add(&add(&cart(), tea, 2).unwrap(), tea, 3).unwrap();
    assert_eq!((after.version, after.lines.len(), after.lines[0].quantity), (2, 1, 5));
}

#[test]
fn limits_hold() {
    let tea = ProductId::new();
    let full = add(&cart(), tea, 999).unwrap();
    assert_eq!(add(&full, tea, 1), Err(CartRefusal::QuantityLimit));
    assert_eq!(add(&cart(), tea, u32::MAX), Err(CartRefusal::QuantityLimit));
    let three = (0..2).fold(full, |cart, _| add(&cart, ProductId::new(), 1).unwrap());
    assert_eq!(add(&three, ProductId::new(), 1), Err(CartRefusal::LineLimit));
    assert_eq!(
        three.decide(
            CartCommand::Update { product_id: tea, quantity: 1000 },
            offer(10_000),
            LIMITS,
            NOW
        ),
        Err(CartRefusal::QuantityLimit)
    );
}

#[test]
fn stock_is_looked_at_for_the_whole_line() {
    let tea = ProductId::new();
    let four = add(&cart(), tea, 4).unwrap();
    let short = |requested| {
        Err(CartRefusal::InsufficientStock(Shortage { product_id: tea, requested, available: 5 }))
    };
    assert_eq!(
        four.decide(CartCommand::Add { product_id: tea, quantity: 2 }, offer(5), LIMITS, NOW),
        short(6)
    );
    assert_eq!(
        four.decide(CartCommand::Update { product_id: tea, quantity: 7 }, offer(5), LIMITS, NOW),
        short(7)
    );
    assert_eq!(
        cart().decide(CartCommand::Add { product_id: tea, quantity: 1 }, |_| None, LIMITS, NOW),
        Err(CartRefusal::ProductNotFound)
    );
}

#[test]
fn what_changes_nothing_is_no_change() {
    let tea = ProductId::new();
    let four = add(&cart(), tea, 4).unwrap();
    let unchanged =
        |cart: &Cart, command| assert_eq!(cart.decide(command, offer(0), LIMITS, NOW), Ok(None));
    unchanged(&four, CartCommand::Update { product_id: tea, quantity: 4 });
    unchanged(&cart(), CartCommand::Clear);
    unchanged(&four, CartCommand::Abandon { untouched_since: Timestamp::from_millis(999) });
}

#[test]
fn lines_are_updated_removed_and_cleared() {
    let tea = ProductId::new();
    let four = add(&cart(), tea, 4).unwrap();
    let decide = |command| four.decide(command, offer(10), LIMITS, NOW).unwrap().unwrap();
    assert_eq!(decide(CartCommand::Update { product_id: tea, quantity: 7 }).0.lines[0].quantity, 7);
    for command in [
        CartCommand::Update { product_id: tea, quantity: 0 },
        CartCommand::Remove { product_id: tea },
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
    let other = CartCommand::Remove { product_id: ProductId::new() };
    assert_eq!(four.decide(other, offer(10), LIMITS, NOW), Err(CartRefusal::LineNotFound));
}

#[test]
fn a_cart_is_abandoned_once_until_it_is_touched_again() {
    let tea = ProductId::new();
    let abandon = CartCommand::Abandon { untouched_since: NOW };
    let (left, event) =
        add(&cart(), tea, 1).unwrap().decide(abandon, offer(1), LIMITS, NOW).unwrap().unwrap();
    assert_eq!((left.version, event), (2, CartEvent::Abandoned));
    assert_eq!(left.decide(abandon, offer(1), LIMITS, NOW), Ok(None));
    let touched = add(&left, tea, 1).unwrap();
    assert!(touched.decide(abandon, offer(1), LIMITS, NOW).unwrap().is_some());
}

#[test]
fn a_merge_adds_up_to_the_limit_and_drops_nothing() {
    let (tea, cup) = (ProductId::new(), ProductId::new());
    let user = add(&cart(), tea, 998).unwrap();
    let visitor = add(&add(&guest(), tea, 5).unwrap(), cup, 2).unwrap();
    let merge = user.merge(&visitor, LIMITS, NOW).unwrap();
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
    assert_eq!(merged.merge(&closed, LIMITS, NOW), Ok(Merge { user: None, guest: None }));
    assert_eq!(cart().merge(&closed, LIMITS, NOW), Err(CartRefusal::GuestCartMerged));
    assert_eq!(add(&closed, tea, 1), Err(CartRefusal::GuestCartMerged));
}

#[test]
fn an_empty_guest_cart_closes_without_touching_the_user() {
    let merge = cart().merge(&guest(), LIMITS, NOW).unwrap();
    assert!(merge.user.is_none());
    assert_eq!(merge.guest.unwrap().0.version, 1);
}

#[test]
fn prices_are_todays_and_a_change_is_told() {
    let (tea, gone) = (ProductId::new(), ProductId::new());
    let euro: Currency = "EUR".parse().unwrap();
    let money = |text| Money::parse(text, euro).unwrap();
    let cart = add(&add(&cart(), tea, 2).unwrap(), gone, 3).unwrap();
    let today = |id| {
        (id == tea).then(|| Offer { name: "Mint tea".into(), price: money("5.00"), available: 7 })
    };
    let priced = cart.priced(today, euro);
    assert_eq!((priced.item_count, priced.total), (5, money("23.50")));
    let [first, second] = &priced.lines[..] else { panic!("two lines") };
    assert_eq!(
        (first.name.as_str(), first.was, first.available),
        ("Mint tea", Some(money("4.50")), 7)
    );
    assert_eq!((second.name.as_str(), second.was, second.available), ("Tea", None, 0));
}

#[test]
fn a_guests_cart_ends_thirty_days_after_it_began() {
    let guest = guest();
    assert_eq!(guest.expires_at(), Some(guest.updated_at.plus(GUEST_LIFETIME)));
    assert_eq!(cart().expires_at(), None);
}
