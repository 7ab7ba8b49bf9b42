//! The progress of a batch: which commits to try next, and what is known about the others.

use std::{sync::Arc, time::Instant};

use uuid::Uuid;

use super::{
    transaction_error::{ErrorClass, TransactionError},
    transaction_timing::RetryBackoff,
};
use crate::store::{
    AppliedBatch, ApplyError,
    commit::{Commit, CommitError, CommitOutcome, CommittedChanges, Condition, Write},
};

/// A batch that is being applied. Commits are identified by their index in it.
///
/// Usually one transaction applies the whole batch. When the server rejects something, the batch
/// is narrowed down to the commits at fault, and the others are left to a later batch rather than
/// kept waiting: their outcome is [`CommitError::RetryLater`].
pub(super) struct BatchProgress {
    commits: Arc<[Commit]>,
    outcomes: Vec<Option<CommitOutcome>>,
    changes: CommittedChanges,
    /// The commits of the next transaction.
    current: Vec<usize>,
    /// Groups that were split off while the commit at fault is unknown. The last one is next.
    split_off: Vec<Vec<usize>>,
    /// The previous transaction had a single commit and failed permanently.
    single_commit_failed: bool,
    backoff: RetryBackoff,
}

impl BatchProgress {
    pub(super) fn new(commits: Arc<[Commit]>) -> Self {
        Self {
            outcomes: vec![None; commits.len()],
            changes: CommittedChanges::default(),
            current: (0..commits.len()).collect(),
            split_off: Vec::new(),
            single_commit_failed: false,
            backoff: RetryBackoff::default(),
            commits,
        }
    }

    /// The commits of the next transaction. `None` when no other transaction is needed, or when
    /// there is no time for one.
    pub(super) fn next_commits(&mut self) -> Option<Arc<[Commit]>> {
        self.fail_expiring_commits();
        if self.current.is_empty() {
            None
        } else if self.current.len() == self.commits.len() {
            Some(Arc::clone(&self.commits))
        } else {
            Some(
                self.current.iter().filter_map(|index| self.commits.get(*index).cloned()).collect(),
            )
        }
    }

    /// Records the outcomes of the transaction, which ends the work on the batch.
    pub(super) fn record_applied(&mut self, applied: AppliedBatch) {
        for (index, outcome) in std::mem::take(&mut self.current).into_iter().zip(applied.outcomes)
        {
            self.set_outcome(index, outcome);
        }
        self.changes.append(applied.changes);
    }

    /// Decides what to try after a failed transaction. Waits before a retry.
    pub(super) async fn choose_retry(&mut self, failure: TransactionError) {
        let reason = failure.reason;
        let is_single = self.current.len() == 1;
        match failure.class {
            ErrorClass::Aborted | ErrorClass::PartitionLost | ErrorClass::Unavailable => {
                self.backoff.wait(failure.class).await;
            }
            // The next attempt finds out why.
            ErrorClass::ExpectationFailed => {}
            ErrorClass::OutcomeUnknown => {
                let commits = self.current.len();
                tracing::error!(
                    error = reason,
                    commits,
                    "failed to learn whether a batch was applied"
                );
                self.fail_current(&CommitError::OutcomeUnknown);
            }
            ErrorClass::RecordRejected(record) | ErrorClass::RecordExists(record)
                if !is_single && self.any_refers_to(record) =>
            {
                tracing::warn!(
                    error = reason,
                    %record,
                    "failed to write a record; retrying its commits one by one"
                );
                self.retry_alone(record);
            }
            ErrorClass::RecordRejected(_) | ErrorClass::RecordExists(_) | ErrorClass::Permanent
                if !is_single =>
            {
                if self.split_off.is_empty() {
                    let commits = self.current.len();
                    tracing::error!(
                        error = reason,
                        commits,
                        "failed to apply a batch; trying half of it"
                    );
                }
                self.split_off.push(self.current.split_off(self.current.len() / 2));
            }
            ErrorClass::RecordRejected(_) | ErrorClass::RecordExists(_) | ErrorClass::Permanent => {
                tracing::error!(error = reason, "failed to apply a commit");
                self.fail_single_commit();
            }
        }
    }

