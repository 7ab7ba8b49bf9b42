//! The secrets that sign tokens: from the settings, from a key file, or created at the first start.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    auth::token::TokenService,
    config::{Settings, readable_file_warning, secret_weakness},
    domain::clock::Clock,
};

/// Builds the service that signs and verifies access tokens: with the Ed25519 key file if there is
/// one, else with the secret.
pub(super) fn build_tokens(
    settings: &Settings,
    secret: &SecretString,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<TokenService> {
    let Some(file) = &settings.auth.ed25519_key_file else {
        return Ok(TokenService::with_secret(secret.expose_secret().as_bytes(), Arc::clone(clock)));
    };
    let pem = std::fs::read(file)
        .with_context(|| format!("auth.ed25519_key_file: failed to read {}", file.display()))?;
    TokenService::with_ed25519(&pem, Arc::clone(clock))
        .with_context(|| format!("auth.ed25519_key_file: {}", file.display()))
}

/// The secret in the settings, or else the one in the store's folder.
///
/// # Errors
/// The file in the store's folder cannot be read, created or used.
pub(super) fn token_secret(settings: &Settings) -> anyhow::Result<SecretString> {
    match &settings.auth.jwt_secret {
        Some(secret) => Ok(secret.clone()),
        None => load_or_create_secret(&settings.store.path),
    }
}

/// Loads the secret from its file in `dir`. Creates it at the first start.
fn load_or_create_secret(dir: &Path) -> anyhow::Result<SecretString> {
    let path = dir.join("jwt_secret");
    match std::fs::read_to_string(&path) {
        Ok(text) => match secret_weakness(text.trim()) {
            None => {
                if let Some(warning) = readable_file_warning("jwt_secret", &path) {
                    tracing::warn!("{warning}");
                }
                return Ok(text.trim().into());
            }
            Some(weakness) => anyhow::bail!(
                "{} {weakness}; delete it to create a new secret, which ends all sessions",
                path.display()
            ),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", path.display()));
        }
    }
    let secret = STANDARD.encode(rand::random::<[u8; 48]>());
    write_secret_file(&path, &secret)
        .with_context(|| format!("failed to write {}", path.display()))?;
    Ok(secret.into())
}

/// Writes a file that only its owner may read. After a crash it is complete or absent.
fn write_secret_file(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let temporary = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(secret.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}
