//! The closed list of error codes, and the error that every actor returns. This module does not
//! know HTTP: `http` maps codes to status codes.

use std::borrow::Cow;

use crate::domain::{
    cart::{CartError, Shortage},
    money::Money,
    order::{CheckoutError, OrderError},
    validation::{FieldError, ValidationErrors},
};

/// How many field errors `detail` repeats.
const MAX_MESSAGES_IN_DETAIL: usize = 5;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $title:literal;)+) => {
        /// The kind of an error. The list is closed, so clients may switch on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)+
        }

        impl ErrorCode {
            /// Every code, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The value of `code` in a response.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }

            /// A short title that is the same for every occurrence (RFC 9457, section 3.1.3).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

codes! {
    /// The body cannot be parsed as JSON.
    MalformedJson = "malformed_json", "Malformed JSON";
    /// The route requires an `Idempotency-Key` header.
    IdempotencyKeyRequired = "idempotency_key_required", "Idempotency key required";
    /// The `Idempotency-Key` header is too long or has characters that are not allowed.
    IdempotencyKeyInvalid = "idempotency_key_invalid", "Invalid idempotency key";
    /// Another request used the same idempotency key.
    IdempotencyKeyReused = "idempotency_key_reused", "Idempotency key used for another request";
    /// The access token is missing or invalid.
    Unauthenticated = "unauthenticated", "Authentication required";
    /// The token was valid but has expired.
    TokenExpired = "token_expired", "Token expired";
    /// No account has this e-mail address and password.
    InvalidCredentials = "invalid_credentials", "Invalid e-mail or password";
    /// The token is valid but its role does not permit the request.
    Forbidden = "forbidden", "Insufficient permissions";
    /// The route or the resource does not exist.
    NotFound = "not_found", "Not found";
    /// The product does not exist or was deleted.
    ProductNotFound = "product_not_found", "Product not found";
    /// The cart has no line with this product.
    LineNotFound = "line_not_found", "Cart line not found";
    /// The route does not support this method.
    MethodNotAllowed = "method_not_allowed", "Method not allowed";
    /// The request's body did not arrive in time.
    RequestTimeout = "request_timeout", "Request timeout";
    /// Another account uses this e-mail address.
    EmailTaken = "email_taken", "E-mail address already registered";
    /// Another product has this SKU.
    SkuTaken = "sku_taken", "SKU already in use";
    /// Fewer units are available than requested.
    InsufficientStock = "insufficient_stock", "Insufficient stock";
    /// The cart has no lines that can be checked out.
    CartEmpty = "cart_empty", "The cart is empty";
    /// The total is higher than the buyer expects.
    PriceChanged = "price_changed", "The price has changed";
    /// The order's status does not permit this change.
    InvalidTransition = "invalid_transition", "Invalid order status change";
    /// The user has as many unpaid orders as one user may have.
    TooManyPendingOrders = "too_many_pending_orders", "Too many unpaid orders";
    /// The guest's cart was merged into an account's cart.
    GuestCartMerged = "guest_cart_merged", "Guest cart already merged";
    /// The `If-Match` header does not match the current version.
    VersionMismatch = "version_mismatch", "Version mismatch";
    /// The body is larger than allowed.
    PayloadTooLarge = "payload_too_large", "Request body too large";
    /// The route does not accept this content type.
    UnsupportedMediaType = "unsupported_media_type", "Unsupported content type";
    /// One or more fields are invalid.
    ValidationFailed = "validation_failed", "Validation failed";
    /// A line would have more units than allowed.
    QuantityLimit = "quantity_limit", "Quantity limit exceeded";
    /// The cart would have more lines than allowed.
    LineLimit = "line_limit", "Cart line limit exceeded";
    /// The total of a cart or an order would exceed 2^53-1 minor units.
    TotalLimit = "total_limit", "Total limit exceeded";
    /// The caller sends too many requests.
    RateLimited = "rate_limited", "Too many requests";
    /// The server has a bug or broken data.
    Internal = "internal_error", "Internal server error";
    /// The server is at capacity. The request was certainly not applied.
    Overloaded = "overloaded", "The server is overloaded";
    /// The store does not respond. The request was certainly not applied.
    StoreUnavailable = "store_unavailable", "The store is unavailable";
    /// The store did not confirm the change. It may have been applied.
    OutcomeUnknown = "outcome_unknown", "The outcome of the change is unknown";
}

/// The error that every actor returns, whether it refuses a command or fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Error {
    /// The kind of error, for programs.
    pub code: ErrorCode,
    /// What is wrong this time and what to do, for people.
    pub detail: Cow<'static, str>,
    /// The fields that are invalid.
    pub field_errors: Vec<FieldError>,
    /// The lines with insufficient stock.
    pub shortages: Vec<Shortage>,
    /// The current total of the cart.
    pub total_amount: Option<Box<Money>>,
    /// Seconds to wait before the next attempt.
    pub retry_after: Option<u64>,
}

