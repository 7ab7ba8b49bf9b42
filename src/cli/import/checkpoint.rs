//! The checkpoint of an import: a small file beside the product file that says how much of it is
//! imported, so that the same command continues where an interrupted one stopped.
//!
//! It is written after the lines that it counts are durable. A crash may therefore leave it behind
//! by the lines of a second or so, which are imported again: a line with a sku updates its product,
//! and a line without one has an idempotency key that is made of the import's id and its number.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::{ImportArguments, print_error};
use crate::http::{ImportPosition, RecentSkus};

/// How often the checkpoint is written while an import runs.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// What is appended to the name of the product file.
const SUFFIX: &str = ".souk-import";

/// The number of lines with each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) failed: u64,
}

impl Counts {
    const fn plus(self, other: Self) -> Self {
        Self {
            created: self.created + other.created,
            updated: self.updated + other.updated,
            failed: self.failed + other.failed,
        }
    }
}

/// What an import must have in common with an interrupted one to continue it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImportIdentity {
    /// SHA-256 of the product file.
    file: String,
    /// SHA-256 of where it goes.
    target: String,
    /// Whether unknown columns and members are ignored.
    #[serde(default)]
    ignore_unknown: bool,
}

impl ImportIdentity {
    /// Reads the whole file, and leaves it at its start.
    pub(super) fn new(
        file: &mut File,
        target: &str,
        arguments: &ImportArguments,
    ) -> io::Result<Self> {
        let mut digest = Sha256::new();
        let mut chunk = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut chunk)?;
            let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else { break };
            digest.update(read);
        }
        file.rewind()?;
        // A digest, since an address can contain a password.
        let target = to_hex(&Sha256::digest(target));
        let file = to_hex(&digest.finalize());
        Ok(Self { file, target, ignore_unknown: arguments.ignore_unknown })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The contents of the file.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    identity: ImportIdentity,
    /// Identifies the import, over all runs that it takes.
    import_id: Uuid,
    /// The last line that is imported.
    line: u64,
    /// The SKUs of the last lines that were applied.
    #[serde(default)]
    skus: Vec<String>,
    #[serde(flatten)]
    counts: Counts,
}

impl State {
    /// Why an import with this identity cannot be continued as one with `other`.
    fn difference_from(&self, other: &ImportIdentity) -> String {
        let line = self.line;
        let reason = if self.identity.file != other.file {
            format!("the file has changed since its import stopped after line {line}")
        } else if self.identity.target != other.target {
            format!(
                "the import that stopped after line {line} went to another store, or the store \
                 was replaced since"
            )
        } else {
            format!("the import that stopped after line {line} had other options")
        };
        format!("{reason}; importing from the first line")
    }
}

/// How much of a file is imported.
pub(super) struct Checkpoint {
    /// `None` if it is not saved.
    path: Option<PathBuf>,
    identity: ImportIdentity,
    import_id: Uuid,
    /// The last line that is imported, now and when this run began.
    line: u64,
    /// The SKUs of the last lines that were applied.
    skus: Vec<String>,
    /// The outcomes of the runs before this one.
    counts_before: Counts,
    saved_at: Option<Instant>,
}

impl Checkpoint {
    /// A checkpoint that is not saved, for an import that cannot be continued.
    pub(super) fn disabled() -> Self {
        let (file, target) = (String::new(), String::new());
        Self::new(None, ImportIdentity { file, target, ignore_unknown: false })
    }

    fn new(path: Option<PathBuf>, identity: ImportIdentity) -> Self {
        Self {
            path,
            identity,
            import_id: Uuid::from_u128(rand::random()),
            line: 0,
            skus: Vec::new(),
            counts_before: Counts::default(),
            saved_at: None,
        }
    }

