//! RabbitMQ servers for tests: a virtual host of the one that the test script has started, and servers of a test's own.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// Nothing takes as long, on any machine: what is not there by then will never be.
const NEVER: Duration = Duration::from_secs(120);

/// The connection string of a virtual host that no other test uses. `None`, and a line that says so, when there is no broker to test
/// with; where every test has to run, that is a failure.
pub(crate) fn shared() -> Option<String> {
    let (Some(uri), Some(dir)) =
        (std::env::var("SOUK_TEST_AMQP_URI").ok(), std::env::var_os("SOUK_TEST_DIR"))
    else {
        assert!(
            std::env::var_os("SOUK_TEST_ALL").is_none(),
            "SOUK_TEST_AMQP_URI is not set; scripts/test sets it"
        );
        eprintln!("SOUK_TEST_AMQP_URI is not set: a test with a broker is left out");
        return None;
    };
    let count: usize = std::env::var("SOUK_TEST_AMQP_VHOSTS").unwrap().parse().unwrap();
    // Who makes the file has the host, for the rest of the run.
    let taken = |name: &String| {
        std::fs::File::create_new(Path::new(&dir).join(format!("taken-{name}"))).is_ok()
    };
    let name = (1..=count).map(|number| format!("test-{number}")).find(taken);
    Some(format!(
        "{uri}/{}",
        name.expect("all virtual hosts are taken; scripts/test says how many there are")
    ))
}

/// A server that ends with this value.
pub(crate) struct Broker {
    port: u16,
    process: Option<Child>,
    dir: TempDir,
}

impl Broker {
    /// A server of the test's own. `None`, and a line that says so, when there is none to test with; where every test has to run, that
    /// is a failure.
    pub(crate) async fn start() -> Option<Self> {
        if !Path::new("/usr/lib/rabbitmq/bin/rabbitmq-server").exists() {
            assert!(
                std::env::var_os("SOUK_TEST_ALL").is_none(),
                "there is no rabbitmq-server; scripts/test installs it"
            );
            eprintln!("there is no rabbitmq-server: a test with a broker of its own is left out");
            return None;
        }
        let dir = match std::env::var_os("SOUK_TEST_DIR") {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        };
        let mut broker = Self { port: quiet_port(), process: None, dir: dir.unwrap() };
        broker.restart().await;
        Some(broker)
    }

    /// Its connection string.
    pub(crate) fn uri(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    /// Stops it in its tracks: what is sent to it from now on, it gets and does not look at.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        self.process.take().unwrap().wait().unwrap();
    }

    /// Waits until it may be killed. RabbitMQ 3.10 writes down a moment later, and does not tell when, where it keeps a new quorum queue;
    /// killed before, it never finds it again.
    pub(crate) async fn has_noted_new_queues(&self) {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    fn signal(&self, name: &str) {
        // The group: its port mapper too.
        let group = format!("-{}", self.process.as_ref().expect("it is dead already").id());
        assert!(Command::new("kill").args(["-s", name, "--", &group]).status().unwrap().success());
    }

    /// Starts it again on its own data and port, and waits until it listens.
    pub(crate) async fn restart(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command =
            Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/broker.sh"));
        command.arg(self.dir.path()).args([&self.port.to_string(), "0"]).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.process = Some(command.spawn().unwrap());
        tokio::time::timeout(NEVER, self.listening()).await.expect("the broker does not listen");
    }

    async fn listening(&mut self) {
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                let said = std::fs::read_to_string(self.dir.path().join("out"));
                panic!("the broker did not start: {status}: {}", said.unwrap_or_default());
            }
            // There is nothing to wait for but the port.
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

/// A free port below those that the system gives to outgoing connections: none takes it while the server is down.
fn quiet_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..1000).map(|_| rand::random_range(20_000..32_000)).find(free).expect("no port is free")
}
