//! Connections to the broker that reconnect until the node stops.
//!
//! lapin can reconnect too, but it gives up after a while and leaves pending operations hanging.
//! A lapin connection is therefore used until it fails. Its users then see that it is gone, and
//! start over on the next one.

mod backoff;
mod connection_task;
mod socket;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use lapin::{Channel, Connection};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};

pub(super) use self::backoff::endless_backoff;
use self::{
    backoff::{RetryState, STABLE_AFTER},
    connection_task::{ConnectionTask, Probe},
};
use super::{BrokerError, BrokerUri, with_timeout};
use crate::panics::catch_panic;

/// A connection that is replaced whenever it is lost, by a task in the background.
pub struct ManagedConnection {
    session: watch::Receiver<Option<BrokerSession>>,
    ready: Arc<AtomicBool>,
    closing: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// One AMQP connection, from when it is established until it is lost.
#[derive(Clone)]
pub struct BrokerSession {
    connection: Arc<Connection>,
    /// Closed when the connection is lost.
    alive: watch::Receiver<()>,
    ready: Arc<AtomicBool>,
}

/// Marks a connection as ready until it is dropped.
pub struct ReadyGuard(Arc<AtomicBool>);

impl Drop for ReadyGuard {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl ManagedConnection {
    /// Starts to connect. The broker's management UI and the log show `name`.
    ///
    /// Call this on the runtime that the connection uses, and call [`close`](Self::close) before
    /// that runtime ends.
    #[must_use]
    pub fn start(uri: BrokerUri, name: &'static str) -> Arc<Self> {
        Self::start_with(uri, name, Probe::Request)
    }

    /// Like [`start`](Self::start), for a connection that messages are published on.
    #[must_use]
    pub fn start_for_publishing(uri: BrokerUri, name: &'static str) -> Arc<Self> {
        Self::start_with(uri, name, Probe::Message)
    }

    fn start_with(uri: BrokerUri, name: &'static str, probe: Probe) -> Arc<Self> {
        let (session_sender, session) = watch::channel(None);
        let (closing, closing_receiver) = watch::channel(false);
        let ready = Arc::default();
        let task =
            ConnectionTask::new(uri, name, session_sender, Arc::clone(&ready), closing_receiver)
                .with_probe(probe);
        let task = Mutex::new(Some(tokio::spawn(task.run())));
        Arc::new(Self { session, ready, closing, task })
    }

    /// Whether the connection is established.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.session.borrow().is_some()
    }

    /// Whether the connection is established and its task is working on it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_up() && self.ready.load(Ordering::Relaxed)
    }

    /// Whether the broker has stopped reading from the connection, since it is short of memory or
    /// disk. It does so when something is published.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        let session = self.session.borrow();
        session.as_ref().is_some_and(|session| session.connection.status().blocked())
    }

    /// Waits until the connection is established. Returns `None` once it is closed for good.
    pub async fn wait_for_session(&self) -> Option<BrokerSession> {
        let mut sessions = self.session.clone();
        loop {
            if let Some(session) = sessions.borrow_and_update().clone() {
                return Some(session);
            }
            sessions.changed().await.ok()?;
        }
    }

    /// Runs `work` on each session until the connection is closed for good.
    ///
    /// `work` that fails while its session is alive is started again, after a delay that grows
    /// with each failure. The log shows the error with `task`, once until the error changes.
    ///
    /// This is a loop and not backon's `retry`, since two events reset the delays: work that was
    /// stable for a while, and a new connection.
    pub async fn supervise<F>(&self, task: &'static str, work: impl Fn(BrokerSession) -> F)
    where
        F: Future<Output = Result<(), BrokerError>>,
    {
        let mut retries = RetryState::new();
        while let Some(session) = self.wait_for_session().await {
            let (current, started) = (session.clone(), Instant::now());
            let result = tokio::select! {
                result = catch_panic(work(session), || Err(BrokerError::Panicked)) => result,
                () = current.wait_until_lost() => Ok(()),
            };
            if started.elapsed() >= STABLE_AFTER {
                retries = RetryState::new();
            }
            if let Err(error) = result {
                retries.log_once(task, &error);
            }
            tokio::select! {
                () = sleep(retries.next_delay()) => {}
                // The next connection may not have the problem, so it gets a quick first attempt.
                () = current.wait_until_lost() => retries.reset_delay(),
            }
        }
    }

    /// Closes the connection and stops reconnecting.
    pub async fn close(&self) {
        self.closing.send_replace(true);
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "a broker connection's task failed; this is a bug in souk");
        }
    }
}

impl BrokerSession {
    /// Opens a channel.
    ///
    /// # Errors
    /// The connection is lost, or the broker does not respond in time.
    pub async fn open_channel(&self) -> Result<Channel, BrokerError> {
        with_timeout(self.connection.create_channel()).await
    }

    /// Marks the connection as ready: its task has what it needs, and works until the guard drops.
    #[must_use]
    pub fn mark_ready(&self) -> ReadyGuard {
        self.ready.store(true, Ordering::Relaxed);
        ReadyGuard(Arc::clone(&self.ready))
    }

    /// Waits until the connection is lost.
    pub async fn wait_until_lost(&self) {
        let mut alive = self.alive.clone();
        while alive.changed().await.is_ok() {}
    }
}
