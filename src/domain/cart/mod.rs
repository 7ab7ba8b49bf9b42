//! Carts: lines, what may be done to them, and what a guest's cart becomes when its owner logs in.

mod priced;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, time::Duration};

pub use self::priced::{PricedCart, PricedLine};
use super::{
    clock::Timestamp,
    ids::{OrderId, ProductId, UserId},
    money::{MAX_MINOR_UNITS, MAX_PRICE_MINOR_UNITS, Money},
};

/// How long a guest's cart, and the token that opens it, live.
pub const GUEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many times `max_lines` a cart may hold after merges, which drop no line.
pub const MERGED_LINES_FACTOR: usize = 4;

/// So many units at the highest price cost no more than the largest total, so that most carts need
/// not be priced to know that theirs is smaller.
const UNITS_WITHIN_TOTAL_LIMIT: u64 = (MAX_MINOR_UNITS / MAX_PRICE_MINOR_UNITS) as u64;

/// Whose cart it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CartOwner {
    /// The user's or guest's id.
    pub id: UserId,
    /// Whether it is a guest, who has no account.
    pub is_guest: bool,
}

/// A cart. One that was never changed is version 0 and in no store.
#[derive(Debug, Clone, PartialEq)]
pub struct Cart {
    /// Whose it is.
    pub owner: CartOwner,
    /// Counts changes.
    pub version: u64,
    /// In the order they were added.
    pub lines: Vec<CartLine>,
    /// When the owner last changed it.
    pub updated_at: Timestamp,
    /// Who took it over, when it was a guest's.
    pub merged_into: Option<UserId>,
    /// Whether `cart.abandoned` was raised since the owner last changed it.
    pub abandoned: bool,
}

