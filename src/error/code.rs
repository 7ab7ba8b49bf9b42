//! The closed list of error codes.

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
    /// The request is not valid HTTP, or its body is not the message of the gRPC method.
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
    /// The shipping method does not exist or was deleted.
    #[strum(message = "Shipping method not found")]
    ShippingMethodNotFound,
    /// The promotion does not exist or was deleted.
    #[strum(message = "Promotion not found")]
    PromotionNotFound,
    /// No promotion has this code, or the cart does not have it.
    #[strum(message = "Unknown code")]
    CodeUnknown,
    /// The tax rate does not exist or was deleted.
    #[strum(message = "Tax rate not found")]
    TaxRateNotFound,
    /// Another tax rate has the same country, region and class.
    #[strum(message = "Tax rate already exists")]
    TaxRateExists,
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
    /// Another promotion has the same code.
    #[strum(message = "Code already in use")]
    CodeTaken,
    /// The code's promotion has not begun.
    #[strum(message = "Code not valid yet")]
    CodeNotStarted,
    /// The code's promotion has ended.
    #[strum(message = "Code expired")]
    CodeExpired,
    /// The code was used as often as it can be, by all buyers or by this one.
    #[strum(message = "Code used up")]
    CodeExhausted,
    /// The code gives nothing to this cart.
    #[strum(message = "Code not applicable")]
    CodeNotApplicable,
    /// No shipping method reaches the address, or the chosen one does not.
    #[strum(message = "Shipping method not available")]
    MethodNotAvailable,
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
    /// The order would exceed the number of units of this product that one buyer may buy.
    #[strum(message = "Purchase limit reached")]
    PurchaseLimitReached,
    /// The user has as many pending orders, which are placed and not paid, or units in them, as one
    /// user may have.
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
    /// The cart would have more codes than allowed.
    #[strum(message = "Code limit exceeded")]
    CodeLimit,
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
