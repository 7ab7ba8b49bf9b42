//! Receivers of webhooks: one with TLS, and the example.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    mail_security::make_certificate,
    support::{
        TestApp, temp_dir,
        webhooks::{Receiver, SETTINGS, packages},
    },
    webhook_deliveries::{TIMEOUT, attempts},
};

#[tokio::test]
async fn endpoint_must_prove_who_it_is() {
    let dir = temp_dir();
    make_certificate(dir.path());
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("mail.crt"), file("mail.key"));
    let receiver = Receiver::start_with_tls("webhooks over TLS", [&certificate, &key]).await;
    let Some(mut receiver) = receiver else { return };
    let mut app = TestApp::with_settings(&SETTINGS).await;
    let admin = app.admin().await;
    let url = format!("https://localhost:{}/erp", receiver.port());
    let body = json!({"url": url, "types": ["catalog.*"]});
    let made = app.post("/api/webhooks", &body).token(&admin).await.is(201).json();
    receiver.set_secrets("/erp", &[made["secret"].as_str().unwrap()]).await;
    app.new_product(&admin, &json!(4), 0).await;
    // Nobody vouches for it.
    let failed = attempts(&app, &admin, &made, 1).await;
    assert_eq!((&failed[0]["error"], &failed[0]["status_code"]), (&json!("tls"), &Value::Null));
    app.stop().await;
    app.set("webhooks.ca_file", &certificate);
    app.restart().await;
    let admin = app.admin().await;
    app.new_product(&admin, &json!(4), 0).await;
    assert_eq!(receiver.request("/erp").await["verified_by"], json!([0]));
}

#[tokio::test]
async fn example_receiver_verifies_what_it_gets() {
    let Some(packages) = packages("the example of a receiver") else { return };
    let app = TestApp::with_settings(&SETTINGS).await;
    let admin = app.admin().await;
    // The port is known before the secret is.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let body = json!({"url": format!("http://127.0.0.1:{port}/"), "types": ["order.*"]});
    let made = app.post("/api/webhooks", &body).token(&admin).await.is(201).json();
    let mut child = tokio::process::Command::new("python3")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/webhook_receiver.py"))
        .args([made["secret"].as_str().unwrap(), &port.to_string()])
        .env("PYTHONPATH", packages)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = tokio::time::timeout(TIMEOUT, lines.next_line()).await;
        line.expect("it prints nothing").unwrap().expect("it has ended")
    };
    assert_eq!(next().await, format!("listening on port {port}"));
    let tea = app.new_product(&admin, &json!(4), 5).await;
    let ada = app.customer().await;
    let order = app.buy(&ada, &tea, 1).await;
    let id = order["id"].as_str().unwrap();
    assert_eq!(next().await, format!("order.placed {id} (1)"));
    app.order_action(&admin, &order, "pay").await.ok();
    assert_eq!(next().await, format!("order.paid {id} (2)"));
    let forged = reqwest::Client::new().post(format!("http://127.0.0.1:{port}/"));
    let forged = forged.header("webhook-id", "1").body("{}").send().await.unwrap();
    assert_eq!(forged.status(), 401);
}
