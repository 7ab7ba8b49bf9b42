//! The connection to a node that applies commits for this one.

use std::{
    collections::HashMap,
    io::{Error, ErrorKind, Result},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use super::{
    codec::{decode_outcome, push_message, split_messages},
    frame::{FrameReader, FrameWriter, connect},
};
use crate::store::{
    commit::{CommitError, CommitOutcome},
    forwarding::ClusterKey,
};

/// Commits that can wait to be sent. Beyond, they are applied on this node.
const MAX_WAITING: usize = 4096;

/// Commits that are sent in one frame, at most.
const MAX_FRAME_COMMITS: usize = 256;

/// No more commits are added to a frame of this many bytes.
const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long no commits are sent to a node that cannot be reached or refuses them.
const AVOIDANCE_PERIOD: Duration = Duration::from_secs(1);

/// A node that has answered nothing for so long gets no more commits until it answers.
const STALL_TIME: Duration = Duration::from_secs(1);

/// How long another node may take to accept a frame.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for the last answers once nothing more is sent.
const LINGER_TIME: Duration = Duration::from_secs(60);

/// The outcome of a forwarded commit. `None`: certainly not applied, and to be applied here.
pub(super) type ForwardOutcome = Option<CommitOutcome>;

/// A commit to send.
struct OutgoingCommit {
    document: Vec<u8>,
    reply: oneshot::Sender<ForwardOutcome>,
}

/// The way to another node. It is connected when there is something to send. Without a `Link`, the
/// last answers are still received, and then the connection ends.
pub(super) struct Link {
    queue: mpsc::Sender<OutgoingCommit>,
    state: Arc<LinkState>,
}

struct LinkState {
    unanswered: Mutex<Unanswered>,
    /// Until when this node sends nothing.
    avoided_until: Mutex<Option<Instant>>,
}

/// Commits that were sent, by number.
struct Unanswered {
    replies: HashMap<u64, oneshot::Sender<ForwardOutcome>>,
    next_number: u64,
    /// When the last answer arrived, or when the first commit was sent after a pause.
    progressed_at: Instant,
}

impl Link {
    pub(super) fn open(runtime: &Handle, address: String, key: ClusterKey) -> Self {
        let (queue, queued) = mpsc::channel(MAX_WAITING);
        let unanswered =
            Unanswered { replies: HashMap::new(), next_number: 0, progressed_at: Instant::now() };
        let state = Arc::new(LinkState {
            unanswered: Mutex::new(unanswered),
            avoided_until: Mutex::default(),
        });
        runtime.spawn(run(address, key, queued, Arc::clone(&state)));
        Self { queue, state }
    }

    /// Whether the other node can be expected to answer.
    pub(super) fn is_usable(&self) -> bool {
        let avoided = *self.state.lock_avoided_until();
        if avoided.is_some_and(|until| until > Instant::now()) {
            return false;
        }
        let unanswered = self.state.lock_unanswered();
        unanswered.replies.is_empty() || unanswered.progressed_at.elapsed() < STALL_TIME
    }

    /// Gives up waiting, since the other node seems dead. If it is alive after all, what it
    /// received may still be applied.
    pub(super) fn give_up(&self) {
        self.state.fail_unanswered();
    }

    /// Queues a commit. `None` if there is no place for it.
    pub(super) fn send(&self, document: Vec<u8>) -> Option<oneshot::Receiver<ForwardOutcome>> {
        let (reply, outcome) = oneshot::channel();
        self.queue.try_send(OutgoingCommit { document, reply }).ok()?;
        Some(outcome)
    }
}

impl LinkState {
    fn lock_unanswered(&self) -> MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_avoided_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.avoided_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn avoid(&self) {
        *self.lock_avoided_until() = Some(Instant::now() + AVOIDANCE_PERIOD);
    }

    /// Makes a frame of commits, at least one, which count as sent from now on.
    fn build_frame(&self, commits: &mut std::vec::Drain<'_, OutgoingCommit>) -> Vec<u8> {
        let (mut frame, mut unanswered) = (Vec::new(), self.lock_unanswered());
        if unanswered.replies.is_empty() {
            unanswered.progressed_at = Instant::now();
        }
        while frame.len() < MAX_FRAME_BYTES
            && let Some(OutgoingCommit { document, reply }) = commits.next()
        {
            let number = unanswered.next_number;
            unanswered.next_number += 1;
            unanswered.replies.insert(number, reply);
            push_message(&mut frame, number, &document);
        }
        frame
    }

    /// Passes on the outcomes of a frame.
    fn resolve(&self, frame: &[u8]) -> Result<()> {
        let invalid = || Error::new(ErrorKind::InvalidData, "an invalid answer");
        let mut unanswered = self.lock_unanswered();
        unanswered.progressed_at = Instant::now();
        for (number, document) in split_messages(frame).ok_or_else(invalid)? {
            let outcome = decode_outcome(document).map_err(|_| invalid())?;
            let Some(reply) = unanswered.replies.remove(&number) else { continue };
            let outcome = match outcome {
                // It is about to stop, or cannot reach the store.
                Err(CommitError::Unavailable) => {
                    self.avoid();
                    None
                }
                outcome => Some(outcome),
            };
            // The caller may be gone; the outcome stands all the same.
            drop(reply.send(outcome));
        }
        Ok(())
    }

    /// The connection or the other node is gone. What was sent may be applied or not.
    fn fail_unanswered(&self) {
        let replies = std::mem::take(&mut self.lock_unanswered().replies);
        for reply in replies.into_values() {
            drop(reply.send(Some(Err(CommitError::OutcomeUnknown))));
        }
    }
}

/// Connects whenever there are commits to send, until the link is dropped.
async fn run(
    address: String,
    key: ClusterKey,
    mut queue: mpsc::Receiver<OutgoingCommit>,
    state: Arc<LinkState>,
) {
    while let Some(first) = queue.recv().await {
        let connecting = timeout(CONNECT_TIMEOUT, open_connection(&address, &key));
        match connecting.await.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            Ok(connection) => exchange(connection, first, &mut queue, &state).await,
            Err(error) => {
                tracing::debug!(address, %error, "failed to connect to another node");
                drop(first.reply.send(None));
            }
        }
        // Sent nowhere, so certainly not applied.
        state.avoid();
        while let Ok(OutgoingCommit { reply, .. }) = queue.try_recv() {
            drop(reply.send(None));
        }
    }
}

