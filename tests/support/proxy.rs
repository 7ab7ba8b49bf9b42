//! A TCP proxy that cuts connections when it is told to, or where it hurts most.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Forwards connections from a port of its own.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    rules: Arc<Rules>,
}

struct Rules {
    /// Counts the cuts; a connection ends when it changes.
    cuts: watch::Sender<u32>,
    /// Takes no connections.
    closed: AtomicBool,
    /// In every so many requests that contain the word, the request gets through and its answer does not. 0: never.
    every: AtomicU32,
    seen: AtomicU32,
    lost: watch::Sender<u32>,
}

/// The request whose answer is worth losing.
const WORD: &[u8] = b"commitTransaction\0";

impl Proxy {
    /// A proxy for `target`.
    pub(crate) async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let rules = Arc::new(Rules {
            cuts: watch::Sender::new(0),
            closed: AtomicBool::new(false),
            every: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            lost: watch::Sender::new(0),
        });
        let proxy = Self { host, rules: Arc::clone(&rules) };
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if rules.closed.load(Ordering::Acquire) {
                    continue;
                }
                if let Ok(server) = TcpStream::connect(&target).await {
                    tokio::spawn(forward(client, server, Arc::clone(&rules)));
                }
            }
        });
        proxy
    }

    /// Ends all connections, and takes no new ones until [`Proxy::restore`].
    pub(crate) fn cut(&self) {
        self.rules.closed.store(true, Ordering::Release);
        self.rules.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) fn restore(&self) {
        self.rules.closed.store(false, Ordering::Release);
    }

    /// Loses the answer to one commit in so many, with its connection.
    pub(crate) fn lose_commits(&self, every: u32) {
        self.rules.every.store(every, Ordering::Release);
    }

    /// How many answers were lost.
    pub(crate) fn lost(&self) -> u32 {
        *self.rules.lost.borrow()
    }

    /// Waits until an answer was lost.
    pub(crate) async fn loses_one(&self) {
        self.rules.lost.subscribe().wait_for(|lost| *lost > 0).await.unwrap();
    }
}

impl Rules {
    fn loses(&self, request: &[u8]) -> bool {
        let every = self.every.load(Ordering::Acquire);
        let commit = every > 0 && request.windows(WORD.len()).any(|window| window == WORD);
        let lost = commit && (self.seen.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(every);
        if lost {
            self.lost.send_modify(|lost| *lost += 1);
        }
        lost
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, rules: Arc<Rules>) {
    let mut cuts = rules.cuts.subscribe();
    let (mut upwards, mut downwards) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            _ = cuts.changed() => return,
            read = client.read(&mut upwards) => {
                let Ok(count @ 1..) = read else { return };
                if server.write_all(&upwards[..count]).await.is_err() {
                    return;
                }
                if rules.loses(&upwards[..count]) {
                    // The server is to get it before the connection ends.
                    drop(server.read(&mut downwards).await);
                    return;
                }
            }
            read = server.read(&mut downwards) => {
                let Ok(count @ 1..) = read else { return };
                if client.write_all(&downwards[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
