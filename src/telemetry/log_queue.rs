//! Lines of the log on their way to standard error.
//!
//! Lines wait in one buffer, which a thread of its own writes out every few milliseconds. So a
//! request pays for the copy of its line, and for neither an allocation nor a system call, and a
//! slow reader of standard error delays no request. What the buffer cannot hold is dropped and
//! counted. Warnings and errors have room of their own in it, and are written at once.
//
// Not `tracing-appender` (0.2): it allocates each line and frees it on another thread, which it
// wakes for nearly every line. With a line for each request, that was most of what a log cost.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long lines gather before they are written.
const GATHERING: Duration = Duration::from_millis(10);

/// The most bytes that wait.
const MAX_WAITING: usize = 5 * 1024 * 1024;

/// The part of them that only warnings and errors may use.
const RESERVED: usize = 1024 * 1024;

/// Larger buffers are freed once they are written.
const MAX_KEPT: usize = 512 * 1024;

/// How long an ending process waits until its last lines are written.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// The lines that wait. Clones share them.
#[derive(Clone)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to write at once, or the log ends.
    wake_writer: Condvar,
    /// The last line is written.
    written: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    is_urgent: bool,
    is_closing: bool,
    is_closed: bool,
}

impl LogQueue {
    /// Starts the thread that writes to `out`. The guard ends it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, LogGuard)> {
        let shared = Arc::new(Shared::default());
        let queue = Self(Arc::clone(&shared));
        thread::Builder::new().name("souk-log".to_owned()).spawn(move || shared.write_to(out))?;
        let guard = LogGuard(Arc::clone(&queue.0));
        Ok((queue, guard))
    }

    /// How many lines were dropped, since they came faster than they were written.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8], is_urgent: bool) {
        let limit = if is_urgent { MAX_WAITING } else { MAX_WAITING - RESERVED };
        let mut waiting = self.lock();
        if waiting.lines.len() + line.len() > limit {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        waiting.is_urgent |= is_urgent;
        drop(waiting);
        if is_first || is_urgent {
            self.wake_writer.notify_one();
        }
    }

    /// Takes what waits in exchange for an empty buffer. Returns whether more will come.
    fn take(&self, taken: &mut Vec<u8>) -> bool {
        let is_idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.is_closing;
        let may_gather = |waiting: &mut Waiting| !waiting.is_urgent && !waiting.is_closing;
        let waiting = self
            .wake_writer
            .wait_while(self.lock(), is_idle)
            .unwrap_or_else(PoisonError::into_inner);
        let gathered = self.wake_writer.wait_timeout_while(waiting, GATHERING, may_gather);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        waiting.is_urgent = false;
        std::mem::swap(&mut waiting.lines, taken);
        !waiting.is_closing
    }

    fn write_to(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let goes_on = self.take(&mut lines);
            // Without a reader, there is nobody to tell.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
            lines.clear();
            lines.shrink_to(MAX_KEPT);
            if !goes_on {
                break;
            }
        }
        self.lock().is_closed = true;
        self.written.notify_all();
    }
}

/// Writes the lines that are left when it is dropped, for at most a second.
pub(super) struct LogGuard(Arc<Shared>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.is_closing = true;
        self.0.wake_writer.notify_one();
        let is_open = |waiting: &mut Waiting| !waiting.is_closed;
        drop(self.0.written.wait_timeout_while(waiting, LAST_WRITE, is_open));
    }
}

/// Takes one line.
pub(super) struct LineWriter<'a> {
    shared: &'a Shared,
    is_urgent: bool,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.push(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { shared: &self.0, is_urgent: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter { shared: &self.0, is_urgent: *metadata.level() <= Level::WARN }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// An output that takes nothing until it is told to, and sends on what it takes.
    struct Output {
        asked: Sender<()>,
        may_write: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            // The test drops its end to let everything through.
            let _ = self.may_write.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Test {
        queue: LogQueue,
        guard: LogGuard,
        /// Gets a message when the output is asked to write.
        asked: Receiver<()>,
        /// Dropped, the output writes.
        allow: Sender<()>,
        read: Receiver<Vec<u8>>,
    }

    fn blocked_queue() -> Test {
        let ((allow, may_write), (written, read)) = (channel(), channel());
        let (asks, asked) = channel();
        let (queue, guard) = LogQueue::start(Output { asked: asks, may_write, written }).unwrap();
        Test { queue, guard, asked, allow, read }
    }

    fn push(queue: &LogQueue, line: &[u8]) {
        queue.make_writer().write_all(line).unwrap();
    }

    fn push_urgent(queue: &LogQueue, line: &[u8]) {
        queue.0.push(line, true);
    }

    #[test]
    fn lines_are_written_in_order_to_the_last() {
        let Test { queue, guard, asked: _, allow, read } = blocked_queue();
        drop(allow);
        let lines: Vec<String> = (0..1000).map(|number| format!("line {number}\n")).collect();
        lines.iter().for_each(|line| push(&queue, line.as_bytes()));
        drop(guard);
        let written: Vec<u8> = read.iter().flatten().collect();
        assert_eq!(String::from_utf8(written).unwrap(), lines.concat());
    }

    #[test]
    fn slow_reader_costs_lines_but_no_warning() {
        let Test { queue, guard, asked, allow, read } = blocked_queue();
        push_urgent(&queue, b"first\n");
        asked.recv().unwrap();
        let line = [b'x'; 1024];
        let fit = (MAX_WAITING - RESERVED) / line.len();
        (0..fit + 10).for_each(|_| push(&queue, &line));
        assert_eq!(queue.dropped(), 10);
        push_urgent(&queue, b"a warning\n");
        drop(allow);
        drop(guard);
        let written: Vec<u8> = read.iter().flatten().collect();
        assert!(written.starts_with(b"first\n") && written.ends_with(b"a warning\n"));
    }

    #[test]
    fn warning_is_written_while_the_process_goes_on() {
        let Test { queue, guard, asked: _, allow, read } = blocked_queue();
        push(&queue, b"a request\n");
        push_urgent(&queue, b"a warning\n");
        drop(allow);
        let mut written = Vec::new();
        while !written.ends_with(b"a warning\n") {
            written.extend(read.recv().unwrap());
        }
        assert!(written.starts_with(b"a request\n"));
        drop(guard);
    }
}
