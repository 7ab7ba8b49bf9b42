//! Finds the address of a client behind trusted proxies.

use std::net::{IpAddr, SocketAddr};

/// Returns the client's address: the nearest one that is not a trusted proxy. If all are proxies,
/// or the list cannot be parsed further, returns the farthest known address.
///
/// `forwarded` are the values of `X-Forwarded-For`, each with the addresses of one or more hops.
pub(crate) fn find_client_address<'a>(
    peer: IpAddr,
    forwarded: impl Iterator<Item = &'a str>,
    is_trusted_proxy: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    if !is_trusted_proxy(peer) {
        return peer;
    }
    let hops: Vec<&str> = forwarded.flat_map(|list| list.split(',')).map(str::trim).collect();
    // Each proxy appends the address of its peer. Entries before the nearest untrusted address can
    // be forged.
    let mut nearest = peer;
    for hop in hops.into_iter().rev() {
        let Some(address) = parse_hop_address(hop) else { break };
        nearest = address;
        if !is_trusted_proxy(address) {
            break;
        }
    }
    nearest
}

/// Parses the address of a hop, with or without a port.
fn parse_hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_address_that_is_no_proxy_is_the_client() {
        let find = |peer: &str, lists: &[&str]| {
            let is_proxy = |address: IpAddr| address.to_string().starts_with("10.");
            let found = find_client_address(peer.parse().unwrap(), lists.iter().copied(), is_proxy);
            found.to_string()
        };
        assert_eq!(find("192.0.2.1", &["192.0.2.9"]), "192.0.2.1", "a client can send anything");
        assert_eq!(find("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(find("10.0.0.1", &["192.0.2.8, 192.0.2.9, 10.0.0.2"]), "192.0.2.9");
        assert_eq!(find("10.0.0.1", &["192.0.2.8", "192.0.2.9:4711"]), "192.0.2.9");
        assert_eq!(find("10.0.0.1", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(find("10.0.0.1", &["192.0.2.9, unknown, 10.0.0.2"]), "10.0.0.2");
    }
}
