//! A gRPC client that is not written here: Python's grpcio, and stubs made of the `.proto` files.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

use super::{Account, TestApp, python_packages::python_packages, temp_dir};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The address on which tests have gRPC.
pub(crate) const GRPC: (&str, &str) = ("grpc.bind", "127.0.0.1:0");

/// Python with the packages that `tests/grpc/requirements.txt` lists, and the stubs.
pub(crate) struct GrpcClient {
    packages: PathBuf,
    stubs: &'static Path,
}

impl GrpcClient {
    /// The client; none when the packages are not there. With `SOUK_TEST_ALL` they have to be.
    pub(crate) fn find(what: &str) -> Option<Self> {
        let packages = python_packages(what, "SOUK_TEST_GRPC_TOOLS")?;
        let stubs = stubs(&packages);
        Some(Self { packages, stubs })
    }

    /// Runs a script of `tests/grpc` against the shop; returns what it prints. It must succeed.
    pub(crate) async fn run(
        &self,
        app: &mut TestApp,
        script: &str,
        variables: &[(&str, &str)],
    ) -> String {
        let address = app.grpc_address().await;
        let (admin, ada, guest) = (app.admin().await, app.customer().await, app.guest().await);
        let mut command = self.command(script);
        command.env("GRPC", address).env("SOUK", app.url()).env("PID", app.pid().to_string());
        command.env("DATA", app.dir().join("data")).envs(variables.iter().copied());
        for (name, Account { token, .. }) in [("ADMIN", admin), ("ADA", ada), ("GUEST", guest)] {
            command.env(name, token);
        }
        run(command).await
    }

    /// A script of `tests/grpc` without the variables that it takes.
    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = python(&self.packages);
        command.arg(Path::new(ROOT).join("tests/grpc").join(script));
        let paths = [&self.packages, self.stubs].map(PathBuf::from);
        command.env("PYTHONPATH", env::join_paths(paths).unwrap());
        command
    }
}

/// Runs a script, which must succeed; returns what it prints.
pub(crate) async fn run(mut command: Command) -> String {
    let run = tokio::task::spawn_blocking(move || output(&mut command));
    run.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// The stubs, which are made once.
fn stubs(packages: &Path) -> &'static Path {
    static STUBS: OnceLock<TempDir> = OnceLock::new();
    let make = || {
        let dir = temp_dir();
        let mut protoc = python(packages);
        protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(Path::new(ROOT).join("proto"));
        for kind in ["--python_out", "--grpc_python_out"] {
            protoc.arg(kind).arg(dir.path());
        }
        let services = ["auth", "catalog", "inventory", "cart"];
        protoc.args(services.map(|name| format!("souk/v1/{name}.proto")));
        protoc.args(
            ["google/type/money", "google/rpc/status", "google/rpc/error_details"]
                .map(|name| format!("{name}.proto")),
        );
        output(&mut protoc);
        dir
    };
    STUBS.get_or_init(make).path()
}

fn python(packages: &Path) -> Command {
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// What `command` prints; it must succeed.
fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout);
    // The command itself has tokens in its environment.
    let arguments: Vec<_> = command.get_args().collect();
    assert!(output.status.success(), "{arguments:?}:\n{printed}{}", text(&output.stderr));
    printed
}
