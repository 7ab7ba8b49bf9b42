//! What a provider says, and what it does to a payment.

use super::{Intent, IntentState, Payment, PaymentFailure, PaymentMethod, PaymentStatus};
use crate::domain::{
    ids::{OrderId, RefundId},
    money::Money,
};

/// What a provider says about a payment. All of it may come twice, late, and in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderUpdate {
    /// The payment was begun.
    Begun {
        /// The attempt.
        attempt: u32,
        /// The provider's id.
        intent: String,
        /// What the buyer's browser pays with.
        client_secret: String,
    },
    /// The payment was not begun, and cannot be.
    BeginRefused {
        /// The attempt.
        attempt: u32,
    },
    /// A try to pay was declined.
    Declined {
        /// The provider's id.
        intent: String,
        /// Why.
        failure: PaymentFailure,
    },
    /// The buyer has paid.
    Succeeded {
        /// The provider's id.
        intent: String,
        /// The amount. `None` if it is in another currency.
        amount: Option<Money>,
    },
    /// The payment was called off.
    CalledOff {
        /// The provider's id.
        intent: String,
    },
    /// All money of the payment was given back.
    GivenBack {
        /// The provider's id.
        intent: String,
    },
    /// The provider has a refund.
    Refund(ProviderRefund),
    /// The provider refuses a refund of the shop, and has not made it.
    RefundRefused {
        /// The refund.
        refund: RefundId,
    },
    /// The total of all refunds of the payment so far.
    RefundedTotal {
        /// The provider's id.
        intent: String,
        /// The total refunded so far.
        total: Money,
    },
    /// The buyer disputes the payment.
    Disputed {
        /// The provider's id.
        intent: String,
    },
}

/// A refund as the provider has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRefund {
    /// The provider's id of the payment.
    pub intent: String,
    /// The provider's id of the refund.
    pub id: String,
    /// The refund, if the shop asked for it.
    pub refund: Option<RefundId>,
    /// Its amount. `None` if it is in another currency.
    pub amount: Option<Money>,
    /// Whether the money went back, once it is known.
    pub outcome: Option<bool>,
}

/// A message of a provider about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderMessage {
    /// The order's id, as the shop gave it to the provider.
    pub order_id: Option<OrderId>,
    /// The provider's id of the payment.
    pub intent: String,
    /// What it says.
    pub update: ProviderUpdate,
}

/// Which event the shop publishes when a provider's update changes a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentEvent {
    /// `order.paid`.
    Paid,
    /// `order.refunded`: money went back to the buyer.
    Refunded,
    /// `order.payment_changed`: anything else.
    PaymentChanged,
}

impl Payment {
    pub(in crate::domain) fn note_begun(
        &mut self,
        attempt: u32,
        id: &str,
        client_secret: &str,
    ) -> Option<PaymentEvent> {
        let intents = &mut self.provider.as_mut()?.intents;
        let same_id = |known: &&mut Intent| known.id.as_deref() == Some(id);
        if let Some(known) = intents.iter_mut().find(same_id) {
            // A message about it came before.
            let needs_secret = known.state == IntentState::Begun && known.client_secret.is_none();
            known.client_secret = Some(client_secret.to_owned());
            return needs_secret.then_some(PaymentEvent::PaymentChanged);
        }
        let known = intents.iter_mut().rev().find(|known| known.attempt == attempt)?;
        if known.id.is_some() {
            // The attempt was paid with another intent, so nobody needs this one.
            intents.insert(0, Intent::known(attempt, IntentState::Unwanted, id));
            return Some(PaymentEvent::PaymentChanged);
        }
        known.id = Some(id.to_owned());
        if known.state == IntentState::Wanted {
            known.state = IntentState::Begun;
            known.client_secret = Some(client_secret.to_owned());
            self.reference = Some(id.to_owned());
        }
        Some(PaymentEvent::PaymentChanged)
    }

    pub(in crate::domain) fn note_begin_refused(&mut self, attempt: u32) -> Option<PaymentEvent> {
        let is_dropped = |known: &&mut Intent| {
            known.attempt == attempt && known.id.is_none() && known.state == IntentState::Unwanted
        };
        self.provider.as_mut()?.intents.iter_mut().find(is_dropped)?.state = IntentState::CalledOff;
        Some(PaymentEvent::PaymentChanged)
    }

    pub(in crate::domain) fn note_declined(
        &mut self,
        id: &str,
        failure: &PaymentFailure,
    ) -> Option<PaymentEvent> {
        let is_known = self.failure.as_ref() == Some(failure);
        let is_repeat = self.status == PaymentStatus::Failed && is_known;
        let intent = self.provider.as_mut()?.find_or_adopt(id)?;
        if intent.state != IntentState::Begun || is_repeat || !self.is_open() {
            return None;
        }
        self.status = PaymentStatus::Failed;
        self.failure = Some(failure.clone());
        self.reference = Some(id.to_owned());
        Some(PaymentEvent::PaymentChanged)
    }

    pub(in crate::domain) fn note_given_back(&mut self, id: &str) -> Option<PaymentEvent> {
        let is_surplus = |known: &&mut Intent| {
            known.id.as_deref() == Some(id) && known.state == IntentState::Surplus
        };
        self.provider.as_mut()?.intents.iter_mut().find(is_surplus)?.state = IntentState::GivenBack;
        Some(PaymentEvent::PaymentChanged)
    }

    /// Whether the intent with this id paid the order.
    pub(super) fn is_paid_with(&self, id: &str) -> bool {
        let paid = self.provider.as_ref().and_then(|provider| provider.paid_intent());
        self.method != PaymentMethod::Manual
            && paid.is_some_and(|intent| intent.id.as_deref() == Some(id))
    }

    pub(in crate::domain) fn note_dispute(&mut self, id: &str) -> Option<PaymentEvent> {
        // The message can come before the one that says that the money came.
        let intent = self.provider.as_mut()?.find_or_adopt(id)?;
        let can_get_money = intent.state.can_get_money();
        let is_disputed = can_get_money || self.is_paid_with(id);
        if self.status == PaymentStatus::Unclear || !is_disputed {
            return None;
        }
        self.status = PaymentStatus::Unclear;
        Some(PaymentEvent::PaymentChanged)
    }
}
