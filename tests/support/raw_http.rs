//! Raw HTTP requests that no client library would send.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
};

use super::TestApp;

/// A connection that sends bytes as they are.
pub(crate) struct RawConnection(BufReader<TcpStream>);

/// A response as received.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    /// Status line and headers in lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl TestApp {
    pub(crate) async fn connect(&self) -> RawConnection {
        RawConnection(BufReader::new(TcpStream::connect(self.address()).await.unwrap()))
    }

    /// The status of the response to HEAD, which has no body to describe an error.
    pub(crate) async fn status_of_head(&self, path: &str) -> u16 {
        let mut connection = self.connect().await;
        connection.send(format!("HEAD {path} HTTP/1.1\r\nhost: souk\r\n\r\n")).await;
        connection.status().await.expect("a response")
    }

    /// Connects from a loopback address such as `127.0.0.2`. The receive buffer is small, so that
    /// a client that reads nothing soon holds up the server.
    pub(crate) async fn connect_from(&self, address: &str) -> RawConnection {
        self.try_connect_from(address).await.unwrap()
    }

    /// Like `connect_from`. The server may close the connection before this returns.
    pub(crate) async fn try_connect_from(&self, address: &str) -> std::io::Result<RawConnection> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        let stream = socket.connect(self.address().parse().unwrap()).await?;
        Ok(RawConnection(BufReader::new(stream)))
    }
}

impl RawConnection {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends until the server closes the connection.
    pub(crate) async fn send_while_wanted(&mut self, bytes: impl AsRef<[u8]>) {
        drop(self.0.write_all(bytes.as_ref()).await);
    }

    /// Sends a request without a body.
    pub(crate) async fn get(&mut self, path: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nhost: souk\r\n\r\n");
        self.send_while_wanted(head).await;
    }

    /// The status of the next response, whose body is not read; `None` if the server has closed
    /// the connection without one.
    pub(crate) async fn status(&mut self) -> Option<u16> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        std::str::from_utf8(&head).unwrap().split(' ').nth(1).unwrap().parse().ok()
    }

    /// Reads until the server closes the connection; returns what it sent.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        drop(self.0.read_to_end(&mut bytes).await);
        bytes
    }

    pub(crate) async fn response(&mut self) -> RawResponse {
        self.try_response().await.expect("a complete response")
    }

    /// The next response; `None` if the server closes the connection without a complete one.
    pub(crate) async fn try_response(&mut self) -> Option<RawResponse> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.ok()?;
        Some(RawResponse { status, head, body })
    }
}

impl RawResponse {
    /// Asserts an error response.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.head);
        assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["code"], code);
        assert!(
            self.head
                .contains(&format!("x-request-id: {}", problem["request_id"].as_str().unwrap())),
            "{}",
            self.head
        );
    }
}
