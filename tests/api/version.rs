//! `souk --version` names the commit that was built: of a repository, an archive, or a package.

use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use crate::support::{Cli, TestApp};

#[path = "../../build/commit.rs"]
#[expect(dead_code, clippy::print_stdout, reason = "the build script uses the rest")]
mod commit;

fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@souk.example"])
        .args(arguments)
        .env("GIT_COMMITTER_DATE", "2026-11-29T12:00:00Z")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn version_is_the_packages() {
    let app = TestApp::unstarted(&[]);
    let said = Cli::run(app.command().arg("--version")).ok();
    let rest = said.strip_prefix(concat!("souk ", env!("CARGO_PKG_VERSION"))).unwrap();
    assert!(rest.starts_with(" (") && rest.ends_with(")\n"), "{said}");
}

#[test]
fn commit_is_found_in_each_kind_of_source() {
    let dir = TempDir::new().unwrap();
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("build")).unwrap();
    assert_eq!(commit::find_commit(&source), None, "neither");

    git(&source, &["init", "--quiet"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in [".gitattributes", "build/archive-commit.txt"] {
        fs::copy(root.join(file), source.join(file)).unwrap();
    }
    git(&source, &["add", "."]);
    git(&source, &["commit", "--quiet", "--message", "Start"]);
    let hash = git(&source, &["rev-parse", "HEAD"]);
    let expected = format!("{} 2026-11-29", &hash[..7]);
    assert_eq!(commit::find_commit(&source), Some(expected.clone()), "a repository");

    let archive = dir.path().join("archive");
    fs::create_dir(&archive).unwrap();
    let tar = dir.path().join("source.tar");
    git(&source, &["archive", "--output", tar.to_str().unwrap(), "HEAD"]);
    let unpacked = Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&archive).status();
    assert!(unpacked.unwrap().success());
    assert_eq!(commit::find_commit(&archive), Some(expected.clone()), "an archive");
    fs::copy(root.join("build/archive-commit.txt"), archive.join("build/archive-commit.txt"))
        .unwrap();
    assert_eq!(commit::find_commit(&archive), None, "the placeholder");
    let package = format!("{{\n  \"git\": {{\n    \"sha1\": \"{hash}\"\n  }}\n}}");
    fs::write(archive.join(".cargo_vcs_info.json"), package).unwrap();
    assert_eq!(commit::find_commit(&archive), Some(hash[..7].to_owned()), "a package");

    fs::write(source.join(".gitattributes"), "").unwrap();
    assert_eq!(commit::find_commit(&source), Some(format!("{expected}, changed")), "changes");
}
