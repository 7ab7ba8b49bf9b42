//! What a provider says, and what it does to a payment.

use super::{
    Intent, IntentState, Payment, PaymentFailure, PaymentMethod, PaymentStatus, Refund,
    RefundStatus,
};
use crate::domain::{
    clock::Timestamp,
    ids::{OrderId, RefundId},
    money::Money,
};

/// The reason of a refund that somebody made at the provider.
const PROVIDER_REASON: &str = "provider";

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
    /// So much of the payment has gone back in all.
    RefundedInAll {
        /// The provider's id.
        intent: String,
        /// The sum.
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
    /// The order that the provider was told.
    pub order_id: Option<OrderId>,
    /// The provider's id of the payment.
    pub intent: String,
    /// What it says.
    pub update: ProviderUpdate,
}

/// What a change of a payment means to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderEvent {
    /// The order was paid.
    Paid,
    /// Money went back.
    Refunded,
    /// The payment changed otherwise.
    PaymentChanged,
}

impl Refund {
    /// Whether only the provider's sum tells of it.
    fn is_anonymous(&self) -> bool {
        self.provider_id.is_none()
            && self.status == RefundStatus::Succeeded
            && self.reason.as_deref() == Some(PROVIDER_REASON)
    }
}

impl ProviderRefund {
    const fn status(&self) -> RefundStatus {
        match self.outcome {
            None => RefundStatus::Pending,
            Some(true) => RefundStatus::Succeeded,
            Some(false) => RefundStatus::Failed,
        }
    }
}

impl Payment {
    pub(in crate::domain) fn note_begun(
        &mut self,
        attempt: u32,
        id: &str,
        client_secret: &str,
    ) -> Option<ProviderEvent> {
        let intents = &mut self.provider.as_mut()?.intents;
        let same_id = |known: &&mut Intent| known.id.as_deref() == Some(id);
        if let Some(known) = intents.iter_mut().find(same_id) {
            // A message about it came before.
            let needs_secret = known.state == IntentState::Begun && known.client_secret.is_none();
            known.client_secret = Some(client_secret.to_owned());
            return needs_secret.then_some(ProviderEvent::PaymentChanged);
        }
        let known = intents.iter_mut().rev().find(|known| known.attempt == attempt)?;
        if known.id.is_some() {
            // The attempt was paid with another intent, so nobody needs this one.
            intents.insert(0, Intent::known(attempt, IntentState::Unwanted, id));
            return Some(ProviderEvent::PaymentChanged);
        }
        known.id = Some(id.to_owned());
        if known.state == IntentState::Wanted {
            known.state = IntentState::Begun;
            known.client_secret = Some(client_secret.to_owned());
            self.reference = Some(id.to_owned());
        }
        Some(ProviderEvent::PaymentChanged)
    }

    pub(in crate::domain) fn note_begin_refused(&mut self, attempt: u32) -> Option<ProviderEvent> {
        let is_dropped = |known: &&mut Intent| {
            known.attempt == attempt && known.id.is_none() && known.state == IntentState::Unwanted
        };
        self.provider.as_mut()?.intents.iter_mut().find(is_dropped)?.state = IntentState::CalledOff;
        Some(ProviderEvent::PaymentChanged)
    }

    pub(in crate::domain) fn note_declined(
        &mut self,
        id: &str,
        failure: &PaymentFailure,
    ) -> Option<ProviderEvent> {
        let is_known = self.failure.as_ref() == Some(failure);
        let is_repeat = self.status == PaymentStatus::Failed && is_known;
        let intent = self.provider.as_mut()?.find_or_adopt(id)?;
        if intent.state != IntentState::Begun || is_repeat || !self.is_open() {
            return None;
        }
        self.status = PaymentStatus::Failed;
        self.failure = Some(failure.clone());
        self.reference = Some(id.to_owned());
        Some(ProviderEvent::PaymentChanged)
    }

