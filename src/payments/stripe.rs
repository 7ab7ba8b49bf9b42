//! Stripe: payment intents with automatic payment methods, refunds, and webhooks.
//!
//! Since version 2023-08-16 of the API, automatic payment methods are what an intent has unless it
//! names others.
//!
//! The API is used directly rather than through a crate: five requests and their answers need less
//! than a generated client would add to the program and to its compilation.

mod message;
mod signature;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

pub use self::signature::TOLERANCE;
use self::{
    message::{IntentObject, RefundObject, RefundPage},
    signature::verify_signature,
};
use super::{MessageError, PaymentProvider, PaymentRequest, ProviderError};
use crate::domain::{
    clock::Timestamp,
    money::Currency,
    payment::{
        ProviderMessage, ProviderUpdate, RefundTask, provider_amount, provider_currency,
        provider_units,
    },
};

/// The version of the API whose answers this module reads.
const API_VERSION: &str = "2025-03-31.basil";

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a key surely keeps a repeat from being done again. Stripe forgets keys after a day.
const KEY_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// How to reach Stripe.
#[derive(Debug, Clone)]
pub struct StripeOptions {
    /// The API key.
    pub secret_key: SecretString,
    /// The secret that webhooks are signed with.
    pub webhook_secret: SecretString,
    /// Scheme, host and port of the API.
    pub api_base: String,
    /// The shop's currency.
    pub currency: Currency,
}

/// The provider Stripe.
pub struct Stripe {
    client: Client,
    options: StripeOptions,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: ErrorObject,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

/// An answer that is not an object of the expected kind.
enum AnswerError {
    Unavailable(String),
    Refused { code: String, message: String },
}

impl From<AnswerError> for ProviderError {
    fn from(refusal: AnswerError) -> Self {
        match refusal {
            AnswerError::Unavailable(reason) => Self::Unavailable(reason),
            AnswerError::Refused { code, message } => Self::Refused(format!("{code}: {message}")),
        }
    }
}

impl Stripe {
    /// Creates a client.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(options: StripeOptions) -> Result<Self, reqwest::Error> {
        let client =
            Client::builder().timeout(REQUEST_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).build()?;
        Ok(Self { client, options })
    }

    async fn send<T: for<'a> Deserialize<'a>>(
        &self,
        method: Method,
        path: &str,
        key: Option<String>,
        fields: &[(&str, String)],
    ) -> Result<T, AnswerError> {
        let url = format!("{}{path}", self.options.api_base.trim_end_matches('/'));
        let mut request = self
            .client
            .request(method.clone(), url)
            .bearer_auth(self.options.secret_key.expose_secret())
            .header("Stripe-Version", API_VERSION);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if method == Method::POST {
            request = request
                .header("Content-Type", "application/x-www-form-urlencoded")
                .body(encode_form(fields));
        }
        let away =
            |error: reqwest::Error| AnswerError::Unavailable(error.without_url().to_string());
        let response = request.send().await.map_err(away)?;
        let status = response.status();
        let body = response.bytes().await.map_err(away)?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| AnswerError::Unavailable(format!("unexpected answer: {error}")));
        }
        let answer = serde_json::from_slice::<ErrorAnswer>(&body).ok().map(|answer| answer.error);
        let may_succeed_later = status.is_server_error()
            || matches!(
                status,
                StatusCode::CONFLICT
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
            );
        // The key belongs to another request, which may have been done.
        let is_key_taken = |error: &ErrorObject| error.kind.as_deref() == Some("idempotency_error");
        match answer {
            Some(error) if !may_succeed_later && !is_key_taken(&error) => {
                Err(AnswerError::Refused {
                    code: error.code.unwrap_or_default(),
                    message: error.message.unwrap_or_default(),
                })
            }
            _ => Err(AnswerError::Unavailable(format!("status {status}"))),
        }
    }

    async fn get_intent(&self, intent: &str) -> Result<IntentObject, AnswerError> {
        self.send(Method::GET, &format!("/v1/payment_intents/{intent}"), None, &[]).await
    }

    /// The refund that was asked for before, if the provider has it.
    async fn find_refund(&self, task: &RefundTask) -> Result<Option<ProviderUpdate>, AnswerError> {
        let path = format!("/v1/refunds?payment_intent={}&limit=100", task.intent);
        let page: RefundPage = self.send(Method::GET, &path, None, &[]).await?;
        let found = page.data.into_iter().find(|object| object.refund_id() == Some(task.refund));
        Ok(found.map(|object| object.update(&task.intent, self.options.currency)))
    }
}

