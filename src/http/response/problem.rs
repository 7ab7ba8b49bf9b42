//! Problem details (RFC 9457), and the mapping from error codes to status codes.

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::{
        cart::Shortage,
        ids::ProductId,
        money::Money,
        order::{PriceRise, PurchaseExcess, QuantityExcess},
    },
    error::{Error, ErrorCode, RefusedLines},
    events::schema,
    http::openapi::enums,
};

/// An [`Error`] as an HTTP response. The response middleware adds the body, since it knows the
/// request id.
#[derive(Debug, Clone)]
pub(crate) struct Problem(pub(crate) Error);

impl<E: Into<Error>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        error_status(&self.0)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::new(self.status_code());
        response.extensions_mut().insert(self.0.clone());
        response
    }
}

/// Returns the HTTP status of an error.
pub(crate) const fn error_status(error: &Error) -> StatusCode {
    if error.refuses_login { StatusCode::FORBIDDEN } else { http_status(error.code) }
}

/// Returns the HTTP status of an error code.
#[must_use]
#[expect(clippy::too_many_lines, reason = "a line for each code")]
pub(crate) const fn http_status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::SignatureInvalid
        | ErrorCode::MalformedJson
        | ErrorCode::MalformedRequest
        | ErrorCode::IdempotencyKeyInvalid
        | ErrorCode::IdempotencyKeyRequired => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated
        | ErrorCode::TokenExpired
        | ErrorCode::TicketInvalid
        | ErrorCode::TokenInvalid
        | ErrorCode::InvalidCredentials
        | ErrorCode::AccountBlocked => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound
        | ErrorCode::ProductNotFound
        | ErrorCode::UserNotFound
        | ErrorCode::ShippingMethodNotFound
        | ErrorCode::TaxRateNotFound
        | ErrorCode::PromotionNotFound
        | ErrorCode::CodeUnknown
        | ErrorCode::SessionNotFound
        | ErrorCode::ApiKeyNotFound
        | ErrorCode::AddressNotFound
        | ErrorCode::WebhookNotFound
        | ErrorCode::DeliveryNotFound
        | ErrorCode::LineNotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
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
        | ErrorCode::InvalidTransition => StatusCode::CONFLICT,
        ErrorCode::VersionMismatch => StatusCode::PRECONDITION_FAILED,
        ErrorCode::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        ErrorCode::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::ValidationFailed
        | ErrorCode::ApiKeyLimit
        | ErrorCode::UrlNotAllowed
        | ErrorCode::QuantityLimit
        | ErrorCode::LineLimit
        | ErrorCode::CodeLimit
        | ErrorCode::AddressLimit
        | ErrorCode::TotalLimit
        | ErrorCode::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::RateLimited | ErrorCode::TooManyPendingOrders | ErrorCode::TooManyFeeds => {
            StatusCode::TOO_MANY_REQUESTS
        }
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::Overloaded
        | ErrorCode::ProviderUnavailable
        | ErrorCode::StoreUnavailable
        | ErrorCode::OutcomeUnknown => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Problem details (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(examples(
    json!({"type": "urn:souk:problem:validation_failed", "title": "Validation failed",
        "status": 422, "detail": "name must not be empty", "code": "validation_failed",
        "request_id": "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d",
        "errors": [{"field": "name", "code": "required", "message": "name must not be empty"}]}),
    json!({"type": "urn:souk:problem:insufficient_stock", "title": "Insufficient stock",
        "status": 409, "detail": "Fewer units are available than requested. See lines.",
        "code": "insufficient_stock", "request_id": "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d",
        "lines": [{"product_id": "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d", "requested": 3,
            "available": 1}]}),
    json!({"type": "urn:souk:problem:purchase_limit_reached", "title": "Purchase limit reached",
        "status": 409, "detail": "Your orders would exceed the purchase limit of a product. See \
            lines for how many units you can still buy.",
        "code": "purchase_limit_reached", "request_id": "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d",
        "lines": [{"product_id": "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d", "requested": 3,
            "left": 2}]})
))]
pub(crate) struct ProblemDetails<'a> {
    /// A URN made from the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:souk:problem:validation_failed")]
    kind: String,
    /// A short title, which is the same for every problem with this code.
    #[schema(examples("Validation failed"))]
    title: &'static str,
    /// The HTTP status code.
    #[schema(minimum = 400, maximum = 599, examples(422))]
    status: u16,
    /// What is wrong with this request and what to do.
    #[schema(examples("name must not be empty"))]
    detail: &'a str,
    #[schema(value_type = enums::ErrorCode)]
    code: &'static str,
    /// The `X-Request-Id` of the response. It helps support find the request.
    #[schema(examples("01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d"))]
    request_id: &'a str,
    /// The invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem<'a>>,
    /// The lines that ask for more than is available, or than the buyer may buy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<ProblemLine>,
    /// The current total of the cart. Only `price_changed` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = f64, required = false, examples(59.97))]
    total_amount: Option<Money>,
    /// Why a code gives nothing. Only refusals of codes have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::CodeReason, required = false)]
    reason: Option<&'static str>,
    /// The code of the cart that does not hold any more. Only checkout answers with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("TEN"))]
    refused_code: Option<&'a str>,
}

