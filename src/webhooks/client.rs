//! The HTTP client: one attempt, within limits of time and size.

use std::{error::Error, io, sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Certificate, Client, ClientBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
    redirect::Policy,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    WebhookOptions, WebhookSetupError,
    resolver::{GuardedResolver, ResolveError},
};
use crate::domain::webhook::{DeliveryError, check_endpoint_url};

/// How much of an answer is read, so that its connection can be used again.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// The longest time to make a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that nobody uses is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The connections to one host that are kept.
const MAX_IDLE_PER_HOST: usize = 4;

/// What is sent.
pub(super) struct WebhookMessage {
    pub(super) url: String,
    pub(super) id: String,
    pub(super) timestamp_secs: i64,
    pub(super) signature: String,
    pub(super) body: Bytes,
}

/// The outcome of an attempt: the status of the answer, or why there was none.
pub(super) type SendResult = Result<StatusCode, DeliveryError>;

/// Sends messages.
pub(super) struct WebhookClient {
    http: Client,
    timeout: Duration,
    allow_private: bool,
}

impl WebhookClient {
    pub(super) fn new(options: &WebhookOptions) -> Result<Self, WebhookSetupError> {
        let certificates = read_certificates(options.ca_certificates.as_deref())?;
        let merged = match certificates.is_empty() {
            true => builder(options),
            false => builder(options).tls_certs_merge(certificates.clone()),
        };
        let http = merged.build().or_else(|error| {
            // A machine without certificates can run a shop without webhooks.
            let error = chain(&error);
            tracing::warn!(error, "webhooks trust no certificates but those in webhooks.ca_file");
            builder(options).tls_certs_only(certificates).build()
        });
        let http = http.map_err(|error| WebhookSetupError::Client(chain(&error)))?;
        Ok(Self { http, timeout: options.timeout, allow_private: options.allow_private })
    }

    /// Sends a message once.
    pub(super) async fn send(&self, message: WebhookMessage) -> SendResult {
        // An address in the URL is used without asking the resolver.
        if check_endpoint_url(&message.url, self.allow_private).is_err() {
            return Err(DeliveryError::AddressNotAllowed);
        }
        let deadline = Instant::now() + self.timeout;
        let headers = headers(&message).ok_or(DeliveryError::Protocol)?;
        let request = self.http.post(&message.url).headers(headers).body(message.body);
        match timeout_at(deadline, request.send()).await {
            Err(_) => Err(DeliveryError::Timeout),
            Ok(Err(error)) => Err(classify(&error)),
            Ok(Ok(response)) => {
                let status = response.status();
                // The answer counts, whatever becomes of its body.
                let left = deadline.saturating_duration_since(Instant::now());
                drop(timeout(left, drain(response)).await);
                Ok(status)
            }
        }
    }
}

fn builder(options: &WebhookOptions) -> ClientBuilder {
    let resolver = GuardedResolver {
        lookup: Arc::clone(&options.lookup),
        allow_private: options.allow_private,
    };
    Client::builder()
        .user_agent(concat!("Souk/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        // A proxy would resolve names itself, without the check.
        .no_proxy()
        .http1_only()
        .dns_resolver(Arc::new(resolver))
        .connect_timeout(CONNECT_TIMEOUT.min(options.timeout))
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .pool_idle_timeout(IDLE_TIMEOUT)
}

fn read_certificates(pem: Option<&[u8]>) -> Result<Vec<Certificate>, WebhookSetupError> {
    let Some(pem) = pem else { return Ok(Vec::new()) };
    let invalid = |error: reqwest::Error| WebhookSetupError::Certificates(chain(&error));
    let certificates = Certificate::from_pem_bundle(pem).map_err(invalid)?;
    if certificates.is_empty() {
        return Err(WebhookSetupError::Certificates("has no certificate".to_owned()));
    }
    Ok(certificates)
}

fn headers(message: &WebhookMessage) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
    headers.insert("webhook-id", HeaderValue::from_str(&message.id).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::from(message.timestamp_secs));
    headers.insert("webhook-signature", HeaderValue::from_str(&message.signature).ok()?);
    Some(headers)
}

/// Reads an answer to its end, unless it is long.
async fn drain(mut response: Response) {
    let mut room = MAX_RESPONSE_BYTES;
    while let Ok(Some(chunk)) = response.chunk().await {
        room = room.saturating_sub(chunk.len());
        if room == 0 {
            return;
        }
    }
}

fn classify(error: &reqwest::Error) -> DeliveryError {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        match error.downcast_ref::<ResolveError>() {
            Some(ResolveError::NotAllowed) => return DeliveryError::AddressNotAllowed,
            Some(ResolveError::NotFound) => return DeliveryError::Dns,
            None => {}
        }
        if is_of_tls(error) {
            return DeliveryError::Tls;
        }
        cause = error.source();
    }
    if error.is_timeout() {
        DeliveryError::Timeout
    } else if error.is_connect() {
        DeliveryError::Connect
    } else {
        DeliveryError::Protocol
    }
}

/// Whether an error is one of TLS, or an I/O error that wraps one, which its `source` does not
/// return.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_of_tls(inner))
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests;
