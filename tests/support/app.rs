//! A running test server: the real binary, a fresh store, a free port.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use super::{ADMIN_EMAIL, ADMIN_PASSWORD, temp_dir};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A running shop. Dropping it kills the process and asserts that the log reports no faults.
pub(crate) struct TestApp {
    url: String,
    pub(super) http: reqwest::Client,
    settings: BTreeMap<String, String>,
    process: Option<Process>,
    /// Shell commands that run before the process, in its place.
    preparations: Vec<String>,
    log: Arc<Log>,
    faults_expected: bool,
    dir: TempDir,
}

struct Process {
    child: Child,
    output: mpsc::UnboundedReceiver<String>,
    /// Lines of standard output read so far.
    printed: Vec<String>,
}

/// Standard error, line by line.
struct Log {
    lines: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

impl TestApp {
    /// A shop with an admin and without rate limits.
    pub(crate) async fn start() -> Self {
        Self::with_settings(&[]).await
    }

    /// Like `start`, with settings such as `("http.request_timeout", "500ms")`. An empty value
    /// unsets a setting.
    pub(crate) async fn with_settings(settings: &[(&str, &str)]) -> Self {
        let mut app = Self::unstarted(settings);
        app.restart().await;
        app
    }

    /// Like `with_settings`, but not started yet.
    pub(crate) fn unstarted(settings: &[(&str, &str)]) -> Self {
        let dir = temp_dir();
        let data = dir.path().join("data");
        let usual = [
            ("store.path", data.to_str().unwrap()),
            ("http.bind", "127.0.0.1:0"),
            ("auth.bcrypt_cost", "4"),
            ("auth.admin_email", ADMIN_EMAIL),
            ("auth.admin_password", ADMIN_PASSWORD),
            ("limits.per_address", "0"),
            ("limits.per_user", "0"),
            ("limits.login", "0"),
            ("limits.guests", "0"),
            ("limits.registrations", "0"),
            ("limits.idempotency_keys", "0"),
            ("limits.idempotency_bytes", "0B"),
            ("limits.guest_idempotency_bytes", "0B"),
            ("limits.connections_per_address", "0"),
            ("limits.feeds_per_address", "0"),
            ("limits.feeds_per_user", "0"),
        ];
        let settings = usual
            .iter()
            .chain(settings)
            .map(|(key, value)| (env_variable(key), (*value).to_owned()))
            .collect();
        Self {
            url: String::new(),
            http: client(),
            settings,
            process: None,
            preparations: Vec::new(),
            log: Arc::new(Log { lines: Mutex::default(), count: watch::Sender::new(0) }),
            faults_expected: false,
            dir,
        }
    }

    /// Allows errors and panics in the log.
    pub(crate) fn expect_faults(&mut self) {
        self.faults_expected = true;
    }

    /// Makes the process ignore a signal from its next start on.
    pub(crate) fn ignore_signal(&mut self, name: &str) {
        // An ignored signal stays ignored when the shell becomes another program.
        self.preparations.push(format!("trap '' {name}"));
    }

    /// Sets the soft and the hard limit of open descriptors for the next start.
    pub(crate) fn limit_descriptors(&mut self, soft: u32, hard: u32) {
        self.preparations.push(format!("ulimit -Sn {soft} && ulimit -Hn {hard}"));
    }

    /// Changes a setting for the next start.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.settings.insert(env_variable(key), value.to_owned());
    }

