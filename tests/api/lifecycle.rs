//! Starting and stopping: first start, two processes, and shutdown under load.

use std::os::unix::fs::PermissionsExt;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{ADMIN_PASSWORD, Account, Cli, TestApp};

/// A shop without an admin in its settings.
fn shop_without_admin() -> TestApp {
    TestApp::unstarted(&[("auth.admin_email", ""), ("auth.admin_password", "")])
}

fn words_after<'a>(printed: &'a [String], prefix: &str) -> Vec<&'a str> {
    printed
        .iter()
        .filter_map(|line| line.strip_prefix(prefix))
        .map(|rest| rest.split_whitespace().next().unwrap())
        .collect()
}

#[tokio::test]
async fn first_start_prints_the_admin_password_once() {
    let mut app = shop_without_admin();
    app.restart().await;
    let printed = app.stop().await;
    let (emails, passwords) =
        (words_after(&printed, "First admin:"), words_after(&printed, "Password:"));
    let ([email], [password]) = (&emails[..], &passwords[..]) else { panic!("{printed:?}") };
    assert!(password.len() >= 16, "{password}");
    assert_eq!(printed.join("\n").matches(password).count(), 1);
    for crash in [false, true] {
        app.restart().await;
        let admin = app.login(email, password).await;
        assert_eq!(app.get("/api/auth/me").token(&admin).await.ok()["role"], "admin");
        if crash {
            app.kill_9().await;
        } else {
            let printed = app.stop().await.join("\n");
            assert!(
                !printed.contains("admin:")
                    && !printed.to_lowercase().contains("password")
                    && !printed.contains(password),
                "{printed}"
            );
        }
    }
    assert!(!app.log().contains(password), "the log does not contain the password");
}

#[tokio::test]
async fn crash_at_first_start_does_not_lock_out_the_operator() {
    let mut app = shop_without_admin();
    app.restart().await;
    app.kill_9().await;
    app.restart().await;
    let printed = app.stop().await;
    // Either start may print the password, but never both.
    assert!(words_after(&printed, "Password:").len() <= 1);
    let made = Cli::run(app.command().args(["admin", "owner@souk.example"])).ok();
    assert!(made.contains("owner@souk.example is now an admin."), "{made}");
}

#[tokio::test]
async fn configured_admin_does_not_promote_a_customer() {
    let mut app = TestApp::start().await;
    let ada = app.customer().await;
    let printed = app.stop().await.join("\n");
    assert!(!printed.contains("password"), "{printed}");
    // A customer who registered the operator's address does not become an admin.
    app.set("auth.admin_email", &ada.email);
    let run = Cli::run(&mut app.command());
    assert_eq!((run.code, &*run.stdout), (1, ""), "{run:?}");
    assert!(
        run.stderr
            .lines()
            .any(|line| line.starts_with("souk: ") && line.contains("auth.admin_email")),
        "{run:?}"
    );
    app.set("auth.admin_email", "owner@souk.example");
    app.restart().await;
    app.login("owner@souk.example", ADMIN_PASSWORD).await;
    assert_eq!(app.get("/api/auth/me").token(&ada).await.ok()["role"], "customer");
}

#[tokio::test]
async fn data_files_are_readable_only_by_their_owner() {
    let app = TestApp::start().await;
    app.customer().await;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = app.dir().join("data");
    assert_eq!(mode(&data), 0o700);
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn shutdown_answers_requests_in_progress() {
    for signal in ["TERM", "INT"] {
        let mut app = TestApp::start().await;
        let admin = app.admin().await;
        let tea = app.new_product(&admin, &json!(4.5), 10).await;
        let body = json!({"product_id": tea, "quantity": 3}).to_string();
        let (first, rest) = body.split_at(10);
        let mut connection = app.connect().await;
        let head = format!(
            "POST /api/cart/add HTTP/1.1\r\nhost: souk\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            admin.token,
            body.len()
        );
        connection.send(head).await;
        assert_eq!(connection.response().await.status, 100, "the request is in progress");
        connection.send(first).await;
        app.signal(signal);
        app.wait_for_log("stopping").await;
        connection.send(rest).await;
        let response = connection.response().await;
        assert_eq!(response.status, 200, "{}", response.head);
        let (status, _) = app.wait_for_exit().await;
        assert_eq!(status.code(), Some(0));
        app.restart().await;
        assert_eq!(app.cart(&admin).await["item_count"], 3);
    }
}

#[tokio::test]
async fn stopping_node_serves_for_the_shutdown_delay() {
    let mut app = TestApp::with_settings(&[("http.shutdown_delay", "2s")]).await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    let mut feed = app.open_feed(None, None).await;
    let began = std::time::Instant::now();
    app.signal("TERM");
    app.wait_for_log("stopping: not ready").await;
    let readiness = app.get("/readyz").await.is(503);
    assert_eq!(readiness.json()["checks"]["node"], "stopping");
    // A proxy that keeps connections uses this one no more.
    assert_eq!(readiness.header("connection"), Some("close"));
    app.get("/livez").await.is(200);
    app.add_to_cart(&admin, &tea, 3).await.ok();
    app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "found"})).await.ok();
    assert_eq!(feed.next().await.kind, "inventory.stock.changed", "the feed goes on");
    let (status, _) = app.wait_for_exit().await;
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed().as_secs() >= 2, "{:?}", began.elapsed());
    assert_eq!(feed.next_or_end().await, None);
    app.restart().await;
    assert_eq!(app.cart(&admin).await["item_count"], 3);
}

