//! Errors as gRPC statuses.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::error::{Error, ErrorCode, RefusedLines};

/// The `domain` of every `google.rpc.ErrorInfo`.
const ERROR_DOMAIN: &str = "souk";

/// Which token an error is about.
#[derive(Debug, Clone, Copy, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum TokenSource {
    /// The caller's own, in the metadata.
    Authorization,
    /// The user's, in the message.
    UserToken,
}

/// Returns the gRPC status code of an error code.
#[expect(clippy::too_many_lines, reason = "a line for each code")]
pub(super) const fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::SignatureInvalid
        | ErrorCode::MalformedJson
        | ErrorCode::MalformedRequest
        | ErrorCode::IdempotencyKeyInvalid
        | ErrorCode::IdempotencyKeyRequired
        | ErrorCode::IdempotencyKeyReused
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::ValidationFailed
        | ErrorCode::ApiKeyLimit
        | ErrorCode::UrlNotAllowed
        | ErrorCode::QuantityLimit
        | ErrorCode::LineLimit
        | ErrorCode::CodeLimit
        | ErrorCode::AddressLimit
        | ErrorCode::TotalLimit => Code::InvalidArgument,
        ErrorCode::Unauthenticated
        | ErrorCode::TokenExpired
        | ErrorCode::TicketInvalid
        | ErrorCode::TokenInvalid
        | ErrorCode::InvalidCredentials
        | ErrorCode::AccountBlocked => Code::Unauthenticated,
        ErrorCode::Forbidden => Code::PermissionDenied,
        ErrorCode::NotFound
        | ErrorCode::ProductNotFound
        | ErrorCode::UserNotFound
        | ErrorCode::ShippingMethodNotFound
        | ErrorCode::TaxRateNotFound
        | ErrorCode::PromotionNotFound
        | ErrorCode::CodeUnknown
        | ErrorCode::SessionNotFound
        | ErrorCode::ApiKeyNotFound
        | ErrorCode::WebhookNotFound
        | ErrorCode::DeliveryNotFound
        | ErrorCode::AddressNotFound
        | ErrorCode::LineNotFound => Code::NotFound,
        ErrorCode::MethodNotAllowed => Code::Unimplemented,
        ErrorCode::RequestTimeout => Code::DeadlineExceeded,
        ErrorCode::EmailTaken
        | ErrorCode::LastAdmin
        | ErrorCode::OrdersOpen
        | ErrorCode::SkuTaken
        | ErrorCode::TaxRateExists
        | ErrorCode::InsufficientStock
        | ErrorCode::GuestCartMerged
        | ErrorCode::WebhookPaused
        | ErrorCode::EventNotHeld
        | ErrorCode::MethodNotAvailable
        | ErrorCode::CodeTaken
        | ErrorCode::CodeNotStarted
        | ErrorCode::CodeExpired
        | ErrorCode::CodeExhausted
        | ErrorCode::CodeNotApplicable
        | ErrorCode::CartEmpty
        | ErrorCode::PriceChanged
        | ErrorCode::QuantityExceedsOrder
        | ErrorCode::RefundExceedsPayment
        | ErrorCode::PurchaseLimitReached
        | ErrorCode::InvalidTransition => Code::FailedPrecondition,
        ErrorCode::VersionMismatch => Code::Aborted,
        ErrorCode::PayloadTooLarge
        | ErrorCode::HeadersTooLarge
        | ErrorCode::RateLimited
        | ErrorCode::TooManyPendingOrders
        | ErrorCode::TooManyFeeds => Code::ResourceExhausted,
        ErrorCode::Internal => Code::Internal,
        ErrorCode::Overloaded
        | ErrorCode::ProviderUnavailable
        | ErrorCode::StoreUnavailable
        | ErrorCode::OutcomeUnknown => Code::Unavailable,
    }
}

/// The name of a status code, as the specification of gRPC writes it.
pub(super) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The status of an error: its code, its sentence, and the closed code with all that belongs to it
/// in the details.
pub(super) fn error_status(error: &Error, request_id: &str) -> Status {
    status_about(error, request_id, TokenSource::Authorization)
}

/// As [`error_status`], of an error that may be about this token.
pub(super) fn status_about(error: &Error, request_id: &str, token: TokenSource) -> Status {
    status_with_code(grpc_code(error.code), error, request_id, token)
}

/// The status of a call to a method that the server does not have. Clients know it by its code.
pub(super) fn unimplemented_status(request_id: &str) -> Status {
    let error = Error::new(ErrorCode::NotFound, "This server does not have the method.");
    status_with_code(Code::Unimplemented, &error, request_id, TokenSource::Authorization)
}

