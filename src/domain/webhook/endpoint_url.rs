//! Which URLs an endpoint may have.

use std::net::IpAddr;

use url::{Host, Url};

use super::address::is_public;

/// Why a URL cannot be an endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefusal {
    /// It is no URL of a web server.
    #[error("url must be an https:// URL with a host")]
    Invalid,
    /// It has a user name or a password.
    #[error("url must not have a user name or a password")]
    Credentials,
    /// It is not secured.
    #[error("url must start with https://")]
    NotHttps,
    /// It leads to an address that is not public.
    #[error("url must lead to a public address")]
    NotPublic,
}

/// Parses the URL of an endpoint. A host that is a name has to be resolved and looked at, too.
/// `allow_private` allows `http` and addresses that are not public.
///
/// # Errors
/// See [`UrlRefusal`].
pub fn check_endpoint_url(text: &str, allow_private: bool) -> Result<Url, UrlRefusal> {
    let url = Url::parse(text).map_err(|_| UrlRefusal::Invalid)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(UrlRefusal::Invalid);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlRefusal::Credentials);
    }
    if allow_private {
        return Ok(url);
    }
    if url.scheme() != "https" {
        return Err(UrlRefusal::NotHttps);
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(name)) if name.trim_end_matches('.').is_empty() => {
            return Err(UrlRefusal::Invalid);
        }
        Some(Host::Domain(name)) if is_local_name(name) => return Err(UrlRefusal::NotPublic),
        Some(Host::Domain(_)) => None,
        None => return Err(UrlRefusal::Invalid),
    };
    match address {
        Some(address) if !is_public(address) => Err(UrlRefusal::NotPublic),
        _ => Ok(url),
    }
}

/// Whether a name stands for the machine itself (RFC 6761), however it is resolved.
fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_notation() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "017700000001",
            "0177.0.0.1",
            "0.0.0.0",
            "0",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "169.254.169.254",
            "2852039166",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:169.254.169.254]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::1]",
            "[fe80::1]",
            "[fc00::1]",
            "[fd00:ec2::254]",
            "[ff02::1]",
            "[2002:7f00:1::]",
            "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
            "[2001:db8::1]",
            "%31%32%37.0.0.1",
            "①②⑦.0.0.1",
            "127。0。0。1",
            "localhost",
            "LocalHost.",
            "shop.localhost",
        ] {
            let url = format!("https://{host}/hook");
            assert_eq!(check_endpoint_url(&url, false), Err(UrlRefusal::NotPublic), "{host}");
            assert!(check_endpoint_url(&url, true).is_ok(), "{host}");
        }
    }

    #[test]
    fn only_https_without_credentials_is_taken() {
        for url in ["https://erp.example/hook", "https://8.8.8.8:8443/", "https://[2606:4700::1]"] {
            assert!(check_endpoint_url(url, false).is_ok(), "{url}");
        }
        for (url, refusal) in [
            ("http://erp.example/", UrlRefusal::NotHttps),
            ("https://ada@erp.example/", UrlRefusal::Credentials),
            ("https://ada:secret@erp.example/", UrlRefusal::Credentials),
            ("https://:secret@erp.example/", UrlRefusal::Credentials),
            ("ftp://erp.example/", UrlRefusal::Invalid),
            ("file:///etc/passwd", UrlRefusal::Invalid),
            ("https://", UrlRefusal::Invalid),
            ("erp.example", UrlRefusal::Invalid),
            ("https://./", UrlRefusal::Invalid),
            ("", UrlRefusal::Invalid),
        ] {
            assert_eq!(check_endpoint_url(url, false), Err(refusal), "{url}");
        }
        assert_eq!(check_endpoint_url("http://a@b/", true), Err(UrlRefusal::Credentials));
    }
}
