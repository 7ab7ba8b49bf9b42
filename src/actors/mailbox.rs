//! What accompanies every message to an actor: the sender's span, and the time of sending.

use std::time::Instant;

use actix::{Actor, Handler, Message};
use tracing::Span;

use crate::metrics::actors::MailboxMetrics;

/// A message on its way to its actor.
pub struct Queued<M> {
    message: M,
    sender: Span,
    sent_at: Instant,
}

impl<M: Message> Message for Queued<M> {
    type Result = M::Result;
}

impl<M> Queued<M> {
    /// A message that is sent now, by the current span.
    #[must_use]
    pub fn new(message: M) -> Self {
        Self { message, sender: Span::current(), sent_at: Instant::now() }
    }

    /// Records how long the message has waited in `mailbox`.
    pub(crate) fn record_wait(&self, mailbox: &MailboxMetrics) {
        mailbox.record_wait(self.sent_at);
    }

    /// Hands the message to its handler, in a span of its own if the sender's is recorded. The
    /// handler instruments its future with the current span.
    pub(crate) fn handle<A>(self, actor: &mut A, context: &mut A::Context) -> A::Result
    where
        A: Actor + Handler<M>,
        M: Message,
    {
        if self.sender.is_disabled() {
            return actor.handle(self.message, context);
        }
        let wait_ms = self.sent_at.elapsed().as_secs_f64() * 1000.0;
        let _sender = self.sender.enter();
        let span = tracing::info_span!(
            "message",
            otel.name = type_name::<M>(),
            actor = type_name::<A>(),
            mailbox.wait_ms = wait_ms,
        );
        let _span = span.enter();
        actor.handle(self.message, context)
    }
}

/// The last part of a type's name.
fn type_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    name.rsplit("::").next().unwrap_or(name)
}

/// Lets an actor take messages that it handles as [`Queued`] ones, too. The second argument is its
/// field with the metrics of its mailbox.
macro_rules! accept_queued {
    ($actor:ty, $mailbox:tt, $($message:ty),+) => {$(
        impl actix::Handler<$crate::actors::mailbox::Queued<$message>> for $actor {
            type Result = <Self as actix::Handler<$message>>::Result;

            fn handle(
                &mut self,
                message: $crate::actors::mailbox::Queued<$message>,
                context: &mut Self::Context,
            ) -> Self::Result {
                message.record_wait(self.$mailbox());
                message.handle(self, context)
            }
        }
    )+};
}

pub(crate) use accept_queued;
