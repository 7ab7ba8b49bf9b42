//! Runs the README's tour against the built program, and kills the program during writes.

#[path = "../support/broker.rs"]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    dead_code,
    reason = "other test crates use the rest"
)]
mod broker;
mod documents;
mod readme;
mod server;
mod writes;

use std::{io::Write, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use self::{
    readme::{Step, Tour},
    server::{Server, Start},
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
fn tour_output_matches_the_readme() -> Result<()> {
    if !tools_installed("the tour")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let mut server = Server::start(dir.path(), Start::First, &[])?;
    let tour = Tour::read()?;
    readme::run(&tour.steps, dir.path(), &server.url, &server.password)?;
    ensure!(server.stop()?.success(), "the shop did not stop in order");
    Ok(())
}

#[test]
fn warehouse_output_matches_the_readme() -> Result<()> {
    let (Some(uri), Some(python)) = (broker::shared_uri(), std::env::var("SOUK_TEST_PYTHON").ok())
    else {
        return Ok(());
    };
    if !tools_installed("the warehouse")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let mut server = Server::start(
        dir.path(),
        Start::First,
        &[("SOUK__BROKER__KIND", "rabbitmq"), ("SOUK__BROKER__URI", &uri)],
    )?;
    let login = Tour::read()?.steps.into_iter().nth(1).context("no login")?;
    let mut steps = vec![Step::unchecked(&format!("AMQP='{uri}' PYTHON='{python}'")), login];
    steps.extend(Tour::section("warehouse")?.steps);
    readme::run(&steps, dir.path(), &server.url, &server.password)?;
    ensure!(server.stop()?.success(), "the shop did not stop in order");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn greeting_shows_a_working_import_command() -> Result<()> {
    if !tools_installed("the import that the greeting offers")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let mut server = Server::start(dir.path(), Start::First, &[])?;
    let command = server.printed_after("  SOUK_TOKEN=<token> ")?;
    let token = Shop::connect(&server.url)?.login("admin@localhost", &server.password).await?;
    let mut bash = Command::new("bash");
    let output = bash
        .args(["-c", &command])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("SOUK_TOKEN", token)
        .output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(
        printed == "340 created, 0 updated, 0 failed\n",
        "{printed}{}",
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
    let mut steps = Tour::read()?.first_half();
    steps.push(Step::unchecked(r#"printf '%s\n' "$ADMIN" "$ADA" "$GUEST" "$BEANS""#));
    let printed = readme::run(&steps, dir.path(), &server.url, &server.password)?;
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

/// Whether the required tools are installed; an error if they are not and `SOUK_TEST_ALL` is set.
fn tools_installed(purpose: &str) -> Result<bool> {
    let is_missing = |name: &&str| Command::new(name).arg("--version").output().is_err();
    let missing: Vec<&str> = ["bash", "curl", "jq"].into_iter().filter(is_missing).collect();
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