type Connection = (FrameReader<OwnedReadHalf>, FrameWriter<OwnedWriteHalf>);

async fn open_connection(address: &str, key: &ClusterKey) -> Result<Connection> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (input, output) = stream.into_split();
    connect(input, output, key).await
}

/// Sends commits and receives outcomes until either side ends the connection.
async fn exchange(
    (mut reader, writer): Connection,
    first: OutgoingCommit,
    queue: &mut mpsc::Receiver<OutgoingCommit>,
    state: &LinkState,
) {
    let other_stops = Notify::new();
    let sending = send_commits(writer, first, queue, (state, &other_stops));
    let receiving = async {
        while let Some(frame) = reader.read().await? {
            if frame.is_empty() {
                other_stops.notify_one();
            } else {
                state.resolve(&frame)?;
            }
        }
        Result::Ok(())
    };
    tokio::pin!(sending, receiving);
    let mut is_sending = true;
    let result = loop {
        tokio::select! {
            result = &mut receiving => break result,
            result = &mut sending, if is_sending => match result {
                Ok(()) => is_sending = false,
                Err(error) => break Err(error),
            },
            () = sleep(LINGER_TIME), if !is_sending => break Err(ErrorKind::TimedOut.into()),
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "the connection to another node broke");
    }
    state.fail_unanswered();
}

/// Sends what is queued, in as few frames as possible, until the link is dropped or the other node
/// stops.
async fn send_commits(
    mut writer: FrameWriter<OwnedWriteHalf>,
    first: OutgoingCommit,
    queue: &mut mpsc::Receiver<OutgoingCommit>,
    (state, other_stops): (&LinkState, &Notify),
) -> Result<()> {
    let mut commits = vec![first];
    loop {
        while commits.len() < MAX_FRAME_COMMITS
            && let Ok(next) = queue.try_recv()
        {
            commits.push(next);
        }
        let mut unsent = commits.drain(..);
        while unsent.len() > 0 {
            let frame = state.build_frame(&mut unsent);
            timeout(SEND_TIMEOUT, writer.write(&frame)).await??;
        }
        drop(unsent);
        tokio::select! {
            next = queue.recv() => match next {
                Some(next) => commits.push(next),
                None => break,
            },
            () = other_stops.notified() => {
                state.avoid();
                break;
            }
        }
    }
    writer.finish().await
}
