//! `[broker]`: where events are published.
use std::collections::BTreeSet;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::error::Problem;
use super::text::TomlText;
use super::values::{self, Choice};

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// Events stay in the outbox and the event stream.
    None,
    /// RabbitMQ.
    Rabbitmq,
}

impl Choice for BrokerKind {
    const ALL: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("rabbitmq", Self::Rabbitmq)];
}

/// The broker and how to reach it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// Which broker.
    #[serde(deserialize_with = "values::choice")]
    pub kind: BrokerKind,
    /// AMQP connection string; set with [`BrokerKind::Rabbitmq`].
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub uri: Option<SecretString>,
    /// Queues that are kept for other systems.
    #[serde(default)]
    pub subscription: Vec<Subscription>,
}

/// A durable queue for another system. What nobody could take is kept in the queue `<queue>.dead`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// The queue's name, 1 to 250 bytes.
    pub queue: String,
    /// Which events it gets: patterns of a topic exchange, such as `inventory.#`.
    pub bindings: Vec<String>,
}

/// Most bytes of a queue's name; AMQP allows 255, and `<queue>.dead` is one too.
const MAX_QUEUE: usize = 250;

/// Most bytes of a binding.
const MAX_BINDING: usize = 255;

impl BrokerSettings {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        self.check_subscriptions().map_err(|text| Problem::new("broker.subscription", text))?;
        if self.kind == BrokerKind::None {
            return Ok(());
        }
        let Some(uri) = &self.uri else {
            let text = "is required with broker.kind = \"rabbitmq\"; set it to the broker's connection string";
            return Err(Problem::new("broker.uri", text));
        };
        let uri = uri.expose_secret();
        if !uri.starts_with("amqp://") && !uri.starts_with("amqps://") {
            let text = "is not an AMQP connection string; it begins with amqp:// or amqps://";
            return Err(Problem::new("broker.uri", text));
        }
        Ok(())
    }

    fn check_subscriptions(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for subscription in &self.subscription {
            subscription.check()?;
            let queue = &subscription.queue;
            if !names.insert(queue.clone()) || !names.insert(format!("{queue}.dead")) {
                return Err(format!(
                    "there are two queues {queue:?}, or one for the dead letters of another; name each differently"
                ));
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, out: &mut TomlText) {
        out.section("broker");
        out.text("kind", self.kind.name());
        out.secret("uri", self.uri.as_ref());
        for subscription in &self.subscription {
            out.item("broker.subscription");
            out.text("queue", &subscription.queue);
            out.list("bindings", &subscription.bindings);
        }
    }
}

impl Subscription {
    fn check(&self) -> Result<(), String> {
        let queue = &self.queue;
        if queue.is_empty() || queue.len() > MAX_QUEUE || queue.contains(char::is_control) {
            return Err(format!("{queue:?} is not a queue name; use 1 to {MAX_QUEUE} bytes"));
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
        match self.bindings.iter().find(|binding| !is_pattern(binding)) {
            Some(binding) => Err(format!(
                "the queue {queue:?} has the binding {binding:?}, which is not a pattern; use words with dots between them, * for \
                 any one word and # for any number of them"
            )),
            None => Ok(()),
        }
    }
}

/// Whether a topic exchange can make sense of it.
fn is_pattern(binding: &str) -> bool {
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        word == "*" || word == "#" || (!word.is_empty() && word.chars().all(plain))
    };
    binding.len() <= MAX_BINDING && binding.split('.').all(is_word)
}
