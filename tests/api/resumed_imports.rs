//! `souk import`, interrupted and run again.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::{
    audit::open_database,
    imports::{product_total, start_shop},
    proxy::Proxy,
    support::{Account, Cli, TestApp},
};

/// Lines without a SKU, which create a second product if they are imported twice.
fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|n| format!("{{\"name\":\"Product {n}\",\"price\":1,\"stock\":1}}\n")).collect()
}

fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send_signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// Reads what is left of the output. Returns the exit code, standard output and standard error.
fn wait(mut child: Child) -> (Option<i32>, String, String) {
    // The process may wait for its output to be read.
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let mut errors = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        errors.read_to_string(&mut stderr).unwrap();
        stderr
    });
    if let Some(mut output) = child.stdout.take() {
        output.read_to_string(&mut stdout).unwrap();
    }
    (child.wait().unwrap().code(), stdout, reader.join().unwrap())
}

fn checkpoint(file: &Path) -> std::path::PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".souk-import");
    path.into()
}

/// A file whose import stops in the middle until its output is read: it reports more errors than
/// fit into a pipe.
fn file_that_stops(app: &TestApp) -> std::path::PathBuf {
    app.write("goods.ndjson", lines(0..1500) + &"nope\n".repeat(3000) + &lines(1500..4500))
}

/// Starts an import, and returns when the first error is printed.
fn run_until_error(command: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = spawn(command);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.starts_with("line 150"), "{line}");
    (child, output)
}

fn start_until_error(app: &TestApp, file: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    run_until_error(app.command().arg("import").arg(file))
}

/// Interrupts an import as soon as it has printed an error.
fn interrupt(command: &mut Command) {
    let (child, mut output) = run_until_error(command);
    send_signal(&child, "INT");
    output.read_to_string(&mut String::new()).unwrap();
    let (code, _, stderr) = wait(child);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("interrupted; stopped after line "), "{stderr}");
}

#[tokio::test]
async fn killed_import_continues_without_importing_a_line_twice() {
    let mut app = TestApp::unstarted(&[]);
    let file = file_that_stops(&app);
    for _ in 0..2 {
        let (mut child, output) = start_until_error(&app, &file);
        send_signal(&child, "KILL");
        assert_eq!(child.wait().unwrap().code(), None);
        drop(output);
        assert!(checkpoint(&file).exists());
    }
    let run = Cli::run(app.command().arg("import").arg(&file));
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stdout.ends_with("4500 created, 0 updated, 3000 failed\n"), "{}", run.stderr);
    assert!(!checkpoint(&file).exists());
    app.restart().await;
    assert_eq!(product_total(&app).await, 4500);
}

#[tokio::test]
async fn interrupted_import_continues_where_it_stopped() {
    // The first run creates the folder.
    let mut app = TestApp::unstarted(&[("store.path", "./data")]);
    let file = file_that_stops(&app);
    let (child, mut output) = start_until_error(&app, &file);
    send_signal(&child, "INT");
    let mut printed = String::new();
    output.read_to_string(&mut printed).unwrap();
    assert!(!printed.contains(" created, "), "{printed}");
    let (code, _, stderr) = wait(child);
    assert_eq!(code, Some(1), "{stderr}");
    let stopped = stderr.lines().last().unwrap();
    let line: u64 = stopped
        .strip_prefix("souk: interrupted; stopped after line ")
        .and_then(|rest| rest.split(',').next())
        .unwrap_or_else(|| panic!("{stopped}"))
        .parse()
        .unwrap();
    assert!((1500..7500).contains(&line), "{line}");
    let run = Cli::run(app.command().arg("import").arg(&file));
    assert!(run.stderr.contains(&format!("continuing after line {line},")), "{run:?}");
    assert!(run.stdout.ends_with("4500 created, 0 updated, 3000 failed\n"), "{}", run.stderr);
    app.restart().await;
    assert_eq!(product_total(&app).await, 4500);
}

