//! The closed list of error codes, and the error that every actor returns. This module does not
//! know HTTP: `http` maps codes to status codes.

mod from_domain;
mod not_found;

use std::borrow::Cow;

use crate::domain::{
    cart::Shortage,
    money::Money,
    order::{PriceRise, PurchaseExcess, QuantityExcess},
    validation::{FieldError, ValidationErrors},
};

/// The kind of an error. The list is closed, so clients may switch on it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::EnumMessage,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum ErrorCode {
    /// The body cannot be parsed as JSON.
    #[strum(message = "Malformed JSON")]
    MalformedJson,
    /// The request is not valid HTTP, or its message is none of the gRPC method.
    #[strum(message = "Malformed request")]
    MalformedRequest,
    /// The head of the request is larger than allowed.
    #[strum(message = "Request headers too large")]
    HeadersTooLarge,
    /// The route requires an `Idempotency-Key` header.
    #[strum(message = "Idempotency key required")]
    IdempotencyKeyRequired,
    /// The `Idempotency-Key` header is too long or has characters that are not allowed.
    #[strum(message = "Invalid idempotency key")]
    IdempotencyKeyInvalid,
    /// Another request used the same idempotency key.
    #[strum(message = "Idempotency key used for another request")]
    IdempotencyKeyReused,
    /// The access token is missing or invalid.
    #[strum(message = "Authentication required")]
    Unauthenticated,
    /// The token was valid but has expired.
    #[strum(message = "Token expired")]
    TokenExpired,
    /// The ticket for an event feed is not valid, has expired, or was used.
    #[strum(message = "Invalid ticket")]
    TicketInvalid,
    /// The token of a mail is not valid, has expired, or was used.
    #[strum(message = "Invalid token")]
    TokenInvalid,
    /// No account has this e-mail address and password.
    #[strum(message = "Invalid e-mail or password")]
    InvalidCredentials,
    /// An admin blocked the account. The status is 401 for its tokens, and 403 for a login.
    #[strum(message = "Account blocked")]
    AccountBlocked,
    /// The token is valid, but its account may not do this.
    #[strum(message = "Insufficient permissions")]
    Forbidden,
    /// The route or the resource does not exist.
    #[strum(message = "Not found")]
    NotFound,
    /// The product does not exist or was deleted.
    #[strum(message = "Product not found")]
    ProductNotFound,
    /// The account does not exist.
    #[strum(message = "User not found")]
    UserNotFound,
    /// The account has no active session with this id.
    #[strum(message = "Session not found")]
    SessionNotFound,
    /// There is no such API key, or it was deleted.
    #[strum(message = "API key not found")]
    ApiKeyNotFound,
    /// The account has no address with this id.
    #[strum(message = "Address not found")]
    AddressNotFound,
    /// There is no such webhook, or it was deleted.
    #[strum(message = "Webhook not found")]
    WebhookNotFound,
    /// The webhook has no delivery of this event, or none that is still listed.
    #[strum(message = "Delivery not found")]
    DeliveryNotFound,
    /// The cart has no line with this product.
    #[strum(message = "Cart line not found")]
    LineNotFound,
    /// The route does not support this method.
    #[strum(message = "Method not allowed")]
    MethodNotAllowed,
    /// The request's head or body did not arrive in time.
    #[strum(message = "Request timeout")]
    RequestTimeout,
    /// Another account uses this e-mail address.
    #[strum(message = "E-mail address already registered")]
    EmailTaken,
    /// The shop would have no admin left that is not blocked.
    #[strum(message = "Last admin")]
    LastAdmin,
    /// The account has an order that is paid and not shipped.
    #[strum(message = "Open orders")]
    OrdersOpen,
    /// Another product has this SKU.
    #[strum(message = "SKU already in use")]
    SkuTaken,
    /// Fewer units are available than requested.
    #[strum(message = "Insufficient stock")]
    InsufficientStock,
    /// The cart has no lines that can be checked out.
    #[strum(message = "The cart is empty")]
    CartEmpty,
    /// The total is higher than the buyer expects.
    #[strum(message = "The price has changed")]
    PriceChanged,
    /// The order's status does not permit this change.
    #[strum(message = "Invalid order status change")]
    InvalidTransition,
    /// The order has fewer units left.
    #[strum(message = "Quantity exceeds the order")]
    QuantityExceedsOrder,
    /// The message was not signed by the payment provider, or too long ago.
    #[strum(message = "Invalid signature")]
    SignatureInvalid,
    /// The payment provider does not answer.
    #[strum(message = "The payment provider is unavailable")]
    ProviderUnavailable,
    /// Less money is left of the order's payment.
    #[strum(message = "Refund exceeds the payment")]
    RefundExceedsPayment,
    /// One buyer may not buy so many units of this product.
    #[strum(message = "Purchase limit reached")]
    PurchaseLimitReached,
    /// The user has as many unpaid orders, or units in them, as one user may have.
    #[strum(message = "Too many unpaid orders")]
    TooManyPendingOrders,
    /// The address or the user has as many event feeds as it may have.
    #[strum(message = "Too many event feeds")]
    TooManyFeeds,
    /// The webhook is paused.
    #[strum(message = "Webhook paused")]
    WebhookPaused,
    /// The event was delivered, and the shop no longer holds it.
    #[strum(message = "Event not held")]
    EventNotHeld,
    /// The guest's cart was merged into an account's cart.
    #[strum(message = "Guest cart already merged")]
    GuestCartMerged,
    /// The `If-Match` header does not match the current version.
    #[strum(message = "Version mismatch")]
    VersionMismatch,
    /// The body is larger than allowed.
    #[strum(message = "Request body too large")]
    PayloadTooLarge,
    /// The route does not accept this content type.
    #[strum(message = "Unsupported content type")]
    UnsupportedMediaType,
    /// One or more fields are invalid.
    #[strum(message = "Validation failed")]
    ValidationFailed,
    /// The URL cannot be that of a webhook.
    #[strum(message = "URL not allowed")]
    UrlNotAllowed,
    /// The admin has made as many API keys as one may.
    #[strum(message = "API key limit exceeded")]
    ApiKeyLimit,
    /// A line would have more units than allowed.
    #[strum(message = "Quantity limit exceeded")]
    QuantityLimit,
    /// The cart would have more lines than allowed.
    #[strum(message = "Cart line limit exceeded")]
    LineLimit,
    /// The account would have more addresses than allowed.
    #[strum(message = "Address limit exceeded")]
    AddressLimit,
    /// The total of a cart or an order would exceed 2^53-1 minor units.
    #[strum(message = "Total limit exceeded")]
    TotalLimit,
    /// The caller sends too many requests.
    #[strum(message = "Too many requests")]
    RateLimited,
    /// The server has a bug or broken data.
    #[strum(serialize = "internal_error", message = "Internal server error")]
    Internal,
    /// The server is at capacity. The request was certainly not applied.
    #[strum(message = "The server is overloaded")]
    Overloaded,
    /// The store does not respond. The request was certainly not applied.
    #[strum(message = "The store is unavailable")]
    StoreUnavailable,
    /// The store did not confirm the change. It may have been applied.
    #[strum(message = "The outcome of the change is unknown")]
    OutcomeUnknown,
}

