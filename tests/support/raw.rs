//! Requests that no client library would send.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::TestApp;

/// A connection on which bytes are sent as they are.
pub(crate) struct Raw(TcpStream);

impl TestApp {
    pub(crate) async fn connect(&self) -> Raw {
        Raw(TcpStream::connect(self.address()).await.unwrap())
    }
}

impl Raw {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Everything the server says until it closes the connection.
    pub(crate) async fn rest(mut self) -> String {
        let mut text = Vec::new();
        // A connection that is reset while we still send has said what it had to say.
        drop(self.0.read_to_end(&mut text).await);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The next head, up to the empty line that ends it.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    }
}
