//! Logs and traces: what a node tells its operator, beside its metrics.
//!
//! Both come from `tracing`: its events are the log, and its spans are the traces, which go to an
//! OTLP endpoint if there is one. The other layers name `tracing` alone; what only OpenTelemetry
//! has is in `trace`.

mod json_lines;
mod log_queue;
pub(crate) mod logs;
mod otlp;
pub(crate) mod trace;

use anyhow::Context as _;
use tracing_subscriber::{layer::SubscriberExt as _, registry, util::SubscriberInitExt as _};

use self::{log_queue::LogGuard, logs::log_layer, otlp::TracePipeline, trace::trace_layer};
pub use self::{logs::dropped_log_lines, otlp::span_counts};
use crate::config::TelemetrySettings;

/// Logs and traces of this process. Shut it down before the process ends.
pub struct Telemetry {
    traces: Option<TracePipeline>,
    /// Writes what is left when it is dropped.
    _log_guard: LogGuard,
}

impl Telemetry {
    /// Starts to log to standard error, and to send traces if there is an endpoint. A second call
    /// has no effect on the process.
    ///
    /// # Errors
    /// The endpoint cannot be used, whether it answers or not, or a thread cannot be started.
    pub fn start(settings: &TelemetrySettings) -> anyhow::Result<Self> {
        let (log_layer, log_guard) = log_layer(settings).context("failed to start the log")?;
        let traces = TracePipeline::start(settings).context("telemetry.otlp_endpoint")?;
        let subscriber = registry().with(log_layer);
        // This fails only when telemetry is set up already, as in tests that start several nodes.
        let _ = match &traces {
            // Without traces, there is no layer for them: then a span costs one comparison.
            None => subscriber.try_init(),
            Some(traces) => subscriber.with(trace_layer(traces.tracer())).try_init(),
        };
        if traces.is_some() {
            trace::start_sampling(settings.sample_ratio);
        }
        Ok(Self { traces, _log_guard: log_guard })
    }

    /// Sends the spans that are left, for at most two seconds, and writes the log to its end.
    pub fn shut_down(self) {
        if let Some(traces) = self.traces {
            traces.shut_down();
        }
    }
}
