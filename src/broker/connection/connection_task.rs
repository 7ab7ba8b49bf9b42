//! The background task of a [`ManagedConnection`](super::ManagedConnection): connects, watches
//! the connection, and reconnects.

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use lapin::{
    BasicProperties, Channel, Connection, ErrorKind,
    options::{BasicPublishOptions, BasicQosOptions},
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};

use super::{
    BrokerSession,
    backoff::{LastLogged, endless_backoff, next_delay},
    socket::{self, SocketGuard},
};
use crate::broker::{BrokerError, BrokerUri, with_timeout};

/// Delays between attempts to connect.
const RECONNECT_BACKOFF: ExponentialBuilder =
    endless_backoff(Duration::from_millis(100), Duration::from_secs(2));

/// How often the state of a connection is checked.
const LIVENESS_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The broker is sent a request at every such check.
const CHECKS_PER_PROBE: u32 = 20;

/// The routing key of probes in the default exchange. No queue has this name.
const PROBE_ROUTING_KEY: &str = "souk.probe";

/// How long a close may take, including the end of lapin's thread.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct ConnectionTask {
    uri: BrokerUri,
    name: &'static str,
    sessions: watch::Sender<Option<BrokerSession>>,
    ready: Arc<AtomicBool>,
    closing: watch::Receiver<bool>,
    probe: Probe,
    last_logged: LastLogged,
}

/// What the broker is sent to find out whether it is alive.
#[derive(Clone, Copy)]
pub(super) enum Probe {
    /// A request.
    Request,
    /// A request, and a message that no queue receives. A broker that is short of memory or disk
    /// tells only those who publish.
    Message,
}

impl ConnectionTask {
    pub(super) fn new(
        uri: BrokerUri,
        name: &'static str,
        sessions: watch::Sender<Option<BrokerSession>>,
        ready: Arc<AtomicBool>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let (probe, last_logged) = (Probe::Request, LastLogged::default());
        Self { uri, name, sessions, ready, closing, probe, last_logged }
    }

    pub(super) fn with_probe(self, probe: Probe) -> Self {
        Self { probe, ..self }
    }

    /// Keeps a connection until it is closed for good.
    ///
    /// This is a loop and not backon's `retry`: a success is held until it fails, and then the
    /// attempts start over.
    pub(super) async fn run(mut self) {
        let mut closing = self.closing.clone();
        let mut backoff = RECONNECT_BACKOFF.build();
        loop {
            let attempt = tokio::select! {
                attempt = socket::connect(&self.uri, self.name) => attempt,
                () = wait_for_close(&mut closing) => return,
            };
            match attempt {
                Ok((connection, socket_guard)) => {
                    backoff = RECONNECT_BACKOFF.build();
                    if self.hold_until_lost(connection, socket_guard).await {
                        return;
                    }
                }
                Err(error) => self.log_once(&error),
            }
            tokio::select! {
                () = sleep(next_delay(&mut backoff)) => {}
                () = wait_for_close(&mut closing) => return,
            }
        }
    }

    /// Publishes a session until the connection is lost or closed. Returns true when it is closed.
    async fn hold_until_lost(&mut self, connection: Connection, socket_guard: SocketGuard) -> bool {
        self.last_logged = LastLogged::default();
        let (broker, name) = (self.uri.address(), self.name);
        tracing::info!(broker, connection = name, "connected to the broker");
        let connection = Arc::new(connection);
        let (alive_sender, alive) = watch::channel(());
        let session = BrokerSession {
            connection: Arc::clone(&connection),
            alive,
            ready: Arc::clone(&self.ready),
        };
        self.sessions.send_replace(Some(session));
        let is_closed = tokio::select! {
            () = watch_liveness(&connection, self.probe) => false,
            () = wait_for_close(&mut self.closing) => true,
        };
        self.sessions.send_replace(None);
        drop(alive_sender);
        if is_closed {
            close_gracefully(connection).await;
        } else {
            tracing::warn!(
                broker,
                connection = name,
                "lost the connection to the broker; reconnecting"
            );
        }
        drop(socket_guard);
        is_closed
    }

    /// Logs why an attempt to connect failed, unless it is the same reason as before.
    fn log_once(&mut self, error: &BrokerError) {
        let error = if is_access_refused(error) {
            format!(
                "the broker refused access to user {:?}; \
                 check the user, the password and the virtual host in broker.uri",
                self.uri.user()
            )
        } else {
            error.to_string()
        };
        if self.last_logged.record(&error) {
            let (broker, connection) = (self.uri.address(), self.name);
            tracing::warn!(broker, connection, error, "failed to connect to the broker; retrying");
        }
    }
}

async fn send_probe(channel: &Channel, probe: Probe) -> lapin::Result<()> {
    if matches!(probe, Probe::Message) {
        let options = BasicPublishOptions::default();
        let (exchange, key) = ("".into(), PROBE_ROUTING_KEY.into());
        drop(channel.basic_publish(exchange, key, options, &[], BasicProperties::default()).await?);
    }
    channel.basic_qos(1, BasicQosOptions::default()).await
}

/// Waits until the connection is closed for good, also by dropping its owner.
async fn wait_for_close(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closing| *closing).await);
}

/// Waits until a connection is dead. A probe finds a silent broker sooner than heartbeats do.
async fn watch_liveness(connection: &Connection, probe: Probe) {
    let Ok(channel) = with_timeout(connection.create_channel()).await else { return };
    let mut checks = 0_u32;
    while connection.status().connected() {
        sleep(LIVENESS_CHECK_INTERVAL).await;
        checks = checks.wrapping_add(1);
        // A broker that is short of memory stops reading from publishers, but it is alive.
        if checks.is_multiple_of(CHECKS_PER_PROBE) && !connection.status().blocked() {
            let reply = with_timeout(send_probe(&channel, probe)).await;
            if reply.is_err() && !connection.status().blocked() {
                return;
            }
        }
    }
}

/// Closes a connection, and waits for lapin's thread, which must not outlive the runtime.
async fn close_gracefully(connection: Arc<Connection>) {
    let close = async {
        if let Err(error) = connection.close(200, "souk is stopping".into()).await {
            tracing::debug!(%error, "the broker had closed the connection already");
        }
        // Those who use the session drop it now that it is gone.
        while Arc::strong_count(&connection) > 1 {
            sleep(Duration::from_millis(5)).await;
        }
        let Some(connection) = Arc::into_inner(connection) else { return };
        let (end, ended) = oneshot::channel();
        // `run` blocks. The runtime would wait for one of its own threads without limit.
        thread::spawn(move || end.send(connection.run()));
        if let Ok(Err(error)) = ended.await {
            tracing::debug!(%error, "a broker connection ended with an error");
        }
    };
    if timeout(CLOSE_TIMEOUT, close).await.is_err() {
        tracing::warn!("failed to close a broker connection in time; leaving it to the broker");
    }
}

/// Whether the broker responded, but refused the user, the password or the virtual host.
fn is_access_refused(error: &BrokerError) -> bool {
    let BrokerError::Amqp(error) = error else { return false };
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(
        error.kind(),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
            | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH)
    )
}
