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

/// Which requests have a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLog {
    /// Every request.
    All,
    /// Requests that fail with a 5xx status.
    Failed,
    /// None.
    Off,
}

impl EnumSetting for RequestLog {
    const ALL: &'static [(&'static str, Self)] =
        &[("all", Self::All), ("failed", Self::Failed), ("off", Self::Off)];
}

/// How traces are sent to the OTLP endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// Over gRPC, usually to port 4317.
    Grpc,
    /// As protobuf in HTTP requests, usually to port 4318.
    HttpProtobuf,
}

impl EnumSetting for OtlpProtocol {
    const ALL: &'static [(&'static str, Self)] =
        &[("grpc", Self::Grpc), ("http/protobuf", Self::HttpProtobuf)];
}

/// Logs and traces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySettings {
    /// The format of log lines. If unset: pretty on a terminal, otherwise JSON.
    #[serde(default, deserialize_with = "values::optional_enum_value")]
    pub log: Option<LogFormat>,
    /// Which requests have a line in the log.
    #[serde(deserialize_with = "values::enum_value")]
    pub requests: RequestLog,
    /// OTLP endpoint for traces; disabled if unset.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub otlp_endpoint: Option<String>,
    /// How traces are sent there.
    #[serde(deserialize_with = "values::enum_value")]
    pub otlp_protocol: OtlpProtocol,
    /// The part of the traces that is recorded, 0 to 1. A caller that sends a `traceparent` decides
    /// itself.
    #[serde(deserialize_with = "values::fraction")]
    pub sample_ratio: f64,
    /// The log filter from `RUST_LOG`; `info` if unset. Not a key of the settings.
    #[serde(skip)]
    pub filter: Option<String>,
}

impl TelemetrySettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        if let Some(endpoint) = &self.otlp_endpoint
            && !is_http_url(endpoint)
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
        out.write_string("requests", self.requests.name());
        out.write_optional("otlp_endpoint", self.otlp_endpoint.as_deref());
        out.write_string("otlp_protocol", self.otlp_protocol.name());
        out.write_literal("sample_ratio", self.sample_ratio);
    }
}

fn is_http_url(text: &str) -> bool {
    url::Url::parse(text)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
