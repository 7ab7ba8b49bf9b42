//! Where the broker is, and how to be let in.

use std::str::FromStr;

use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};

/// Seconds between two signs of life on a quiet connection.
const HEARTBEAT_SECONDS: u16 = 5;

/// A connection string that was understood. It holds a password and is never shown.
#[derive(Clone)]
pub struct BrokerUri(AMQPUri);

/// A connection string that was not. It may hold a password, so that it is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "broker.uri is not an AMQP connection string ({0}); use one such as amqp://user:password@host:5672/vhost"
)]
pub struct InvalidBrokerUri(&'static str);

impl BrokerUri {
    /// Reads a connection string: `to_amqp_uri` or `amqps`, a host, and if need be user, password, port and virtual host.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &SecretString) -> Result<Self, InvalidBrokerUri> {
        let text = text.expose_secret();
        let mut uri = AMQPUri::from_str(text).map_err(|_| InvalidBrokerUri("it cannot be read"))?;
        let host = written_host(text);
        if host.is_empty() {
            return Err(InvalidBrokerUri("it has no host"));
        }
        // The parser takes an IPv6 address for no host at all, and would go to localhost.
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            address.clone_into(&mut uri.authority.host);
        }
        // What a slash at the end means is a virtual host without a name, which nobody has.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Self(uri))
    }

    /// What lapin connects to.
    pub(super) fn to_amqp_uri(&self) -> AMQPUri {
        self.0.clone()
    }

    /// Host and port, for the log.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.0.authority.host, self.0.authority.port)
    }

    /// Who souk is there, for the log.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0.authority.userinfo.username
    }
}

/// The host of a connection string, as it is written.
fn written_host(text: &str) -> &str {
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    match place.find(']') {
        Some(end) => place.get(..=end).unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
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
            "amqp://ada:geheim@",
            "amqp://ada:geheim@host:port",
            "amqp:geheim",
            "geheim",
        ] {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text} was taken")).to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
    }
}
