//! `souk backup` of a running shop, and `souk restore`.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Cli, TestApp};

fn run(app: &TestApp, arguments: &[&str]) -> Cli {
    Cli::run(app.command().args(arguments))
}

/// Asserts that a command fails with one line that contains `word`.
#[track_caller]
fn assert_refused(run: &Cli, word: &str) {
    assert_eq!((run.code, &*run.stdout, run.stderr.lines().count()), (1, "", 1), "{run:?}");
    assert!(run.stderr.contains(word), "{word}: {run:?}");
}

/// A shop without data of its own, whose data a restore brings.
fn empty_shop() -> TestApp {
    TestApp::unstarted(&[])
}

/// Restores the backup of another shop.
fn restore(from: &TestApp, backup: &str, into: &TestApp) -> Cli {
    run(into, &["restore", from.dir().join(backup).to_str().unwrap()])
}

#[tokio::test]
async fn backup_during_writes_is_consistent_and_has_what_was_acknowledged() {
    let app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 1_000_000).await;
    let buyers = app.customers(3).await;
    let stop = Arc::new(AtomicBool::new(false));
    let buy = async |index: usize| {
        let mut orders = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let order = app.buy(&buyers[index], &tea, 1).await;
            app.order_action(&admin, &order, "pay").await.ok();
            orders.push(order);
        }
        orders
    };
    let backups = async {
        let mut acknowledged = Vec::new();
        for name in ["first", "second", "third"] {
            let last = app.buy(&buyers[0], &tea, 2).await;
            let mut command = app.command();
            command.args(["backup", name]);
            let made = tokio::task::spawn_blocking(move || Cli::run(&mut command)).await.unwrap();
            let expected = format!("{name} is complete and checked: souk.db, jwt_secret");
            assert!(made.stdout.starts_with(&expected), "{made:?}");
            acknowledged.push((name, last));
        }
        stop.store(true, Ordering::Relaxed);
        acknowledged
    };
    let (acknowledged, first, second) = tokio::join!(backups, buy(1), buy(2));
    assert!(first.len() + second.len() > 1, "orders were placed meanwhile");
    for (name, order) in acknowledged {
        let mut other = empty_shop();
        let said = restore(&app, name, &other).ok();
        assert!(said.contains("by souk 0."), "{said}");
        let audit = run(&other, &["audit", "--deep"]).ok();
        assert!(audit.contains(": 0 findings"), "{audit}");
        other.restart().await;
        // Tokens of the shop are good: the secret is part of the backup.
        assert_eq!(other.order(&buyers[0], &order).await["id"], order["id"]);
    }
}

#[tokio::test]
async fn backup_is_private_and_says_what_it_has() {
    let app = TestApp::with_settings(&[("auth.jwt_secret", "")]).await;
    assert!(run(&app, &["backup", "deep/in/backup"]).ok().lines().count() == 1);
    let dir = app.dir().join("deep/in/backup");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!((mode(&dir.join("souk.db")), mode(&dir.join("jwt_secret"))), (0o600, 0o600));
    let mut files: Vec<_> = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["backup.json", "jwt_secret", "souk.db"]);
    let manifest: Value =
        serde_json::from_slice(&fs::read(dir.join("backup.json")).unwrap()).unwrap();
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["sha256"].as_object().unwrap().len(), 2);
    // A secret of the settings is named, and not copied.
    let with_secret = TestApp::unstarted(&[
        ("auth.jwt_secret", "9f86d081884c7d659a2feaa0c55ad015"),
        ("mail.uri", "smtp://souk:hush@127.0.0.1:1?tls=none"),
        ("mail.from", "shop@souk.example"),
        ("mail.link_base", "https://souk.example"),
        ("payments.stripe.secret_key", "sk_test_1"),
        ("payments.stripe.webhook_secret", "whsec_1"),
    ]);
    Cli::run_with_input(
        with_secret.command().args(["admin", "a@souk.example", "--password-stdin"]),
        "a good password",
    )
    .ok();
    let said = run(&with_secret, &["backup", "backup"]).ok();
    let kept = "keep them, too: auth.jwt_secret, mail.uri, payments.stripe.secret_key, \
                payments.stripe.webhook_secret";
    assert!(said.lines().nth(1).unwrap().ends_with(kept), "{said}");
    assert!(!with_secret.dir().join("backup/jwt_secret").exists());
    // In a folder that was there, the files are private.
    let empty = app.dir().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::set_permissions(&empty, fs::Permissions::from_mode(0o755)).unwrap();
    run(&app, &["backup", "empty"]).ok();
    for file in ["souk.db", "jwt_secret"] {
        assert_eq!(mode(&empty.join(file)), 0o600, "{file}");
    }
}

