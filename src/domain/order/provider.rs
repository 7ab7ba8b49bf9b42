//! What the answers and messages of a payment provider do to an order, its payment and its stock.

use super::{Order, OrderStatus, transition::stock_changes};
use crate::domain::{
    clock::Timestamp,
    ids::{ProductId, RefundId},
    inventory::StockChange,
    money::Money,
    payment::{
        Intent, IntentState, PaymentEvent, PaymentMethod, PaymentStatus, ProviderState,
        ProviderUpdate,
    },
};

/// The reason of a refund of money that came too late.
const LATE_REASON: &str = "late payment";

/// Whether an order that has expired may be paid late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LateMoney {
    /// The order takes its units again.
    Revives,
    /// The money goes back.
    GoesBack,
}

/// What an update does, which is stored atomically.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderTransition {
    /// The order after the update.
    pub order: Order,
    /// The stock changes.
    pub stock_changes: Vec<(ProductId, StockChange)>,
    /// The event to publish.
    pub event: PaymentEvent,
}

impl Order {
    /// Decides what an update does. `None` if it does nothing, since it is known or outdated.
    #[must_use]
    pub fn decide_provider_update(
        &self,
        update: &ProviderUpdate,
        late_money: LateMoney,
        now: Timestamp,
    ) -> Option<ProviderTransition> {
        let mut order =
            Self { version: self.version + 1, updated_at: now, actor: None, ..self.clone() };
        let payment = &mut order.payment;
        let event = match update {
            ProviderUpdate::Begun { attempt, intent, client_secret } => {
                payment.note_begun(*attempt, intent, client_secret)?
            }
            ProviderUpdate::BeginRefused { attempt } => payment.note_begin_refused(*attempt)?,
            ProviderUpdate::Declined { intent, failure } => {
                payment.note_declined(intent, failure)?
            }
            ProviderUpdate::Succeeded { intent, amount } => {
                order.note_success(intent, *amount, late_money, now)?
            }
            ProviderUpdate::CalledOff { intent } => order.note_called_off(intent)?,
            ProviderUpdate::GivenBack { intent } => payment.note_given_back(intent)?,
            ProviderUpdate::Refund(refund) => payment.note_refund(refund, now)?,
            ProviderUpdate::RefundRefused { refund } => {
                payment.note_refund_refused(*refund, now)?
            }
            ProviderUpdate::RefundedTotal { intent, total } => {
                payment.note_refunded_in_all(intent, *total, now)?
            }
            ProviderUpdate::Disputed { intent } => payment.note_dispute(intent)?,
        };
        order.payment.schedule_provider(now);
        let is_revived = self.status == OrderStatus::Expired && order.status == OrderStatus::Paid;
        let stock_changes = match is_revived {
            true => stock_changes(&self.unshipped_units(), StockChange::Reserve),
            false => Vec::new(),
        };
        order.erase_addresses_if_done();
        Some(ProviderTransition { order, stock_changes, event })
    }

    fn note_success(
        &mut self,
        id: &str,
        amount: Option<Money>,
        late_money: LateMoney,
        now: Timestamp,
    ) -> Option<PaymentEvent> {
        let none_yet = || ProviderState { intents: Vec::new(), due_at: None, refunded: None };
        let provider = self.payment.provider.get_or_insert_with(none_yet);
        if provider.find_or_adopt(id).is_none() {
            let attempt = provider.intents.last().map_or(0, |last| last.attempt);
            provider.intents.push(Intent::known(attempt, IntentState::Begun, id));
        }
        let is_paid_otherwise =
            self.payment.method == PaymentMethod::Manual || provider.paid_intent().is_some();
        let intent = provider.find_or_adopt(id)?;
        if intent.state.has_money() {
            return None;
        }
        if is_paid_otherwise {
            intent.state = IntentState::Surplus;
            return Some(PaymentEvent::PaymentChanged);
        }
        intent.state = IntentState::Paid;
        provider.drop_open_intents();
        self.payment.reference = Some(id.to_owned());
        self.payment.failure = None;
        if amount != Some(self.payment.amount) || self.payment.status == PaymentStatus::Unclear {
            self.payment.status = PaymentStatus::Unclear;
            return Some(PaymentEvent::PaymentChanged);
        }
        self.payment.status = PaymentStatus::Paid;
        let is_paid = match self.status {
            OrderStatus::PendingPayment => true,
            OrderStatus::Expired => late_money == LateMoney::Revives,
            _ => false,
        };
        self.payment.book_unknown_refunds(now);
        if is_paid {
            self.status = OrderStatus::Paid;
            self.expires_at = None;
            return Some(PaymentEvent::Paid);
        }
        let reason = Some(LATE_REASON.to_owned());
        // Nothing is left if all of it went back at the provider.
        let _ = self.payment.refund(RefundId::new(), None, reason, now);
        Some(PaymentEvent::PaymentChanged)
    }

    fn note_called_off(&mut self, id: &str) -> Option<PaymentEvent> {
        let is_open = self.status == OrderStatus::PendingPayment && self.payment.is_open();
        let provider = self.payment.provider.as_mut()?;
        let intent = provider.find_or_adopt(id)?;
        let was_open = intent.state == IntentState::Begun;
        if !was_open && intent.state != IntentState::Unwanted {
            return None;
        }
        intent.state = IntentState::CalledOff;
        let attempt = intent.attempt.saturating_add(1);
        if was_open && is_open {
            // Somebody has cancelled it at the provider, and the order can still be paid.
            provider.intents.push(Intent::wanted(attempt));
            self.payment.status = PaymentStatus::Awaiting;
            self.payment.reference = None;
            self.payment.failure = None;
        }
        Some(PaymentEvent::PaymentChanged)
    }
}
