//! RabbitMQ servers for tests: virtual hosts of the shared server, and servers owned by one test.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// An upper bound that only a hang exceeds, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The connection string of a virtual host that no other test uses. Without a broker it prints a
/// notice and returns `None`; it panics when `SOUK_TEST_ALL` requires every test to run.
pub(crate) fn shared_uri() -> Option<String> {
    let (Some(uri), Some(dir)) =
        (std::env::var("SOUK_TEST_AMQP_URI").ok(), std::env::var_os("SOUK_TEST_DIR"))
    else {
        assert!(
            std::env::var_os("SOUK_TEST_ALL").is_none(),
            "SOUK_TEST_AMQP_URI is not set; scripts/test sets it"
        );
        eprintln!("SOUK_TEST_AMQP_URI is not set: skipping a test that needs a broker");
        return None;
    };
    let count: usize = std::env::var("SOUK_TEST_AMQP_VHOSTS").unwrap().parse().unwrap();
    // Creating the file claims the virtual host for the rest of the run.
    let taken = |name: &String| {
        std::fs::File::create_new(Path::new(&dir).join(format!("taken-{name}"))).is_ok()
    };
    let name = (1..=count).map(|number| format!("test-{number}")).find(taken);
    Some(format!(
        "{uri}/{}",
        name.expect("all virtual hosts are taken; scripts/test says how many there are")
    ))
}

/// A server that is killed on drop.
pub(crate) struct Broker {
    port: u16,
    process: Option<Child>,
    dir: TempDir,
}

impl Broker {
    /// Starts a server owned by the test. Without RabbitMQ it prints a notice and returns `None`;
    /// it panics when `SOUK_TEST_ALL` requires every test to run.
    pub(crate) async fn start() -> Option<Self> {
        if !Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists() {
            assert!(
                std::env::var_os("SOUK_TEST_ALL").is_none(),
                "there is no rabbitmq-server; scripts/test installs it"
            );
            eprintln!("there is no rabbitmq-server: skipping a test that starts its own broker");
            return None;
        }
        let dir = match std::env::var_os("SOUK_TEST_DIR") {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        };
        let mut broker = Self { port: free_non_ephemeral_port(), process: None, dir: dir.unwrap() };
        broker.restart().await;
        Some(broker)
    }

    pub(crate) fn uri(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    /// Stops the processes with `SIGSTOP`: the kernel still accepts data that the server never
    /// reads.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Sets the share of memory at which the server blocks those who publish: 0 blocks them all.
    pub(crate) fn set_memory_limit(&self, share: &str) {
        let epmd_port = std::fs::read_to_string(self.dir.path().join("epmd_port")).unwrap();
        let done = Command::new("/usr/lib/rabbitmq/bin/rabbitmqctl")
            .args(["--node", "souk-test@localhost", "set_vm_memory_high_watermark", share])
            .env("HOME", self.dir.path().join("home"))
            .envs([("ERL_EPMD_ADDRESS", "127.0.0.1"), ("ERL_EPMD_PORT", epmd_port.trim())])
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// Sends `SIGKILL` and waits for the process to end.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.process.take().unwrap().wait().unwrap();
    }

    /// Waits until a kill is safe. RabbitMQ 3.10 persists the location of a new quorum queue with a
    /// delay and does not report when; killed earlier, it loses the queue.
    pub(crate) async fn wait_until_queues_persist(&self) {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    fn signal(&self, name: &str) {
        // The process group includes the port mapper.
        let group = format!("-{}", self.process.as_ref().expect("the broker is not running").id());
        assert!(Command::new("kill").args(["-s", name, "--", &group]).status().unwrap().success());
    }

    /// Starts the server on its existing data and port, and waits until it listens.
    pub(crate) async fn restart(&mut self) {
        assert!(self.process.is_none(), "the broker is already running");
        let mut command =
            Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/broker.sh"));
        command.arg(self.dir.path()).args([&self.port.to_string(), "0"]).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        tokio::time::timeout(TIMEOUT, self.wait_until_listening())
            .await
            .expect("the broker does not listen");
    }

    async fn wait_until_listening(&mut self) {
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                let output = std::fs::read_to_string(self.dir.path().join("out"));
                panic!("the broker did not start: {status}: {}", output.unwrap_or_default());
            }
            // The open port is the only sign of readiness.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// A free port below the ephemeral range, so that no outgoing connection takes it while the server
/// is down.
fn free_non_ephemeral_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..1000).map(|_| rand::random_range(20_000..32_000)).find(free).expect("no port is free")
}
