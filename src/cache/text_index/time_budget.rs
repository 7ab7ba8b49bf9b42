//! Ends searches that take too much processor time.

use std::{thread, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// A search used up its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfTime;

/// The processor time that a search may still use.
pub(crate) struct TimeBudget {
    end: Duration,
    steps: usize,
}

impl TimeBudget {
    /// The steps between two looks at the clock: about 20 µs of work.
    const STEPS: usize = 8192;

    /// A budget for the current thread.
    pub(crate) fn new(time: Duration) -> Self {
        Self { end: thread_time().saturating_add(time), steps: 0 }
    }

    /// Uses some steps, such as one for each product that is looked at. After enough of them, other
    /// threads get their turn; see [`SearchPool`](crate::cache::search_pool::SearchPool).
    ///
    /// # Errors
    /// The time is used up.
    pub(crate) fn use_steps(&mut self, steps: usize) -> Result<(), OutOfTime> {
        self.steps += steps;
        if self.steps < Self::STEPS {
            return Ok(());
        }
        self.steps = 0;
        thread::yield_now();
        if thread_time() > self.end { Err(OutOfTime) } else { Ok(()) }
    }
}

/// The processor time of this thread, which does not grow while others run.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
