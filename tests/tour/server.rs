//! The built program, running in a folder of the test's.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// Whether the folder has a store already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// It has none, so that an admin's password is printed.
    First,
    /// It has one.
    Again,
}

/// A shop, killed at the end of the test.
pub(crate) struct Server {
    pub(crate) url: String,
    /// The first admin's; empty when it was not the first start.
    pub(crate) password: String,
    child: Child,
    output: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Server {
    /// Starts the shop in `dir`, on a port of its own choice and with no settings but these.
    pub(crate) fn start(dir: &Path, start: Start, settings: &[(&str, &str)]) -> Result<Self> {
        let log = dir.join("souk.log");
        let kept = ["PATH", "SOUK_TEST_DIR"]
            .into_iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut child = Command::new(env!("CARGO_BIN_EXE_souk"))
            .current_dir(dir)
            .env_clear()
            .envs(kept)
            .env("SOUK__HTTP__BIND", "127.0.0.1:0")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut server = Self { url: String::new(), password: String::new(), child, output, log };
        server.url = server.printed_after("Souk is open at ")?;
        if start == Start::First {
            let line = server.printed_after("Its password: ")?;
            server.password = line.split_whitespace().next().unwrap_or_default().to_owned();
        }
        Ok(server)
    }

    /// The rest of the line that begins with `label`, in what the shop prints from here on.
    pub(crate) fn printed_after(&mut self, label: &str) -> Result<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line)? > 0 {
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

    /// `kill -9`
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the shop to end, and waits until it has.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        let asked = Command::new("bash")
            .args(["-c", "kill -TERM \"$0\""])
            .arg(self.child.id().to_string())
            .status()?;
        ensure!(asked.success(), "the shop had ended before");
        Ok(self.child.wait()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.kill());
    }
}
