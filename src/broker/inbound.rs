//! Commands of other systems, from the queue [`COMMANDS`] to whoever carries them out.
//!
//! One at a time, in the queue's order. A command is taken off the queue when it is carried out for good, or put aside with the reason
//! why it cannot be. As long as neither can be done it stays at the head of the queue.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::StreamExt;
use lapin::{
    Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::{Instant, sleep};

use super::{
    BrokerError, BrokerSession, ManagedConnection,
    command::AdjustStock,
    dead_letters::DeadLetterPublisher,
    queues::{self, COMMAND_QUEUE},
    with_timeout,
};
use crate::{
    error::{Error, ErrorCode},
    messages::change::TraceParent,
};

/// Commands that a node has at once. A message that no connection survives is met alone, and takes none with it when the broker puts
/// it aside.
const COMMAND_PREFETCH: u16 = 1;

/// Pauses between tries: at first, and at most.
const RETRY_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// After so long a command that cannot be carried out here is given back, so that another node may try.
const MAX_RETRY_TIME: Duration = Duration::from_secs(30);

/// How often a command is tried that souk itself fails on.
const MAX_INTERNAL_ERROR_RETRIES: u32 = 3;

/// Who carries commands out.
#[async_trait]
pub trait CommandHandler: Send + Sync {
    /// Whether there is any use in trying.
    async fn is_ready(&self) -> bool;

    /// Carries a command out, unless that was done before; it is durable then. `trace` is that of the other system.
    ///
    /// # Errors
    /// `overloaded`, `store_unavailable` and `outcome_unknown` are tried again, `internal_error` a few times; everything else means that
    /// it cannot be done.
    async fn execute(&self, command: AdjustStock, trace: Option<TraceParent>) -> Result<(), Error>;
}

/// Takes commands in.
pub(super) struct CommandConsumer {
    /// Who carries them out.
    pub(super) handler: Arc<dyn CommandHandler>,
    /// The connection that what cannot be carried out is published on.
    pub(super) publish_connection: Arc<ManagedConnection>,
}

impl CommandConsumer {
    /// Works until `commands` is closed.
    pub(super) async fn run(self, commands: Arc<ManagedConnection>) {
        commands.supervise("commands", |session| self.consume_session(session)).await;
    }

    async fn consume_session(&self, session: BrokerSession) -> Result<(), BrokerError> {
        queues::declare_commands(&session).await?;
        // Whoever holds a command when its connection is lost has used up one of its deliveries.
        while !self.handler.is_ready().await {
            sleep(RETRY_BACKOFF.1).await;
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
        let working = session.mark_ready();
        let taken = self.process_deliveries(consumer).await;
        drop(working);
        // What was not acknowledged goes back.
        drop(with_timeout(channel.close(200, "souk begins anew".into())).await);
        taken
    }

    async fn process_deliveries(&self, mut consumer: Consumer) -> Result<(), BrokerError> {
        let mut dead_letters = None;
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery?;
            if let Err(error) = execute_with_retries(
                &*self.handler,
                &delivery.data,
                trace_header(&delivery),
                MAX_RETRY_TIME,
            )
            .await?
            {
                self.dead_letter(&mut dead_letters, &delivery, &error).await?;
                tracing::warn!(reason = %error, "a command cannot be carried out; it was put aside");
            }
            with_timeout(delivery.ack(BasicAckOptions::default())).await?;
        }
        // The broker has taken the queue away, or the node that led it.
        Err(BrokerError::ConnectionLost)
    }

    /// Puts a command aside, however often that has to be tried: each delivery that comes to nothing counts, and what the broker puts
    /// aside by itself has no reason. A queue that is not there is made when it is begun anew.
    async fn dead_letter(
        &self,
        dead_letters: &mut Option<DeadLetterPublisher>,
        delivery: &Delivery,
        error: &Error,
    ) -> Result<(), BrokerError> {
        let mut told = false;
        loop {
            let put = async {
                let dead_letters = match &*dead_letters {
                    Some(open) => open,
                    None => dead_letters
                        .insert(DeadLetterPublisher::open(&self.publish_connection).await?),
                };
                dead_letters.publish(COMMAND_QUEUE, delivery, &rejection_reason(error)).await
            };
            match put.await {
                Ok(()) => return Ok(()),
                Err(gone @ BrokerError::QueueRejected(_)) => return Err(gone),
                Err(trouble) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(reason = %trouble, "a command cannot be put aside for now; trying again");
                }
                Err(_) => {}
            }
            *dead_letters = None;
            sleep(RETRY_BACKOFF.1).await;
        }
    }
}

/// Tries until it is known whether a command can be done, for as long as `patience` lasts.
async fn execute_with_retries(
    hands: &dyn CommandHandler,
    body: &[u8],
    trace: Option<TraceParent>,
    patience: Duration,
) -> Result<Result<(), Error>, BrokerError> {
    let command = match AdjustStock::parse(body) {
        Ok(command) => command,
        Err(error) => return Ok(Err(error)),
    };
    let begun = Instant::now();
    let (mut pause, mut faults) = (RETRY_BACKOFF.0, 0);
    loop {
        let error = match hands.execute(command.clone(), trace.clone()).await {
            Ok(()) => return Ok(Ok(())),
            Err(error) => error,
        };
        match error.code {
            ErrorCode::Overloaded | ErrorCode::StoreUnavailable | ErrorCode::OutcomeUnknown => {}
            ErrorCode::Internal if faults < MAX_INTERNAL_ERROR_RETRIES => faults += 1,
            _ => return Ok(Err(error)),
        }
        if begun.elapsed() >= patience {
            return Err(BrokerError::CommandRequeued(error.code.as_str()));
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_BACKOFF.1);
    }
}

/// The header `traceparent`.
fn trace_header(delivery: &Delivery) -> Option<TraceParent> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get("traceparent")? {
        AMQPValue::LongString(text) => {
            TraceParent::parse(std::str::from_utf8(text.as_bytes()).ok()?)
        }
        _ => None,
    }
}

/// What is wrong with a command, for whoever looks after the dead letters.
fn rejection_reason(error: &Error) -> String {
    match error.shortages.first() {
        Some(line) => format!(
            "{}: {} wanted, {} available",
            error.code.as_str(),
            line.requested,
            line.available
        ),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const COMMAND_JSON: &[u8] = br#"{"id": "1", "type": "inventory.adjust", "sku": "TEA", "delta": 1, "reason": "delivery"}"#;

    /// Fails so often with this code.
    struct FailingHandler(AtomicU32, ErrorCode);

    #[async_trait]
    impl CommandHandler for FailingHandler {
        async fn is_ready(&self) -> bool {
            true
        }

        async fn execute(&self, _: AdjustStock, _: Option<TraceParent>) -> Result<(), Error> {
            let is_done = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err();
            if is_done { Ok(()) } else { Err(Error::new(self.1, "so it is")) }
        }
    }

    async fn execute_failing(
        failures: u32,
        code: ErrorCode,
        patience: Duration,
    ) -> Result<Result<(), Error>, BrokerError> {
        execute_with_retries(&FailingHandler(failures.into(), code), COMMAND_JSON, None, patience)
            .await
    }

    #[tokio::test]
    async fn command_is_retried_then_requeued() {
        assert!(matches!(
            execute_failing(3, ErrorCode::StoreUnavailable, MAX_RETRY_TIME).await,
            Ok(Ok(()))
        ));
        let given_back =
            execute_failing(u32::MAX, ErrorCode::StoreUnavailable, Duration::ZERO).await;
        assert!(matches!(given_back, Err(BrokerError::CommandRequeued("store_unavailable"))));
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
