//! HAProxy with the shipped configuration.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{ports::free_port, support::temp_dir};

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The interval between polls.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The ports of a node: of `http.bind`, `ops.bind` and `grpc.bind`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodePorts {
    pub(crate) http: u16,
    pub(crate) ops: u16,
    pub(crate) grpc: u16,
}

impl NodePorts {
    pub(crate) fn choose() -> Self {
        Self { http: free_port(), ops: free_port(), grpc: free_port() }
    }
}

/// A load balancer that is killed on drop.
pub(crate) struct Balancer {
    pub(crate) http: String,
    pub(crate) https: String,
    /// Host and port for gRPC, without TLS and with it.
    pub(crate) grpc: String,
    pub(crate) grpcs: String,
    /// The certificate, with its key, for TLS.
    pub(crate) certificate: PathBuf,
    admin: String,
    process: Child,
    dir: TempDir,
}

impl Balancer {
    /// Starts HAProxy in front of three nodes. Without HAProxy it prints a notice and returns
    /// `None`; it panics when `SOUK_TEST_ALL` requires every test to run.
    pub(crate) async fn start(nodes: &[NodePorts; 3]) -> Option<Self> {
        if !has_tools() {
            return None;
        }
        let dir = temp_dir();
        let certificate = create_certificate(dir.path());
        let [http, https, admin, grpc, grpcs] = [(); 5].map(|()| free_port());
        let address = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(configuration());
        command.env("SOUK_HTTP_BIND", address(http)).env("SOUK_HTTPS_BIND", address(https));
        command.env("SOUK_ADMIN_BIND", address(admin)).env("SOUK_CERTIFICATE", &certificate);
        command.env("SOUK_GRPC_BIND", address(grpc)).env("SOUK_GRPCS_BIND", address(grpcs));
        command.env("SOUK_SOCKETS", format!("abns@souk-{http}-"));
        for (number, node) in (1..).zip(nodes) {
            command.env(format!("SOUK_NODE_{number}"), address(node.http));
            command.env(format!("SOUK_NODE_{number}_OPS"), node.ops.to_string());
            command.env(format!("SOUK_NODE_{number}_GRPC"), address(node.grpc));
        }
        let log = File::create(dir.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stderr(log.try_clone().unwrap()).stdout(log);
        let balancer = Self {
            http: format!("http://{}", address(http)),
            https: format!("https://{}", address(https)),
            grpc: address(grpc),
            grpcs: address(grpcs),
            certificate,
            admin: format!("http://{}", address(admin)),
            process: command.spawn().unwrap(),
            dir,
        };
        balancer.wait_until(|_| true).await;
        Some(balancer)
    }

    /// Waits until the states of the servers are as wanted: whether each gets requests.
    pub(crate) async fn wait_until(&self, is_reached: impl Fn(&[bool]) -> bool) {
        let reached = async {
            while !self.servers().await.is_some_and(|servers| is_reached(&servers)) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(TIMEOUT, reached)
            .await
            .unwrap_or_else(|_| panic!("the servers' states do not change:\n{}", self.log()));
    }

    /// Whether each server gets requests; `None` if HAProxy does not answer yet.
    async fn servers(&self) -> Option<Vec<bool>> {
        let url = format!("{}/stats;csv", self.admin);
        let table = reqwest::get(url).await.ok()?.text().await.ok()?;
        let rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let servers = rows.filter(|row| row[0] == "nodes" && row[1].starts_with("souk-"));
        Some(servers.map(|row| row[17].starts_with("UP")).collect())
    }

    /// The status of a path on the port for operators.
    pub(crate) async fn admin_status(&self, path: &str) -> u16 {
        reqwest::get(format!("{}{path}", self.admin)).await.unwrap().status().as_u16()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of HAProxy:\n{}", self.log());
        }
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Whether HAProxy, and openssl for its certificate, are installed.
fn has_tools() -> bool {
    let found = |program, argument| Command::new(program).arg(argument).output().is_ok();
    let found = found("haproxy", "-v") && found("openssl", "version");
    if !found {
        assert!(
            std::env::var_os("SOUK_TEST_ALL").is_none(),
            "haproxy or openssl is not installed; scripts/test installs them"
        );
        eprintln!("haproxy or openssl is not installed: skipping a test of the load balancer");
    }
    found
}

fn configuration() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/haproxy/haproxy.cfg")
}

/// A certificate with its key, as the script in the container makes it.
fn create_certificate(dir: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/compose/create-certificate");
    let file = dir.join("localhost.pem");
    assert!(Command::new(script).arg(&file).stderr(Stdio::null()).status().unwrap().success());
    file
}
