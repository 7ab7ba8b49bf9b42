//! Compressed responses: for whom, of what, and what they do to tags, lengths and HEAD.

use std::{fs, io::Read as _, process::Command};

use flate2::bufread::GzDecoder;
use serde_json::json;

use crate::support::{Response, TestApp};

/// What a browser sends.
const BROWSER: &str = "gzip, deflate, br, zstd";

/// A product with a description of this length.
async fn product_of(app: &TestApp, length: usize) -> String {
    let admin = app.admin().await;
    let body =
        json!({"name": "Tea", "description": "steep ".repeat(length / 6), "price": 1, "stock": 1});
    let id = app.create_product(&admin, &body).await["id"].as_str().unwrap().to_owned();
    format!("/api/products/{id}")
}

#[track_caller]
fn assert_compressed(response: &Response, encoding: &str) {
    assert_eq!(response.header("content-encoding"), Some(encoding), "{response}");
    assert_eq!(response.header("vary"), Some("accept-encoding"), "{response}");
    assert_eq!(response.header("content-length"), None, "{response}");
}

#[track_caller]
fn assert_plain(response: &Response) {
    assert_eq!(response.header("content-encoding"), None, "{response}");
    let length = response.header("content-length").map(|text| text.parse().unwrap());
    assert_eq!(length, Some(response.body.len()), "{response}");
}

#[tokio::test]
async fn clients_get_the_encoding_that_they_prefer() {
    let app = TestApp::start().await;
    let path = product_of(&app, 9_000).await;
    let plain = app.get(&path).await.is(200);
    assert_plain(&plain);
    assert_eq!(plain.header("vary"), Some("accept-encoding"));
    for (accepted, encoding) in [
        (BROWSER, "br"),
        ("br", "br"),
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("br;q=0.5, gzip;q=1.0", "gzip"),
        ("identity;q=0, zstd", "zstd"),
    ] {
        let response = app.get(&path).header("accept-encoding", accepted).await.is(200);
        assert_compressed(&response, encoding);
        assert!(response.body.len() < plain.body.len() / 10, "{accepted}");
    }
    for accepted in ["", "identity", "deflate", "compress, x-gzip;q=0", "*;q=0", "br;q=0", "?"] {
        let response = app.get(&path).header("accept-encoding", accepted).await.is(200);
        assert_plain(&response);
        assert_eq!(response.header("vary"), Some("accept-encoding"), "{accepted}");
        assert_eq!(response.body, plain.body);
    }
}

#[tokio::test]
async fn another_program_can_read_every_encoding() {
    let app = TestApp::start().await;
    let path = product_of(&app, 9_000).await;
    let plain = app.get(&path).await.is(200).body;
    for encoding in ["br", "gzip", "zstd"] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--compressed", "--header"]);
        curl.arg(format!("Accept-Encoding: {encoding}")).arg(format!("{}{path}", app.url()));
        let Ok(output) = curl.output() else {
            assert!(
                std::env::var_os("SOUK_TEST_ALL").is_none(),
                "curl is not installed; scripts/test installs it"
            );
            return;
        };
        assert!(output.status.success() && output.stdout == plain, "{encoding}: {output:?}");
    }
}

#[tokio::test]
async fn small_bodies_and_images_stay_as_they_are() {
    let app = TestApp::start().await;
    let small = product_of(&app, 300).await;
    for path in [&*small, "/livez", "/docs/favicon-32x32.png"] {
        let response = app.get(path).header("accept-encoding", BROWSER).await.is(200);
        assert_plain(&response);
        assert_eq!(response.header("vary"), None, "{path}");
    }
    for path in ["/docs/swagger-ui.css", "/openapi.json", "/metrics"] {
        assert_compressed(&app.get(path).header("accept-encoding", "br").await.is(200), "br");
    }
}

