//! The settings: loading, validation, and one file for each section of `config/default.toml`.
mod auth;
mod broker;
mod cart;
mod cluster;
mod environment;
mod error;
mod files;
mod grpc;
mod http;
mod ip_network;
mod layers;
mod limits;
mod mail;
mod ops;
mod orders;
mod payments;
mod reference;
mod secret_strength;
mod shop;
mod store;
mod telemetry;
mod toml_error;
mod toml_writer;
mod values;
mod webhooks;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

pub use auth::AuthSettings;
pub use broker::{BrokerKind, BrokerSettings, SubscriptionSettings};
pub use cart::CartSettings;
pub use cluster::ClusterSettings;
pub use error::ConfigError;
pub use grpc::GrpcSettings;
pub use http::{CorsSettings, HttpSettings};
pub use limits::LimitSettings;
pub use mail::{MailSecurity, MailServer, MailSettings};
pub use ops::OpsSettings;
pub use orders::OrdersSettings;
pub use payments::{PaymentsSettings, StripeSettings};
pub use secret_strength::{readable_file_warning, secret_weakness};
pub use shop::{CatalogSettings, ShopSettings};
pub use store::{StartCheck, StoreKind, StoreSettings};
pub use telemetry::{LogFormat, OtlpProtocol, RequestLog, TelemetrySettings};
pub use webhooks::WebhookSettings;

use self::error::InvalidSetting;
use layers::Layers;
use toml_writer::TomlWriter;

/// The sources that settings are read from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The environment variables.
    pub env: &'a BTreeMap<String, String>,
    /// The directory of `.env` and `config/`.
    pub dir: &'a Path,
}

/// All settings, validated.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The HTTP listener.
    pub http: HttpSettings,
    /// The listener for probes and metrics.
    pub ops: OpsSettings,
    /// The currency and other settings of the whole shop.
    pub shop: ShopSettings,
    /// Products and their stock.
    pub catalog: CatalogSettings,
    /// The database that keeps the shop.
    pub store: StoreSettings,
    /// The message broker.
    pub broker: BrokerSettings,
    /// Tokens, passwords and the first administrator.
    pub auth: AuthSettings,
    /// Limits per caller: rates, connections and feeds.
    pub limits: LimitSettings,
    /// Limits of pending orders, which are placed and not paid.
    pub orders: OrdersSettings,
    /// How orders are paid.
    pub payments: PaymentsSettings,
    /// Limits and abandonment of carts.
    pub cart: CartSettings,
    /// The SMTP server, and what mails contain.
    pub mail: MailSettings,
    /// How events are delivered to other systems by HTTPS.
    pub webhooks: WebhookSettings,
    /// The gRPC listener.
    pub grpc: GrpcSettings,
    /// What nodes say to each other.
    pub cluster: ClusterSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
    /// Warnings about the files that the settings were read from.
    #[serde(skip)]
    file_warnings: Vec<String>,
    /// What the settings were read from.
    #[serde(skip)]
    sources: Vec<String>,
}

impl Settings {
    /// Reads the settings from the process environment and the current directory. `file` is what
    /// `SOUK_CONFIG` would name.
    ///
    /// # Errors
    /// The first setting that is unknown or invalid.
    pub fn load(file: Option<&str>) -> Result<Self, ConfigError> {
        let mut env = environment::read_process_environment()?;
        if let Some(file) = file {
            env.insert(environment::CONFIG_VARIABLE.to_owned(), file.to_owned());
        }
        Self::load_from(Sources { env: &env, dir: Path::new(".") })
    }

    /// Reads the settings from the given sources.
    ///
    /// # Errors
    /// The first setting that is unknown or invalid.
    pub fn load_from(sources: Sources<'_>) -> Result<Self, ConfigError> {
        let layers = Layers::read(sources)?;
        let mut settings: Self = layers.deserialize()?;
        settings.telemetry.filter = layers.log_filter();
        settings.file_warnings =
            layers.file_warnings(&settings.secrets_that_are_set(), sources.dir);
        if let Err(invalid) = settings.validate() {
            return Err(layers.with_origin(invalid));
        }
        settings.sources = layers.into_sources();
        Ok(settings)
    }