#[tokio::test]
async fn changed_file_is_imported_from_its_first_line() {
    let app = TestApp::unstarted(&[]);
    let file = file_that_stops(&app);
    interrupt(app.command().arg("import").arg(&file));
    app.write("goods.ndjson", "{\"sku\":\"A\",\"name\":\"Tea\",\"price\":1}\n");
    let run = Cli::run(app.command().arg("import").arg(&file));
    assert!(run.stderr.contains("importing from the first line"), "{run:?}");
    assert_eq!(run.ok(), "1 created, 0 updated, 0 failed\n");
    file_that_stops(&app);
    interrupt(app.command().arg("import").arg(&file));
    let run = Cli::run(app.command().arg("import").arg(&file).arg("--restart"));
    assert!(!run.stderr.contains("continuing after"), "{run:?}");
    assert!(run.stdout.ends_with("4500 created, 0 updated, 3000 failed\n"), "{}", run.stderr);
}

/// As `file_that_stops`, with SKUs, also between the errors.
fn file_with_skus_that_stops(app: &TestApp) -> std::path::PathBuf {
    let line = |n: usize| {
        let error = if n < 1500 { "" } else { "nope\n" };
        format!("{error}{{\"sku\":\"S{n}\",\"name\":\"N\",\"price\":1}}\n")
    };
    app.write("goods.ndjson", (0..4500).map(line).collect::<String>())
}

/// The report of all runs counts each line once, also those on their way at the interruption.
#[tokio::test]
async fn interrupted_import_counts_the_lines_that_it_had_sent() {
    let app = TestApp::unstarted(&[]);
    let file = file_with_skus_that_stops(&app);
    interrupt(app.command().arg("import").arg(&file));
    let run = Cli::run(app.command().arg("import").arg(&file));
    assert!(run.stderr.contains("continuing after line "), "{run:?}");
    assert!(run.stdout.ends_with("4500 created, 0 updated, 3000 failed\n"), "{}", run.stderr);
}

/// The shop or the store may have been replaced in a way that cannot be told from outside.
#[tokio::test]
async fn import_starts_over_if_none_of_its_products_is_there() {
    let mut app = TestApp::unstarted(&[]);
    let file = file_with_skus_that_stops(&app);
    interrupt(app.command().arg("import").arg(&file));
    open_database(&app).execute_batch("DELETE FROM stock; DELETE FROM products").unwrap();
    let run = Cli::run(app.command().arg("import").arg(&file));
    assert!(
        run.stderr.contains("are not there any more; importing from the first"),
        "{}",
        run.stderr
    );
    assert!(run.stdout.ends_with("4500 created, 0 updated, 3000 failed\n"), "{}", run.stderr);
    app.restart().await;
    assert_eq!(product_total(&app).await, 4500);
}

#[tokio::test]
async fn import_into_a_restored_store_starts_at_the_first_line() {
    let mut app = TestApp::unstarted(&[]);
    let first = app.write("first.ndjson", lines(0..1));
    Cli::run(app.command().arg("import").arg(&first)).ok();
    Cli::run(app.command().args(["backup", "backup"])).ok();
    let file = file_that_stops(&app);
    interrupt(app.command().arg("import").arg(&file));
    std::fs::remove_dir_all(app.dir().join("data")).unwrap();
    Cli::run(app.command().args(["restore", "backup"])).ok();
    let run = Cli::run(app.command().arg("import").arg(&file));
    assert!(run.stderr.contains("importing from the first line"), "{run:?}");
    assert!(run.stdout.ends_with("4500 created, 0 updated, 3000 failed\n"), "{}", run.stderr);
    app.restart().await;
    assert_eq!(product_total(&app).await, 4501);
}

