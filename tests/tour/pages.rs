//! The commands of the pages in docs work as they are pasted, one after the other.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    all_installed, broker,
    documents::root,
    ports::free_port,
    python_packages::python_packages,
    server::{Server, Start},
    shared_replica_set,
    steps::{self, Step, Tour, shell_blocks},
    temp_dir, tools_installed,
};

/// The `PATH` with this program as `souk`, which is linked in `dir`.
fn path_with_souk(dir: &Path) -> Result<String> {
    let programs = dir.join("programs");
    if !programs.exists() {
        fs::create_dir(&programs)?;
        symlink(env!("CARGO_BIN_EXE_souk"), programs.join("souk"))?;
    }
    Ok(format!("{}:{}", programs.display(), std::env::var("PATH")?))
}

/// A bash in `dir` that runs `commands` as they are, with this program as `souk`.
pub(crate) fn paste(commands: &str, dir: &Path) -> Result<Command> {
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", commands]).current_dir(dir).env_clear();
    bash.env("HOME", dir).env("PATH", path_with_souk(dir)?).env("NO_PROXY", "127.0.0.1");
    Ok(bash)
}

/// What `commands` print.
fn output_of(mut commands: Command) -> Result<String> {
    let output = commands.output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "{printed}{}", String::from_utf8(output.stderr)?);
    Ok(printed)
}

/// Starts a shop with the commands of a page.
fn start_with_commands(commands: &str, dir: &Path) -> Result<Server> {
    let commands = format!("\n{}", commands.trim());
    let (before, start) = commands.split_once("\nSOUK__").context("nothing starts a shop")?;
    let mut bash = Command::new("bash");
    bash.args(["-euc", &format!("{before}\nexec env SOUK__{start}")]);
    Server::start_with(bash, dir, Start::First, &[("PATH", &path_with_souk(dir)?)])
}

/// A shell that somebody types in goes on after an error, and has no `pipefail`.
const LIKE_A_TERMINAL: &str = "set +euo pipefail";

/// The short tour, and a section that goes on in its terminal after `prepare`.
fn after_the_tour(prepare: &str, page: &str, name: &str) -> Result<Vec<Step>> {
    let mut steps = Tour::section("README.md", "tour")?.steps;
    steps.push(Step::unchecked(&format!("{LIKE_A_TERMINAL}\n{prepare}")));
    steps.extend(Tour::section(page, name)?.steps);
    Ok(steps)
}

#[test]
fn payments_by_hand_match_their_page() -> Result<()> {
    if !tools_installed("payments by hand")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let server = Server::start(dir.path(), Start::First, &[])?;
    let steps = after_the_tour("true", "docs/payments.md", "by-hand")?;
    steps::run(&steps, dir.path(), &server.url, &server.password)?;
    Ok(())
}

