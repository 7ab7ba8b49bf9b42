//! The errors of the domain as errors that clients get.

use super::{Error, ErrorCode, RefusedCode, RefusedLines};
use crate::domain::{
    cart::{CartError, MAX_CODES},
    order::{CheckoutError, OrderError},
    payment::{PaymentStatus, RefundError},
    pricing::CodeRefusal,
    validation::ValidationErrors,
};

/// How many field errors `detail` repeats.
const MAX_MESSAGES_IN_DETAIL: usize = 5;

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
            CartError::QuantityLimitExceeded { quantity, limit } => {
                let or_more = if quantity < u32::MAX.into() { "" } else { " or more" };
                let detail = format!(
                    "A line can hold at most {limit} units. This line would have \
                     {quantity}{or_more}."
                );
                Self::new(ErrorCode::QuantityLimit, detail)
            }
            CartError::LineLimitExceeded { lines, limit } => {
                let detail = format!(
                    "A cart can hold at most {limit} lines. This cart would have {lines}. \
                     Remove a line first."
                );
                Self::new(ErrorCode::LineLimit, detail)
            }
            CartError::TotalLimitExceeded => Self::total_limit(),
            CartError::CodeUnknown => Self::new(
                ErrorCode::CodeUnknown,
                "No promotion has this code, or the cart does not have it.",
            ),
            CartError::CodeRefused(reason) => Self::code_refused(None, reason),
            CartError::CodeLimitExceeded => Self::new(
                ErrorCode::CodeLimit,
                format!("A cart can have at most {MAX_CODES} codes. Remove one first."),
            ),
            CartError::MethodNotAvailable => Self::method_not_available(),
            CartError::GuestCartMerged => Self::new(
                ErrorCode::GuestCartMerged,
                "This guest cart was merged into an account. Use the account's token.",
            ),
            CartError::OwnerDeleted => {
                Self::new(ErrorCode::Unauthenticated, "The account was deleted.")
            }
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
            CheckoutError::AmountNotPayable(total) => Self::invalid_field(
                "payment_method",
                "amount_not_payable",
                format!("this payment method cannot charge {total}"),
            ),
            CheckoutError::CodeLost { code, reason } => Self::code_refused(Some(code), reason),
            CheckoutError::AddressRequired => Self::invalid_field(
                "shipping_address",
                "required",
                "shipping_address is needed, since the total depends on where the order goes",
            ),
            CheckoutError::RegionUnknown => Self::invalid_field(
                "shipping_address.region",
                "invalid",
                "shipping_address.region must be a code, such as NY, since taxes depend on it",
            ),
            CheckoutError::MethodNotAvailable => Self::method_not_available(),
            CheckoutError::PriceChanged { total, rises } => {
                let detail = format!(
                    "The cart now costs {total}, which is more than expected_total. \
                     Show the new total to the buyer, then retry."
                );
                Self {
                    total_amount: Some(Box::new(total)),
                    refused_lines: RefusedLines::Repriced(rises),
                    ..Self::new(ErrorCode::PriceChanged, detail)
                }
            }
        }
    }
}

impl Error {
    /// A code gives nothing, for this reason.
    fn code_refused(code: Option<String>, reason: CodeRefusal) -> Self {
        let (error, detail) = match reason {
            CodeRefusal::NotStarted => (ErrorCode::CodeNotStarted, "This code is not valid yet."),
            CodeRefusal::Expired => (ErrorCode::CodeExpired, "This code has expired."),
            CodeRefusal::UsageLimit => {
                (ErrorCode::CodeExhausted, "This code was used as often as it can be.")
            }
            CodeRefusal::PerCustomerLimit => {
                (ErrorCode::CodeExhausted, "You have used this code as often as you can.")
            }
            CodeRefusal::MinSubtotal => {
                (ErrorCode::CodeNotApplicable, "The cart costs too little for this code.")
            }
            CodeRefusal::NoEligibleItems | CodeRefusal::NotBest | CodeRefusal::Inactive => {
                (ErrorCode::CodeNotApplicable, "This code gives nothing on what is in the cart.")
            }
        };
        let detail = match &code {
            Some(code) => format!("{code}: {detail} Show the cart to the buyer, then retry."),
            None => detail.to_owned(),
        };
        let refused_code = Some(Box::new(RefusedCode { code, reason }));
        Self { refused_code, ..Self::new(error, detail) }
    }
}

impl From<RefundError> for Error {
    fn from(error: RefundError) -> Self {
        match error {
            RefundError::NothingToRefund(PaymentStatus::Awaiting | PaymentStatus::Cancelled) => {
                Self::new(ErrorCode::InvalidTransition, "Nothing was paid for this order.")
            }
            RefundError::NothingToRefund(_) => {
                Self::new(ErrorCode::RefundExceedsPayment, "Nothing is left of the payment.")
            }
            RefundError::ExceedsPayment { left } => {
                let detail = format!("Only {left} is left of the payment.");
                Self::new(ErrorCode::RefundExceedsPayment, detail)
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
            OrderError::PaidOrder => Self::new(
                ErrorCode::InvalidTransition,
                "The order is paid. Ask the shop to cancel it.",
            ),
            OrderError::RefundedOrder => Self::new(
                ErrorCode::InvalidTransition,
                "The order was refunded in full, so it is not shipped.",
            ),
            OrderError::LateMoneyReturned => Self::new(
                ErrorCode::InvalidTransition,
                "The order has expired, and its money goes back to the buyer. Place a new order.",
            ),
            OrderError::Refund(error) => error.into(),
            OrderError::QuantityExceedsOrder(lines) => {
                let detail = "The order has fewer units left than requested. See lines.";
                let refused_lines = RefusedLines::Exceeding(lines);
                Self { refused_lines, ..Self::new(ErrorCode::QuantityExceedsOrder, detail) }
            }
            OrderError::NotYetExpired => Self::new(
                ErrorCode::InvalidTransition,
                "The order's payment deadline has not passed.",
            ),
        }
    }
}
