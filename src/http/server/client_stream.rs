//! A client's connection, which ends when the client holds it up.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::bare_response::ProblemResponse;
use crate::{
    admission::{connection_limiter::ConnectionPermit, write_stall::WriteStall},
    metrics::connections::{ConnectionMetrics, StreamTimeout},
};

/// How long a connection may be without a request in progress. The framework's own limits are
/// shorter, but cover neither the head of a second request nor the rest of an unwanted body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The requests in progress on a connection.
#[derive(Debug)]
pub(in crate::http) struct RequestActivity {
    running: Cell<u32>,
    idle_since: Cell<Instant>,
}

/// A request in progress, until it is dropped.
#[derive(Debug)]
pub(in crate::http) struct RunningRequest(Rc<RequestActivity>);

impl RequestActivity {
    fn new() -> Self {
        Self { running: Cell::new(0), idle_since: Cell::new(Instant::now()) }
    }

    /// Counts a request until the result is dropped.
    pub(in crate::http) fn begin_request(self: &Rc<Self>) -> RunningRequest {
        self.running.set(self.running.get() + 1);
        RunningRequest(Rc::clone(self))
    }

    /// When the connection must get a request; later while one is in progress.
    fn idle_deadline(&self) -> Instant {
        let since = if self.running.get() > 0 { Instant::now() } else { self.idle_since.get() };
        since + IDLE_TIMEOUT
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
    }
}

/// A client's connection. Reading fails when the client sends no request in time, writing when it
/// takes nothing of what is sent.
pub(super) struct ClientStream {
    io: TcpStream,
    activity: Rc<RequestActivity>,
    write_stall: WriteStall,
    /// Fires at the idle deadline or before it.
    idle_timer: Option<Pin<Box<Sleep>>>,
    /// Is written instead of a response of the HTTP library.
    problem: Option<ProblemResponse>,
    metrics: ConnectionMetrics,
    _permit: ConnectionPermit,
}

impl ClientStream {
    pub(super) fn new(
        io: TcpStream,
        permit: ConnectionPermit,
        metrics: ConnectionMetrics,
        write_timeout: Duration,
    ) -> Self {
        Self {
            io,
            activity: Rc::new(RequestActivity::new()),
            write_stall: WriteStall::new(write_timeout),
            idle_timer: None,
            problem: None,
            metrics,
            _permit: permit,
        }
    }

    pub(super) const fn activity(&self) -> &Rc<RequestActivity> {
        &self.activity
    }

    /// Fails if the client has sent no request in time. Otherwise wakes the task to look again.
    fn check_idle(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let activity = &self.activity;
        let timer =
            self.idle_timer.get_or_insert_with(|| Box::pin(sleep_until(activity.idle_deadline())));
        // The timer is not reset for each request, but only when it fires before the deadline.
        while timer.as_mut().poll(cx).is_ready() {
            let deadline = self.activity.idle_deadline();
            if deadline <= Instant::now() {
                return Err(self.time_out(StreamTimeout::Idle));
            }
            timer.as_mut().reset(deadline);
        }
        Ok(())
    }

    fn time_out(&self, timeout: StreamTimeout) -> io::Error {
        self.metrics.record_timeout(timeout);
        // Otherwise the kernel would keep what the client does not take for minutes.
        drop(self.io.set_zero_linger());
        io::ErrorKind::TimedOut.into()
    }

    fn check_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match self.write_stall.is_over(cx, &written) {
            true => Poll::Ready(Err(self.time_out(StreamTimeout::Write))),
            false => written,
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = pin!(&mut self.io).poll_read(cx, buf);
        // A client that sends something is polled again at once, until nothing is left to read.
        if read.is_pending() {
            self.check_idle(cx)?;
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.problem.is_none() {
            self.problem = ProblemResponse::replacing(buf);
        }
        let Self { io, problem, .. } = &mut *self;
        let Some(response) = problem else {
            let written = pin!(io).poll_write(cx, buf);
            return self.check_write(cx, written);
        };
        let replaces = response.replaces;
        while let Some(rest) =
            response.bytes.get(response.written..).filter(|rest| !rest.is_empty())
        {
            match pin!(&mut *io).poll_write(cx, rest) {
                Poll::Ready(Ok(count)) if count > 0 => response.written += count,
                Poll::Ready(Ok(_)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                other => return self.check_write(cx, other),
            }
        }
        self.problem = None;
        self.check_write(cx, Poll::Ready(Ok(replaces)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.io).poll_write_vectored(cx, bufs);
        self.check_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
