//! Carts: their lines, commands, and events, and merging a guest's cart at login.

mod codes;
mod error;
mod limits;
mod merge;
mod priced;
mod shipping;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use self::limits::{check_line_count, check_stock, check_total};
pub use self::{
    error::{CartError, Shortage},
    limits::CartLimits,
    merge::{CartMerge, MERGED_LINES_FACTOR},
    priced::{PricedCart, PricedLine},
};
use super::{
    catalog::product::Product,
    clock::Timestamp,
    ids::{OrderId, ProductId, ShippingMethodId, UserId},
    money::Money,
    pricing::Destination,
};

/// How long a guest's cart and the guest's token are valid.
pub const GUEST_LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The most codes in a cart.
pub const MAX_CODES: usize = 10;

/// The owner of a cart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CartOwner {
    /// The user's or guest's id.
    pub id: UserId,
    /// Whether the owner is a guest, without an account.
    pub is_guest: bool,
}

/// A cart. A cart that never changed has version 0 and is not stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Cart {
    /// The cart's owner.
    pub owner: CartOwner,
    /// The number of changes so far.
    pub version: u64,
    /// The lines, in the order they were added.
    pub lines: Vec<CartLine>,
    /// When the owner last changed it.
    pub updated_at: Timestamp,
    /// The account that a guest's cart was merged into. The cart of a deleted account has its own
    /// owner here.
    pub merged_into: Option<UserId>,
    /// Whether `cart.abandoned` was raised since the owner's last change.
    pub abandoned: bool,
    /// The codes of promotions that the owner has given, as staff wrote them.
    pub codes: Vec<String>,
    /// Where the goods go, and how.
    pub shipping: Option<CartShipping>,
}

/// Where the goods of a cart go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CartShipping {
    /// Where they go, as far as shipping and tax depend on it.
    pub destination: Destination,
    /// The shipping method that the owner chose. `None` is the cheapest.
    pub method: Option<ShippingMethodId>,
}

/// One product in a cart.
#[derive(Debug, Clone, PartialEq)]
pub struct CartLine {
    /// The product's identifier.
    pub product_id: ProductId,
    /// The name when the line was last written. A cart shows it once the product is deleted.
    pub name: String,
    /// The number of units, at least 1.
    pub quantity: u32,
    /// The unit price when the line was last written. A cart shows it when the price has changed.
    pub price: Money,
}

/// The details of a product that a cart needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The product's name.
    pub name: String,
    /// The price of one unit.
    pub price: Money,
    /// The number of units available.
    pub available: u64,
    /// The product, which the pricing rules depend on. `None` is a product with nothing but a
    /// price.
    pub product: Option<Arc<Product>>,
}

/// A command for a cart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CartCommand {
    /// Adds units of a product.
    AddItem {
        /// The product's identifier.
        product_id: ProductId,
        /// The number of units added.
        quantity: u32,
    },
    /// Sets a line's quantity; 0 removes it.
    UpdateItem {
        /// The product's identifier.
        product_id: ProductId,
        /// The new quantity.
        quantity: u32,
    },
    /// Removes a line.
    RemoveItem {
        /// The product's identifier.
        product_id: ProductId,
    },
    /// Removes every line.
    Clear,
    /// Marks the cart as abandoned if its owner has not changed it since `idle_before`.
    Abandon {
        /// A cart that changed after this time is not abandoned.
        idle_before: Timestamp,
    },
}

/// An event of a cart, one per version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CartEvent {
    /// Units of a product were added.
    ItemAdded {
        /// The product's identifier.
        product_id: ProductId,
        /// The number of units added.
        added: u32,
        /// The line's quantity after the change.
        quantity: u32,
    },
    /// A line's quantity was set.
    ItemUpdated {
        /// The product's identifier.
        product_id: ProductId,
        /// The line's quantity after the change.
        quantity: u32,
    },
    /// A line was removed.
    ItemRemoved {
        /// The product's identifier.
        product_id: ProductId,
    },
    /// All lines were removed.
    Cleared,
    /// A guest's cart was merged into this one.
    Merged {
        /// The guest's identifier.
        guest_id: UserId,
    },
    /// This guest cart was merged into an account's cart.
    Closed {
        /// The account's identifier.
        merged_into: UserId,
    },
    /// Lines were bought. Units that were not bought stay in the cart.
    CheckedOut {
        /// The order's identifier.
        order_id: OrderId,
    },
    /// The owner abandoned the cart.
    Abandoned,
    /// A code was added or removed.
    CodesChanged,
    /// The address or the shipping method was changed.
    ShippingChanged,
}

