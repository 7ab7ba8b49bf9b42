//! The layers of the settings, merged into one tree whose values know their origin.
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use ::config::{Value, ValueKind};
use serde::de::DeserializeOwned;

use super::Sources;
use super::environment::{Environment, LOG_FILTER_VARIABLE, PORT_VARIABLE, SHORT_NAMES, Variable};
use super::error::{ConfigError, InvalidSetting, to_one_line};
use super::files::{Table, add_files};
use super::reference::suggest;
use super::secret_strength::readable_file_warning;

/// All layers of settings, merged.
pub(super) struct Layers {
    root: Value,
    env: Environment,
    /// What was read, in the order in which it overrides what comes before.
    read: Vec<String>,
}

impl Layers {
    pub(super) fn read(sources: Sources<'_>) -> Result<Self, ConfigError> {
        let env = Environment::collect(sources)?;
        let mut root = Table::new();
        let mut read = add_files(&mut root, sources, &env)?;
        read.extend(env.describe());
        add_port(&mut root, &env)?;
        for (name, key) in SHORT_NAMES {
            if let Some(variable) = env.get(name) {
                add_variable(&mut root, key, variable)?;
            }
        }
        for (name, variable) in env.prefixed_variables() {
            let key = name.replace("__", ".").to_ascii_lowercase();
            add_variable(&mut root, &key, variable)?;
        }
        let root = Value::new(None, root);
        Ok(Self { root, env, read })
    }

    /// What was read, in the order in which it overrides what comes before.
    pub(super) fn into_sources(self) -> Vec<String> {
        self.read
    }

    pub(super) fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        T::deserialize(self.root.clone()).map_err(|error| self.to_config_error(error))
    }

    /// `RUST_LOG`, which is not a setting but may also be set in `.env`.
    pub(super) fn log_filter(&self) -> Option<String> {
        self.env.get(LOG_FILTER_VARIABLE).map(|variable| variable.value.clone())
    }

    /// Warns about each file in `dir` that sets one of these secret settings and that every user
    /// of the machine can read.
    pub(super) fn file_warnings(&self, secrets: &[&str], dir: &Path) -> Vec<String> {
        let origins = secrets.iter().filter_map(|key| self.find_origin(key, None));
        let files: BTreeSet<String> =
            origins.filter_map(|origin| self.env.file_of(origin)).collect();
        files.iter().filter_map(|file| readable_file_warning(file, &dir.join(file))).collect()
    }

    /// Adds the origin of the setting to an error.
    pub(super) fn with_origin(&self, problem: InvalidSetting) -> ConfigError {
        ConfigError::Invalid {
            origin: self.find_origin(problem.key, None),
            key: problem.key.to_owned(),
            problem: problem.message,
        }
    }

    fn to_config_error(&self, error: ::config::ConfigError) -> ConfigError {
        use ::config::ConfigError as E;
        let (key, text) = match error {
            E::At { error, key, .. } => (key, error.to_string()),
            E::Type { unexpected, expected, key, .. } => {
                (key, format!("must be {expected}, not {unexpected}"))
            }
            E::NotFound(key) => (Some(key), "is missing".to_owned()),
            other => (None, other.to_string()),
        };
        let key = normalize_path(&key.unwrap_or_default());
        // serde's message: unknown field `a`, expected one of `b`, `c`
        if let Some(names) = text.strip_prefix("unknown field `") {
            let mut names = names.split('`').step_by(2);
            let field = names.next().unwrap_or_default();
            return ConfigError::Unknown {
                origin: self.find_origin(&key, Some(field)),
                suggestion: suggest(&key, field, names),
                key: full_key(&key, field),
            };
        }
        ConfigError::Invalid {
            origin: self.find_origin(&key, None),
            problem: to_one_line(&text),
            key,
        }
    }

    /// The file or variable that set this setting, or a field of this section.
    fn find_origin(&self, key: &str, field: Option<&str>) -> Option<String> {
        // Ignore the index in `list[1]`. A field is separate, since its name may contain dots.
        let path =
            key.split(['.', '[']).filter(|segment| !segment.is_empty() && !segment.ends_with(']'));
        let mut value = &self.root;
        for segment in path.chain(field) {
            match &value.kind {
                ValueKind::Table(table) => value = table.get(segment)?,
                // All items of a list have the same origin.
                ValueKind::Array(_) => break,
                _ => return None,
            }
        }
        // A section that only environment variables set has no origin of its own.
        while value.origin().is_none()
            && let ValueKind::Table(table) = &value.kind
        {
            value = table.values().next()?;
        }
        value.origin().map(str::to_owned)
    }
}

/// Adds the dot after an index: `list[0]field` becomes `list[0].field`.
fn normalize_path(key: &str) -> String {
    key.replace(']', "].").replace("..", ".").trim_end_matches('.').to_owned()
}

/// Joins section and field, and quotes a field that is not a plain name, as TOML does.
fn full_key(section: &str, field: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let field = if !field.is_empty() && field.chars().all(plain) {
        field.to_owned()
    } else {
        format!("{field:?}")
    };
    match section {
        "" => field,
        section => format!("{section}.{field}"),
    }
}

/// `PORT` replaces only the port of `http.bind` and keeps the host from the files.
fn add_port(root: &mut Table, env: &Environment) -> Result<(), ConfigError> {
    let Some(variable) = env.get(PORT_VARIABLE) else {
        return Ok(());
    };
    let port = variable.value.parse().map_err(|_| {
        let problem = format!("{:?} is not a port; use a number from 0 to 65535", variable.value);
        ConfigError::in_variable(&variable.origin, problem)
    })?;
    let bind = match root.get_mut("http").map(|http| &mut http.kind) {
        Some(ValueKind::Table(http)) => http.get_mut("bind"),
        _ => None,
    };
    // Deserialization reports an invalid address later.
    if let Some(bind) = bind
        && let ValueKind::String(text) = &bind.kind
        && let Ok(mut address) = text.parse::<SocketAddr>()
    {
        address.set_port(port);
        *bind = Value::new(Some(&variable.origin), address.to_string());
    }
    Ok(())
}

fn add_variable(root: &mut Table, key: &str, variable: &Variable) -> Result<(), ConfigError> {
    let path: Vec<&str> = key.split('.').collect();
    if insert_variable(root, &path, variable) {
        return Ok(());
    }
    Err(ConfigError::Unknown {
        key: to_one_line(key),
        origin: Some(variable.origin.clone()),
        suggestion: None,
    })
}

/// Returns false if the path names a section, or continues below a setting.
fn insert_variable(table: &mut Table, path: &[&str], variable: &Variable) -> bool {
    match path {
        [] => false,
        [name] => {
            let origin = Some(&variable.origin);
            let value = match table.get(*name).map(|known| &known.kind) {
                Some(ValueKind::Table(_)) => return false,
                Some(ValueKind::Array(_)) => Value::new(origin, split_list(variable)),
                _ => Value::new(origin, variable.value.as_str()),
            };
            table.insert((*name).to_owned(), value);
            true
        }
        [section, rest @ ..] => {
            let known = table
                .entry((*section).to_owned())
                .or_insert_with(|| Value::new(None, Table::new()));
            match &mut known.kind {
                ValueKind::Table(inner) => insert_variable(inner, rest, variable),
                _ => false,
            }
        }
    }
}

/// Splits a comma-separated value. The defaults determine which settings are lists.
fn split_list(variable: &Variable) -> Vec<Value> {
    variable
        .value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| Value::new(Some(&variable.origin), item))
        .collect()
}
