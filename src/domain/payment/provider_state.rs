//! What the provider has of a payment, and what it is to be asked.

use std::time::Duration;

use super::{Payment, Refund, RefundStatus};
use crate::domain::{clock::Timestamp, ids::RefundId, money::Money};

/// How soon the provider is asked about a payment that waits, in case its message was lost.
const LOOK_UP_AFTER: Duration = Duration::from_secs(15);

/// The longest pause between two such questions.
const LONGEST_LOOK_UP_PAUSE: Duration = Duration::from_secs(300);

/// What the provider has of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderState {
    /// The intents, the oldest first. The buyer pays with the last one.
    pub intents: Vec<Intent>,
    /// When the provider is to be asked. A node that asks moves it into the future, so that no
    /// other node asks at the same time.
    pub due_at: Option<Timestamp>,
    /// The highest total of refunds that the provider has reported.
    pub refunded: Option<Money>,
}

/// A payment at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Counts from 1: an intent that was cancelled at the provider is replaced.
    pub attempt: u32,
    /// Where it stands.
    pub state: IntentState,
    /// The provider's id, once it is known.
    pub id: Option<String>,
    /// What the buyer's browser pays with. It is the buyer's own.
    pub client_secret: Option<String>,
}

/// Where an intent stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum IntentState {
    /// It is to be begun.
    Wanted,
    /// The buyer can pay.
    Begun,
    /// It is to be called off.
    Unwanted,
    /// Its money paid the order.
    Paid,
    /// Its money came although the order was paid otherwise, and is to be given back.
    Surplus,
    /// It was called off.
    CalledOff,
    /// Its money was given back.
    GivenBack,
}

impl IntentState {
    /// Every state, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether its money may still arrive.
    #[must_use]
    pub const fn can_get_money(self) -> bool {
        matches!(self, Self::Wanted | Self::Begun | Self::Unwanted)
    }

    /// Whether its money has arrived.
    #[must_use]
    pub const fn has_money(self) -> bool {
        matches!(self, Self::Paid | Self::Surplus | Self::GivenBack)
    }
}

/// What the provider is to be asked. All of it may be asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderTask {
    /// Begin a payment.
    Begin {
        /// The attempt.
        attempt: u32,
    },
    /// Call a payment off.
    CallOff {
        /// The provider's id.
        intent: String,
    },
    /// Give back all money of a payment.
    GiveBack {
        /// The provider's id.
        intent: String,
    },
    /// Refund a part of a payment.
    Refund(RefundTask),
    /// Look where a payment stands.
    LookUp {
        /// The provider's id.
        intent: String,
    },
    /// Look where a refund stands.
    LookUpRefund {
        /// The provider's id of the refund.
        id: String,
    },
}

/// A refund that the provider is to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundTask {
    /// The provider's id of the payment.
    pub intent: String,
    /// The refund.
    pub refund: RefundId,
    /// Its amount.
    pub amount: Money,
    /// When it was booked, and could be asked for first.
    pub booked_at: Timestamp,
}

impl ProviderTask {
    /// Whether the answer only makes up for a message that was lost.
    #[must_use]
    pub const fn is_look_up(&self) -> bool {
        matches!(self, Self::LookUp { .. } | Self::LookUpRefund { .. })
    }
}

impl Intent {
    /// An intent that is to be begun.
    #[must_use]
    pub const fn wanted(attempt: u32) -> Self {
        Self { attempt, state: IntentState::Wanted, id: None, client_secret: None }
    }

    /// An intent that the provider reported.
    #[must_use]
    pub fn known(attempt: u32, state: IntentState, id: &str) -> Self {
        Self { attempt, state, id: Some(id.to_owned()), client_secret: None }
    }

    /// The task that the intent itself makes necessary.
    fn task(&self) -> Option<ProviderTask> {
        match (self.state, self.id.clone()) {
            // What may have been begun must be known before it can be called off.
            (IntentState::Wanted, _) | (IntentState::Unwanted, None) => {
                Some(ProviderTask::Begin { attempt: self.attempt })
            }
            (IntentState::Unwanted, Some(intent)) => Some(ProviderTask::CallOff { intent }),
            (IntentState::Surplus, Some(intent)) => Some(ProviderTask::GiveBack { intent }),
            _ => None,
        }
    }
}

