//! `souk backup` and `souk restore`.

use super::{BackupArguments, RestoreArguments, print_line};
use crate::{app::backup, config::Settings};

pub(super) fn back_up(settings: &Settings, arguments: &BackupArguments) -> anyhow::Result<()> {
    let dir = arguments.dir.display();
    let made = backup::back_up(settings, &arguments.dir)?;
    print_line(&format!(
        "{dir} is complete and checked: {} ({} bytes, schema version {})",
        made.files.join(", "),
        made.bytes,
        made.schema_version
    ))?;
    if made.kept_elsewhere.is_empty() {
        return Ok(());
    }
    print_line(&format!(
        "Your settings have secrets that are not in it; keep them, too: {}",
        made.kept_elsewhere.join(", ")
    ))
}

pub(super) fn restore(settings: &Settings, arguments: &RestoreArguments) -> anyhow::Result<()> {
    let restored = backup::restore(settings, &arguments.dir)?;
    let origin = match &restored.made {
        Some(made) => format!("made at {} by souk {}", made.at, made.version),
        None => "without backup.json, so only the database itself could be checked".to_owned(),
    };
    print_line(&format!(
        "{} has the backup ({origin}): {} bytes, schema version {}",
        settings.store.path.display(),
        restored.bytes,
        restored.schema_version
    ))
}
