//! Payment providers: what they are asked, and what they say.
//!
//! A provider is a folder with an implementation of [`PaymentProvider`]. Everything that it is
//! asked may be asked again, with the same key, until its outcome is known; so a node that dies in
//! between leaves nothing behind but a task for another. The method `manual` has no provider: staff
//! says that the money came.

pub mod stripe;

use async_trait::async_trait;

use crate::domain::{
    clock::Timestamp,
    ids::OrderId,
    money::Money,
    order::OrderNumber,
    payment::{ProviderMessage, ProviderUpdate, RefundTask},
};

/// A payment to begin.
#[derive(Debug, Clone, Copy)]
pub struct PaymentRequest {
    /// The order.
    pub order_id: OrderId,
    /// The order's number.
    pub number: OrderNumber,
    /// What is to be paid.
    pub amount: Money,
    /// Counts the payments of the order from 1.
    pub attempt: u32,
}

/// Why a provider did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It did not answer, or not with an outcome. It may have done it. Ask again.
    #[error("the provider did not answer: {0}")]
    Unavailable(String),
    /// It refuses, and has done nothing.
    #[error("the provider refuses: {0}")]
    Refused(String),
}

/// Why a message of a provider is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It was not signed by the provider, or too long ago.
    #[error("the signature is not valid")]
    SignatureInvalid,
    /// It was signed, and cannot be read.
    #[error("the message cannot be read")]
    Malformed,
}

/// A payment provider.
#[async_trait]
pub trait PaymentProvider: Send + Sync {
    /// Begins a payment. The same order and attempt begin one payment only.
    async fn begin(&self, request: PaymentRequest) -> Result<ProviderUpdate, ProviderError>;

    /// Calls a payment off. If it was paid, that is what comes back; `None` if the provider cannot
    /// say yet.
    async fn call_off(&self, intent: &str) -> Result<Option<ProviderUpdate>, ProviderError>;

    /// Looks where a payment stands. `None` while the buyer has not paid.
    async fn look_up(&self, intent: &str) -> Result<Option<ProviderUpdate>, ProviderError>;

    /// Refunds a part of a payment. The same refund goes back once only.
    async fn refund(
        &self,
        task: &RefundTask,
        now: Timestamp,
    ) -> Result<ProviderUpdate, ProviderError>;

    /// Looks where a refund stands.
    async fn look_up_refund(&self, id: &str) -> Result<ProviderUpdate, ProviderError>;

    /// Gives back all money of a payment, once only.
    async fn give_back(&self, intent: &str) -> Result<ProviderUpdate, ProviderError>;

    /// Reads a message of the provider. `None` if it is about nothing that concerns the shop.
    ///
    /// # Errors
    /// It was not signed by the provider, or cannot be read.
    fn read_message(
        &self,
        body: &[u8],
        signature: &str,
        now: Timestamp,
    ) -> Result<Option<ProviderMessage>, MessageError>;
}
