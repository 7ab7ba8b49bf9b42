//! `[auth]`: tokens, passwords and the first administrator.
use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::error::{InvalidSetting, check_range};
use super::secret_strength::secret_weakness;
use super::store::{StoreKind, StoreSettings};
use super::toml_writer::{TomlWriter, format_duration};
use super::values;
use crate::domain::{
    account::{Email, MAX_REFRESH_GRACE, Password},
    validation::ValidationErrors,
};

/// The most sessions of one account: a login looks at all of them.
const MAX_SESSIONS: u32 = 1000;
/// Below this a stolen hash is cheap to attack.
const MIN_SAFE_BCRYPT_COST: u32 = 10;

/// Tokens, passwords and the first administrator.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthSettings {
    /// Secret of HS256 tokens. The embedded store generates one in `store.path` if it is unset.
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub jwt_secret: Option<SecretString>,
    /// A second secret, with which nothing is signed: what was signed with it is accepted, too.
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub second_jwt_secret: Option<SecretString>,
    /// PEM file of an Ed25519 private key. If it is set, tokens are signed with EdDSA.
    #[serde(default, deserialize_with = "values::optional_path")]
    pub ed25519_key_file: Option<PathBuf>,
    /// PEM file of a second key, with which nothing is signed: its tokens are accepted, too.
    #[serde(default, deserialize_with = "values::optional_path")]
    pub second_ed25519_key_file: Option<PathBuf>,
    /// E-mail address of the first administrator; requires `admin_password`.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub admin_email: Option<String>,
    /// Password of the first administrator; requires `admin_email`.
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub admin_password: Option<SecretString>,
    /// The bcrypt work factor of new password hashes.
    #[serde(deserialize_with = "values::whole_number")]
    pub bcrypt_cost: u32,
    /// How long a used refresh token gets the same successor again, unless that was used.
    #[serde(deserialize_with = "values::duration")]
    pub refresh_grace: Duration,
    /// The most sessions of one account. A login beyond ends the one that was unused the longest.
    #[serde(deserialize_with = "values::whole_number")]
    pub max_sessions: u32,
}

impl AuthSettings {
    pub(super) fn validate(&self, store: &StoreSettings) -> Result<(), InvalidSetting> {
        check_range("auth.bcrypt_cost", self.bcrypt_cost, 4..=31)?;
        check_range("auth.max_sessions", self.max_sessions, 1..=MAX_SESSIONS)?;
        if self.refresh_grace > MAX_REFRESH_GRACE {
            return Err(InvalidSetting::new(
                "auth.refresh_grace",
                format!(
                    "{} is out of range; use 0s to {}",
                    format_duration(self.refresh_grace),
                    format_duration(MAX_REFRESH_GRACE)
                ),
            ));
        }
        self.validate_jwt_secret(store)?;
        self.validate_second_keys()?;
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

    /// A second key that is the first one would look like a rotation, and be none.
    fn validate_second_keys(&self) -> Result<(), InvalidSetting> {
        const SECRET: &str = "auth.second_jwt_secret";
        const KEY_FILE: &str = "auth.second_ed25519_key_file";
        if let Some(second) = &self.second_jwt_secret {
            let second = second.expose_secret();
            if let Some(weakness) = secret_weakness(second) {
                return Err(InvalidSetting::new(SECRET, weakness));
            }
            if self.jwt_secret.as_ref().is_some_and(|first| first.expose_secret() == second) {
                return Err(InvalidSetting::new(SECRET, "is the same as auth.jwt_secret"));
            }
        }
        match (&self.ed25519_key_file, &self.second_ed25519_key_file) {
            (None, Some(_)) => {
                Err(InvalidSetting::new(KEY_FILE, "needs auth.ed25519_key_file; set both"))
            }
            (Some(first), Some(second)) if first == second => {
                Err(InvalidSetting::new(KEY_FILE, "is the same as auth.ed25519_key_file"))
            }
            _ => Ok(()),
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
        if let Err(errors) = Email::parse(email) {
            let reason = first_message(errors);
            let text = format!("{email:?} is not an e-mail address; {reason}");
            return Err(InvalidSetting::new("auth.admin_email", text));
        }
        if let Err(errors) = Password::parse("it", password.to_owned()) {
            let text = format!("is not a usable password; {}", first_message(errors));
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

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("auth");
        out.write_redacted("jwt_secret", self.jwt_secret.as_ref());
        out.write_redacted("second_jwt_secret", self.second_jwt_secret.as_ref());
        let files = [
            ("ed25519_key_file", &self.ed25519_key_file),
            ("second_ed25519_key_file", &self.second_ed25519_key_file),
        ];
        for (key, file) in files {
            let file = file.as_ref().map(|path| path.to_string_lossy());
            out.write_optional(key, file.as_deref());
        }
        out.write_optional("admin_email", self.admin_email.as_deref());
        out.write_redacted("admin_password", self.admin_password.as_ref());
        out.write_literal("bcrypt_cost", self.bcrypt_cost);
        out.write_duration("refresh_grace", self.refresh_grace);
        out.write_literal("max_sessions", self.max_sessions);
    }
}

fn first_message(errors: ValidationErrors) -> String {
    errors.into_vec().into_iter().next().map(|error| error.message).unwrap_or_default()
}