    pub(in crate::domain) fn note_given_back(&mut self, id: &str) -> Option<ProviderEvent> {
        let is_surplus = |known: &&mut Intent| {
            known.id.as_deref() == Some(id) && known.state == IntentState::Surplus
        };
        self.provider.as_mut()?.intents.iter_mut().find(is_surplus)?.state = IntentState::GivenBack;
        Some(ProviderEvent::PaymentChanged)
    }

    /// Whether the intent with this id paid the order.
    fn is_paid_with(&self, id: &str) -> bool {
        let paid = self.provider.as_ref().and_then(|provider| provider.paid_intent());
        self.method != PaymentMethod::Manual
            && paid.is_some_and(|intent| intent.id.as_deref() == Some(id))
    }

    pub(in crate::domain) fn note_refund(
        &mut self,
        told: &ProviderRefund,
        now: Timestamp,
    ) -> Option<ProviderEvent> {
        if !self.is_paid_with(&told.intent) {
            return self.note_early_refund(&told.intent, told.amount?);
        }
        let Some(refund) = self.find_refund(told) else { return self.book_at_provider(told, now) };
        let before = refund.clone();
        refund.provider_id.get_or_insert_with(|| told.id.clone());
        // A refund can fail after it has succeeded, and nothing follows a failure.
        let moves_on = match refund.status {
            RefundStatus::Pending => told.outcome.is_some(),
            RefundStatus::Succeeded => told.outcome == Some(false),
            // The shop took it for lost, see `make_room`.
            RefundStatus::Failed => before.provider_id.is_none() && told.outcome != Some(false),
        };
        if moves_on {
            refund.status = told.status();
        }
        if *refund == before {
            return None;
        }
        let has_succeeded = moves_on && refund.status == RefundStatus::Succeeded;
        if moves_on && before.status == RefundStatus::Failed {
            self.take_from_anonymous(before.amount);
        }
        self.make_room(now);
        self.follow_refunds();
        Some(match has_succeeded {
            true => ProviderEvent::Refunded,
            false => ProviderEvent::PaymentChanged,
        })
    }

    /// The refund that the provider tells of.
    fn find_refund(&mut self, told: &ProviderRefund) -> Option<&mut Refund> {
        let is_asked = |refund: &Refund| Some(refund.id) == told.refund;
        let is_told = |refund: &Refund| refund.provider_id.as_ref() == Some(&told.id);
        let asked = self.refunds.iter().position(is_asked);
        let place = asked.or_else(|| self.refunds.iter().position(is_told))?;
        self.refunds.get_mut(place)
    }

    /// Books a refund that somebody made at the provider. A part of it may be booked already, since
    /// the provider's sum came before.
    fn book_at_provider(&mut self, told: &ProviderRefund, now: Timestamp) -> Option<ProviderEvent> {
        let amount = told.amount?;
        let before = self.refunded();
        self.take_from_anonymous(amount);
        self.push_refund(amount, told.status(), Some(told.id.clone()), now)?;
        Some(match self.refunded().exceeds(before) && told.outcome == Some(true) {
            true => ProviderEvent::Refunded,
            false => ProviderEvent::PaymentChanged,
        })
    }

    /// Removes so much from the refunds of which only the provider's sum has told.
    fn take_from_anonymous(&mut self, amount: Money) {
        let mut more = amount;
        for refund in self.refunds.iter_mut().filter(|refund| refund.is_anonymous()) {
            let part = if refund.amount.exceeds(more) { more } else { refund.amount };
            refund.amount = refund.amount.saturating_sub(part);
            more = more.saturating_sub(part);
        }
        let nothing = self.nothing();
        self.refunds.retain(|refund| refund.amount.exceeds(nothing));
    }

    pub(in crate::domain) fn note_refund_refused(
        &mut self,
        id: RefundId,
        now: Timestamp,
    ) -> Option<ProviderEvent> {
        let is_asked = |refund: &&mut Refund| {
            refund.id == id
                && refund.status == RefundStatus::Pending
                && refund.provider_id.is_none()
        };
        self.refunds.iter_mut().find(is_asked)?.status = RefundStatus::Failed;
        let booked = self.book_unknown_refunds(now);
        self.follow_refunds();
        booked.or(Some(ProviderEvent::PaymentChanged))
    }