    /// The settings that are secret. A URI is one if it contains a password.
    pub(crate) fn secrets_that_are_set(&self) -> Vec<&'static str> {
        let has_password = |uri: &Option<SecretString>| {
            uri.as_ref().is_some_and(|uri| uri.expose_secret().contains('@'))
        };
        [
            ("auth.jwt_secret", self.auth.jwt_secret.is_some()),
            ("auth.second_jwt_secret", self.auth.second_jwt_secret.is_some()),
            ("auth.admin_password", self.auth.admin_password.is_some()),
            ("store.uri", has_password(&self.store.uri)),
            ("broker.uri", has_password(&self.broker.uri)),
            ("mail.uri", has_password(&self.mail.uri)),
            ("payments.stripe.secret_key", self.payments.stripe.secret_key.is_some()),
            ("payments.stripe.webhook_secret", self.payments.stripe.webhook_secret.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, is_secret)| is_secret.then_some(key))
        .collect()
    }

    /// The settings that name a file with a private key, and the files.
    pub(crate) fn key_files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let files = [
            ("auth.ed25519_key_file", &self.auth.ed25519_key_file),
            ("auth.second_ed25519_key_file", &self.auth.second_ed25519_key_file),
            ("grpc.tls_key_file", &self.grpc.tls_key_file),
        ];
        files.into_iter().filter_map(|(key, file)| Some((key, file.as_deref()?)))
    }

    fn validate(&self) -> Result<(), InvalidSetting> {
        self.http.validate()?;
        self.ops.validate(self.http.bind)?;
        self.shop.validate()?;
        self.store.validate()?;
        self.broker.validate()?;
        self.auth.validate(&self.store)?;
        self.limits.validate()?;
        self.orders.validate()?;
        self.payments.validate()?;
        self.cart.validate()?;
        self.mail.validate()?;
        self.webhooks.validate()?;
        self.grpc.validate([("http.bind", Some(self.http.bind)), ("ops.bind", self.ops.bind)])?;
        let listeners = [
            ("http.bind", Some(self.http.bind)),
            ("ops.bind", self.ops.bind),
            ("grpc.bind", self.grpc.bind),
        ];
        self.cluster.validate(self.store.kind, listeners)?;
        self.telemetry.validate()
    }

    /// Warnings to log at startup, one line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let cost = self.auth.weak_cost_warning();
        let key_files = self.key_files().filter_map(|(key, file)| readable_file_warning(key, file));
        let mail = self.mail.plain_text_warning();
        cost.into_iter()
            .chain(key_files)
            .chain(mail)
            .chain(self.webhooks.private_warning())
            .chain(self.file_warnings.iter().cloned())
            .collect()
    }

    /// What the settings were read from: files, and the names of variables. A later one overrides
    /// those before.
    #[must_use]
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// The effective settings as TOML, with secrets hidden.
    #[must_use]
    pub fn redacted_toml(&self) -> String {
        let mut out = TomlWriter::default();
        self.http.write_toml(&mut out);
        self.ops.write_toml(&mut out);
        self.shop.write_toml(&mut out);
        self.catalog.write_toml(&mut out);
        self.store.write_toml(&mut out);
        self.broker.write_toml(&mut out);
        self.auth.write_toml(&mut out);
        self.limits.write_toml(&mut out);
        self.orders.write_toml(&mut out);
        self.payments.write_toml(&mut out);
        self.cart.write_toml(&mut out);
        self.mail.write_toml(&mut out);
        self.webhooks.write_toml(&mut out);
        self.grpc.write_toml(&mut out);
        self.cluster.write_toml(&mut out);
        self.telemetry.write_toml(&mut out);
        out.finish()
    }
}
