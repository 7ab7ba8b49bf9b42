//! The layers of the settings, merged into one tree whose values know their origin.
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use ::config::{FileFormat, Format as _, Map, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::Sources;
use super::environment::{
    DOTENV_FILE, ENVIRONMENT_VARIABLE, Environment, LOG_FILTER_VARIABLE, PORT_VARIABLE,
    SHORT_NAMES, Variable, read_file,
};
use super::error::{ConfigError, InvalidSetting, closest_name, to_one_line};
use super::secret_strength::readable_file_warning;
use super::toml_error::describe_toml_error;

const DEFAULT_ENV_NAME: &str = "development";
const DEFAULT_FILE: &str = "config/default.toml";
// The files are built in, so that the binary runs without them.
const DEFAULT_TOML: &str = include_str!("../../config/default.toml");
const DEVELOPMENT_TOML: &str = include_str!("../../config/development.toml");
const PRODUCTION_TOML: &str = include_str!("../../config/production.toml");

fn built_in_file(env_name: &str) -> Option<&'static str> {
    match env_name {
        DEFAULT_ENV_NAME => Some(DEVELOPMENT_TOML),
        "production" => Some(PRODUCTION_TOML),
        _ => None,
    }
}

type Table = Map<String, Value>;

/// All layers of settings, merged.
pub(super) struct Layers {
    root: Value,
    env: Environment,
}

impl Layers {
    pub(super) fn read(sources: Sources<'_>) -> Result<Self, ConfigError> {
        let env = Environment::collect(sources)?;
        let mut root = Table::new();
        add_files(&mut root, sources, &env)?;
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
        Ok(Self { root, env })
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
        let files: BTreeSet<String> = origins
            .filter_map(|origin| origin.rsplit(' ').next().map(str::to_owned))
            .filter(|file| file.ends_with(".toml") || file == DOTENV_FILE)
            .collect();
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
                suggestion: closest_name(field, names).map(|name| full_key(&key, name)),
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

fn add_files(root: &mut Table, sources: Sources<'_>, env: &Environment) -> Result<(), ConfigError> {
    add_toml(root, DEFAULT_FILE, DEFAULT_TOML)?;
    // A copy on disk may have been edited, so it overrides the built-in file.
    if let Some(text) = read_file(sources.dir, DEFAULT_FILE)? {
        add_toml(root, DEFAULT_FILE, &text)?;
    }
    let env_name =
        env.get(ENVIRONMENT_VARIABLE).map_or(DEFAULT_ENV_NAME, |variable| variable.value.as_str());
    if !env_name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        let problem = format!("{env_name:?} is not a name; use letters, digits, - and _");
        return Err(ConfigError::in_variable(ENVIRONMENT_VARIABLE, problem));
    }
    let file = format!("config/{env_name}.toml");
    let on_disk = read_file(sources.dir, &file)?;
    match on_disk.as_deref().or_else(|| built_in_file(env_name)) {
        Some(text) => add_toml(root, &file, text),
        None => {
            let problem = format!(
                "{env_name:?} needs the file {file}; add it, or use development or production"
            );
            Err(ConfigError::in_variable(ENVIRONMENT_VARIABLE, problem))
        }
    }
}

fn add_toml(root: &mut Table, file: &str, text: &str) -> Result<(), ConfigError> {
    let table = FileFormat::Toml.parse(Some(&file.to_owned()), text).map_err(|error| {
        ConfigError::in_file(file, describe_toml_error(&error.to_string(), text))
    })?;
    merge_tables(root, table, "")
}

fn merge_tables(into: &mut Table, from: Table, section: &str) -> Result<(), ConfigError> {
    for (name, value) in from {
        let origin = value.origin().map(str::to_owned);
        match (into.get_mut(&name).map(|known| &mut known.kind), value.kind) {
            (Some(ValueKind::Table(known)), ValueKind::Table(new)) => {
                merge_tables(known, new, &format!("{section}{name}."))?;
            }
            (Some(ValueKind::Table(_)), _) => {
                let key = format!("{section}{name}");
                let problem = format!("is a section; write [{key}] with its settings below it");
                return Err(ConfigError::Invalid { key, origin, problem });
            }
            (_, kind) => {
                into.insert(name, Value::new(origin.as_ref(), kind));
            }
        }
    }
    Ok(())
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
