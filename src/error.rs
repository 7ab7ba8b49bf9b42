//! The closed list of error codes, and the error every actor answers with. It knows no HTTP: `http` maps codes to status codes.

use std::borrow::Cow;

use crate::domain::{
    cart::{CartError, Shortage},
    money::Money,
    order::{CheckoutError, OrderError},
    validation::{FieldError, ValidationErrors},
};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $title:literal;)+) => {
        /// What went wrong, as a word programs can rely on. The list is closed: clients may switch on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)+
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The word clients see in `code`.
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
    /// The body is not JSON.
    MalformedJson = "malformed_json", "The body is not valid JSON";
    /// The request needs the header, and does not have it.
    IdempotencyKeyRequired = "idempotency_key_required", "An idempotency key is needed";
    /// The header is there but has a form that no key has.
    IdempotencyKeyInvalid = "idempotency_key_invalid", "The idempotency key is not valid";
    /// The key was used for another request.
    IdempotencyKeyReused = "idempotency_key_reused", "The idempotency key was used for another request";
    /// No token, or one that is not good.
    Unauthenticated = "unauthenticated", "A valid access token is needed";
    /// The token was good once.
    TokenExpired = "token_expired", "The token has expired";
    /// E-mail and password do not belong together.
    InvalidCredentials = "invalid_credentials", "E-mail or password is wrong";
    /// The token is good, but not for this.
    Forbidden = "forbidden", "This is not allowed for this role";
    /// No such route or resource.
    NotFound = "not_found", "Not found";
    /// No such product.
    ProductNotFound = "product_not_found", "There is no such product";
    /// The cart has no line with this product.
    LineNotFound = "line_not_found", "The cart has no such line";
    /// The route exists, with other methods.
    MethodNotAllowed = "method_not_allowed", "The method is not allowed here";
    /// The request's body did not arrive in time.
    RequestTimeout = "request_timeout", "The request took too long to arrive";
    /// The e-mail has an account.
    EmailTaken = "email_taken", "The e-mail address has an account already";
    /// Another product has this article number.
    SkuTaken = "sku_taken", "Another product has this sku";
    /// Fewer pieces than asked for.
    InsufficientStock = "insufficient_stock", "There is not enough in stock";
    /// There is nothing to check out.
    CartEmpty = "cart_empty", "The cart is empty";
    /// It costs more than the buyer expects.
    PriceChanged = "price_changed", "The price has changed";
    /// The order does not stand where this could follow.
    InvalidTransition = "invalid_transition", "The order cannot go there from where it stands";
    /// More unpaid orders than one user may have.
    TooManyPendingOrders = "too_many_pending_orders", "Too many unpaid orders";
    /// The guest's cart belongs to an account.
    GuestCartMerged = "guest_cart_merged", "The guest cart was merged into an account";
    /// `If-Match` does not match.
    VersionMismatch = "version_mismatch", "It has changed since it was read";
    /// The body is larger than allowed.
    PayloadTooLarge = "payload_too_large", "The body is too large";
    /// The body has a type that is not understood.
    UnsupportedMediaType = "unsupported_media_type", "The content type is not supported";
    /// One or more fields are wrong.
    ValidationFailed = "validation_failed", "The request has invalid fields";
    /// More pieces in a line than allowed.
    QuantityLimit = "quantity_limit", "A line cannot have so many pieces";
    /// More lines in a cart than allowed.
    LineLimit = "line_limit", "A cart cannot have so many lines";
    /// A cart or an order would come to more than 2^53-1 minor units.
    TotalLimit = "total_limit", "Total limit exceeded";
    /// Too many requests from one caller.
    RateLimited = "rate_limited", "Too many requests";
    /// A fault of ours.
    Internal = "internal_error", "Something went wrong on our side";
    /// More than can be served now. Certainly not applied.
    Overloaded = "overloaded", "The server has more to do than it can";
    /// The store does not answer. Certainly not applied.
    StoreUnavailable = "store_unavailable", "The store is not available";
    /// It may have been applied.
    OutcomeUnknown = "outcome_unknown", "It is not known whether the change was made";
}

/// A refusal or failure, as every actor answers it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Error {
    /// Which.
    pub code: ErrorCode,
    /// What was wrong this time, and what to do.
    pub detail: Cow<'static, str>,
    /// The faulty fields.
    pub field_errors: Vec<FieldError>,
    /// The lines that stock cannot fill.
    pub shortages: Vec<Shortage>,
    /// What the cart costs now.
    pub total_amount: Option<Box<Money>>,
    /// After how many seconds another try makes sense.
    pub retry_after: Option<u64>,
}

