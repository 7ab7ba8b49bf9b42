//! Runs the tours of README.md and docs against the built program, and kills the program during
//! writes. Checks what the documents name and where their links lead.

#[path = "../support/broker.rs"]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "other test crates use the rest"
)]
mod broker;
#[path = "../support/browser.rs"]
mod browser;
mod commands;
mod documents;
mod links;
mod measurement_chart;
mod pages;
#[path = "../support/ports.rs"]
#[expect(clippy::expect_used, reason = "tests fail by panicking")]
mod ports;
#[path = "../support/python_packages.rs"]
#[expect(clippy::unwrap_used, reason = "tests fail by panicking")]
mod python_packages;
#[path = "../support/replica_set.rs"]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
mod replica_set;
mod server;
mod settings;
#[path = "../support/shared_replica_set.rs"]
#[expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]
mod shared_replica_set;
mod shop_front;
mod steps;
mod upgrades;
mod writes;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use self::{
    pages::paste,
    server::{Server, Start},
    steps::{Step, Tour},
    writes::{Acknowledged, Shop, Writes},
};

/// Acknowledged writes before the program is killed.
const ACKNOWLEDGED: u32 = 200;

/// More than the writes can use up.
const STOCK: u64 = 100_000;

/// Disables the rate limits.
const UNLIMITED: &[(&str, &str)] =
    &[("SOUK__LIMITS__PER_ADDRESS", "0"), ("SOUK__LIMITS__PER_USER", "0")];

#[test]
fn output_of_the_short_tour_matches_the_readme() -> Result<()> {
    run_on_fresh_store(&Tour::section("README.md", "tour")?.steps)
}

#[test]
fn output_of_the_long_tour_matches_its_page() -> Result<()> {
    run_on_fresh_store(&Tour::long()?.steps)
}

fn run_on_fresh_store(tour: &[Step]) -> Result<()> {
    if !tools_installed("the tour")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let mut server = Server::start(dir.path(), Start::First, &[])?;
    steps::run(tour, dir.path(), &server.url, &server.password)?;
    ensure!(server.stop()?.success(), "the shop did not stop in order");
    Ok(())
}

#[test]
fn tour_that_is_pasted_without_the_password_works_the_second_time() -> Result<()> {
    if !tools_installed("the tour")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let server = Server::start(dir.path(), Start::First, &[])?;
    for (page, login) in [("README.md", 0), ("docs/tour.md", 1)] {
        let steps = Tour::section(page, "tour")?.steps;
        let pasted = steps.get(login).context("no login")?.commands();
        // A shell that somebody types in goes on after an error.
        let script = format!("{pasted}\nPASSWORD='{}'\n{pasted}", server.password);
        let mut bash = Command::new("bash");
        bash.args(["-uc", &script]).env_remove("PASSWORD").env("SOUK", &server.url);
        let output = bash.env("NO_PROXY", "127.0.0.1").output()?;
        let printed = String::from_utf8(output.stdout)?;
        let lines: Vec<&str> = printed.lines().collect();
        ensure!(
            matches!(lines[..], [hint, me] if hint.contains("PASSWORD=") && me.contains("admin")),
            "{page}: {printed}{}",
            String::from_utf8(output.stderr)?
        );
    }
    Ok(())
}

