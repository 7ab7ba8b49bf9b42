//! The gRPC services, called by grpcio: the scripts are in `tests/grpc`.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::{
    collector::{Collector, Protocol},
    support::{
        TestApp,
        grpc::{GRPC, GrpcClient},
        tokens::{SECRET, claims, signed},
    },
};

#[tokio::test]
async fn every_method_answers_what_http_answers() {
    let Some(client) = GrpcClient::find("the methods of gRPC") else { return };
    let mut app = TestApp::with_settings(&[GRPC]).await;
    client.run(&mut app, "methods.py", &[]).await;
}

#[tokio::test]
async fn every_error_has_its_status_and_its_code() {
    let Some(client) = GrpcClient::find("the errors of gRPC") else { return };
    let mut app = TestApp::with_settings(&[GRPC, ("auth.jwt_secret", SECRET)]).await;
    let mut expired = claims();
    expired["exp"] = json!(1_000_000_000);
    let expired = signed(Algorithm::HS256, &expired, SECRET);
    client.run(&mut app, "errors.py", &[("EXPIRED", &expired)]).await;
}

#[tokio::test]
async fn private_catalog_needs_a_token_as_long_as_it_is_read() {
    let Some(client) = GrpcClient::find("the private catalog of gRPC") else { return };
    let mut app = TestApp::with_settings(&[GRPC, ("catalog.public_read", "false")]).await;
    client.run(&mut app, "private_catalog.py", &[]).await;
}

#[tokio::test]
async fn stream_of_100_000_products_takes_little_memory() {
    let Some(client) = GrpcClient::find("the streams of gRPC") else { return };
    let mut app = TestApp::with_settings(&[GRPC, ("http.write_timeout", "10s")]).await;
    println!("{}", client.run(&mut app, "streaming.py", &[]).await);
}

#[tokio::test]
async fn deadlines_are_honoured() {
    let Some(client) = GrpcClient::find("the deadlines of gRPC") else { return };
    let mut app = TestApp::with_settings(&[GRPC, ("http.request_timeout", "1s")]).await;
    app.expect_faults();
    client.run(&mut app, "deadlines.py", &[]).await;
}

#[tokio::test]
async fn limits_of_http_hold_for_grpc() {
    let Some(client) = GrpcClient::find("the limits of gRPC") else { return };
    for (limit, setting, value) in [
        ("per_user", "limits.per_user", "2"),
        ("per_address", "limits.per_address", "20"),
        ("feeds", "limits.feeds_per_address", "2"),
        ("connections", "limits.connections_per_address", "4"),
        ("streams", "limits.connections_per_address", "0"),
    ] {
        let mut app = TestApp::with_settings(&[GRPC, (setting, value)]).await;
        client.run(&mut app, "limits.py", &[("LIMIT", limit)]).await;
    }
}

#[tokio::test]
async fn stop_finishes_calls_in_progress() {
    let Some(client) = GrpcClient::find("the stop of gRPC") else { return };
    let mut app = TestApp::with_settings(&[GRPC]).await;
    client.run(&mut app, "stopping.py", &[]).await;
    let (status, _) = app.wait_for_exit().await;
    assert_eq!(status.code(), Some(0), "{}", app.log());
}