    /// Reads the checkpoint of an interrupted import of `product_file`, if there is one. If the
    /// file or the target is another one, the import starts at the first line; with `restart`, it
    /// always does.
    pub(super) fn open(
        product_file: &Path,
        identity: ImportIdentity,
        restart: bool,
    ) -> anyhow::Result<Self> {
        let mut path = product_file.as_os_str().to_owned();
        path.push(SUFFIX);
        let path = PathBuf::from(path);
        let state = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<State>(&bytes).ok(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("failed to read {}", path.display()));
            }
        };
        let fresh = Self::new(Some(path), identity);
        Ok(match state {
            Some(state) if !restart && state.identity == fresh.identity => Self {
                import_id: state.import_id,
                line: state.line,
                skus: state.skus,
                counts_before: state.counts,
                ..fresh
            },
            Some(state) if !restart => {
                if state.line > 0 {
                    print_error(&state.difference_from(&fresh.identity));
                }
                let earlier =
                    ImportIdentity { target: fresh.identity.target.clone(), ..state.identity };
                // Lines without a sku keep their keys: some of them may be in the store.
                let is_same_but_for_target = earlier == fresh.identity;
                let import_id =
                    if is_same_but_for_target { state.import_id } else { fresh.import_id };
                Self { import_id, ..fresh }
            }
            _ => fresh,
        })
    }

    /// Begins at the first line, since the target no longer has what an earlier run imported.
    pub(super) fn start_over(&mut self) {
        let line = self.line;
        print_error(&format!(
            "the products of the lines before line {line} are not there any more; importing from \
             the first line"
        ));
        (self.line, self.skus, self.counts_before) = (0, Vec::new(), Counts::default());
    }

    /// How to go on after a failure.
    pub(super) fn advice(&self) -> String {
        let place = match self.line {
            0 => String::new(),
            line => format!("stopped after line {line}, "),
        };
        format!("{place}run the same command again to continue")
    }

    /// The SKUs of the last lines that earlier runs applied.
    pub(super) fn skus(&self) -> &[String] {
        &self.skus
    }

    /// The id of the import, over all runs that it takes.
    pub(super) const fn import_id(&self) -> Uuid {
        self.import_id
    }

    /// The last line that is imported; 0 before the first.
    pub(super) const fn line(&self) -> u64 {
        self.line
    }

    /// Whether the import can be continued.
    pub(super) const fn is_enabled(&self) -> bool {
        self.path.is_some()
    }

    /// The outcomes of all runs, of which `counts` are those of this one.
    pub(super) const fn total(&self, counts: Counts) -> Counts {
        self.counts_before.plus(counts)
    }

    /// Whether the checkpoint was not saved within the last second.
    pub(super) fn is_due(&self) -> bool {
        self.saved_at.is_none_or(|saved| saved.elapsed() >= SAVE_INTERVAL)
    }

    /// Saves the checkpoint. If that fails, the import goes on without one.
    pub(super) fn save(&mut self, position: ImportPosition, counts: Counts, skus: &RecentSkus) {
        self.line = self.line.max(position.line);
        if skus.iter().next().is_some() {
            self.skus = skus.iter().map(str::to_owned).collect();
        }
        let Some(path) = &self.path else { return };
        let state = State {
            identity: self.identity.clone(),
            import_id: self.import_id,
            line: self.line,
            skus: self.skus.clone(),
            counts: self.total(counts),
        };
        if let Err(error) = write_durably(path, &state) {
            print_error(&format!(
                "failed to write {}: {error}; the import starts over if it is interrupted",
                path.display()
            ));
            self.path = None;
        }
        self.saved_at = Some(Instant::now());
    }

    /// Removes the checkpoint of an import that is complete.
    pub(super) fn remove(&mut self) {
        let Some(path) = self.path.take() else { return };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                print_error(&format!("failed to remove {}: {error}", path.display()));
            }
            _ => {}
        }
    }
}

/// Replaces the file in one step, so that a crash leaves the old or the new one.
fn write_durably(path: &Path, state: &State) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(file: &str) -> ImportIdentity {
        let target = "store".to_owned();
        ImportIdentity { file: file.to_owned(), target, ignore_unknown: false }
    }

    fn open(dir: &Path, file: &str, restart: bool) -> Checkpoint {
        Checkpoint::open(&dir.join("products.csv"), identity(file), restart).unwrap()
    }

    #[test]
    fn checkpoint_continues_the_same_import_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = open(dir.path(), "a", false);
        let counts = Counts { created: 3, updated: 2, failed: 1 };
        let mut skus = RecentSkus::default();
        (0..50).for_each(|number| skus.push(format!("S{number}")));
        first.save(ImportPosition { line: 7, bytes: 100 }, counts, &skus);
        first.save(ImportPosition { line: 7, bytes: 100 }, counts, &RecentSkus::default());
        let again = open(dir.path(), "a", false);
        assert_eq!((again.skus().len(), &*again.skus()[19]), (20, "S49"));
        assert_eq!((again.line(), again.import_id()), (7, first.import_id()));
        assert_eq!(again.total(counts), Counts { created: 6, updated: 4, failed: 2 });
        for other in [open(dir.path(), "b", false), open(dir.path(), "a", true)] {
            assert_eq!((other.line(), other.total(counts)), (0, counts));
            assert_ne!(other.import_id(), first.import_id());
        }
        let elsewhere = ImportIdentity { target: "restored".to_owned(), ..identity("a") };
        let file = dir.path().join("products.csv");
        let elsewhere = Checkpoint::open(&file, elsewhere, false).unwrap();
        assert_eq!((elsewhere.line(), elsewhere.import_id()), (0, first.import_id()));
        // A shop would refuse the keys of the import with other options.
        let other_options = ImportIdentity { ignore_unknown: true, ..identity("a") };
        let other_options = Checkpoint::open(&file, other_options, false).unwrap();
        assert_eq!(other_options.line(), 0);
        assert_ne!(other_options.import_id(), first.import_id());
        first.remove();
        assert_eq!(open(dir.path(), "a", false).line(), 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn damaged_checkpoint_is_none_and_unwritable_one_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("products.csv.souk-import"), "{\"line\":").unwrap();
        assert_eq!(open(dir.path(), "a", false).line(), 0);
        let mut nowhere =
            Checkpoint::open(&dir.path().join("no/folder"), identity("a"), false).unwrap();
        let position = ImportPosition { line: 7, bytes: 100 };
        nowhere.save(position, Counts::default(), &RecentSkus::default());
        assert!(!nowhere.is_enabled());
    }
}
