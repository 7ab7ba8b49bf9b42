//! `[auth]`: tokens, passwords and the first administrator.
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::error::{InvalidSetting, check_range};
use super::secret_strength::{readable_file_warning, secret_weakness};
use super::store::{StoreKind, StoreSettings};
use super::toml_writer::TomlWriter;
use super::values;

/// bcrypt reads 72 bytes including the closing NUL, and silently ignores the rest.
const MAX_PASSWORD_BYTES: usize = 71;
const MIN_PASSWORD_CHARS: usize = 8;
/// Below this a stolen hash is cheap to attack.
const MIN_SAFE_BCRYPT_COST: u32 = 10;

/// Tokens, passwords and the first administrator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// Secret of HS256 tokens. The embedded store generates one in `store.path` if it is unset.
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub jwt_secret: Option<SecretString>,
    /// PEM file of an Ed25519 private key. If it is set, tokens are signed with EdDSA.
    #[serde(default, deserialize_with = "values::optional_path")]
    pub ed25519_key_file: Option<PathBuf>,
    /// E-mail address of the first administrator; requires `admin_password`.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub admin_email: Option<String>,
    /// Password of the first administrator; requires `admin_email`.
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub admin_password: Option<SecretString>,
    /// The bcrypt work factor of new password hashes.
    #[serde(deserialize_with = "values::whole_number")]
    pub bcrypt_cost: u32,
}

impl AuthSettings {
    pub(super) fn validate(&self, store: &StoreSettings) -> Result<(), InvalidSetting> {
        check_range("auth.bcrypt_cost", self.bcrypt_cost, 4..=31)?;
        self.validate_jwt_secret(store)?;
        self.validate_admin()
    }

    fn validate_jwt_secret(&self, store: &StoreSettings) -> Result<(), InvalidSetting> {
        const KEY: &str = "auth.jwt_secret";
        match &self.jwt_secret {
            Some(secret) => match secret_weakness(secret.expose_secret()) {
                None => Ok(()),
                Some(weakness) => Err(InvalidSetting::new(KEY, weakness)),
            },
            None if store.kind == StoreKind::Mongodb => Err(InvalidSetting::new(
                KEY,
                "is required with store.kind = \"mongodb\"; set it or JWT_SECRET to 32 or more \
                 random bytes, the same on every node",
            )),
            None => Ok(()),
        }
    }

    fn validate_admin(&self) -> Result<(), InvalidSetting> {
        let (email, password) = match (&self.admin_email, &self.admin_password) {
            (Some(email), Some(password)) => (email, password.expose_secret()),
            (None, None) => return Ok(()),
            (Some(_), None) => {
                let text = "is required with auth.admin_email; set both or neither";
                return Err(InvalidSetting::new("auth.admin_password", text));
            }
            (None, Some(_)) => {
                let text = "is required with auth.admin_password; set both or neither";
                return Err(InvalidSetting::new("auth.admin_email", text));
            }
        };
        if !email.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()) {
            let text =
                format!("{email:?} is not an e-mail address; use one such as admin@shop.example");
            return Err(InvalidSetting::new("auth.admin_email", text));
        }
        let long_enough = password.chars().count() >= MIN_PASSWORD_CHARS;
        if !long_enough || password.len() > MAX_PASSWORD_BYTES || password.contains('\0') {
            let text = "is not a usable password; use 8 characters to 71 bytes";
            return Err(InvalidSetting::new("auth.admin_password", text));
        }
        Ok(())
    }

    pub(super) fn weak_cost_warning(&self) -> Option<String> {
        (self.bcrypt_cost < MIN_SAFE_BCRYPT_COST).then(|| {
            format!(
                "auth.bcrypt_cost: {} makes password hashes cheap to attack; \
                 use {MIN_SAFE_BCRYPT_COST} or more outside tests",
                self.bcrypt_cost
            )
        })
    }

    pub(super) fn key_file_warning(&self) -> Option<String> {
        readable_file_warning("auth.ed25519_key_file", self.ed25519_key_file.as_deref()?)
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("auth");
        out.write_redacted("jwt_secret", self.jwt_secret.as_ref());
        let key_file = self.ed25519_key_file.as_ref().map(|path| path.to_string_lossy());
        out.write_optional("ed25519_key_file", key_file.as_deref());
        out.write_optional("admin_email", self.admin_email.as_deref());
        out.write_redacted("admin_password", self.admin_password.as_ref());
        out.write_literal("bcrypt_cost", self.bcrypt_cost);
    }
}
