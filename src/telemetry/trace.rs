//! Spans: where a trace begins at this node, and how it crosses to others.
//!
//! A trace is recorded or not as a whole, which is decided where it begins: at a request, or at a
//! message of another system. If it is not recorded, it has no spans at all: every other span
//! exists only inside of another one. So a request that is not recorded costs next to nothing, and
//! code below the edges uses the macros of `tracing` without a thought for it. It must only take
//! the span along to where its work goes on: messages, queues and jobs hold a [`Span`].

use std::sync::OnceLock;

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::SdkTracer;
use tracing::{
    Level, Metadata, Span, Subscriber, level_filters::LevelFilter, subscriber::Interest,
};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    Layer,
    layer::{Context as LayerContext, Filter},
    registry::LookupSpan,
};

use crate::messages::trace_parent::TraceParent;

/// The target of spans that may be the first of their trace at this node; see [`root_span`].
pub(crate) const ROOT_TARGET: &str = "souk::trace";

/// The part of new traces that is recorded. Unset without an OTLP endpoint.
static SAMPLE_RATIO: OnceLock<f64> = OnceLock::new();

/// Begins to record traces, this part of the new ones.
pub(super) fn start_sampling(ratio: f64) {
    // Set before only in tests that start several nodes.
    let _ = SAMPLE_RATIO.set(ratio);
}

/// Whether a trace is recorded: as its caller says, or, without one, by `telemetry.sample_ratio`.
pub(crate) fn is_sampled(parent: Option<&TraceParent>) -> bool {
    let Some(ratio) = SAMPLE_RATIO.get() else { return false };
    parent.map_or_else(|| rand::random::<f64>() < *ratio, TraceParent::is_sampled)
}

/// Creates the first span of a trace at this node, as a child of the caller's if there is one. The
/// span is disabled if the trace is not recorded.
///
/// The parent is an `Option<&TraceParent>`; the rest is like that of `tracing::info_span!`.
macro_rules! root_span {
    ($parent:expr, $($span:tt)*) => {{
        let parent = $parent;
        if $crate::telemetry::trace::is_sampled(parent) {
            let span = tracing::info_span!(
                target: $crate::telemetry::trace::ROOT_TARGET, parent: None, $($span)*
            );
            if let Some(parent) = parent {
                $crate::telemetry::trace::set_remote_parent(&span, parent);
            }
            span
        } else {
            tracing::Span::none()
        }
    }};
}

pub(crate) use root_span;

/// Makes `span`, which nothing has entered yet, a child of a span of another process.
pub(crate) fn set_remote_parent(span: &Span, parent: &TraceParent) {
    let (Ok(trace_id), Ok(span_id)) =
        (TraceId::from_hex(parent.trace_id()), SpanId::from_hex(parent.span_id()))
    else {
        return;
    };
    let flags = TraceFlags::default().with_sampled(parent.is_sampled());
    let caller = SpanContext::new(trace_id, span_id, flags, true, TraceState::default());
    // It fails for a span that has begun, and there is none.
    let _ = span.set_parent(Context::new().with_remote_span_context(caller));
}

/// The `traceparent` for what `span` causes elsewhere. `None` if it is not recorded.
pub(crate) fn trace_parent_of(span: &Span) -> Option<TraceParent> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    let flags = own.trace_flags().to_u8();
    TraceParent::parse(&format!("00-{}-{}-{flags:02x}", own.trace_id(), own.span_id()))
}

/// Renames a recorded span. To record `otel.name` has no effect once the span has children.
pub(crate) fn rename(span: &Span, name: String) {
    if !span.is_disabled() {
        span.context().span().update_name(name);
    }
}

/// The layer that turns spans into those of OpenTelemetry.
pub(super) fn trace_layer<S>(tracer: SdkTracer) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_context_activation(false)
        .with_location(false)
        .with_target(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_filter(InTrace)
}

/// Admits this crate's spans and log lines inside of a recorded trace.
struct InTrace;

impl InTrace {
    fn may_be_in_trace(metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
            && (metadata.target() == "souk" || metadata.target().starts_with("souk::"))
    }

    fn is_root(metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target() == ROOT_TARGET
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Filter<S> for InTrace {
    fn enabled(&self, metadata: &Metadata<'_>, context: &LayerContext<'_, S>) -> bool {
        Self::may_be_in_trace(metadata)
            && (Self::is_root(metadata) || context.lookup_current().is_some())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match () {
            () if !Self::may_be_in_trace(metadata) => Interest::never(),
            () if Self::is_root(metadata) => Interest::always(),
            () => Interest::sometimes(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }
}
