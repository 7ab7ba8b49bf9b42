//! `souk login`: the token is kept privately, renewed, and used by the other commands.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Cli, TestApp};

/// Below which the command line keeps tokens.
fn config_home(app: &TestApp) -> PathBuf {
    app.dir().join("home/.config")
}

/// A command of somebody with a home.
fn command(app: &TestApp, arguments: &[&str]) -> Command {
    let mut command = app.command();
    command.args(arguments).env("HOME", app.dir().join("home"));
    command
}

fn login(app: &TestApp, email: &str, password: &str) -> Cli {
    let arguments = ["login", "--server", app.url(), "--email", email, "--password-stdin"];
    Cli::run_with_input(&mut command(app, &arguments), password)
}

fn saved(app: &TestApp) -> Value {
    serde_json::from_slice(&fs::read(config_home(app).join("souk/logins.json")).unwrap()).unwrap()
}

/// Makes the saved token expire.
fn expire(app: &TestApp) {
    let mut logins = saved(app);
    logins[app.url()]["expires_at"] = 0.into();
    let path = config_home(app).join("souk/logins.json");
    fs::write(path, serde_json::to_vec(&logins).unwrap()).unwrap();
}

#[tokio::test]
async fn token_of_a_login_is_private_and_used_by_other_commands() {
    let app = TestApp::start().await;
    let file = app.write("products.csv", "sku,name,price,stock\nA,Pot,12.5,3\n");
    let said = login(&app, ADMIN_EMAIL, &format!("{ADMIN_PASSWORD}\n")).ok();
    let expected = format!("{ADMIN_EMAIL} (admin) is logged in at {}.", app.url());
    assert!(said.starts_with(&expected), "{said}");
    for (path, mode) in [("souk", 0o700), ("souk/logins.json", 0o600), ("souk/logins.lock", 0o600)]
    {
        let found = fs::metadata(config_home(&app).join(path)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
    assert!(!saved(&app).to_string().contains(ADMIN_PASSWORD));
    let file = file.to_str().unwrap();
    let run = |arguments: &[&str]| Cli::run(&mut command(&app, arguments)).ok();
    // A slash at the end names the same server.
    let url = format!("{}/", app.url());
    assert_eq!(run(&["import", file, "--server", &url]), "1 created, 0 updated, 0 failed\n");
    assert_eq!(
        run(&["audit", "--server", app.url()]),
        "1 product, 0 orders, 1 movement: 0 findings, 0 corrected\n"
    );
    let made = run(&["admin", "owner@souk.example", "--server", app.url()]);
    let password = made.trim_end().rsplit(' ').next().unwrap();
    assert!(made.starts_with("owner@souk.example is now an admin. Password"), "{made}");
    let owner = app.login("owner@souk.example", password).await;
    assert_eq!(app.get("/api/auth/me").token(&owner).await.ok()["role"], "admin");
}

#[tokio::test]
async fn admins_are_made_over_the_api() {
    let app = TestApp::start().await;
    let ada = app.customer().await;
    login(&app, ADMIN_EMAIL, ADMIN_PASSWORD).ok();
    let admin = |email: &str, more: &[&str], input: &str| {
        let arguments = [&["admin", email, "--server", app.url()], more].concat();
        Cli::run_with_input(&mut command(&app, &arguments), input)
    };
    let promoted = format!("{} is now an admin. The password is unchanged.\n", ada.email);
    assert_eq!(admin(&ada.email, &[], "").ok(), promoted);
    assert_eq!(admin(&ada.email, &[], "").ok(), format!("{} is already an admin.\n", ada.email));
    let given = admin("new+one@souk.example", &["--password-stdin"], "a given password\n").ok();
    assert_eq!(given, "new+one@souk.example is now an admin.\n");
    let session = app.login("new+one@souk.example", "a given password").await;
    assert_eq!(app.get("/api/auth/me").token(&session).await.ok()["role"], "admin");
    let taken = admin(&ada.email, &["--password-stdin"], "a given password\n");
    assert!(taken.code == 1 && taken.stderr.contains("omit --password-stdin"), "{taken:?}");
    let reset = admin(&ada.email, &["--reset-password"], "");
    assert_eq!(reset.code, 2, "{reset:?}");
    // A customer's login is not enough.
    let bob = app.customer().await;
    login(&app, &bob.email, crate::support::PASSWORD).ok();
    let refused = admin("third@souk.example", &[], "");
    assert!(refused.code == 1 && refused.stderr.contains("403"), "{refused:?}");
    let body = json!({"email": "third@souk.example", "password": "a given password"});
    app.post("/api/auth/login", &body).await.problem(401, "invalid_credentials");
}

#[tokio::test]
async fn expired_token_is_renewed_once_by_commands_at_the_same_time() {
    let app = TestApp::start().await;
    login(&app, ADMIN_EMAIL, ADMIN_PASSWORD).ok();
    let before = saved(&app)[app.url()].clone();
    expire(&app);
    let start = || {
        let mut command = command(&app, &["audit", "--server", app.url()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // The shop makes one audit at a time, and says so to the other.
    for child in [start(), start()] {
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || stderr.contains("503"), "{stderr}");
    }
    let after = saved(&app)[app.url()].clone();
    assert_ne!(before["token"], after["token"]);
    assert_ne!(before["refresh_token"], after["refresh_token"]);
    assert_eq!(before["email"], after["email"]);
    Cli::run(&mut command(&app, &["audit", "--server", app.url()])).ok();
    assert_eq!(saved(&app)[app.url()], after, "a token that is good is used as it is");
}

#[tokio::test]
async fn login_that_has_ended_says_what_to_do() {
    let app = TestApp::start().await;
    let audit = || Cli::run(&mut command(&app, &["audit", "--server", app.url()]));
    let missing = audit();
    assert!(missing.code == 1 && missing.stderr.contains("nobody is logged in"), "{missing:?}");
    login(&app, ADMIN_EMAIL, ADMIN_PASSWORD).ok();
    let token = saved(&app)[app.url()]["token"].as_str().unwrap().to_owned();
    app.call("POST", "/api/auth/logout").token(&token).await.is(204);
    expire(&app);
    let ended = audit();
    let expected =
        format!("souk: the login at {0} has ended: run souk login --server {0}\n", app.url());
    assert!(ended.code == 1 && ended.stderr.ends_with(&expected), "{ended:?}");
    // A token in the environment goes before that of a login.
    let session = app.login(ADMIN_EMAIL, ADMIN_PASSWORD).await;
    let mut with_token = command(&app, &["audit", "--server", app.url()]);
    Cli::run(with_token.env("SOUK_TOKEN", &session.token)).ok();
}

#[tokio::test]
async fn logout_ends_a_session_whose_token_has_expired() {
    let app = TestApp::start().await;
    login(&app, ADMIN_EMAIL, ADMIN_PASSWORD).ok();
    expire(&app);
    let refresh = json!({"refresh_token": saved(&app)[app.url()]["refresh_token"]});
    let logout = Cli::run(&mut command(&app, &["logout", "--server", app.url()]));
    assert_eq!((logout.code, &*logout.stderr), (0, ""), "{logout:?}");
    app.post("/api/auth/refresh", &refresh).await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn logout_ends_the_session_and_removes_the_token() {
    let app = TestApp::start().await;
    login(&app, ADMIN_EMAIL, ADMIN_PASSWORD).ok();
    let token = saved(&app)[app.url()]["token"].as_str().unwrap().to_owned();
    app.get("/api/auth/me").token(&token).await.ok();
    let logout = || Cli::run(&mut command(&app, &["logout", "--server", app.url()]));
    logout().ok();
    app.get("/api/auth/me").token(&token).await.problem(401, "unauthenticated");
    assert_eq!(saved(&app), json!({}));
    let again = logout();
    assert!(again.code == 1 && again.stderr.contains("nobody is logged in"), "{again:?}");
}

/// Runs its arguments on a terminal, and types each line of its standard input when it is asked.
const TYPIST: &str = r#"
import os, pty, sys, termios, time
answers = sys.stdin.read().splitlines()
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
shown = b""
while True:
    try:
        part = os.read(terminal, 1024)
    except OSError:
        break
    if not part:
        break
    shown += part
    if answers and shown.endswith(b": "):
        # The terminal shows nothing from a moment after the question on.
        end = time.monotonic() + 10
        while (b"Password" in shown and termios.tcgetattr(terminal)[3] & termios.ECHO
               and time.monotonic() < end):
            time.sleep(0.01)
        os.write(terminal, answers.pop(0).encode() + b"\n")
sys.stdout.write(shown.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[tokio::test]
async fn login_on_a_terminal_asks_and_hides_the_password() {
    let app = TestApp::start().await;
    let login = command(&app, &["login", "--server", app.url()]);
    let mut typist = Command::new("python3");
    typist.args(["-c", TYPIST]).arg(login.get_program()).args(login.get_args());
    typist.env("HOME", app.dir().join("home")).env_remove("XDG_CONFIG_HOME");
    for name in ["SOUK_EMAIL", "SOUK_PASSWORD"] {
        typist.env_remove(name);
    }
    let answers = format!("{ADMIN_EMAIL}\n{ADMIN_PASSWORD}\n");
    let shown = Cli::run_with_input(typist.current_dir(app.dir()), &answers).ok();
    let prompt = format!("Password of {ADMIN_EMAIL} at {}: ", app.url());
    assert!(shown.starts_with("E-mail: ") && shown.contains(&prompt), "{shown}");
    assert!(!shown.contains(ADMIN_PASSWORD), "{shown}");
    assert_eq!(saved(&app)[app.url()]["email"], ADMIN_EMAIL);
}

#[tokio::test]
async fn login_without_a_terminal_takes_the_environment_or_says_what_is_missing() {
    let mut app = TestApp::start().await;
    let refused = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let run = Cli::run(command(&app, arguments).envs(variable));
        assert_eq!((run.code, &*run.stdout), (1, ""), "{run:?}");
        run.stderr
    };
    assert!(refused(&["login"], None).contains("--email, or set SOUK_EMAIL"));
    let no_password = refused(&["login"], Some(("SOUK_EMAIL", ADMIN_EMAIL)));
    assert!(no_password.contains("--password-stdin, or set SOUK_PASSWORD"), "{no_password}");
    let address = app.address().to_owned();
    // Without --server, it is the shop that has the same settings.
    app.set("http.bind", &address);
    let mut login = command(&app, &["login"]);
    login.env("SOUK_EMAIL", ADMIN_EMAIL).env("SOUK_PASSWORD", ADMIN_PASSWORD);
    login.env("XDG_CONFIG_HOME", app.dir().join("xdg"));
    let said = Cli::run(&mut login).ok();
    assert!(said.contains(&format!("is logged in at http://{address}.")), "{said}");
    assert!(app.dir().join("xdg/souk/logins.json").is_file());
    assert!(!config_home(&app).exists());
}
