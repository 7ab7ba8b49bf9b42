//! Connections from a chosen address that are opened again when the server closes them.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;

use crate::load_generator::{Connection, Request};

/// A status that stands for a connection that failed or was closed without a response.
pub const NO_RESPONSE: u16 = 0;

/// A client at one address with one connection at a time.
pub struct Client {
    local: Ipv4Addr,
    server: SocketAddr,
    connection: Option<Connection>,
}

impl Client {
    pub const fn new(local: Ipv4Addr, server: SocketAddr) -> Self {
        Self { local, server, connection: None }
    }

    /// Sends a request. Returns the status and the body.
    ///
    /// A request on a kept connection that the server has closed meanwhile is sent again on a new
    /// one, as any HTTP client does.
    pub async fn send(&mut self, request: &Request) -> (u16, Vec<u8>) {
        if let Some(mut connection) = self.connection.take()
            && let Ok((status, start)) = connection.exchange(request).await
        {
            let body = connection.body_from(start);
            self.connection = Some(connection);
            return (status, body);
        }
        let Ok(mut connection) = Connection::open_from(self.local, self.server).await else {
            return (NO_RESPONSE, Vec::new());
        };
        let Ok((status, start)) = connection.exchange(request).await else {
            return (NO_RESPONSE, Vec::new());
        };
        let body = connection.body_from(start);
        self.connection = Some(connection);
        (status, body)
    }

    /// Sends a request whose response is JSON; `Null` if it is not.
    pub async fn send_for_json(&mut self, request: &Request) -> (u16, Value) {
        let (status, body) = self.send(request).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}
