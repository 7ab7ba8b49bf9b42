//! Carts: lines, what may be done to them, and what a guest's cart becomes when its owner logs in.

use std::time::Duration;

use super::{
    clock::Timestamp,
    ids::{ProductId, UserId},
    money::{Currency, Money},
};

/// How long a guest's cart, and the token that opens it, live.
pub const GUEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many times `max_lines` a cart may hold after merges, which drop no line.
pub const MERGED_LINES_FACTOR: usize = 4;

/// Whose cart it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The user's or guest's id.
    pub id: UserId,
    /// Whether it is a guest, who has no account.
    pub guest: bool,
}

/// A cart. One that was never changed is version 0 and in no store.
#[derive(Debug, Clone, PartialEq)]
pub struct Cart {
    /// Whose it is.
    pub owner: Owner,
    /// Counts changes.
    pub version: u64,
    /// In the order they were added.
    pub lines: Vec<Line>,
    /// When the owner last changed it.
    pub updated_at: Timestamp,
    /// Who took it over, when it was a guest's.
    pub merged_into: Option<UserId>,
    /// Whether `cart.abandoned` was raised since the owner last changed it.
    pub abandoned: bool,
}

/// One product in a cart.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The product.
    pub product_id: ProductId,
    /// Its name when the line was last written, for the day when the product is gone.
    pub name: String,
    /// Pieces, at least 1.
    pub quantity: u32,
    /// Its price when the line was last written, to tell the owner when it has changed.
    pub price: Money,
}

/// What a shelf says of a product: enough to put it into a cart.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The product's name.
    pub name: String,
    /// What a piece costs.
    pub price: Money,
    /// How many could be bought.
    pub available: u64,
}

/// Limits from the shop's settings.
#[derive(Debug, Clone, Copy)]
pub struct CartLimits {
    /// Most pieces in one line.
    pub max_quantity: u32,
    /// Most lines.
    pub max_lines: usize,
}

/// What an owner may ask of a cart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CartCommand {
    /// Puts more of a product in.
    Add {
        /// Which.
        product_id: ProductId,
        /// How many more.
        quantity: u32,
    },
    /// Sets a line's quantity; 0 removes it.
    Update {
        /// Which.
        product_id: ProductId,
        /// How many there shall be.
        quantity: u32,
    },
    /// Takes a line out.
    Remove {
        /// Which.
        product_id: ProductId,
    },
    /// Takes every line out.
    Clear,
    /// Notes that the owner has left it lying since before `untouched_since`.
    Abandon {
        /// A cart changed after this is not abandoned.
        untouched_since: Timestamp,
    },
}

/// What happened to a cart: one per version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CartEvent {
    /// More of a product.
    ItemAdded {
        /// Which.
        product_id: ProductId,
        /// How many more.
        added: u32,
        /// How many now.
        quantity: u32,
    },
    /// A line's quantity was set.
    ItemUpdated {
        /// Which.
        product_id: ProductId,
        /// How many now.
        quantity: u32,
    },
    /// A line was taken out.
    ItemRemoved {
        /// Which.
        product_id: ProductId,
    },
    /// All lines were taken out.
    Cleared,
    /// A guest's lines came in.
    Merged {
        /// Whose.
        guest_id: UserId,
    },
    /// A guest's cart was taken over.
    Closed {
        /// By whom.
        merged_into: UserId,
    },
    /// Its owner left it lying.
    Abandoned,
}

/// A wish that stock cannot fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// The product.
    pub product_id: ProductId,
    /// How many were wanted.
    pub requested: u64,
    /// How many there are.
    pub available: u64,
}

/// Why a command is refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CartRefusal {
    /// The catalog has no such product.
    ProductNotFound,
    /// The cart has no such line.
    LineNotFound,
    /// Not enough of it.
    InsufficientStock(Shortage),
    /// More pieces than one line may have.
    QuantityLimit,
    /// More lines than a cart may have.
    LineLimit,
    /// The guest's cart belongs to an account now.
    GuestCartMerged,
}

/// A cart after a change, with what happened to it.
pub type Changed = (Cart, CartEvent);

