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
    BrokerError, Link, Session,
    command::AdjustStock,
    dead_letters::DeadLetters,
    queues::{self, COMMANDS},
    step,
};
use crate::{
    error::{Code, Error},
    messages::change::TraceParent,
};

/// Commands that a node has at once. A message that no connection survives is met alone, and takes none with it when the broker puts
/// it aside.
const AT_ONCE: u16 = 1;

/// Pauses between tries: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// After so long a command that cannot be carried out here is given back, so that another node may try.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a command is tried that souk itself fails on.
const FAULTS: u32 = 3;

/// Who carries commands out.
#[async_trait]
pub trait CarriesOut: Send + Sync {
    /// Whether there is any use in trying.
    async fn is_ready(&self) -> bool;

    /// Carries a command out, unless that was done before; it is durable then. `trace` is that of the other system.
    ///
    /// # Errors
    /// `overloaded`, `store_unavailable` and `outcome_unknown` are tried again, `internal_error` a few times; everything else means that
    /// it cannot be done.
    async fn carry_out(
        &self,
        command: AdjustStock,
        trace: Option<TraceParent>,
    ) -> Result<(), Error>;
}

/// Takes commands in.
pub(super) struct Inbound {
    /// Who carries them out.
    pub(super) hands: Arc<dyn CarriesOut>,
    /// The connection that what cannot be carried out is published on.
    pub(super) publishing: Arc<Link>,
}

impl Inbound {
    /// Works until `commands` is closed.
    pub(super) async fn run(self, commands: Arc<Link>) {
        commands.serve("commands", |session| self.consume(session)).await;
    }

    async fn consume(&self, session: Session) -> Result<(), BrokerError> {
        queues::declare_commands(&session).await?;
        // Whoever holds a command when its connection is lost has used up one of its deliveries.
        while !self.hands.is_ready().await {
            sleep(PAUSE.1).await;
        }
        let channel = session.channel().await?;
        step(channel.basic_qos(AT_ONCE, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consumer =
            step(channel.basic_consume(COMMANDS.into(), "".into(), options, FieldTable::default()))
                .await?;
        let working = session.working();
        let taken = self.take(consumer).await;
        drop(working);
        // What was not acknowledged goes back.
        drop(step(channel.close(200, "souk begins anew".into())).await);
        taken
    }

    async fn take(&self, mut consumer: Consumer) -> Result<(), BrokerError> {
        let mut dead_letters = None;
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery?;
            if let Err(error) =
                settle(&*self.hands, &delivery.data, trace(&delivery), PATIENCE).await?
            {
                self.put_aside(&mut dead_letters, &delivery, &error).await?;
                tracing::warn!(reason = %error, "a command cannot be carried out; it was put aside");
            }
            step(delivery.ack(BasicAckOptions::default())).await?;
        }
        // The broker has taken the queue away, or the node that led it.
        Err(BrokerError::Lost)
    }

    /// Puts a command aside, however often that has to be tried: each delivery that comes to nothing counts, and what the broker puts
    /// aside by itself has no reason. A queue that is not there is made when it is begun anew.
    async fn put_aside(
        &self,
        dead_letters: &mut Option<DeadLetters>,
        delivery: &Delivery,
        error: &Error,
    ) -> Result<(), BrokerError> {
        let mut told = false;
        loop {
            let put = async {
                let dead_letters = match &*dead_letters {
                    Some(open) => open,
                    None => dead_letters.insert(DeadLetters::open(&self.publishing).await?),
                };
                dead_letters.put(COMMANDS, delivery, &reason(error)).await
            };
            match put.await {
                Ok(()) => return Ok(()),
                Err(gone @ BrokerError::NotKept(_)) => return Err(gone),
                Err(trouble) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(reason = %trouble, "a command cannot be put aside for now; trying again");
                }
                Err(_) => {}
            }
            *dead_letters = None;
            sleep(PAUSE.1).await;
        }
    }
}

/// Tries until it is known whether a command can be done, for as long as `patience` lasts.
async fn settle(
    hands: &dyn CarriesOut,
    body: &[u8],
    trace: Option<TraceParent>,
    patience: Duration,
) -> Result<Result<(), Error>, BrokerError> {
    let command = match AdjustStock::parse(body) {
        Ok(command) => command,
        Err(error) => return Ok(Err(error)),
    };
    let begun = Instant::now();
    let (mut pause, mut faults) = (PAUSE.0, 0);
    loop {
        let error = match hands.carry_out(command.clone(), trace.clone()).await {
            Ok(()) => return Ok(Ok(())),
            Err(error) => error,
        };
        match error.code {
            Code::Overloaded | Code::StoreUnavailable | Code::OutcomeUnknown => {}
            Code::Internal if faults < FAULTS => faults += 1,
            _ => return Ok(Err(error)),
        }
        if begun.elapsed() >= patience {
            return Err(BrokerError::GivenBack(error.code.as_str()));
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// The header `traceparent`.
fn trace(delivery: &Delivery) -> Option<TraceParent> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get("traceparent")? {
        AMQPValue::LongString(text) => {
            TraceParent::parse(std::str::from_utf8(text.as_bytes()).ok()?)
        }
        _ => None,
    }
}

/// What is wrong with a command, for whoever looks after the dead letters.
fn reason(error: &Error) -> String {
    match error.lines.first() {
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

    const COMMAND: &[u8] = br#"{"id": "1", "type": "inventory.adjust", "sku": "TEA", "delta": 1, "reason": "delivery"}"#;

    /// Fails so often with this code.
    struct Clumsy(AtomicU32, Code);

    #[async_trait]
    impl CarriesOut for Clumsy {
        async fn is_ready(&self) -> bool {
            true
        }

        async fn carry_out(&self, _: AdjustStock, _: Option<TraceParent>) -> Result<(), Error> {
            let is_done = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_err();
            if is_done { Ok(()) } else { Err(Error::new(self.1, "so it is")) }
        }
    }

    async fn settled(
        failures: u32,
        code: Code,
        patience: Duration,
    ) -> Result<Result<(), Error>, BrokerError> {
        settle(&Clumsy(failures.into(), code), COMMAND, None, patience).await
    }

    #[tokio::test]
    async fn a_command_is_tried_until_it_is_done_or_patience_ends() {
        assert!(matches!(settled(3, Code::StoreUnavailable, PATIENCE).await, Ok(Ok(()))));
        let given_back = settled(u32::MAX, Code::StoreUnavailable, Duration::ZERO).await;
        assert!(matches!(given_back, Err(BrokerError::GivenBack("store_unavailable"))));
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_known_at_once_and_a_fault_soon() {
        for (failures, code) in [(1, Code::ProductNotFound), (FAULTS + 1, Code::Internal)] {
            assert_eq!(settled(failures, code, PATIENCE).await.unwrap().unwrap_err().code, code);
        }
    }
}