impl ProviderState {
    /// A payment that is to be begun at `now`.
    #[must_use]
    pub fn wanted(now: Timestamp) -> Self {
        Self { intents: vec![Intent::wanted(1)], due_at: Some(now), refunded: None }
    }

    /// The intent whose money paid the order.
    #[must_use]
    pub fn paid_intent(&self) -> Option<&Intent> {
        self.intents.iter().find(|intent| intent.state == IntentState::Paid)
    }

    /// The id that a message is found by: of the intent that paid the order, or else the last one.
    #[must_use]
    pub fn intent_id(&self) -> Option<&str> {
        self.paid_intent().or_else(|| self.intents.last())?.id.as_deref()
    }

    /// The intent with this id. Its message can come before the answer that tells the id.
    pub(in crate::domain) fn find_or_adopt(&mut self, id: &str) -> Option<&mut Intent> {
        if self.intents.iter().any(|intent| intent.id.as_deref() == Some(id)) {
            return self.intents.iter_mut().find(|intent| intent.id.as_deref() == Some(id));
        }
        let last = self.intents.last_mut().filter(|intent| intent.id.is_none())?;
        last.id = Some(id.to_owned());
        if last.state == IntentState::Wanted {
            last.state = IntentState::Begun;
        }
        Some(last)
    }

    /// Has every intent called off that the buyer could still pay.
    pub(in crate::domain) fn drop_open_intents(&mut self) {
        for intent in &mut self.intents {
            if matches!(intent.state, IntentState::Wanted | IntentState::Begun) {
                intent.state = IntentState::Unwanted;
            }
        }
    }
}

impl Payment {
    /// What the buyer's browser pays with, while the payment is open.
    #[must_use]
    pub fn client_secret(&self) -> Option<&str> {
        let last = self.provider.as_ref()?.intents.last()?;
        let can_pay = self.is_open() && last.state == IntentState::Begun;
        last.client_secret.as_deref().filter(|_| can_pay)
    }

    /// Whether the buyer cannot pay yet, since the provider has not begun the payment.
    #[must_use]
    pub fn is_to_begin(&self) -> bool {
        let last = self.provider.as_ref().and_then(|provider| provider.intents.last());
        last.is_some_and(|intent| intent.state == IntentState::Wanted)
    }

    /// What the provider is to be asked next.
    #[must_use]
    pub fn provider_task(&self) -> Option<ProviderTask> {
        let provider = self.provider.as_ref()?;
        let pending = |refund: &&Refund| refund.status == RefundStatus::Pending;
        let refund_task = || {
            let intent = provider.paid_intent()?.id.clone()?;
            let is_new = |refund: &&Refund| refund.provider_id.is_none();
            let refund = self.refunds.iter().filter(pending).find(is_new)?;
            let (id, amount, booked_at) = (refund.id, refund.amount, refund.refunded_at);
            Some(ProviderTask::Refund(RefundTask { intent, refund: id, amount, booked_at }))
        };
        let look_up = || {
            let last = provider.intents.last()?;
            let intent = last.id.clone().filter(|_| last.state == IntentState::Begun)?;
            Some(ProviderTask::LookUp { intent })
        };
        let look_up_refund = || {
            let id = self
                .refunds
                .iter()
                .filter(pending)
                .find_map(|refund| refund.provider_id.clone())?;
            Some(ProviderTask::LookUpRefund { id })
        };
        let work = provider.intents.iter().find_map(Intent::task);
        work.or_else(refund_task).or_else(look_up).or_else(look_up_refund)
    }

    /// Sets when the provider is to be asked, after a change at `now`.
    pub(in crate::domain) fn schedule_provider(&mut self, now: Timestamp) {
        let due_at = self.provider_task().map(|task| match task.is_look_up() {
            true => now.saturating_add(LOOK_UP_AFTER),
            false => now,
        });
        if let Some(provider) = &mut self.provider {
            provider.due_at = due_at;
        }
    }
}

/// How long to wait before the provider is asked again about a payment of an order that was placed
/// so long ago: the older the order, the more rarely.
#[must_use]
pub fn look_up_pause(age: Duration) -> Duration {
    age.clamp(LOOK_UP_AFTER, LONGEST_LOOK_UP_PAUSE)
}
