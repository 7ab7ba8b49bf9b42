//! The TCP connection below an AMQP connection.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::mpsc,
};

use lapin::{
    Connection, ConnectionProperties,
    tcp::{AsyncTcpStream, OwnedTLSConfig},
    uri::AMQPScheme,
};
use tokio::time::timeout;

use crate::broker::{BrokerError, BrokerUri, error::STEP_TIMEOUT, with_timeout};

/// Shuts a connection's socket down when it is dropped.
///
/// Otherwise lapin's thread would wait for a silent peer: forever for its greeting, and as long
/// as the operating system allows for its reply to a close.
pub(super) struct SocketGuard(mpsc::Receiver<TcpStream>);

impl SocketGuard {
    /// A guard, and the sender that gives it the socket.
    fn new() -> (mpsc::Sender<TcpStream>, Self) {
        let (socket_sender, sockets) = mpsc::channel();
        (socket_sender, Self(sockets))
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        for socket in self.0.try_iter() {
            // A socket that is closed already fails here, which is fine.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

/// Connects to the broker. The broker shows the connection as `souk <name>`.
pub(super) async fn connect(
    uri: &BrokerUri,
    name: &str,
) -> Result<(Connection, SocketGuard), BrokerError> {
    let properties =
        ConnectionProperties::default().with_connection_name(format!("souk {name}").into());
    let runtime = lapin::runtime::default_runtime()?;
    let (socket_sender, socket_guard) = SocketGuard::new();
    // lapin's thread continues an attempt that was dropped here, so the network part has a
    // timeout of its own.
    let connect = Connection::connector(
        uri.to_amqp_uri(),
        runtime,
        async move |uri, runtime| {
            let stream = timeout(STEP_TIMEOUT, async {
                let address =
                    runtime.to_socket_addrs((uri.authority.host.clone(), uri.authority.port));
                let stream = AsyncTcpStream::connect(&runtime, address).await?;
                if let AsyncTcpStream::Plain(plain) = &stream {
                    let socket = TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?);
                    socket_sender
                        .send(socket)
                        .map_err(|_| io::Error::other("the attempt was canceled"))?;
                }
                match uri.scheme {
                    AMQPScheme::AMQP => Ok(stream),
                    AMQPScheme::AMQPS => {
                        stream
                            .into_tls(&uri.authority.host, OwnedTLSConfig::default().as_ref())
                            .await
                    }
                }
            });
            Ok(stream.await.map_err(io::Error::from)??)
        },
        properties,
    );
    Ok((with_timeout(connect).await?, socket_guard))
}
