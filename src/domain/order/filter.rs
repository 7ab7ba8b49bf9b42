//! Which orders a list has.

use super::{Order, OrderNumber, OrderStatus};
use crate::domain::{account::Email, clock::Timestamp, ids::UserId};

/// A filter of orders. What is `None` matches every order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// The buyer.
    pub user_id: Option<UserId>,
    /// The e-mail address of the order.
    pub email: Option<Email>,
    /// The status.
    pub status: Option<OrderStatus>,
    /// The number.
    pub number: Option<OrderNumber>,
    /// The earliest time at which the order was placed.
    pub placed_from: Option<Timestamp>,
    /// The latest time at which the order was placed.
    pub placed_to: Option<Timestamp>,
}

impl OrderFilter {
    /// All orders of one buyer.
    #[must_use]
    pub fn of_user(user_id: UserId) -> Self {
        Self { user_id: Some(user_id), ..Self::default() }
    }

    /// Whether the filter matches an order.
    #[must_use]
    pub fn matches(&self, order: &Order) -> bool {
        self.user_id.is_none_or(|user| user == order.user_id)
            && (self.email.is_none() || self.email == order.email)
            && self.status.is_none_or(|status| status == order.status)
            && self.number.is_none_or(|number| number == order.number())
            && self.placed_from.is_none_or(|from| from <= order.placed_at)
            && self.placed_to.is_none_or(|to| order.placed_at <= to)
    }
}
