//! The closed list of error codes, and the error that every actor returns. This module does not
//! know HTTP: `http` maps codes to status codes.

mod code;
mod from_domain;
mod not_found;

use std::borrow::Cow;

pub use self::code::ErrorCode;
use crate::domain::{
    cart::Shortage,
    money::Money,
    order::{PriceRise, PurchaseExcess, QuantityExcess},
    pricing::CodeRefusal,
    validation::{FieldError, ValidationErrors},
};

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
    /// The code that is refused, and why, in the words of a cart.
    pub refused_code: Option<Box<RefusedCode>>,
    /// Seconds to wait before the next attempt.
    pub retry_after: Option<u64>,
    /// Whether the error refuses a login rather than a token.
    pub refuses_login: bool,
}

/// A code that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedCode {
    /// The code. `None` if the request has only one.
    pub code: Option<String>,
    /// Why it gives nothing.
    pub reason: CodeRefusal,
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
            refused_code: None,
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

    /// No shipping method reaches the address, or the chosen one does not.
    fn method_not_available() -> Self {
        let detail = "The shop does not ship to this address by this method. See \
            GET /api/cart/shipping-methods for the methods.";
        Self::new(ErrorCode::MethodNotAvailable, detail)
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