    /// All outcomes, or the one error that all commits have in common.
    pub(super) fn into_result(mut self) -> Result<AppliedBatch, ApplyError> {
        self.fail_split_off(&CommitError::RetryLater);
        let outcomes: Vec<CommitOutcome> = self
            .outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or(Err(CommitError::Unavailable)))
            .collect();
        let all_failed_with = |error: CommitError| {
            !outcomes.is_empty()
                && outcomes.iter().all(|outcome| outcome.as_ref().err() == Some(&error))
        };
        if all_failed_with(CommitError::Unavailable) {
            return Err(ApplyError::Unavailable);
        }
        if all_failed_with(CommitError::OutcomeUnknown) {
            return Err(ApplyError::OutcomeUnknown);
        }
        Ok(AppliedBatch { outcomes, changes: self.changes })
    }

    /// Before a retry, fails the commits whose deadline is too near for it: certainly not applied.
    ///
    /// The callers of a batch get their outcomes together, when the last one is known. So if any
    /// commit expires, the others go into a later batch.
    fn fail_expiring_commits(&mut self) {
        let Some(error) = self.backoff.last_error() else { return };
        let nearest = Instant::now() + self.backoff.min_retry_time();
        let is_expiring =
            |index: &usize| self.commits.get(*index).is_none_or(|c| c.deadline <= nearest);
        let (expiring, others): (Vec<usize>, Vec<usize>) =
            self.current.iter().partition(|index| is_expiring(index));
        if !expiring.is_empty() {
            self.fail(&expiring, &error);
            self.fail(&others, &CommitError::RetryLater);
            self.current.clear();
        }
    }

    /// Leaves the commits that name `record` to be tried alone, and keeps the others.
    fn retry_alone(&mut self, record: Uuid) {
        let (at_fault, others): (Vec<usize>, Vec<usize>) =
            self.current.iter().partition(|index| self.refers_to(**index, record));
        self.fail(&at_fault, &CommitError::RetryAlone);
        self.current = others;
    }

    /// Goes on with the group that was split off last.
    fn fail_single_commit(&mut self) {
        self.fail_current(&CommitError::Unavailable);
        // Two single commits in a row: the server rejects everything, and the commits are not at
        // fault.
        if std::mem::replace(&mut self.single_commit_failed, true) {
            self.fail_split_off(&CommitError::Unavailable);
        } else {
            self.current = self.split_off.pop().unwrap_or_default();
        }
    }

    fn fail_current(&mut self, error: &CommitError) {
        let current = std::mem::take(&mut self.current);
        self.fail(&current, error);
    }

    fn fail_split_off(&mut self, error: &CommitError) {
        let split_off = std::mem::take(&mut self.split_off).concat();
        self.fail(&split_off, error);
    }

    fn fail(&mut self, indexes: &[usize], error: &CommitError) {
        for index in indexes {
            self.set_outcome(*index, Err(error.clone()));
        }
    }

    fn set_outcome(&mut self, index: usize, outcome: CommitOutcome) {
        if let Some(slot) = self.outcomes.get_mut(index) {
            *slot = Some(outcome);
        }
    }

    fn any_refers_to(&self, record: Uuid) -> bool {
        self.current.iter().any(|index| self.refers_to(*index, record))
    }

    fn refers_to(&self, index: usize, record: Uuid) -> bool {
        self.commits.get(index).is_some_and(|commit| commit_refers_to(commit, record))
    }
}

/// Whether `commit` writes a record, depends on it, or has an event or an idempotency key of it.
fn commit_refers_to(commit: &Commit, record: Uuid) -> bool {
    let written = commit.writes.iter().any(|write| match write {
        Write::Cart(cart) => cart.owner.id.as_uuid() == record,
        Write::Product(product) => product.id.as_uuid() == record,
        Write::Order(order) => order.id.as_uuid() == record,
        Write::Stock(stock) => stock.product_id.as_uuid() == record,
        Write::User(user) | Write::EraseAccount(user) => user.id.as_uuid() == record,
        Write::ReassignGuestReplies { guest_id, user_id } => {
            [guest_id, user_id].iter().any(|id| id.as_uuid() == record)
        }
        Write::AddressBook(book) => book.user_id.as_uuid() == record,
        Write::Session(session) => session.id.as_uuid() == record,
        Write::ApiKey(key) => key.id.as_uuid() == record,
        Write::Mail(mail) => mail.id.as_uuid() == record,
        Write::Webhook(webhook) => webhook.id.as_uuid() == record,
        Write::WebhookDelivery(delivery) => delivery.webhook_id.as_uuid() == record,
        Write::PricingRule(rule) => rule.id.as_uuid() == record,
        Write::PromotionUse(promotion, _) => promotion.as_uuid() == record,
    });
    let has_key = commit
        .idempotency_record
        .as_ref()
        .is_some_and(|idempotency| idempotency.key.owner.as_uuid() == record);
    let has_condition = commit.conditions.iter().any(|condition| match condition {
        Condition::ProductUnchanged(product, _) => product.as_uuid() == record,
        Condition::PendingOrdersBelow(user, _)
        | Condition::PendingUnitsWithin { user_id: user, .. }
        | Condition::PurchaseWithin(user, _)
        | Condition::OtherAdminRemains(user)
        | Condition::ApiKeysBelow(user, _)
        | Condition::NoOpenOrders { user_id: user, .. } => user.as_uuid() == record,
        Condition::BuyerUsesBelow { buyer, promotion_id, .. } => {
            buyer.user_id.as_uuid() == record || promotion_id.as_uuid() == record
        }
        Condition::PricingRulesUnchanged(_) => false,
    });
    let has_event = commit.events.iter().any(|event| event.subject() == record);
    written || has_condition || has_key || has_event
}
