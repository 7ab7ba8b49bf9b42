//! A payment provider for tests: what it has done, whatever the shop knows of it.

use proptest::prelude::prop;

use super::*;
use crate::domain::{
    ids::RefundId,
    payment::{PaymentFailure, ProviderRefund, ProviderTask, ProviderUpdate},
};

/// The provider's side of one order.
#[derive(Debug)]
pub(super) struct Book {
    amount: i64,
    intents: Vec<Charge>,
    refunds: Vec<BookedRefund>,
    /// Everything it has said by itself.
    pub(super) messages: Vec<ProviderUpdate>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Charge {
    is_paid: bool,
    is_cancelled: bool,
}

#[derive(Debug, Clone)]
struct BookedRefund {
    intent: usize,
    cents: i64,
    /// The shop's id, which is the key of its request.
    shop_id: Option<RefundId>,
    outcome: Option<bool>,
}

fn id_of(place: usize) -> String {
    format!("pi_{place}")
}

fn place_of(id: &str) -> usize {
    id.split_once('_').unwrap().1.parse().unwrap()
}

fn cents(cents: i64) -> Money {
    Money::from_minor_units(cents, euro()).unwrap()
}

impl Book {
    pub(super) const fn new(amount: i64) -> Self {
        Self { amount, intents: Vec::new(), refunds: Vec::new(), messages: Vec::new() }
    }

    /// Does what the shop asks, and returns the answer.
    pub(super) fn carry_out(&mut self, task: &ProviderTask) -> Option<ProviderUpdate> {
        match task {
            ProviderTask::Begin { attempt } => {
                // The attempt is the key, so it begins one payment only.
                let place = *attempt as usize - 1;
                if self.intents.len() <= place {
                    self.intents.push(Charge::default());
                }
                let (attempt, client_secret) = (*attempt, "secret".into());
                Some(ProviderUpdate::Begun { attempt, intent: id_of(place), client_secret })
            }
            ProviderTask::CallOff { intent } => {
                let charge = &mut self.intents[place_of(intent)];
                charge.is_cancelled |= !charge.is_paid;
                self.look_up(intent)
            }
            ProviderTask::LookUp { intent } => self.look_up(intent),
            ProviderTask::GiveBack { intent } => {
                let place = place_of(intent);
                let left = self.amount - self.refunded(place);
                if left > 0 {
                    self.add_refund(place, left, None, Some(true));
                }
                Some(ProviderUpdate::GivenBack { intent: intent.clone() })
            }
            ProviderTask::Refund(task) => {
                let refund = task.refund;
                let known = self.refunds.iter().position(|known| known.shop_id == Some(refund));
                let (place, units) = (place_of(&task.intent), task.amount.minor_units());
                let number = match known {
                    Some(number) => number,
                    None if units > self.amount - self.refunded(place) => {
                        return Some(ProviderUpdate::RefundRefused { refund });
                    }
                    None => self.add_refund(place, units, Some(refund), None),
                };
                Some(self.refund_update(number))
            }
            ProviderTask::LookUpRefund { id } => Some(self.refund_update(place_of(id))),
        }
    }

    fn look_up(&self, intent: &str) -> Option<ProviderUpdate> {
        let charge = self.intents[place_of(intent)];
        let intent = intent.to_owned();
        if charge.is_paid {
            return Some(ProviderUpdate::Succeeded { intent, amount: Some(cents(self.amount)) });
        }
        charge.is_cancelled.then_some(ProviderUpdate::CalledOff { intent })
    }

    fn refund_update(&self, number: usize) -> ProviderUpdate {
        let refund = &self.refunds[number];
        ProviderUpdate::Refund(ProviderRefund {
            intent: id_of(refund.intent),
            id: format!("re_{number}"),
            refund: refund.shop_id,
            amount: Some(cents(refund.cents)),
            outcome: refund.outcome,
        })
    }

    fn add_refund(
        &mut self,
        intent: usize,
        cents: i64,
        shop_id: Option<RefundId>,
        outcome: Option<bool>,
    ) -> usize {
        self.refunds.push(BookedRefund { intent, cents, shop_id, outcome });
        let number = self.refunds.len() - 1;
        self.tell_of_refund(number);
        number
    }

    fn tell_of_refund(&mut self, number: usize) {
        let place = self.refunds[number].intent;
        let total = self::cents(self.refunded(place));
        self.messages.push(ProviderUpdate::RefundedTotal { intent: id_of(place), total });
        self.messages.push(self.refund_update(number));
    }

    /// What went back or is about to.
    fn refunded(&self, intent: usize) -> i64 {
        let refunds = self.refunds.iter().filter(|refund| refund.intent == intent);
        refunds.filter(|refund| refund.outcome != Some(false)).map(|refund| refund.cents).sum()
    }

    /// The buyer pays the newest intent, if that is possible.
    pub(super) fn pay(&mut self) {
        let Some(charge) = self.intents.last_mut() else { return };
        if !charge.is_cancelled && !charge.is_paid {
            charge.is_paid = true;
            self.messages.extend(self.look_up(&id_of(self.intents.len() - 1)));
        }
    }

    pub(super) fn decline(&mut self) {
        let Some(place) = self.intents.len().checked_sub(1) else { return };
        let failure = PaymentFailure { code: "card_declined".into(), message: "declined".into() };
        self.messages.push(ProviderUpdate::Declined { intent: id_of(place), failure });
    }

    /// Somebody cancels the newest intent, if it is not paid.
    pub(super) fn cancel(&mut self) {
        let Some(charge) = self.intents.last_mut() else { return };
        if !charge.is_paid {
            charge.is_cancelled = true;
            self.messages.extend(self.look_up(&id_of(self.intents.len() - 1)));
        }
    }

    /// Somebody refunds this amount, or what is left.
    pub(super) fn refund_at_provider(&mut self, cents: i64) {
        let Some(place) = self.intents.iter().position(|charge| charge.is_paid) else { return };
        let left = self.amount - self.refunded(place);
        if left > 0 {
            self.add_refund(place, cents.min(left), None, None);
        }
    }

    pub(super) fn settle(&mut self, place: prop::sample::Index, has_succeeded: bool) {
        if self.refunds.is_empty() {
            return;
        }
        let number = place.index(self.refunds.len());
        if self.refunds[number].outcome.is_none() {
            self.refunds[number].outcome = Some(has_succeeded);
            self.tell_of_refund(number);
        }
    }

    /// Every refund that is pending goes through.
    pub(super) fn settle_all(&mut self) {
        for number in 0..self.refunds.len() {
            if self.refunds[number].outcome.is_none() {
                self.refunds[number].outcome = Some(true);
                self.tell_of_refund(number);
            }
        }
    }

    /// The intents that were paid.
    pub(super) fn paid(&self) -> usize {
        self.intents.iter().filter(|charge| charge.is_paid).count()
    }

    /// The refunds that failed.
    pub(super) fn failed(&self) -> i64 {
        let failed = self.refunds.iter().filter(|refund| refund.outcome == Some(false));
        failed.map(|refund| refund.cents).sum()
    }

    /// The money that the shop has.
    pub(super) fn kept(&self) -> i64 {
        let paid = self.intents.iter().enumerate().filter(|(_, charge)| charge.is_paid);
        paid.map(|(place, _)| self.amount - self.refunded(place)).sum()
    }
}
