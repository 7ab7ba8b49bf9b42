//! Networks: which peers are believed.
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An IP network in CIDR notation; a lone address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNet {
    address: IpAddr,
    prefix: u32,
}

/// The text is not an IP address or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address or network")]
pub struct IpNetError;

impl IpNet {
    /// Whether the address lies in this network. An IPv4 address that arrived as IPv6
    /// (`::ffff:10.0.0.1`, as on a dual-stack listener) counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (differing, width) = match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u128::from(own.to_bits() ^ other.to_bits()), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits() ^ other.to_bits(), 128),
            _ => return false,
        };
        // A prefix of 0 shifts out everything, which `>>` cannot do for 128 bits.
        let host_bits = width - self.prefix;
        differing.checked_shr(host_bits).unwrap_or(0) == 0
    }
}

const fn address_bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for IpNet {
    type Err = IpNetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| IpNetError)?;
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().map_err(|_| IpNetError)?
            }
            Some(_) => return Err(IpNetError),
            None => address_bits(written),
        };
        if prefix > address_bits(written) {
            return Err(IpNetError);
        }
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8, since `contains` looks at canonical addresses.
        let address = written.to_canonical();
        let dropped = address_bits(written) - address_bits(address);
        let prefix = prefix.checked_sub(dropped).ok_or(IpNetError)?;
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == address_bits(self.address) {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(net: &str, address: &str) -> bool {
        net.parse::<IpNet>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_its_addresses() {
        for (net, inside, outside) in [
            ("10.0.0.7", "10.0.0.7", "10.0.0.8"),
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.2.3/8", "10.9.9.9", "9.255.255.255"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.1.1.1", "::ffff:11.1.1.1"),
            ("::ffff:10.0.0.0/104", "10.1.1.1", "11.1.1.1"),
        ] {
            assert!(contains(net, inside), "{net} {inside}");
            assert!(!contains(net, outside), "{net} {outside}");
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
            assert_eq!(text.parse::<IpNet>(), Err(IpNetError), "{text}");
        }
    }

    #[test]
    fn network_round_trips_as_text() {
        for text in ["10.0.0.7", "10.0.0.0/8", "::1", "2001:db8::/32", "0.0.0.0/0"] {
            assert_eq!(text.parse::<IpNet>().unwrap().to_string(), text);
        }
    }
}
