//! The file that keeps tokens between commands.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::super::server::ServerUrl;
use crate::private_file::create_private_file;

/// The session of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedLogin {
    pub(super) email: String,
    pub(super) token: String,
    pub(super) refresh_token: String,
    /// When the token expires, in milliseconds since 1970.
    pub(super) expires_at: i64,
}

/// The logins at each server, by its URL.
pub(super) type Logins = BTreeMap<String, SavedLogin>;

/// The file of logins.
pub(super) struct SavedLogins {
    path: PathBuf,
}

impl SavedLogins {
    /// Finds the file, which need not exist: in `$XDG_CONFIG_HOME/souk` or `~/.config/souk`.
    ///
    /// # Errors
    /// Neither variable is set.
    pub(super) fn open() -> anyhow::Result<Self> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let base = variable("XDG_CONFIG_HOME")
            // The specification has a relative path ignored.
            .filter(|path| path.is_absolute())
            .or_else(|| variable("HOME").map(|home| home.join(".config")))
            .context("set HOME or XDG_CONFIG_HOME: the token is kept below it")?;
        Ok(Self { path: base.join("souk/logins.json") })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The login at a server.
    pub(super) fn find(&self, server: &ServerUrl) -> anyhow::Result<Option<SavedLogin>> {
        Ok(self.read()?.remove(server.as_str()))
    }

    fn read(&self) -> anyhow::Result<Logins> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| {
                format!("{} is damaged; remove it and log in again", self.path.display())
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Logins::new()),
            Err(error) => {
                Err(error).with_context(|| format!("failed to read {}", self.path.display()))
            }
        }
    }

    /// Changes the file while no other command does.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Logins) -> T) -> anyhow::Result<T> {
        let _lock = self.lock()?;
        let mut logins = self.read()?;
        let result = change(&mut logins);
        self.write(&logins).with_context(|| format!("failed to write {}", self.path.display()))?;
        Ok(result)
    }

    /// Keeps other commands from changing the file until the lock is dropped.
    pub(super) fn lock(&self) -> anyhow::Result<File> {
        let lock = || -> io::Result<File> {
            if let Some(dir) = self.path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            }
            let file = create_private_file(&self.path.with_extension("lock"))?;
            file.lock()?;
            Ok(file)
        };
        lock().with_context(|| format!("failed to lock {}", self.path.display()))
    }

    /// Writes the file while the lock is held: a crash leaves the old or the new one.
    pub(super) fn write(&self, logins: &Logins) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        // One that a crash has left may have other permissions.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = create_private_file(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(logins)?)?;
        file.sync_all()?;
        fs::rename(temporary, &self.path)
    }

    /// Reads the login at a server, while the lock is held.
    pub(super) fn read_under_lock(&self, _lock: &File) -> anyhow::Result<Logins> {
        self.read()
    }
}
