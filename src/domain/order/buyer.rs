//! Finding all orders of one person.

use serde::{Deserialize, Serialize};

use super::{Order, OrderStatus};
use crate::domain::{account::Email, clock::Timestamp, ids::UserId};

/// What identifies the orders of one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buyer {
    /// The account or the guest.
    pub user_id: UserId,
    /// The e-mail addresses of the account and of an order.
    pub emails: Vec<Email>,
}

impl Buyer {
    /// The keys of the person's orders. An order can have more than one of them.
    pub fn keys(&self) -> impl Iterator<Item = BuyerKey> {
        let emails = self.emails.iter().cloned().map(BuyerKey::Email);
        std::iter::once(BuyerKey::User(self.user_id)).chain(emails)
    }
}

/// One of the keys that identify a person's orders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuyerKey {
    /// The orders of an account or a guest.
    User(UserId),
    /// All orders with an e-mail address.
    Email(Email),
    /// The orders with an e-mail address that belong to guests.
    GuestEmail(Email),
}

impl BuyerKey {
    /// Whether an order has this key.
    #[must_use]
    pub fn matches(&self, order: &Order) -> bool {
        match self {
            Self::User(user) => order.user_id == *user,
            Self::Email(email) => order.email.as_ref() == Some(email),
            Self::GuestEmail(email) => order.guest && order.email.as_ref() == Some(email),
        }
    }

    /// The statuses of the orders with this key that the deletion of an account has to end: it
    /// cancels those that are unpaid, and is refused while one is paid and not shipped. Paid orders
    /// of guests do not prevent it, since anybody can order with the address of somebody else.
    #[must_use]
    pub const fn unfinished_statuses(&self) -> &'static [OrderStatus] {
        use OrderStatus::{Paid, PartiallyFulfilled, PendingPayment};
        match self {
            Self::User(_) | Self::Email(_) => &[PendingPayment, Paid, PartiallyFulfilled],
            Self::GuestEmail(_) => &[PendingPayment],
        }
    }
}

impl Order {
    /// The person whose order it is.
    #[must_use]
    pub fn buyer(&self) -> Buyer {
        Buyer { user_id: self.user_id, emails: self.email.iter().cloned().collect() }
    }

    /// The order of a guest after it has moved to the guest's account.
    #[must_use]
    pub fn moved_to(&self, user_id: UserId, now: Timestamp) -> Self {
        Self {
            user_id,
            guest: false,
            version: self.version + 1,
            updated_at: now,
            actor: None,
            ..self.clone()
        }
    }
}
