//! Backs up the embedded store with its secret, and puts a backup in place.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::secrets::{SECRET_FILE, write_secret_file};
use crate::{
    config::{Settings, StoreKind},
    domain::clock::{Clock, SystemClock},
    store::sqlite::{EmptyFolder, copy_database},
};

/// The database in a backup.
const DATABASE_FILE: &str = "souk.db";

/// The file that says what a backup has. It is written last.
const MANIFEST_FILE: &str = "backup.json";

/// A backup that was made.
#[derive(Debug)]
pub struct MadeBackup {
    /// The names of its files.
    pub files: Vec<&'static str>,
    /// The size of the database.
    pub bytes: u64,
    /// The version of its schema.
    pub schema_version: i64,
    /// Settings with secrets that the backup does not have.
    pub kept_elsewhere: Vec<&'static str>,
}

/// A backup that was put in place.
#[derive(Debug)]
pub struct RestoredBackup {
    /// The size of the database.
    pub bytes: u64,
    /// The version of its schema.
    pub schema_version: i64,
    /// When it was made, and by what. `None` for a copy that was made by other means.
    pub made: Option<BackupOrigin>,
}

/// When a backup was made, and by what.
#[derive(Debug, Serialize, Deserialize)]
pub struct BackupOrigin {
    /// The version of Souk.
    pub version: String,
    /// The time, RFC 3339.
    pub at: String,
}

/// What a backup has.
#[derive(Serialize, Deserialize)]
struct Manifest {
    #[serde(flatten)]
    origin: BackupOrigin,
    schema_version: i64,
    /// The SHA-256 of each file.
    sha256: BTreeMap<String, String>,
}

/// Copies the store and its secret into `target`. A shop may be running on it.
///
/// # Errors
/// There is no embedded store, it is damaged, or `target` is not empty. Nothing is left behind.
pub fn back_up(settings: &Settings, target: &Path) -> anyhow::Result<MadeBackup> {
    ensure!(
        settings.store.kind == StoreKind::Embedded,
        "the shop is in MongoDB, which has a tool for it: \
         mongodump --uri \"$MONGO_URI\" --oplog --gzip --archive=souk.archive.gz (docs/backup.md)"
    );
    let existed = create_target(target)?;
    let made = fill(settings, target);
    if made.is_err() {
        // The error that led here says more.
        for file in [MANIFEST_FILE, DATABASE_FILE, SECRET_FILE] {
            let _ = fs::remove_file(target.join(file));
        }
        if !existed {
            let _ = fs::remove_dir(target);
        }
    }
    made
}

/// Creates the folder of a backup. Returns whether it existed.
fn create_target(target: &Path) -> anyhow::Result<bool> {
    let name = target.display();
    match fs::read_dir(target) {
        Ok(mut entries) => {
            ensure!(entries.next().is_none(), "{name} is not empty; name a folder that is new");
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_durably(target).with_context(|| format!("failed to create {name}"))?;
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("failed to read {name}")),
    }
}

/// Creates a folder, and those above it that are missing, so that they survive a power failure.
fn create_durably(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|ancestor| !ancestor.exists());
    let parents: Vec<&Path> = missing.filter_map(Path::parent).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for parent in parents {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn fill(settings: &Settings, target: &Path) -> anyhow::Result<MadeBackup> {
    let mut files = vec![DATABASE_FILE];
    let copy = copy_database(&settings.store.path, target)?;
    if copy_secret(&settings.store.path, target)? {
        files.push(SECRET_FILE);
    }
    let mut sha256 = BTreeMap::new();
    for file in &files {
        sha256.insert((*file).to_owned(), digest(&target.join(file))?);
    }
    let origin = BackupOrigin {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: SystemClock.now().to_string(),
    };
    let manifest = Manifest { origin, schema_version: copy.schema_version, sha256 };
    write_manifest(target, &manifest)
        .with_context(|| format!("failed to write {}", target.join(MANIFEST_FILE).display()))?;
    files.push(MANIFEST_FILE);
    Ok(MadeBackup {
        files,
        bytes: copy.bytes,
        schema_version: copy.schema_version,
        kept_elsewhere: configured_secrets(settings),
    })
}

/// The settings without which a restored shop would not accept the tokens of today, sign webhooks
/// as before, or reach mail, payments and the broker. The admin is in the database.
fn configured_secrets(settings: &Settings) -> Vec<&'static str> {
    let mut secrets = settings.secrets_that_are_set();
    secrets.retain(|key| *key != "auth.admin_password");
    secrets.extend(settings.key_files().map(|(key, _)| key));
    secrets
}

