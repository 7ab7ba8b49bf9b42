//! Every block of commands in the documents is run by a test, or says why it is not.

use std::fs;

use anyhow::{Result, ensure};

use crate::{
    documents::{documents, files_below, root},
    steps::{NOT_RUN, blocks},
};

/// What builds the program that the tests run, and what runs the tests.
const RUN_BY_EVERYBODY: [&str; 2] = ["cargo run --release\n", "scripts/test\n"];

/// The languages of blocks of commands.
const COMMANDS: [&str; 3] = ["bash", "sh", "console"];

/// The source of the tests of documents.
fn sources() -> String {
    let mut files = Vec::new();
    files_below(&root().join("tests/tour"), &mut files);
    files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
}

/// What is wrong with the blocks of commands of a page.
fn problems(page: &str, text: &str, sources: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut complain = |commands: &str, what: &str| {
        found.push(format!("{page}: {what}: {}", commands.lines().next().unwrap_or_default()));
    };
    for block in blocks(text) {
        let commands = block.text.as_str();
        if !COMMANDS.contains(&block.language.as_str()) || RUN_BY_EVERYBODY.contains(&commands) {
            continue;
        }
        let is_run = match (block.language.as_str(), &block.section) {
            ("bash", Some(name)) => sources.contains(&format!("\"{page}\", \"{name}\"")),
            ("sh", None) if block.not_run.is_none() => {
                sources.contains(&format!("shell_blocks(\"{page}\")"))
            }
            _ => false,
        };
        match (is_run, &block.not_run) {
            (false, None) => complain(commands, "no test runs this"),
            (true, Some(_)) => complain(commands, "a test runs this"),
            (_, Some(reason)) if reason.len() < 5 => complain(commands, "it does not say why"),
            _ => {}
        }
    }
    // A block without a fence has no language, and no test would see it.
    let is_command = |line: &&str| ["    curl ", "    souk "].iter().any(|c| line.starts_with(c));
    let fenced: Vec<String> = blocks(text).into_iter().map(|block| block.text).collect();
    for line in text.lines().filter(is_command) {
        if !fenced.iter().any(|block| block.contains(line)) {
            complain(line, "this is in no block");
        }
    }
    found
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() -> Result<()> {
    let sources = sources();
    let mut found = Vec::new();
    let mut count = 0;
    for page in documents() {
        let text = fs::read_to_string(root().join(&page))?;
        let is_command = |language: &String| COMMANDS.contains(&language.as_str());
        count += blocks(&text).iter().filter(|block| is_command(&block.language)).count();
        found.extend(problems(&page, &text, &sources));
    }
    ensure!(found.is_empty(), "{}", found.join("\n"));
    ensure!(count > 50, "only {count} blocks were found");
    Ok(())
}

#[test]
fn block_that_no_test_runs_is_noticed() {
    let sources = "section(\"a.md\", \"tour\"); shell_blocks(\"b.md\")";
    let count = |page: &str, text: &str| problems(page, text, sources).len();
    let block = "```sh\nls\n```\n";
    assert_eq!(count("a.md", block), 1);
    assert_eq!(count("b.md", block), 0);
    assert_eq!(count("a.md", &format!("{NOT_RUN} needs Docker -->\n\n{block}")), 0);
    assert_eq!(count("a.md", &format!("{NOT_RUN} -->\n\n{block}")), 1);
    // The reason is that of the next block alone.
    assert_eq!(count("a.md", &format!("{NOT_RUN} needs Docker -->\n\n{block}\n{block}")), 1);
    assert_eq!(count("a.md", &format!("{NOT_RUN} needs Docker -->\n\nText.\n\n{block}")), 1);
    let section =
        |name: &str| format!("<!-- {name}:begin -->\n```bash\nls\n```\n<!-- {name}:end -->\n");
    // A block that a test runs has no reason.
    let mark = format!("{NOT_RUN} needs Docker -->\n```bash");
    assert_eq!(count("a.md", &section("tour").replace("```bash", &mark)), 1);
    assert_eq!(count("a.md", &section("tour")), 0);
    assert_eq!(count("a.md", &section("other")), 1);
    assert_eq!(count("a.md", "Text:\n\n    curl shop.example\n"), 1);
    assert_eq!(count("a.md", "```text\nls\n```\n"), 0);
}
