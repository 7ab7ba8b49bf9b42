//! The mistakes in docs/troubleshooting.md: each is made, and Souk says what the page shows.

use std::{
    collections::BTreeMap, ffi::OsStr, fs, os::unix::fs::PermissionsExt, path::Path,
    process::Command,
};

use rusqlite::Connection;

use crate::support::{Cli, TestApp};

/// The messages of Souk in the page's tables, by what somebody did.
fn page() -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    let text = fs::read_to_string(path).unwrap();
    let table = text.split("<!-- mistakes:").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows = rows.skip(1).filter_map(|(mistake, rest)| {
        Some((mistake.to_owned(), rest.split('`').nth(1)?.to_owned()))
    });
    rows.collect()
}

/// Whether `text` matches `pattern`, in which each `…` matches any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = first;
    for part in parts {
        last = part;
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || last.is_empty()
}

/// The first line that a command writes to standard error, without its log, and its exit code.
fn complaint(command: &mut Command) -> (i32, String) {
    complaint_about(command, "")
}

/// The same with something on standard input.
fn complaint_about(command: &mut Command, input: &str) -> (i32, String) {
    let run = Cli::run_with_input(command, input);
    assert_eq!(run.stdout, "", "{run:?}");
    let mut lines = run.stderr.lines().filter(|line| !line.starts_with('{'));
    (run.code, lines.next().unwrap_or_default().to_owned())
}

/// A command whose user may do no more than the permissions of files say, root included.
fn bound_to_permissions(command: &Command) -> Command {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let mut words: Vec<&OsStr> = words.collect();
    if rustix::process::geteuid().is_root() {
        let bounds = ["/usr/bin/setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"];
        words.splice(..0, bounds.map(OsStr::new));
    }
    let mut bound = Command::new(words[0]);
    bound.args(&words[1..]).current_dir(command.get_current_dir().unwrap()).env_clear();
    bound.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bound
}

fn of_settings() -> Vec<(&'static str, i32, String)> {
    let said = |mistake, name: &str, value: &str| {
        let app = TestApp::unstarted(&[]);
        let (code, line) = complaint(app.command().env(name, value));
        assert!(!app.dir().join("data").exists());
        (mistake, code, line)
    };
    let file = |mistake, text: &str| {
        let app = TestApp::unstarted(&[]);
        fs::create_dir(app.dir().join("config")).unwrap();
        app.write("config/development.toml", text);
        let (code, line) = complaint(&mut app.command());
        (mistake, code, line)
    };
    let mongodb = TestApp::unstarted(&[("store.kind", "mongodb"), ("store.database", "souk")]);
    let uri = "mongodb://localhost/?replicaSet=souk";
    let (missing_code, missing) = complaint(mongodb.command().env("MONGO_URI", uri));
    vec![
        ("A secret that is missing", missing_code, missing),
        said("A secret that is too short", "JWT_SECRET", "short"),
        said("A file of settings that is not there", "SOUK_CONFIG", "souk.toml"),
        said("An environment that has no settings", "SOUK_ENV", "prod"),
        said("A setting that does not exist", "SOUK__HTTP__PORT", "9000"),
        said("One underscore instead of two", "SOUK_HTTP__PORT", "9000"),
        file("Text without quotes in TOML", "[http]\nbind = localhost:8080\n"),
        said("MongoDB without its address", "SOUK__STORE__KIND", "mongodb"),
        said("A secret that is easy to guess", "JWT_SECRET", &"secret".repeat(8)),
    ]
}

fn of_folders() -> Vec<(&'static str, i32, String)> {
    let locked = TestApp::unstarted(&[]);
    let parent = locked.dir().join("locked");
    fs::create_dir(&parent).unwrap();
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = locked.command();
    command.env("SOUK__STORE__PATH", parent.join("data"));
    let (locked_code, locked_line) = complaint(&mut bound_to_permissions(&command));

    let file = TestApp::unstarted(&[]);
    let path = file.write("notes.txt", "");
    let (file_code, file_line) = complaint(file.command().env("SOUK__STORE__PATH", path));

    let wrong = TestApp::unstarted(&[]);
    let (wrong_code, wrong_line) = complaint(wrong.command().arg("audit"));
    vec![
        ("A folder that may not be written", locked_code, locked_line),
        ("A file where the folder should be", file_code, file_line),
        ("A command in the wrong folder", wrong_code, wrong_line),
    ]
}

