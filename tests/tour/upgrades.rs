//! docs/upgrade.md lists every migration, and the changelog has what is to be released.

use std::{collections::BTreeSet, fs};

use super::documents::root;

#[test]
fn upgrade_page_lists_every_migration() {
    let page = fs::read_to_string(root().join("docs/upgrade.md")).unwrap();
    let listed: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `0")?.split_once('`'))
        .map(|(name, _)| format!("0{name}"))
        .collect();
    let migrations = fs::read_dir(root().join("src/store/sqlite/migrations")).unwrap();
    let existing: BTreeSet<String> = migrations
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(existing.len() > 20);
    assert_eq!(listed, existing);

    let schema = fs::read_to_string(root().join("src/store/mongo/schema.rs")).unwrap();
    let version = schema.split("SCHEMA_VERSION: i64 = ").nth(1).unwrap().split(';').next().unwrap();
    assert!(page.contains(&format!("MongoDB's schema has version {version},")), "{version}");
}

#[test]
fn changelog_is_kept() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let releases: Vec<&str> = text.lines().filter(|line| line.starts_with("## [")).collect();
    assert_eq!(releases.first(), Some(&"## [Unreleased]"));
    // As keepachangelog.com has them.
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("### ") {
            assert!(kinds.contains(&kind), "{kind}");
        }
    }
}
