//! A TCP proxy that cuts connections when it is told to, or where it hurts most.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
};

/// Nothing takes as long, on any machine.
const NEVER: Duration = Duration::from_secs(60);

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
    /// Forwards nothing, and says nothing of it.
    silent: watch::Sender<bool>,
    /// In every so many requests that contain the word, the request gets through and its answer does not. 0: never.
    every: AtomicU32,
    seen: AtomicU32,
    lost: watch::Sender<u32>,
    /// Requests that somebody waits for.
    awaited: Mutex<Vec<Awaited>>,
}

/// A request that somebody waits for.
struct Awaited {
    /// What the client is called; empty: whatever.
    client: String,
    word: &'static [u8],
    /// It is not to reach the server.
    withheld: bool,
    came: oneshot::Sender<()>,
}

/// In a request to commit. Its answer is worth losing.
pub(crate) const COMMIT: &[u8] = b"commitTransaction\0";

impl Proxy {
    /// A proxy for `target`.
    pub(crate) async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let rules = Arc::new(Rules {
            cuts: watch::Sender::new(0),
            closed: AtomicBool::new(false),
            silent: watch::Sender::new(false),
            every: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            lost: watch::Sender::new(0),
            awaited: Mutex::default(),
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

    /// Forwards nothing any more, or everything again. Connections stay open, and new ones are taken, as those to a frozen server are.
    pub(crate) fn silence(&self, silent: bool) {
        self.rules.silent.send_replace(silent);
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
        let mut lost = self.rules.lost.subscribe();
        tokio::time::timeout(NEVER, lost.wait_for(|lost| *lost > 0))
            .await
            .expect("no answer is lost")
            .unwrap();
    }

    /// Waits for the next request with `word` in it, of whichever client.
    pub(crate) async fn asked(&self, word: &'static [u8]) {
        self.wait("", word, false).await;
    }

    /// Waits for the next request with `word` in it of `client`, which gives this name in the first thing it says on a connection. The
    /// server never gets the request: its connection stands still until the client or [`Proxy::cut`] ends it.
    pub(crate) async fn withhold(&self, client: &str, word: &'static [u8]) {
        self.wait(client, word, true).await;
    }

    async fn wait(&self, client: &str, word: &'static [u8], withheld: bool) {
        let (came, comes) = oneshot::channel();
        self.rules.awaited.lock().unwrap().push(Awaited {
            client: client.to_owned(),
            word,
            withheld,
            came,
        });
        tokio::time::timeout(NEVER, comes).await.expect("there is no such request").unwrap();
    }
}

impl Rules {
    /// Tells those who wait for this request of the client that has said `greeting`; whether it is to be withheld.
    fn withholds(&self, greeting: &[u8], request: &[u8]) -> bool {
        let is_it = |awaited: &mut Awaited| {
            contains(greeting, awaited.client.as_bytes()) && contains(request, awaited.word)
        };
        let came: Vec<Awaited> = self.awaited.lock().unwrap().extract_if(.., is_it).collect();
        let withheld = came.iter().any(|awaited| awaited.withheld);
        for awaited in came {
            awaited.came.send(()).unwrap_or_default();
        }
        withheld
    }

    fn loses(&self, request: &[u8]) -> bool {
        let every = self.every.load(Ordering::Acquire);
        let commit = every > 0 && contains(request, COMMIT);
        let lost = commit && (self.seen.fetch_add(1, Ordering::AcqRel) + 1).is_multiple_of(every);
        if lost {
            self.lost.send_modify(|lost| *lost += 1);
        }
        lost
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    word.is_empty() || bytes.windows(word.len()).any(|window| window == word)
}

async fn forward(mut client: TcpStream, mut server: TcpStream, rules: Arc<Rules>) {
    let mut cuts = rules.cuts.subscribe();
    let (mut upwards, mut downwards) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut greeting = Vec::new();
    let mut silent = rules.silent.subscribe();
    loop {
        if *silent.borrow_and_update() {
            tokio::select! {
                _ = cuts.changed() => return,
                _ = silent.changed() => continue,
            }
        }
        tokio::select! {
            _ = cuts.changed() => return,
            _ = silent.changed() => {}
            read = client.read(&mut upwards) => {
                let Ok(count @ 1..) = read else { return };
                if greeting.is_empty() {
                    greeting.extend_from_slice(&upwards[..count]);
                }
                if rules.withholds(&greeting, &upwards[..count]) {
                    tokio::select! {
                        _ = cuts.changed() => {}
                        _ = client.read(&mut upwards) => {}
                    }
                    return;
                }
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
