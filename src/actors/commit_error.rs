//! Maps store errors to client errors, the same way for every actor.

use crate::{
    domain::{account::MAX_API_KEYS, pricing::RuleKind},
    error::{Error, ErrorCode},
    store::CommitError,
};

/// Maps the error of a commit to the error that the client gets.
///
/// [`retry_on_conflict`](super::retry_on_conflict) handles conflicts and repeats first. A conflict
/// gets here only after the last attempt.
pub(crate) fn map_commit_error(error: CommitError) -> Error {
    match error {
        CommitError::Conflict
        | CommitError::RetryLater
        | CommitError::RetryAlone
        | CommitError::Overloaded => Error::overloaded(),
        CommitError::StockVersionMismatch(version) => {
            Error::version_mismatch(&format!("\"{version}\""))
        }
        CommitError::InsufficientStock(lines) => Error::insufficient_stock(lines),
        CommitError::StockOverflow => Error::invalid_field(
            "stock",
            "out_of_range",
            "on_hand would exceed the largest supported stock level",
        ),
        CommitError::TooManyPendingOrders => too_many_pending(None),
        CommitError::TooManyPendingUnits { left } => too_many_pending(Some(left)),
        CommitError::PurchaseLimitReached(lines) => Error::purchase_limit_reached(lines),
        CommitError::EmailTaken => Error::new(
            ErrorCode::EmailTaken,
            "An account with this e-mail address exists. Log in instead.",
        ),
        CommitError::SkuTaken => Error::new(
            ErrorCode::SkuTaken,
            "Another product has this sku. Change that one, or choose another sku.",
        ),
        CommitError::RuleExists(kind) => rule_exists(kind),
        CommitError::PromotionUsedUp(_) => Error::new(
            ErrorCode::CodeExhausted,
            "A promotion of this order was used as often as it can be.",
        ),
        CommitError::LastAdmin => Error::new(
            ErrorCode::LastAdmin,
            "The shop would have no admin left. Make another account an admin first.",
        ),
        CommitError::TooManyApiKeys => Error::new(
            ErrorCode::ApiKeyLimit,
            format!(
                "You have made {MAX_API_KEYS} API keys, the most that one admin may have. Delete \
                 one that is not used any more."
            ),
        ),
        CommitError::OrdersOpen => Error::orders_open(),
        CommitError::IdempotencyKeyReused => Error::new(
            ErrorCode::IdempotencyKeyReused,
            "This Idempotency-Key was used for another request. Use a new key for each request.",
        ),
        CommitError::SupersededByRefusal => Error {
            detail: "A repeat of this request was refused while it waited, so nothing was \
                     changed. Send it again if you still want it."
                .into(),
            ..Error::overloaded()
        },
        CommitError::Unavailable => Error::store_unavailable(),
        CommitError::OutcomeUnknown => Error::outcome_unknown(),
        CommitError::Replayed(_) | CommitError::AlreadyApplied => Error::internal(),
    }
}

/// `too_many_pending_orders`, for the number of orders or for the units in them.
fn too_many_pending(units_left: Option<u64>) -> Error {
    let detail = match units_left {
        None => "You have too many unpaid orders. Pay or cancel one of them, then check out again."
            .to_owned(),
        Some(left) => format!(
            "Your unpaid orders may have {left} more units in all. Pay or cancel one of them, or \
             buy fewer units, then check out again."
        ),
    };
    Error::new(ErrorCode::TooManyPendingOrders, detail)
}

/// Another rule of this kind has what is unique.
fn rule_exists(kind: RuleKind) -> Error {
    match kind {
        RuleKind::TaxRate => Error::new(
            ErrorCode::TaxRateExists,
            "Another tax rate has this country, region and tax class. Change that one.",
        ),
        RuleKind::Promotion => Error::new(
            ErrorCode::CodeTaken,
            "Another promotion has this code. Change that one, or choose another code.",
        ),
        // Shipping methods have no unique key.
        RuleKind::ShippingMethod => Error::internal(),
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
            (CommitError::SupersededByRefusal, ErrorCode::Overloaded),
            (CommitError::Unavailable, ErrorCode::StoreUnavailable),
            (CommitError::OutcomeUnknown, ErrorCode::OutcomeUnknown),
            (CommitError::EmailTaken, ErrorCode::EmailTaken),
            (CommitError::LastAdmin, ErrorCode::LastAdmin),
            (CommitError::TooManyApiKeys, ErrorCode::ApiKeyLimit),
            (CommitError::OrdersOpen, ErrorCode::OrdersOpen),
            (CommitError::StockVersionMismatch(3), ErrorCode::VersionMismatch),
            (CommitError::StockOverflow, ErrorCode::ValidationFailed),
            (CommitError::TooManyPendingOrders, ErrorCode::TooManyPendingOrders),
            (CommitError::TooManyPendingUnits { left: 1 }, ErrorCode::TooManyPendingOrders),
            (CommitError::PurchaseLimitReached(Vec::new()), ErrorCode::PurchaseLimitReached),
        ] {
            assert_eq!(map_commit_error(error).code, code);
        }
    }
}