impl Cart {
    /// The cart of someone who never put anything in.
    #[must_use]
    pub fn untouched(owner: Owner) -> Self {
        let updated_at = owner.id.made_at();
        Self { owner, version: 0, lines: Vec::new(), updated_at, merged_into: None, abandoned: false }
    }

    /// When a guest's cart ends.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.owner.guest.then(|| self.owner.id.made_at().plus(GUEST_LIFETIME))
    }

    /// Whether it may still be read and changed.
    ///
    /// # Errors
    /// It was a guest's and was merged.
    pub const fn check_open(&self) -> Result<(), CartRefusal> {
        match self.merged_into {
            None => Ok(()),
            Some(_) => Err(CartRefusal::GuestCartMerged),
        }
    }

    /// What `command` would do; `None`: nothing.
    ///
    /// # Errors
    /// The command is refused.
    pub fn decide(
        &self,
        command: CartCommand,
        offer: impl Fn(ProductId) -> Option<Offer>,
        limits: CartLimits,
        now: Timestamp,
    ) -> Result<Option<Changed>, CartRefusal> {
        self.check_open()?;
        match command {
            CartCommand::Add { product_id, quantity } => {
                let offer = offer(product_id).ok_or(CartRefusal::ProductNotFound)?;
                self.add(product_id, quantity, offer, limits, now).map(Some)
            }
            CartCommand::Update { product_id, quantity: 0 } | CartCommand::Remove { product_id } => {
                self.remove(product_id, now).map(Some)
            }
            CartCommand::Update { product_id, quantity } => self.update(product_id, quantity, offer(product_id), limits, now),
            CartCommand::Clear if self.lines.is_empty() => Ok(None),
            CartCommand::Clear => Ok(Some((self.next(Vec::new(), now), CartEvent::Cleared))),
            CartCommand::Abandon { untouched_since } => Ok(self.abandon(untouched_since)),
        }
    }

    fn add(
        &self,
        product_id: ProductId,
        added: u32,
        offer: Offer,
        limits: CartLimits,
        now: Timestamp,
    ) -> Result<Changed, CartRefusal> {
        let present = self.lines.iter().position(|line| line.product_id == product_id);
        let before = present.and_then(|at| self.lines.get(at)).map_or(0, |line| line.quantity);
        let quantity = before.checked_add(added).filter(|sum| *sum <= limits.max_quantity).ok_or(CartRefusal::QuantityLimit)?;
        if present.is_none() && self.lines.len() >= limits.max_lines {
            return Err(CartRefusal::LineLimit);
        }
        check_stock(product_id, quantity, offer.available)?;
        let line = Line { product_id, name: offer.name, quantity, price: offer.price };
        let mut lines = self.lines.clone();
        match present.and_then(|at| lines.get_mut(at)) {
            Some(slot) => *slot = line,
            None => lines.push(line),
        }
        Ok((self.next(lines, now), CartEvent::ItemAdded { product_id, added, quantity }))
    }

    fn update(
        &self,
        product_id: ProductId,
        quantity: u32,
        offer: Option<Offer>,
        limits: CartLimits,
        now: Timestamp,
    ) -> Result<Option<Changed>, CartRefusal> {
        let line = self.lines.iter().find(|line| line.product_id == product_id).ok_or(CartRefusal::LineNotFound)?;
        if line.quantity == quantity {
            return Ok(None);
        }
        if quantity > limits.max_quantity {
            return Err(CartRefusal::QuantityLimit);
        }
        check_stock(product_id, quantity, offer.as_ref().map_or(0, |offer| offer.available))?;
        let mut lines = self.lines.clone();
        if let (Some(line), Some(offer)) = (lines.iter_mut().find(|line| line.product_id == product_id), offer) {
            *line = Line { product_id, name: offer.name, quantity, price: offer.price };
        }
        Ok(Some((self.next(lines, now), CartEvent::ItemUpdated { product_id, quantity })))
    }

    fn remove(&self, product_id: ProductId, now: Timestamp) -> Result<Changed, CartRefusal> {
        let lines: Vec<Line> = self.lines.iter().filter(|line| line.product_id != product_id).cloned().collect();
        if lines.len() == self.lines.len() {
            return Err(CartRefusal::LineNotFound);
        }
        Ok((self.next(lines, now), CartEvent::ItemRemoved { product_id }))
    }

    fn abandon(&self, untouched_since: Timestamp) -> Option<Changed> {
        if self.abandoned || self.lines.is_empty() || self.updated_at > untouched_since {
            return None;
        }
        let cart = Self { version: self.version + 1, abandoned: true, ..self.clone() };
        Some((cart, CartEvent::Abandoned))
    }

    /// What merging `guest` into this cart would do to each of the two; `None`: nothing.
    ///
    /// # Errors
    /// Someone else has the guest's cart, or the two together have too many lines.
    pub fn merge(&self, guest: &Self, limits: CartLimits, now: Timestamp) -> Result<Merge, CartRefusal> {
        match guest.merged_into {
            Some(user) if user == self.owner.id => return Ok(Merge { user: None, guest: None }),
            Some(_) => return Err(CartRefusal::GuestCartMerged),
            None => {}
        }
        let lines = self.merged_lines(guest, limits);
        if lines.len() > limits.max_lines.saturating_mul(MERGED_LINES_FACTOR) {
            return Err(CartRefusal::LineLimit);
        }
        let user = (lines != self.lines).then(|| (self.next(lines, now), CartEvent::Merged { guest_id: guest.owner.id }));
        let closed = Self { merged_into: Some(self.owner.id), ..guest.next(Vec::new(), now) };
        Ok(Merge { user, guest: Some((closed, CartEvent::Closed { merged_into: self.owner.id })) })
    }

    fn merged_lines(&self, guest: &Self, limits: CartLimits) -> Vec<Line> {
        let mut lines = self.lines.clone();
        for from in &guest.lines {
            match lines.iter_mut().find(|line| line.product_id == from.product_id) {
                // A line above the limit, from before the limit was lowered, is not cut.
                Some(line) => {
                    let sum = line.quantity.saturating_add(from.quantity).min(limits.max_quantity);
                    line.quantity = line.quantity.max(sum);
                }
                None => lines.push(from.clone()),
            }
        }
        lines
    }

    fn next(&self, lines: Vec<Line>, now: Timestamp) -> Self {
        Self {
            owner: self.owner,
            version: self.version + 1,
            lines,
            updated_at: now,
            merged_into: self.merged_into,
            abandoned: false,
        }
    }
}

