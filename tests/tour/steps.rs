//! The tours in README.md and docs: their steps, their expected output, and how they run.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// Printed on its own line after the output of each step.
const END_OF_STEP: &str = "-- end of step --";

/// A block of commands.
#[derive(Clone)]
pub(crate) struct Step {
    commands: String,
    /// The expected output, in which `…` matches any text.
    expected: Option<String>,
}

pub(crate) struct Tour {
    pub(crate) steps: Vec<Step>,
    half: usize,
}

impl Step {
    /// A step whose output the test reads.
    pub(crate) fn unchecked(commands: &str) -> Self {
        Self { commands: commands.into(), expected: None }
    }

    /// What somebody pastes.
    pub(crate) fn commands(&self) -> &str {
        &self.commands
    }
}

impl Tour {
    /// Reads the long tour, which has a half.
    pub(crate) fn long() -> Result<Self> {
        let tour = Self::section("docs/tour.md", "tour")?;
        ensure!(tour.half > 0, "the tour has no half");
        Ok(tour)
    }

    /// Reads `page` from `<!-- NAME:begin -->` to `<!-- NAME:end -->`.
    pub(crate) fn section(page: &str, name: &str) -> Result<Self> {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page))?;
        let (begin, end) = (format!("<!-- {name}:begin -->"), format!("<!-- {name}:end -->"));
        let mut lines = text.lines().skip_while(|line| *line != begin).skip(1);
        let mut tour = Self { steps: Vec::new(), half: 0 };
        loop {
            match lines.next().with_context(|| format!("{page} has no {end}, or no beginning"))? {
                line if line == end => break,
                "<!-- tour:half -->" => tour.half = tour.steps.len(),
                "```bash" => tour.steps.push(Step::unchecked(&block(&mut lines))),
                "```text" => match tour.steps.last_mut() {
                    Some(step) if step.expected.is_none() => {
                        step.expected = Some(block(&mut lines))
                    }
                    _ => bail!("{page} shows output that belongs to no step"),
                },
                other => ensure!(
                    !other.starts_with("```"),
                    "a block of {page} is neither bash nor text: {other}"
                ),
            }
        }
        let all_shown = tour.steps.iter().all(|step| step.expected.is_some());
        ensure!(all_shown, "{page} has a step whose output is not shown");
        Ok(tour)
    }

    /// The steps up to `<!-- tour:half -->`.
    pub(crate) fn first_half(mut self) -> Vec<Step> {
        self.steps.truncate(self.half);
        self.steps
    }
}

fn block<'a>(lines: &mut impl Iterator<Item = &'a str>) -> String {
    lines.take_while(|line| *line != "```").fold(String::new(), |text, line| text + line + "\n")
}

/// What a document says before a block that no test runs; the reason and `-->` follow.
pub(crate) const NOT_RUN: &str = "<!-- not run by a test:";

/// A block of a document.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
    /// The name of the section that it is in, from `<!-- NAME:begin -->` to `<!-- NAME:end -->`.
    pub(crate) section: Option<String>,
    /// Why no test runs it.
    pub(crate) not_run: Option<String>,
}

/// All fenced blocks of a document.
pub(crate) fn blocks(document: &str) -> Vec<Block> {
    let mut lines = document.lines();
    let (mut blocks, mut section, mut not_run) = (Vec::new(), None, None);
    while let Some(line) = lines.next() {
        let line = line.trim();
        let comment = line.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
        if let Some(language) = line.strip_prefix("```") {
            blocks.push(Block {
                language: language.to_owned(),
                text: block(&mut lines),
                section: section.clone(),
                not_run: not_run.take(),
            });
        } else if let Some(reason) = line.strip_prefix(NOT_RUN) {
            not_run = Some(reason.trim_end_matches("-->").trim().to_owned());
        } else if !line.is_empty() {
            not_run = None;
            match comment.and_then(|comment| comment.rsplit_once(':')) {
                Some((name, "begin")) => section = Some(name.to_owned()),
                Some((_, "end")) => section = None,
                _ => {}
            }
        }
    }
    blocks
}

/// The blocks of `sh` in a page that tests run.
pub(crate) fn shell_blocks(page: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page))?;
    let is_run = |block: &Block| block.language == "sh" && block.not_run.is_none();
    Ok(blocks(&text).into_iter().filter(is_run).map(|block| block.text).collect())
}

/// Runs the steps in one bash that stops at the first error, and after five minutes; returns the
/// output of the last step.
pub(crate) fn run(steps: &[Step], dir: &Path, url: &str, password: &str) -> Result<String> {
    let (script, stderr_file) = (dir.join("tour.sh"), dir.join("tour.err"));
    let commands: String =
        steps.iter().map(|step| format!("{}\necho '{END_OF_STEP}'\n", step.commands)).collect();
    fs::write(&script, commands)?;
    let output = Command::new("timeout")
        .args(["300", "bash", "-euo", "pipefail"])
        .arg(&script)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .envs([("SOUK", url), ("PASSWORD", password), ("NO_PROXY", "127.0.0.1")])
        .stdin(Stdio::null())
        // Not a pipe: background processes of the tour would keep it open.
        .stderr(fs::File::create(&stderr_file)?)
        .stdout(Stdio::piped())
        .spawn()?
        .wait_with_output()?;
    let printed = String::from_utf8(output.stdout)?.replace('\r', "");
    let outputs: Vec<&str> = printed.split(&format!("{END_OF_STEP}\n")).collect();
    for (step, output) in steps.iter().zip(&outputs) {
        let expected = step.expected.as_deref().unwrap_or("…");
        ensure!(
            matches(expected, output),
            "after\n{}\nthe page shows\n{expected}\nbut the output is\n{output}",
            step.commands
        );
    }
    ensure!(
        output.status.success(),
        "the tour ended early: {}\n{printed}\n{}",
        output.status,
        fs::read_to_string(stderr_file)?
    );
    Ok(outputs.iter().rev().nth(1).copied().unwrap_or_default().to_owned())
}

/// Whether `text` matches `pattern`, in which each `…` matches any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, pattern)) = pattern.split_once('…') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    text.char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .any(|at| text.get(at..).is_some_and(|rest| matches(pattern, rest)))
}

#[test]
fn ellipsis_matches_any_text() {
    for text in ["a \"1\" b\n", "a \"\" b\n", "a \"… b\" b\n"] {
        assert!(matches("a \"…\" b\n", text), "{text}");
    }
    for text in ["a \"1\" c\n", "a \"1\" b", "x a \"1\" b\n"] {
        assert!(!matches("a \"…\" b\n", text), "{text}");
    }
}
