//! The broker's connection string.

use std::str::FromStr;

use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};

/// Seconds between heartbeats on an idle connection.
const HEARTBEAT_SECONDS: u16 = 5;

/// A valid connection string. It has no `Debug` or `Display`, since it may hold a password.
#[derive(Clone)]
pub struct BrokerUri(AMQPUri);

/// An invalid connection string. The error does not repeat it, since it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "broker.uri is not a valid AMQP connection string ({0}); \
     use one such as amqp://user:password@host:5672/vhost"
)]
pub struct InvalidBrokerUri(&'static str);

impl BrokerUri {
    /// Parses a connection string: scheme `amqp` or `amqps`, a host, and optionally a user, a
    /// password, a port and a virtual host.
    ///
    /// # Errors
    /// The text is not an AMQP URI, or has no host.
    pub fn parse(text: &SecretString) -> Result<Self, InvalidBrokerUri> {
        let text = text.expose_secret();
        let mut uri =
            AMQPUri::from_str(text).map_err(|_| InvalidBrokerUri("failed to parse it"))?;
        let host = written_host(text);
        if host.is_empty() {
            return Err(InvalidBrokerUri("it has no host"));
        }
        // lapin's parser ignores an IPv6 address and falls back to localhost.
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            address.clone_into(&mut uri.authority.host);
        }
        // A trailing slash names the virtual host "", which does not exist in practice.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self(uri))
    }

    /// The URI in lapin's own type.
    pub(super) fn to_amqp_uri(&self) -> AMQPUri {
        self.0.clone()
    }

    /// Host and port, safe to log.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.0.authority.host, self.0.authority.port)
    }

    /// The user name, safe to log.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0.authority.userinfo.username
    }
}

/// The host as written in a connection string, an IPv6 address in its brackets.
fn written_host(text: &str) -> &str {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, host_port)| host_port);
    match host_port.find(']') {
        Some(end) => host_port.get(..=end).unwrap_or_default(),
        None => host_port.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BrokerUri, InvalidBrokerUri> {
        BrokerUri::parse(&SecretString::from(text))
    }

    #[test]
    fn connection_string_yields_host_user_and_virtual_host() {
        let uri = parse("amqp://ada:s%40fe@queue.example:5673/shop").unwrap();
        assert_eq!((uri.address().as_str(), uri.user()), ("queue.example:5673", "ada"));
        assert_eq!(
            (uri.0.vhost.as_str(), uri.0.authority.userinfo.password.as_str()),
            ("shop", "s@fe")
        );
        assert_eq!(uri.0.query.heartbeat, Some(5));
    }

    #[test]
    fn an_ipv6_address_is_a_host() {
        assert_eq!(
            parse("amqp://ada:x@[2001:db8::1]:5672/").unwrap().address(),
            "2001:db8::1:5672"
        );
        assert_eq!(parse("amqps://[::1]").unwrap().address(), "::1:5671");
    }

    #[test]
    fn missing_virtual_host_defaults_to_slash() {
        for text in ["amqp://localhost", "amqp://localhost/", "amqp://localhost/%2f"] {
            assert_eq!(parse(text).unwrap().0.vhost, "/", "{text}");
        }
    }

    #[test]
    fn invalid_connection_string_is_rejected_without_echo() {
        for text in [
            "amqp://",
            "amqp:///vhost",
            "amqp://ada:s3cret@",
            "amqp://ada:s3cret@host:port",
            "amqp:s3cret",
            "s3cret",
        ] {
            let error =
                parse(text).err().unwrap_or_else(|| panic!("{text} was accepted")).to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
