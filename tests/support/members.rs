//! A replica set owned by the test, whose members can be killed and restarted.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use super::replica_set::{initiate, primary};

const REPLICA_SET: &str = "souk";

/// Server processes that are killed on drop.
pub(crate) struct Members {
    hosts: Vec<String>,
    processes: Vec<Option<Child>>,
    options: Vec<String>,
    dir: TempDir,
}

impl Members {
    /// Starts `count` members with a primary. Without a mongod it prints a notice and returns
    /// `None`; it panics when `SOUK_TEST_ALL` requires every test to run.
    pub(crate) async fn start(count: usize) -> Option<Self> {
        let mut members = Self::start_uninitiated(count)?;
        let hosts = members.hosts.clone();
        members.initiate(&hosts).await;
        Some(members)
    }

    /// Like `start`, but without initiating the replica set.
    pub(crate) fn start_uninitiated(count: usize) -> Option<Self> {
        Self::start_servers(count, &["--replSet", REPLICA_SET])
    }

    /// Starts servers with these mongod options.
    pub(crate) fn start_servers(count: usize, options: &[&str]) -> Option<Self> {
        if std::env::var_os("MONGOD").is_none() {
            assert!(
                std::env::var_os("SOUK_TEST_ALL").is_none(),
                "MONGOD is not set; scripts/test sets it"
            );
            eprintln!("MONGOD is not set: skipping a test that starts its own MongoDB servers");
            return None;
        }
        let dir = match std::env::var_os("SOUK_TEST_DIR") {
            Some(dir) => tempfile::tempdir_in(dir),
            None => tempfile::tempdir(),
        };
        let ports: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let hosts = ports.iter().map(|port| port.local_addr().unwrap().to_string()).collect();
        drop(ports);
        let options = options.iter().map(ToString::to_string).collect();
        let mut members = Self {
            hosts,
            processes: (0..count).map(|_| None).collect(),
            options,
            dir: dir.unwrap(),
        };
        (0..count).for_each(|index| members.restart(index));
        Some(members)
    }

    /// Initiates the replica set. Clients find its members under the names in `hosts`.
    pub(crate) async fn initiate(&mut self, hosts: &[String]) {
        initiate(REPLICA_SET, hosts).await;
    }

    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The connection string of a replica set with these hosts.
    pub(crate) fn uri(hosts: &[String]) -> String {
        format!("mongodb://{}/?replicaSet={REPLICA_SET}", hosts.join(","))
    }

    /// Waits for a primary; returns its index.
    pub(crate) async fn primary(&self) -> usize {
        loop {
            if let Some(index) = primary(&self.hosts).await {
                return index;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Sends `SIGKILL` and waits for the process to end.
    pub(crate) fn kill(&mut self, index: usize) {
        let mut process = self.processes[index].take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The process of a member.
    pub(crate) fn pid(&self, index: usize) -> u32 {
        self.processes[index].as_ref().unwrap().id()
    }

    /// Sends a signal such as `STOP` or `CONT` to one member.
    pub(crate) fn signal(&self, index: usize, name: &str) {
        let pid = self.pid(index).to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
        // Threads stop one by one, so wait for all of them.
        while name == "STOP" && !is_stopped(&pid) {
            std::thread::yield_now();
        }
    }

    /// Starts a member on its existing data.
    pub(crate) fn restart(&mut self, index: usize) {
        let data = self.dir.path().join(index.to_string());
        std::fs::create_dir_all(&data).unwrap();
        let port = self.hosts[index].rsplit(':').next().unwrap();
        let mut command = Command::new(std::env::var_os("MONGOD").unwrap());
        command.args(&self.options).args([
            "--port",
            port,
            "--bind_ip",
            "127.0.0.1",
            "--nounixsocket",
        ]);
        command.args(["--wiredTigerCacheSizeGB", "0.25"]);
        command
            .arg("--dbpath")
            .arg(&data)
            .arg("--logpath")
            .arg(data.join("log"))
            .arg("--logappend");
        command.args(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.processes[index] = Some(command.spawn().unwrap());
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

/// Whether all threads of a process are stopped; see proc_pid_stat(5).
fn is_stopped(pid: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let stats = threads
        .filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("stat")).ok());
    // The state follows the name, which is in parentheses.
    stats
        .into_iter()
        .all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}
