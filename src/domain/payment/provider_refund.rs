//! Refunds as a provider reports them: one by one, as a sum, or both in any order.

use super::{Payment, PaymentEvent, ProviderRefund, Refund, RefundStatus};
use crate::domain::{clock::Timestamp, ids::RefundId, money::Money};

/// The reason of a refund that somebody made at the provider.
const PROVIDER_REASON: &str = "provider";

impl Refund {
    /// Whether it is only known from the provider's sum.
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
    pub(in crate::domain) fn note_refund(
        &mut self,
        reported: &ProviderRefund,
        now: Timestamp,
    ) -> Option<PaymentEvent> {
        if !self.is_paid_with(&reported.intent) {
            return self.note_early_refund(&reported.intent, reported.amount?);
        }
        let gone_before = self.succeeded_refunds();
        let Some(refund) = self.find_refund(reported) else {
            return self.book_at_provider(reported, now);
        };
        let before = refund.clone();
        refund.provider_id.get_or_insert_with(|| reported.id.clone());
        // A refund can fail after it has succeeded, and nothing follows a failure.
        let moves_on = match refund.status {
            RefundStatus::Pending => reported.outcome.is_some(),
            RefundStatus::Succeeded => reported.outcome == Some(false),
            // The shop took it for lost, see `make_room`.
            RefundStatus::Failed => before.provider_id.is_none() && reported.outcome != Some(false),
        };
        if moves_on {
            refund.status = reported.status();
        }
        if *refund == before {
            return None;
        }
        if moves_on && before.status == RefundStatus::Failed {
            self.take_from_anonymous(before.amount);
        }
        self.make_room(now);
        self.follow_refunds();
        Some(self.event_since(gone_before))
    }

    /// The event to publish, if refunds of `gone_before` had succeeded before the change.
    fn event_since(&self, gone_before: Money) -> PaymentEvent {
        match self.succeeded_refunds().exceeds(gone_before) {
            true => PaymentEvent::Refunded,
            false => PaymentEvent::PaymentChanged,
        }
    }

    /// The refund that the provider reports. It may be known only from the provider's sum so far.
    fn find_refund(&mut self, reported: &ProviderRefund) -> Option<&mut Refund> {
        let is_asked = |refund: &Refund| Some(refund.id) == reported.refund;
        let has_its_id = |refund: &Refund| refund.provider_id.as_ref() == Some(&reported.id);
        let is_summed =
            |refund: &Refund| refund.is_anonymous() && Some(refund.amount) == reported.amount;
        let refunds = &self.refunds;
        let asked = refunds.iter().position(is_asked);
        let known = asked.or_else(|| refunds.iter().position(has_its_id));
        let position = known.or_else(|| refunds.iter().position(is_summed))?;
        self.refunds.get_mut(position)
    }

    /// Books a refund that somebody made at the provider. A part of it may be booked already, since
    /// the provider's sum came before. If that was less, the refund goes on under its id.
    fn book_at_provider(
        &mut self,
        reported: &ProviderRefund,
        now: Timestamp,
    ) -> Option<PaymentEvent> {
        let amount = reported.amount?;
        let gone_before = self.succeeded_refunds();
        let summed = self.refunds.iter().filter(|refund| refund.is_anonymous());
        let summed = summed.fold(self.nothing(), |sum, refund| sum.saturating_add(refund.amount));
        let status = match reported.status() {
            // The sum is news that the buyer has had, so the success of a part of it is none.
            RefundStatus::Pending if !amount.exceeds(summed) => RefundStatus::Succeeded,
            status => status,
        };
        let id = self.take_from_anonymous(amount).unwrap_or_else(RefundId::new);
        self.push_refund(id, amount, status, Some(reported.id.clone()), now)?;
        Some(self.event_since(gone_before))
    }

    /// Removes `amount` from the refunds that are only known from the provider's sum. Returns the
    /// id of the first that is gone then.
    fn take_from_anonymous(&mut self, amount: Money) -> Option<RefundId> {
        let mut more = amount;
        for refund in self.refunds.iter_mut().filter(|refund| refund.is_anonymous()) {
            let part = if refund.amount.exceeds(more) { more } else { refund.amount };
            refund.amount = refund.amount.saturating_sub(part);
            more = more.saturating_sub(part);
        }
        let nothing = self.nothing();
        let is_gone = |refund: &&Refund| !refund.amount.exceeds(nothing);
        let gone = self.refunds.iter().find(is_gone).map(|refund| refund.id);
        self.refunds.retain(|refund| refund.amount.exceeds(nothing));
        gone
    }

    pub(in crate::domain) fn note_refund_refused(
        &mut self,
        id: RefundId,
        now: Timestamp,
    ) -> Option<PaymentEvent> {
        let is_asked = |refund: &&mut Refund| {
            refund.id == id
                && refund.status == RefundStatus::Pending
                && refund.provider_id.is_none()
        };
        self.refunds.iter_mut().find(is_asked)?.status = RefundStatus::Failed;
        let booked = self.book_unknown_refunds(now);
        self.follow_refunds();
        booked.or(Some(PaymentEvent::PaymentChanged))
    }

    pub(in crate::domain) fn note_refunded_in_all(
        &mut self,
        id: &str,
        total: Money,
        now: Timestamp,
    ) -> Option<PaymentEvent> {
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
    fn note_early_refund(&mut self, id: &str, total: Money) -> Option<PaymentEvent> {
        let provider = self.provider.as_mut()?;
        let is_repeat = provider.refunded.is_some_and(|known| !total.exceeds(known));
        let intent = provider.find_or_adopt(id)?;
        if is_repeat || !intent.state.can_get_money() {
            return None;
        }
        provider.refunded = Some(total);
        Some(PaymentEvent::PaymentChanged)
    }

    /// Books what has gone back at the provider beyond the refunds that are known.
    pub(in crate::domain) fn book_unknown_refunds(
        &mut self,
        now: Timestamp,
    ) -> Option<PaymentEvent> {
        let total = self.provider.as_ref()?.refunded?;
        // The provider's sum has what the provider took, also if it failed later.
        let counts = |refund: &&Refund| {
            refund.status != RefundStatus::Failed || refund.provider_id.is_some()
        };
        let known = self.refunds.iter().filter(counts);
        let known = known.fold(self.nothing(), |sum, refund| sum.saturating_add(refund.amount));
        let unknown = total.saturating_sub(known);
        self.push_refund(RefundId::new(), unknown, RefundStatus::Succeeded, None, now)
    }

    fn push_refund(
        &mut self,
        id: RefundId,
        amount: Money,
        status: RefundStatus,
        provider_id: Option<String>,
        now: Timestamp,
    ) -> Option<PaymentEvent> {
        if !amount.exceeds(self.nothing()) {
            return None;
        }
        self.refunds.push(Refund {
            id,
            amount,
            status,
            reason: Some(PROVIDER_REASON.to_owned()),
            refunded_at: now,
            provider_id,
        });
        self.make_room(now);
        self.follow_refunds();
        Some(match status {
            RefundStatus::Succeeded => PaymentEvent::Refunded,
            _ => PaymentEvent::PaymentChanged,
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
}