/// A cart at today's prices.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedCart {
    /// Its lines, in the cart's order.
    pub lines: Vec<PricedLine>,
    /// Pieces in all lines together.
    pub item_count: u64,
    /// What all lines cost together.
    pub total: Money,
}

/// A line at today's price.
#[derive(Debug, Clone, PartialEq)]
pub struct PricedLine {
    /// The product.
    pub product_id: ProductId,
    /// Its name today, or its last when it is gone.
    pub name: String,
    /// Pieces.
    pub quantity: u32,
    /// What a piece costs today, or cost last when the product is gone.
    pub unit_price: Money,
    /// What the line costs.
    pub total: Money,
    /// How many could be bought now; 0 when the product is gone.
    pub available: u64,
    /// The price when the line was last written, when it was another one.
    pub was: Option<Money>,
}

impl Cart {
    /// The cart at the prices of `offer`.
    #[must_use]
    pub fn priced(&self, offer: impl Fn(ProductId) -> Option<Offer>, currency: Currency) -> PricedCart {
        let lines: Vec<PricedLine> = self.lines.iter().map(|line| line.priced(offer(line.product_id))).collect();
        let item_count = lines.iter().map(|line| u64::from(line.quantity)).sum();
        let total = lines.iter().fold(Money::zero(currency), |sum, line| sum.saturating_add(line.total));
        PricedCart { lines, item_count, total }
    }
}

impl Line {
    fn priced(&self, offer: Option<Offer>) -> PricedLine {
        let (name, unit_price, available) = match offer {
            Some(offer) => (offer.name, offer.price, offer.available),
            None => (self.name.clone(), self.price, 0),
        };
        let was = (unit_price != self.price).then_some(self.price);
        let total = unit_price.saturating_mul(self.quantity);
        PricedLine { product_id: self.product_id, name, quantity: self.quantity, unit_price, total, available, was }
    }
}

