//! The built program, running in a test directory.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// Whether the directory has a store already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// No store: the server prints an admin password.
    First,
    /// An existing store.
    Again,
}

/// A server that is killed on drop.
pub(crate) struct Server {
    pub(crate) url: String,
    /// The first admin's password; empty on later starts.
    pub(crate) password: String,
    /// What it has printed so far.
    greeting: String,
    child: Child,
    output: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Server {
    /// Starts the server in `dir` on a free port, with only these settings and cheap
    /// password hashes.
    pub(crate) fn start(dir: &Path, start: Start, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_with(Command::new(env!("CARGO_BIN_EXE_souk")), dir, start, settings)
    }

    /// Like `start`, with the command that starts the server.
    pub(crate) fn start_with(
        mut command: Command,
        dir: &Path,
        start: Start,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let log = dir.join("souk.log");
        let kept = ["PATH", "SOUK_TEST_DIR"]
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = command
            .current_dir(dir)
            .env_clear()
            .envs(kept)
            .env("SOUK__HTTP__BIND", "127.0.0.1:0")
            // Several shops of an unoptimized build hash passwords at the same time.
            .env("SOUK__AUTH__BCRYPT_COST", "4")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let (url, password, greeting) = (String::new(), String::new(), String::new());
        let mut server = Self { url, password, greeting, child, output, log };
        server.url = server.printed_after("Souk is listening on ")?;
        if start == Start::First {
            let line = server.printed_after("Password: ")?;
            server.password = line.split_whitespace().next().unwrap_or_default().to_owned();
        }
        Ok(server)
    }

    /// Reads output up to the line that starts with `label`; returns the rest of that line.
    pub(crate) fn printed_after(&mut self, label: &str) -> Result<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line)? > 0 {
            self.greeting.push_str(&line);
            if let Some(rest) = line.strip_prefix(label) {
                return Ok(rest.trim().to_owned());
            }
            line.clear();
        }
        bail!(
            "the shop ended before it printed {label:?}; its log: {}",
            fs::read_to_string(&self.log)?
        )
    }

    /// What it has printed, as far as it was read.
    pub(crate) fn greeting(&self) -> &str {
        &self.greeting
    }

    /// Sends `SIGKILL` and waits for the process to end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends `SIGTERM` and waits for the process to end.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        let kill = Command::new("bash")
            .args(["-c", "kill -TERM \"$0\""])
            .arg(self.child.id().to_string())
            .status()?;
        ensure!(kill.success(), "the shop has already exited");
        Ok(self.child.wait()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have exited already.
        drop(self.kill());
    }
}