#[tokio::test]
async fn refused_file_leaves_the_checkpoint() {
    let mut app = TestApp::unstarted(&[]);
    let rows = |range: std::ops::Range<usize>| -> String {
        range.map(|n| format!("Product {n},1,x\n")).collect()
    };
    let text = "name,price,color\n".to_owned()
        + &rows(0..1500)
        + &"Bad,x,x\n".repeat(3000)
        + &rows(1500..4500);
    let file = app.write("goods.csv", text);
    let import = || {
        let mut command = app.command();
        command.arg("import").arg(&file);
        command
    };
    interrupt(import().arg("--ignore-unknown"));
    let run = Cli::run(&mut import());
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("unknown columns: color"), "{run:?}");
    let run = Cli::run(import().arg("--ignore-unknown"));
    assert!(run.stderr.contains("continuing after line "), "{run:?}");
    assert!(run.stdout.ends_with("4500 created, 0 updated, 3000 failed\n"), "{}", run.stderr);
    app.restart().await;
    assert_eq!(product_total(&app).await, 4500);
}

/// Like `command`, but the kernel refuses to write files that are longer, as on a full disk.
fn limit_file_size(command: &Command, bytes: u64) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--fsize={bytes}:")).arg(command.get_program()).args(command.get_args());
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    limited.env_clear().envs(variables).current_dir(command.get_current_dir().unwrap());
    limited
}

#[tokio::test]
async fn full_disk_stops_the_import_which_then_continues() {
    let mut app = TestApp::unstarted(&[]);
    app.ignore_signal("XFSZ");
    let file = app.write("goods.ndjson", lines(0..4000));
    let mut command = app.command();
    command.arg("import").arg(&file);
    let run = Cli::run(&mut limit_file_size(&command, 2_000_000));
    assert_eq!((run.code, &*run.stdout), (1, ""), "{run:?}");
    assert!(run.stderr.contains("souk: the store takes no changes ("), "{run:?}");
    assert!(run.stderr.contains("; stopped after line "), "{run:?}");
    let run = Cli::run(&mut command);
    assert!(run.stderr.contains("continuing after line "), "{run:?}");
    assert_eq!(run.ok(), "4000 created, 0 updated, 0 failed\n");
    app.restart().await;
    assert_eq!(product_total(&app).await, 4000);
}

/// A shop behind a proxy, and the arguments that upload a file to it.
async fn start_proxied_shop() -> (TestApp, Account, Proxy) {
    let (app, admin) = start_shop().await;
    let proxy = Proxy::start(app.address().to_owned()).await;
    (app, admin, proxy)
}

fn upload(app: &TestApp, admin: &Account, proxy: &Proxy, file: &Path) -> Command {
    let mut command = app.command();
    command.arg("import").arg(file).args(["--server", &format!("http://{}", proxy.host)]);
    command.env("SOUK_TOKEN", &admin.token);
    command
}

#[tokio::test]
async fn upload_survives_lost_connections() {
    let (app, admin, proxy) = start_proxied_shop().await;
    let file = app.write("goods.ndjson", lines(0..3500));
    let child = spawn(&mut upload(&app, &admin, &proxy, &file));
    // The shop never gets the second part, then gets the third but cannot answer.
    proxy.withhold_request("", b"-1001-2000").await;
    proxy.cut();
    proxy.restore();
    proxy.wait_for_request(b"-2001-3000").await;
    proxy.cut();
    proxy.restore();
    let (code, stdout, stderr) = tokio::task::spawn_blocking(|| wait(child)).await.unwrap();
    assert_eq!((code, &*stdout), (Some(0), "3500 created, 0 updated, 0 failed\n"), "{stderr}");
    assert!(stderr.contains("retrying in "), "{stderr}");
    assert_eq!(product_total(&app).await, 3500);
}

