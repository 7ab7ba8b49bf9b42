//! Receives the commands of other systems from the queue [`COMMAND_QUEUE`].
//!
//! Commands are executed one at a time, in the order of the queue, on one node at a time. A command
//! is acknowledged once its change is durable, or once it is a dead letter with the reason why
//! it failed. Until then it stays at the head of the queue.
//!
//! Deliveries are scarce: the broker counts those that end without an acknowledgment, and after
//! [`COMMAND_DELIVERY_LIMIT`](queues::COMMAND_DELIVERY_LIMIT) of them it removes the command from
//! the queue, without a reason. So a node keeps the delivery and retries, for as long as that
//! can help, instead of returning it at the first failure. A command that is delivered again,
//! here or to another node, is safe: the store applies each command id once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use futures_util::StreamExt;
use lapin::{
    Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::{
    BrokerError, BrokerSession, ManagedConnection,
    command::AdjustStock,
    connection::endless_backoff,
    dead_letters::DeadLetterPublisher,
    event_message::trace_context,
    queues::{self, COMMAND_QUEUE},
    with_timeout,
};
use crate::{
    error::{Error, ErrorCode, RefusedLines},
    messages::command_context::TraceParent,
    telemetry::trace::root_span,
};

/// Commands that are delivered at a time. With one, a message that kills the connection (it is not
/// valid AMQP) uses up only its own deliveries and takes no other command to the dead letters.
const COMMAND_PREFETCH: u16 = 1;

/// Delays between attempts to execute a command.
const COMMAND_BACKOFF: ExponentialBuilder =
    endless_backoff(Duration::from_millis(50), Duration::from_secs(1));

/// Delay between checks that the store is available, and between attempts to publish a dead letter.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A command that fails for this long is requeued, so that another node can try.
const MAX_RETRY_TIME: Duration = Duration::from_secs(30);

/// How often a command that failed with `internal_error`, a bug in souk, is retried.
const MAX_INTERNAL_ERROR_RETRIES: u32 = 3;

/// Executes the commands of other systems.
#[async_trait]
pub trait CommandHandler: Send + Sync {
    /// Whether commands can succeed now. The node takes no commands before that.
    async fn is_ready(&self) -> bool;

    /// Executes a command once per command id; the change is durable on return. `trace` is the
    /// trace context of the other system.
    ///
    /// # Errors
    /// `overloaded`, `store_unavailable` and `outcome_unknown` are retried, and `internal_error` a
    /// few times. All other errors are permanent.
    async fn execute(&self, command: AdjustStock, trace: Option<TraceParent>) -> Result<(), Error>;
}

/// Consumes the command queue.
pub(super) struct CommandConsumer {
    pub(super) handler: Arc<dyn CommandHandler>,
    /// The connection that dead letters are published on.
    pub(super) publish_connection: Arc<ManagedConnection>,
}

impl CommandConsumer {
    /// Consumes commands until `connection` is closed.
    pub(super) async fn run(self, connection: Arc<ManagedConnection>) {
        connection.supervise("command_consumer", |session| self.consume_session(session)).await;
    }

    async fn consume_session(&self, session: BrokerSession) -> Result<(), BrokerError> {
        queues::declare_commands(&session).await?;
        // Checked before the first delivery: a node without a store would use up deliveries.
        while !self.handler.is_ready().await {
            sleep(RETRY_INTERVAL).await;
        }
        let channel = session.open_channel().await?;
        with_timeout(channel.basic_qos(COMMAND_PREFETCH, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consumer = with_timeout(channel.basic_consume(
            COMMAND_QUEUE.into(),
            "".into(),
            options,
            FieldTable::default(),
        ))
        .await?;
        let ready_guard = session.mark_ready();
        let result = self.process_deliveries(consumer).await;
        drop(ready_guard);
        // The broker requeues what was not acknowledged on the channel.
        drop(with_timeout(channel.close(200, "souk restarts its consumer".into())).await);
        result
    }

    async fn process_deliveries(&self, mut consumer: Consumer) -> Result<(), BrokerError> {
        let mut dead_letters = None;
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery?;
            let trace = trace_context(&delivery);
            let span = root_span!(
                trace.as_ref(),
                "process",
                otel.name = "process souk.inventory.commands",
                otel.kind = "consumer",
                messaging.system = "rabbitmq",
                messaging.operation.type = "process",
                messaging.destination.name = COMMAND_QUEUE,
            );
            let result =
                execute_with_retries(&*self.handler, &delivery.data, trace, MAX_RETRY_TIME)
                    .instrument(span)
                    .await?;
            if let Err(error) = result {
                self.dead_letter(&mut dead_letters, &delivery, &error).await?;
                tracing::warn!(%error, "failed to execute a command; moved it to the dead letters");
            }
            with_timeout(delivery.ack(BasicAckOptions::default())).await?;
        }
        // The broker canceled the consumer: the queue was deleted, or its leader changed.
        Err(BrokerError::ConnectionLost)
    }

    /// Moves a command to the dead letters, and retries as long as that takes: a command that
    /// goes back to its queue instead uses up a delivery, and the broker would record no reason.
    ///
    /// A missing queue is an error: [`Self::consume_session`] declares it when it starts over.
    ///
    /// This is a loop and not backon's `retry`, whose attempts cannot share the open channel.
    async fn dead_letter(
        &self,
        dead_letters: &mut Option<DeadLetterPublisher>,
        delivery: &Delivery,
        error: &Error,
    ) -> Result<(), BrokerError> {
        let mut is_logged = false;
        loop {
            let publish = async {
                let dead_letters = match &*dead_letters {
                    Some(open) => open,
                    None => dead_letters
                        .insert(DeadLetterPublisher::open(&self.publish_connection).await?),
                };
                dead_letters.publish(COMMAND_QUEUE, delivery, &rejection_reason(error)).await
            };
            match publish.await {
                Ok(()) => return Ok(()),
                Err(error @ BrokerError::QueueRejected(_)) => return Err(error),
                Err(error) if !is_logged => {
                    is_logged = true;
                    tracing::warn!(%error, "failed to publish a dead letter; retrying");
                }
                Err(_) => {}
            }
            *dead_letters = None;
            sleep(RETRY_INTERVAL).await;
        }
    }
}

/// Parses a command and executes it, until it succeeds or fails permanently: the inner result.
///
/// # Errors
/// The command still fails after `max_retry_time`, and must be requeued.
async fn execute_with_retries(
    handler: &dyn CommandHandler,
    body: &[u8],
    trace: Option<TraceParent>,
    max_retry_time: Duration,
) -> Result<Result<(), Error>, BrokerError> {
    let command = match AdjustStock::parse(body) {
        Ok(command) => command,
        Err(error) => return Ok(Err(error)),
    };
    let started = Instant::now();
    let internal_errors = AtomicU32::new(0);
    // Only errors that a retry can cure are errors to backon.
    let attempt = || async {
        let result = handler.execute(command.clone(), trace.clone()).await;
        match &result {
            Err(error) if is_transient(error, &internal_errors) => Err(error.code),
            _ => Ok(result),
        }
    };
    attempt
        .retry(COMMAND_BACKOFF)
        // backon's own limit counts the delays, but not the time that the attempts take.
        .when(|_| started.elapsed() < max_retry_time)
        .await
        .map_err(|code| BrokerError::CommandRequeued(code.as_str()))
}

/// Whether a retry can help. Internal errors count as transient a few times: a bug may depend on
/// timing, but it must not hold up the queue.
fn is_transient(error: &Error, internal_errors: &AtomicU32) -> bool {
    match error.code {
        ErrorCode::Overloaded | ErrorCode::StoreUnavailable | ErrorCode::OutcomeUnknown => true,
        ErrorCode::Internal => {
            internal_errors.fetch_add(1, Ordering::Relaxed) < MAX_INTERNAL_ERROR_RETRIES
        }
        _ => false,
    }
}

/// Why a command failed, for the operator who handles the dead letters.
fn rejection_reason(error: &Error) -> String {
    let shortage = match &error.refused_lines {
        RefusedLines::Short(lines) => lines.first(),
        _ => None,
    };
    match shortage {
        Some(line) => format!(
            "{}: {} requested, {} available",
            error.code.as_str(),
            line.requested,
            line.available
        ),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND_JSON: &[u8] = br#"{
        "id": "1", "type": "inventory.adjust", "sku": "TEA", "delta": 1, "reason": "delivery"
    }"#;

    /// Fails this many times with this code, then succeeds.
    struct FailingHandler(AtomicU32, ErrorCode);

    #[async_trait]
    impl CommandHandler for FailingHandler {
        async fn is_ready(&self) -> bool {
            true
        }

        async fn execute(&self, _: AdjustStock, _: Option<TraceParent>) -> Result<(), Error> {
            let is_over = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err();
            if is_over { Ok(()) } else { Err(Error::new(self.1, "it fails")) }
        }
    }

    async fn execute_failing(
        failures: u32,
        code: ErrorCode,
        max_retry_time: Duration,
    ) -> Result<Result<(), Error>, BrokerError> {
        let handler = FailingHandler(failures.into(), code);
        execute_with_retries(&handler, COMMAND_JSON, None, max_retry_time).await
    }

    #[tokio::test]
    async fn command_is_retried_then_requeued() {
        assert!(matches!(
            execute_failing(3, ErrorCode::StoreUnavailable, MAX_RETRY_TIME).await,
            Ok(Ok(()))
        ));
        let requeued = execute_failing(u32::MAX, ErrorCode::StoreUnavailable, Duration::ZERO).await;
        assert!(matches!(requeued, Err(BrokerError::CommandRequeued("store_unavailable"))));
    }

    #[tokio::test]
    async fn permanent_errors_are_not_retried() {
        for (failures, code) in
            [(1, ErrorCode::ProductNotFound), (MAX_INTERNAL_ERROR_RETRIES + 1, ErrorCode::Internal)]
        {
            assert_eq!(
                execute_failing(failures, code, MAX_RETRY_TIME).await.unwrap().unwrap_err().code,
                code
            );
        }
    }
}
