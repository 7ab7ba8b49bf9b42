//! An SMTP server that is not written here: aiosmtpd, in `tests/mail/server.py`.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::mpsc;

use super::python_packages::python_packages;

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The pages that links in mails lead to.
pub(crate) const LINK_BASE: &str = "https://shop.example/pages";

/// The server, which runs until it is killed or dropped.
pub(crate) struct MailServer {
    packages: PathBuf,
    mode: &'static str,
    variables: Vec<(&'static str, String)>,
    port: u16,
    process: Option<Process>,
    /// What it has printed and no test has asked for yet.
    seen: Vec<Value>,
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: mpsc::UnboundedReceiver<Value>,
}

/// A mail that the server has taken.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedMail(pub(crate) Value);

impl ReceivedMail {
    /// A field of what the server tells, such as `subject`.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("{name} of {}", self.0))
    }

    /// The token in the link to `page`, which is the same in both parts.
    pub(crate) fn token(&self, page: &str) -> String {
        let start = format!("{LINK_BASE}/{page}?token=");
        let (_, rest) = self.field("text").split_once(&start).unwrap();
        let token = rest.split_whitespace().next().unwrap().to_owned();
        let html = self.field("html").replace("&#x2f;", "/");
        assert!(html.contains(&format!("href=\"{start}{token}\"")), "{html}");
        assert!(
            token.len() >= 43 && token.chars().all(|c| c.is_alphanumeric() || "-_".contains(c))
        );
        token
    }
}

impl MailServer {
    /// Starts a server without TLS; none when the packages are not there. With `SOUK_TEST_ALL` they
    /// have to be.
    pub(crate) async fn start(what: &str) -> Option<Self> {
        Self::start_with(what, "plain", &[]).await
    }

    /// Starts a server in a mode of the script, with variables for it.
    pub(crate) async fn start_with(
        what: &str,
        mode: &'static str,
        variables: &[(&'static str, &str)],
    ) -> Option<Self> {
        let packages = python_packages(what, "SOUK_TEST_MAIL_TOOLS")?;
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let (port, process, seen) = (0, None, Vec::new());
        let variables = variables.collect();
        let mut server = Self { packages, mode, variables, port, process, seen };
        server.restart().await;
        Some(server)
    }

    /// Starts the process, after a kill on the same port.
    pub(crate) async fn restart(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail/server.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args([&self.port.to_string(), self.mode])
            .env("PYTHONPATH", &self.packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It reports each connection that a client ends early.
            .stderr(Stdio::null())
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
        self.process = Some(Process { child, input, output });
        let started = self.wait_for(|line| line["port"].is_u64()).await;
        self.port = u16::try_from(started["port"].as_u64().unwrap()).unwrap();
    }

    /// Kills the process: connections are reset, and new ones refused.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }

    /// The settings of a shop that sends its mail here. Each attempt that fails is repeated soon.
    pub(crate) fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("mail.uri", format!("smtp://127.0.0.1:{}?tls=none", self.port)),
            ("mail.from", "Tea Shop <shop@souk.example>".to_owned()),
            ("mail.link_base", format!("{LINK_BASE}/")),
            ("mail.retry_schedule", vec!["100ms"; 600].join(",")),
        ]
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Sets what the server does with mails to `address`: accept, refuse, defer or stall.
    pub(crate) async fn set_rule(&mut self, rule: &str, address: &str) {
        let process = self.process.as_mut().unwrap();
        writeln!(process.input, "{rule} {address}").unwrap();
        self.wait_for(|line| line["told"] == address).await;
    }

    /// Waits until a mail to `address` stalls.
    pub(crate) async fn wait_for_stall(&mut self, address: &str) {
        self.wait_for(|line| line["stalled"] == address).await;
    }

    /// Waits for a mail of this kind to `address`. Each mail is returned once.
    pub(crate) async fn mail(&mut self, kind: &str, address: &str) -> ReceivedMail {
        ReceivedMail(self.wait_for(|line| line["kind"] == kind && line["to"] == address).await)
    }

    /// The mails that have arrived and were not waited for.
    pub(crate) fn other_mails(&mut self) -> Vec<ReceivedMail> {
        if let Some(process) = &mut self.process {
            while let Ok(line) = process.output.try_recv() {
                self.seen.push(line);
            }
        }
        let mails = self.seen.iter().filter(|line| line["kind"].is_string());
        mails.cloned().map(ReceivedMail).collect()
    }

    async fn wait_for(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.seen.iter().position(&is_wanted) {
            return self.seen.remove(index);
        }
        loop {
            let output = &mut self.process.as_mut().expect("the mail server runs").output;
            let line = tokio::time::timeout(TIMEOUT, output.recv())
                .await
                .unwrap_or_else(|_| panic!("it did not come; instead: {:?}", self.seen))
                .expect("the mail server has ended");
            if is_wanted(&line) {
                return line;
            }
            self.seen.push(line);
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}