impl Error {
    /// An error with `code` and a sentence for a person.
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

    /// The same, with the seconds after which another try makes sense.
    #[must_use]
    pub fn with_retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// One faulty field.
    #[must_use]
    pub fn invalid_field(
        field: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        ValidationErrors::single(field, code, message).into()
    }

    /// Too much to do; nothing was applied.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(ErrorCode::Overloaded, "Nothing was changed. Try again shortly.")
            .with_retry_after(1)
    }

    /// The store is away; nothing was applied.
    #[must_use]
    pub fn store_unavailable() -> Self {
        Self::new(ErrorCode::StoreUnavailable, "Nothing was changed. Try again shortly.")
            .with_retry_after(1)
    }

    /// It may or may not have been applied.
    #[must_use]
    pub fn outcome_unknown() -> Self {
        Self::new(
            ErrorCode::OutcomeUnknown,
            "The change may have been made. Repeat the request with the same Idempotency-Key, or read the resource again.",
        )
    }

    /// A fault of ours, told to the log and not to the caller.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "The fault was logged under this request's id.")
    }

    /// `If-Match` does not match.
    #[must_use]
    pub fn version_mismatch(current: &str) -> Self {
        Self::new(
            ErrorCode::VersionMismatch,
            format!("It is now {current}. Read it again, then repeat the change with its ETag."),
        )
    }

    /// There is no such product.
    #[must_use]
    pub fn product_not_found() -> Self {
        Self::new(
            ErrorCode::ProductNotFound,
            "There is no product with this id, or it was deleted.",
        )
    }

    /// There is no such order, or none that the caller may see.
    #[must_use]
    pub fn order_not_found() -> Self {
        Self::new(ErrorCode::NotFound, "There is no order with this id among those you may see.")
    }

    /// The total would be above the limit.
    fn total_limit() -> Self {
        let detail = "The total would be more than can be exact (2^53-1 minor units of the \
            currency). Lower a quantity, or buy in several orders.";
        Self::new(ErrorCode::TotalLimit, detail)
    }

    /// Stock cannot fill these lines.
    #[must_use]
    pub fn insufficient_stock(lines: Vec<Shortage>) -> Self {
        let detail = "Less is available than was asked for; see lines.";
        Self { shortages: lines, ..Self::new(ErrorCode::InsufficientStock, detail) }
    }
}

impl From<ValidationErrors> for Error {
    fn from(faults: ValidationErrors) -> Self {
        let faults = faults.into_vec();
        let told = faults
            .iter()
            .take(5)
            .map(|fault| fault.message.as_str())
            .collect::<Vec<_>>()
            .join("; ");
        let detail = if faults.len() > 5 { format!("{told}; and more, see errors") } else { told };
        Self { field_errors: faults, ..Self::new(ErrorCode::ValidationFailed, detail) }
    }
}

impl From<CartError> for Error {
    fn from(refusal: CartError) -> Self {
        match refusal {
            CartError::ProductNotFound => Self::product_not_found(),
            CartError::LineNotFound => {
                Self::new(ErrorCode::LineNotFound, "The cart has no line with this product.")
            }
            CartError::InsufficientStock(line) => Self::insufficient_stock(vec![line]),
            CartError::QuantityLimitExceeded => Self::new(
                ErrorCode::QuantityLimit,
                "The line would have more pieces than a line may have.",
            ),
            CartError::LineLimitExceeded => Self::new(
                ErrorCode::LineLimit,
                "The cart would have more lines than a cart may have.",
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
    fn from(refusal: CheckoutError) -> Self {
        match refusal {
            CheckoutError::Cart(refusal) => refusal.into(),
            CheckoutError::CartEmpty => Self::new(
                ErrorCode::CartEmpty,
                "There is nothing in the cart. Put something in first.",
            ),
            CheckoutError::InsufficientStock(lines) => Self::insufficient_stock(lines),
            CheckoutError::TotalLimitExceeded => Self::total_limit(),
            CheckoutError::PriceChanged(total) => {
                let detail = format!(
                    "The cart costs {total} now, more than expected_total. Show it to the buyer, and ask again."
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
    fn from(refusal: OrderError) -> Self {
        match refusal {
            OrderError::InvalidTransition { from, to } => {
                let detail = format!(
                    "The order is {}; from there it cannot become {}.",
                    from.as_str(),
                    to.as_str()
                );
                Self::new(ErrorCode::InvalidTransition, detail)
            }
            OrderError::NotYetExpired => {
                Self::new(ErrorCode::InvalidTransition, "There is still time to pay the order.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn error_code_strings_are_unique() {
        let words: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), ErrorCode::ALL.len());
        assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    }
}
