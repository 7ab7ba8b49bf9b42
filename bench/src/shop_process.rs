//! A `souk` process with an empty store, and tokens for any number of users.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use serde_json::{Value, json};
use souk::{
    auth::token::TokenService,
    domain::{
        account::Role,
        clock::SystemClock,
        ids::{SessionId, UserId},
    },
};
use tokio::sync::OnceCell;

use crate::load_generator::{Request, send_once};

/// Long enough for HS256; not a real secret.
pub const JWT_SECRET: &str = "a public secret, for benchmarks only";

/// The account of an admin, whom each shop creates when it starts: rights are those of an account,
/// so a token alone gives none.
const ADMIN_EMAIL: &str = "admin@bench.example";
const ADMIN_PASSWORD: &str = "a public password, for benchmarks only";

/// A running `souk` server with a directory of its own. Dropping it ends the process.
pub struct ShopProcess {
    child: Child,
    pub address: SocketAddr,
    dir: tempfile::TempDir,
    admin_token: OnceCell<String>,
}

/// Starts a program and reads the address that ends the first line of its output.
pub fn spawn_and_read_address(command: &mut Command) -> anyhow::Result<(Child, SocketAddr)> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("failed to start the server")?;
    let stdout = child.stdout.take().context("the server has no standard output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let address = line.trim().rsplit('/').next().and_then(|text| text.parse().ok());
    Ok((
        child,
        address.with_context(|| format!("the first line of output has no address: {line:?}"))?,
    ))
}

/// The names of all settings of a `souk` binary, as in `http.bind`.
fn known_settings(souk: &Path, dir: &Path) -> anyhow::Result<HashSet<String>> {
    let mut command = Command::new(souk);
    command.current_dir(dir).arg("config").env("SOUK__AUTH__JWT_SECRET", JWT_SECRET);
    let output = command.output().context("failed to start the server")?;
    let text = String::from_utf8(output.stdout)?;
    anyhow::ensure!(output.status.success(), "souk config failed: {text}");
    let mut section = String::new();
    let mut names = HashSet::new();
    // Settings that are not set are in comments.
    for line in text.lines().map(|line| line.trim_start_matches(['#', ' '])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some(name) =
            line.strip_suffix(" is not set").or_else(|| Some(line.split_once(" = ")?.0))
        {
            names.insert(format!("{section}.{name}"));
        }
    }
    Ok(names)
}

impl ShopProcess {
    /// Starts a server on the embedded store.
    pub fn start_embedded() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// Starts a server with additional settings, named without the prefix `SOUK__`.
    pub fn start_with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_in(tempfile::tempdir()?, settings)
    }

    /// Starts a server whose store is in `dir`.
    pub fn start_in(dir: tempfile::TempDir, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let souk = std::env::current_exe()?.with_file_name("souk");
        Self::start_program_in(dir, &souk, "error", settings)
    }

    /// Starts a `souk` binary, which may be of another version: settings that it does not know are
    /// left out.
    pub fn start_program(
        souk: &Path,
        log: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::start_program_in(tempfile::tempdir()?, souk, log, settings)
    }

    fn start_program_in(
        dir: tempfile::TempDir,
        souk: &Path,
        log: &str,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let known = known_settings(souk, dir.path())?;
        let mut command = Command::new(souk);
        command.current_dir(dir.path()).env("RUST_LOG", log);
        let defaults = [
            ("HTTP__BIND", "127.0.0.1:0"),
            ("AUTH__JWT_SECRET", JWT_SECRET),
            ("AUTH__BCRYPT_COST", "4"),
            ("AUTH__ADMIN_EMAIL", ADMIN_EMAIL),
            ("AUTH__ADMIN_PASSWORD", ADMIN_PASSWORD),
            ("LIMITS__PER_ADDRESS", "0"),
            ("LIMITS__PER_USER", "0"),
            ("LIMITS__CONNECTIONS_PER_ADDRESS", "0"),
            ("LIMITS__GUESTS", "0"),
            ("LIMITS__REGISTRATIONS", "0"),
            ("LIMITS__IDEMPOTENCY_KEYS", "0"),
            ("LIMITS__IDEMPOTENCY_BYTES", "0B"),
            ("LIMITS__GUEST_IDEMPOTENCY_BYTES", "0B"),
        ];
        for (name, value) in defaults.iter().chain(settings) {
            if !known.contains(&name.to_lowercase().replace("__", ".")) {
                continue;
            }
            command.env(format!("SOUK__{name}"), value);
        }
        let (child, address) = spawn_and_read_address(&mut command)?;
        Ok(Self { child, address, dir, admin_token: OnceCell::new() })
    }

    /// Ends the process as an operator does. Returns its directory.
    pub fn stop(mut self) -> anyhow::Result<tempfile::TempDir> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        anyhow::ensure!(self.child.wait()?.success(), "the shop did not stop as it should");
        Ok(std::mem::replace(&mut self.dir, tempfile::tempdir()?))
    }

    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Creates a product that does not run out of stock. Returns its id.
    pub async fn create_product(&self) -> anyhow::Result<String> {
        self.create_numbered_product(1).await
    }

    /// Creates one of several such products, whose SKU contains `number`.
    pub async fn create_numbered_product(&self, number: usize) -> anyhow::Result<String> {
        let admin = self.admin_token().await?;
        let sku = format!("TEA-{number}");
        let body = json!({
            "name": "Mint tea",
            "description": "Green",
            "price": 4.5,
            "stock": 1_000_000_000,
            "sku": sku,
        });
        let response =
            send_once(self.address, &Request::post("/api/products", admin, &body.to_string()))
                .await?;
        let product: Value = serde_json::from_slice(&response)?;
        Ok(product
            .get("id")
            .and_then(Value::as_str)
            .context("the response has no product id")?
            .to_owned())
    }

    /// An access token of the admin.
    pub async fn admin_token(&self) -> anyhow::Result<&str> {
        let log_in = async || {
            let body = json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}).to_string();
            let login = Request::post("/api/auth/login", "", &body);
            let session: Value = serde_json::from_slice(&send_once(self.address, &login).await?)?;
            let token = session.get("token").and_then(Value::as_str);
            anyhow::Ok(token.context("the response has no token")?.to_owned())
        };
        Ok(self.admin_token.get_or_try_init(log_in).await?.as_str())
    }

    /// The resident memory of the process, in MiB.
    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("/proc does not report VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Processor time since the start, to 10 ms.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no process name")?;
        // utime and stime, in hundredths of a second.
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks = ticks.sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(10 * ticks))
    }
}

impl Drop for ShopProcess {
    fn drop(&mut self) {
        // The process may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Issues an access token for a new user.
pub fn new_user_token(role: Role) -> anyhow::Result<String> {
    let tokens = TokenService::with_secret(JWT_SECRET.as_bytes(), Arc::new(SystemClock));
    Ok(tokens.issue_session_token(UserId::new(), role, SessionId::new())?.token)
}
