//! `[webhooks]`: how events are delivered to other systems by HTTPS.
use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::error::{InvalidSetting, MAX_PERIOD, check_duration};
use super::toml_writer::{TomlWriter, format_duration};
use super::values;

/// Nobody wants to wait longer for an answer.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// How events are delivered to other systems by HTTPS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// The longest time that one attempt may take.
    #[serde(deserialize_with = "values::duration")]
    pub timeout: Duration,
    /// The waits between attempts to deliver an event.
    #[serde(deserialize_with = "values::durations")]
    pub retry_schedule: Vec<Duration>,
    /// How long a secret that was replaced signs beside the new one.
    #[serde(deserialize_with = "values::duration")]
    pub rotation_overlap: Duration,
    /// An endpoint at which every attempt has failed for this long is paused.
    #[serde(deserialize_with = "values::duration")]
    pub pause_after: Duration,
    /// Whether endpoints may have addresses that are not public, and `http`.
    #[serde(deserialize_with = "values::boolean")]
    pub allow_private: bool,
    /// PEM file of authorities that may sign certificates, besides those of the operating system.
    #[serde(default, deserialize_with = "values::optional_path")]
    pub ca_file: Option<PathBuf>,
}

impl WebhookSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        check_duration("webhooks.timeout", self.timeout, MAX_TIMEOUT)?;
        check_duration("webhooks.pause_after", self.pause_after, MAX_PERIOD)?;
        let longest = self.retry_schedule.iter().copied().max().unwrap_or_default();
        for (key, wait) in [
            ("webhooks.retry_schedule", longest),
            ("webhooks.rotation_overlap", self.rotation_overlap),
        ] {
            if wait > MAX_PERIOD {
                let (wait, most) = (format_duration(wait), format_duration(MAX_PERIOD));
                let text = format!("{wait} is out of range; use at most {most}");
                return Err(InvalidSetting::new(key, text));
            }
        }
        Ok(())
    }

    /// Warns if a member of staff can make the shop send requests into its own network.
    pub(super) fn private_warning(&self) -> Option<String> {
        self.allow_private.then(|| {
            "webhooks.allow_private: whoever may change webhooks can send requests to every \
             address that this machine reaches; use it only for tests and in closed networks"
                .to_owned()
        })
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("webhooks");
        out.write_duration("timeout", self.timeout);
        let waits: Vec<String> = self.retry_schedule.iter().copied().map(format_duration).collect();
        out.write_list("retry_schedule", &waits);
        out.write_duration("rotation_overlap", self.rotation_overlap);
        out.write_duration("pause_after", self.pause_after);
        out.write_literal("allow_private", self.allow_private);
        let ca_file = self.ca_file.as_ref().map(|path| path.to_string_lossy());
        out.write_optional("ca_file", ca_file.as_deref());
    }
}
