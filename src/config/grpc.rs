//! `[grpc]`: the gRPC listener.
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::error::InvalidSetting;
use super::toml_writer::TomlWriter;
use super::values;

/// The gRPC listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpcSettings {
    /// Address and port to listen on; disabled if unset.
    #[serde(default, deserialize_with = "values::optional_socket_addr")]
    pub bind: Option<SocketAddr>,
    /// PEM file of the certificate for TLS; requires `tls_key_file`. Without both, there is no TLS.
    #[serde(default, deserialize_with = "values::optional_path")]
    pub tls_cert_file: Option<PathBuf>,
    /// PEM file of the certificate's private key; requires `tls_cert_file`.
    #[serde(default, deserialize_with = "values::optional_path")]
    pub tls_key_file: Option<PathBuf>,
}

impl GrpcSettings {
    /// Checks the settings against the addresses of the other listeners.
    pub(super) fn validate(
        &self,
        others: [(&str, Option<SocketAddr>); 2],
    ) -> Result<(), InvalidSetting> {
        for (name, other) in others {
            // With port 0, the two get different ports.
            if let Some(bind) = self.bind.filter(|bind| Some(*bind) == other && bind.port() != 0) {
                return Err(InvalidSetting::new(
                    "grpc.bind",
                    format!("{bind} is {name}, too; use another port"),
                ));
            }
        }
        match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(_), None) => Err(InvalidSetting::new(
                "grpc.tls_cert_file",
                "set grpc.tls_key_file, too, the private key of the certificate",
            )),
            (None, Some(_)) => Err(InvalidSetting::new(
                "grpc.tls_key_file",
                "set grpc.tls_cert_file, too, the certificate of the key",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("grpc");
        let bind = self.bind.map(|bind| bind.to_string());
        out.write_optional("bind", bind.as_deref());
        for (key, file) in
            [("tls_cert_file", &self.tls_cert_file), ("tls_key_file", &self.tls_key_file)]
        {
            let file = file.as_ref().map(|path| path.to_string_lossy());
            out.write_optional(key, file.as_deref());
        }
    }
}
