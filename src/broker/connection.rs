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

use super::{BrokerError, BrokerUri, step};

/// Pauses between attempts to connect: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Pauses between attempts at work on a connection that lives: at first, and at most.
const PAUSE_OF_WORK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Work that has lasted so long was well.
const LASTING: Duration = Duration::from_secs(10);

/// How often to look whether a connection lives.
const LOOK: Duration = Duration::from_millis(100);

/// After so many looks the broker is asked.
const LOOKS_BETWEEN_QUESTIONS: u32 = 20;

/// How long the broker may take to say goodbye, and how long its thread may take to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection that is made again whenever it is lost.
pub struct Link {
    session: watch::Receiver<Option<Session>>,
    working: Arc<AtomicBool>,
    closing: watch::Sender<bool>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// One connection, as long as it lasts.
#[derive(Clone)]
pub struct Session {
    connection: Arc<Connection>,
    /// Closed when the connection is gone.
    alive: watch::Receiver<()>,
    working: Arc<AtomicBool>,
}

/// Says that what a link is for is done on it, as long as it lives.
pub struct Working(Arc<AtomicBool>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Link {
    /// Begins to connect; `name` is what the broker's operator and the log call it. Has to be called on the runtime that the
    /// connection shall live on, and closed before that ends.
    #[must_use]
    pub fn start(uri: BrokerUri, name: &'static str) -> Arc<Self> {
        let (sessions, session) = watch::channel(None);
        let (closing, closes) = watch::channel(false);
        let working = Arc::default();
        let keeper = Keeper {
            uri,
            name,
            sessions,
            working: Arc::clone(&working),
            closing: closes,
            reason: None,
        };
        let keeper = Mutex::new(Some(tokio::spawn(keeper.keep())));
        Arc::new(Self { session, working, closing, keeper })
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Whether there is a connection now, and the work that it is for is being done on it.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.is_up() && self.working.load(Ordering::Relaxed)
    }

    /// The connection, waited for; `None` when the link was closed for good.
    pub async fn session(&self) -> Option<Session> {
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
    pub async fn serve<F>(&self, what: &'static str, work: impl Fn(Session) -> F)
    where
        F: Future<Output = Result<(), BrokerError>>,
    {
        let mut failures = Failures::none();
        while let Some(session) = self.session().await {
            let (gone, begun) = (session.clone(), Instant::now());
            let done = tokio::select! {
                done = survive(work(session)) => done,
                () = gone.lost() => Ok(()),
            };
            if begun.elapsed() >= LASTING {
                failures = Failures::none();
            }
            if let Err(error) = done {
                failures.explain(what, &error);
            }
            tokio::select! {
                () = sleep(failures.pause) => failures.pause = (failures.pause * 2).min(PAUSE_OF_WORK.1),
                // The next connection may be a better one.
                () = gone.lost() => failures.pause = PAUSE_OF_WORK.0,
            }
        }
    }

    /// Closes the connection and makes no other.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        if let Some(keeper) = self.keeper.lock().await.take()
            && keeper.await.is_err()
        {
            tracing::error!("the task of a connection to the broker had panicked");
        }
    }
}

impl Session {
    /// A new channel.
    ///
    /// # Errors
    /// The connection is gone, or does not answer.
    pub async fn channel(&self) -> Result<Channel, BrokerError> {
        step(self.connection.create_channel()).await
    }

    /// Says that the work is being done, from when everything it needs is there until it ends.
    #[must_use]
    pub fn working(&self) -> Working {
        self.working.store(true, Ordering::Relaxed);
        Working(Arc::clone(&self.working))
    }

    /// Waits until the connection is gone.
    pub async fn lost(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }
}

/// What is remembered of work that fails again and again.
struct Failures {
    /// How long to wait before the next attempt.
    pause: Duration,
    /// What went wrong, as last told in the log.
    reason: Option<String>,
}

impl Failures {
    const fn none() -> Self {
        Self { pause: PAUSE_OF_WORK.0, reason: None }
    }

    /// Says what went wrong, once for each reason; whether it was said.
    fn explain(&mut self, what: &'static str, error: &BrokerError) -> bool {
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
pub(super) async fn survive<T>(
    work: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or(Err(BrokerError::Panicked))
}

/// The task behind a link.
struct Keeper {
    uri: BrokerUri,
    name: &'static str,
    sessions: watch::Sender<Option<Session>>,
    working: Arc<AtomicBool>,
    closing: watch::Receiver<bool>,
    /// Why there is no connection, as last told in the log.
    reason: Option<String>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut closing = self.closing.clone();
        let mut pause = PAUSE.0;
        loop {
            let attempt = tokio::select! {
                attempt = self.connect() => attempt,
                () = closed(&mut closing) => return,
            };
            match attempt {
                Ok((connection, wire)) => {
                    pause = PAUSE.0;
                    self.reason = None;
                    tracing::info!(
                        broker = self.uri.address(),
                        connection = self.name,
                        "connected to the broker"
                    );
                    if self.hold(connection).await {
                        return;
                    }
                    drop(wire);
                    tracing::warn!(
                        broker = self.uri.address(),
                        connection = self.name,
                        "the broker is away; trying again"
                    );
                }
                Err(error) => self.explain(&error),
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = closed(&mut closing) => return,
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn connect(&self) -> Result<(Connection, Wire), BrokerError> {
        let properties = ConnectionProperties::default()
            .with_connection_name(format!("souk {}", self.name).into());
        let runtime = lapin::runtime::default_runtime()?;
        let (hand, wire) = Wire::new();
        // The attempt goes on in lapin's thread when nobody waits for it any more, so that the network has a limit of its own.
        let connect = Connection::connector(
            self.uri.amqp(),
            runtime,
            async move |uri, runtime| {
                let stream = timeout(super::STEP, async {
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
        Ok((step(connect).await?, wire))
    }

    /// Lends a connection out until it is lost or the link is closed; true for the latter.
    async fn hold(&mut self, connection: Connection) -> bool {
        let connection = Arc::new(connection);
        let (living, alive) = watch::channel(());
        let session = Session {
            connection: Arc::clone(&connection),
            alive,
            working: Arc::clone(&self.working),
        };
        self.sessions.send_replace(Some(session));
        let wanted = tokio::select! {
            () = until_lost(&connection) => true,
            () = closed(&mut self.closing) => false,
        };
        self.sessions.send_replace(None);
        drop(living);
        if !wanted {
            part(connection).await;
        }
        !wanted
    }

    /// Says why there is no connection, once for each reason.
    fn explain(&mut self, error: &BrokerError) {
        let reason = if is_refusal(error) {
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
struct Wire(mpsc::Receiver<TcpStream>);

impl Wire {
    /// A wire, and where to hand its socket to.
    fn new() -> (mpsc::Sender<TcpStream>, Self) {
        let (hand, sockets) = mpsc::channel();
        (hand, Self(sockets))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for socket in self.0.try_iter() {
            // Who has gone by itself needs no cutting off.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // A link that was dropped is closed too.
    drop(closing.wait_for(|closing| *closing).await);
}

/// Waits until a connection is dead. Silence is found out by asking: heartbeats alone would take longer than they should.
async fn until_lost(connection: &Connection) {
    let Ok(channel) = step(connection.create_channel()).await else { return };
    let mut looks = 0_u32;
    while connection.status().connected() {
        sleep(LOOK).await;
        looks = looks.wrapping_add(1);
        // A broker short of memory does not listen to those who publish, but lives.
        if looks.is_multiple_of(LOOKS_BETWEEN_QUESTIONS) && !connection.status().blocked() {
            let answer = step(channel.basic_qos(1, BasicQosOptions::default())).await;
            if answer.is_err() && !connection.status().blocked() {
                return;
            }
        }
    }
}

/// Takes leave of the broker, and waits for lapin's thread, which must not outlive the runtime.
async fn part(connection: Arc<Connection>) {
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
    if timeout(FAREWELL, goodbye).await.is_err() {
        tracing::warn!("the broker did not take leave in time");
    }
}

/// Whether the broker is there, but does not let souk in.
fn is_refusal(error: &BrokerError) -> bool {
    let BrokerError::Refused(error) = error else { return false };
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
    async fn a_panic_is_an_error_that_can_be_told() {
        let ended = survive::<()>(async { panic!("in the work") }).await;
        assert!(matches!(ended, Err(BrokerError::Panicked)));
        assert!(matches!(survive(async { Ok(7) }).await, Ok(7)));
    }

    #[test]
    fn a_reason_is_told_once_until_there_is_another() {
        let mut failures = Failures::none();
        let told = [
            BrokerError::NotTaken(7),
            BrokerError::NotTaken(7),
            BrokerError::Late,
            BrokerError::NotTaken(7),
        ];
        assert_eq!(told.map(|error| failures.explain("relay", &error)), [true, false, true, true]);
    }
}