#[tokio::test]
async fn large_files_of_the_pages_are_compressed_in_advance() {
    let app = TestApp::start().await;
    for name in ["swagger-ui.css", "swagger-ui-bundle.js"] {
        let path = format!("/docs/{name}");
        let file = fs::read(format!("assets/swagger-ui/{name}")).unwrap();
        let packed = app.get(&path).header("accept-encoding", BROWSER).await.is(200);
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{name}");
        assert_eq!(packed.header("vary"), Some("accept-encoding"), "{name}");
        let length = packed.header("content-length").map(|text| text.parse().unwrap());
        assert_eq!(length, Some(packed.body.len()), "{name}");
        let mut unpacked = Vec::new();
        GzDecoder::new(&*packed.body).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == file, "{name}");
        for accepted in ["identity", "gzip;q=0"] {
            let plain = app.get(&path).header("accept-encoding", accepted).await.is(200);
            assert_plain(&plain);
            assert_eq!(plain.header("vary"), Some("accept-encoding"), "{name}");
            assert!(plain.body == file, "{name}");
        }
    }
}

#[tokio::test]
async fn tags_of_compressed_responses_work_in_conditions() {
    let app = TestApp::start().await;
    let path = product_of(&app, 9_000).await;
    let plain = app.get(&path).await.is(200).etag();
    let get = |path: &str| app.get(path).header("accept-encoding", BROWSER);
    let weak = get(&path).await.is(200).etag();
    assert_eq!(weak, format!("W/{plain}"), "the bytes are others");
    for tag in [&weak, &plain] {
        let unchanged = get(&path).header("if-none-match", tag).await.is(304);
        assert_eq!(unchanged.etag(), weak);
        assert_eq!(unchanged.header("vary"), Some("accept-encoding"));
        assert!(unchanged.body.is_empty() && unchanged.header("content-encoding").is_none());
        let unchanged = app.get(&path).header("if-none-match", tag).await.is(304);
        assert_eq!(unchanged.etag(), plain);
    }
    let admin = app.admin().await;
    let rename = json!({"name": "Green tea"});
    app.patch(&path, &rename).token(&admin).header("if-match", &weak).await.is(200);
    let late = app.patch(&path, &json!({"name": "Tea"})).token(&admin);
    late.header("if-match", &weak).await.problem(412, "version_mismatch");
    get(&path).header("if-none-match", &weak).await.is(200);
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_the_connection_goes_on() {
    let app = TestApp::start().await;
    let path = product_of(&app, 9_000).await;
    let mut connection = app.connect().await;
    for _ in 0..3 {
        let head = format!("HEAD {path} HTTP/1.1\r\nhost: souk\r\naccept-encoding: br\r\n\r\n");
        connection.send(head).await;
        let response = connection.response().await;
        assert_eq!(response.status, 200, "{}", response.head);
        for line in ["content-encoding: br\r\n", "vary: accept-encoding\r\n", "etag: w/"] {
            assert!(response.head.contains(line), "{}", response.head);
        }
        assert!(!response.head.contains("content-length"), "{}", response.head);
    }
    connection.get("/livez").await;
    assert_eq!(connection.response().await.body, br#"{"status":"alive"}"#);
}

#[tokio::test]
async fn secrets_errors_and_feeds_are_not_compressed() {
    let app = TestApp::start().await;
    let (admin, ada) = (app.admin().await, app.customer().await);
    for _ in 0..10 {
        let tea = app.new_product(&admin, &json!(4.5), 100).await;
        app.add_to_cart(&ada, &tea, 2).await.ok();
    }
    let cart = app.get("/api/cart").token(&ada).header("accept-encoding", BROWSER).await.is(200);
    assert!(cart.body.len() > 1024, "{cart}");
    assert_plain(&cart);
    app.check_out(&ada, "buy").await.is(201);
    let orders =
        app.get("/api/orders").token(&ada).header("accept-encoding", BROWSER).await.is(200);
    assert!(orders.body.len() > 1024, "{orders}");
    assert_plain(&orders);
    let unknown: serde_json::Map<_, _> =
        (0..40).map(|number| (format!("unknown_{number}"), json!(1))).collect();
    let bad = app.post("/api/products", &unknown.into()).token(&admin);
    let errors = bad.header("accept-encoding", BROWSER).await.is(422);
    assert!(errors.body.len() > 1024, "{errors}");
    assert_plain(&errors);
    let feed = app.get("/api/events").header("accept-encoding", BROWSER).send_streaming().await;
    assert!(feed.status() == 200 && feed.headers().get("content-encoding").is_none());
}