/// Overwrites the first page of the table of accounts.
fn damage_accounts(database: &Path) {
    let connection = Connection::open(database).unwrap();
    let number = |query| connection.query_row(query, [], |row| row.get::<_, u64>(0)).unwrap();
    let page = number("SELECT rootpage FROM sqlite_schema WHERE name = 'users'");
    let size = number("PRAGMA page_size");
    drop(connection);
    let file = fs::OpenOptions::new().write(true).open(database).unwrap();
    let garbage = vec![0x5a; usize::try_from(size).unwrap()];
    file.write_all_at(&garbage, (page - 1) * size).unwrap();
}

#[tokio::test]
async fn backup_that_cannot_be_made_leaves_nothing() {
    let mut app = TestApp::unstarted(&[]);
    assert_refused(&run(&app, &["backup", "backup"]), "there is no shop in");
    assert!(!app.dir().join("backup").exists());
    app.restart().await;
    fs::create_dir(app.dir().join("full")).unwrap();
    app.write("full/notes.txt", "mine");
    assert_refused(&run(&app, &["backup", "full"]), "full is not empty");
    assert_eq!(fs::read(app.dir().join("full/notes.txt")).unwrap(), b"mine");
    app.write("file", "");
    assert_refused(&run(&app, &["backup", "file"]), "failed to read file");
    app.stop().await;
    damage_accounts(&app.dir().join("data/souk.db"));
    assert_refused(&run(&app, &["backup", "backup"]), "is damaged");
    assert!(!app.dir().join("backup").exists());
    let mongodb = app
        .command()
        .args(["backup", "backup"])
        .env("SOUK__STORE__KIND", "mongodb")
        .env("MONGO_URI", "mongodb://souk:hush@db/")
        .env("DB_NAME", "souk")
        .env("JWT_SECRET", "9f86d081884c7d659a2feaa0c55ad015")
        .output()
        .unwrap();
    let said = String::from_utf8(mongodb.stderr).unwrap();
    assert!(said.contains("mongodump --uri") && said.contains("docs/backup.md"), "{said}");
    assert!(!said.contains("hush"), "{said}");
}

#[tokio::test]
async fn restore_changes_nothing_that_is_there() {
    let mut app = TestApp::start().await;
    let admin = app.admin().await;
    let tea = app.new_product(&admin, &json!(4.5), 7).await;
    run(&app, &["backup", "backup"]).ok();
    assert_refused(&run(&app, &["restore", "backup"]), "another souk is using");
    app.change_stock(&admin, &tea, &json!({"delta": 1, "reason": "one more"})).await.ok();
    app.stop().await;
    assert_refused(&run(&app, &["restore", "backup"]), "there is a shop in");
    app.restart().await;
    assert_eq!(app.stock(&admin, &tea).await["on_hand"], 8);

    assert_refused(&run(&app, &["restore", "missing"]), "missing is not a complete backup");
    let other = empty_shop();
    fs::create_dir(other.dir().join("data")).unwrap();
    other.write("data/jwt_secret", "another secret, which is long enough");
    assert_refused(&restore(&app, "backup", &other), "is of another shop");
    fs::remove_file(other.dir().join("data/jwt_secret")).unwrap();
    // A changed byte is found, also where SQLite does not see it.
    let database = app.dir().join("backup/souk.db");
    let bytes = fs::read(&database).unwrap();
    let name = b"admin@souk.example";
    let at = bytes.windows(name.len()).position(|part| part == name).unwrap() as u64;
    let file = fs::OpenOptions::new().write(true).open(&database).unwrap();
    file.write_all_at(b"b", at).unwrap();
    assert_refused(&restore(&app, "backup", &other), "souk.db is damaged");
    file.write_all_at(b"a", at).unwrap();
    assert!(!other.dir().join("data/souk.db").exists());
    restore(&app, "backup", &other).ok();
    // A copy by other means has no checksums, and is checked by itself.
    fs::remove_file(app.dir().join("backup/backup.json")).unwrap();
    assert!(restore(&app, "backup", &empty_shop()).ok().contains("without backup.json"));
}
