//! `[cluster]`: what nodes say to each other.
use std::net::SocketAddr;

use serde::Deserialize;

use super::error::InvalidSetting;
use super::store::StoreKind;
use super::toml_writer::TomlWriter;
use super::values;

/// How the nodes of a cluster reach each other.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSettings {
    /// Address and port at which other nodes hand over changes of contended stock; disabled if
    /// unset.
    #[serde(default, deserialize_with = "values::optional_socket_addr")]
    pub bind: Option<SocketAddr>,
    /// The address of this node for the others, `host:port`. If unset, it is `bind`.
    #[serde(default, deserialize_with = "values::optional_text")]
    pub advertise: Option<String>,
}

impl ClusterSettings {
    /// Checks the settings against the store and the addresses of the other listeners.
    pub(super) fn validate(
        &self,
        store: StoreKind,
        others: [(&str, Option<SocketAddr>); 3],
    ) -> Result<(), InvalidSetting> {
        if let Some(address) = self.advertise.as_deref().filter(|address| !is_address(address)) {
            return Err(InvalidSetting::new(
                "cluster.advertise",
                format!("{address:?} is not a host and port, such as node-1.shop.internal:7400"),
            ));
        }
        let Some(bind) = self.bind else {
            return match self.advertise {
                Some(_) => Err(InvalidSetting::new(
                    "cluster.advertise",
                    "set cluster.bind, too, the address to listen on",
                )),
                None => Ok(()),
            };
        };
        if store != StoreKind::Mongodb {
            return Err(InvalidSetting::new(
                "cluster.bind",
                "needs store.kind = \"mongodb\": the embedded store has a single node",
            ));
        }
        // With port 0, all get different ports.
        if let Some((name, _)) =
            others.iter().find(|(_, other)| *other == Some(bind) && bind.port() != 0)
        {
            return Err(InvalidSetting::new(
                "cluster.bind",
                format!("{bind} is {name}, too; use another port"),
            ));
        }
        if bind.ip().is_unspecified() && self.advertise.is_none() {
            return Err(InvalidSetting::new(
                "cluster.bind",
                format!(
                    "{bind} is no address that other nodes can connect to; \
                     set cluster.advertise to one"
                ),
            ));
        }
        Ok(())
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("cluster");
        let bind = self.bind.map(|bind| bind.to_string());
        out.write_optional("bind", bind.as_deref());
        out.write_optional("advertise", self.advertise.as_deref());
    }
}

/// Whether `text` has a host name or an IP address, and a port that can be connected to.
fn is_address(text: &str) -> bool {
    let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]%".contains(&byte);
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.bytes().all(is_host_byte)
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}
