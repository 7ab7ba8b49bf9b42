//! The secrets that sign tokens: from the settings, from a key file, or created at the first start.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    auth::token::{InvalidSigningKey, TokenService},
    config::{Settings, readable_file_warning, secret_weakness},
    domain::clock::Clock,
    private_file::create_private_file,
};

/// The file in the store's folder with the secret that Souk has made.
pub(super) const SECRET_FILE: &str = "jwt_secret";

/// The secrets that sign tokens, and that keys for other purposes are derived from.
pub(super) struct TokenSecrets {
    first: SecretString,
    /// Accepted too, while the secret is rotated.
    second: Option<SecretString>,
}

impl TokenSecrets {
    /// The secrets in the settings. Without a first one, it is the one in the store's folder.
    ///
    /// # Errors
    /// The file in the store's folder cannot be read, created or used.
    pub(super) fn load(settings: &Settings) -> anyhow::Result<Self> {
        let first = match &settings.auth.jwt_secret {
            Some(secret) => secret.clone(),
            None => load_or_create_secret(&settings.store.path)?,
        };
        Ok(Self { first, second: settings.auth.second_jwt_secret.clone() })
    }

    pub(super) fn first(&self) -> &[u8] {
        self.first.expose_secret().as_bytes()
    }

    pub(super) fn second(&self) -> Option<&[u8]> {
        self.second.as_ref().map(|secret| secret.expose_secret().as_bytes())
    }
}

/// Builds the service that signs and verifies access tokens: with the Ed25519 key file if there is
/// one, else with the secret.
pub(super) fn build_tokens(
    settings: &Settings,
    secrets: &TokenSecrets,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<TokenService> {
    let Some(file) = &settings.auth.ed25519_key_file else {
        let tokens = TokenService::with_secret(secrets.first(), Arc::clone(clock));
        return Ok(match secrets.second() {
            Some(second) => tokens.accepting_second_secret(second),
            None => tokens,
        });
    };
    let tokens = with_key_file("auth.ed25519_key_file", file, |pem| {
        TokenService::with_ed25519(pem, Arc::clone(clock))
    })?;
    match &settings.auth.second_ed25519_key_file {
        Some(second) => with_key_file("auth.second_ed25519_key_file", second, |pem| {
            tokens.accepting_second_ed25519(pem)
        }),
        None => Ok(tokens),
    }
}

/// Builds tokens from a key file; the error names the setting.
fn with_key_file(
    setting: &str,
    file: &Path,
    build: impl FnOnce(&[u8]) -> Result<TokenService, InvalidSigningKey>,
) -> anyhow::Result<TokenService> {
    let pem = std::fs::read(file)
        .with_context(|| format!("{setting}: failed to read {}", file.display()))?;
    build(&pem).with_context(|| format!("{setting}: {}", file.display()))
}

/// Loads the secret from its file in `dir`. Creates it at the first start.
fn load_or_create_secret(dir: &Path) -> anyhow::Result<SecretString> {
    let path = dir.join(SECRET_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => match secret_weakness(text.trim()) {
            None => {
                if let Some(warning) = readable_file_warning(SECRET_FILE, &path) {
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

/// Writes a file that only its owner may read. After a failure or a crash it is complete or absent.
pub(super) fn write_secret_file(path: &Path, secret: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let temporary = path.with_extension("new");
    let mut file = create_private_file(&temporary)?;
    let written = file
        .write_all(secret.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        // The error that led here says more.
        let _ = std::fs::remove_file(temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_that_cannot_be_written_leaves_nothing() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join(SECRET_FILE);
        std::fs::create_dir(&path).unwrap();
        assert!(write_secret_file(&path, "a secret").is_err());
        let left = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(left.collect::<Vec<_>>(), [path]);
    }
}
