//! `[telemetry]`: logs and traces.
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::error::InvalidSetting;
use super::text::TomlWriter;
use super::values::{self, EnumSetting};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl EnumSetting for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[("pretty", Self::Pretty), ("json", Self::Json)];
}

/// Logs and traces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// How log lines look; unset: pretty on a terminal, else JSON.
    #[serde(default, deserialize_with = "values::optional_enum_value")]
    pub log: Option<LogFormat>,
    /// Where traces are sent, by OTLP; off when unset.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub otlp_endpoint: Option<String>,
    /// Levels of the logs, from `RUST_LOG`; unset: `info`. Not a key of the settings.
    #[serde(skip)]
    pub filter: Option<String>,
}

impl TelemetrySettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        if let Some(endpoint) = &self.otlp_endpoint
            && !endpoint.starts_with("http://")
            && !endpoint.starts_with("https://")
        {
            let text = format!("{endpoint:?} is not a URL; use one such as http://localhost:4317");
            return Err(InvalidSetting::new("telemetry.otlp_endpoint", text));
        }
        if let Some(filter) = &self.filter
            && EnvFilter::try_new(filter).is_err()
        {
            let text =
                format!("{filter:?} is not a log filter; use one such as info or souk=debug,info");
            return Err(InvalidSetting::new("RUST_LOG", text));
        }
        Ok(())
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("telemetry");
        out.write_optional("log", self.log.map(EnumSetting::name));
        out.write_optional("otlp_endpoint", self.otlp_endpoint.as_deref());
    }
}
