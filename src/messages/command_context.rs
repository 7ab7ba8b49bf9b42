//! The context that every command carries, and the reply to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

pub use super::trace_parent::TraceParent;
use crate::{
    domain::{
        action::{ActionOrigin, Actor},
        clock::Timestamp,
        ids::UserId,
    },
    error::Error,
};

/// The context of a command.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// The key that makes a repeated request harmless.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The version that the caller expects.
    pub if_match: Option<IfMatch>,
    /// The deadline, and whether the caller still waits.
    pub ticket: Ticket,
    /// The caller's trace, carried into events.
    pub trace: Option<TraceParent>,
    /// Who asks for it, if it needs rights that customers do not have. Its commit then records an
    /// action.
    pub action: Option<Arc<ActionOrigin>>,
}

impl CommandContext {
    /// The context of a command that the server itself issues: no key and no precondition.
    #[must_use]
    pub fn internal(within: Duration) -> Self {
        Self {
            idempotency_key: None,
            if_match: None,
            ticket: Ticket::new(within),
            trace: None,
            action: None,
        }
    }

    /// The context of a command that does the same as `operation` and was asked for on the
    /// server's command line.
    #[must_use]
    pub fn command_line(operation: &'static str, within: Duration) -> Self {
        let action = Some(ActionOrigin::command_line(operation));
        Self { action, ..Self::internal(within) }
    }

    /// Who asks for it, if it needs rights that customers do not have.
    #[must_use]
    pub fn actor(&self) -> Option<Actor> {
        self.action.as_ref().map(|action| action.actor)
    }
}

/// An `Idempotency-Key` and the fingerprint of its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The user of the access token. Each user has their own keys.
    pub owner: UserId,
    /// The key as sent: 1 to 255 visible ASCII characters.
    pub key: Box<str>,
    /// SHA-256 of method, path and JSON value.
    pub fingerprint: [u8; 32],
    /// When this node received the request. An attempt does not apply any more once a later one
    /// was refused, maybe by another node.
    pub received_at: Timestamp,
}

/// The reply to a command, kept for repeats with the same `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReply {
    /// A JSON document, or nothing for a command that has none.
    pub body: Bytes,
}

/// The reply of an imported line that created a product.
const CREATED_LINE: &[u8] = br#"{"created":true}"#;

/// The reply of an imported line that updated one.
const UPDATED_LINE: &[u8] = br#"{"created":false}"#;

impl StoredReply {
    /// The status that both stores write. The field stays for nodes of earlier versions, which
    /// answered repeats with it.
    pub const LEGACY_STATUS: u16 = 200;

    /// Reads a reply from a store. Earlier versions stored no body for an imported line, and the
    /// status 201 if it had created a product.
    #[must_use]
    pub fn from_store(legacy_status: u16, body: Bytes) -> Self {
        if legacy_status == 201 && body.is_empty() {
            return Self::of_import_line(true);
        }
        Self { body }
    }

    /// The reply of an imported line.
    #[must_use]
    pub const fn of_import_line(created: bool) -> Self {
        Self { body: Bytes::from_static(if created { CREATED_LINE } else { UPDATED_LINE }) }
    }

    /// Whether this is the reply of an imported line that created a product.
    #[must_use]
    pub fn is_created_line(&self) -> bool {
        self.body == CREATED_LINE
    }
}

/// The reply to a command that was not rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<T> {
    /// The change is durable, or nothing had to change.
    Completed(T),
    /// The command was already done. This is the first reply again.
    Replayed(StoredReply),
}

/// An `If-Match` header (RFC 9110, section 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: any version, if the resource exists.
    Any,
    /// The version must have one of these tags, which are without quotes.
    Tags(Vec<String>),
}

impl IfMatch {
    /// Whether `tag` satisfies the header.
    #[must_use]
    pub fn matches_tag(&self, tag: &str) -> bool {
        self.matches_where(|wanted| wanted == tag)
    }

    /// Whether the header is `*`, or `accept` is true for one of its tags.
    pub fn matches_where(&self, accept: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| accept(tag)),
        }
    }
}

/// A request's place in a queue: its deadline, and whether its work has started. The caller can
/// give up, and then learns whether it had.
#[derive(Debug, Clone)]
pub struct Ticket {
    deadline: Instant,
    state: Arc<AtomicU8>,
}

const WAITING: u8 = 0;
const STARTED: u8 = 1;
const GIVEN_UP: u8 = 2;

impl Ticket {
    /// A ticket that expires after `within`.
    #[must_use]
    pub fn new(within: Duration) -> Self {
        Self::until(Instant::now() + within)
    }

    /// A ticket that expires at `deadline`.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self { deadline, state: Arc::new(AtomicU8::new(WAITING)) }
    }

    /// The time at which the caller stops waiting.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Marks the work as started. The actor calls it before it decides; from then on the caller
    /// must respect the outcome. Calling it again is harmless.
    ///
    /// # Errors
    /// `overloaded`: the caller no longer waits, so the actor must not do the work.
    pub fn mark_started(&self) -> Result<(), Error> {
        if Instant::now() >= self.deadline {
            self.give_up();
        }
        match self.state.compare_exchange(WAITING, STARTED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) | Err(STARTED) => Ok(()),
            Err(_) => Err(Error::overloaded()),
        }
    }

    /// Whether the work has not started, so that another actor can take it.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        self.state.load(Ordering::Acquire) != STARTED
    }

    /// Gives up waiting. Returns true if the work has not started; it then never starts.
    pub fn give_up(&self) -> bool {
        self.state.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire)
            != Err(STARTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_lines_of_earlier_versions_are_readable() {
        assert!(StoredReply::from_store(201, Bytes::new()).is_created_line());
        assert!(!StoredReply::from_store(200, Bytes::new()).is_created_line());
        let order = StoredReply::from_store(201, Bytes::from_static(b"{}"));
        assert_eq!(order.body, Bytes::from_static(b"{}"));
        let line = StoredReply::of_import_line(true);
        assert_eq!(StoredReply::from_store(StoredReply::LEGACY_STATUS, line.body.clone()), line);
    }

    #[test]
    fn ticket_is_either_started_or_given_up() {
        let ticket = Ticket::new(Duration::from_secs(60));
        assert!(ticket.mark_started().is_ok());
        assert!(!ticket.give_up());
        assert!(ticket.mark_started().is_ok(), "a second attempt after a conflict goes on");
        let late = Ticket::new(Duration::from_secs(60));
        assert!(late.give_up());
        assert!(late.mark_started().is_err());
        assert!(Ticket::new(Duration::ZERO).mark_started().is_err());
    }
}
