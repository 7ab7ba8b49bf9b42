//! A receiver of webhooks that is not written here: `standardwebhooks`, in
//! `tests/webhooks/receiver.py`.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Account, TestApp, python_packages::python_packages};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Settings of a shop whose webhooks go to this machine and are repeated soon.
pub(crate) const SETTINGS: [(&str, &str); 2] =
    [("webhooks.allow_private", "true"), ("webhooks.retry_schedule", "100ms,200ms,300ms")];

/// The folder of the packages. `None` if it is missing, which fails with `SOUK_TEST_ALL`.
pub(crate) fn packages(what: &str) -> Option<PathBuf> {
    python_packages(what, "SOUK_TEST_WEBHOOKS_TOOLS")
}

/// The receiver, which runs until it is dropped.
pub(crate) struct Receiver {
    child: Child,
    input: ChildStdin,
    output: mpsc::UnboundedReceiver<Value>,
    port: u16,
    /// What it has printed and no test has asked for yet.
    seen: Vec<Value>,
}

impl Receiver {
    /// Starts a receiver.
    pub(crate) async fn start(what: &str) -> Option<Self> {
        Self::start_with(what, &[]).await
    }

    /// Starts a receiver that speaks TLS, with the files of a certificate and its key.
    pub(crate) async fn start_with_tls(what: &str, files: [&str; 2]) -> Option<Self> {
        Self::start_with(what, &files).await
    }

    async fn start_with(what: &str, arguments: &[&str]) -> Option<Self> {
        let packages = packages(what)?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/webhooks/receiver.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args(arguments)
            .env("PYTHONPATH", packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, lines) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, output) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines() {
                let Ok(line) = line else { break };
                drop(sender.send(serde_json::from_str(&line).unwrap()));
            }
        });
        let mut receiver = Self { child, input, output, port: 0, seen: Vec::new() };
        let started = receiver.wait_for(|line| line["port"].is_u64()).await;
        receiver.port = u16::try_from(started["port"].as_u64().unwrap()).unwrap();
        Some(receiver)
    }

    /// The port that it listens on.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The URL of an endpoint.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Sets what an endpoint does.
    pub(crate) async fn set_rule(&mut self, path: &str, rule: &str) {
        self.tell(&json!({"path": path, "rule": rule})).await;
    }

    /// Sets the secrets that an endpoint verifies with.
    pub(crate) async fn set_secrets(&mut self, path: &str, secrets: &[&str]) {
        self.tell(&json!({"path": path, "secrets": secrets})).await;
    }

    async fn tell(&mut self, order: &Value) {
        writeln!(self.input, "{order}").unwrap();
        self.wait_for(|line| line["told"] == order["path"]).await;
    }

    /// Makes a webhook for an endpoint, which verifies with its secret from then on.
    pub(crate) async fn create(
        &mut self,
        app: &TestApp,
        admin: &Account,
        path: &str,
        types: &[&str],
    ) -> Value {
        let body = json!({"url": self.url(path), "types": types});
        let made = app.post("/api/webhooks", &body).token(admin).await.is(201).json();
        self.set_secrets(path, &[made["secret"].as_str().unwrap()]).await;
        made
    }

    /// Waits for a request to an endpoint. Each is returned once.
    pub(crate) async fn request(&mut self, path: &str) -> Value {
        self.wait_for(|line| line["path"] == path).await
    }

    /// Waits for a request to an endpoint with an event of this type.
    pub(crate) async fn event(&mut self, path: &str, kind: &str) -> Value {
        self.wait_for(|line| line["path"] == path && line["type"] == kind).await
    }

    /// The requests that have arrived and were not waited for.
    pub(crate) fn others(&mut self) -> Vec<Value> {
        while let Ok(line) = self.output.try_recv() {
            self.seen.push(line);
        }
        self.seen.iter().filter(|line| line["path"].is_string()).cloned().collect()
    }

    /// The next request, whatever it is, unless `within` passes.
    pub(crate) async fn next(&mut self, within: Duration) -> Option<Value> {
        if !self.seen.is_empty() {
            return Some(self.seen.remove(0));
        }
        tokio::time::timeout(within, self.output.recv()).await.ok().flatten()
    }

    async fn wait_for(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.seen.iter().position(&is_wanted) {
            return self.seen.remove(index);
        }
        loop {
            let line = tokio::time::timeout(TIMEOUT, self.output.recv())
                .await
                .unwrap_or_else(|_| panic!("it did not come; instead: {:?}", self.seen))
                .expect("the receiver has ended");
            if is_wanted(&line) {
                return line;
            }
            self.seen.push(line);
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
