//! An OTLP receiver that keeps the spans it is sent.

use std::{net::SocketAddr, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::{Request, Response, Status, transport::Server, transport::server::TcpIncoming};

use super::support::{TestApp, unique_number};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running receiver.
pub(crate) struct Collector {
    address: SocketAddr,
    spans: watch::Sender<Vec<ReceivedSpan>>,
}

/// A span, and the process that sent it.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedSpan {
    pub(crate) instance: String,
    pub(crate) span: Span,
}

/// How spans are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    Http,
}

impl Collector {
    /// Starts a receiver on a free port.
    pub(crate) async fn start(protocol: Protocol) -> Self {
        Self::start_at(protocol, "127.0.0.1:0").await
    }

    pub(crate) async fn start_at(protocol: Protocol, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let spans = watch::Sender::new(Vec::new());
        let receiver = Receiver(spans.clone());
        match protocol {
            Protocol::Grpc => {
                let incoming = TcpIncoming::from(listener);
                let service = TraceServiceServer::new(receiver);
                tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
            }
            Protocol::Http => {
                tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        let receiver = Receiver(receiver.0.clone());
                        tokio::spawn(async move { receiver.serve_http(stream).await });
                    }
                });
            }
        }
        Self { address, spans }
    }

    /// The value of `telemetry.otlp_endpoint`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans received so far.
    pub(crate) fn spans(&self) -> Vec<ReceivedSpan> {
        self.spans.borrow().clone()
    }

    /// Waits until `find` finds something in what was received.
    pub(crate) async fn wait_for<T>(
        &self,
        what: &str,
        find: impl Fn(&[ReceivedSpan]) -> Option<T>,
    ) -> T {
        let mut spans = self.spans.subscribe();
        let found = spans.wait_for(|spans| find(spans).is_some());
        let timed_out = tokio::time::timeout(TIMEOUT, found).await.is_err();
        let spans = self.spans.borrow();
        assert!(!timed_out, "{what} does not arrive, but only: {}", list(&spans));
        find(&spans).unwrap()
    }

    /// Waits until everything that `node` has recorded before is here: spans are sent in the order
    /// in which they end.
    pub(crate) async fn settle(&self, node: &TestApp) {
        let id = format!("settle-{}", unique_number());
        let call = node.get("/api/products").header("x-request-id", &id);
        call.header("traceparent", "00-5e77135e77135e77135e77135e771350-5e77135e77135e77-01")
            .await
            .ok();
        let is_last =
            |received: &ReceivedSpan| received.attribute("request.id").as_deref() == Some(&*id);
        self.wait_for("the last span", |spans| spans.iter().any(is_last).then_some(())).await;
    }

    /// Waits for the span with this name below `parent`, a span id.
    pub(crate) async fn child(&self, parent: &[u8], name: &str) -> ReceivedSpan {
        let is_child = |received: &&ReceivedSpan| {
            received.span.name == name && received.span.parent_span_id == parent
        };
        self.wait_for(name, |spans| spans.iter().find(is_child).cloned()).await
    }
}

impl ReceivedSpan {
    pub(crate) fn id(&self) -> &[u8] {
        &self.span.span_id
    }

    /// The `traceparent` that names this span.
    pub(crate) fn trace_parent(&self) -> String {
        format!("00-{}-{}-01", hex(&self.span.trace_id), hex(&self.span.span_id))
    }

    pub(crate) fn links_to(&self, other: &Self) -> bool {
        self.span.links.iter().any(|link| link.span_id == other.span.span_id)
    }

    /// An attribute as text.
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        attribute(&self.span.attributes, key)
    }
}

struct Receiver(watch::Sender<Vec<ReceivedSpan>>);

impl Receiver {
    fn receive(&self, request: ExportTraceServiceRequest) {
        let spans = request.resource_spans.into_iter().flat_map(|resource_spans| {
            let resource = resource_spans.resource.unwrap_or_default();
            assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("souk"));
            let instance = attribute(&resource.attributes, "service.instance.id").unwrap();
            resource_spans
                .scope_spans
                .into_iter()
                .flat_map(|scope_spans| scope_spans.spans)
                .map(move |span| ReceivedSpan { instance: instance.clone(), span })
        });
        let spans: Vec<_> = spans.collect();
        self.0.send_modify(|received| received.extend(spans));
    }

    /// Reads requests with a length and answers each with 200.
    async fn serve_http(&self, mut stream: TcpStream) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let head_end = loop {
                if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at + 4;
                }
                (stream.read_buf(&mut buffer).await.ok()? > 0).then_some(())?;
            };
            let head = String::from_utf8(buffer.drain(..head_end).collect()).unwrap();
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            let head = head.to_lowercase();
            assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
            let length = head.split_once("content-length: ").unwrap().1.split_once("\r\n").unwrap();
            let length: usize = length.0.parse().unwrap();
            while buffer.len() < length {
                (stream.read_buf(&mut buffer).await.ok()? > 0).then_some(())?;
            }
            let body: Vec<u8> = buffer.drain(..length).collect();
            self.receive(ExportTraceServiceRequest::decode(&*body).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
        }
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.receive(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(value) => Some(value.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One line for each span.
fn list(spans: &[ReceivedSpan]) -> String {
    let line = |received: &ReceivedSpan| {
        let Span { name, span_id, parent_span_id, trace_id, .. } = &received.span;
        format!("\n{name}: {} below {} in {}", hex(span_id), hex(parent_span_id), hex(trace_id))
    };
    spans.iter().map(line).collect()
}
