//! `[telemetry]`: logs and traces.
use serde::Deserialize;
use tracing_subscriber::EnvFilter;

use super::error::InvalidSetting;
use super::toml_writer::TomlWriter;
use super::values::{self, EnumSetting};

/// The formats of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Readable lines, for terminals.
    Pretty,
    /// One JSON object per line.
    Json,
}

impl EnumSetting for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[("pretty", Self::Pretty), ("json", Self::Json)];
}

/// Logs and traces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The format of log lines. If unset: pretty on a terminal, otherwise JSON.
    #[serde(default, deserialize_with = "values::optional_enum_value")]
    pub log: Option<LogFormat>,
    /// OTLP endpoint for traces; disabled if unset.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub otlp_endpoint: Option<String>,
    /// The log filter from `RUST_LOG`; `info` if unset. Not a key of the settings.
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
