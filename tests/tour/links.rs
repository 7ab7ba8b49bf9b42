//! Links between the documents lead somewhere, and the README stays short and leads to every page.

use std::{
    collections::HashSet,
    fs,
    path::{Component, Path, PathBuf},
};

use super::documents::{documents, root};

/// What the README may have, as `wc -w` counts.
const README_WORDS: usize = 900;

/// The lines of a document outside of its code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_block = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        !in_block && !is_fence
    })
}

/// The targets of a document's links.
fn link_targets(text: &str) -> Vec<String> {
    // A link may span lines.
    let prose = prose(text).collect::<Vec<_>>().join(" ");
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> HashSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The text of a document; empty if it is none.
fn read(document: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(document)).unwrap_or_default()
}

/// The path that `link` names in `document`, relative to the root.
fn resolve(document: &str, link: &str) -> PathBuf {
    let folder = Path::new(document).parent().unwrap_or(Path::new(""));
    let mut path = PathBuf::new();
    for component in folder.join(link).components() {
        match component {
            Component::ParentDir => assert!(path.pop(), "{document}: {link} leaves the source"),
            other => path.push(other),
        }
    }
    path
}

/// What is wrong with a link, if anything is.
fn problem(document: &str, target: &str) -> Option<&'static str> {
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { document.into() } else { resolve(document, path) };
    if !root().join(&path).exists() {
        return Some("there is no such file");
    }
    if !anchor.is_empty() && !anchors(&read(&path)).contains(anchor) {
        return Some("there is no such heading");
    }
    None
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut dead = Vec::new();
    let mut count = 0;
    for document in documents() {
        for target in link_targets(&read(&document)) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            if let Some(problem) = problem(&document, &target) {
                dead.push(format!("{document}: {target}: {problem}"));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
    assert!(count > 80, "only {count} links were found");
}

#[test]
fn dead_link_is_noticed() {
    assert_eq!(problem("docs/tour.md", "../README.md"), None);
    assert_eq!(problem("docs/tour.md", "README.md"), Some("there is no such file"));
    assert_eq!(problem("SECURITY.md", "docs/operations.md#key-rotation"), None);
    assert_eq!(problem("docs/tour.md", "#no-such-heading"), Some("there is no such heading"));
    let document = "[a](b.md) and [c\nd](e.md#f)\n```sh\n[x](y.md)\n```\n## The `souk` tool: 2\n";
    assert_eq!(link_targets(document), ["b.md", "e.md#f"]);
    assert_eq!(anchors(document), HashSet::from(["the-souk-tool-2".to_owned()]));
}

#[test]
fn readme_is_short_and_leads_to_every_page() {
    let readme = read("README.md");
    let words = readme.split_whitespace().count();
    assert!(words > 0 && words < README_WORDS, "the README has {words} words");
    let targets = link_targets(&readme);
    let linked: HashSet<&str> =
        targets.iter().map(|target| target.split('#').next().unwrap_or_default()).collect();
    let missing: Vec<String> = documents()
        .into_iter()
        .filter(|document| document != "README.md" && !linked.contains(document.as_str()))
        .collect();
    assert!(missing.is_empty(), "the README does not lead to {}", missing.join(", "));
}
