//! The store's errors as clients see them, the same for every actor.

use crate::{
    error::{Error, ErrorCode},
    store::CommitError,
};

/// The error that a client gets for a commit that was not applied. Conflicts and repeats are handled
/// by [`retry`](super::retry) first: a conflict that comes here was one too many.
pub(crate) fn map_commit_error(error: CommitError) -> Error {
    match error {
        CommitError::Conflict
        | CommitError::RetryLater
        | CommitError::RetryAlone
        | CommitError::Overloaded => Error::overloaded(),
        CommitError::StockVersionMismatch(version) => {
            Error::version_mismatch(&format!("\"{version}\""))
        }
        CommitError::OutOfStock(lines) => Error::insufficient_stock(lines),
        CommitError::StockOverflow => Error::invalid_field(
            "stock",
            "out_of_range",
            "on_hand would exceed the largest supported stock level",
        ),
        CommitError::TooManyPendingOrders => Error::new(
            ErrorCode::TooManyPendingOrders,
            "You have too many unpaid orders. Pay or cancel one of them, then check out again.",
        ),
        CommitError::EmailTaken => Error::new(
            ErrorCode::EmailTaken,
            "An account with this e-mail address exists. Log in instead.",
        ),
        CommitError::SkuTaken => Error::new(
            ErrorCode::SkuTaken,
            "Another product has this sku. Change that one, or choose another sku.",
        ),
        CommitError::IdempotencyKeyReused => Error::new(
            ErrorCode::IdempotencyKeyReused,
            "This Idempotency-Key was used for another request. Use a new key for each request.",
        ),
        CommitError::Unavailable => Error::store_unavailable(),
        CommitError::OutcomeUnknown => Error::outcome_unknown(),
        CommitError::Replayed(_) | CommitError::AlreadyApplied => Error::internal(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_errors_map_to_error_codes() {
        for (error, code) in [
            (CommitError::Conflict, ErrorCode::Overloaded),
            (CommitError::Overloaded, ErrorCode::Overloaded),
            (CommitError::Unavailable, ErrorCode::StoreUnavailable),
            (CommitError::OutcomeUnknown, ErrorCode::OutcomeUnknown),
            (CommitError::EmailTaken, ErrorCode::EmailTaken),
            (CommitError::StockVersionMismatch(3), ErrorCode::VersionMismatch),
            (CommitError::StockOverflow, ErrorCode::ValidationFailed),
            (CommitError::TooManyPendingOrders, ErrorCode::TooManyPendingOrders),
        ] {
            assert_eq!(map_commit_error(error).code, code);
        }
    }
}
