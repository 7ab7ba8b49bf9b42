//! The secrets that tokens are signed with: from the settings, from a key file, or made at the first start.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

use crate::{auth::token::TokenService, config::Settings, domain::clock::Clock};

/// What signs and checks access tokens, as the settings say.
pub(super) fn build_tokens(
    settings: &Settings,
    secret: &SecretString,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<TokenService> {
    let Some(file) = &settings.auth.ed25519_key_file else {
        return Ok(TokenService::with_secret(secret.expose_secret().as_bytes(), Arc::clone(clock)));
    };
    let pem = std::fs::read(file)
        .with_context(|| format!("auth.ed25519_key_file: {} cannot be read", file.display()))?;
    TokenService::with_ed25519(&pem, Arc::clone(clock))
        .with_context(|| format!("auth.ed25519_key_file: {}", file.display()))
}

/// The secret that is made at the first start and kept beside the data.
pub(super) fn load_or_create_secret(dir: &Path) -> anyhow::Result<SecretString> {
    let path = dir.join("jwt_secret");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().into()),
        Ok(_) => anyhow::bail!(
            "{} is damaged; delete it to have a new one made, which ends all sessions",
            path.display()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", path.display()));
        }
    }
    let secret = STANDARD.encode(rand::random::<[u8; 48]>());
    write_secret_file(&path, &secret)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    Ok(secret.into())
}

/// Writes a file that only its owner may read, whole or not at all.
fn write_secret_file(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let draft = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}
