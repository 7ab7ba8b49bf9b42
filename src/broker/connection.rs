//! A connection to the broker that is made again whenever it is lost, without end.
//!
//! lapin can do so too, but gives up after a while, and leaves what was under way hanging. So a connection of lapin's lives as long as
//! it lives; whoever used it hears that it is gone and begins anew on the next.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use futures_util::FutureExt;
use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind,
    options::BasicQosOptions,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
    tcp::{AsyncTcpStream, OwnedTLSConfig},
    uri::AMQPScheme,
};
use tokio::{
    sync::{Mutex, oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{BrokerError, BrokerUri, with_timeout};

/// Pauses between attempts to connect: at first, and at most.
const RECONNECT_BACKOFF: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(2));

/// Pauses between attempts at work on a connection that lives: at first, and at most.
const WORK_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Work that has lasted so long was well.
const STABLE_AFTER: Duration = Duration::from_secs(10);

/// How often to look whether a connection lives.
const LIVENESS_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// After so many looks the broker is asked.
const CHECKS_PER_PROBE: u32 = 20;

/// How long the broker may take to say goodbye, and how long its thread may take to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that is made again whenever it is lost.
pub struct ManagedConnection {
    session: watch::Receiver<Option<BrokerSession>>,
    ready: Arc<AtomicBool>,
    closing: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// One connection, as long as it lasts.
#[derive(Clone)]
pub struct BrokerSession {
    connection: Arc<Connection>,
    /// Closed when the connection is gone.
    alive: watch::Receiver<()>,
    ready: Arc<AtomicBool>,
}

/// Says that what a link is for is done on it, as long as it lives.
pub struct ReadyGuard(Arc<AtomicBool>);

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl ManagedConnection {
    /// Begins to connect; `name` is what the broker's operator and the log call it. Has to be called on the runtime that the
    /// connection shall live on, and closed before that ends.
    #[must_use]
    pub fn start(uri: BrokerUri, name: &'static str) -> Arc<Self> {
        let (sessions, session) = watch::channel(None);
        let (closing, closes) = watch::channel(false);
        let working = Arc::default();
        let keeper = ConnectionTask {
            uri,
            name,
            sessions,
            ready: Arc::clone(&working),
            closing: closes,
            reason: None,
        };
        let keeper = Mutex::new(Some(tokio::spawn(keeper.run())));
        Arc::new(Self { session, ready: working, closing, task: keeper })
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Whether there is a connection now, and the work that it is for is being done on it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_up() && self.ready.load(Ordering::Relaxed)
    }

    /// The connection, waited for; `None` when the link was closed for good.
    pub async fn wait_for_session(&self) -> Option<BrokerSession> {
        let mut sessions = self.session.clone();
        loop {
            if let Some(session) = sessions.borrow_and_update().clone() {
                return Some(session);
            }
            sessions.changed().await.ok()?;
        }
    }

    /// Does `work` on each connection, until the link is closed. Work that fails while its connection lives is begun anew after a
    /// pause, longer each time that it fails soon; its error is told in the log, under `what`, once for each reason.
    pub async fn supervise<F>(&self, what: &'static str, work: impl Fn(BrokerSession) -> F)
    where
        F: Future<Output = Result<(), BrokerError>>,
    {
        let mut failures = RetryState::new();
        while let Some(session) = self.wait_for_session().await {
            let (gone, begun) = (session.clone(), Instant::now());
            let done = tokio::select! {
                done = catch_panic(work(session)) => done,
                () = gone.wait_until_lost() => Ok(()),
            };
            if begun.elapsed() >= STABLE_AFTER {
                failures = RetryState::new();
            }
            if let Err(error) = done {
                failures.log_once(what, &error);
            }
            tokio::select! {
                () = sleep(failures.pause) => failures.pause = (failures.pause * 2).min(WORK_BACKOFF.1),
                // The next connection may be a better one.
                () = gone.wait_until_lost() => failures.pause = WORK_BACKOFF.0,
            }
        }
    }

    /// Closes the connection and makes no other.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        if let Some(keeper) = self.task.lock().await.take()
            && keeper.await.is_err()
        {
            tracing::error!("the task of a connection to the broker had panicked");
        }
    }
}

impl BrokerSession {
    /// A new channel.
    ///
    /// # Errors
    /// The connection is gone, or does not answer.
    pub async fn open_channel(&self) -> Result<Channel, BrokerError> {
        with_timeout(self.connection.create_channel()).await
    }

    /// Says that the work is being done, from when everything it needs is there until it ends.
    #[must_use]
    pub fn mark_ready(&self) -> ReadyGuard {
        self.ready.store(true, Ordering::Relaxed);
        ReadyGuard(Arc::clone(&self.ready))
    }

    /// Waits until the connection is gone.
    pub async fn wait_until_lost(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }
}

/// What is remembered of work that fails again and again.
struct RetryState {
    /// How long to wait before the next attempt.
    pause: Duration,
    /// What went wrong, as last told in the log.
    reason: Option<String>,
}

impl RetryState {
    const fn new() -> Self {
        Self { pause: WORK_BACKOFF.0, reason: None }
    }

    /// Says what went wrong, once for each reason; whether it was said.
    fn log_once(&mut self, what: &'static str, error: &BrokerError) -> bool {
        let reason = error.to_string();
        let is_new = self.reason.as_ref() != Some(&reason);
        if is_new && matches!(error, BrokerError::Panicked) {
            tracing::error!(
                what,
                "work with the broker panicked, which is a fault in souk; beginning anew"
            );
        } else if is_new {
            tracing::warn!(
                reason,
                what,
                "work with the broker was broken off; beginning anew until it lasts"
            );
        } else {
            tracing::debug!(reason, what, "work with the broker was broken off again");
        }
        self.reason = Some(reason);
        is_new
    }
}

/// Does `work`; a panic in it becomes an error, so that it does not end unseen.
pub(super) async fn catch_panic<T>(
    work: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(BrokerError::Panicked))
}

/// The task behind a link.
struct ConnectionTask {
    uri: BrokerUri,
    name: &'static str,
    sessions: watch::Sender<Option<BrokerSession>>,
    ready: Arc<AtomicBool>,
    closing: watch::Receiver<bool>,
    /// Why there is no connection, as last told in the log.
    reason: Option<String>,
}

impl ConnectionTask {
    async fn run(mut self) {
        let mut closing = self.closing.clone();
        let mut pause = RECONNECT_BACKOFF.0;
        loop {
            let attempt = tokio::select! {
                attempt = self.connect() => attempt,
                () = wait_for_close(&mut closing) => return,
            };
            match attempt {
                Ok((connection, wire)) => {
                    pause = RECONNECT_BACKOFF.0;
                    self.reason = None;
                    tracing::info!(
                        broker = self.uri.address(),
                        connection = self.name,
                        "connected to the broker"
                    );
                    if self.hold_until_lost(connection).await {
                        return;
                    }
                    drop(wire);
                    tracing::warn!(
                        broker = self.uri.address(),
                        connection = self.name,
                        "the broker is away; trying again"
                    );
                }
                Err(error) => self.log_once(&error),
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = wait_for_close(&mut closing) => return,
            }
            pause = (pause * 2).min(RECONNECT_BACKOFF.1);
        }
    }

    async fn connect(&self) -> Result<(Connection, SocketGuard), BrokerError> {
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("souk {}", self.name).into());
        let runtime = lapin::runtime::default_runtime()?;
        let (hand, wire) = SocketGuard::new();
        // The attempt goes on in lapin's thread when nobody waits for it any more, so that the network has a limit of its own.
        let connect = Connection::connector(
            self.uri.to_amqp_uri(),
            runtime,
            async move |uri, runtime| {
                let stream = timeout(super::STEP_TIMEOUT, async {
                    let address =
                        runtime.to_socket_addrs((uri.authority.host.clone(), uri.authority.port));
                    let stream = AsyncTcpStream::connect(&runtime, address).await?;
                    if let AsyncTcpStream::Plain(plain) = &stream {
                        let socket = TcpStream::from(plain.get_ref().as_fd().try_clone_to_owned()?);
                        hand.send(socket)
                            .map_err(|_| io::Error::other("nobody waits for it any more"))?;
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
        Ok((with_timeout(connect).await?, wire))
    }

    /// Lends a connection out until it is lost or the link is closed; true for the latter.
    async fn hold_until_lost(&mut self, connection: Connection) -> bool {
        let connection = Arc::new(connection);
        let (living, alive) = watch::channel(());
        let session = BrokerSession {
            connection: Arc::clone(&connection),
            alive,
            ready: Arc::clone(&self.ready),
        };
        self.sessions.send_replace(Some(session));
        let wanted = tokio::select! {
            () = watch_liveness(&connection) => true,
            () = wait_for_close(&mut self.closing) => false,
        };
        self.sessions.send_replace(None);
        drop(living);
        if !wanted {
            close_gracefully(connection).await;
        }
        !wanted
    }

    /// Says why there is no connection, once for each reason.
    fn log_once(&mut self, error: &BrokerError) {
        let reason = if is_access_refused(error) {
            format!(
                "it refuses the user {:?}, the password or the virtual host of broker.uri; correct them",
                self.uri.user()
            )
        } else {
            error.to_string()
        };
        if self.reason.as_ref() != Some(&reason) {
            let (broker, connection) = (self.uri.address(), self.name);
            tracing::warn!(
                broker,
                connection,
                reason,
                "cannot connect to the broker; trying again until it can be done"
            );
            self.reason = Some(reason);
        }
    }
}

/// The socket of a connection, cut off when this is dropped. Otherwise lapin's thread would wait for a peer that says nothing: for ever
/// for its greeting, and as long as the system does for an answer to its goodbye.
struct SocketGuard(mpsc::Receiver<TcpStream>);

impl SocketGuard {
    /// A wire, and where to hand its socket to.
    fn new() -> (mpsc::Sender<TcpStream>, Self) {
        let (hand, sockets) = mpsc::channel();
        (hand, Self(sockets))
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        for socket in self.0.try_iter() {
            // Who has gone by itself needs no cutting off.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

async fn wait_for_close(closing: &mut watch::Receiver<bool>) {
    // A link that was dropped is closed too.
    drop(closing.wait_for(|closing| *closing).await);
}

/// Waits until a connection is dead. Silence is found out by asking: heartbeats alone would take longer than they should.
async fn watch_liveness(connection: &Connection) {
    let Ok(channel) = with_timeout(connection.create_channel()).await else { return };
    let mut looks = 0_u32;
    while connection.status().connected() {
        sleep(LIVENESS_CHECK_INTERVAL).await;
        looks = looks.wrapping_add(1);
        // A broker short of memory does not listen to those who publish, but lives.
        if looks.is_multiple_of(CHECKS_PER_PROBE) && !connection.status().blocked() {
            let answer = with_timeout(channel.basic_qos(1, BasicQosOptions::default())).await;
            if answer.is_err() && !connection.status().blocked() {
                return;
            }
        }
    }
}

/// Takes leave of the broker, and waits for lapin's thread, which must not outlive the runtime.
async fn close_gracefully(connection: Arc<Connection>) {
    let goodbye = async {
        if let Err(error) = connection.close(200, "souk is stopping".into()).await {
            tracing::debug!(%error, "the broker had gone already");
        }
        while Arc::strong_count(&connection) > 1 {
            sleep(Duration::from_millis(5)).await;
        }
        let Some(connection) = Arc::into_inner(connection) else { return };
        let (end, ended) = oneshot::channel();
        // Not one of the runtime's own threads, whose end it would wait for without limit.
        thread::spawn(move || end.send(connection.run()));
        if let Ok(Err(error)) = ended.await {
            tracing::debug!(%error, "a connection to the broker did not end well");
        }
    };
    if timeout(CLOSE_TIMEOUT, goodbye).await.is_err() {
        tracing::warn!("the broker did not take leave in time");
    }
}

/// Whether the broker is there, but does not let souk in.
fn is_access_refused(error: &BrokerError) -> bool {
    let BrokerError::Amqp(error) = error else { return false };
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    matches!(
        error.kind(),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
            | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_becomes_a_broker_error() {
        let ended = catch_panic::<()>(async { panic!("in the work") }).await;
        assert!(matches!(ended, Err(BrokerError::Panicked)));
        assert!(matches!(catch_panic(async { Ok(7) }).await, Ok(7)));
    }

    #[test]
    fn repeated_reason_is_logged_once() {
        let mut failures = RetryState::new();
        let told = [
            BrokerError::EventRejected(7),
            BrokerError::EventRejected(7),
            BrokerError::Timeout,
            BrokerError::EventRejected(7),
        ];
        assert_eq!(told.map(|error| failures.log_once("relay", &error)), [true, false, true, true]);
    }
}
