//! A client's connection: its place, and its end when the client holds it up.
//!
//! A connection carries many calls, and pings of HTTP/2 notice a peer that is gone. What they do
//! not notice is a peer that never begins, and one that is there and wants nothing.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tonic::transport::server::Connected;

use crate::{
    admission::{
        connection_limiter::{ConnectionLimiter, ConnectionPermit},
        write_stall::WriteStall,
    },
    metrics::connections::{ConnectionMetrics, StreamTimeout},
};

/// How long a connection may be without its first call.
const OPENING_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection may be without a call in progress after that.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// How long to wait after the system could not accept a connection, as when no descriptor is left.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The peer of a connection, and the calls in progress on it. The requests of the connection have
/// it in their extensions.
#[derive(Debug, Clone)]
pub(super) struct ConnectionInfo {
    pub(super) peer: SocketAddr,
    activity: Arc<Mutex<Activity>>,
}

#[derive(Debug)]
struct Activity {
    running: u32,
    /// When the connection must get a call, while none is in progress.
    deadline: Instant,
}

/// A call in progress, until it is dropped.
#[derive(Debug)]
pub(super) struct RunningCall(Arc<Mutex<Activity>>);

impl ConnectionInfo {
    fn new(peer: SocketAddr) -> Self {
        let activity = Activity { running: 0, deadline: Instant::now() + OPENING_TIMEOUT };
        Self { peer, activity: Arc::new(Mutex::new(activity)) }
    }

    /// Counts a call until the result is dropped.
    pub(super) fn begin_call(&self) -> RunningCall {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner).running += 1;
        RunningCall(Arc::clone(&self.activity))
    }

    /// When the connection must get a call; later while one is in progress.
    fn idle_deadline(&self) -> Instant {
        let activity = self.activity.lock().unwrap_or_else(PoisonError::into_inner);
        if activity.running > 0 { Instant::now() + IDLE_TIMEOUT } else { activity.deadline }
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        let mut activity = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        activity.running = activity.running.saturating_sub(1);
        activity.deadline = Instant::now() + IDLE_TIMEOUT;
    }
}

/// The connections that get a place, as they come. The others are closed unanswered.
pub(super) fn accept_connections(
    listener: TcpListener,
    limiter: Arc<ConnectionLimiter>,
    write_timeout: Duration,
) -> impl Stream<Item = io::Result<ClientConnection>> {
    stream::unfold(listener, move |listener| {
        let limiter = Arc::clone(&limiter);
        async move {
            loop {
                match listener.accept().await {
                    Ok((io, peer)) => {
                        let admitted = ClientConnection::admit(io, peer, &limiter, write_timeout);
                        if let Some(connection) = admitted {
                            return Some((Ok(connection), listener));
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "failed to accept a connection");
                        sleep(ACCEPT_RETRY_PAUSE).await;
                    }
                }
            }
        }
    })
}

/// A client's connection. Reading fails when the client makes no call in time, writing when it
/// takes nothing of what is sent.
pub(super) struct ClientConnection {
    io: TcpStream,
    info: ConnectionInfo,
    write_stall: WriteStall,
    /// Fires at the idle deadline or before it.
    idle_timer: Option<Pin<Box<Sleep>>>,
    metrics: ConnectionMetrics,
    _permit: ConnectionPermit,
}

impl ClientConnection {
    fn admit(
        io: TcpStream,
        peer: SocketAddr,
        limiter: &Arc<ConnectionLimiter>,
        write_timeout: Duration,
    ) -> Option<Self> {
        let Some(permit) = limiter.admit(peer.ip()) else {
            // A reset leaves nothing behind in the kernel.
            drop(io.set_zero_linger());
            return None;
        };
        // Otherwise small frames wait for the acknowledgment of the ones before.
        drop(io.set_nodelay(true));
        Some(Self {
            io,
            info: ConnectionInfo::new(peer),
            write_stall: WriteStall::new(write_timeout),
            idle_timer: None,
            metrics: limiter.metrics().clone(),
            _permit: permit,
        })
    }

    /// Fails if the client has made no call in time. Otherwise wakes the task to look again.
    fn check_idle(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let info = &self.info;
        let timer =
            self.idle_timer.get_or_insert_with(|| Box::pin(sleep_until(info.idle_deadline())));
        // The timer is not reset for each call, but only when it fires before the deadline.
        while timer.as_mut().poll(cx).is_ready() {
            let deadline = self.info.idle_deadline();
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

impl Connected for ClientConnection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for ClientConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = pin!(&mut self.io).poll_read(cx, buf);
        if read.is_pending() {
            self.check_idle(cx)?;
        }
        read
    }
}

impl AsyncWrite for ClientConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.io).poll_write(cx, buf);
        self.check_write(cx, written)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_must_get_calls_in_time() {
        let info = ConnectionInfo::new(SocketAddr::from(([127, 0, 0, 1], 1)));
        let left = |info: &ConnectionInfo| info.idle_deadline() - Instant::now();
        assert!(left(&info) <= OPENING_TIMEOUT);
        let calls = [info.begin_call(), info.clone().begin_call()];
        assert!(left(&info) > OPENING_TIMEOUT, "later while calls are in progress");
        drop(calls);
        assert!((OPENING_TIMEOUT..=IDLE_TIMEOUT).contains(&left(&info)));
    }
}
