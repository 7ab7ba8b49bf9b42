//! `[grpc]`: the gRPC listener.
use std::net::SocketAddr;

use serde::Deserialize;

use super::toml_writer::TomlWriter;
use super::values;

/// The gRPC listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcSettings {
    /// Address and port to listen on; disabled if unset.
    #[serde(default, deserialize_with = "values::optional_socket_addr")]
    pub bind: Option<SocketAddr>,
}

impl GrpcSettings {
    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("grpc");
        let bind = self.bind.map(|bind| bind.to_string());
        out.write_optional("bind", bind.as_deref());
    }
}
