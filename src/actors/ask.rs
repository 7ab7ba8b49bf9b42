//! Requests to the node's long-lived actors, with deadlines and panic handling.

use std::panic::AssertUnwindSafe;

use actix::{Actor, Addr, Handler, MailboxError, Message, dev::ToEnvelope};
use futures_util::FutureExt;

use crate::{error::Error, messages::context::Ticket};

/// Sends `message` and waits for the answer until the ticket's deadline.
///
/// # Errors
/// The actor's own error. After the deadline: `overloaded` if the actor had not started the work,
/// `outcome_unknown` if it had.
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
            tracing::error!("a long-lived actor has stopped");
            Err(timeout_error(ticket))
        }
        Ok(Err(MailboxError::Timeout)) | Err(_) => Err(timeout_error(ticket)),
    }
}

/// The error for a missed deadline: `overloaded` if the work had not started, `outcome_unknown` if
/// it had.
pub(crate) fn timeout_error(ticket: &Ticket) -> Error {
    if ticket.give_up() { Error::overloaded() } else { Error::outcome_unknown() }
}

/// Runs `work` and turns a panic into an internal error. Without this, the panic would end the
/// thread and every actor on it.
pub(crate) async fn catch_panic<T>(
    who: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(actor = who, "a command panicked; the actor continues");
        Err(Error::internal())
    })
}

/// Runs one iteration of a periodic task. Logs a panic and returns `None`, so that the task
/// continues.
pub(crate) async fn guarded_tick<T>(what: &str, work: impl Future<Output = T>) -> Option<T> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    done.inspect_err(|_| {
        tracing::error!(what, "a background task panicked; it runs again at its next tick")
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
