//! The settings as a whole: layers, messages, output.
mod cluster;
mod first_admin;
mod layers;
mod mail;
mod output;
mod payments;
mod secrets;
mod shop;
mod sources;
mod validation;
mod webhooks;

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::{ConfigError, Settings, Sources};

/// A directory with configuration files, and an environment.
struct SettingsFixture {
    dir: TempDir,
    env: BTreeMap<String, String>,
}

impl SettingsFixture {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("config")).unwrap();
        Self { dir, env: BTreeMap::new() }
    }

    fn with_file(self, name: &str, text: &str) -> Self {
        fs::write(self.dir.path().join(name), text).unwrap();
        self
    }

    fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn try_load(&self) -> Result<Settings, ConfigError> {
        Settings::load_from(Sources { env: &self.env, dir: self.dir.path() })
    }

    fn load(&self) -> Settings {
        self.try_load().unwrap()
    }

    /// The message, which is always one line.
    fn load_error(&self) -> String {
        let message = self.try_load().unwrap_err().to_string();
        assert!(!message.contains(char::is_control), "{message:?}");
        message
    }
}

/// Settings from an environment alone.
fn from_env(variables: &[(&str, &str)]) -> SettingsFixture {
    variables
        .iter()
        .fold(SettingsFixture::new(), |fixture, (name, value)| fixture.with_env(name, value))
}