#[async_trait]
impl PaymentProvider for Stripe {
    async fn begin(&self, request: PaymentRequest) -> Result<ProviderUpdate, ProviderError> {
        let PaymentRequest { order_id, number, amount, attempt } = request;
        let units = provider_amount(amount)
            .ok_or_else(|| ProviderError::Refused("it does not charge this amount".to_owned()))?;
        let fields = [
            ("amount", units.to_string()),
            ("currency", provider_currency(amount.currency())),
            ("metadata[order_id]", order_id.to_string()),
            ("metadata[number]", number.to_string()),
        ];
        let key = Some(format!("souk-begin-{order_id}-{attempt}"));
        let begun: IntentObject =
            self.send(Method::POST, "/v1/payment_intents", key, &fields).await?;
        let client_secret = begun.client_secret.ok_or_else(|| {
            ProviderError::Unavailable("the answer has no client_secret".to_owned())
        })?;
        Ok(ProviderUpdate::Begun { attempt, intent: begun.id, client_secret })
    }

    async fn call_off(&self, intent: &str) -> Result<Option<ProviderUpdate>, ProviderError> {
        let path = format!("/v1/payment_intents/{intent}/cancel");
        let object = match self.send::<IntentObject>(Method::POST, &path, None, &[]).await {
            Ok(object) => object,
            // It was paid, or called off before.
            Err(AnswerError::Refused { .. }) => self.get_intent(intent).await?,
            Err(refusal) => return Err(refusal.into()),
        };
        Ok(object.outcome(self.options.currency))
    }

    async fn look_up(&self, intent: &str) -> Result<Option<ProviderUpdate>, ProviderError> {
        Ok(self.get_intent(intent).await?.update(self.options.currency))
    }

    async fn refund(
        &self,
        task: &RefundTask,
        now: Timestamp,
    ) -> Result<ProviderUpdate, ProviderError> {
        if task.booked_at.saturating_add(KEY_LIFETIME) < now
            && let Some(found) = self.find_refund(task).await?
        {
            return Ok(found);
        }
        let refund = task.refund;
        let fields = [
            ("payment_intent", task.intent.clone()),
            ("amount", provider_units(task.amount).to_string()),
            ("metadata[refund_id]", refund.to_string()),
        ];
        let key = Some(format!("souk-refund-{refund}"));
        match self.send::<RefundObject>(Method::POST, "/v1/refunds", key, &fields).await {
            Ok(object) => Ok(object.update(&task.intent, self.options.currency)),
            Err(AnswerError::Refused { code, message }) => {
                tracing::warn!(%refund, code, message, "the payment provider refused a refund");
                Ok(ProviderUpdate::RefundRefused { refund })
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn look_up_refund(&self, id: &str) -> Result<ProviderUpdate, ProviderError> {
        let path = format!("/v1/refunds/{id}");
        let object: RefundObject = self.send(Method::GET, &path, None, &[]).await?;
        Ok(object.update("", self.options.currency))
    }

    async fn give_back(&self, intent: &str) -> Result<ProviderUpdate, ProviderError> {
        let fields = [("payment_intent", intent.to_owned())];
        let key = Some(format!("souk-give-back-{intent}"));
        let given = ProviderUpdate::GivenBack { intent: intent.to_owned() };
        match self.send::<RefundObject>(Method::POST, "/v1/refunds", key, &fields).await {
            Ok(_) => Ok(given),
            // Somebody was faster.
            Err(AnswerError::Refused { code, .. }) if code == "charge_already_refunded" => {
                Ok(given)
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn read_message(
        &self,
        body: &[u8],
        signature: &str,
        now: Timestamp,
    ) -> Result<Option<ProviderMessage>, MessageError> {
        let secret = self.options.webhook_secret.expose_secret();
        if !verify_signature(body, signature, secret, now) {
            return Err(MessageError::SignatureInvalid);
        }
        message::read_event(body, self.options.currency)
    }
}

fn encode_form(fields: &[(&str, String)]) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        form.append_pair(name, value);
    }
    form.finish()
}
