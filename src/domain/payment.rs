//! Payments: what an order costs, what was paid for it, and what went back.
//!
//! A payment is a part of its order and is stored with it, so that no order is paid without its
//! stock, and no refund is booked without its order.

#[cfg(test)]
mod tests;

use super::{clock::Timestamp, ids::RefundId, money::Money};

/// The payment of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// How the order is paid.
    pub method: PaymentMethod,
    /// The current status.
    pub status: PaymentStatus,
    /// The reference given when the payment was confirmed.
    pub reference: Option<String>,
    /// What is to be paid: the order's total.
    pub amount: Money,
    /// The refunds, the oldest first.
    pub refunds: Vec<Refund>,
}

/// Money that goes back to the buyer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The refund's identifier.
    pub id: RefundId,
    /// The amount, above 0.
    pub amount: Money,
    /// Whether the money went back.
    pub status: RefundStatus,
    /// The reason that staff gave.
    pub reason: Option<String>,
    /// The time at which the refund was booked.
    pub refunded_at: Timestamp,
}

/// A payment method.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum PaymentMethod {
    /// Staff confirms that the money arrived, and sends back what is refunded.
    #[default]
    Manual,
}

impl PaymentMethod {
    /// Every payment method.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The status of a payment.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum PaymentStatus {
    /// The money has not arrived.
    Awaiting,
    /// The money has arrived.
    Paid,
    /// Some of the money went back.
    PartiallyRefunded,
    /// All of the money went back.
    Refunded,
    /// The order was cancelled or has expired before the money arrived.
    Cancelled,
}

impl PaymentStatus {
    /// Every status, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The status of a refund.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum RefundStatus {
    /// The money went back. Staff sends it for the method `manual`.
    Succeeded,
}

impl RefundStatus {
    /// Every status, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Why a refund is rejected. A rejected refund changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundError {
    /// Nothing was paid, or all of it went back.
    NothingToRefund(PaymentStatus),
    /// More would go back than is left of what was paid.
    ExceedsPayment {
        /// What is left.
        left: Money,
    },
}

impl Payment {
    /// A payment of `amount` that has not arrived.
    #[must_use]
    pub const fn awaiting(method: PaymentMethod, amount: Money) -> Self {
        Self {
            method,
            status: PaymentStatus::Awaiting,
            reference: None,
            amount,
            refunds: Vec::new(),
        }
    }

    /// The sum of all refunds.
    #[must_use]
    pub fn refunded(&self) -> Money {
        let zero = Money::zero(self.amount.currency());
        self.refunds.iter().fold(zero, |sum, refund| sum.saturating_add(refund.amount))
    }

    /// What can still go back. 0 unless the money has arrived.
    #[must_use]
    pub fn refundable(&self) -> Money {
        match self.status {
            PaymentStatus::Paid | PaymentStatus::PartiallyRefunded => {
                self.amount.saturating_sub(self.refunded())
            }
            PaymentStatus::Awaiting | PaymentStatus::Refunded | PaymentStatus::Cancelled => {
                Money::zero(self.amount.currency())
            }
        }
    }

    /// Books that staff has the money.
    pub(super) fn confirm(&mut self, reference: Option<String>) {
        self.method = PaymentMethod::Manual;
        self.status = PaymentStatus::Paid;
        self.reference = reference;
    }

    /// Calls the payment off, unless the money has arrived.
    pub(super) fn call_off(&mut self) {
        if self.status == PaymentStatus::Awaiting {
            self.status = PaymentStatus::Cancelled;
        }
    }

    /// Books a refund of `amount`, or of all that is left.
    ///
    /// # Errors
    /// Less is left.
    pub(super) fn refund(
        &mut self,
        id: RefundId,
        amount: Option<Money>,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<(), RefundError> {
        let left = self.refundable();
        let amount = amount.unwrap_or(left);
        if left == Money::zero(left.currency()) {
            return Err(RefundError::NothingToRefund(self.status));
        }
        if amount.exceeds(left) {
            return Err(RefundError::ExceedsPayment { left });
        }
        self.book_refund(id, amount, reason, now);
        Ok(())
    }

    /// Books a refund of `amount`, or of what is left if that is less.
    pub(super) fn refund_up_to(&mut self, amount: Money, id: RefundId, now: Timestamp) {
        let left = self.refundable();
        let amount = if amount.exceeds(left) { left } else { amount };
        if amount.exceeds(Money::zero(amount.currency())) {
            self.book_refund(id, amount, None, now);
        }
    }

    fn book_refund(&mut self, id: RefundId, amount: Money, reason: Option<String>, now: Timestamp) {
        let status = RefundStatus::Succeeded;
        self.refunds.push(Refund { id, amount, status, reason, refunded_at: now });
        self.status = match self.refunded() == self.amount {
            true => PaymentStatus::Refunded,
            false => PaymentStatus::PartiallyRefunded,
        };
    }
}
