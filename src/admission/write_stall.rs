//! Notices a client that takes nothing of what is sent to it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// The time that a client may take nothing.
pub(crate) struct WriteStall {
    timeout: Duration,
    /// Runs while the client takes nothing.
    timer: Option<Pin<Box<Sleep>>>,
}

impl WriteStall {
    pub(crate) const fn new(timeout: Duration) -> Self {
        Self { timeout, timer: None }
    }

    /// Looks at the result of a write. Returns true when the client has taken nothing for too long;
    /// wakes the task to look again.
    pub(crate) fn is_over(
        &mut self,
        cx: &mut Context<'_>,
        written: &Poll<io::Result<usize>>,
    ) -> bool {
        if written.is_ready() {
            self.timer = None;
            return false;
        }
        let timeout = self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        timer.as_mut().poll(cx).is_ready()
    }
}
