//! Sorts the driver's errors: whether anything was applied, and whether a retry may succeed.
//!
//! The driver attaches two labels to errors of transactions. `TransientTransactionError`: the
//! transaction as a whole was aborted and may be run again from its first step.
//! `UnknownTransactionCommitResult`: the commit was sent, and nobody knows whether it was applied;
//! only the commit itself may be sent again, which the server answers the same way each time.

use mongodb::error::{
    Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT,
};
use uuid::Uuid;

use super::documents::DocumentError;

/// Error codes of a server that is not the primary, or is starting or shutting down.
const UNAVAILABLE_CODES: [i32; 11] = [6, 7, 89, 91, 134, 189, 9001, 10107, 11600, 11602, 13435];

/// Error codes of a transaction that lost to another one or that the server killed: `LockTimeout`,
/// `MaxTimeMSExpired`, `WriteConflict`, `TransactionTooOld`, `SnapshotUnavailable`,
/// `NoSuchTransaction`, `TransactionExceededLifetimeLimitSeconds`, `Interrupted`.
const ABORTED_CODES: [i32; 8] = [24, 50, 112, 225, 246, 251, 290, 11601];

/// `DuplicateKey`.
pub(super) const DUPLICATE_KEY: i32 = 11000;

/// `Unauthorized`, `AuthenticationFailed`.
pub(super) const ACCESS_DENIED_CODES: [i32; 2] = [13, 18];

/// The class of a failed step. All but the last mean: certainly not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// Another transaction won, or the server killed this one. A retry may succeed. (A commit that
    /// finds another version than it expects is no error of the transaction; see
    /// [`CommitError::Conflict`](crate::store::CommitError::Conflict).)
    Aborted,
    /// The store is not as the transaction [expected](super::expected_state). A retry that loads
    /// its state decides.
    ExpectationFailed,
    /// Another writer has this one's partition of the outbox. A retry in another partition may
    /// succeed.
    PartitionLost,
    /// The server does not answer, or accepts no writes. A later retry may succeed.
    Unavailable,
    /// The server rejected the statement of this record. The commits that name the record are at
    /// fault.
    RecordRejected(Uuid),
    /// The same, since a document has the id, or another unique key, of the new one.
    RecordExists(Uuid),
    /// A retry would fail the same way.
    Permanent,
    /// The transaction may have been applied.
    OutcomeUnknown,
}

impl ErrorClass {
    /// The name of the class in metrics and traces.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Aborted => "conflict",
            Self::ExpectationFailed => "expectation_failed",
            Self::PartitionLost => "partition_lost",
            Self::Unavailable => "unavailable",
            Self::RecordRejected(_) | Self::RecordExists(_) => "record_rejected",
            Self::Permanent => "permanent",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// A failed step of a transaction.
#[derive(Debug, Clone)]
pub(super) struct TransactionError {
    /// What the writer does next depends on it.
    pub(super) class: ErrorClass,
    /// The message of the server or the driver, in one line.
    pub(super) reason: String,
}

impl TransactionError {
    pub(super) fn aborted(reason: impl Into<String>) -> Self {
        Self { class: ErrorClass::Aborted, reason: reason.into() }
    }

    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self { class: ErrorClass::Permanent, reason: reason.into() }
    }

    /// The server did not answer before the step's deadline.
    pub(super) fn timed_out() -> Self {
        Self { class: ErrorClass::Unavailable, reason: "timed out".to_owned() }
    }

    /// A record that cannot be read from its document or written as one.
    pub(super) fn invalid_document(record: Uuid, error: DocumentError) -> Self {
        Self { class: ErrorClass::RecordRejected(record), reason: error.0 }
    }

    /// Classifies the error of a commit, which is stricter than for other steps: everything counts
    /// as unknown, except an answer of the server that says that the transaction was aborted.
    pub(super) fn from_commit_error(error: &Error) -> Self {
        let unknown = error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT);
        match Self::from(error) {
            failure if !unknown && error.contains_label(TRANSIENT_TRANSACTION_ERROR) => failure,
            failure => Self { class: ErrorClass::OutcomeUnknown, ..failure },
        }
    }
}

impl From<&Error> for TransactionError {
    fn from(error: &Error) -> Self {
        let class = match (&*error.kind, server_error_code(error)) {
            (
                ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
                | ErrorKind::ServerSelection { .. },
                _,
            ) => ErrorClass::Unavailable,
            (_, Some(code)) if UNAVAILABLE_CODES.contains(&code) => ErrorClass::Unavailable,
            (_, Some(code)) if ABORTED_CODES.contains(&code) => ErrorClass::Aborted,
            _ if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => ErrorClass::Aborted,
            _ => ErrorClass::Permanent,
        };
        Self { class, reason: one_line_message(error) }
    }
}

/// The message if every server answers, and none is a primary.
pub(super) const NO_PRIMARY: &str = "no primary is reachable";

/// Shortens the driver's description of the whole topology to the first server's error, if any.
fn no_primary_message(message: &str) -> String {
    let first =
        message.split_once("Error: Kind: ").and_then(|(_, error)| error.split_once(", labels"));
    match first {
        Some((error, _)) => format!("no primary is reachable: {error}"),
        None => NO_PRIMARY.to_owned(),
    }
}

/// The server's error code, if the server rejected a whole command.
pub(super) fn server_error_code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(write)) => Some(write.code),
        _ => None,
    }
}

/// The error in one line, without the labels and the topology that the driver adds.
pub(super) fn one_line_message(error: &Error) -> String {
    let line = match &*error.kind {
        ErrorKind::Command(command) => format!("{} ({})", command.message, command.code_name),
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        ErrorKind::ServerSelection { message, .. } => no_primary_message(message),
        kind => kind.to_string(),
    };
    line.replace('\n', " ")
}
