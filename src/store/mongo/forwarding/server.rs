//! Applies the commits that other nodes forward to this one.

use std::{
    io::{Error, ErrorKind, Result},
    net::TcpListener as StdTcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Handle,
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    codec::{ForwardedCommit, decode_commit, encode_outcome, push_message, split_messages},
    frame::{FrameReader, FrameWriter, accept},
};
use crate::store::{commit::CommitError, forwarding::ClusterKey, writer::CommitWriter};

/// Connections at a time: far more than there are nodes.
const MAX_CONNECTIONS: usize = 256;

/// How long a node may take to prove that it is one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait after a connection could not be accepted, for lack of descriptors, say.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// How long a node that stops waits until the others have their answers.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// No more answers are added to a frame of this many bytes.
const MAX_FRAME_BYTES: usize = 4 * 1024 * 1024;

/// The task that accepts connections of other nodes.
pub(super) struct ForwardingServer {
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl ForwardingServer {
    pub(super) fn start(
        runtime: &Handle,
        listener: StdTcpListener,
        keys: Vec<ClusterKey>,
        writer: CommitWriter,
    ) -> Self {
        let (stopping, is_stopping) = watch::channel(false);
        let task = runtime.spawn(async move {
            let listener =
                listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
            match listener {
                Ok(listener) => accept_connections(listener, keys, writer, is_stopping).await,
                Err(error) => tracing::error!(%error, "failed to listen at cluster.bind"),
            }
        });
        Self { stopping, task }
    }

    /// Tells the other nodes to send nothing more, and answers what they have sent.
    pub(super) async fn stop(self) {
        self.stopping.send_replace(true);
        let aborting = self.task.abort_handle();
        if timeout(STOP_TIMEOUT, self.task).await.is_err() {
            aborting.abort();
        }
    }
}

async fn accept_connections(
    listener: TcpListener,
    keys: Vec<ClusterKey>,
    writer: CommitWriter,
    mut is_stopping: watch::Receiver<bool>,
) {
    let (keys, places) = (Arc::new(keys), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = wait_for_stop(&mut is_stopping) => break,
        };
        match (accepted, Arc::clone(&places).try_acquire_owned()) {
            (Ok((stream, address)), Ok(place)) => {
                let (keys, writer) = (Arc::clone(&keys), writer.clone());
                let is_stopping = is_stopping.clone();
                connections.spawn(async move {
                    if let Err(error) = serve(stream, &keys, writer, is_stopping).await {
                        tracing::warn!(%address, %error, "a connection to cluster.bind failed");
                    }
                    drop(place);
                });
            }
            (Ok(_), Err(_)) => tracing::warn!("too many connections to cluster.bind"),
            (Err(error), _) => {
                tracing::warn!(%error, "failed to accept a connection to cluster.bind");
                sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits until this node stops.
async fn wait_for_stop(is_stopping: &mut watch::Receiver<bool>) {
    // Fails if the server is gone, which is the same.
    drop(is_stopping.wait_for(|stopping| *stopping).await);
}

/// An encoded outcome, with the number of its commit.
type Answer = (u64, Vec<u8>);

async fn serve(
    stream: TcpStream,
    keys: &[ClusterKey],
    writer: CommitWriter,
    is_stopping: watch::Receiver<bool>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let (input, output) = stream.into_split();
    let (reader, frames) = timeout(HANDSHAKE_TIMEOUT, accept(input, output, keys)).await??;
    let (answers, queued) = mpsc::unbounded_channel();
    tokio::try_join!(
        receive_commits(reader, writer, answers),
        send_answers(frames, queued, is_stopping)
    )?;
    Ok(())
}

/// Hands each commit to the writer, as if it were this node's own. It is never forwarded again.
async fn receive_commits(
    mut reader: FrameReader<OwnedReadHalf>,
    writer: CommitWriter,
    answers: mpsc::UnboundedSender<Answer>,
) -> Result<()> {
    while let Some(frame) = reader.read().await? {
        let now = Instant::now();
        let invalid = || Error::new(ErrorKind::InvalidData, "an invalid message");
        for (number, document) in split_messages(&frame).ok_or_else(invalid)? {
            let (writer, answers) = (writer.clone(), answers.clone());
            let forwarded = decode_commit(document, now);
            tokio::spawn(async move {
                let outcome = match forwarded {
                    Ok(ForwardedCommit { commit, has_priority }) => {
                        writer.commit_forwarded(commit, has_priority).await
                    }
                    Err(error) => {
                        tracing::warn!(%error, "failed to read a commit of another node");
                        Err(CommitError::Unavailable)
                    }
                };
                // What cannot be represented has an outcome that the other node does not learn.
                let encoded = encode_outcome(outcome)
                    .or_else(|| encode_outcome(Err(CommitError::OutcomeUnknown)));
                // The connection may be gone; the outcome stands all the same.
                drop(encoded.map(|encoded| answers.send((number, encoded))));
            });
        }
    }
    Ok(())
}

/// Sends answers, in as few frames as possible, until the other node has finished and has them all.
/// An empty frame tells it that this node stops.
async fn send_answers(
    mut frames: FrameWriter<OwnedWriteHalf>,
    mut queued: mpsc::UnboundedReceiver<Answer>,
    mut is_stopping: watch::Receiver<bool>,
) -> Result<()> {
    let mut has_said_so = false;
    loop {
        let next = tokio::select! {
            next = queued.recv() => next,
            () = wait_for_stop(&mut is_stopping), if !has_said_so => {
                has_said_so = true;
                frames.write(&[]).await?;
                continue;
            }
        };
        let Some((number, outcome)) = next else { break };
        let mut frame = Vec::new();
        push_message(&mut frame, number, &outcome);
        // The other answers of the batch are on their way.
        tokio::task::yield_now().await;
        while frame.len() < MAX_FRAME_BYTES
            && let Ok((number, outcome)) = queued.try_recv()
        {
            push_message(&mut frame, number, &outcome);
        }
        frames.write(&frame).await?;
    }
    frames.finish().await
}