    /// A `souk` command in this shop's directory, with its settings as the only environment.
    pub(crate) fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_souk");
        let mut command = if self.preparations.is_empty() {
            Command::new(program)
        } else {
            let script = format!("{} && exec \"$0\" \"$@\"", self.preparations.join(" && "));
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &script, program]);
            shell
        };
        command.env_clear().envs(&self.settings).current_dir(self.dir.path()).stdin(Stdio::null());
        // The test script finds leftover processes by this variable.
        command.envs(std::env::var_os("SOUK_TEST_DIR").map(|dir| ("SOUK_TEST_DIR", dir)));
        command
    }

    /// Starts the process, for the first time or again on the same data, and waits until it
    /// listens.
    pub(crate) async fn restart(&mut self) {
        assert!(self.process.is_none(), "the process is already running");
        let mut command = self.command();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let log = Arc::clone(&self.log);
        read_lines(stderr, move |line| log.push(line));
        let (sender, output) = mpsc::unbounded_channel();
        read_lines(stdout, move |line| drop(sender.send(line)));
        let mut process = Process { child, output, printed: Vec::new() };
        self.url = loop {
            let Some(line) = process.next_line().await else {
                panic!("the process did not start:\n{}", self.log.text())
            };
            if let Some(url) = line.strip_prefix("Souk is listening on ") {
                break url.to_owned();
            }
        };
        self.process = Some(process);
        // The old client may hold connections to the previous process.
        self.http = client();
    }

    /// The URL of the port for operators, which the process prints if `ops.bind` is set.
    pub(crate) async fn operations_url(&mut self) -> String {
        let process = self.process.as_mut().unwrap();
        while let Some(line) = process.next_line().await {
            if let Some(url) = line.strip_prefix("Operations:") {
                return url.trim().strip_suffix("/readyz").unwrap().to_owned();
            }
        }
        panic!("the process printed no address for operators");
    }

    /// The address of the gRPC services, which the process prints if `grpc.bind` is set.
    pub(crate) async fn grpc_address(&mut self) -> String {
        let process = self.process.as_mut().unwrap();
        let find = |line: &String| Some(line.strip_prefix("gRPC:")?.trim().to_owned());
        if let Some(address) = process.printed.iter().find_map(find) {
            return address;
        }
        while let Some(line) = process.next_line().await {
            if let Some(address) = find(&line) {
                return address;
            }
        }
        panic!("the process printed no address for gRPC");
    }

    /// Sends a signal such as `TERM` or `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().child.id()
    }

    /// Sends `SIGKILL` and waits for the process to end.
    pub(crate) async fn kill_9(&mut self) {
        self.signal("KILL");
        self.reap().await;
    }

    /// Waits until a killed process is gone.
    pub(crate) async fn reap(&mut self) {
        let (status, _) = self.wait_for_exit().await;
        assert_eq!(status.code(), None, "the process exited by itself: {status}");
    }

    /// Waits for the process to exit by itself; returns what it wrote to standard output.
    pub(crate) async fn wait_for_exit(&mut self) -> (ExitStatus, Vec<String>) {
        let mut process = self.process.take().unwrap();
        while process.next_line().await.is_some() {}
        (process.child.wait().unwrap(), std::mem::take(&mut process.printed))
    }

    /// Stops the process with `SIGTERM`; returns what it wrote to standard output.
    pub(crate) async fn stop(&mut self) -> Vec<String> {
        self.signal("TERM");
        let (status, printed) = self.wait_for_exit().await;
        assert_eq!(status.code(), Some(0), "{}", self.log.text());
        printed
    }

    /// The base URL, such as `http://127.0.0.1:40001`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The host and port, such as `127.0.0.1:40001`.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// The working directory; the store is in `data` below it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the working directory.
    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a log line that contains `text`.
    pub(crate) async fn wait_for_log(&self, text: &str) {
        let mut count = self.log.count.subscribe();
        let found = count
            .wait_for(|_| self.log.lines.lock().unwrap().iter().any(|line| line.contains(text)));
        tokio::time::timeout(TIMEOUT, found).await.expect(text).unwrap();
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            drop(process.child.kill());
            drop(process.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log.text());
        } else {
            let lines = self.log.lines.lock().unwrap();
            let is_fault =
                |line: &&String| line.contains(r#""level":"ERROR""#) || line.contains("panicked");
            // actix logs this for a connection that it has not accepted yet when it stops.
            let is_late = |line: &&String| {
                line.contains(r#""message":"No workers","target":"actix_server::accept""#)
            };
            let faults: Vec<_> =
                lines.iter().filter(|line| is_fault(line) && !is_late(line)).collect();
            assert!(
                self.faults_expected || faults.is_empty(),
                "the server's log reports faults: {faults:#?}"
            );
        }
    }
}

impl Process {
    async fn next_line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(TIMEOUT, self.output.recv())
            .await
            .expect("the process neither prints nor exits")?;
        self.printed.push(line.clone());
        Some(line)
    }
}

impl Log {
    fn push(&self, line: String) {
        self.lines.lock().unwrap().push(line);
        self.count.send_modify(|count| *count += 1);
    }

    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }
}

fn env_variable(key: &str) -> String {
    format!("SOUK__{}", key.replace('.', "__").to_uppercase())
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        // Shorter than the server's, so that it closes no connection that is just used again.
        .pool_idle_timeout(Duration::from_secs(2))
        .no_proxy()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

fn read_lines(pipe: impl Read + Send + 'static, mut on_line: impl FnMut(String) + Send + 'static) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { break };
            on_line(line);
        }
    });
}
