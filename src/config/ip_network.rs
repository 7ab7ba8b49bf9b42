//! Parsing of `http.trusted_proxies`.
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Parses an IP address or a network in CIDR notation. A single address is a network of one.
///
/// An IPv4-mapped network becomes an IPv4 network (`::ffff:10.0.0.0/104` is `10.0.0.0/8`), since
/// peers are compared by their canonical addresses. One that is larger than all IPv4 addresses has
/// no such form and is `None`.
pub(super) fn parse_network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().ok()?,
    };
    match network {
        IpNet::V6(v6) if let Some(address) = v6.addr().to_ipv4_mapped() => {
            let prefix_length = v6.prefix_len().checked_sub(96)?;
            Ipv4Net::new(address, prefix_length).ok().map(IpNet::V4)
        }
        network => Some(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_parsed() {
        for (text, network) in [
            ("10.0.0.7", "10.0.0.7/32"),
            ("::1", "::1/128"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:10.0.0.7", "10.0.0.7/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(parse_network(text).unwrap().to_string(), network, "{text}");
        }
    }

    #[test]
    fn host_bits_do_not_matter() {
        let network = parse_network("10.1.2.3/8").unwrap();
        for (address, inside) in [("10.9.9.9", true), ("9.255.255.255", false), ("::1", false)] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(network.contains(&address), inside, "{address}");
        }
    }

    #[test]
    fn invalid_network_is_rejected() {
        for text in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0/8",
            "proxy",
            "10.0.0.0/8/8",
            "::ffff:10.0.0.0/90",
        ] {
            assert_eq!(parse_network(text), None, "{text}");
        }
    }
}