#[tokio::test]
async fn killed_upload_continues_without_importing_a_line_twice() {
    let (app, admin, proxy) = start_proxied_shop().await;
    let file = app.write("goods.ndjson", lines(0..2500));
    for signal in ["KILL", "INT"] {
        let child = spawn(&mut upload(&app, &admin, &proxy, &file));
        proxy.withhold_request("", b"-1001-2000").await;
        send_signal(&child, signal);
        let (code, stdout, stderr) = tokio::task::spawn_blocking(|| wait(child)).await.unwrap();
        assert_eq!(stdout, "", "{stderr}");
        match signal {
            "KILL" => assert_eq!(code, None),
            _ => {
                assert_eq!(code, Some(1), "{stderr}");
                assert!(stderr.contains("interrupted; stopped after line 1000, run"), "{stderr}");
            }
        }
    }
    let mut command = upload(&app, &admin, &proxy, &file);
    let run = tokio::task::spawn_blocking(move || Cli::run(&mut command)).await.unwrap();
    assert!(run.stderr.contains("continuing after line 1000,"), "{run:?}");
    assert_eq!(run.ok(), "2500 created, 0 updated, 0 failed\n");
    assert_eq!(product_total(&app).await, 2500);
}

/// Of a line that is too long for the shop, the shop says so; one that is too long to be sent fails
/// as well.
#[tokio::test]
async fn upload_reports_lines_that_are_too_long() {
    let (app, admin) = start_shop().await;
    for name in ["goods.csv", "goods.ndjson"] {
        let (start, row): (_, fn(&str) -> String) = match name {
            "goods.csv" => ("name,price\n", |name| format!("{name},1\n")),
            _ => ("\n", |name| format!("{{\"name\":\"{name}\",\"price\":1}}\n")),
        };
        let long = ["x".repeat(70_000), "x".repeat(1_100_000)].map(|name| row(&name));
        let file = app.write(name, format!("{start}{}{}{}", row("A"), long.concat(), row("B")));
        let mut command = app.command();
        command.arg("import").arg(&file).args(["--server", app.url()]);
        let run = Cli::run(command.env("SOUK_TOKEN", &admin.token));
        assert_eq!(run.code, 1, "{run:?}");
        let lines: Vec<&str> = run.stdout.lines().collect();
        let [first, second, counts] = lines[..] else { panic!("{run:?}") };
        let error = "payload_too_large: The line exceeds the maximum of";
        assert!(first.starts_with(&format!("line 3: {error} 65536 bytes.")), "{first}");
        assert!(second.starts_with(&format!("line 4: {error} 1048576 bytes.")), "{second}");
        assert_eq!(counts, "2 created, 0 updated, 2 failed");
    }
    assert_eq!(product_total(&app).await, 4);
}

#[tokio::test]
async fn upload_reports_errors_with_the_lines_of_the_file() {
    let (app, admin) = start_shop().await;
    let mut text = String::from("\u{feff}name;sku;price\r\n\r\n;;\r\n");
    let mut wanted = Vec::new();
    let mut line = 4;
    for number in 0..2500 {
        let (row, height) = match number % 100 {
            50 => (format!("Bad {number};S{number};x\r\n"), 1),
            51 => (format!("\"Two\r\nlines {number}\";S{number};1,5\r\n"), 2),
            52 => (format!("\r\nToo few;{number}\r\n"), 2),
            _ => (format!("Good {number};S{number};1.5\r\n"), 1),
        };
        match number % 100 {
            50 => wanted.push(line),
            52 => wanted.push(line + 1),
            _ => {}
        }
        text.push_str(&row);
        line += height;
    }
    let file = app.write("goods.csv", text);
    let mut command = app.command();
    command.arg("import").arg(&file).args(["--server", app.url()]);
    let run = Cli::run(command.env("SOUK_TOKEN", &admin.token));
    let (errors, report) = run.stdout.trim_end().rsplit_once('\n').unwrap();
    assert_eq!((run.code, report), (1, "2450 created, 0 updated, 50 failed"), "{run:?}");
    let numbers: Vec<usize> = errors
        .lines()
        .map(|error| error.strip_prefix("line ").unwrap().split(':').next().unwrap())
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!(numbers, wanted);
    assert_eq!(product_total(&app).await, 2450);
}
