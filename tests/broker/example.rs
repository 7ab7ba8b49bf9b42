//! Runs `examples/consumer.py` unmodified.

use std::{process::Stdio, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    amqp_client::{AmqpClient, DEAD_LETTERS},
    broker::shared_uri,
    commands::{product_with_ten_units, python_with_pika, shop_with_broker},
};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts the example consumer; returns the process and its output.
async fn start_consumer(
    python: &std::ffi::OsStr,
    uri: &str,
) -> (Child, Lines<BufReader<ChildStdout>>) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/consumer.py");
    let mut child = Command::new(python)
        .args([script, uri])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(next_line(&mut lines).await, "waiting for stock events");
    (child, lines)
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    tokio::time::timeout(TIMEOUT, lines.next_line())
        .await
        .expect("the consumer prints nothing")
        .unwrap()
        .expect("the consumer has exited")
}

#[tokio::test]
async fn example_consumer_prints_stock_and_restocks() {
    let (Some(uri), Some(python)) = (shared_uri(), python_with_pika()) else { return };
    let app = shop_with_broker(&uri).await;
    let admin = app.admin().await;
    let amqp_client = AmqpClient::connect_when_ready(&uri).await;
    let (mut child, mut lines) = start_consumer(&python, &uri).await;
    let tea = product_with_ten_units(&app, &admin, "TEA").await;
    let first = format!("stock {tea}: 10 available, 10 on hand (version 1)");
    assert_eq!(next_line(&mut lines).await, first);
    // The queue keeps messages while the consumer is down.
    child.kill().await.unwrap();
    app.change_stock(&admin, &tea, &json!({"delta": -8, "reason": "sold at the door"})).await.ok();
    app.wait_until_published().await;
    let (child, mut lines) = start_consumer(&python, &uri).await;
    let mut line = next_line(&mut lines).await;
    if line == first {
        // The consumer was killed after printing the line and before acknowledging it.
        line = next_line(&mut lines).await;
    }
    assert_eq!(line, format!("stock {tea}: 2 available, 2 on hand (version 2)"));
    assert_eq!(next_line(&mut lines).await, format!("restock {tea}: +20"));
    assert_eq!(
        next_line(&mut lines).await,
        format!("stock {tea}: 22 available, 22 on hand (version 3)")
    );
    app.change_stock(&admin, &tea, &json!({"set": 0, "reason": "spoiled"})).await.ok();
    assert_eq!(
        next_line(&mut lines).await,
        format!("stock {tea}: 0 available, 0 on hand (version 4)")
    );
    assert_eq!(next_line(&mut lines).await, format!("restock {tea}: +20"));
    assert_eq!(
        next_line(&mut lines).await,
        format!("stock {tea}: 20 available, 20 on hand (version 5)")
    );
    assert_eq!(amqp_client.message_count(DEAD_LETTERS).await, 0);
    // The same signal as Ctrl-C.
    let interrupt = std::process::Command::new("kill")
        .args(["-s", "INT", &child.id().unwrap().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let ended = tokio::time::timeout(TIMEOUT, child.wait_with_output())
        .await
        .expect("the consumer does not exit")
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "an interrupt prints no error");
}
