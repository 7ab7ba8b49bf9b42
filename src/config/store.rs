//! `[store]`: where the truth lives.
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::error::InvalidSetting;
use super::text::TomlWriter;
use super::values::{self, EnumSetting};

/// Which engine keeps the data.
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

/// The store and how to reach it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Which engine.
    #[serde(deserialize_with = "values::enum_value")]
    pub kind: StoreKind,
    /// Folder of the embedded store, and of the secrets made at the first start.
    pub path: PathBuf,
    /// MongoDB connection string; set with [`StoreKind::Mongodb`].
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub uri: Option<SecretString>,
    /// MongoDB database; set with [`StoreKind::Mongodb`].
    #[serde(default, deserialize_with = "values::optional_text")]
    pub database: Option<String>,
}

impl StoreSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        if self.kind == StoreKind::Embedded {
            if self.path.as_os_str().is_empty() {
                return Err(InvalidSetting::new(
                    "store.path",
                    "is empty; name a folder, such as ./data",
                ));
            }
            return Ok(());
        }
        let Some(uri) = &self.uri else {
            let text = "is required with store.kind = \"mongodb\"; set it or MONGO_URI to the replica set's connection string";
            return Err(InvalidSetting::new("store.uri", text));
        };
        let uri = uri.expose_secret();
        if !uri.starts_with("mongodb://") && !uri.starts_with("mongodb+srv://") {
            let text =
                "is not a MongoDB connection string; it begins with mongodb:// or mongodb+srv://";
            return Err(InvalidSetting::new("store.uri", text));
        }
        if self.database.is_none() {
            let text = "is required with store.kind = \"mongodb\"; set it or DB_NAME to the name of the database";
            return Err(InvalidSetting::new("store.database", text));
        }
        Ok(())
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("store");
        out.write_string("kind", self.kind.name());
        out.write_string("path", &self.path.to_string_lossy());
        out.write_redacted("uri", self.uri.as_ref());
        out.write_optional("database", self.database.as_deref());
    }
}