/// A cart after a change, and the event of that change.
pub type CartChange = (Cart, CartEvent);

impl Cart {
    /// An empty cart, version 0.
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
            codes: Vec::new(),
            shipping: None,
        }
    }

    /// The time at which a guest's cart expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.owner.is_guest.then(|| self.owner.id.created_at().saturating_add(GUEST_LIFETIME))
    }

    /// The number of units of each product.
    #[must_use]
    pub fn quantities(&self) -> HashMap<ProductId, u32> {
        self.lines.iter().map(|line| (line.product_id, line.quantity)).collect()
    }

    fn quantity_of(&self, product_id: ProductId) -> u32 {
        let line = self.lines.iter().find(|line| line.product_id == product_id);
        line.map_or(0, |line| line.quantity)
    }

    /// Checks that the cart can still be read and changed.
    ///
    /// # Errors
    /// The guest's cart was merged into an account's cart, or the account was deleted.
    pub fn ensure_open(&self) -> Result<(), CartError> {
        match self.merged_into {
            None => Ok(()),
            Some(owner) if owner == self.owner.id => Err(CartError::OwnerDeleted),
            Some(_) => Err(CartError::GuestCartMerged),
        }
    }

    /// Empties the cart of an account that is deleted, and closes it forever: a request that was
    /// received before, and still runs, must neither fill it nor place an order.
    #[must_use]
    pub fn close(&self, now: Timestamp) -> CartChange {
        (self.closed_into(self.owner.id, now), CartEvent::Cleared)
    }

    /// The cart with nothing in it, closed for good.
    fn closed_into(&self, owner: UserId, now: Timestamp) -> Self {
        Self {
            merged_into: Some(owner),
            codes: Vec::new(),
            shipping: None,
            ..self.with_lines(Vec::new(), now)
        }
    }

    /// Decides what `command` does. `None` if it changes nothing.
    ///
    /// # Errors
    /// The reason the command is rejected.
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
            CartCommand::Clear if self.lines.is_empty() && self.codes.is_empty() => Ok(None),
            CartCommand::Clear => {
                Ok(Some((self.with_lines(Vec::new(), now).without_codes(), CartEvent::Cleared)))
            }
            CartCommand::Abandon { idle_before } => Ok(self.mark_abandoned(idle_before)),
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
        let quantity = limits.check_quantity(u64::from(before) + u64::from(added))?;
        if present.is_none() {
            check_line_count(self.lines.len() + 1, limits.max_lines)?;
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
        limits.check_quantity(quantity.into())?;
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

    fn mark_abandoned(&self, idle_before: Timestamp) -> Option<CartChange> {
        if self.abandoned || self.lines.is_empty() || self.updated_at > idle_before {
            return None;
        }
        let cart = Self { version: self.version + 1, abandoned: true, ..self.clone() };
        Some((cart, CartEvent::Abandoned))
    }

    /// What remains after a purchase of these quantities: the other lines, and the address.
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
            .without_codes()
    }

    fn with_lines(&self, lines: Vec<CartLine>, now: Timestamp) -> Self {
        Self {
            owner: self.owner,
            version: self.version + 1,
            lines,
            updated_at: now,
            merged_into: self.merged_into,
            abandoned: false,
            codes: self.codes.clone(),
            shipping: self.shipping.clone(),
        }
    }

    /// Whether the cart has a code. Codes are compared case-insensitively.
    #[must_use]
    pub fn has_code(&self, code: &str) -> bool {
        self.codes.iter().any(|known| known.eq_ignore_ascii_case(code))
    }

    fn without_codes(self) -> Self {
        Self { codes: Vec::new(), ..self }
    }
}
