//! What one client can hold: connections, feeds, and the log.

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::json;

use crate::support::{Event, PASSWORD, RawConnection, TestApp};

/// The default limits, which tests usually switch off.
const DEFAULT_LIMITS: [(&str, &str); 6] = [
    ("limits.per_address", "100"),
    ("limits.per_user", "50"),
    ("limits.login", "10"),
    ("limits.connections_per_address", "256"),
    ("limits.feeds_per_address", "32"),
    ("limits.feeds_per_user", "8"),
];

const FEED: &str = "/api/events";

/// Opens `count` connections from `address`, each of which asks for the feed. Returns them with the
/// status of their responses.
async fn open_feeds(
    app: &TestApp,
    address: &str,
    count: usize,
    target: &str,
) -> (Vec<RawConnection>, Vec<Option<u16>>) {
    // A few at a time, since this process has few descriptors, too.
    let opened = stream::iter(0..count).map(async |_| {
        let mut connection = app.try_connect_from(address).await.ok()?;
        connection.get(target).await;
        let status = connection.status().await?;
        Some((connection, status))
    });
    let opened: Vec<_> = opened.buffered(50).collect().await;
    let statuses = opened.iter().map(|opened| opened.as_ref().map(|(_, status)| *status)).collect();
    (opened.into_iter().flatten().map(|(connection, _)| connection).collect(), statuses)
}

/// Asserts that the server closes a connection from `address` unanswered.
async fn assert_closed_unanswered(app: &TestApp, address: &str) {
    let Ok(mut connection) = app.try_connect_from(address).await else { return };
    connection.get("/livez").await;
    assert_eq!(connection.read_to_end().await, b"");
}

fn count(statuses: &[Option<u16>], wanted: Option<u16>) -> usize {
    statuses.iter().filter(|status| **status == wanted).count()
}

/// Asserts that a buyer at another address is served.
async fn assert_buyer_is_served(app: &TestApp) {
    app.get("/livez").await.is(200);
    app.get("/readyz").await.is(200);
    let ada = app.customer().await;
    let ada = app.login(&ada.email, PASSWORD).await;
    app.get("/api/cart").token(&ada).await.is(200);
}

#[tokio::test]
async fn flood_of_feeds_from_one_address_stops_nobody() {
    let mut app = TestApp::unstarted(&DEFAULT_LIMITS);
    // The soft limit that most systems start a program with.
    app.limit_descriptors(1024, 4096);
    app.restart().await;
    let (_flood, statuses) = open_feeds(&app, "127.0.0.2", 1050, FEED).await;
    let (open, limited) = (count(&statuses, Some(200)), count(&statuses, Some(429)));
    assert!((1..=32).contains(&open), "{open}");
    assert!(open + limited >= 256, "{open} and {limited}");
    assert!(count(&statuses, None) > 0, "some were closed unanswered");
    assert_buyer_is_served(&app).await;
    assert_eq!(app.metric("souk_event_feeds").await, open as f64);
    // The limit does not hold for others.
    let (_feeds, statuses) = open_feeds(&app, "127.0.0.3", 8, FEED).await;
    assert_eq!(count(&statuses, Some(200)), 8);
}

