//! The files of settings, in the order in which they override each other.
use std::path::Path;

use ::config::{FileFormat, Format as _, Map, Value, ValueKind};

use super::Sources;
use super::environment::{CONFIG_VARIABLE, ENVIRONMENT_VARIABLE, Environment, read_file};
use super::error::ConfigError;
use super::reference::DEFAULT_TOML;
use super::toml_error::describe_toml_error;

const DEFAULT_ENV_NAME: &str = "development";
const DEFAULT_FILE: &str = "config/default.toml";
// The files are built in, so that the binary runs without them.
const DEVELOPMENT_TOML: &str = include_str!("../../config/development.toml");
const PRODUCTION_TOML: &str = include_str!("../../config/production.toml");

/// The most settings that one message lists.
const MAX_LISTED: usize = 5;

pub(super) type Table = Map<String, Value>;

fn built_in_file(env_name: &str) -> Option<&'static str> {
    match env_name {
        DEFAULT_ENV_NAME => Some(DEVELOPMENT_TOML),
        "production" => Some(PRODUCTION_TOML),
        _ => None,
    }
}

/// Merges all files into `root`. Returns what was read, as an operator knows it.
pub(super) fn add_files(
    root: &mut Table,
    sources: Sources<'_>,
    env: &Environment,
) -> Result<Vec<String>, ConfigError> {
    merge_tables(root, parse_toml(DEFAULT_FILE, DEFAULT_TOML)?, "")?;
    let mut read = vec!["built-in defaults".to_owned()];
    read.extend(add_local_defaults(root, sources.dir)?);
    let env_name =
        env.get(ENVIRONMENT_VARIABLE).map_or(DEFAULT_ENV_NAME, |variable| variable.value.as_str());
    if !env_name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        let problem = format!("{env_name:?} is not a name; use letters, digits, - and _");
        return Err(ConfigError::in_variable(ENVIRONMENT_VARIABLE, problem));
    }
    let file = format!("config/{env_name}.toml");
    match (read_file(sources.dir, &file)?, built_in_file(env_name)) {
        (Some(text), _) => {
            merge_tables(root, parse_toml(&file, &text)?, "")?;
            read.push(file);
        }
        (None, Some(text)) => {
            merge_tables(root, parse_toml(&file, text)?, "")?;
            read.push(format!("{file} (built in)"));
        }
        (None, None) => {
            let problem = format!(
                "{env_name:?} needs the file {file}; add it, or use development or production"
            );
            return Err(ConfigError::in_variable(ENVIRONMENT_VARIABLE, problem));
        }
    }
    if let Some(variable) = env.get(CONFIG_VARIABLE) {
        let file = &variable.value;
        let text = read_file(sources.dir, file)?.ok_or_else(|| {
            ConfigError::in_variable(CONFIG_VARIABLE, format!("there is no file {file}"))
        })?;
        merge_tables(root, parse_toml(file, &text)?, "")?;
        read.push(format!("{file} ({CONFIG_VARIABLE})"));
    }
    Ok(read)
}

fn parse_toml(file: &str, text: &str) -> Result<Table, ConfigError> {
    FileFormat::Toml
        .parse(Some(&file.to_owned()), text)
        .map_err(|error| ConfigError::in_file(file, describe_toml_error(&error.to_string(), text)))
}

/// Merges `config/default.toml` of the current folder, which may be a copy from an older version.
/// So what is said about it names the settings by which it differs from the built-in defaults.
fn add_local_defaults(root: &mut Table, dir: &Path) -> Result<Option<String>, ConfigError> {
    let Some(text) = read_file(dir, DEFAULT_FILE)? else { return Ok(None) };
    let local = parse_toml(DEFAULT_FILE, &text)?;
    let mut changed = Vec::new();
    list_changes(Some(root), &local, "", &mut changed);
    merge_tables(root, local, "")?;
    if changed.is_empty() {
        return Ok(Some(DEFAULT_FILE.to_owned()));
    }
    changed.sort_unstable();
    let more = if changed.len() > MAX_LISTED { ", ..." } else { "" };
    changed.truncate(MAX_LISTED);
    let changed = changed.join(", ");
    Ok(Some(format!("{DEFAULT_FILE} (overrides the built-in {changed}{more})")))
}

/// Lists the settings of `table` that are not the same in `defaults`.
fn list_changes(defaults: Option<&Table>, table: &Table, section: &str, changed: &mut Vec<String>) {
    for (name, value) in table {
        let key = format!("{section}{name}");
        let default = defaults.and_then(|defaults| defaults.get(name));
        match (&value.kind, default.map(|default| &default.kind)) {
            (ValueKind::Table(inner), Some(ValueKind::Table(known))) => {
                list_changes(Some(known), inner, &format!("{key}."), changed);
            }
            (ValueKind::Table(inner), None) if !inner.is_empty() => {
                list_changes(None, inner, &format!("{key}."), changed);
            }
            (kind, Some(known)) if is_same(kind, known) => {}
            _ => changed.push(key),
        }
    }
}

/// Whether two values are the same, wherever they are set.
fn is_same(one: &ValueKind, other: &ValueKind) -> bool {
    match (one, other) {
        (ValueKind::Array(one), ValueKind::Array(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| is_same(&one.kind, &other.kind))
        }
        _ => one == other,
    }
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
