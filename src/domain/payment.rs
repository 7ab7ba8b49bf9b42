//! Payments: what an order costs, what was paid for it, and what went back.
//!
//! A payment is a part of its order and is stored with it, so that no order is paid without its
//! stock, and no refund is booked without its order.

mod provider_amount;
mod provider_refund;
mod provider_state;
mod provider_update;
#[cfg(test)]
mod tests;

pub use self::{
    provider_amount::{provider_amount, provider_currency, provider_units, shop_amount},
    provider_state::{Intent, IntentState, ProviderState, ProviderTask, RefundTask, look_up_pause},
    provider_update::{PaymentEvent, ProviderMessage, ProviderRefund, ProviderUpdate},
};

use super::{clock::Timestamp, ids::RefundId, money::Money};

/// The payment of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// How the order is paid.
    pub method: PaymentMethod,
    /// The current status.
    pub status: PaymentStatus,
    /// The reference given when the payment was confirmed, or the provider's id of the payment.
    pub reference: Option<String>,
    /// What is to be paid: the order's total.
    pub amount: Money,
    /// The refunds, the oldest first.
    pub refunds: Vec<Refund>,
    /// Why the last try was declined.
    pub failure: Option<PaymentFailure>,
    /// What the provider has of the payment. `None` if it was never to be asked.
    pub provider: Option<ProviderState>,
}

/// Why a try to pay was declined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentFailure {
    /// The provider's code, such as `card_declined`.
    pub code: String,
    /// A sentence for the buyer.
    pub message: String,
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
    /// The provider's id, once the provider has the refund.
    pub provider_id: Option<String>,
}

impl Refund {
    /// Whether the money went back.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.status == RefundStatus::Succeeded
    }
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
    /// The buyer pays with Stripe.
    Stripe,
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
    /// The last try was declined. The buyer can try again.
    Failed,
    /// The money has arrived.
    Paid,
    /// Some of the money went back.
    PartiallyRefunded,
    /// All of the money went back.
    Refunded,
    /// The order was cancelled or has expired before the money arrived.
    Cancelled,
    /// The provider says what does not fit the order. Staff has to look at it.
    Unclear,
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
    /// The provider has not said yet whether the money went back.
    Pending,
    /// The money went back. Staff sends it for the method `manual`.
    Succeeded,
    /// The provider refused it, and the money did not go back.
    Failed,
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
    /// The payment of an order that is placed at `now`. If a provider takes it, the provider is to
    /// be asked.
    #[must_use]
    pub fn placed(method: PaymentMethod, amount: Money, now: Timestamp) -> Self {
        let provider = (method != PaymentMethod::Manual).then(|| ProviderState::wanted(now));
        Self { provider, ..Self::awaiting(method, amount) }
    }

    /// A payment of `amount` that has not arrived.
    #[must_use]
    pub const fn awaiting(method: PaymentMethod, amount: Money) -> Self {
        Self {
            method,
            status: PaymentStatus::Awaiting,
            reference: None,
            amount,
            refunds: Vec::new(),
            failure: None,
            provider: None,
        }
    }

    /// The sum of the refunds, without those that failed, and at most what was paid: of a refund at
    /// the provider, the message that it failed may still be on its way.
    #[must_use]
    pub fn refunded(&self) -> Money {
        let sum = self.sum_refunds(|status| status != RefundStatus::Failed);
        if sum.exceeds(self.amount) { self.amount } else { sum }
    }

    /// What went back.
    #[must_use]
    pub fn succeeded_refunds(&self) -> Money {
        self.sum_refunds(|status| status == RefundStatus::Succeeded)
    }

    fn sum_refunds(&self, counts: impl Fn(RefundStatus) -> bool) -> Money {
        let counted = self.refunds.iter().filter(|refund| counts(refund.status));
        counted.fold(self.nothing(), |sum, refund| sum.saturating_add(refund.amount))
    }

    /// Whether money goes back, or has gone.
    #[must_use]
    pub fn has_refunds(&self) -> bool {
        self.refunds.iter().any(|refund| refund.status != RefundStatus::Failed)
    }

    /// How many refunds failed.
    #[must_use]
    pub fn failed_refunds(&self) -> usize {
        self.refunds.iter().filter(|refund| refund.status == RefundStatus::Failed).count()
    }

    const fn nothing(&self) -> Money {
        Money::zero(self.amount.currency())
    }

    /// Whether all of the money goes back, or has gone.
    #[must_use]
    pub fn is_refunded_in_full(&self) -> bool {
        self.amount.exceeds(self.nothing()) && self.refunded() == self.amount
    }

    /// What can still go back. 0 unless the money has arrived.
    #[must_use]
    pub fn refundable(&self) -> Money {
        match self.status {
            PaymentStatus::Paid | PaymentStatus::PartiallyRefunded => {
                self.amount.saturating_sub(self.refunded())
            }
            _ => self.nothing(),
        }
    }

    /// Whether the buyer can still pay.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.status, PaymentStatus::Awaiting | PaymentStatus::Failed)
    }

    /// Books that staff has the money. What the provider has begun is called off.
    pub(super) fn confirm(&mut self, reference: Option<String>, now: Timestamp) {
        self.method = PaymentMethod::Manual;
        self.status = PaymentStatus::Paid;
        self.reference = reference;
        self.failure = None;
        self.drop_intents(now);
    }

    /// Calls the payment off, unless the money has arrived.
    pub(super) fn call_off(&mut self, now: Timestamp) {
        if self.is_open() {
            self.status = PaymentStatus::Cancelled;
            self.drop_intents(now);
        }
    }

    fn drop_intents(&mut self, now: Timestamp) {
        if let Some(provider) = &mut self.provider {
            provider.drop_open_intents();
            self.schedule_provider(now);
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
        if left == self.nothing() {
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
        if amount.exceeds(self.nothing()) {
            self.book_refund(id, amount, None, now);
        }
    }

    fn book_refund(&mut self, id: RefundId, amount: Money, reason: Option<String>, now: Timestamp) {
        let status = match self.method {
            PaymentMethod::Manual => RefundStatus::Succeeded,
            PaymentMethod::Stripe => RefundStatus::Pending,
        };
        self.refunds.push(Refund {
            id,
            amount,
            status,
            reason,
            refunded_at: now,
            provider_id: None,
        });
        self.follow_refunds();
        self.schedule_provider(now);
    }

    /// Sets the status that the refunds that have succeeded lead to.
    fn follow_refunds(&mut self) {
        use PaymentStatus::{Paid, PartiallyRefunded, Refunded};
        if !matches!(self.status, Paid | PartiallyRefunded | Refunded) {
            return;
        }
        let gone = self.succeeded_refunds();
        self.status = if gone == self.nothing() {
            Paid
        } else if self.amount.exceeds(gone) {
            PartiallyRefunded
        } else {
            Refunded
        };
    }
}
