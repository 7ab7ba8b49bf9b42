//! Sending a message to one of the node's lasting actors, and surviving what goes wrong with it.

use std::panic::AssertUnwindSafe;

use actix::{Actor, Addr, Handler, MailboxError, Message, dev::ToEnvelope};
use futures_util::FutureExt;

use crate::{error::Error, messages::change::Ticket};

/// Sends `message` and waits for the answer until the ticket's deadline.
///
/// # Errors
/// The actor's own error; `overloaded` when it had not begun by the deadline, `outcome_unknown` when it had.
pub async fn ask<A, M, T>(actor: &Addr<A>, message: M, ticket: &Ticket) -> Result<T, Error>
where
    M: Message<Result = Result<T, Error>> + Send + 'static,
    T: Send + 'static,
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
{
    match tokio::time::timeout_at(ticket.deadline().into(), actor.send(message)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(MailboxError::Closed)) => {
            tracing::error!("an actor that should last as long as the node is gone");
            Err(timeout_error(ticket))
        }
        Ok(Err(MailboxError::Timeout)) | Err(_) => Err(timeout_error(ticket)),
    }
}

/// What to say when nobody waits any longer: whether anything was done depends on whether the work had begun.
pub(crate) fn timeout_error(ticket: &Ticket) -> Error {
    if ticket.give_up() { Error::overloaded() } else { Error::outcome_unknown() }
}

/// Runs `work`; a panic in it is logged and becomes an error, and does not end the thread with every actor on it.
pub(crate) async fn catch_panic<T>(
    who: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(actor = who, "a command panicked; the actor lives on");
        Err(Error::internal())
    })
}

/// Runs one round of what is done again and again; `None`: it panicked, which is logged, and the next one may go better.
pub(crate) async fn guarded_tick<T>(what: &str, work: impl Future<Output = T>) -> Option<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.inspect_err(|_| {
        tracing::error!(what, "a round of work in the background panicked; the next one follows")
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn panic_ends_only_its_own_tick() {
        let rounds =
            async |number: u32| guarded_tick("test", async move { assert_ne!(number, 1) }).await;
        assert_eq!((rounds(0).await, rounds(1).await, rounds(2).await), (Some(()), None, Some(())));
    }
}
