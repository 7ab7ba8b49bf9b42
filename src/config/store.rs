//! `[store]`: the database.
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::error::InvalidSetting;
use super::toml_writer::TomlWriter;
use super::values::{self, EnumSetting};

/// The kinds of stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKind {
    /// SQLite, one node.
    Embedded,
    /// A MongoDB replica set, any number of nodes.
    Mongodb,
}

impl EnumSetting for StoreKind {
    const ALL: &'static [(&'static str, Self)] =
        &[("embedded", Self::Embedded), ("mongodb", Self::Mongodb)];
}

/// What is checked before the embedded store opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartCheck {
    /// Nothing.
    Off,
    /// The structure of every page of the database.
    Quick,
}

impl EnumSetting for StartCheck {
    const ALL: &'static [(&'static str, Self)] = &[("off", Self::Off), ("quick", Self::Quick)];
}

/// The store and how to reach it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// The kind of store.
    #[serde(deserialize_with = "values::enum_value")]
    pub kind: StoreKind,
    /// Directory of the embedded store, and of secrets that Souk generates.
    pub path: PathBuf,
    /// What is checked before the embedded store opens. MongoDB checks its own files.
    #[serde(deserialize_with = "values::enum_value")]
    pub check_at_start: StartCheck,
    /// MongoDB connection string; required with [`StoreKind::Mongodb`].
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub uri: Option<SecretString>,
    /// Name of the MongoDB database; required with [`StoreKind::Mongodb`].
    #[serde(default, deserialize_with = "values::optional_text")]
    pub database: Option<String>,
}

impl StoreSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        if self.kind == StoreKind::Embedded {
            if self.path.as_os_str().is_empty() {
                return Err(InvalidSetting::new(
                    "store.path",
                    "is empty; set it to a directory, such as ./data",
                ));
            }
            return Ok(());
        }
        let Some(uri) = &self.uri else {
            let text = "is required with store.kind = \"mongodb\"; \
                        set it or MONGO_URI to the replica set's connection string";
            return Err(InvalidSetting::new("store.uri", text));
        };
        let uri = uri.expose_secret();
        if !uri.starts_with("mongodb://") && !uri.starts_with("mongodb+srv://") {
            let text = "is not a MongoDB connection string; \
                        it must start with mongodb:// or mongodb+srv://";
            return Err(InvalidSetting::new("store.uri", text));
        }
        if self.database.is_none() {
            let text = "is required with store.kind = \"mongodb\"; \
                        set it or DB_NAME to the name of the database";
            return Err(InvalidSetting::new("store.database", text));
        }
        Ok(())
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("store");
        out.write_string("kind", self.kind.name());
        out.write_string("path", &self.path.to_string_lossy());
        out.write_string("check_at_start", self.check_at_start.name());
        out.write_redacted("uri", self.uri.as_ref());
        out.write_optional("database", self.database.as_deref());
    }
}