/// An invalid field.
#[derive(Serialize, ToSchema)]
pub(crate) struct FieldProblem<'a> {
    /// The name of the field, with a path for a nested one: `attributes.color`.
    #[schema(examples("name"))]
    field: &'a str,
    /// A short word for programs. More words may be added.
    #[schema(pattern = "^[a-z_]+$", examples("required"))]
    code: &'static str,
    /// What is wrong and what would be right.
    #[schema(examples("name must not be empty"))]
    message: &'a str,
}

/// A line that asks for more than is available, or than the buyer may buy.
#[derive(Serialize, ToSchema)]
pub(crate) struct ProblemLine {
    product_id: Uuid,
    /// How many units the line asks for. `price_changed` is without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples(3))]
    requested: Option<u64>,
    /// How many units are available. Only `insufficient_stock` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples(1))]
    available: Option<u64>,
    /// How many units the buyer can still buy, or are left in the order. Only
    /// `purchase_limit_reached` and `quantity_exceeds_order` have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples(2))]
    left: Option<u64>,
    /// The unit price that the cart showed. Only `price_changed` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = f64, required = false, examples(19.99))]
    was: Option<Money>,
    /// The current unit price. Only `price_changed` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = f64, required = false, examples(21.99))]
    now: Option<Money>,
}

impl ProblemLine {
    const fn new(product_id: ProductId) -> Self {
        Self {
            product_id: product_id.as_uuid(),
            requested: None,
            available: None,
            left: None,
            was: None,
            now: None,
        }
    }
}

fn problem_lines(error: &Error) -> Vec<ProblemLine> {
    let short = |line: &Shortage| ProblemLine {
        requested: Some(line.requested),
        available: Some(line.available),
        ..ProblemLine::new(line.product_id)
    };
    let limited = |line: &PurchaseExcess| ProblemLine {
        requested: Some(line.requested),
        left: Some(line.left),
        ..ProblemLine::new(line.product_id)
    };
    let exceeding = |line: &QuantityExcess| ProblemLine {
        requested: Some(line.requested),
        left: Some(line.left),
        ..ProblemLine::new(line.product_id)
    };
    let repriced = |line: &PriceRise| ProblemLine {
        was: Some(line.was),
        now: Some(line.now),
        ..ProblemLine::new(line.product_id)
    };
    match &error.refused_lines {
        RefusedLines::None => Vec::new(),
        RefusedLines::Short(lines) => lines.iter().map(short).collect(),
        RefusedLines::Limited(lines) => lines.iter().map(limited).collect(),
        RefusedLines::Exceeding(lines) => lines.iter().map(exceeding).collect(),
        RefusedLines::Repriced(lines) => lines.iter().map(repriced).collect(),
    }
}

/// Encodes the problem details of `error` as JSON.
#[must_use]
pub(crate) fn problem_body(error: &Error, request_id: &str) -> Vec<u8> {
    let details = ProblemDetails {
        kind: format!("urn:souk:problem:{}", error.code.as_str()),
        title: error.code.title(),
        status: error_status(error).as_u16(),
        detail: &error.detail,
        code: error.code.as_str(),
        request_id,
        errors: error
            .field_errors
            .iter()
            .map(|field_error| FieldProblem {
                field: &field_error.field,
                code: field_error.code,
                message: &field_error.message,
            })
            .collect(),
        lines: problem_lines(error),
        total_amount: error.total_amount.as_deref().copied(),
        reason: error.refused_code.as_ref().map(|refused| refused.reason.as_str()),
        refused_code: error.refused_code.as_ref().and_then(|refused| refused.code.as_deref()),
    };
    serde_json::to_vec(&details).unwrap_or_default()
}

/// Returns the headers of an error response.
pub(crate) fn problem_headers(
    error: &Error,
) -> impl Iterator<Item = (header::HeaderName, HeaderValue)> {
    let needs_token = matches!(
        error.code,
        ErrorCode::Unauthenticated | ErrorCode::TokenExpired | ErrorCode::TicketInvalid
    );
    let challenge =
        needs_token.then(|| (header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
    let retry = error.retry_after.map(|seconds| (header::RETRY_AFTER, HeaderValue::from(seconds)));
    let content = (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    challenge.into_iter().chain(retry).chain(std::iter::once(content))
}

/// Returns the error for a bare status code from the framework.
#[must_use]
pub(crate) fn error_from_status(status: StatusCode) -> Error {
    match status {
        StatusCode::NOT_FOUND => {
            Error::new(ErrorCode::NotFound, "There is nothing at this address. See /docs.")
        }
        StatusCode::METHOD_NOT_ALLOWED => Error::new(
            ErrorCode::MethodNotAllowed,
            "This address does not support the method. See the Allow header.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => {
            Error::new(ErrorCode::PayloadTooLarge, "The body is larger than allowed.")
        }
        StatusCode::REQUEST_TIMEOUT => {
            Error::new(ErrorCode::RequestTimeout, "The request did not arrive in time.")
        }
        status if status.is_client_error() => {
            Error::invalid_field("request", "invalid", "The request is not well-formed.")
        }
        _ => Error::internal(),
    }
}
