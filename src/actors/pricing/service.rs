//! The commands that create, change and delete pricing rules.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    actors::retry_on_conflict::{CommandRetry, Decision, idempotency_record, is_conflict},
    cache::{follower::Follower, pricing_rules::PricingRulesCache},
    domain::{
        clock::Clock,
        ids::RuleId,
        pricing::{RuleKind, RuleRecord},
    },
    error::{Error, ErrorCode},
    events::{DomainEvent, pricing::rule_json},
    messages::{
        command_context::{CommandContext, Reply},
        pricing::{ChangeRule, CreateRule, DeleteRule},
    },
    store::{Commit, CommitReceipt, Store, Write, commit::StoredReplyBody, writer::CommitWriter},
};

/// Runs the commands on rules.
#[derive(Clone)]
pub struct PricingService {
    /// The rules in memory.
    pub rules: Arc<PricingRulesCache>,
    /// Read when the cache may be outdated.
    pub store: Arc<dyn Store>,
    /// Batches commits into store transactions.
    pub writer: CommitWriter,
    /// Follows the changes of other nodes. `None` if the store is not shared.
    pub follower: Option<Arc<Follower>>,
    /// The source of all timestamps.
    pub clock: Arc<dyn Clock>,
}

impl PricingService {
    pub(super) async fn create_rule(
        &self,
        message: CreateRule,
    ) -> Result<Reply<Arc<RuleRecord>>, Error> {
        let CreateRule { rule, context } = message;
        let id = RuleId::new();
        let rule = rule.with_id(id).validated()?;
        let decide = async || {
            let record = RuleRecord::new(id, rule.clone(), self.clock.now());
            Ok(self.decide_commit(Arc::new(record), &context))
        };
        self.decide_and_commit(id, &context, decide).await
    }

    pub(super) async fn change_rule(
        &self,
        message: ChangeRule,
    ) -> Result<Reply<Arc<RuleRecord>>, Error> {
        let ChangeRule { kind, rule_id, edit, context } = message;
        let decide = async || {
            let record = self.find(kind, rule_id, &context)?;
            let rule = record.rule.edited(edit.clone(), rule_id)?;
            match record.with_rule(rule, self.clock.now()) {
                Some(changed) => Ok(self.decide_commit(Arc::new(changed), &context)),
                None => Ok(Decision::NoChange { body: self.render(&record), reply: record }),
            }
        };
        self.decide_and_commit(rule_id, &context, decide).await
    }

    pub(super) async fn delete_rule(&self, message: DeleteRule) -> Result<Reply<()>, Error> {
        let DeleteRule { kind, rule_id, context } = message;
        let decide = async || {
            let record = self.find(kind, rule_id, &context)?;
            let deleted = Arc::new(record.to_deleted(self.clock.now()));
            let commit = self.build_commit(deleted, &context, Bytes::new());
            Ok(Decision::Commit(Box::new(commit), |_| ()))
        };
        self.decide_and_commit(rule_id, &context, decide).await
    }

    /// The current rule, if it has the version that the request asks for.
    fn find(
        &self,
        kind: RuleKind,
        id: RuleId,
        context: &CommandContext,
    ) -> Result<Arc<RuleRecord>, Error> {
        let record = self.rules.find(kind, id).ok_or_else(|| rule_not_found(kind))?;
        let version = record.version.to_string();
        // What follows the version is not the promotion's: how often it is used.
        let is_version = |tag: &str| tag.split('.').next() == Some(&version);
        match &context.if_match {
            Some(if_match) if !if_match.matches_where(is_version) => {
                let etag = rule_etag(&record, self.rules.used(id.as_uuid().into()));
                Err(Error::version_mismatch(&format!("\"{etag}\"")))
            }
            _ => Ok(record),
        }
    }

    fn render(&self, record: &RuleRecord) -> Bytes {
        rule_json(record, self.rules.used(record.id.as_uuid().into()))
    }

    fn decide_commit(
        &self,
        record: Arc<RuleRecord>,
        context: &CommandContext,
    ) -> Decision<Arc<RuleRecord>, impl FnOnce(CommitReceipt) -> Arc<RuleRecord> + use<>> {
        let body = self.render(&record);
        let commit = self.build_commit(Arc::clone(&record), context, body);
        Decision::Commit(Box::new(commit), move |_| record)
    }

    fn build_commit(
        &self,
        record: Arc<RuleRecord>,
        context: &CommandContext,
        body: Bytes,
    ) -> Commit {
        Commit {
            writes: vec![Write::PricingRule(Arc::clone(&record))],
            events: vec![DomainEvent::PricingRule(record)],
            idempotency_record: idempotency_record(context, StoredReplyBody::Ready(body)),
            trace: context.trace.clone(),
            ..Commit::new(self.clock.now(), context.ticket.deadline())
        }
    }

    async fn decide_and_commit<T, F: FnOnce(CommitReceipt) -> T>(
        &self,
        id: RuleId,
        context: &CommandContext,
        decide: impl AsyncFnMut() -> Result<Decision<T, F>, Error>,
    ) -> Result<Reply<T>, Error> {
        let retry = CommandRetry {
            store: &*self.store,
            writer: &self.writer,
            clock: &*self.clock,
            follower: self.follower.as_deref(),
            is_conflict,
        };
        let reload = async || Ok(self.rules.refresh(&*self.store, id, u64::MAX).await?);
        retry.retry_on_conflict(context, decide, reload).await
    }
}

/// The entity tag of a rule. It changes whenever the response does, which for a promotion is also
/// when an order takes a use.
#[must_use]
pub fn rule_etag(record: &RuleRecord, used: u64) -> String {
    match (record.rule.kind(), used) {
        (RuleKind::Promotion, 1..) => format!("{}.{used}", record.version),
        _ => record.version.to_string(),
    }
}

/// The error for a rule that does not exist or was deleted.
#[must_use]
pub fn rule_not_found(kind: RuleKind) -> Error {
    match kind {
        RuleKind::Promotion => Error::new(
            ErrorCode::PromotionNotFound,
            "This promotion does not exist or was deleted.",
        ),
        RuleKind::ShippingMethod => Error::new(
            ErrorCode::ShippingMethodNotFound,
            "This shipping method does not exist or was deleted.",
        ),
        RuleKind::TaxRate => {
            Error::new(ErrorCode::TaxRateNotFound, "This tax rate does not exist or was deleted.")
        }
    }
}
