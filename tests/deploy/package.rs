//! The Debian package: its unit of systemd is valid and hardened, its settings are known, and what
//! it installs exists.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::support::{Cli, TestApp};

/// The most exposure that `systemd-analyze security` may find, in tenths of its scale of ten.
const MAX_EXPOSURE: &str = "20";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs systemd-analyze on the unit, which then starts this program. Without systemd-analyze it
/// prints a notice and returns `None`; it panics when `SOUK_TEST_ALL` requires every test to run.
fn analyze(arguments: &[&str]) -> Option<Output> {
    let dir = TempDir::new().unwrap();
    let unit = fs::read_to_string(root().join("deploy/debian/souk.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/souk serve\n"));
    let unit = unit.replace("/usr/bin/souk", env!("CARGO_BIN_EXE_souk"));
    // The page is in the package, and not here.
    let unit = unit.replace("Documentation=man:souk(1)\n", "");
    let path = dir.path().join("souk.service");
    fs::write(&path, unit).unwrap();
    match Command::new("systemd-analyze").args(arguments).arg(&path).output() {
        Ok(output) => Some(output),
        Err(error) => {
            assert!(std::env::var_os("SOUK_TEST_ALL").is_none(), "systemd-analyze: {error}");
            eprintln!("systemd-analyze is not installed: skipping a test of the unit");
            None
        }
    }
}

#[test]
fn unit_is_valid() {
    let Some(output) = analyze(&["verify", "--man=no", "--recursive-errors=no"]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("souk.service:"), "{said}");
}

#[test]
fn unit_is_hardened() {
    let threshold = format!("--threshold={MAX_EXPOSURE}");
    let Some(output) = analyze(&["security", "--offline=true", "--no-pager", &threshold]) else {
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn packaged_settings_are_valid() {
    let app = TestApp::unstarted(&[]);
    let file = root().join("deploy/debian/souk.toml");
    let mut command = app.command();
    command.env_clear().env("SOUK_ENV", "production").env("SOUK_CONFIG", &file).arg("config");
    let shown = Cli::run(&mut command).ok();
    assert!(
        shown.contains("path = \"/var/lib/souk\"") && shown.contains("bind = \"127.0.0.1:8080\"")
    );
    assert!(shown.contains(&format!("#   {} (SOUK_CONFIG)\n", file.display())), "{shown}");
}

#[test]
fn packaged_files_exist() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let package = manifest.split("[package.metadata.deb]").nth(1).unwrap();
    let sources = package.lines().filter_map(|line| line.strip_prefix("  [\"")?.split('"').next());
    let mut count = 0;
    // scripts/build-deb makes what is in target.
    for source in sources.filter(|source| !source.starts_with("target/")) {
        count += 1;
        assert!(root().join(source).is_file(), "{source}");
    }
    assert!(count >= 5, "{count}");
    for script in ["postinst", "postrm"] {
        let path = root().join("deploy/debian").join(script);
        let status = Command::new("sh").arg("-n").arg(&path).status().unwrap();
        assert!(status.success(), "{script}");
        assert!(fs::read_to_string(path).unwrap().contains("#DEBHELPER#"));
    }
}

#[test]
fn completions_and_pages_name_every_command() {
    let app = TestApp::unstarted(&[]);
    let run = |arguments: &[&str]| Cli::run(app.command().args(arguments)).ok();
    let commands = ["serve", "login", "import", "admin", "audit", "backup", "restore", "config"];
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]);
        for command in commands {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    // Each shell reads its own; bash is everywhere.
    let script = app.write("souk.bash", run(&["completions", "bash"]));
    assert!(Command::new("bash").arg("-n").arg(script).status().unwrap().success());
    assert!(run(&["man"]).contains(".TH souk 1"));
    fs::create_dir(app.dir().join("man")).unwrap();
    run(&["man", "--dir", "man"]);
    for command in commands {
        assert!(app.dir().join(format!("man/souk-{command}.1")).is_file(), "{command}");
    }
    assert!(!app.dir().join("data").exists());
}