/// One product in a cart.
#[derive(Debug, Clone, PartialEq)]
pub struct CartLine {
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
    AddItem {
        /// Which.
        product_id: ProductId,
        /// How many more.
        quantity: u32,
    },
    /// Sets a line's quantity; 0 removes it.
    UpdateItem {
        /// Which.
        product_id: ProductId,
        /// How many there shall be.
        quantity: u32,
    },
    /// Takes a line out.
    RemoveItem {
        /// Which.
        product_id: ProductId,
    },
    /// Takes every line out.
    Clear,
    /// Notes that the owner has left it lying since before `untouched_since`.
    Abandon {
        /// A cart changed after this is not abandoned.
        idle_before: Timestamp,
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
    /// Its lines were bought; what was put in meanwhile is still there.
    CheckedOut {
        /// By this order.
        order_id: OrderId,
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
pub enum CartError {
    /// The catalog has no such product.
    ProductNotFound,
    /// The cart has no such line.
    LineNotFound,
    /// Not enough of it.
    InsufficientStock(Shortage),
    /// More pieces than one line may have.
    QuantityLimitExceeded,
    /// More lines than a cart may have.
    LineLimitExceeded,
    /// The total would be above [`MAX_MINOR_UNITS`](crate::domain::money::MAX_MINOR_UNITS).
    TotalLimitExceeded,
    /// The guest's cart belongs to an account now.
    GuestCartMerged,
}

/// A cart after a change, with what happened to it.
pub type CartChange = (Cart, CartEvent);

impl Cart {
    /// The cart of someone who never put anything in.
    #[must_use]
    pub fn empty(owner: CartOwner) -> Self {
        let updated_at = owner.id.created_at();
        Self {
            owner,
            version: 0,
            lines: Vec::new(),
            updated_at,
            merged_into: None,
            abandoned: false,
        }
    }

    /// When a guest's cart ends.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.owner.is_guest.then(|| self.owner.id.created_at().saturating_add(GUEST_LIFETIME))
    }

    /// How many pieces of each product are in it.
    #[must_use]
    pub fn quantities(&self) -> HashMap<ProductId, u32> {
        self.lines.iter().map(|line| (line.product_id, line.quantity)).collect()
    }

    fn quantity_of(&self, product_id: ProductId) -> u32 {
        let line = self.lines.iter().find(|line| line.product_id == product_id);
        line.map_or(0, |line| line.quantity)
    }

    /// Whether it may still be read and changed.
    ///
    /// # Errors
    /// It was a guest's and was merged.
    pub const fn ensure_open(&self) -> Result<(), CartError> {
        match self.merged_into {
            None => Ok(()),
            Some(_) => Err(CartError::GuestCartMerged),
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
    ) -> Result<Option<CartChange>, CartError> {
        self.ensure_open()?;
        match command {
            CartCommand::AddItem { product_id, quantity } => {
                let item = offer(product_id).ok_or(CartError::ProductNotFound)?;
                self.add_item(product_id, quantity, item, limits, now)
                    .and_then(|change| check_total(change, &offer))
                    .map(Some)
            }
            CartCommand::UpdateItem { product_id, quantity: 0 }
            | CartCommand::RemoveItem { product_id } => self.remove_item(product_id, now).map(Some),
            CartCommand::UpdateItem { product_id, quantity } => {
                let raises = self.quantity_of(product_id) < quantity;
                match self.update_item(product_id, quantity, offer(product_id), limits, now)? {
                    Some(change) if raises => check_total(change, &offer).map(Some),
                    change => Ok(change),
                }
            }
            CartCommand::Clear if self.lines.is_empty() => Ok(None),
            CartCommand::Clear => Ok(Some((self.with_lines(Vec::new(), now), CartEvent::Cleared))),
            CartCommand::Abandon { idle_before: untouched_since } => {
                Ok(self.mark_abandoned(untouched_since))
            }
        }
    }

    fn add_item(
        &self,
        product_id: ProductId,
        added: u32,
        offer: Offer,
        limits: CartLimits,
        now: Timestamp,
    ) -> Result<CartChange, CartError> {
        let present = self.lines.iter().position(|line| line.product_id == product_id);
        let before = present.and_then(|at| self.lines.get(at)).map_or(0, |line| line.quantity);
        let quantity = before
            .checked_add(added)
            .filter(|sum| *sum <= limits.max_quantity)
            .ok_or(CartError::QuantityLimitExceeded)?;
        if present.is_none() && self.lines.len() >= limits.max_lines {
            return Err(CartError::LineLimitExceeded);
        }
        check_stock(product_id, quantity, offer.available)?;
        let line = CartLine { product_id, name: offer.name, quantity, price: offer.price };
        let mut lines = self.lines.clone();
        match present.and_then(|at| lines.get_mut(at)) {
            Some(slot) => *slot = line,
            None => lines.push(line),
        }
        Ok((self.with_lines(lines, now), CartEvent::ItemAdded { product_id, added, quantity }))
    }

    fn update_item(
        &self,
        product_id: ProductId,
        quantity: u32,
        offer: Option<Offer>,
        limits: CartLimits,
        now: Timestamp,
    ) -> Result<Option<CartChange>, CartError> {
        let line = self
            .lines
            .iter()
            .find(|line| line.product_id == product_id)
            .ok_or(CartError::LineNotFound)?;
        if line.quantity == quantity {
            return Ok(None);
        }
        if quantity > limits.max_quantity {
            return Err(CartError::QuantityLimitExceeded);
        }
        check_stock(product_id, quantity, offer.as_ref().map_or(0, |offer| offer.available))?;
        let mut lines = self.lines.clone();
        if let (Some(line), Some(offer)) =
            (lines.iter_mut().find(|line| line.product_id == product_id), offer)
        {
            *line = CartLine { product_id, name: offer.name, quantity, price: offer.price };
        }
        Ok(Some((self.with_lines(lines, now), CartEvent::ItemUpdated { product_id, quantity })))
    }

    fn remove_item(&self, product_id: ProductId, now: Timestamp) -> Result<CartChange, CartError> {
        let lines: Vec<CartLine> =
            self.lines.iter().filter(|line| line.product_id != product_id).cloned().collect();
        if lines.len() == self.lines.len() {
            return Err(CartError::LineNotFound);
        }
        Ok((self.with_lines(lines, now), CartEvent::ItemRemoved { product_id }))
    }

    fn mark_abandoned(&self, untouched_since: Timestamp) -> Option<CartChange> {
        if self.abandoned || self.lines.is_empty() || self.updated_at > untouched_since {
            return None;
        }
        let cart = Self { version: self.version + 1, abandoned: true, ..self.clone() };
        Some((cart, CartEvent::Abandoned))
    }

    /// What merging `guest` into this cart would do to each of the two; `None`: nothing.
    ///
    /// # Errors
    /// Another account has the guest's cart, or the two together have too many lines or too high a
    /// total. No line is dropped to make them fit: both carts stay as they are.
    pub fn merge(
        &self,
        guest: &Self,
        offer: impl Fn(ProductId) -> Option<Offer>,
        limits: CartLimits,
        now: Timestamp,
    ) -> Result<CartMerge, CartError> {
        match guest.merged_into {
            Some(user) if user == self.owner.id => {
                return Ok(CartMerge { user: None, guest: None });
            }
            Some(_) => return Err(CartError::GuestCartMerged),
            None => {}
        }
        let lines = self.merged_lines(guest, limits);
        if lines.len() > limits.max_lines.saturating_mul(MERGED_LINES_FACTOR) {
            return Err(CartError::LineLimitExceeded);
        }
        let merged = CartEvent::Merged { guest_id: guest.owner.id };
        let user = (lines != self.lines)
            .then(|| check_total((self.with_lines(lines, now), merged), &offer))
            .transpose()?;
        let closed = Self { merged_into: Some(self.owner.id), ..guest.with_lines(Vec::new(), now) };
        Ok(CartMerge {
            user,
            guest: Some((closed, CartEvent::Closed { merged_into: self.owner.id })),
        })
    }

    fn merged_lines(&self, guest: &Self, limits: CartLimits) -> Vec<CartLine> {
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

    /// The same after so many pieces of each line were bought.
    pub(in crate::domain) fn without_purchased(
        &self,
        bought: impl Fn(&CartLine) -> u32,
        now: Timestamp,
    ) -> Self {
        let left = |line: &CartLine| CartLine {
            quantity: line.quantity.saturating_sub(bought(line)),
            ..line.clone()
        };
        self.with_lines(self.lines.iter().map(left).filter(|line| line.quantity > 0).collect(), now)
    }

    fn with_lines(&self, lines: Vec<CartLine>, now: Timestamp) -> Self {
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

/// What a merge does to the two carts; it is stored whole or not at all.
#[derive(Debug, Clone, PartialEq)]
pub struct CartMerge {
    /// The account's cart.
    pub user: Option<CartChange>,
    /// The guest's cart.
    pub guest: Option<CartChange>,
}

/// Refuses a change after which the cart's total, at the prices of `offer`, is above the limit.
fn check_total(
    change: CartChange,
    offer: impl Fn(ProductId) -> Option<Offer>,
) -> Result<CartChange, CartError> {
    let (cart, _) = &change;
    let units: u64 = cart.lines.iter().map(|line| u64::from(line.quantity)).sum();
    if units <= UNITS_WITHIN_TOTAL_LIMIT || cart.is_total_within_limit(offer) {
        Ok(change)
    } else {
        Err(CartError::TotalLimitExceeded)
    }
}

const fn check_stock(
    product_id: ProductId,
    quantity: u32,
    available: u64,
) -> Result<(), CartError> {
    let requested = quantity as u64;
    if requested > available {
        Err(CartError::InsufficientStock(Shortage { product_id, requested, available }))
    } else {
        Ok(())
    }
}