/// Adds to a cart over and over, each time over a new connection if `reconnects`, until an attempt
/// gets no answer; returns how many got one.
async fn add_until_unanswered(
    app: &TestApp,
    account: &Account,
    tea: &str,
    reconnects: bool,
) -> u64 {
    let body = json!({"product_id": tea, "quantity": 1}).to_string();
    let connection = if reconnects { "close" } else { "keep-alive" };
    let request = format!(
        "POST /api/cart/add HTTP/1.1\r\nhost: souk\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\nconnection: {connection}\r\ncontent-length: {}\r\n\r\n\
         {body}",
        account.token,
        body.len()
    );
    let mut answered = 0;
    loop {
        let Ok(mut connection) = app.try_connect_from("127.0.0.1").await else { return answered };
        loop {
            connection.send_while_wanted(&request).await;
            let Some(response) = connection.try_response().await else { return answered };
            assert_eq!(response.status, 200, "{}", response.head);
            answered += 1;
            if response.head.contains("connection: close") {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_stops_under_load_answers_every_request_that_it_carries_out() {
    let mut app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1_000_000).await;
    for _ in 0..3 {
        let accounts = app.customers(16).await;
        let adds = accounts
            .iter()
            .enumerate()
            .map(|(number, account)| add_until_unanswered(&app, account, &tea, number % 2 == 0));
        let stop = async {
            // Once all are busy.
            while app.metric("souk_carts_active").await < 16.0 {
                tokio::task::yield_now().await;
            }
            app.signal("TERM");
        };
        let (answered, ()) = tokio::join!(join_all(adds), stop);
        let (status, _) = app.wait_for_exit().await;
        assert_eq!(status.code(), Some(0));
        app.restart().await;
        for (account, answered) in accounts.iter().zip(answered) {
            assert_eq!(app.cart(account).await["item_count"], answered);
        }
    }
}

#[tokio::test]
async fn open_feeds_and_idle_connections_do_not_delay_shutdown() {
    let mut app = TestApp::start().await;
    let ada = app.customer().await;
    let mut feeds = Vec::new();
    for account in [None, Some(&ada)] {
        feeds.push(app.open_feed(account, None).await);
    }
    let mut idle = app.connect().await;
    idle.send("GET /livez HTTP/1.1\r\nhost: souk\r\n\r\n").await;
    assert_eq!(idle.response().await.status, 200);
    let silent = app.connect().await;
    let began = std::time::Instant::now();
    app.stop().await;
    // Shutdown waits up to ten seconds, but only for requests in progress.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
    for mut feed in feeds {
        assert_eq!(feed.next_or_end().await, None);
    }
    drop(silent);
}

#[tokio::test]
async fn data_directory_is_locked_by_one_process() {
    let app = TestApp::start().await;
    let ada = app.customer().await;
    let file = app.write("products.ndjson", "{\"name\":\"Pot\",\"price\":1}\n");
    for arguments in
        [&[][..], &["serve"], &["import", file.to_str().unwrap()], &["admin", "eve@souk.example"]]
    {
        let run = Cli::run(app.command().args(arguments));
        assert_eq!(run.code, 1, "{run:?}");
        let reason = run
            .stderr
            .lines()
            .find(|line| line.starts_with("souk: "))
            .unwrap_or_else(|| panic!("{run:?}"));
        assert!(reason.contains("another souk is using") && reason.contains("data"), "{reason}");
        assert!(!run.stdout.contains("Souk is listening"), "{run:?}");
    }
    app.get("/api/auth/me").token(&ada).await.is(200);
    assert_eq!(app.get("/api/products").await.ok()["total"], 0);
}

#[tokio::test]
async fn address_in_use_is_reported() {
    let app = TestApp::start().await;
    let mut command = app.command();
    command
        .env("SOUK__HTTP__BIND", app.address())
        .env("SOUK__STORE__PATH", app.dir().join("other"));
    let run = Cli::run(&mut command);
    assert_eq!(run.code, 1, "{run:?}");
    let reason = format!("souk: http.bind: {}: another program listens there", app.address());
    assert!(run.stderr.lines().any(|line| line.starts_with(&reason)), "{run:?}");
}

#[tokio::test]
async fn sessions_and_carts_survive_a_restart() {
    let mut app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 10).await;
    let (ada, guest) = (app.customer().await, app.guest().await);
    app.add_to_cart(&ada, &tea, 2).await.ok();
    app.add_to_cart(&guest, &tea, 3).await.ok();
    let cart_state = async |app: &TestApp, account: &Account| {
        let cart = app.get("/api/cart").token(account).await.is(200);
        (cart.etag(), cart.text())
    };
    let before = (cart_state(&app, &ada).await, cart_state(&app, &guest).await);
    for crash in [false, true] {
        if crash {
            app.kill_9().await
        } else {
            drop(app.stop().await)
        }
        app.restart().await;
        assert_eq!((cart_state(&app, &ada).await, cart_state(&app, &guest).await), before);
    }
    app.merge_cart(&ada, &guest).await.ok();
    app.kill_9().await;
    app.restart().await;
    assert_eq!(app.cart(&ada).await["item_count"], 5);
    app.get("/api/cart").token(&guest).await.problem(409, "guest_cart_merged");
}
