//! What can go wrong with the broker, and the time limit of a single step.

use std::time::Duration;

use tokio::time::timeout;

use crate::events::OutboxPosition;

/// The longest that one step, a request and its reply, may take.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a step with the broker failed.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The broker did not reply in time. It may have done what it was asked for.
    #[error("the broker did not respond in time")]
    Timeout,
    /// The broker or the network reported an error.
    #[error("{0}")]
    Amqp(#[from] lapin::Error),
    /// The connection, the channel or the consumer ended.
    #[error("the connection to the broker was lost")]
    ConnectionLost,
    /// The broker did not confirm the event at this position of the outbox.
    #[error("the broker rejected event {0}")]
    EventRejected(OutboxPosition),
    /// The event at this position of the outbox has no subject.
    #[error("failed to read event {0}; this is a bug in souk")]
    UnreadableEvent(OutboxPosition),
    /// A command failed for too long, with this error code, and went back to its queue.
    #[error("a command keeps failing with {0}; it was requeued")]
    CommandRequeued(&'static str),
    /// The code that talks to the broker panicked.
    #[error("the task panicked; this is a bug in souk")]
    Panicked,
    /// The relay cannot read the outbox.
    #[error("the store did not respond; another node may take over publishing")]
    StoreUnavailable,
    /// The queue with this name is missing, full, or refuses messages.
    #[error("queue {0} does not exist or rejects messages")]
    QueueRejected(String),
}

/// Runs one step with a time limit of 5 seconds.
///
/// # Errors
/// The step failed, or took too long.
pub async fn with_timeout<T>(
    step: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    timeout(STEP_TIMEOUT, step).await.map_err(|_| BrokerError::Timeout)?.map_err(BrokerError::from)
}
