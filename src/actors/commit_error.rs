//! How outcomes of the store become answers, the same for every actor.

use crate::{
    error::{Error, ErrorCode},
    messages::change::{CommandContext, Reply},
    store::{CommitError, Store},
};

/// How often a decision is made anew after a version conflict. Each conflict means that somebody else got something done. The request's
/// deadline mostly comes first; a node that is slower than another may lose many times before.
pub(crate) const MAX_ATTEMPTS: usize = 128;

/// The answer to a commit that was not applied. Conflicts and repeats are handled by the actor first; a conflict that comes here
/// was one too many.
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
            "on_hand would be larger than can be counted",
        ),
        CommitError::TooManyPendingOrders => Error::new(
            ErrorCode::TooManyPendingOrders,
            "You have as many unpaid orders as one may have. Pay or cancel one of them, then check out again.",
        ),
        CommitError::EmailTaken => Error::new(
            ErrorCode::EmailTaken,
            "There is an account with this e-mail address. Log in instead.",
        ),
        CommitError::SkuTaken => Error::new(
            ErrorCode::SkuTaken,
            "Another product has this sku. Change that one, or choose another sku.",
        ),
        CommitError::IdempotencyKeyReused => key_reused_error(),
        CommitError::Unavailable => Error::store_unavailable(),
        CommitError::OutcomeUnknown => Error::outcome_unknown(),
        CommitError::Replayed(_) | CommitError::AlreadyApplied => Error::internal(),
    }
}

fn key_reused_error() -> Error {
    Error::new(
        ErrorCode::IdempotencyKeyReused,
        "This Idempotency-Key was used for another request. Use a new key for each request.",
    )
}

/// What to answer when the decision is to change nothing, a refusal or a reply: the first answer, when this is a repeat of a
/// request that was carried out. Looked up after deciding, so that a first attempt that runs beside it is not missed.
pub(crate) async fn replay_or_reply<T>(
    store: &dyn Store,
    change: &CommandContext,
    decided: Result<T, Error>,
) -> Result<Reply<T>, Error> {
    let Some(key) = &change.idempotency_key else { return decided.map(Reply::Completed) };
    match store.find_stored_response(key).await? {
        Some((fingerprint, answer)) if fingerprint == key.fingerprint => {
            Ok(Reply::Replayed(answer))
        }
        Some(_) => Err(key_reused_error()),
        None => decided.map(Reply::Completed),
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
