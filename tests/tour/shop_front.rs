//! The shop front in `examples/shop` works when it is served as its README says, and the pictures
//! in the documentation are small.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{
    all_installed,
    browser::BrowserScript,
    documents::{files_below, root},
    server::{Server, Start},
    steps::shell_blocks,
    temp_dir,
    writes::Shop,
};

const README: &str = "examples/shop/README.md";

/// Where the README says that the shop and the page are.
const SHOP: &str = "http://127.0.0.1:8080";
const PAGES: &str = "http://127.0.0.1:8000";

/// The most bytes of all that a first visit loads, uncompressed.
const MAX_FRONT_BYTES: u64 = 75_000;

/// The most bytes of a picture in the documentation.
const MAX_PICTURE_BYTES: u64 = 100_000;

/// A server of static files, which ends on drop.
struct FileServer {
    child: Child,
    url: String,
}

impl FileServer {
    /// Runs a command of the README in `dir`, on a free port.
    fn start(command: &str, dir: &Path) -> Result<Self> {
        let on_free_port = command.trim().replace(" 8000 ", " 0 ");
        ensure!(on_free_port != command.trim(), "the README serves on another port: {command}");
        let mut child = Command::new("bash")
            .args(["-euc", &format!("exec {on_free_port}")])
            .current_dir(dir)
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let url = line.split(['(', ')']).nth(1).unwrap_or_default().trim_end_matches('/');
        let server = Self { child, url: url.to_owned() };
        ensure!(server.url.starts_with("http://127.0.0.1:"), "it printed {line:?}");
        Ok(server)
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Copies `examples` into `dir`: the test changes `config.js`.
fn copy_examples(dir: &Path) -> Result<()> {
    let mut files = Vec::new();
    files_below(&root().join("examples"), &mut files);
    for file in files {
        let copy = dir.join(file.strip_prefix(root())?);
        fs::create_dir_all(copy.parent().context("no folder")?)?;
        fs::copy(file, copy)?;
    }
    Ok(())
}

fn run_in_bash(commands: &str, dir: &Path, variables: &[(&str, &str)]) -> Result<()> {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", commands])
        .current_dir(dir)
        .env("NO_PROXY", "127.0.0.1")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()?;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{commands}\n{printed}");
    Ok(())
}

/// Starts the shop with the commands of the README, for pages at `origin`.
fn start_shop(commands: &str, dir: &Path, origin: &str) -> Result<Server> {
    let (build, commands) = commands.split_once('\n').context("one line")?;
    ensure!(build == "cargo build --release", "the README builds with {build}");
    let program = env!("CARGO_BIN_EXE_souk");
    let commands = commands.replace("target/release/souk", program).replace(PAGES, origin);
    let (import, serve) = commands.trim().rsplit_once('\n').context("no import")?;
    run_in_bash(import, dir, &[])?;
    let mut bash = Command::new("bash");
    bash.args(["-euc", &format!("exec env {serve}")]);
    Server::start_with(bash, dir, Start::First, &[])
}

#[tokio::test(flavor = "multi_thread")]
async fn shop_front_works_as_its_readme_says() -> Result<()> {
    let dir = temp_dir()?;
    let dir = dir.path();
    if !all_installed("the shop front", &["bash", "chromium", "curl", "jq", "python3"])? {
        return Ok(());
    }
    let Some(script) = BrowserScript::find("shop.mjs", dir)? else { return Ok(()) };
    let blocks = shell_blocks(README)?;
    let [shop, pages, rules] = blocks.as_slice() else {
        anyhow::bail!("{README} has {} blocks of sh", blocks.len())
    };
    copy_examples(dir)?;
    let files = FileServer::start(pages, dir)?;
    let mut server = start_shop(shop, dir, &files.url)?;
    let config = dir.join("examples/shop/config.js");
    let text = fs::read_to_string(&config)?;
    ensure!(text.contains(SHOP), "the page expects the shop elsewhere: {text}");
    fs::write(&config, text.replace(SHOP, &server.url))?;
    let variables = [("SOUK", server.url.as_str()), ("PASSWORD", server.password.as_str())];
    run_in_bash(rules, dir, &variables)?;
    let admin = Shop::connect(&server.url)?.login("admin@localhost", &server.password).await?;
    script.with("SOUK", &server.url).with("PAGES", &files.url).with("ADMIN", &admin).run()?;
    ensure!(server.stop()?.success(), "the shop did not stop in order");
    Ok(())
}

fn sizes(folder: &str) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    files_below(&root().join(folder), &mut files);
    files.into_iter().map(|file| Ok((file.clone(), fs::metadata(file)?.len()))).collect()
}

#[test]
fn shop_front_and_its_pictures_are_small() -> Result<()> {
    let front = sizes("examples/shop")?;
    let total: u64 = front.iter().map(|(_, size)| size).sum();
    ensure!(total < MAX_FRONT_BYTES, "examples/shop has {total} bytes");
    let pictures = sizes("docs/shop-front")?;
    ensure!(pictures.len() > 5, "only {} pictures", pictures.len());
    let page = fs::read_to_string(root().join("docs/shop-front.md"))?;
    for (path, size) in pictures {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ensure!(size < MAX_PICTURE_BYTES, "{name} has {size} bytes");
        ensure!(page.contains(&format!("](shop-front/{name})")), "{name} is shown nowhere");
    }
    Ok(())
}
