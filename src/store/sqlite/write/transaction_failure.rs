//! Why a transaction of the writer failed.

use rusqlite::ErrorCode;

use crate::store::ApplyError;

/// A failed transaction. If the commit itself failed, it may have been applied.
pub(super) struct TransactionFailure {
    pub(super) error: rusqlite::Error,
    /// Whether the `COMMIT` statement failed.
    pub(super) during_commit: bool,
}

impl From<rusqlite::Error> for TransactionFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self { error, during_commit: false }
    }
}

impl TransactionFailure {
    /// Whether one commit may be the cause, so that the others can succeed alone. Errors of the
    /// disk or the machine would fail every commit.
    pub(super) fn is_worth_retrying_alone(&self) -> bool {
        !self.during_commit
            && !matches!(
                self.error.sqlite_error_code(),
                Some(
                    ErrorCode::DiskFull
                        | ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseBusy
                        | ErrorCode::DatabaseLocked
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::CannotOpen
                        | ErrorCode::FileLockingProtocolFailed
                        | ErrorCode::OutOfMemory
                        | ErrorCode::PermissionDenied
                        | ErrorCode::ReadOnly
                )
            )
    }

    /// Whether the batch may have been applied.
    ///
    /// SQLite rolls a failed commit back. But if syncing the log failed, the frames of the commit
    /// stay in the log until the next commit overwrites them. If the machine goes down before that,
    /// the next start may find the frames complete and take them for committed.
    pub(super) fn to_apply_error(&self) -> ApplyError {
        let unsure = self.during_commit
            && self.error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
        if unsure { ApplyError::OutcomeUnknown } else { ApplyError::Unavailable }
    }
}