impl ErrorCode {
    /// Every code, in the order of declaration.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The value of `code` in a response.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// A short title that is the same for every occurrence (RFC 9457, section 3.1.3).
    #[must_use]
    pub fn title(self) -> &'static str {
        strum::EnumMessage::get_message(&self).unwrap_or_default()
    }
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
    /// The lines of a cart that are refused.
    pub refused_lines: RefusedLines,
    /// The current total of the cart.
    pub total_amount: Option<Box<Money>>,
    /// Seconds to wait before the next attempt.
    pub retry_after: Option<u64>,
    /// Whether the error refuses a login rather than a token.
    pub refuses_login: bool,
}

/// The lines that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusedLines {
    /// The error is about no lines.
    None,
    /// Lines that ask for more units than are available.
    Short(Vec<Shortage>),
    /// Lines that ask for more units than their buyer may buy.
    Limited(Vec<PurchaseExcess>),
    /// Lines that ask for more units than are left in an order.
    Exceeding(Vec<QuantityExcess>),
    /// Lines whose prices rose.
    Repriced(Vec<PriceRise>),
}

impl Error {
    /// Creates an error from a code and a sentence for people.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            field_errors: Vec::new(),
            refused_lines: RefusedLines::None,
            total_amount: None,
            retry_after: None,
            refuses_login: false,
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

    /// The account of the token is blocked.
    #[must_use]
    pub fn account_blocked() -> Self {
        Self::new(ErrorCode::AccountBlocked, "This account is blocked. Ask the shop about it.")
    }

    /// The account that logs in, with the right password, is blocked.
    #[must_use]
    pub fn blocked_login() -> Self {
        Self { refuses_login: true, ..Self::account_blocked() }
    }

    /// The account has an order that is paid and not shipped.
    #[must_use]
    pub fn orders_open() -> Self {
        Self::new(
            ErrorCode::OrdersOpen,
            "An order of yours is paid and not shipped. Wait for it, or ask the shop to cancel it, \
             then delete your account.",
        )
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
        let refused_lines = RefusedLines::Short(lines);
        Self { refused_lines, ..Self::new(ErrorCode::InsufficientStock, detail) }
    }

    /// These lines exceed the purchase limits of their products.
    #[must_use]
    pub fn purchase_limit_reached(lines: Vec<PurchaseExcess>) -> Self {
        let detail = "Your orders would exceed the purchase limit of a product. See lines for how \
            many units you can still buy.";
        let refused_lines = RefusedLines::Limited(lines);
        Self { refused_lines, ..Self::new(ErrorCode::PurchaseLimitReached, detail) }
    }
}

#[cfg(test)]
mod tests;
