//! `souk health`, which containers ask.

use std::io::{Read, Write};

use crate::support::{Cli, TestApp};

/// Asks a node that listens on `address`.
fn ask(app: &TestApp, setting: &str, address: &str) -> Cli {
    Cli::run(app.command().arg("health").env(setting, address))
}

#[tokio::test]
async fn health_says_in_one_line_whether_the_node_is_ready() {
    let mut app = TestApp::with_settings(&[("http.shutdown_delay", "3s")]).await;
    let address = app.address().to_owned();
    let port = address.rsplit_once(':').unwrap().1.to_owned();
    let url = format!("http://{address}/readyz");
    for bind in [address.clone(), format!("0.0.0.0:{port}")] {
        assert_eq!(ask(&app, "SOUK__HTTP__BIND", &bind).ok(), format!("ready: {url}\n"));
    }
    app.signal("TERM");
    app.wait_for_log("stopping: not ready").await;
    let stopping = ask(&app, "SOUK__HTTP__BIND", &address);
    let expected = format!("souk: not_ready: {url} (node stopping, store ok)\n");
    assert_eq!((stopping.code, &*stopping.stderr, &*stopping.stdout), (1, &*expected, ""));
    app.wait_for_exit().await;
    let gone = ask(&app, "SOUK__HTTP__BIND", &address);
    assert_eq!((gone.code, gone.stderr.lines().count()), (1, 1), "{gone:?}");
    assert!(gone.stderr.starts_with(&format!("souk: no answer from {url}: ")), "{gone:?}");
}

#[tokio::test]
async fn health_asks_the_port_for_operators() {
    let mut app = TestApp::with_settings(&[("ops.bind", "127.0.0.1:0")]).await;
    let ops = app.operations_url().await;
    let address = ops.strip_prefix("http://").unwrap();
    assert_eq!(ask(&app, "SOUK__OPS__BIND", address).ok(), format!("ready: {ops}/readyz\n"));
}

#[test]
fn health_recognizes_another_program() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let read = stream.read(&mut [0; 4096]).unwrap();
        assert!(read > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
    });
    let run = ask(&TestApp::unstarted(&[]), "SOUK__HTTP__BIND", &address);
    let expected = format!("souk: http://{address}/readyz answered 200 OK, and not as Souk does\n");
    assert_eq!((run.code, run.stderr), (1, expected));
    other.join().unwrap();
}