#[tokio::test]
async fn descriptor_limit_is_raised_to_the_hard_one() {
    let mut app = TestApp::unstarted(&[]);
    app.limit_descriptors(256, 2048);
    app.restart().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", app.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let values: Vec<_> =
        line.split_whitespace().filter(|word| word.parse::<u32>().is_ok()).collect();
    assert_eq!(values, ["2048", "2048"], "soft and hard");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_unanswered() {
    let app = TestApp::with_settings(&[("limits.connections_per_address", "256")]).await;
    let (mut flood, statuses) = open_feeds(&app, "127.0.0.2", 256, FEED).await;
    assert_eq!(count(&statuses, Some(200)), 256);
    for _ in 0..20 {
        assert_closed_unanswered(&app, "127.0.0.2").await;
    }
    let refused = "souk_http_connections_refused_total{reason=\"address\"}";
    assert_eq!(app.metric(refused).await, 20.0);
    for address in ["127.0.0.3", "127.0.1.2"] {
        let mut connection = app.connect_from(address).await;
        connection.get("/livez").await;
        assert_eq!(connection.status().await, Some(200), "{address}");
    }
    flood.truncate(100);
    app.wait_for_metric("souk_event_feeds", 100.0).await;
    let (_more, statuses) = open_feeds(&app, "127.0.0.2", 100, FEED).await;
    assert_eq!(count(&statuses, Some(200)), 100, "places are given back");
}

#[tokio::test]
async fn flood_from_many_addresses_leaves_room_for_others() {
    let mut app = TestApp::unstarted(&[("limits.connections_per_address", "256")]);
    // Room for 512 connections.
    app.limit_descriptors(1024, 1024);
    app.restart().await;
    let mut flood = Vec::new();
    for host in 2..=12 {
        let (connections, _) = open_feeds(&app, &format!("127.0.0.{host}"), 100, FEED).await;
        flood.extend(connections);
    }
    let open = app.metric("souk_http_connections").await;
    assert!((384.0..512.0).contains(&open), "{open}");
    assert_buyer_is_served(&app).await;
    // Somebody with an account has used this address, so it is no longer held to a few connections.
    let (_feeds, statuses) = open_feeds(&app, "127.0.0.1", 30, FEED).await;
    assert_eq!(count(&statuses, Some(200)), 30);
}

#[tokio::test]
async fn trusted_proxy_is_not_capped_as_one_client() {
    let app = TestApp::with_settings(&[
        ("limits.connections_per_address", "4"),
        ("limits.feeds_per_address", "3"),
        ("http.trusted_proxies", "127.0.0.2"),
    ])
    .await;
    let feed_for = async |client: &str| {
        let mut connection = app.connect_from("127.0.0.2").await;
        let head =
            format!("GET /api/events HTTP/1.1\r\nhost: souk\r\nx-forwarded-for: {client}\r\n\r\n");
        connection.send(head).await;
        let status = connection.status().await;
        (connection, status)
    };
    let mut held = Vec::new();
    for host in 1..=5 {
        for wanted in [200, 200, 200, 429] {
            let (connection, status) = feed_for(&format!("192.0.2.{host}")).await;
            assert_eq!(status, Some(wanted), "feeds count for the client behind the proxy");
            held.push(connection);
        }
    }
    // Another address is one client.
    let mut direct = Vec::new();
    for _ in 0..4 {
        direct.push(app.connect_from("127.0.0.3").await);
        let connection = direct.last_mut().unwrap();
        connection.get("/livez").await;
        assert_eq!(connection.status().await, Some(200));
    }
    assert_closed_unanswered(&app, "127.0.0.3").await;
}

#[tokio::test]
async fn requests_of_a_client_behind_a_proxy_are_limited() {
    let app = TestApp::with_settings(&[
        ("limits.connections_per_address", "2"),
        ("http.trusted_proxies", "127.0.0.1"),
    ])
    .await;
    let ada = app.customer().await;
    let get = |client: &str| app.get("/api/products").header("x-forwarded-for", client);
    let mut feeds = Vec::new();
    for _ in 0..2 {
        let mut connection = app.connect_from("127.0.0.1").await;
        let head = "GET /api/events HTTP/1.1\r\nhost: souk\r\nx-forwarded-for: 192.0.2.1\r\n\r\n";
        connection.send(head).await;
        assert_eq!(connection.status().await, Some(200));
        feeds.push(connection);
    }
    let limited = get("192.0.2.1").await;
    assert_eq!(limited.header("retry-after"), Some("1"));
    limited.problem(429, "rate_limited");
    get("192.0.2.2").await.is(200);
    // A proxy that names no client stands for itself.
    app.get("/api/cart").token(&ada).await.is(200);
    drop(feeds);
    app.wait_for_metric("souk_event_feeds", 0.0).await;
    get("192.0.2.1").await.is(200);
}

#[tokio::test]
async fn feeds_are_limited_per_address_and_per_user() {
    let app = TestApp::with_settings(&[
        ("limits.feeds_per_address", "10"),
        ("limits.feeds_per_user", "3"),
    ])
    .await;
    let (ada, eve) = (app.customer().await, app.customer().await);
    let mut feeds = Vec::new();
    for account in [&ada, &eve] {
        for _ in 0..3 {
            feeds.push(app.open_feed(Some(account), None).await);
        }
        let refused = app.get("/api/events").token(account).await;
        assert_eq!(refused.header("retry-after"), Some("15"));
        refused.problem(429, "too_many_feeds");
    }
    for _ in 0..4 {
        feeds.push(app.open_feed(None, None).await);
    }
    app.get("/api/events").await.problem(429, "too_many_feeds");
    app.get("/api/products").await.is(200);
    feeds.clear();
    app.wait_for_metric("souk_event_feeds", 0.0).await;
    feeds.push(app.open_feed(Some(&ada), None).await);
    // HEAD opens nothing.
    for _ in 0..20 {
        app.call("HEAD", "/api/events").token(&ada).await.is(200);
    }
}

/// A value of `/proc/<pid>/status`, such as `VmRSS`, in bytes.
fn memory(app: &TestApp, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// 3,000 products, of 2 KiB each.
fn products(price: u32) -> String {
    let description = "x".repeat(2000);
    let line = |n: u32| {
        json!({"sku": format!("SKU-{n}"), "name": "Tea", "description": description,
            "price": price, "stock": 1})
    };
    (0..3000).map(|n| format!("{}\n", line(n))).collect()
}

#[tokio::test]
async fn feeds_that_never_read_are_closed_and_hold_little_memory() {
    let app = TestApp::with_settings(&[("http.write_timeout", "3s")]).await;
    let admin = app.admin().await;
    app.import_products(&admin, products(1)).await;
    let (_stalled, statuses) = open_feeds(&app, "127.0.0.2", 100, FEED).await;
    assert_eq!(count(&statuses, Some(200)), 100);
    let mut reader = app.open_feed(None, None).await;
    let before = memory(&app, "VmRSS");
    let is_last = |event: &Event| {
        event.kind == "catalog.product.updated" && event.body["data"]["sku"] == "SKU-2999"
    };
    let import = app.import_products(&admin, products(2));
    let (_, events) = tokio::join!(import, reader.read_until(is_last));
    assert!(events.len() >= 3000, "who reads gets everything");
    app.wait_for_metric("souk_event_feeds", 1.0).await;
    let timed_out = "souk_http_connections_timed_out_total{reason=\"write\"}";
    assert_eq!(app.metric(timed_out).await, 100.0);
    let peak = memory(&app, "VmHWM").saturating_sub(before);
    assert!(peak < 100 * 1024 * 1024, "{} MiB for 100 feeds", peak / 1024 / 1024);
}

#[tokio::test]
async fn feeds_that_are_behind_and_never_read_hold_little_memory() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    // Its events have 10 KiB each.
    let product = json!({"name": "Tea", "description": "x".repeat(9999), "price": 1, "stock": 1});
    let id = app.create_product(&admin, &product).await["id"].as_str().unwrap().to_owned();
    for price in 2..150 {
        let change = app.patch(&format!("/api/products/{id}"), &json!({"price": price}));
        change.token(&admin).await.ok();
    }
    let before = memory(&app, "VmRSS");
    let (_stalled, statuses) =
        open_feeds(&app, "127.0.0.2", 300, "/api/events?last_event_id=0.0").await;
    assert_eq!(count(&statuses, Some(200)), 300);
    let mut reader = app.open_whole_feed(None).await;
    let events = reader.read_until(|event| event.body["data"]["price"] == 149).await;
    assert!(events.len() >= 149, "who reads gets everything");
    let peak = memory(&app, "VmHWM").saturating_sub(before);
    assert!(peak < 100 * 1024 * 1024, "{} MiB for 300 feeds", peak / 1024 / 1024);
}

#[tokio::test]
async fn slow_requests_are_cut_off() {
    let app = TestApp::start().await;
    let half_first_head = async {
        let mut connection = app.connect().await;
        connection.send("GET /livez HTTP/1.1\r\nhost").await;
        connection.response().await.problem(408, "request_timeout");
    };
    let nothing = async {
        let mut connection = app.connect().await;
        assert_eq!(connection.status().await, Some(408));
    };
    let half_second_head = async {
        let mut connection = app.connect().await;
        connection.get("/livez").await;
        assert_eq!(connection.response().await.status, 200);
        connection.send("GET /livez HTTP/1.1\r\nhost").await;
        assert_eq!(connection.read_to_end().await, b"");
    };
    // The response does not wait for the body, of which the server reads the rest.
    let endless_body = async {
        let mut connection = app.connect().await;
        let head = "GET /livez HTTP/1.1\r\nhost: souk\r\ntransfer-encoding: chunked\r\n\r\n1\r\n";
        connection.send(head).await;
        assert_eq!(connection.response().await.status, 200);
        assert_eq!(connection.read_to_end().await, b"");
    };
    tokio::join!(half_first_head, nothing, half_second_head, endless_body);
}

#[tokio::test]
async fn operators_have_a_port_of_their_own() {
    let mut app = TestApp::with_settings(&[
        ("ops.bind", "127.0.0.1:0"),
        ("limits.connections_per_address", "1"),
    ])
    .await;
    let operations = app.operations_url().await;
    for path in ["/livez", "/readyz", "/metrics"] {
        app.get(path).await.problem(404, "not_found");
        let response = reqwest::get(format!("{operations}{path}")).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert!(response.headers().contains_key("x-request-id"));
    }
    let head = reqwest::Client::new().head(format!("{operations}/livez")).send().await.unwrap();
    assert_eq!(head.status(), 200);
    for path in ["/api/products", "/docs/", "/openapi.json"] {
        let response = reqwest::get(format!("{operations}{path}")).await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    app.get("/openapi.json").await.is(200);

    app.stop().await;
}

/// Whatever floods the shop, an orchestrator must not take the node for dead and restart it.
#[tokio::test]
async fn probes_are_answered_when_the_shop_takes_no_more_connections() {
    let settings = [("ops.bind", "127.0.0.1:0"), ("limits.connections_per_address", "256")];
    let mut app = TestApp::unstarted(&settings);
    // Room for 512 connections.
    app.limit_descriptors(1024, 1024);
    app.restart().await;
    let operations = app.operations_url().await;
    let mut flood = Vec::new();
    for host in 2..=12 {
        let (connections, _) = open_feeds(&app, &format!("127.0.0.{host}"), 100, FEED).await;
        flood.extend(connections);
    }
    assert_closed_unanswered(&app, "127.0.0.2").await;
    for path in ["/livez", "/readyz", "/metrics"].repeat(5) {
        let response = reqwest::get(format!("{operations}{path}")).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let text = response.text().await.unwrap();
        let refused = "souk_http_connections_refused_total{reason=";
        assert!(path != "/metrics" || text.contains(refused), "{text}");
    }
}

#[tokio::test]
async fn heads_that_the_server_cannot_take_get_a_problem_body() {
    let mut app = TestApp::start().await;
    let long_header = format!("GET /livez HTTP/1.1\r\nx-long: {}\r\n\r\n", "x".repeat(1 << 20));
    for (head, status, code) in [
        ("BAD\r\n\r\n", 400, "malformed_request"),
        ("GET /livez HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed_request"),
        (&*long_header, 431, "headers_too_large"),
    ] {
        let mut connection = app.connect().await;
        connection.send_while_wanted(head).await;
        let response = connection.response().await;
        assert!(response.head.contains("x-content-type-options: nosniff"), "{}", response.head);
        assert!(response.head.contains("x-request-id: "), "{}", response.head);
        response.problem(status, code);
    }
    app.stop().await;
}

#[tokio::test]
async fn malformed_requests_write_few_log_lines() {
    let app = TestApp::start().await;
    let heads = ["BAD\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0\r\n\r\n"];
    for batch in 0..20 {
        let sent = (0..50).map(async |n: usize| {
            let mut connection = app.connect().await;
            connection.send_while_wanted(heads[(batch + n) % heads.len()]).await;
            assert_eq!(connection.status().await, Some(400));
        });
        join_all(sent).await;
    }
    app.wait_for_metric("souk_http_malformed_requests_total", 1000.0).await;
    app.wait_for_log("closed connections after malformed requests").await;
    let lines = app.log().lines().count();
    // One each ten seconds, and those of the start.
    assert!(lines < 30, "{}", app.log());
}
