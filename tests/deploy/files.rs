//! The container and Kubernetes files: valid, complete, and with settings that exist.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use crate::support::{Cli, TestApp, python_packages::python_packages};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs scripts/check-deploy with its packages. Without them it prints a notice and returns `None`;
/// it panics when `SOUK_TEST_ALL` requires every test to run.
fn check_deploy(arguments: &[&str]) -> Option<Output> {
    let packages = python_packages("the container files", "SOUK_TEST_DEPLOY_TOOLS")?;
    let mut command = Command::new(root().join("scripts/check-deploy"));
    Some(command.args(arguments).env("PYTHONPATH", packages).output().unwrap())
}

#[test]
fn compose_files_and_manifests_are_valid_and_complete() {
    let Some(output) = check_deploy(&[]) else { return };
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && found == "deploy: ok\n", "{output:?}");
}

#[test]
fn every_setting_of_the_shipped_files_is_known() {
    let Some(output) = check_deploy(&["--settings"]) else { return };
    assert!(output.status.success(), "{output:?}");
    let files: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_slice(&output.stdout).unwrap();
    assert!(files.len() >= 6, "{files:?}");
    let app = TestApp::unstarted(&[]);
    for (file, settings) in files {
        let mut command = app.command();
        command.env_clear().envs(&settings).env("SOUK_ENV", "production").arg("config");
        let run = Cli::run(&mut command);
        assert_eq!(run.code, 0, "{file}: {}", run.stderr);
    }
}

#[test]
fn environment_file_is_complete_or_empty() {
    let dir = tempfile::TempDir::new().unwrap();
    let openssl = dir.path().join("openssl");
    // It works once.
    std::fs::write(&openssl, "#!/bin/sh\nmkdir \"$0.used\" && echo 5eed\n").unwrap();
    std::fs::set_permissions(&openssl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(root().join("deploy/compose/create-env"));
    let output = command.env("PATH", path).output().unwrap();
    assert!(dir.path().join("openssl.used").exists());
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
}

#[test]
fn new_environment_file_has_every_secret() {
    let made = || {
        let output = Command::new(root().join("deploy/compose/create-env")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let pairs = text.lines().filter(|line| !line.starts_with('#'));
        let pairs = pairs.filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
    };
    let (first, second) = (made(), made());
    assert!(first.len() > 10 && first.keys().eq(second.keys()), "{first:?}");
    let example = std::fs::read_to_string(root().join(".env.example")).unwrap();
    let mut secrets = 0;
    for (name, value) in &first {
        let given = example.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        match given.unwrap() {
            "" if name == "SECOND_JWT_SECRET" => assert_eq!(value, ""),
            "" => {
                assert!(value.len() == 64 && value.bytes().all(|b| b.is_ascii_hexdigit()));
                assert_ne!(*value, second[name], "{name}");
                secrets += 1;
            }
            given => assert_eq!(value, given),
        }
    }
    assert_eq!(secrets, 6, "{first:?}");
}

#[test]
fn kustomize_builds_the_overlay() {
    // Debian has no kubectl of these versions, so this part needs one that is there.
    let overlay = root().join("deploy/kubernetes/overlays/production");
    let Ok(output) = Command::new("kubectl").arg("kustomize").arg(overlay).output() else {
        eprintln!("kubectl is not installed: kustomize does not build the overlay");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let built = String::from_utf8(output.stdout).unwrap();
    for part in ["image: registry.example.com/souk:0.1.0", "namespace: souk", "name: souk-"] {
        assert!(built.contains(part), "{part} is missing:\n{built}");
    }
}

#[test]
fn prometheus_accepts_the_shipped_configuration() {
    let file = root().join("deploy/prometheus/prometheus.yml");
    let Ok(output) = Command::new("promtool").args(["check", "config"]).arg(file).output() else {
        assert!(
            std::env::var_os("SOUK_TEST_ALL").is_none(),
            "promtool is not installed; scripts/test installs it"
        );
        eprintln!("promtool is not installed: skipping a test that needs it");
        return;
    };
    assert!(output.status.success(), "{output:?}");
}
