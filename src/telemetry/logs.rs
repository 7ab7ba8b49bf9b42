//! The log: one line for each event, on standard error, by way of the [`LogQueue`].

use std::{
    io::{self, IsTerminal as _, stderr},
    sync::OnceLock,
    time::Duration,
};

use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt as _, filter_fn},
    fmt,
    registry::LookupSpan,
};

use super::{
    json_lines::JsonLines,
    log_queue::{LogGuard, LogQueue},
};
use crate::config::{LogFormat, RequestLog, TelemetrySettings};

/// lapin logs several lines for each lost connection; `broker` logs one.
const DEFAULT_FILTER: &str = "lapin=off,info";

/// Targets that are off unless the filter names them.
///
/// The framework logs an error for every malformed request head, which any client can send by the
/// thousand; `http::server` counts them and logs a few. OpenTelemetry logs each export that fails;
/// `telemetry::otlp` logs the first.
const QUIET_TARGETS: [(&str, &str); 2] =
    [("actix_http", "actix_http::h1::dispatcher=off"), ("opentelemetry", "opentelemetry=off")];

/// The queue of this process, which counts the lines that it drops.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

/// Which requests have a line.
static LOGGED_REQUESTS: OnceLock<RequestLog> = OnceLock::new();

/// How many lines of the log were dropped, since they came faster than they were written.
#[must_use]
pub fn dropped_log_lines() -> u64 {
    QUEUE.get().map_or(0, LogQueue::dropped)
}

/// Whether a request with this status has a line in the log.
pub(crate) fn logs_request(status: u16) -> bool {
    match LOGGED_REQUESTS.get() {
        None | Some(RequestLog::All) => true,
        Some(RequestLog::Failed) => status >= 500,
        Some(RequestLog::Off) => false,
    }
}

/// A duration in milliseconds as lines have it: to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The layer that logs. The guard writes what is left when it is dropped.
///
/// # Errors
/// The thread that writes cannot be started.
pub(super) fn log_layer<S>(
    settings: &TelemetrySettings,
) -> io::Result<(impl Layer<S> + Send + Sync + use<S>, LogGuard)>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let terminal = stderr().is_terminal();
    let (queue, guard) = LogQueue::start(stderr())?;
    let _ = QUEUE.set(queue.clone());
    let _ = LOGGED_REQUESTS.set(settings.requests);
    let layer = fmt::layer().with_writer(queue);
    let layer = match log_format(settings, terminal) {
        LogFormat::Json => layer.event_format(JsonLines).boxed(),
        LogFormat::Pretty => layer.with_ansi(terminal).boxed(),
    };
    // Spans are for traces. A line that needs the id of its request has it as a field.
    let events_only = filter_fn(|metadata| metadata.is_event());
    Ok((layer.with_filter(log_filter(settings).and(events_only)), guard))
}

fn log_format(settings: &TelemetrySettings, terminal: bool) -> LogFormat {
    settings.log.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json })
}

/// The loader rejects invalid filters, so the fallback is for settings that are built in code.
fn log_filter(settings: &TelemetrySettings) -> EnvFilter {
    let directives = settings.filter.as_deref().unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    QUIET_TARGETS.into_iter().filter(|(name, _)| !directives.contains(name)).fold(
        filter,
        |filter, (_, directive)| match directive.parse() {
            Ok(directive) => filter.add_directive(directive),
            Err(_) => filter,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OtlpProtocol;

    fn settings(log: Option<LogFormat>, filter: Option<&str>) -> TelemetrySettings {
        TelemetrySettings {
            log,
            requests: RequestLog::All,
            otlp_endpoint: None,
            otlp_protocol: OtlpProtocol::Grpc,
            sample_ratio: 1.0,
            filter: filter.map(str::to_owned),
        }
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
        let quiet = "actix_http::h1::dispatcher=off,opentelemetry=off";
        assert_eq!(filter(None), format!("{quiet},lapin=off,info"));
        assert_eq!(filter(Some("souk=debug,warn")), format!("{quiet},souk=debug,warn"));
        assert_eq!(filter(Some("souk=loud")), filter(None));
        let asked = filter(Some("actix_http=debug"));
        assert_eq!(asked, "opentelemetry=off,actix_http=debug", "it was asked for");
    }

    #[test]
    fn second_start_is_a_no_op() {
        let start = |settings| crate::telemetry::Telemetry::start(&settings).unwrap().shut_down();
        start(settings(None, None));
        start(settings(Some(LogFormat::Json), Some("debug")));
    }
}
