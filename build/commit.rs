//! Finds the commit that is built, for `souk --version`.

use std::{env, fs, path::Path, process::Command};

/// The commit and its date, such as `4157104 2026-11-29`, where no repository is at hand.
const VARIABLE: &str = "SOUK_BUILD_COMMIT";

/// The file that `git archive` fills in.
const ARCHIVE_FILE: &str = "build/archive-commit.txt";

/// The file that `cargo package` adds.
const PACKAGE_FILE: &str = ".cargo_vcs_info.json";

/// Sets `SOUK_COMMIT` to what follows the version, such as ` (4157104 2026-11-29)`.
pub(crate) fn set_commit() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let root = Path::new(".");
    let commit = match env::var(VARIABLE).ok().filter(|commit| !commit.is_empty()) {
        Some(given) => format!(" ({given})"),
        // Otherwise each commit would compile everything again while one works.
        None if env::var("PROFILE").as_deref() != Ok("release") => {
            " (development build)".to_owned()
        }
        None => {
            watch_head(root);
            find_commit(root).map_or_else(String::new, |commit| format!(" ({commit})"))
        }
    };
    println!("cargo::rustc-env=SOUK_COMMIT={commit}");
}

/// The commit of a source tree: of its repository, of an archive, or of a package.
pub(crate) fn find_commit(root: &Path) -> Option<String> {
    commit_of_repository(root)
        .or_else(|| commit_of_archive(&fs::read_to_string(root.join(ARCHIVE_FILE)).ok()?))
        .or_else(|| commit_of_package(&fs::read_to_string(root.join(PACKAGE_FILE)).ok()?))
}

fn commit_of_repository(root: &Path) -> Option<String> {
    // A tree that is unpacked inside of another repository is not that one's.
    if !root.join(".git").exists() {
        return None;
    }
    let commit = git(root, &["log", "-1", "--format=%h %cs", "--abbrev=7"])?;
    let changed = git(root, &["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}, changed") })
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What `git archive` has written; in a repository there is a placeholder.
fn commit_of_archive(text: &str) -> Option<String> {
    let commit = text.trim();
    let is_commit = commit.starts_with(|c: char| c.is_ascii_hexdigit());
    is_commit.then(|| commit.to_owned())
}

/// The first digits of the hash in `cargo package`'s file, which has no date.
fn commit_of_package(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("\"sha1\"")?;
    let hash = rest.split('"').nth(1)?;
    hash.get(..7).map(str::to_owned)
}

/// Builds again when another commit is checked out.
fn watch_head(root: &Path) {
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(root, &["rev-parse", "--git-path", name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