#[test]
fn webhook_receiver_matches_its_page() -> Result<()> {
    let what = "the receiver of webhooks";
    let Some(packages) = python_packages(what, "SOUK_TEST_WEBHOOKS_TOOLS") else { return Ok(()) };
    if !all_installed(what, &["bash", "curl", "jq", "python3"])? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let allowed = [("SOUK__WEBHOOKS__ALLOW_PRIVATE", "true")];
    let server = Server::start(dir.path(), Start::First, &allowed)?;
    let prepare = format!(
        "export PYTHONPATH='{}' HOOK_PORT={}\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
        packages.display(),
        free_port()
    );
    let steps = after_the_tour(&prepare, "docs/webhooks.md", "receiver")?;
    steps::run(&steps, dir.path(), &server.url, &server.password)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_match_their_page() -> Result<()> {
    let Some(uri) = shared_replica_set::uri().await else { return Ok(()) };
    if !tools_installed("several nodes")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let prepare = format!(
        "{LIKE_A_TERMINAL}\n\
         export PATH='{}' MONGO_URI='{uri}' SOUK__AUTH__BCRYPT_COST=4 DB_NAME=tour_{}\n\
         FIRST={} SECOND={}\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT",
        path_with_souk(dir.path())?,
        std::process::id(),
        free_port(),
        free_port()
    );
    let mut steps = vec![Step::unchecked(&prepare)];
    steps.extend(Tour::section("docs/several-nodes.md", "nodes")?.steps);
    steps::run(&steps, dir.path(), "", "")?;
    Ok(())
}

#[test]
fn commands_of_the_page_of_prices_work() -> Result<()> {
    if !tools_installed("taxes, shipping and promotions")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let server = Server::start(dir.path(), Start::First, &[])?;
    let login = Tour::section("README.md", "tour")?.steps.into_iter().next().context("no login")?;
    let blocks = shell_blocks("docs/pricing.md")?.concat();
    // The answers come one after the other, without a line break.
    let check = format!("{{ {blocks} }} | jq -c 'has(\"id\")'");
    let printed =
        steps::run(&[login, Step::unchecked(&check)], dir.path(), &server.url, &server.password)?;
    ensure!(printed == "true\n".repeat(4), "{printed}");
    Ok(())
}

#[test]
fn commands_of_the_page_of_imports_work() -> Result<()> {
    let dir = temp_dir()?;
    let page = fs::read_to_string(root().join("docs/import.md"))?;
    let csv = page.split("```csv\n").nth(1).and_then(|rest| rest.split("```").next());
    fs::write(dir.path().join("products.csv"), csv.context("no example of CSV")?)?;
    let blocks = shell_blocks("docs/import.md")?.concat();
    let (first, others) = blocks.split_once('\n').context("one line")?;
    let printed = output_of(paste(first, dir.path())?)?;
    ensure!(printed.ends_with("2 created, 0 updated, 0 failed\n"), "{printed}");

    let server = Server::start(dir.path(), Start::First, &[])?;
    let others = others.replace("https://shop.example", &server.url);
    let mut others = paste(&others, dir.path())?;
    others.env("SOUK_EMAIL", "admin@localhost").env("SOUK_PASSWORD", &server.password);
    let printed = output_of(others)?;
    ensure!(printed.ends_with("0 created, 2 updated, 0 failed\n"), "{printed}");
    Ok(())
}

#[test]
fn shops_start_with_the_settings_of_their_pages() -> Result<()> {
    let [grpc, grpc_tls] = &shell_blocks("docs/grpc.md")?[..] else {
        bail!("docs/grpc.md does not start two shops")
    };
    let [mail] = &shell_blocks("docs/mail.md")?[..] else { bail!("docs/mail.md starts no shop") };
    for (commands, has_grpc) in [(grpc, true), (grpc_tls, true), (mail, false)] {
        let dir = temp_dir()?;
        if commands.contains("openssl") && !all_installed("TLS for gRPC", &["openssl"])? {
            continue;
        }
        let on_free_port = commands.replace("127.0.0.1:9090", "127.0.0.1:0");
        let mut server = start_with_commands(&on_free_port, dir.path())?;
        // Read before the password, which is printed after it.
        ensure!(!has_grpc || server.greeting().contains("gRPC: "), "{}", server.greeting());
        ensure!(server.stop()?.success(), "the shop did not stop in order");
    }
    Ok(())
}

#[test]
fn output_of_the_warehouse_matches_its_page() -> Result<()> {
    let (Some(uri), Some(python)) = (broker::shared_uri(), std::env::var("SOUK_TEST_PYTHON").ok())
    else {
        return Ok(());
    };
    if !tools_installed("the warehouse")? {
        return Ok(());
    }
    let dir = temp_dir()?;
    let start = shell_blocks("docs/integrations.md")?.concat();
    ensure!(start.contains("amqp://localhost "), "{start}");
    let start = start.replace("amqp://localhost", &uri);
    let mut server = start_with_commands(&start, dir.path())?;
    let login = Tour::long()?.steps.into_iter().nth(1).context("no login")?;
    let mut steps = vec![Step::unchecked(&format!("AMQP='{uri}' PYTHON='{python}'")), login];
    steps.extend(Tour::section("docs/integrations.md", "warehouse")?.steps);
    steps::run(&steps, dir.path(), &server.url, &server.password)?;
    ensure!(server.stop()?.success(), "the shop did not stop in order");
    Ok(())
}

/// A folder with what the Compose file needs, and `.env` as the page makes it.
fn folder_of_compose() -> Result<TempDir> {
    let dir = temp_dir()?;
    let scripts = dir.path().join("deploy/compose");
    fs::create_dir_all(&scripts)?;
    fs::copy(root().join("deploy/compose/create-env"), scripts.join("create-env"))?;
    fs::copy(root().join(".env.example"), dir.path().join(".env.example"))?;
    let page = fs::read_to_string(root().join("docs/containers.md"))?;
    let line = page.lines().find(|line| line.contains("create-env")).context("no .env")?;
    output_of(paste(line, dir.path())?)?;
    Ok(dir)
}

#[test]
fn commands_for_the_cluster_in_containers_work() -> Result<()> {
    if !all_installed("the page of containers", &["bash", "curl", "jq", "openssl"])? {
        return Ok(());
    }
    let dir = folder_of_compose()?;
    let mut bash = Command::new("bash");
    // What docker-compose.yaml does with these variables.
    let start = "set -a; . ./.env; exec env SOUK__AUTH__ADMIN_EMAIL=\"$ADMIN_EMAIL\" \
                 SOUK__AUTH__ADMIN_PASSWORD=\"$ADMIN_PASSWORD\" souk";
    bash.args(["-euc", start]);
    let path = path_with_souk(dir.path())?;
    let server = Server::start_with(bash, dir.path(), Start::Again, &[("PATH", &path)])?;
    let port = server.url.rsplit(':').next().unwrap_or_default();
    let env = fs::read_to_string(dir.path().join(".env"))?;
    ensure!(env.contains("HTTP_PORT=8080\n"), "{env}");
    let env = env.replace("HTTP_PORT=8080\n", &format!("HTTP_PORT={port}\n"));
    fs::write(dir.path().join(".env"), env)?;
    let [buy] = &shell_blocks("docs/containers.md")?[..] else { bail!("not one block to run") };
    let printed = output_of(paste(&buy.replace("localhost:", "127.0.0.1:"), dir.path())?)?;
    ensure!(printed.contains("\"item_count\":2"), "{printed}");
    Ok(())
}

#[test]
fn completions_and_manual_pages_are_installed_as_their_page_says() -> Result<()> {
    let dir = temp_dir()?;
    let blocks = shell_blocks("docs/install.md")?;
    let [install] = &blocks[..] else { bail!("docs/install.md has {} to run", blocks.len()) };
    output_of(paste(install, dir.path())?)?;
    for file in ["bash-completion/completions/souk", "man/man1/souk.1", "man/man1/souk-import.1"] {
        let text = fs::read_to_string(dir.path().join(".local/share").join(file))?;
        ensure!(text.contains("souk"), "{file} is {text:?}");
    }
    Ok(())
}

#[test]
fn page_that_the_greeting_names_can_be_opened() -> Result<()> {
    let dir = temp_dir()?;
    let everywhere = [("SOUK__HTTP__BIND", "0.0.0.0:0")];
    let server = Server::start(dir.path(), Start::First, &everywhere)?;
    let port = server.url.strip_prefix("http://0.0.0.0:").context("another address")?;
    let page = format!("API browser:    http://127.0.0.1:{port}/docs/\n");
    ensure!(server.greeting().contains(&page), "{}", server.greeting());
    Ok(())
}
