//! Logging: the output and the format.

use std::io::{IsTerminal as _, stderr};

use tracing_subscriber::{
    EnvFilter, Layer as _, fmt, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _,
};

use crate::config::{LogFormat, TelemetrySettings};

/// lapin logs several lines for each lost connection; `broker` logs one.
const DEFAULT_FILTER: &str = "lapin=off,info";

/// The framework logs an error for every malformed request head, which any client can send by the
/// thousand; `http::server` counts them and logs a few. Off unless the filter names the framework.
const QUIET_FRAMEWORK: &str = "actix_http::h1::dispatcher=off";

/// Starts logging to standard error. A second call has no effect.
pub fn init_logging(settings: &TelemetrySettings) {
    let terminal = stderr().is_terminal();
    let layer = fmt::layer().with_writer(stderr);
    let layer = match log_format(settings, terminal) {
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Pretty if terminal => layer.boxed(),
        LogFormat::Pretty => layer.with_ansi(false).boxed(),
    };
    // This fails only when logging is set up already, as in tests that start several nodes.
    let _ = registry().with(layer).with(log_filter(settings)).try_init();
}

fn log_format(settings: &TelemetrySettings, terminal: bool) -> LogFormat {
    settings.log.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json })
}

/// The loader rejects invalid filters, so the fallback is for settings that are built in code.
fn log_filter(settings: &TelemetrySettings) -> EnvFilter {
    let directives = settings.filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    match QUIET_FRAMEWORK.parse() {
        Ok(quiet) if !directives.contains("actix_http") => filter.add_directive(quiet),
        _ => filter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(log: Option<LogFormat>, filter: Option<&str>) -> TelemetrySettings {
        TelemetrySettings { log, otlp_endpoint: None, filter: filter.map(str::to_owned) }
    }

    #[test]
    fn the_format_follows_the_terminal_unless_set() {
        assert_eq!(log_format(&settings(None, None), true), LogFormat::Pretty);
        assert_eq!(log_format(&settings(None, None), false), LogFormat::Json);
        assert_eq!(log_format(&settings(Some(LogFormat::Json), None), true), LogFormat::Json);
        assert_eq!(log_format(&settings(Some(LogFormat::Pretty), None), false), LogFormat::Pretty);
    }

    fn filter(text: Option<&str>) -> String {
        log_filter(&settings(None, text)).to_string()
    }

    #[test]
    fn the_level_is_info_unless_set() {
        assert_eq!(filter(None), format!("{QUIET_FRAMEWORK},lapin=off,info"));
        assert_eq!(filter(Some("souk=debug,warn")), format!("{QUIET_FRAMEWORK},souk=debug,warn"));
        assert_eq!(filter(Some("souk=loud")), filter(None));
        assert_eq!(filter(Some("actix_http=debug")), "actix_http=debug", "it was asked for");
    }

    #[test]
    fn second_init_is_a_no_op() {
        init_logging(&settings(None, None));
        init_logging(&settings(Some(LogFormat::Json), Some("debug")));
    }
}
