//! `[broker]`: where events are published.
use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::error::InvalidSetting;
use super::text::TomlWriter;
use super::values::{self, EnumSetting};

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// Events stay in the outbox and the event stream.
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
    /// Which broker.
    #[serde(deserialize_with = "values::enum_value")]
    pub kind: BrokerKind,
    /// AMQP connection string; set with [`BrokerKind::Rabbitmq`].
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub uri: Option<SecretString>,
    /// Queues that are kept for other systems.
    #[serde(default)]
    pub subscription: Vec<SubscriptionSettings>,
}

/// A durable queue for another system. What nobody could take is kept in the queue `<queue>.dead`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionSettings {
    /// The queue's name, 1 to 250 bytes.
    pub queue: String,
    /// Which events it gets: patterns of a topic exchange, such as `inventory.#`.
    pub bindings: Vec<String>,
}

/// Most bytes of a queue's name; AMQP allows 255, and `<queue>.dead` is one too.
const MAX_QUEUE_NAME_BYTES: usize = 250;

/// Most bytes of a binding.
const MAX_BINDING_BYTES: usize = 255;

impl BrokerSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        self.validate_subscriptions()
            .map_err(|text| InvalidSetting::new("broker.subscription", text))?;
        if self.kind == BrokerKind::None {
            return Ok(());
        }
        let Some(uri) = &self.uri else {
            let text = "is required with broker.kind = \"rabbitmq\"; set it to the broker's connection string";
            return Err(InvalidSetting::new("broker.uri", text));
        };
        let uri = uri.expose_secret();
        if !uri.starts_with("amqp://") && !uri.starts_with("amqps://") {
            let text = "is not an AMQP connection string; it begins with amqp:// or amqps://";
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
                    "there are two queues {queue:?}, or one for the dead letters of another; name each differently"
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
                "the queue {queue:?} has a name that is reserved; use one that begins otherwise than with amq. or souk."
            ));
        }
        if self.bindings.is_empty() {
            return Err(format!(
                "the queue {queue:?} has no bindings; name the events it is to get, such as \"inventory.#\""
            ));
        }
        match self.bindings.iter().find(|binding| !is_binding_pattern(binding)) {
            Some(binding) => Err(format!(
                "the queue {queue:?} has the binding {binding:?}, which is not a pattern; use words with dots between them, * for \
                 any one word and # for any number of them"
            )),
            None => Ok(()),
        }
    }
}

/// Whether a topic exchange can make sense of it.
fn is_binding_pattern(binding: &str) -> bool {
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        word == "*" || word == "#" || (!word.is_empty() && word.chars().all(plain))
    };
    binding.len() <= MAX_BINDING_BYTES && binding.split('.').all(is_word)
}
