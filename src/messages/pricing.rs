//! Messages for the pricing rules.

use std::sync::Arc;

use actix::Message;

use super::command_context::{CommandContext, Reply};
use crate::{
    domain::{
        ids::RuleId,
        pricing::{Rule, RuleEdit, RuleKind, RuleRecord},
    },
    error::Error,
};

/// Creates a rule.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<RuleRecord>>, Error>")]
pub struct CreateRule {
    /// The rule. It gets a new id.
    pub rule: Rule,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Changes a rule.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<Arc<RuleRecord>>, Error>")]
pub struct ChangeRule {
    /// The rule's kind.
    pub kind: RuleKind,
    /// The rule's identifier.
    pub rule_id: RuleId,
    /// The change.
    pub edit: RuleEdit,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}

/// Deletes a rule. It stays in the orders that it was applied to.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Reply<()>, Error>")]
pub struct DeleteRule {
    /// The rule's kind.
    pub kind: RuleKind,
    /// The rule's identifier.
    pub rule_id: RuleId,
    /// The idempotency key, precondition, deadline, and trace.
    pub context: CommandContext,
}
