//! Environment variables, which override those of the file `.env`.
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use super::Sources;
use super::error::ConfigError;
use super::reference::{is_section, setting_with_other_separators, suggest};

/// The prefix of the long names of settings.
pub(super) const PREFIX: &str = "SOUK__";
pub(super) const ENVIRONMENT_VARIABLE: &str = "SOUK_ENV";
/// The variable with the path of a file of settings.
pub(super) const CONFIG_VARIABLE: &str = "SOUK_CONFIG";
pub(super) const LOG_FILTER_VARIABLE: &str = "RUST_LOG";
pub(super) const PORT_VARIABLE: &str = "PORT";
/// Short names, each for one setting.
pub(super) const SHORT_NAMES: [(&str, &str); 3] =
    [("MONGO_URI", "store.uri"), ("DB_NAME", "store.database"), ("JWT_SECRET", "auth.jwt_secret")];
pub(super) const DOTENV_FILE: &str = ".env";

/// The value of an environment variable, and where it is set, for error messages.
pub(super) struct Variable {
    pub(super) value: String,
    pub(super) origin: String,
}

/// The variables that affect the settings.
pub(super) struct Environment(BTreeMap<String, Variable>);

impl Environment {
    pub(super) fn collect(sources: Sources<'_>) -> Result<Self, ConfigError> {
        for name in sources.env.keys() {
            check_prefix(name, name)?;
        }
        let mut found: BTreeMap<String, Variable> = sources
            .env
            .iter()
            .filter(|(name, _)| is_souk_variable(name))
            .map(|(name, value)| {
                let origin = name.clone();
                let value = value.clone();
                (name.clone(), Variable { value, origin })
            })
            .collect();
        let text = read_file(sources.dir, DOTENV_FILE)?.unwrap_or_default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        for item in dotenvy::from_read_iter(text.as_bytes()) {
            let (name, value) =
                item.map_err(|error| ConfigError::in_file(DOTENV_FILE, dotenv_problem(&error)))?;
            check_prefix(&name, &format!("{name} in {DOTENV_FILE}"))?;
            if is_souk_variable(&name) {
                let origin = format!("{name} in {DOTENV_FILE}");
                found.entry(name).or_insert(Variable { value, origin });
            }
        }
        Ok(Self(found))
    }

    /// The variable, if it is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&Variable> {
        self.0.get(name).filter(|variable| !variable.value.is_empty())
    }

    /// The variables that are set, first those of `.env`, each group as one line.
    pub(super) fn describe(&self) -> impl Iterator<Item = String> {
        [(true, DOTENV_FILE), (false, "environment")].into_iter().filter_map(|(in_file, source)| {
            let names: Vec<&str> = self
                .0
                .iter()
                .filter(|(name, variable)| (variable.origin != **name) == in_file)
                .map(|(name, _)| name.as_str())
                .collect();
            (!names.is_empty()).then(|| format!("{source}: {}", names.join(", ")))
        })
    }

    /// The file that a value comes from, by its origin: the name of a file, or what a variable has
    /// as its origin. `None` if it comes from the environment.
    pub(super) fn file_of(&self, origin: String) -> Option<String> {
        match self.0.iter().find(|(_, variable)| variable.origin == origin) {
            Some((name, _)) => (*name != origin).then(|| DOTENV_FILE.to_owned()),
            None => Some(origin),
        }
    }

    /// The variables with long names, without their prefix.
    pub(super) fn prefixed_variables(&self) -> impl Iterator<Item = (&str, &Variable)> {
        self.0.iter().filter_map(|(name, variable)| Some((name.strip_prefix(PREFIX)?, variable)))
    }
}

/// The environment of this process.
pub(super) fn read_process_environment() -> Result<BTreeMap<String, String>, ConfigError> {
    let mut env = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => {
                env.insert(name, value);
            }
            Err(_) if is_souk_variable(&name) => {
                return Err(ConfigError::in_variable(&name, "is not UTF-8 text"));
            }
            Err(_) => {}
        }
    }
    Ok(env)
}

fn is_souk_variable(name: &str) -> bool {
    name.starts_with(PREFIX)
        || [ENVIRONMENT_VARIABLE, CONFIG_VARIABLE, LOG_FILTER_VARIABLE, PORT_VARIABLE]
            .contains(&name)
        || SHORT_NAMES.iter().any(|(short, _)| *short == name)
}

/// Refuses a name that is meant for a setting and begins with `SOUK_`, which would have no effect.
/// An orchestrator sets names such as `SOUK_SERVICE_HOST` by itself.
fn check_prefix(name: &str, origin: &str) -> Result<(), ConfigError> {
    let Some(rest) = name.strip_prefix("SOUK_").filter(|rest| !rest.starts_with('_')) else {
        return Ok(());
    };
    let key = rest.replace("__", ".").to_ascii_lowercase();
    let (section, field) = key.rsplit_once('.').unwrap_or_default();
    let meant = match setting_with_other_separators(rest) {
        Some(key) => Some(variable_name(&key)),
        None if !is_section(section.split('.').next().unwrap_or_default()) => return Ok(()),
        None => suggest(section, field, std::iter::empty()).map(|meant| {
            let (key, or_port) = meant.split_once(' ').unwrap_or((&meant, ""));
            format!("{} {or_port}", variable_name(key)).trim_end().to_owned()
        }),
    };
    let problem = match meant {
        Some(meant) => format!("is not read; did you mean {meant}?"),
        None => format!("is not read; names of settings begin with {PREFIX}"),
    };
    Err(ConfigError::in_variable(origin, problem))
}

/// The long name of a setting in the environment.
fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// The text of a file, or `None` if the file does not exist.
pub(super) fn read_file(dir: &Path, file: &str) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(dir.join(file)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError::in_file(file, format!("cannot be read: {error}"))),
    }
}

/// The parser's own message quotes the line, which may contain a secret.
fn dotenv_problem(error: &dotenvy::Error) -> String {
    let dotenvy::Error::LineParse(line, _) = error else {
        return error.to_string();
    };
    let name = line.split_once('=').map_or("", |(name, _)| name.trim());
    if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        format!("the line of {name} cannot be read; write NAME='value'")
    } else {
        "a line cannot be read; write NAME='value'".to_owned()
    }
}