#[test]
fn backup_of_a_running_shop_restores_it() -> Result<()> {
    if !tools_installed("the backup")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let mut server = Server::start(dir.path(), Start::First, &[])?;
    let mut tour = Tour::section("README.md", "tour")?.steps;
    tour.push(Step::unchecked(r#"echo "token='$ADMIN' order='$ORDER'""#));
    let known = steps::run(&tour, dir.path(), &server.url, &server.password)?;
    let [backup, restore] = &steps::shell_blocks("docs/backup.md")?[..] else {
        bail!("docs/backup.md has not two blocks of sh")
    };
    // SIGKILL follows: what the backup has comes from the running shop.
    let backup = paste(backup, dir.path())?.output()?;
    ensure!(backup.status.success(), "{}", String::from_utf8(backup.stderr)?);
    server.kill()?;

    let elsewhere = temp_dir()?;
    fs::rename(dir.path().join("backup"), elsewhere.path().join("backup"))?;
    let restore = paste(restore, elsewhere.path())?.output()?;
    ensure!(restore.status.success(), "{}", String::from_utf8(restore.stderr)?);
    let server = Server::start(elsewhere.path(), Start::Again, &[])?;
    // The token is from before the backup.
    let read =
        r#"curl -sS "$SOUK/api/orders/$order" -H "Authorization: Bearer $token" | jq -r .status"#;
    let read = Step::unchecked(&format!("{known}{read}"));
    let status = steps::run(&[read], elsewhere.path(), &server.url, "")?;
    ensure!(status == "paid\n", "the restored order is {status}");
    Ok(())
}

#[test]
fn commands_of_the_greeting_work_as_they_are() -> Result<()> {
    if !tools_installed("the import that the greeting offers")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let examples = dir.path().join("examples");
    fs::create_dir(&examples)?;
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/products.ndjson");
    fs::copy(samples, examples.join("products.ndjson"))?;
    let mut server = Server::start(dir.path(), Start::First, &[])?;
    server.printed_after("The catalog is empty. These log you in and import sample products:")?;
    let commands = format!("{}\n{}", server.printed_after("  ")?, server.printed_after("  ")?);
    ensure!(!commands.contains(['<', '>']), "{commands}");
    // Without a terminal, the answers come from the environment.
    let mut bash = paste(&commands, dir.path())?;
    bash.env("SOUK_EMAIL", "admin@localhost").env("SOUK_PASSWORD", &server.password);
    let output = bash.output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(
        printed.ends_with("340 created, 0 updated, 0 failed\n"),
        "{commands}\n{printed}{}",
        String::from_utf8(output.stderr)?
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_writes_survive_a_kill() -> Result<()> {
    if !tools_installed("the kill in the middle of writes")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let mut server = Server::start(dir.path(), Start::First, UNLIMITED)?;
    let mut steps = Tour::long()?.first_half();
    steps.push(Step::unchecked(r#"printf '%s\n' "$ADMIN" "$ADA" "$GUEST" "$BEANS""#));
    let printed = steps::run(&steps, dir.path(), &server.url, &server.password)?;
    let [admin, ada, guest, beans] = printed.lines().collect::<Vec<_>>()[..] else {
        bail!("not four lines: {printed}")
    };

    let shop = Shop::connect(&server.url)?;
    let stock = format!("/api/products/{beans}/stock");
    shop.post(&stock, admin, None, &json!({"set": STOCK, "reason": "plenty"})).await?;
    let mut all = vec![Writes::new(
        "stock",
        &stock,
        json!({"delta": 1, "reason": "one more"}),
        admin,
        &stock,
        "/on_hand",
        STOCK,
    )];
    for name in ["a", "b", "c", "d", "e", "f"] {
        let token = shop.guest().await?;
        let line = json!({"product_id": beans, "quantity": 1});
        all.push(Writes::new(name, "/api/cart/add", line, &token, "/api/cart", "/item_count", 0));
    }
    let acknowledged = Acknowledged::new();
    let writers: Vec<_> = all
        .iter()
        .map(|w| tokio::spawn(w.clone().until_killed(shop.clone(), acknowledged.clone())))
        .collect();
    tokio::time::timeout(Duration::from_secs(60), acknowledged.wait_for(ACKNOWLEDGED))
        .await
        .context("the writes hang")??;
    server.kill()?;

    let server = Server::start(dir.path(), Start::Again, UNLIMITED)?;
    let shop = Shop::connect(&server.url)?;
    for (writes, writer) in all.iter().zip(writers) {
        writes
            .check(&shop, writer.await??)
            .await
            .with_context(|| format!("writes {}", writes.name))?;
    }
    for (token, units) in [(ada, 1), (guest, 3)] {
        ensure!(
            shop.read_number("/api/cart", token, "/item_count").await? == units,
            "a cart of the tour has changed"
        );
    }
    Ok(())
}

/// Whether the tools of a tour are installed, as for [`all_installed`].
fn tools_installed(purpose: &str) -> Result<bool> {
    all_installed(purpose, &["bash", "curl", "jq"])
}

/// Whether all of `tools` are installed; an error if they are not and `SOUK_TEST_ALL` is set.
fn all_installed(purpose: &str, tools: &[&str]) -> Result<bool> {
    let is_missing = |name: &&str| Command::new(name).arg("--version").output().is_err();
    let missing: Vec<&str> = tools.iter().copied().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(true);
    }
    let missing = missing.join(", ");
    ensure!(
        std::env::var_os("SOUK_TEST_ALL").is_none(),
        "{purpose} needs {missing}, and SOUK_TEST_ALL is set"
    );
    // `eprintln!` output is hidden when the test passes.
    writeln!(std::io::stderr(), "SKIPPED: {purpose} needs {missing}")?;
    Ok(false)
}

fn temp_dir() -> Result<tempfile::TempDir> {
    let parent = std::env::var_os("SOUK_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    Ok(tempfile::Builder::new().prefix("tour-").tempdir_in(parent)?)
}
