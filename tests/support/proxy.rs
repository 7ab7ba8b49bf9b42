//! A TCP proxy that can cut connections, stay silent, and lose or withhold messages.

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

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Forwards connections from its own port.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    rules: Arc<Rules>,
}

struct Rules {
    /// Counts the cuts; each connection ends when the count changes.
    cuts: watch::Sender<u32>,
    /// Accepts no connections.
    closed: AtomicBool,
    /// Forwards nothing, without closing connections.
    silent: watch::Sender<bool>,
    /// Of every `every` commit requests, one reaches the server but its response does not come
    /// back. 0 disables this.
    every: AtomicU32,
    seen: AtomicU32,
    lost: watch::Sender<u32>,
    awaited: Mutex<Vec<AwaitedRequest>>,
}

/// A request that a test waits for.
struct AwaitedRequest {
    /// The client's name; empty matches every client.
    client: String,
    word: &'static [u8],
    /// Whether to keep the request from the server.
    withheld: bool,
    arrived: oneshot::Sender<()>,
}

/// Part of a request to commit a transaction.
pub(crate) const COMMIT: &[u8] = b"commitTransaction\0";

impl Proxy {
    pub(crate) async fn start(target: String) -> Self {
        let mut listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if listener.local_addr().unwrap().to_string() == target {
            // The server does not listen yet, so its port seemed free. A proxy of itself would
            // connect until no descriptors are left.
            listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        }
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

    /// Closes all connections and accepts no new ones until [`Proxy::restore`].
    pub(crate) fn cut(&self) {
        self.rules.closed.store(true, Ordering::Release);
        self.rules.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) fn restore(&self) {
        self.rules.closed.store(false, Ordering::Release);
    }

    /// Stops or resumes forwarding. Connections stay open and new ones are accepted, as by a frozen
    /// server.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.rules.silent.send_replace(silent);
    }

    /// Loses the response to one in `every` commits, together with its connection.
    pub(crate) fn lose_commit_responses(&self, every: u32) {
        self.rules.every.store(every, Ordering::Release);
    }

    /// The number of lost responses.
    pub(crate) fn lost_count(&self) -> u32 {
        *self.rules.lost.borrow()
    }

    /// Waits until a response is lost.
    pub(crate) async fn wait_for_loss(&self) {
        let mut lost = self.rules.lost.subscribe();
        tokio::time::timeout(TIMEOUT, lost.wait_for(|lost| *lost > 0))
            .await
            .expect("no response is lost")
            .unwrap();
    }

    /// Waits for the next request that contains `word`, from any client.
    pub(crate) async fn wait_for_request(&self, word: &'static [u8]) {
        self.await_request("", word, false).await;
    }

    /// Waits for the next request from `client` that contains `word`. A client gives its name in
    /// the first message of a connection. The server never gets the request: its connection hangs
    /// until the client or [`Proxy::cut`] ends it.
    pub(crate) async fn withhold_request(&self, client: &str, word: &'static [u8]) {
        self.await_request(client, word, true).await;
    }

    async fn await_request(&self, client: &str, word: &'static [u8], withheld: bool) {
        let (arrived, arrival) = oneshot::channel();
        self.rules.awaited.lock().unwrap().push(AwaitedRequest {
            client: client.to_owned(),
            word,
            withheld,
            arrived,
        });
        tokio::time::timeout(TIMEOUT, arrival).await.expect("no such request arrives").unwrap();
    }
}

impl Rules {
    /// Notifies the tests that wait for this request; returns whether to withhold it.
    fn must_withhold(&self, greeting: &[u8], request: &[u8]) -> bool {
        let is_match = |awaited: &mut AwaitedRequest| {
            contains(greeting, awaited.client.as_bytes()) && contains(request, awaited.word)
        };
        let arrived: Vec<AwaitedRequest> =
            self.awaited.lock().unwrap().extract_if(.., is_match).collect();
        let withheld = arrived.iter().any(|awaited| awaited.withheld);
        for awaited in arrived {
            awaited.arrived.send(()).unwrap_or_default();
        }
        withheld
    }

    fn must_lose(&self, request: &[u8]) -> bool {
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
                if rules.must_withhold(&greeting, &upwards[..count]) {
                    tokio::select! {
                        _ = cuts.changed() => {}
                        _ = client.read(&mut upwards) => {}
                    }
                    return;
                }
                if server.write_all(&upwards[..count]).await.is_err() {
                    return;
                }
                if rules.must_lose(&upwards[..count]) {
                    // The server must receive the request before the connection ends.
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
