//! What callers are told when a commit was not applied. The same for every actor.

use crate::{
    error::{Code, Error},
    store::CommitError,
};

/// The answer for a commit that failed for good.
pub(crate) fn failure(error: CommitError) -> Error {
    match error {
        // An actor decides again on a conflict; this is what remains when it has done so often enough.
        CommitError::Conflict | CommitError::Overloaded => Error::overloaded(),
        CommitError::StockVersion(version) => Error::version_mismatch(&version.to_string()),
        CommitError::OutOfStock(lines) => Error::insufficient_stock(lines),
        CommitError::TooMuchStock => Error::fault("stock", "out_of_range", "stock would be more than can be counted"),
        CommitError::EmailTaken => {
            Error::new(Code::EmailTaken, "An account with this e-mail address exists. Log in, or use another address.")
        }
        CommitError::SkuTaken => Error::new(Code::SkuTaken, "Another product has this sku. Change that one, or use another sku."),
        CommitError::KeyReused => {
            Error::new(Code::IdempotencyKeyReused, "This Idempotency-Key came with another request before. Use a new one.")
        }
        CommitError::Unavailable => Error::store_unavailable(),
        CommitError::Unknown => Error::outcome_unknown(),
        CommitError::Replayed(_) => {
            tracing::error!("a replayed answer was taken for a failure");
            Error::internal()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_unknown_outcome_leaves_room_for_doubt() {
        for (error, code) in [
            (CommitError::Conflict, Code::Overloaded),
            (CommitError::Overloaded, Code::Overloaded),
            (CommitError::Unavailable, Code::StoreUnavailable),
            (CommitError::Unknown, Code::OutcomeUnknown),
            (CommitError::EmailTaken, Code::EmailTaken),
            (CommitError::StockVersion(3), Code::VersionMismatch),
            (CommitError::TooMuchStock, Code::ValidationFailed),
        ] {
            assert_eq!(failure(error).code, code);
        }
    }
}