    pub(in crate::domain) fn note_refunded_in_all(
        &mut self,
        id: &str,
        total: Money,
        now: Timestamp,
    ) -> Option<ProviderEvent> {
        if !self.is_paid_with(id) {
            return self.note_early_refund(id, total);
        }
        let provider = self.provider.as_mut()?;
        if provider.refunded.is_none_or(|known| total.exceeds(known)) {
            provider.refunded = Some(total);
        }
        self.book_unknown_refunds(now)
    }

    /// Keeps in mind that money went back of which it is not known yet that it came.
    fn note_early_refund(&mut self, id: &str, total: Money) -> Option<ProviderEvent> {
        let provider = self.provider.as_mut()?;
        let is_repeat = provider.refunded.is_some_and(|known| !total.exceeds(known));
        let intent = provider.find_or_adopt(id)?;
        if is_repeat || !intent.state.can_get_money() {
            return None;
        }
        provider.refunded = Some(total);
        Some(ProviderEvent::PaymentChanged)
    }

    /// Books what has gone back at the provider beyond the refunds that are known.
    pub(in crate::domain) fn book_unknown_refunds(
        &mut self,
        now: Timestamp,
    ) -> Option<ProviderEvent> {
        let total = self.provider.as_ref()?.refunded?;
        // The provider's sum has what the provider took, also if it failed later.
        let counts = |refund: &&Refund| {
            refund.status != RefundStatus::Failed || refund.provider_id.is_some()
        };
        let known = self.refunds.iter().filter(counts);
        let known = known.fold(self.nothing(), |sum, refund| sum.saturating_add(refund.amount));
        self.push_refund(total.saturating_sub(known), RefundStatus::Succeeded, None, now)
    }

    fn push_refund(
        &mut self,
        amount: Money,
        status: RefundStatus,
        provider_id: Option<String>,
        now: Timestamp,
    ) -> Option<ProviderEvent> {
        if !amount.exceeds(self.nothing()) {
            return None;
        }
        self.refunds.push(Refund {
            id: RefundId::new(),
            amount,
            status,
            reason: Some(PROVIDER_REASON.to_owned()),
            refunded_at: now,
            provider_id,
        });
        self.make_room(now);
        self.follow_refunds();
        Some(match status {
            RefundStatus::Succeeded => ProviderEvent::Refunded,
            _ => ProviderEvent::PaymentChanged,
        })
    }

    /// Replaces refunds of the shop for which not enough is left, since somebody was faster at the
    /// provider, by refunds of what is left.
    fn make_room(&mut self, now: Timestamp) {
        let sum = |payment: &Self| payment.sum_refunds(|status| status != RefundStatus::Failed);
        for place in (0..self.refunds.len()).rev() {
            if !sum(self).exceeds(self.amount) {
                return;
            }
            let is_new = |refund: &&mut Refund| {
                refund.status == RefundStatus::Pending && refund.provider_id.is_none()
            };
            let Some(refund) = self.refunds.get_mut(place).filter(is_new) else { continue };
            refund.status = RefundStatus::Failed;
            let refund = refund.clone();
            let left = self.amount.saturating_sub(sum(self));
            let amount = if refund.amount.exceeds(left) { left } else { refund.amount };
            if amount.exceeds(self.nothing()) {
                let (id, status) = (RefundId::new(), RefundStatus::Pending);
                self.refunds.push(Refund { id, amount, status, refunded_at: now, ..refund });
            }
        }
    }

    pub(in crate::domain) fn note_dispute(&mut self, id: &str) -> Option<ProviderEvent> {
        // The message can come before the one that says that the money came.
        let intent = self.provider.as_mut()?.find_or_adopt(id)?;
        let can_get_money = intent.state.can_get_money();
        let is_disputed = can_get_money || self.is_paid_with(id);
        if self.status == PaymentStatus::Unclear || !is_disputed {
            return None;
        }
        self.status = PaymentStatus::Unclear;
        Some(ProviderEvent::PaymentChanged)
    }
}
