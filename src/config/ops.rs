//! `[ops]`: the listener for operators.
use std::net::SocketAddr;

use serde::Deserialize;

use super::error::InvalidSetting;
use super::toml_writer::TomlWriter;
use super::values;

/// The listener for probes and metrics.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpsSettings {
    /// Address and port of `/livez`, `/readyz` and `/metrics`. If unset, `http.bind` serves them.
    #[serde(default, deserialize_with = "values::optional_socket_addr")]
    pub bind: Option<SocketAddr>,
}

impl OpsSettings {
    pub(super) fn validate(&self, http_bind: SocketAddr) -> Result<(), InvalidSetting> {
        // With port 0, the two get different ports.
        match self.bind {
            Some(bind) if bind == http_bind && bind.port() != 0 => Err(InvalidSetting::new(
                "ops.bind",
                format!("{bind} is http.bind, too; use another port, or leave it unset"),
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("ops");
        let bind = self.bind.map(|bind| bind.to_string());
        out.write_optional("bind", bind.as_deref());
    }
}