fn status_with_code(code: Code, error: &Error, request_id: &str, token: TokenSource) -> Status {
    let metadata = error_metadata(error, request_id, token);
    let mut details = ErrorDetails::with_error_info(error.code.as_str(), ERROR_DOMAIN, metadata);
    if let Some(seconds) = error.retry_after {
        details.set_retry_info(Some(Duration::from_secs(seconds)));
    }
    if !error.field_errors.is_empty() {
        let violation = |field_error: &crate::domain::validation::FieldError| FieldViolation {
            reason: field_error.code.to_owned(),
            ..FieldViolation::new(&field_error.field, &field_error.message)
        };
        details.set_bad_request(error.field_errors.iter().map(violation).collect::<Vec<_>>());
    }
    Status::with_error_details(code, error.detail.clone(), details)
}

fn error_metadata(error: &Error, request_id: &str, token: TokenSource) -> HashMap<String, String> {
    let mut metadata = HashMap::from([("request_id".to_owned(), request_id.to_owned())]);
    if matches!(
        error.code,
        ErrorCode::Unauthenticated | ErrorCode::TokenExpired | ErrorCode::AccountBlocked
    ) {
        let token: &'static str = token.into();
        metadata.insert("token".to_owned(), token.to_owned());
    }
    // The calls that exist are each about one product.
    if let RefusedLines::Short(lines) = &error.refused_lines
        && let Some(line) = lines.first()
    {
        metadata.insert("product_id".to_owned(), line.product_id.to_string());
        metadata.insert("requested".to_owned(), line.requested.to_string());
        metadata.insert("available".to_owned(), line.available.to_string());
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{cart::Shortage, ids::ProductId};

    #[test]
    fn every_code_is_the_reason_of_its_status() {
        for code in ErrorCode::ALL {
            let status = error_status(&Error::new(*code, "What to do."), "r1");
            assert!(!matches!(status.code(), Code::Ok | Code::Unknown), "{code:?}");
            let details = status.get_error_details();
            let info = details.error_info().unwrap();
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (code.as_str(), "souk"));
            assert_eq!(info.metadata["request_id"], "r1");
            assert_eq!(status.message(), "What to do.");
        }
    }

    /// As the contract has it.
    #[test]
    fn codes_have_their_statuses() {
        for (code, status) in [
            (ErrorCode::ProductNotFound, Code::NotFound),
            (ErrorCode::IdempotencyKeyInvalid, Code::InvalidArgument),
            (ErrorCode::ValidationFailed, Code::InvalidArgument),
            (ErrorCode::TokenExpired, Code::Unauthenticated),
            (ErrorCode::AccountBlocked, Code::Unauthenticated),
            (ErrorCode::LastAdmin, Code::FailedPrecondition),
            (ErrorCode::Forbidden, Code::PermissionDenied),
            (ErrorCode::VersionMismatch, Code::Aborted),
            (ErrorCode::GuestCartMerged, Code::FailedPrecondition),
            (ErrorCode::RateLimited, Code::ResourceExhausted),
            (ErrorCode::RequestTimeout, Code::DeadlineExceeded),
            (ErrorCode::Overloaded, Code::Unavailable),
            (ErrorCode::StoreUnavailable, Code::Unavailable),
            (ErrorCode::OutcomeUnknown, Code::Unavailable),
        ] {
            assert_eq!(grpc_code(code), status, "{code:?}");
        }
    }

    #[test]
    fn details_have_fields_and_retry_and_shortage() {
        let error = Error::invalid_field("reason", "required", "reason must not be empty");
        let details = error_status(&error, "r1").get_error_details();
        let violation = details.bad_request().unwrap().field_violations[0].clone();
        assert_eq!((violation.field.as_str(), violation.reason.as_str()), ("reason", "required"));
        assert_eq!(violation.description, "reason must not be empty");
        let details = error_status(&Error::overloaded(), "r1").get_error_details();
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
        let product_id = ProductId::new();
        let short = Shortage { product_id, requested: 3, available: 1 };
        let details = error_status(&Error::insufficient_stock(vec![short]), "r1");
        let details = details.get_error_details();
        let metadata = &details.error_info().unwrap().metadata;
        assert_eq!(metadata["product_id"], product_id.to_string());
        assert_eq!((&*metadata["requested"], &*metadata["available"]), ("3", "1"));
    }
}
