//! What the documents name exists in the source.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// Folders whose words count as existing names.
const SOURCES: [&str; 8] =
    ["src", "tests", "bench", "scripts", "config", "examples", "proto", "deploy"];

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents at the root and in `docs`, relative to the root.
pub(crate) fn documents() -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "docs"] {
        for entry in fs::read_dir(root().join(folder)).into_iter().flatten().flatten() {
            let name = Path::new(folder).join(entry.file_name());
            if name.extension().is_some_and(|extension| extension == "md") {
                found.push(name.to_string_lossy().into_owned());
            }
        }
    }
    assert!(found.len() > 15, "only {found:?} were found");
    found.sort();
    found
}

/// Every file below `folder`, without build output.
pub(crate) fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with("node_modules") {
                files_below(&path, files);
            }
        } else {
            files.push(path);
        }
    }
}

/// The identifiers of each source file, and those in its path. This file does not count.
fn source_words() -> Vec<HashSet<String>> {
    let mut files = vec![root().join("Cargo.toml"), root().join("clippy.toml")];
    for folder in SOURCES {
        files_below(&root().join(folder), &mut files);
    }
    files.retain(|file| !file.ends_with("tests/tour/documents.rs"));
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = |file: &PathBuf| {
        let path = file.strip_prefix(root()).unwrap_or(file).to_string_lossy().into_owned();
        let text = fs::read_to_string(file).unwrap_or_default();
        let words = text.split(|c| !is_word(c)).chain(path.split(|c| !is_word(c)));
        words.map(str::to_owned).collect()
    };
    files.iter().map(words).collect()
}

/// Whether one file has all segments of `name`: a method is in the file of its type, and a variant
/// in that of its enum.
fn is_in_source(sources: &[HashSet<String>], name: &str) -> bool {
    sources.iter().any(|words| name.split("::").all(|segment| words.contains(segment)))
}

/// What a document has in backticks, outside of code blocks.
pub(crate) fn quoted_names(document: &str) -> Vec<&str> {
    let prose = document.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

fn is_identifier_path(name: &str) -> bool {
    let is_segment = |segment: &str| {
        !segment.is_empty() && segment.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let looks_like_code = name.contains("::")
        || name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().any(|c| c.is_ascii_lowercase())
        || name.contains('_') && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    looks_like_code && name.split("::").all(is_segment)
}

fn is_file_path(name: &str) -> bool {
    let is_path_char = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    (name.contains('/') || name.ends_with(".rs"))
        // Folders of the user and of the build are not in the source.
        && !name.starts_with(['/', '.'])
        && !name.starts_with("target/")
        && name.chars().all(is_path_char)
        && !name.contains("application/")
        && name != "http/protobuf"
}

/// The service and the method of a gRPC method, such as `souk.v1.CartService/GetCart`.
fn grpc_method(name: &str) -> Option<String> {
    let (service, method) = name.split_once('/')?;
    let (_, service) = service.rsplit_once(".v1.")?;
    Some(format!("{service}::{method}"))
}

/// The variant that is `name` in JSON: of `address_not_allowed` it is `AddressNotAllowed`.
fn variant(name: &str) -> String {
    let capitalize = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_uppercase() + rest
    };
    name.split('_').map(capitalize).collect()
}

fn file_exists(name: &str) -> bool {
    let name = name.trim_end_matches('/');
    [name.to_owned(), format!("src/{name}"), format!("src/{name}.rs")]
        .iter()
        .any(|path| root().join(path).exists())
        // A file name alone stands for a file mentioned before.
        || !name.contains('/') && {
            let mut files = Vec::new();
            files_below(&root().join("src"), &mut files);
            files.iter().any(|file| file.ends_with(name))
        }
}

/// The name under which the source registers a metric: the exporter adds a prefix, and a suffix to
/// counters.
fn registered_metric(name: &str) -> &str {
    let name = name.strip_prefix("souk_").unwrap_or(name);
    name.strip_suffix("_total").unwrap_or(name)
}

#[test]
fn documents_name_only_what_exists() {
    let sources = source_words();
    let mut missing = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        for name in quoted_names(&text) {
            let found = if name.starts_with("grpc.health.") {
                // A dependency has it.
                true
            } else if let Some(method) = grpc_method(name) {
                is_in_source(&sources, &method)
            } else if is_file_path(name) {
                file_exists(name)
            } else if is_identifier_path(name) {
                is_in_source(&sources, name)
                    || is_in_source(&sources, registered_metric(name))
                    || is_in_source(&sources, &variant(name))
            } else {
                true
            };
            if !found {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "names that are gone:\n{}", missing.join("\n"));
}

/// Whether a test, or a module of tests, exists. The path begins with the test's crate, or with a
/// module of the program. A name alone is that of a function.
fn test_exists(path: &str) -> bool {
    let has_function = |file: &Path, name: &str| {
        fs::read_to_string(file).is_ok_and(|text| text.contains(&format!("fn {name}(")))
    };
    let mut segments: Vec<&str> = path.split("::").collect();
    if segments.len() == 1 {
        let mut files = Vec::new();
        files_below(&root().join("tests"), &mut files);
        files_below(&root().join("src"), &mut files);
        return files.iter().any(|file| has_function(file, path));
    }
    let is_module = |segments: &[&str]| {
        ["tests", "src"].iter().any(|folder| {
            let module = root().join(folder).join(segments.join("/"));
            module.is_dir() || module.with_extension("rs").is_file()
        })
    };
    if is_module(&segments) {
        return true;
    }
    let name = segments.pop().unwrap_or_default();
    ["tests", "src"].iter().any(|folder| {
        let module = root().join(folder).join(segments.join("/"));
        has_function(&module.with_extension("rs"), name)
            || has_function(&module.join("mod.rs"), name)
    })
}

/// What SECURITY.md and the operators' guide have in backticks and looks like a test. Settings have
/// a dot, and names of metrics their prefix.
fn named_tests(document: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    let looks_like_test = |name: &&str| {
        name.chars().all(is_word)
            && !name.starts_with("souk")
            && !name.starts_with("process_")
            && !name.ends_with(':')
            // Error codes have fewer words.
            && (name.contains("::") || name.matches('_').count() > 3)
    };
    quoted_names(document).into_iter().filter(looks_like_test).collect()
}

#[test]
fn documents_name_only_tests_that_exist() {
    let mut missing = Vec::new();
    let mut count = 0;
    let pages =
        ["backup", "containers", "monitoring", "operations", "privacy", "staff", "troubleshooting"];
    let mut with_tests = pages.map(|page| format!("docs/{page}.md")).to_vec();
    with_tests.push("SECURITY.md".into());
    for document in with_tests {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        for name in named_tests(&text) {
            count += 1;
            if !test_exists(name) {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "tests that are gone:\n{}", missing.join("\n"));
    assert!(count > 50, "only {count} names look like tests");
    assert!(!test_exists("api::limits::no_such_test") && !test_exists("api::no_such_module"));
}

#[test]
fn renamed_method_is_noticed() {
    let sources = source_words();
    assert!(is_in_source(&sources, "CommitWriter::commit_with_priority"));
    // Both names exist, but in different files.
    assert!(!is_in_source(&sources, "CatalogCache::commit_with_priority"));
    assert!(is_identifier_path("commit_with_priority") && is_file_path("src/store/writer.rs"));
}
