//! `[http]`: the listener, its limits and CORS.
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::error::{InvalidSetting, check_duration, check_range};
use super::toml_writer::{TomlWriter, format_duration, format_size};
use super::values;

const KIB: usize = 1024;
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const MAX_WRITE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const MAX_SHUTDOWN_DELAY: Duration = Duration::from_secs(5 * 60);

/// The HTTP listener and its limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port to listen on.
    #[serde(deserialize_with = "values::socket_addr")]
    pub bind: SocketAddr,
    /// Number of worker threads. A configured 0 is already replaced by the number of cores.
    #[serde(deserialize_with = "values::worker_count")]
    pub workers: usize,
    /// Maximum size of a request body, in bytes.
    #[serde(deserialize_with = "values::byte_size")]
    pub max_body: usize,
    /// Time after which a request fails with 503.
    #[serde(deserialize_with = "values::duration")]
    pub request_timeout: Duration,
    /// Time after which a connection whose client reads nothing is closed.
    #[serde(deserialize_with = "values::duration")]
    pub write_timeout: Duration,
    /// Time for which a stopping node reports that it is not ready, and serves as before.
    #[serde(deserialize_with = "values::duration")]
    pub shutdown_delay: Duration,
    /// Proxies whose `X-Forwarded-For` header is trusted.
    #[serde(deserialize_with = "values::ip_networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// Which browser origins may use the API.
    pub cors: CorsSettings,
}

/// Which web pages of other origins may use the API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorsSettings {
    /// Exact origins, or only `*` for any origin without credentials.
    pub allowed_origins: Vec<String>,
}

impl HttpSettings {
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        check_range("http.workers", self.workers, 1..=values::MAX_WORKERS)?;
        if !(KIB..=16 * KIB * KIB).contains(&self.max_body) {
            let text = format!("{} is out of range; use 1KiB to 16MiB", format_size(self.max_body));
            return Err(InvalidSetting::new("http.max_body", text));
        }
        check_duration("http.request_timeout", self.request_timeout, MAX_REQUEST_TIMEOUT)?;
        check_duration("http.write_timeout", self.write_timeout, MAX_WRITE_TIMEOUT)?;
        if self.shutdown_delay > MAX_SHUTDOWN_DELAY {
            let text = format!(
                "{} is out of range; use 0s to {}",
                format_duration(self.shutdown_delay),
                format_duration(MAX_SHUTDOWN_DELAY)
            );
            return Err(InvalidSetting::new("http.shutdown_delay", text));
        }
        self.cors.validate()
    }

    pub(super) fn write_toml(&self, out: &mut TomlWriter) {
        out.write_section("http");
        out.write_string("bind", &self.bind.to_string());
        out.write_literal("workers", self.workers);
        out.write_string("max_body", &format_size(self.max_body));
        out.write_duration("request_timeout", self.request_timeout);
        out.write_duration("write_timeout", self.write_timeout);
        out.write_duration("shutdown_delay", self.shutdown_delay);
        out.write_list("trusted_proxies", &self.trusted_proxies);
        out.write_section("http.cors");
        out.write_list("allowed_origins", &self.cors.allowed_origins);
    }
}

impl CorsSettings {
    /// Whether every origin is allowed.
    #[must_use]
    pub fn allows_any_origin(&self) -> bool {
        self.allowed_origins.iter().any(|origin| origin == "*")
    }

    fn validate(&self) -> Result<(), InvalidSetting> {
        const KEY: &str = "http.cors.allowed_origins";
        if self.allows_any_origin() {
            if self.allowed_origins.len() > 1 {
                return Err(InvalidSetting::new(
                    KEY,
                    "\"*\" allows every origin; use it alone or remove it",
                ));
            }
            return Ok(());
        }
        match self.allowed_origins.iter().find(|origin| !is_origin(origin)) {
            Some(origin) => Err(InvalidSetting::new(
                KEY,
                format!(
                    "{origin:?} is not an origin; use scheme://host[:port] in lower case, \
                     without a path"
                ),
            )),
            None => Ok(()),
        }
    }
}

/// Browsers send origins in lower case and without a path; anything else would never match.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.chars().all(|c| plain(c) || "+-.".contains(c));
    let host_ok = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| plain(c) || "-._".contains(c)),
    };
    let port_ok = port.is_none_or(|port| {
        port.starts_with(|c: char| c.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    scheme_ok && host_ok && port_ok
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn origin_syntax_is_checked() {
        for good in [
            "https://shop.example",
            "http://localhost:3000",
            "http://127.0.0.1",
            "http://[::1]:8080",
            "http://[::1]",
            "chrome-extension://abc",
        ] {
            assert!(is_origin(good), "{good}");
        }
        for bad in [
            "",
            "*",
            "null",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://Shop.example",
            "https://*.example",
            "https://user@shop.example",
            "https://shop.example:",
            "https://shop.example:99999",
            "https://shop.example:+80",
            "http://[::1",
            "://x",
        ] {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
