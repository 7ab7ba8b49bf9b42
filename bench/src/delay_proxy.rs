//! A TCP proxy that delays everything between clients and a member of a replica set.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

/// Longer than any `hello` response, which is where a server gives its address.
const LONGEST_HELLO: usize = 4096;

/// Listens until it is dropped.
pub struct DelayProxy {
    host: String,
    listening: AbortHandle,
}

/// A member's address and the proxy's, of the same length.
struct Names {
    member: String,
    proxy: String,
}

impl DelayProxy {
    /// Starts a proxy for `member`, such as `127.0.0.1:27017`. A driver connects to the addresses
    /// in a member's `hello` responses, so the proxy writes its own there. They must be as long as
    /// the member's.
    pub async fn start(member: &str, delay: Duration) -> anyhow::Result<Self> {
        let (address, port) = member.rsplit_once(':').context("the member has no port")?;
        anyhow::ensure!(
            ["127.0.0.1", "localhost"].contains(&address),
            "the proxy needs a member on 127.0.0.1 or localhost, not {address}"
        );
        let target = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
        let listener = bind_near(target.port()).await?;
        let host = format!("{address}:{}", listener.local_addr()?.port());
        let names = Arc::new(Names { member: member.to_owned(), proxy: host.clone() });
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(target).await {
                    forward_both(client, server, delay, &names);
                }
            }
        })
        .abort_handle();
        Ok(Self { host, listening })
    }

    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Drop for DelayProxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Listens on the next free port with as many digits.
async fn bind_near(port: u16) -> anyhow::Result<TcpListener> {
    let digits = port.to_string().len();
    for near in (port..=u16::MAX).skip(1).chain((1024..port).rev()) {
        if near.to_string().len() == digits
            && let Ok(listener) = TcpListener::bind(("127.0.0.1", near)).await
        {
            return Ok(listener);
        }
    }
    anyhow::bail!("no free port has {digits} digits")
}

fn forward_both(client: TcpStream, server: TcpStream, delay: Duration, names: &Arc<Names>) {
    // Without it, small messages would wait longer than the delay.
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    forward(from_client, to_server, delay, None);
    forward(from_server, to_client, delay, Some(Arc::clone(names)));
}

/// Forwards one direction. The timer rounds up to whole milliseconds, so the delay is up to 1 ms
/// longer. Bytes that follow within the delay are read meanwhile, so delays do not add up.
fn forward(
    mut source: OwnedReadHalf,
    mut sink: OwnedWriteHalf,
    delay: Duration,
    names: Option<Arc<Names>>,
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = source.read(&mut buffer).await {
            let due = Instant::now() + delay;
            let mut chunk = buffer[..count].to_vec();
            if let Some(names) = &names {
                names.replace(&mut chunk);
            }
            if sender.send((due, chunk)).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, chunk)) = receiver.recv().await {
            sleep_until(due).await;
            if sink.write_all(&chunk).await.is_err() {
                return;
            }
        }
    });
}

impl Names {
    /// Replaces the member's address in a short message.
    fn replace(&self, message: &mut [u8]) {
        let (member, proxy) = (self.member.as_bytes(), self.proxy.as_bytes());
        if message.len() > LONGEST_HELLO {
            return;
        }
        let mut start = 0;
        while let Some(found) =
            message[start..].windows(member.len()).position(|window| window == member)
        {
            let end = start + found + member.len();
            message[start + found..end].copy_from_slice(proxy);
            start = end;
        }
    }
}
