//! `[grpc]`.
use std::net::SocketAddr;

use serde::Deserialize;

use super::text::TomlText;
use super::values;

/// The gRPC services.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcSettings {
    /// Address and port to listen on; off when unset.
    #[serde(default, deserialize_with = "values::optional_socket_addr")]
    pub bind: Option<SocketAddr>,
}

impl GrpcSettings {
    pub(super) fn write(&self, out: &mut TomlText) {
        out.section("grpc");
        let bind = self.bind.map(|bind| bind.to_string());
        out.optional("bind", bind.as_deref());
    }
}
