//! How an engine fails.

use super::CommitError;
use crate::error::Error;

/// Why a batch has no outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyError {
    /// No commit of the batch was applied.
    Unavailable,
    /// The batch may have been applied.
    OutcomeUnknown,
}

impl ApplyError {
    /// The name of the error, for metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }
}

impl From<ApplyError> for CommitError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Unavailable => Self::Unavailable,
            ApplyError::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

/// A failed read. The engine has logged the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is not available")]
pub struct StoreUnavailable;

impl From<StoreUnavailable> for Error {
    fn from(_: StoreUnavailable) -> Self {
        Self::store_unavailable()
    }
}
