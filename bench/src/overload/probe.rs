//! The probe of an orchestrator: `GET /livez` over a new connection each time, from a thread of its
//! own with the usual priority, since an orchestrator does not run beside the clients.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{anyhow, ensure};

/// The pause between two probes.
const INTERVAL: Duration = Duration::from_millis(20);

/// A probe without an answer for so long has failed, as an orchestrator sees it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Probes that go on until they are finished.
pub struct Probes {
    over: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<Duration>>>,
}

impl Probes {
    pub fn start(address: SocketAddr) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            let mut latencies = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                latencies.push(probe(address)?);
                thread::sleep(INTERVAL);
            }
            Ok(latencies)
        });
        Self { over, thread }
    }

    /// The latencies of all probes, sorted.
    pub fn finish(self) -> anyhow::Result<Vec<Duration>> {
        self.over.store(true, Ordering::Relaxed);
        let mut latencies = self.thread.join().map_err(|_| anyhow!("the probes panicked"))??;
        latencies.sort_unstable();
        Ok(latencies)
    }
}

/// Returns how long the answer took, from before the connection to its last byte.
fn probe(address: SocketAddr) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "the answer to a probe: {answer:?}");
    Ok(began.elapsed())
}
