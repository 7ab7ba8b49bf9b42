use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::Mutex,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::webhooks::HostLookup;

/// An upper bound that only a hang exceeds, even on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Answers each look-up with the next of `answers`, and the last one forever.
fn lookup(answers: &[&[IpAddr]]) -> HostLookup {
    let answers: Mutex<VecDeque<Vec<IpAddr>>> =
        Mutex::new(answers.iter().map(|found| found.to_vec()).collect());
    Arc::new(move |_| {
        let mut answers = answers.lock().unwrap();
        let found = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move { found.ok_or_else(|| io::Error::other("no such host")) })
    })
}

fn client(allow_private: bool, timeout: Duration, lookup: HostLookup) -> WebhookClient {
    let options = WebhookOptions {
        timeout,
        retry_schedule: Vec::new(),
        pause_after: LONG,
        allow_private,
        ca_certificates: None,
        max_attempts: 8,
        lookup,
    };
    WebhookClient::new(&options).unwrap()
}

fn message(url: &str) -> WebhookMessage {
    WebhookMessage {
        url: url.to_owned(),
        id: "01936f5e-8a3b-7c41-9d52-6f0e1b2a3c4d".into(),
        timestamp_secs: 1_700_000_000,
        signature: "v1,AAAA".into(),
        body: Bytes::from_static(b"{}"),
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PUBLIC: IpAddr = IpAddr::V4(Ipv4Addr::new(93, 184, 215, 14));

/// A server that reads a request and answers it with `answer`, for each connection.
async fn serve(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn name_that_leads_to_a_private_address_at_the_second_look_up_is_refused() {
    let port = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let url = format!("https://rebound.example:{port}/");
    let rebound = lookup(&[&[PUBLIC], &[LOOPBACK]]);
    // The look-up when the endpoint was made.
    assert_eq!(rebound("rebound.example".into()).await.unwrap(), [PUBLIC]);
    let client = client(false, LONG, rebound);
    assert_eq!(client.send(message(&url)).await, Err(DeliveryError::AddressNotAllowed));
}

#[tokio::test]
async fn one_private_address_among_others_is_enough_to_refuse() {
    for private in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"]
    {
        let client = client(false, LONG, lookup(&[&[PUBLIC, private.parse().unwrap()]]));
        let sent = client.send(message("https://mixed.example/")).await;
        assert_eq!(sent, Err(DeliveryError::AddressNotAllowed), "{private}");
    }
    let strict = client(false, LONG, lookup(&[&[LOOPBACK]]));
    for url in
        ["http://erp.example/", "https://127.0.0.1/", "https://2130706433/", "https://[::1]/"]
    {
        let sent = strict.send(message(url)).await;
        assert_eq!(sent, Err(DeliveryError::AddressNotAllowed), "{url}");
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    let closed = {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let plain = serve(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let (cut, nonsense) = (serve(b"").await, serve(b"220 mail.example ESMTP\r\n").await);
    let client = client(true, LONG, lookup(&[&[LOOPBACK]]));
    for (url, error) in [
        (format!("http://host.example:{closed}/"), DeliveryError::Connect),
        (format!("https://host.example:{plain}/"), DeliveryError::Tls),
        (format!("http://host.example:{cut}/"), DeliveryError::Protocol),
        (format!("http://127.0.0.1:{nonsense}/"), DeliveryError::Protocol),
    ] {
        assert_eq!(client.send(message(&url)).await, Err(error), "{url}");
    }
    let url = format!("http://host.example:{plain}/");
    assert_eq!(client.send(message(&url)).await, Ok(StatusCode::OK));
    let unknown = super::tests::client(true, LONG, lookup(&[]));
    assert_eq!(unknown.send(message(&url)).await, Err(DeliveryError::Dns));
}

#[tokio::test]
async fn server_that_does_not_answer_in_time_is_a_timeout() {
    // It accepts and never answers.
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client = client(true, Duration::from_millis(300), lookup(&[]));
    assert_eq!(client.send(message(&url)).await, Err(DeliveryError::Timeout));
}

#[tokio::test]
async fn redirect_is_not_followed_and_endless_answer_is_not_read() {
    const ENDLESS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n\
        and the rest never comes";
    let target = serve(ENDLESS).await;
    let redirect: &'static str = Box::leak(
        format!(
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{target}/\r\n\
                 content-length: 0\r\n\r\n"
        )
        .into_boxed_str(),
    );
    let port = serve(redirect.as_bytes()).await;
    let client = client(true, LONG, lookup(&[]));
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(client.send(message(&url)).await, Ok(StatusCode::FOUND));
    // The head came in time, so the event is delivered, whatever becomes of the body.
    let url = format!("http://127.0.0.1:{target}/");
    assert_eq!(client.send(message(&url)).await, Ok(StatusCode::OK));
}