/// Copies the secret that Souk has made. Returns whether there is one.
fn copy_secret(from: &Path, into: &Path) -> anyhow::Result<bool> {
    let (source, target) = (from.join(SECRET_FILE), into.join(SECRET_FILE));
    let secret = match fs::read_to_string(&source) {
        Ok(secret) => secret,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", source.display()));
        }
    };
    write_secret_file(&target, &secret)
        .with_context(|| format!("failed to write {}", target.display()))?;
    Ok(true)
}

fn write_manifest(target: &Path, manifest: &Manifest) -> io::Result<()> {
    let mut file = File::create_new(target.join(MANIFEST_FILE))?;
    file.write_all(&serde_json::to_vec_pretty(manifest)?)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    File::open(target)?.sync_all()
}

fn digest(path: &Path) -> anyhow::Result<String> {
    let read = || -> io::Result<String> {
        let (mut file, mut digest) = (File::open(path)?, Sha256::new());
        let mut chunk = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut chunk)?;
            let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else { break };
            digest.update(read);
        }
        Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    };
    read().with_context(|| format!("failed to read {}", path.display()))
}

/// Puts the backup in `backup` where the settings have the store, in which there is none.
///
/// # Errors
/// It is no backup or damaged, or there is a shop already. Nothing is changed.
pub fn restore(settings: &Settings, backup: &Path) -> anyhow::Result<RestoredBackup> {
    ensure!(
        settings.store.kind == StoreKind::Embedded,
        "the shop is in MongoDB, which has a tool for it: \
         mongorestore --uri \"$MONGO_URI\" --oplogReplay --gzip --archive=souk.archive.gz \
         (docs/backup.md)"
    );
    ensure!(
        backup.join(DATABASE_FILE).is_file(),
        "{} is not a complete backup: it has no {DATABASE_FILE}",
        backup.display()
    );
    let manifest = read_manifest(backup)?;
    if let Some(manifest) = &manifest {
        check_digests(backup, manifest)?;
    }
    let folder = EmptyFolder::lock(&settings.store.path)?;
    check_secret(backup, folder.path())?;
    // The shop is there when its database is: after an interruption, the command can be repeated.
    let secret = folder.path().join(SECRET_FILE);
    let had_secret = secret.exists();
    copy_secret(backup, folder.path())?;
    let copy = copy_database(backup, folder.path()).inspect_err(|_| {
        // A database that is there needs it.
        if !had_secret && !folder.path().join(DATABASE_FILE).exists() {
            // The error that led here says more.
            let _ = fs::remove_file(&secret);
        }
    })?;
    Ok(RestoredBackup {
        bytes: copy.bytes,
        schema_version: copy.schema_version,
        made: manifest.map(|manifest| manifest.origin),
    })
}

fn read_manifest(backup: &Path) -> anyhow::Result<Option<Manifest>> {
    let path = backup.join(MANIFEST_FILE);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .with_context(|| format!("{} is damaged", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
    }
}

fn check_digests(backup: &Path, manifest: &Manifest) -> anyhow::Result<()> {
    for (file, expected) in &manifest.sha256 {
        let path = backup.join(file);
        if digest(&path)? != *expected {
            bail!("{} is damaged: it is not as it was written", path.display());
        }
    }
    Ok(())
}

/// Refuses to replace another secret, which may be all that is left of a shop.
fn check_secret(backup: &Path, dir: &Path) -> anyhow::Result<()> {
    let (kept, new) = (dir.join(SECRET_FILE), backup.join(SECRET_FILE));
    if kept.exists() && new.exists() && digest(&kept)? != digest(&new)? {
        bail!("{} is of another shop; move it away", kept.display());
    }
    Ok(())
}
