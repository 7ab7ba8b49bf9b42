//! The log: one line for each request, and nothing in it that is nobody's business.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Account, PASSWORD, TestApp};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The lines of the log about requests.
fn request_lines(app: &TestApp) -> Vec<Value> {
    let lines = app.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<Value> = lines;
    lines.into_iter().filter(|line| line["target"] == "souk::requests").collect()
}

fn lines_of<'a>(lines: &'a [Value], request_id: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["request_id"] == request_id).collect()
}

#[tokio::test]
async fn every_request_has_one_line() {
    let mut app = TestApp::start().await;
    let ada = app.customer().await;
    let trace = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    let known = app.get("/api/cart?x=1").token(&ada).header("x-request-id", "known");
    known.header("traceparent", &trace).await.problem(422, "validation_failed");
    app.get("/nowhere/at/all").header("x-request-id", "lost").await.problem(404, "not_found");
    app.get("/livez").header("x-request-id", "probe").await.ok();
    app.stop().await;
    let lines = request_lines(&app);
    let [line] = lines_of(&lines, "known")[..] else { panic!("{lines:#?}") };
    assert_eq!((&line["level"], &line["message"]), (&json!("INFO"), &json!("request")));
    assert_eq!((&line["method"], &line["route"]), (&json!("GET"), &json!("/api/cart")));
    assert_eq!((&line["status"], &line["trace_id"]), (&json!(422), &json!(TRACE_ID)));
    assert_eq!(line["user_id"], json!(ada.id));
    assert!(line["duration_ms"].as_f64().is_some_and(|taken| taken > 0.0), "{line}");
    let [line] = lines_of(&lines, "lost")[..] else { panic!("{lines:#?}") };
    assert_eq!((&line["route"], &line["status"]), (&json!("unmatched"), &json!(404)));
    assert!(line["user_id"].is_null() && line["trace_id"].is_null(), "{line}");
    assert!(lines_of(&lines, "probe").is_empty(), "probes are too many: {lines:#?}");
}

#[tokio::test]
async fn lines_of_requests_can_be_turned_off() {
    for (setting, expected) in [("all", 2), ("failed", 0), ("off", 0)] {
        let mut app = TestApp::with_settings(&[("telemetry.requests", setting)]).await;
        app.get("/api/products").await.ok();
        app.get("/nowhere").await.problem(404, "not_found");
        app.stop().await;
        assert_eq!(request_lines(&app).len(), expected, "{setting}: {}", app.log());
    }
}

/// What must not be in a line, besides tokens and e-mail addresses.
const PRIVATE: [&str; 9] = [
    PASSWORD,
    ADMIN_PASSWORD,
    ADMIN_EMAIL,
    "another secret password",
    "a wrong password",
    "Hidden Lane 17",
    "Æbelø",
    "mallory@private.example",
    // The client's address.
    "127.0.0.1",
];

/// Sends requests to every operation of the API's description, and returns all secrets in them.
async fn walk_through_the_routes(app: &TestApp) -> BTreeSet<String> {
    let (admin, ada, guest) = (app.admin().await, app.customer().await, app.guest().await);
    let tea = app.new_product(&admin, &json!(4.5), 100).await;
    let mut secrets: BTreeSet<String> = PRIVATE.map(str::to_owned).into();
    let mut note = |account: &Account| {
        let values = [&account.token, &account.refresh_token, &account.email];
        secrets.extend(values.into_iter().filter(|value| !value.is_empty()).cloned());
    };
    [&admin, &ada, &guest].into_iter().for_each(&mut note);
    app.add_to_cart(&guest, &tea, 2).await.ok();
    app.merge_cart(&ada, &guest).await.ok();
    let address = json!({
        "name": "Ada", "line1": "Hidden Lane 17", "city": "Æbelø", "postal_code": "5400",
        "country": "DK",
    });
    let address = json!({"shipping_address": address});
    let order = app.post("/api/checkout", &address).token(&ada).key("key").await.is(201).json();
    app.order_action(&admin, &order, "pay").await.ok();
    let wrong = json!({"email": "mallory@private.example", "password": "a wrong password"});
    app.post("/api/auth/login", &wrong).await.problem(401, "invalid_credentials");
    let refresh = json!({"refresh_token": ada.refresh_token});
    note(&Account::from_session(&app.post("/api/auth/refresh", &refresh).await.ok()));
    let ticket = app.post("/api/events/ticket", &json!({})).token(&ada).await.is(201).json();
    let ticket = ticket["ticket"].as_str().unwrap().to_owned();
    drop(app.get(&format!("/api/events?ticket={ticket}")).send_streaming().await);
    secrets.insert(ticket);
    // Then each operation with everything that it may take for granted, and without.
    let document = app.get("/openapi.json").await.ok();
    let body = json!({
        "email": "mallory@private.example", "password": "another secret password",
        "current_password": "a wrong password", "new_password": "another secret password",
        "token": ada.token, "refresh_token": ada.refresh_token, "guest_token": guest.token,
        "shipping_address": {"line1": "Hidden Lane 17", "city": "Æbelø"},
    });
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", &tea);
        for method in methods.as_object().unwrap().keys().filter(|key| is_method(key)) {
            // A feed has no end.
            if path == "/api/events" {
                continue;
            }
            for token in [&admin.token, &guest.token, "no token"] {
                let query = format!("{path}?email=mallory@private.example&token={token}");
                let call = app.call(&method.to_uppercase(), &query).token(token);
                drop(call.json(&body).attempt().await);
                drop(app.call(&method.to_uppercase(), &path).token(token).attempt().await);
            }
        }
    }
    secrets
}

fn is_method(key: &str) -> bool {
    ["get", "post", "put", "patch", "delete"].contains(&key)
}

#[tokio::test]
async fn no_line_of_any_route_tells_a_secret() {
    let mut app = TestApp::unstarted(&[]);
    app.write(".env", "RUST_LOG=souk=trace,info\n");
    app.restart().await;
    let secrets = walk_through_the_routes(&app).await;
    let document = app.get("/openapi.json").await.ok();
    app.stop().await;
    let seen: BTreeSet<_> = request_lines(&app)
        .iter()
        .map(|line| format!("{} {}", line["method"], line["route"]).replace('"', ""))
        .collect();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|key| is_method(key)) {
            let operation = format!("{} {path}", method.to_uppercase());
            assert!(seen.contains(&operation), "{operation} was not visited: {seen:#?}");
        }
    }
    let log = app.log();
    for line in log.lines().filter(|line| line.contains(r#""target":"souk"#)) {
        for secret in &secrets {
            assert!(!line.contains(secret), "{secret} is in {line}");
        }
    }
}