/// What a merge does to the two carts; it is stored whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// The account's cart.
    pub user: Option<Changed>,
    /// The guest's cart.
    pub guest: Option<Changed>,
}

const fn check_stock(product_id: ProductId, quantity: u32, available: u64) -> Result<(), CartRefusal> {
    let requested = quantity as u64;
    if requested > available {
        Err(CartRefusal::InsufficientStock(Shortage { product_id, requested, available }))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CartLimits = CartLimits { max_quantity: 999, max_lines: 3 };
    const NOW: Timestamp = Timestamp::from_millis(1_000);

    fn cart() -> Cart {
        Cart::untouched(Owner { id: UserId::new(), guest: false })
    }

    fn guest() -> Cart {
        Cart::untouched(Owner { id: UserId::new(), guest: true })
    }

    fn offer(available: u64) -> impl Fn(ProductId) -> Option<Offer> {
        move |_| Some(Offer { name: "Tea".into(), price: Money::parse("4.50", "EUR".parse().unwrap()).unwrap(), available })
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
            three.decide(CartCommand::Update { product_id: tea, quantity: 1000 }, offer(10_000), LIMITS, NOW),
            Err(CartRefusal::QuantityLimit)
        );
    }

    #[test]
    fn stock_is_looked_at_for_the_whole_line() {
        let tea = ProductId::new();
        let four = add(&cart(), tea, 4).unwrap();
        let short = |requested| Err(CartRefusal::InsufficientStock(Shortage { product_id: tea, requested, available: 5 }));
        assert_eq!(four.decide(CartCommand::Add { product_id: tea, quantity: 2 }, offer(5), LIMITS, NOW), short(6));
        assert_eq!(four.decide(CartCommand::Update { product_id: tea, quantity: 7 }, offer(5), LIMITS, NOW), short(7));
        assert_eq!(
            cart().decide(CartCommand::Add { product_id: tea, quantity: 1 }, |_| None, LIMITS, NOW),
            Err(CartRefusal::ProductNotFound)
        );
    }

    #[test]
    fn what_changes_nothing_is_no_change() {
        let tea = ProductId::new();
        let four = add(&cart(), tea, 4).unwrap();
        let unchanged = |cart: &Cart, command| assert_eq!(cart.decide(command, offer(0), LIMITS, NOW), Ok(None));
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
        for command in [CartCommand::Update { product_id: tea, quantity: 0 }, CartCommand::Remove { product_id: tea }] {
            assert_eq!(
                decide(command),
                (Cart { version: 2, lines: vec![], ..four.clone() }, CartEvent::ItemRemoved { product_id: tea })
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
        let (left, event) = add(&cart(), tea, 1).unwrap().decide(abandon, offer(1), LIMITS, NOW).unwrap().unwrap();
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
        assert_eq!(merged.lines.iter().map(|l| (l.product_id, l.quantity)).collect::<Vec<_>>(), [(tea, 999), (cup, 2)]);
        assert_eq!(event, CartEvent::Merged { guest_id: visitor.owner.id });
        let (closed, _) = merge.guest.unwrap();
        assert_eq!((closed.version, closed.lines.len(), closed.merged_into), (3, 0, Some(user.owner.id)));
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
        let today = |id| (id == tea).then(|| Offer { name: "Mint tea".into(), price: money("5.00"), available: 7 });
        let priced = cart.priced(today, euro);
        assert_eq!((priced.item_count, priced.total), (5, money("23.50")));
        let [first, second] = &priced.lines[..] else { panic!("two lines") };
        assert_eq!((first.name.as_str(), first.was, first.available), ("Mint tea", Some(money("4.50")), 7));
        assert_eq!((second.name.as_str(), second.was, second.available), ("Tea", None, 0));
    }

    #[test]
    fn a_guests_cart_ends_thirty_days_after_it_began() {
        let guest = guest();
        assert_eq!(guest.expires_at(), Some(guest.updated_at.plus(GUEST_LIFETIME)));
        assert_eq!(cart().expires_at(), None);
    }
}
