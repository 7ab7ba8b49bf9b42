//! `[payments]`: how orders are paid.
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::error::InvalidSetting;
use super::toml_writer::TomlWriter;
use super::values;
use crate::domain::payment::PaymentMethod;

/// How orders are paid.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentsSettings {
    /// The method of a checkout that names none.
    #[serde(rename = "default")]
    pub default_method: String,
    /// The account at Stripe.
    pub stripe: StripeSettings,
}

/// The account at Stripe.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StripeSettings {
    /// The API key; without it, nothing is paid with Stripe.
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub secret_key: Option<SecretString>,
    /// The secret that webhooks are signed with; required with `secret_key`.
    #[serde(default, deserialize_with = "values::optional_secret")]
    pub webhook_secret: Option<SecretString>,
    /// Scheme, host and port of the API.
    pub api_base: String,
}

impl PaymentsSettings {
    /// The method of a checkout that names none.
    #[must_use]
    pub fn default_payment_method(&self) -> PaymentMethod {
        self.default_method.parse().unwrap_or_default()
    }

    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        let stripe = &self.stripe;
        match self.default_method.parse::<PaymentMethod>() {
            Ok(PaymentMethod::Stripe) if stripe.secret_key.is_none() => {
                let reason = "is stripe, which needs payments.stripe.secret_key";
                return Err(InvalidSetting::new("payments.default", reason));
            }
            Ok(_) => {}
            Err(_) => {
                let reason = "is not manual or stripe";
                return Err(InvalidSetting::new("payments.default", reason));
            }
        }
        if stripe.secret_key.is_some() && stripe.webhook_secret.is_none() {
            let reason = "is required with payments.stripe.secret_key";
            return Err(InvalidSetting::new("payments.stripe.webhook_secret", reason));
        }
        let is_base = Url::parse(&stripe.api_base)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/");
        if !is_base {
            let reason = "is not the scheme, host and port of a server, such as \
                          https://api.stripe.com";
            return Err(InvalidSetting::new("payments.stripe.api_base", reason));
        }
        Ok(())
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("payments");
        out.write_string("default", &self.default_method);
        out.write_section("payments.stripe");
        out.write_redacted("secret_key", self.stripe.secret_key.as_ref());
        out.write_redacted("webhook_secret", self.stripe.webhook_secret.as_ref());
        out.write_string("api_base", &self.stripe.api_base);
    }
}
