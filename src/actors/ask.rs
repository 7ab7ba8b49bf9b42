//! Requests to the node's long-lived actors, with deadlines.

use actix::{Actor, Addr, Handler, MailboxError, Message, dev::ToEnvelope};

use super::mailbox::Queued;
use crate::{error::Error, messages::command_context::Ticket};

/// Sends `message` and waits for the reply until the ticket's deadline.
///
/// # Errors
/// The actor's own error. After the deadline: `overloaded` if the actor had not started the work,
/// `outcome_unknown` if it had.
pub async fn ask<A, M, T>(actor: &Addr<A>, message: M, ticket: &Ticket) -> Result<T, Error>
where
    M: Message<Result = Result<T, Error>> + Send + 'static,
    T: Send + 'static,
    A: Actor + Handler<Queued<M>>,
    A::Context: ToEnvelope<A, Queued<M>>,
{
    let reply = actor.send(Queued::new(message));
    match tokio::time::timeout_at(ticket.deadline().into(), reply).await {
        Ok(Ok(reply)) => reply,
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
