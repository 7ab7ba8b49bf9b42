//! The way of spans to the OTLP endpoint.
//!
//! Spans wait in a bounded queue, and a thread of their own sends them, on a runtime of its own.
//! What the queue cannot hold is dropped, so an endpoint that is away or slow holds nothing up.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use opentelemetry::{Context, KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData,
        SpanExporter as ExportSpans, SpanProcessor,
    },
};
use tokio::runtime::{Builder, Handle, Runtime};
use url::Url;

use crate::config::{OtlpProtocol, TelemetrySettings};

/// Spans that can wait to be sent. More are dropped. One takes about 1 KiB.
const MAX_QUEUED_SPANS: usize = 8192;

/// The most spans in one request.
const MAX_SPANS_PER_EXPORT: usize = 512;

/// The longest time that a span waits for others before it is sent.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How long the endpoint may take to accept spans.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a process that ends tries to send the spans that are left.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// The path that an endpoint for HTTP has for traces (OTLP 1.0).
const TRACES_PATH: &str = "v1/traces";

static EXPORTED: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many spans of this process the endpoint has taken, has not taken, and never saw since they
/// came too fast.
#[must_use]
pub fn span_counts() -> [(&'static str, u64); 3] {
    [("exported", &EXPORTED), ("failed", &FAILED), ("dropped", &DROPPED)]
        .map(|(outcome, count)| (outcome, count.load(Ordering::Relaxed)))
}

/// Sends the spans of this process.
pub(super) struct TracePipeline {
    provider: SdkTracerProvider,
    runtime: Runtime,
}

impl TracePipeline {
    /// Starts if there is an endpoint. It need not answer.
    pub(super) fn start(settings: &TelemetrySettings) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("souk-otlp")
            .enable_all()
            .build()
            .context("failed to start a thread")?;
        let exporter = {
            // The connections belong to the runtime.
            let _runtime = runtime.enter();
            build_exporter(endpoint, settings.otlp_protocol)?
        };
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = CountedExporter {
            exporter: Arc::new(exporter),
            runtime: runtime.handle().clone(),
            waiting: Arc::clone(&waiting),
            is_failing: AtomicBool::new(false),
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_QUEUED_SPANS)
            .with_max_export_batch_size(MAX_SPANS_PER_EXPORT)
            .with_scheduled_delay(EXPORT_INTERVAL)
            .build();
        let queue = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(CountedQueue { queue, waiting })
            .with_resource(resource())
            .build();
        Ok(Some(Self { provider, runtime }))
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer("souk")
    }

    /// Sends what waits, for a limited time.
    pub(super) fn shut_down(self) {
        // An endpoint that is away has its line in the log already.
        drop(self.provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
        self.runtime.shutdown_background();
    }
}

fn resource() -> Resource {
    let instance = format!("{:032x}", rand::random::<u128>());
    Resource::builder()
        .with_service_name("souk")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .build()
}

fn build_exporter(endpoint: &str, protocol: OtlpProtocol) -> anyhow::Result<SpanExporter> {
    let exporter = match protocol {
        OtlpProtocol::Grpc => {
            let exporter = SpanExporter::builder().with_tonic();
            let exporter = if endpoint.starts_with("https") {
                exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots())
            } else {
                exporter
            };
            exporter.with_endpoint(endpoint).with_timeout(EXPORT_TIMEOUT).build()
        }
        OtlpProtocol::HttpProtobuf => SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(traces_url(endpoint)?)
            .with_timeout(EXPORT_TIMEOUT)
            .build(),
    };
    exporter.context("the exporter cannot be built")
}

/// The URL for traces: an endpoint without a path gets the usual one.
fn traces_url(endpoint: &str) -> anyhow::Result<String> {
    let url = Url::parse(endpoint)?;
    Ok(if url.path() == "/" { url.join(TRACES_PATH)?.into() } else { url.into() })
}

/// A queue that counts what it drops.
#[derive(Debug)]
struct CountedQueue {
    queue: BatchSpanProcessor,
    /// The spans that are not sent yet.
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for CountedQueue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.queue.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_QUEUED_SPANS {
            self.queue.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// An exporter that counts what it sends, and logs when the endpoint fails and recovers.
struct CountedExporter {
    exporter: Arc<SpanExporter>,
    runtime: Handle,
    waiting: Arc<AtomicUsize>,
    /// The log has the line that the endpoint fails.
    is_failing: AtomicBool,
}

impl fmt::Debug for CountedExporter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CountedExporter").finish_non_exhaustive()
    }
}

impl ExportSpans for CountedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let exporter = Arc::clone(&self.exporter);
        // The connection and the timer belong to the runtime, and this thread to the queue.
        let sent = self.runtime.spawn(async move {
            tokio::time::timeout(EXPORT_TIMEOUT, exporter.export(batch)).await
        });
        let result = match sent.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(OTelSdkError::Timeout(EXPORT_TIMEOUT)),
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        };
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        self.record(&result, count);
        result
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Nothing is sent yet, so this is the only reference.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

impl CountedExporter {
    fn record(&self, result: &OTelSdkResult, count: usize) {
        let outcome = if result.is_ok() { &EXPORTED } else { &FAILED };
        outcome.fetch_add(count as u64, Ordering::Relaxed);
        match (result, self.is_failing.swap(result.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(%error, "failed to send spans; they are lost until it succeeds");
            }
            (Ok(()), true) => tracing::info!("the OTLP endpoint accepts spans again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_endpoint_without_a_path_gets_the_usual_one() {
        for (endpoint, url) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("https://otlp.example/api/v1/traces", "https://otlp.example/api/v1/traces"),
        ] {
            assert_eq!(traces_url(endpoint).unwrap(), url);
        }
    }
}
