//! `[broker]`: where events are published.
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
    const ALL: &'static [(&'static str, Self)] = &[("none", Self::None), ("rabbitmq", Self::Rabbitmq)];
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
}

impl BrokerSettings {
    pub(super) fn validate(&self) -> Result<(), Problem> {
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

    pub(super) fn write(&self, out: &mut TomlText) {
        out.section("broker");
        out.text("kind", self.kind.name());
        out.secret("uri", self.uri.as_ref());
    }
}
