//! Traces of one node: what is recorded, how it is sent, and what an endpoint that is away costs.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    collector::{Collector, Protocol, ReceivedSpan, hex},
    support::TestApp,
};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A `traceparent` with these flags.
fn caller(flags: &str) -> String {
    format!("00-{TRACE_ID}-00f067aa0ba902b7-{flags}")
}

async fn traced_app(collector: &Collector, settings: &[(&str, &str)]) -> TestApp {
    let endpoint = collector.endpoint();
    let usual = [("telemetry.otlp_endpoint", &*endpoint)];
    TestApp::with_settings(&[&usual, settings].concat()).await
}

fn is_in_trace(received: &ReceivedSpan) -> bool {
    hex(&received.span.trace_id) == TRACE_ID
}

#[tokio::test]
async fn http_protobuf_sends_the_same_tree() {
    let collector = Collector::start(Protocol::Http).await;
    let mut app = traced_app(&collector, &[("telemetry.otlp_protocol", "http/protobuf")]).await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    let tea = app.new_product(&admin, &json!(4.5), 9).await;
    app.add_to_cart(&ada, &tea, 2).header("traceparent", caller("01")).await.ok();
    let request = collector
        .wait_for("the request", |spans| {
            let is_request = |received: &&ReceivedSpan| {
                is_in_trace(received) && received.span.name == "POST /api/cart/add"
            };
            spans.iter().find(is_request).cloned()
        })
        .await;
    let message = collector.child(request.id(), "ChangeCart").await;
    let commit = collector.child(message.id(), "commit").await;
    let batch = collector.child(commit.id(), "batch").await;
    let transaction = collector.child(batch.id(), "transaction").await;
    assert_eq!(transaction.attribute("db.system.name").as_deref(), Some("sqlite"));
    app.stop().await;
}

#[tokio::test]
async fn callers_decide_and_the_ratio_decides_for_others() {
    let collector = Collector::start(Protocol::Grpc).await;
    let mut app = traced_app(&collector, &[("telemetry.sample_ratio", "0.5")]).await;
    let ada = app.customer().await;
    let mut feed = app.open_feed(Some(&ada), None).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 9).await;
    collector.settle(&app).await;
    let before = collector.spans().len();
    // A trace that its caller does not record has no spans, but it reaches the event.
    app.add_to_cart(&ada, &tea, 1).header("traceparent", caller("00")).await.ok();
    let event = feed.read_until(|event| event.kind == "cart.item.added").await;
    assert_eq!(event.last().unwrap().body["traceparent"], caller("00"));
    // What is no traceparent begins a new trace, or none.
    app.get("/api/cart").token(&ada).header("traceparent", "what").await.ok();
    for _ in 0..200 {
        app.get("/api/products").await.ok();
    }
    collector.settle(&app).await;
    let spans = collector.spans().split_off(before);
    assert!(!spans.iter().any(is_in_trace), "{spans:?}");
    let lists = spans.iter().filter(|received| {
        received.span.name == "GET /api/products" && received.span.parent_span_id.is_empty()
    });
    // A fair coin is outside of this once in 10^11 runs.
    let recorded = lists.count();
    assert!((52..=148).contains(&recorded), "{recorded} of 200");
    drop(feed);
    app.stop().await;
}

#[tokio::test]
async fn server_errors_and_routes_are_named() {
    let collector = Collector::start(Protocol::Grpc).await;
    let mut app = traced_app(&collector, &[]).await;
    let ada = app.customer().await;
    app.get("/nowhere").header("traceparent", caller("01")).await.problem(404, "not_found");
    let span = collector
        .wait_for("the request", |spans| spans.iter().find(|span| is_in_trace(span)).cloned())
        .await;
    assert_eq!(span.span.name, "GET unmatched");
    assert_eq!(span.attribute("http.response.status_code").as_deref(), Some("404"));
    assert_eq!(span.span.status.as_ref().map_or(0, |status| status.code), 0, "no server error");
    app.get("/api/cart").token(&ada).await.ok();
    let span = collector
        .wait_for("the request", |spans| {
            spans.iter().find(|received| received.span.name == "GET /api/cart").cloned()
        })
        .await;
    assert_eq!(span.attribute("user.id").as_deref(), Some(&*ada.id));
    assert_eq!(span.span.kind, 2, "a server's span");
    app.stop().await;
}

/// The lines of the log about the endpoint.
fn lines_about_spans(app: &TestApp) -> usize {
    app.log().lines().filter(|line| line.contains("spans")).count()
}

#[tokio::test]
async fn an_endpoint_that_is_away_costs_nothing_but_spans() {
    for (protocol, name) in [(Protocol::Grpc, "grpc"), (Protocol::Http, "http/protobuf")] {
        // Nobody listens at this port, until later.
        let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = reserved.local_addr().unwrap().to_string();
        drop(reserved);
        let endpoint = format!("http://{address}");
        let settings = [("telemetry.otlp_endpoint", &*endpoint), ("telemetry.otlp_protocol", name)];
        let mut app = TestApp::with_settings(&settings).await;
        app.get("/api/products").await.ok();
        app.wait_for_log("failed to send spans").await;
        let failed = "souk_trace_spans_total{outcome=\"failed\"}";
        let before = app.metric(failed).await;
        while app.metric(failed).await < before + 100.0 {
            app.get("/api/products").await.ok();
        }
        assert_eq!(lines_about_spans(&app), 1, "{}", app.log());
        let collector = Collector::start_at(protocol, &address).await;
        app.wait_for_log("the OTLP endpoint accepts spans again").await;
        collector.wait_for("a span", |spans| (!spans.is_empty()).then_some(())).await;
        app.stop().await;
    }
}

#[tokio::test]
async fn an_endpoint_that_never_answers_holds_nothing_up() {
    for name in ["grpc", "http/protobuf"] {
        // Connections are accepted by the kernel, and nobody reads from them.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let settings = [("telemetry.otlp_endpoint", &*endpoint), ("telemetry.otlp_protocol", name)];
        let mut app = TestApp::with_settings(&settings).await;
        // More spans than the queue holds.
        while app.metric("souk_trace_spans_total{outcome=\"dropped\"}").await == 0.0 {
            let calls = (0..250).map(|_| async { app.get("/api/products").await.ok() });
            futures_util::future::join_all(calls).await;
        }
        let stopping = Instant::now();
        app.stop().await;
        assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
    }
}
