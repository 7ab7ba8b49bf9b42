//! What the driver's errors mean: whether anything was applied, and whether another try may do better.

use mongodb::error::{
    Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT,
};
use uuid::Uuid;

use super::documents::DocumentError;

/// Codes of a server that is no primary, or is going or coming.
const UNAVAILABLE_CODES: [i32; 11] = [6, 7, 89, 91, 134, 189, 9001, 10107, 11600, 11602, 13435];

/// Codes of a transaction that another one, or an operator, has ended: `LockTimeout`, `MaxTimeMSExpired`, `WriteConflict`,
/// `TransactionTooOld`, `SnapshotUnavailable`, `NoSuchTransaction`, `TransactionExceededLifetimeLimitSeconds`, `Interrupted`.
const ABORTED_CODES: [i32; 8] = [24, 50, 112, 225, 246, 251, 290, 11601];

/// `Unauthorized`, `AuthenticationFailed`.
pub(super) const ACCESS_DENIED_CODES: [i32; 2] = [13, 18];

/// What came of a step that failed. All but the last mean: certainly not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// Another transaction was there first, or this one was ended from outside. Another try may do better.
    Conflict,
    /// The server does not answer, or is none that takes writes. Another try may do better, later.
    Unavailable,
    /// One statement was refused, the one of this record, which the commits at fault name.
    RecordRejected(Uuid),
    /// Refused in a way that another try would not change.
    Permanent,
    /// It may have been applied.
    OutcomeUnknown,
}

/// A step that failed.
#[derive(Debug, Clone)]
pub(super) struct TransactionError {
    /// What it means.
    pub(super) class: ErrorClass,
    /// What the server or the driver says.
    pub(super) reason: String,
}

impl TransactionError {
    pub(super) fn conflict(reason: impl Into<String>) -> Self {
        Self { class: ErrorClass::Conflict, reason: reason.into() }
    }

    pub(super) fn permanent(reason: impl Into<String>) -> Self {
        Self { class: ErrorClass::Permanent, reason: reason.into() }
    }

    /// An answer that did not come in time.
    pub(super) fn timed_out() -> Self {
        Self { class: ErrorClass::Unavailable, reason: "no answer in time".to_owned() }
    }

    /// A record that cannot be written.
    pub(super) fn invalid_document(record: Uuid, error: DocumentError) -> Self {
        Self { class: ErrorClass::RecordRejected(record), reason: error.0 }
    }

    /// An error from a commit.
    pub(super) fn from_commit_error(error: &Error) -> Self {
        let unknown = error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT);
        match Self::from(error) {
            // Only a server that says so has not committed.
            failure if !unknown && error.contains_label(TRANSIENT_TRANSACTION_ERROR) => failure,
            failure => Self { class: ErrorClass::OutcomeUnknown, ..failure },
        }
    }
}

impl From<&Error> for TransactionError {
    fn from(error: &Error) -> Self {
        let trouble = match (&*error.kind, server_error_code(error)) {
            (
                ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
                | ErrorKind::ServerSelection { .. },
                _,
            ) => ErrorClass::Unavailable,
            (_, Some(code)) if UNAVAILABLE_CODES.contains(&code) => ErrorClass::Unavailable,
            (_, Some(code)) if ABORTED_CODES.contains(&code) => ErrorClass::Conflict,
            _ if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => ErrorClass::Conflict,
            _ => ErrorClass::Permanent,
        };
        Self { class: trouble, reason: one_line_message(error) }
    }
}

/// What keeps a primary from being found: the first server's error, when there is one, of all that the driver says.
fn no_primary_message(message: &str) -> String {
    let first =
        message.split_once("Error: Kind: ").and_then(|(_, error)| error.split_once(", labels"));
    match first {
        Some((error, _)) => format!("no primary answers: {error}"),
        None => "no primary answers".to_owned(),
    }
}

/// The server's code, when the server refused a whole command.
pub(super) fn server_error_code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(write)) => Some(write.code),
        _ => None,
    }
}

/// One line of what happened, without the driver's own bookkeeping.
pub(super) fn one_line_message(error: &Error) -> String {
    let line = match &*error.kind {
        ErrorKind::Command(command) => format!("{} ({})", command.message, command.code_name),
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        ErrorKind::ServerSelection { message, .. } => no_primary_message(message),
        kind => kind.to_string(),
    };
    line.replace('\n', " ")
}
