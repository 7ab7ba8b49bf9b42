//! `[broker]`: where events are published.
use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::error::InvalidSetting;
use super::toml_writer::TomlWriter;
use super::values::{self, EnumSetting};

/// The kinds of message brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// No broker: events are only in the outbox and the event stream.
    None,
    /// RabbitMQ.
    Rabbitmq,
}

impl EnumSetting for BrokerKind {
    const ALL: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("rabbitmq", Self::Rabbitmq)];
}

/// The broker and how to reach it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// The kind of broker.
    #[serde(deserialize_with = "values::enum_value")]
    pub kind: BrokerKind,
    /// AMQP connection string; required with [`BrokerKind::Rabbitmq`].
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub uri: Option<SecretString>,
    /// Durable queues for other systems.
    #[serde(default)]
    pub subscription: Vec<SubscriptionSettings>,
}

/// A durable queue for another system. Messages that cannot be delivered go to `<queue>.dead`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionSettings {
    /// The name of the queue, 1 to 250 bytes.
    pub queue: String,
    /// The events that it receives, as topic patterns such as `inventory.#`.
    pub bindings: Vec<String>,
}

/// Longest queue name, in bytes. AMQP allows 255, and `<queue>.dead` must fit too.
const MAX_QUEUE_NAME_BYTES: usize = 250;

/// Longest binding, in bytes (AMQP).
const MAX_BINDING_BYTES: usize = 255;

impl BrokerSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        self.validate_subscriptions()
            .map_err(|text| InvalidSetting::new("broker.subscription", text))?;
        if self.kind == BrokerKind::None {
            return Ok(());
        }
        let Some(uri) = &self.uri else {
            let text = "is required with broker.kind = \"rabbitmq\"; \
                        set it to the broker's connection string";
            return Err(InvalidSetting::new("broker.uri", text));
        };
        let uri = uri.expose_secret();
        if !uri.starts_with("amqp://") && !uri.starts_with("amqps://") {
            let text = "is not an AMQP connection string; it must start with amqp:// or amqps://";
            return Err(InvalidSetting::new("broker.uri", text));
        }
        Ok(())
    }

    fn validate_subscriptions(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for subscription in &self.subscription {
            subscription.validate()?;
            let queue = &subscription.queue;
            if !names.insert(queue.clone()) || !names.insert(format!("{queue}.dead")) {
                return Err(format!(
                    "two queues are named {queue:?}, or one has the name of another's \
                     dead letter queue; give each a different name"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("broker");
        out.write_string("kind", self.kind.name());
        out.write_redacted("uri", self.uri.as_ref());
        for subscription in &self.subscription {
            out.write_array_section("broker.subscription");
            out.write_string("queue", &subscription.queue);
            out.write_list("bindings", &subscription.bindings);
        }
    }
}

impl SubscriptionSettings {
    fn validate(&self) -> Result<(), String> {
        let queue = &self.queue;
        if queue.is_empty()
            || queue.len() > MAX_QUEUE_NAME_BYTES
            || queue.contains(char::is_control)
        {
            return Err(format!(
                "{queue:?} is not a queue name; use 1 to {MAX_QUEUE_NAME_BYTES} bytes"
            ));
        }
        if queue.starts_with("amq.") || queue.starts_with("souk.") {
            return Err(format!(
                "the queue name {queue:?} is reserved; \
                 use one that does not start with amq. or souk."
            ));
        }
        if self.bindings.is_empty() {
            return Err(format!(
                "the queue {queue:?} has no bindings; list the events that it receives, \
                 such as \"inventory.#\""
            ));
        }
        match self.bindings.iter().find(|binding| !is_binding_pattern(binding)) {
            Some(binding) => Err(format!(
                "the queue {queue:?} has the binding {binding:?}, which is not a pattern; \
                 use words separated by dots, * for one word and # for any number of words"
            )),
            None => Ok(()),
        }
    }
}

/// Whether a binding is a valid pattern of a topic exchange.
fn is_binding_pattern(binding: &str) -> bool {
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        word == "*" || word == "#" || (!word.is_empty() && word.chars().all(plain))
    };
    binding.len() <= MAX_BINDING_BYTES && binding.split('.').all(is_word)
}