/// Makes a certificate for 127.0.0.1 in `dir`.
fn make_certificate(dir: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-keyout", "grpc.key", "-out", "grpc.crt", "-days", "2"]);
    openssl.args(["-subj", "/CN=souk", "-addext", "subjectAltName=IP:127.0.0.1"]);
    let output = openssl.current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn tls_proves_who_the_server_is() {
    let Some(client) = GrpcClient::find("TLS of gRPC") else { return };
    let files = [("grpc.tls_cert_file", "grpc.crt"), ("grpc.tls_key_file", "grpc.key")];
    let mut app = TestApp::unstarted(&[GRPC, files[0], files[1]]);
    make_certificate(app.dir());
    app.restart().await;
    let certificate = app.dir().join("grpc.crt");
    let certificate = ("CERTIFICATE", certificate.to_str().unwrap());
    client.run(&mut app, "tls.py", &[certificate]).await;
}

#[test]
fn unusable_certificate_stops_the_start() {
    let files = [("grpc.tls_cert_file", "grpc.crt"), ("grpc.tls_key_file", "grpc.key")];
    let app = TestApp::unstarted(&[GRPC, files[0], files[1]]);
    let start = || {
        let output = app.command().arg("serve").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let log = start();
    assert!(log.contains("grpc.tls_cert_file: failed to read grpc.crt"), "{log}");
    for name in ["grpc.crt", "grpc.key"] {
        app.write(name, "no certificate");
    }
    let log = start();
    assert!(log.contains("grpc.tls_cert_file, grpc.tls_key_file: no certificate"), "{log}");
}

/// A call of a method by curl, without a message.
async fn raw_call(app: &mut TestApp, method: &str) -> Command {
    let address = app.grpc_address().await;
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--noproxy", "*", "--http2-prior-knowledge", "-X", "POST"]);
    curl.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    curl.arg(format!("http://{address}/{method}"));
    curl
}

/// The headers of the response to a call with this header.
async fn headers_of_raw_call(app: &mut TestApp, header: &str) -> BTreeMap<String, String> {
    let mut curl = raw_call(app, "souk.v1.InventoryService/GetStock").await;
    let output = curl.args(["-D", "-", "-o", "/dev/null", "-H", header]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let headers = text.lines().filter_map(|line| line.split_once(": "));
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn call_that_arrives_after_its_deadline_is_refused() {
    let mut app = TestApp::with_settings(&[GRPC]).await;
    let reason = |headers: &BTreeMap<String, String>| {
        let details = STANDARD_NO_PAD.decode(&headers["grpc-status-details-bin"]).unwrap();
        String::from_utf8_lossy(&details).into_owned()
    };
    let late = headers_of_raw_call(&mut app, "grpc-timeout: 0n").await;
    assert_eq!(late["grpc-status"], "4", "{late:?}");
    assert!(reason(&late).contains("request_timeout"), "{late:?}");
    let in_time = headers_of_raw_call(&mut app, "grpc-timeout: 60S").await;
    assert_eq!(in_time["grpc-status"], "3", "there is no message: {in_time:?}");
    assert!(reason(&in_time).contains("malformed_request"), "{in_time:?}");
}

#[tokio::test]
async fn connection_whose_client_reads_nothing_is_closed() {
    let mut app = TestApp::with_settings(&[GRPC, ("http.write_timeout", "2s")]).await;
    let admin = app.admin().await;
    // More than the buffers of the kernel and of curl hold.
    let description = "x".repeat(9000);
    let line = json!({"name": "Tea", "price": 1, "description": description}).to_string() + "\n";
    app.import_products(&admin, line.repeat(6000)).await;
    // Nobody reads its output, so curl stops to read, too.
    let mut curl = raw_call(&mut app, "souk.v1.CatalogService/ListProducts").await;
    // A message of no bytes, not compressed.
    curl.arg("--data-binary").arg(format!("@{}", app.write("message", [0; 5]).display()));
    let mut curl = curl.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let closed = "souk_http_connections_timed_out_total{reason=\"write\"} 1";
    app.wait_for_metric_line(closed).await;
    app.wait_for_metric("souk_event_feeds", 0.0).await;
    curl.kill().unwrap();
    curl.wait().unwrap();
}

/// The lines of the log about calls, by their request id.
fn call_lines(app: &TestApp) -> Vec<Value> {
    let lines = app.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<Value> = lines;
    let is_call = |line: &Value| line["target"] == "souk::requests" && line["message"] == "call";
    lines.into_iter().filter(is_call).collect()
}

#[tokio::test]
async fn every_call_has_a_line_in_the_log_and_counts_in_the_metrics() {
    let Some(client) = GrpcClient::find("logs and metrics of gRPC") else { return };
    let mut app = TestApp::with_settings(&[GRPC]).await;
    client.run(&mut app, "telemetry.py", &[]).await;
    let metrics = app.get("/metrics").await.is(200).text();
    for (method, code, count) in [
        ("souk.v1.CatalogService/GetProduct", "OK", 2),
        ("souk.v1.CatalogService/ListProducts", "OK", 1),
        ("souk.v1.InventoryService/GetStock", "PERMISSION_DENIED", 1),
        ("souk.v1.InventoryService/AdjustStock", "OK", 1),
        ("unmatched", "UNIMPLEMENTED", 20),
    ] {
        let line =
            format!("souk_grpc_requests_total{{method=\"{method}\",code=\"{code}\"}} {count}\n");
        assert!(metrics.contains(&line), "no {line} in {metrics}");
        let line = format!("souk_grpc_request_seconds_count{{method=\"{method}\"}} {count}\n");
        assert!(metrics.contains(&line), "no {line} in {metrics}");
    }
    assert!(!metrics.contains("Method7"), "clients create no labels: {metrics}");
    app.stop().await;
    let lines = call_lines(&app);
    let line = |id: &str| {
        let mut found = lines.iter().filter(|line| line["request_id"] == id);
        let line = found.next().unwrap_or_else(|| panic!("no {id} in {lines:#?}"));
        assert!(found.next().is_none(), "one line for each call: {lines:#?}");
        assert_eq!(line["level"], "INFO");
        assert!(line["duration_ms"].as_f64().is_some_and(|taken| taken > 0.0), "{line}");
        line
    };
    let found = line("found");
    assert_eq!(found["method"], "souk.v1.CatalogService/GetProduct");
    assert_eq!((&found["code"], &found["user_id"]), (&json!("OK"), &Value::Null));
    assert_eq!(found["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let denied = line("denied");
    assert_eq!((&denied["code"], &denied["trace_id"]), (&json!("PERMISSION_DENIED"), &Value::Null));
    assert!(denied["user_id"].is_string(), "{denied}");
    line("listed");
    assert_eq!(lines.iter().filter(|line| line["method"] == "unmatched").count(), 20);
}

#[tokio::test]
async fn call_continues_the_trace_of_its_caller() {
    let Some(client) = GrpcClient::find("traces of gRPC") else { return };
    let collector = Collector::start(Protocol::Grpc).await;
    let endpoint = collector.endpoint();
    let settings = [("telemetry.otlp_endpoint", &*endpoint), ("telemetry.sample_ratio", "0")];
    let mut app = TestApp::with_settings(&[&[GRPC], &settings[..]].concat()).await;
    client.run(&mut app, "telemetry.py", &[]).await;
    let caller = [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];
    let read = collector.child(&caller, "souk.v1.CatalogService/GetProduct").await;
    assert_eq!(read.span.kind, 2, "a server's span");
    assert_eq!(read.attribute("rpc.system").as_deref(), Some("grpc"));
    assert_eq!(read.attribute("rpc.method").as_deref(), Some("GetProduct"));
    assert_eq!(read.attribute("rpc.grpc.status_code").as_deref(), Some("0"));
    assert_eq!(read.attribute("request.id").as_deref(), Some("found"));
    let change = collector.child(&caller, "souk.v1.InventoryService/AdjustStock").await;
    assert!(change.attribute("user.id").is_some(), "{change:?}");
    let message = collector.child(change.id(), "ChangeStock").await;
    collector.child(message.id(), "commit").await;
    let count = collector.spans().iter().filter(|span| span.span.parent_span_id == caller).count();
    assert_eq!(count, 2, "the caller decides what is recorded");
    app.stop().await;
}
