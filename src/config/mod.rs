//! The settings: every key of `config/default.toml`, where they are read from, and what is wrong
//! with them. One file a section.
mod auth;
mod broker;
mod cart;
mod environment;
mod error;
mod grpc;
mod http;
mod layers;
mod limits;
mod net;
mod orders;
mod shop;
mod store;
mod telemetry;
mod text;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

pub use auth::AuthSettings;
pub use broker::{BrokerKind, BrokerSettings, SubscriptionSettings};
pub use cart::CartSettings;
pub use error::ConfigError;
pub use grpc::GrpcSettings;
pub use http::{CorsSettings, HttpSettings};
pub use limits::LimitsSettings;
pub use net::{IpNet, IpNetError};
pub use orders::OrdersSettings;
pub use shop::{CatalogSettings, ShopSettings};
pub use store::{StoreKind, StoreSettings};
pub use telemetry::{LogFormat, TelemetrySettings};

use self::error::InvalidSetting;
use layers::Layers;
use text::TomlWriter;

/// Where settings are read from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The environment.
    pub env: &'a BTreeMap<String, String>,
    /// The directory that `.env` and `config/` are looked up in.
    pub dir: &'a Path,
}

/// All settings, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The HTTP listener.
    pub http: HttpSettings,
    /// The shop as a whole.
    pub shop: ShopSettings,
    /// Products and their stock.
    pub catalog: CatalogSettings,
    /// The store.
    pub store: StoreSettings,
    /// The message broker.
    pub broker: BrokerSettings,
    /// Tokens, passwords and the first administrator.
    pub auth: AuthSettings,
    /// How much one caller may ask.
    pub limits: LimitsSettings,
    /// Rules of unpaid orders.
    pub orders: OrdersSettings,
    /// Size and life of carts.
    pub cart: CartSettings,
    /// The gRPC services.
    pub grpc: GrpcSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
}

impl Settings {
    /// Reads the settings from the process environment and the current directory.
    ///
    /// # Errors
    /// The first setting that is unknown or cannot be used.
    pub fn load() -> Result<Self, ConfigError> {
        let env = environment::read_process_environment()?;
        Self::load_from(Sources { env: &env, dir: Path::new(".") })
    }

    /// Reads the settings from the given sources.
    ///
    /// # Errors
    /// The first setting that is unknown or cannot be used.
    pub fn load_from(sources: Sources<'_>) -> Result<Self, ConfigError> {
        let layers = Layers::read(sources)?;
        let mut settings: Self = layers.deserialize()?;
        settings.telemetry.filter = layers.log_filter();
        match settings.validate() {
            Ok(()) => Ok(settings),
            Err(problem) => Err(layers.with_origin(problem)),
        }
    }

    fn validate(&self) -> Result<(), InvalidSetting> {
        self.http.validate()?;
        self.store.validate()?;
        self.broker.validate()?;
        self.auth.validate(&self.store)?;
        self.limits.validate()?;
        self.orders.validate()?;
        self.cart.validate()?;
        self.telemetry.validate()
    }

    /// The first valid setting that this build cannot honour yet, in one line.
    #[must_use]
    pub fn unsupported_setting(&self) -> Option<String> {
        if self.grpc.bind.is_some() {
            Some("grpc.bind: gRPC is not in this build yet; leave it unset".to_owned())
        } else if self.telemetry.otlp_endpoint.is_some() {
            Some(
                "telemetry.otlp_endpoint: OTLP is not in this build yet; leave it unset".to_owned(),
            )
        } else {
            None
        }
    }

    /// What deserves a warning at the start, a line each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.auth.weak_cost_warning().into_iter().collect()
    }

    /// The settings in effect as TOML, secrets hidden.
    #[must_use]
    pub fn redacted_toml(&self) -> String {
        let mut out = TomlWriter::default();
        self.http.write_toml(&mut out);
        self.shop.write_toml(&mut out);
        self.catalog.write_toml(&mut out);
        self.store.write_toml(&mut out);
        self.broker.write_toml(&mut out);
        self.auth.write_toml(&mut out);
        self.limits.write_toml(&mut out);
        self.orders.write_toml(&mut out);
        self.cart.write_toml(&mut out);
        self.grpc.write_toml(&mut out);
        self.telemetry.write_toml(&mut out);
        out.finish()
    }
}
