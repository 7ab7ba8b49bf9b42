//! The settings that the documents name exist.

use std::{collections::HashSet, fs, path::PathBuf};

use super::documents::{documents, files_below, quoted_names, root};

/// Every section and setting in `config/default.toml`, those that are commented out included.
fn settings() -> HashSet<String> {
    let text = fs::read_to_string(root().join("config/default.toml")).unwrap_or_default();
    let mut found = HashSet::new();
    let mut section = "";
    for line in text.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']);
            found.insert(section.to_owned());
        } else if let Some((key, _)) = line.split_once(" = ") {
            found.insert(format!("{section}.{key}"));
        }
    }
    found
}

/// Whether `name` looks like a setting: a path of words whose first is a section.
fn looks_like_setting(settings: &HashSet<String>, name: &str) -> bool {
    let is_word =
        |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_file = [".rs", ".md", ".toml"].iter().any(|extension| name.ends_with(extension));
    let section = name.split('.').next().unwrap_or_default();
    name.contains('.') && !is_file && name.split('.').all(is_word) && settings.contains(section)
}

#[test]
fn documents_name_only_settings_that_exist() {
    let settings = settings();
    let mut files: Vec<PathBuf> = Vec::new();
    files_below(&root().join("src"), &mut files);
    let source: String =
        files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect();
    let mut missing = Vec::new();
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        for name in quoted_names(&text) {
            if !looks_like_setting(&settings, name) {
                continue;
            }
            count += 1;
            // Some sections and families of events have the same name.
            if !settings.contains(name) && !source.contains(&format!("\"{name}\"")) {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "settings that are gone:\n{}", missing.join("\n"));
    assert!(count > 60, "only {count} names look like settings");
    assert!(looks_like_setting(&settings, "http.no_such") && !settings.contains("http.no_such"));
}