impl Error {
    /// Creates an error from a code and a sentence for people.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            field_errors: Vec::new(),
            shortages: Vec::new(),
            total_amount: None,
            retry_after: None,
        }
    }

    /// Sets the seconds to wait before the next attempt.
    #[must_use]
    pub fn with_retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// `validation_failed` for a single field.
    #[must_use]
    pub fn invalid_field(
        field: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        ValidationErrors::single(field, code, message).into()
    }

    /// The server is at capacity, and nothing was applied.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(ErrorCode::Overloaded, "Nothing was changed. Retry shortly.").with_retry_after(1)
    }

    /// The store does not respond, and nothing was applied.
    #[must_use]
    pub fn store_unavailable() -> Self {
        Self::new(ErrorCode::StoreUnavailable, "Nothing was changed. Retry shortly.")
            .with_retry_after(1)
    }

    /// The change may or may not have been applied.
    #[must_use]
    pub fn outcome_unknown() -> Self {
        Self::new(
            ErrorCode::OutcomeUnknown,
            "The change may have been applied. Retry with the same Idempotency-Key, \
             or read the resource again.",
        )
    }

    /// A bug or broken data. The details are in the log and never reach the caller.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "The error was logged with this request's ID.")
    }

    /// `If-Match` does not match the ETag `current`.
    #[must_use]
    pub fn version_mismatch(current: &str) -> Self {
        Self::new(
            ErrorCode::VersionMismatch,
            format!(
                "The current ETag is {current}. Read the resource again, then retry with its ETag."
            ),
        )
    }

    /// The product does not exist or was deleted.
    #[must_use]
    pub fn product_not_found() -> Self {
        Self::new(ErrorCode::ProductNotFound, "This product does not exist or was deleted.")
    }

    /// The order does not exist, or the caller may not see it.
    #[must_use]
    pub fn order_not_found() -> Self {
        Self::new(
            ErrorCode::NotFound,
            "This order does not exist, or you do not have access to it.",
        )
    }

    /// The total would exceed the largest amount that is exact.
    fn total_limit() -> Self {
        let detail = "The total would exceed 2^53-1 minor units of the currency, the largest \
            exact amount. Lower a quantity, or buy in several orders.";
        Self::new(ErrorCode::TotalLimit, detail)
    }

    /// Fewer units are available than these lines request.
    #[must_use]
    pub fn insufficient_stock(lines: Vec<Shortage>) -> Self {
        let detail = "Fewer units are available than requested. See lines.";
        Self { shortages: lines, ..Self::new(ErrorCode::InsufficientStock, detail) }
    }
}

impl From<ValidationErrors> for Error {
    fn from(errors: ValidationErrors) -> Self {
        let field_errors = errors.into_vec();
        let messages = field_errors
            .iter()
            .take(MAX_MESSAGES_IN_DETAIL)
            .map(|error| error.message.as_str())
            .collect::<Vec<_>>()
            .join("; ");
        let detail = match field_errors.len().saturating_sub(MAX_MESSAGES_IN_DETAIL) {
            0 => messages,
            more => format!("{messages}; and {more} more, see errors"),
        };
        Self { field_errors, ..Self::new(ErrorCode::ValidationFailed, detail) }
    }
}

impl From<CartError> for Error {
    fn from(error: CartError) -> Self {
        match error {
            CartError::ProductNotFound => Self::product_not_found(),
            CartError::LineNotFound => {
                Self::new(ErrorCode::LineNotFound, "The cart has no line with this product.")
            }
            CartError::InsufficientStock(line) => Self::insufficient_stock(vec![line]),
            CartError::QuantityLimitExceeded => Self::new(
                ErrorCode::QuantityLimit,
                "The line would exceed the maximum quantity of a line.",
            ),
            CartError::LineLimitExceeded => Self::new(
                ErrorCode::LineLimit,
                "The cart would exceed its maximum number of lines.",
            ),
            CartError::TotalLimitExceeded => Self::total_limit(),
            CartError::GuestCartMerged => Self::new(
                ErrorCode::GuestCartMerged,
                "This guest cart was merged into an account. Use the account's token.",
            ),
        }
    }
}

impl From<CheckoutError> for Error {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::Cart(error) => error.into(),
            CheckoutError::CartEmpty => {
                Self::new(ErrorCode::CartEmpty, "Add a product to the cart before you check out.")
            }
            CheckoutError::InsufficientStock(lines) => Self::insufficient_stock(lines),
            CheckoutError::TotalLimitExceeded => Self::total_limit(),
            CheckoutError::PriceChanged(total) => {
                let detail = format!(
                    "The cart now costs {total}, which is more than expected_total. \
                     Show the new total to the buyer, then retry."
                );
                Self {
                    total_amount: Some(Box::new(total)),
                    ..Self::new(ErrorCode::PriceChanged, detail)
                }
            }
        }
    }
}

impl From<OrderError> for Error {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::InvalidTransition { from, to } => {
                let [from, to] = [from, to].map(|status| status.as_str().replace('_', " "));
                let detail = format!("An order that is {from} cannot become {to}.");
                Self::new(ErrorCode::InvalidTransition, detail)
            }
            OrderError::NotYetExpired => Self::new(
                ErrorCode::InvalidTransition,
                "The order's payment deadline has not passed.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn error_code_strings_are_unique() {
        let codes: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), ErrorCode::ALL.len());
        assert!(codes.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }
}
