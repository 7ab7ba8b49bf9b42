//! What the driver's errors mean: whether anything was applied, and whether another try may do better.

use mongodb::error::{
    Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT,
};
use uuid::Uuid;

use super::documents::Unfit;

/// Codes of a server that is no primary, or is going or coming.
const AWAY: [i32; 11] = [6, 7, 89, 91, 134, 189, 9001, 10107, 11600, 11602, 13435];

/// Codes of a transaction that another one, or an operator, has ended: `LockTimeout`, `MaxTimeMSExpired`, `WriteConflict`,
/// `TransactionTooOld`, `SnapshotUnavailable`, `NoSuchTransaction`, `TransactionExceededLifetimeLimitSeconds`, `Interrupted`.
const ENDED: [i32; 8] = [24, 50, 112, 225, 246, 251, 290, 11601];

/// `Unauthorized`, `AuthenticationFailed`.
pub(super) const NO_RIGHTS: [i32; 2] = [13, 18];

/// What came of a step that failed. All but the last mean: certainly not applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Another transaction was there first, or this one was ended from outside. Another try may do better.
    Conflict,
    /// The server does not answer, or is none that takes writes. Another try may do better, later.
    Away,
    /// One statement was refused, the one of this record, which the commits at fault name.
    Statement(Uuid),
    /// Refused in a way that another try would not change.
    Refused,
    /// It may have been applied.
    Unknown,
}

/// A step that failed.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// What it means.
    pub(super) trouble: Trouble,
    /// What the server or the driver says.
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn conflict(reason: impl Into<String>) -> Self {
        Self { trouble: Trouble::Conflict, reason: reason.into() }
    }

    pub(super) fn refused(reason: impl Into<String>) -> Self {
        Self { trouble: Trouble::Refused, reason: reason.into() }
    }

    /// An answer that did not come in time.
    pub(super) fn late() -> Self {
        Self { trouble: Trouble::Away, reason: "no answer in time".to_owned() }
    }

    /// A record that cannot be written.
    pub(super) fn unfit(record: Uuid, error: Unfit) -> Self {
        Self { trouble: Trouble::Statement(record), reason: error.0 }
    }

    /// An error from a commit.
    pub(super) fn of_commit(error: &Error) -> Self {
        let unknown = error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT);
        match Self::from(error) {
            // Only a server that says so has not committed.
            failure if !unknown && error.contains_label(TRANSIENT_TRANSACTION_ERROR) => failure,
            failure => Self { trouble: Trouble::Unknown, ..failure },
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let trouble = match (&*error.kind, code(error)) {
            (
                ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
                | ErrorKind::ServerSelection { .. },
                _,
            ) => Trouble::Away,
            (_, Some(code)) if AWAY.contains(&code) => Trouble::Away,
            (_, Some(code)) if ENDED.contains(&code) => Trouble::Conflict,
            _ if error.contains_label(TRANSIENT_TRANSACTION_ERROR) => Trouble::Conflict,
            _ => Trouble::Refused,
        };
        Self { trouble, reason: brief(error) }
    }
}

/// What keeps a primary from being found: the first server's error, when there is one, of all that the driver says.
fn no_primary(message: &str) -> String {
    let first =
        message.split_once("Error: Kind: ").and_then(|(_, error)| error.split_once(", labels"));
    match first {
        Some((error, _)) => format!("no primary answers: {error}"),
        None => "no primary answers".to_owned(),
    }
}

/// The server's code, when the server refused a whole command.
pub(super) fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(write)) => Some(write.code),
        _ => None,
    }
}

/// One line of what happened, without the driver's own bookkeeping.
pub(super) fn brief(error: &Error) -> String {
    let line = match &*error.kind {
        ErrorKind::Command(command) => format!("{} ({})", command.message, command.code_name),
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        ErrorKind::ServerSelection { message, .. } => no_primary(message),
        kind => kind.to_string(),
    };
    line.replace('\n', " ")
}