fn of_backups() -> Vec<(&'static str, i32, String)> {
    let app = TestApp::unstarted(&[]);
    let (none_code, none_line) = complaint(app.command().args(["restore", "monday"]));
    assert!(!app.dir().join("data").exists());
    app.write("products.csv", "name,price\nPot,1\n");
    Cli::run(app.command().args(["import", "products.csv"])).ok();
    Cli::run(app.command().args(["backup", "monday"])).ok();
    let (over_code, over_line) = complaint(app.command().args(["restore", "monday"]));
    vec![
        ("A backup that is not there", none_code, none_line),
        ("A restore over a shop", over_code, over_line),
    ]
}

async fn of_running_shops() -> Vec<(&'static str, i32, String)> {
    let app = TestApp::start().await;
    let other = TestApp::unstarted(&[("http.bind", app.address())]);
    let (port_code, port_line) = complaint(&mut other.command());
    let (store_code, store_line) = complaint(&mut app.command());
    let file = app.write("products.csv", "name,price\nPot,1\n");
    let import =
        |server: &str| complaint(app.command().arg("import").arg(&file).args(["--server", server]));
    let (scheme_code, scheme_line) = import(app.address());
    let (login_code, login_line) = import(app.url());
    let mut login = app.command();
    login.args(["login", "--server", app.url(), "--email", "admin@souk.example"]);
    login.env("HOME", app.dir()).env("SOUK_PASSWORD", "a wrong password");
    let (password_code, password_line) = complaint(&mut login);
    let response = app
        .call("OPTIONS", "/api/cart")
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .await;
    let origin = response.problem(403, "forbidden");
    let no_token = app.get("/api/cart").await.problem(401, "unauthenticated");
    vec![
        ("A request without a token", 1, no_token["detail"].as_str().unwrap().to_owned()),
        ("Another program has the port", port_code, port_line),
        ("A second program on the same data", store_code, store_line),
        ("`--server` without `http://`", scheme_code, scheme_line),
        ("`--server` without a login", login_code, login_line),
        ("A wrong password", password_code, password_line),
        ("A page of another origin", 1, origin["detail"].as_str().unwrap().to_owned()),
    ]
}

fn of_machines() -> Vec<(&'static str, i32, String)> {
    let mut few = TestApp::unstarted(&[]);
    few.limit_descriptors(64, 64);
    let (few_code, few_line) = complaint(&mut few.command());

    let app = TestApp::unstarted(&[]);
    let mut admin = app.command();
    admin.args(["admin", "owner@souk.example", "--password-stdin"]);
    let (file_code, file_line) = complaint_about(&mut admin, "PASSWORD=x\nPORT=1\n");
    assert!(!app.dir().join("data").exists());

    let newer = TestApp::unstarted(&[]);
    newer.write("products.csv", "name,price\nPot,1\n");
    Cli::run(newer.command().args(["import", "products.csv"])).ok();
    let database = Connection::open(newer.dir().join("data/souk.db")).unwrap();
    database.pragma_update(None, "user_version", 1000).unwrap();
    drop(database);
    let (newer_code, newer_line) = complaint(&mut newer.command());
    vec![
        ("Too few open files", few_code, few_line),
        ("The wrong file as a password", file_code, file_line),
        ("An older version on newer data", newer_code, newer_line),
    ]
}

#[tokio::test]
async fn every_mistake_gets_the_message_of_the_page() {
    let mut page = page();
    let mut found = of_settings();
    found.extend(of_folders());
    found.extend(of_backups());
    found.extend(of_running_shops().await);
    found.extend(of_machines());
    assert!(found.len() >= 10);
    for (mistake, code, line) in found {
        let shown = page.remove(mistake).unwrap_or_else(|| panic!("no row for {mistake}: {line}"));
        assert!(matches(&shown, &line), "{mistake}\n  page: {shown}\n  souk: {line}");
        assert!(code == 1 || code == 2, "{mistake}: {code}");
        // The system says it once.
        assert!(line.matches("(os error").count() <= 1, "{line}");
        for jargon in ["relative URL", "panicked", "RelativeUrlWithoutBase", "invalid float"] {
            assert!(!line.contains(jargon), "{line}");
        }
    }
    assert!(page.is_empty(), "nobody makes these mistakes: {page:?}");
}

#[test]
fn ellipsis_matches_any_text() {
    assert!(matches("a … c", "a b c") && matches("a …", "a b") && matches("a", "a"));
    assert!(!matches("a … c", "a b") && !matches("a", "a b") && !matches("b", "a b"));
}
