//! The errors for what does not exist.

use super::{Error, ErrorCode};

impl Error {
    /// The account does not exist.
    #[must_use]
    pub fn user_not_found() -> Self {
        Self::new(ErrorCode::UserNotFound, "This account does not exist.")
    }

    /// The caller's account has no such session, or it has ended.
    #[must_use]
    pub fn session_not_found() -> Self {
        Self::new(ErrorCode::SessionNotFound, "You have no active session with this id.")
    }

    /// There is no such API key, or it was deleted.
    #[must_use]
    pub fn api_key_not_found() -> Self {
        Self::new(ErrorCode::ApiKeyNotFound, "This API key does not exist or was deleted.")
    }

    /// The caller's account has no such address.
    #[must_use]
    pub fn address_not_found() -> Self {
        Self::new(ErrorCode::AddressNotFound, "You have no address with this id.")
    }

    /// There is no such webhook, or it was deleted.
    #[must_use]
    pub fn webhook_not_found() -> Self {
        Self::new(ErrorCode::WebhookNotFound, "This webhook does not exist or was deleted.")
    }

    /// The webhook has no delivery of the event.
    #[must_use]
    pub fn delivery_not_found() -> Self {
        Self::new(ErrorCode::DeliveryNotFound, "This webhook has no delivery of this event.")
    }
}
