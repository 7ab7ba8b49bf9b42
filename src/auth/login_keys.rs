//! The keys that failed logins are counted under.

use std::net::IpAddr;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::derived_mac::derive_mac;
use crate::domain::account::{Email, client_network, login_failures::LoginKey};

/// The purpose of the MAC's key.
const LABEL: &[u8] = b"souk login counter\0";

/// The keys of one account or network. Failures count under both, so that nodes that have the
/// secrets in either order count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DerivedKeys {
    /// Under the first secret, for what is stored from now on.
    pub(crate) first: LoginKey,
    second: Option<LoginKey>,
}

/// Derives the keys of accounts and networks. All nodes must share the secrets. Without the secret
/// of the last start, its counts and known networks are forgotten.
#[derive(Clone)]
pub struct LoginKeys {
    mac: Hmac<Sha256>,
    /// Derives the keys of what is stored already, while the secret is rotated.
    second_mac: Option<Hmac<Sha256>>,
}

impl LoginKeys {
    /// Derives the MAC key from `secret`, so that the secret can have other uses, too.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { mac: derive_mac(LABEL, secret), second_mac: None }
    }

    /// Also knows what was stored under another secret.
    #[must_use]
    pub fn accepting_second(mut self, secret: Option<&[u8]>) -> Self {
        self.second_mac = secret.map(|secret| derive_mac(LABEL, secret));
        self
    }

    /// The keys of an account, which need not exist.
    pub(crate) fn for_account(&self, email: &Email) -> DerivedKeys {
        self.derive(b"account\0", email.as_str(), None)
    }

    /// The keys of the network of an address.
    pub(crate) fn for_network(&self, address: IpAddr) -> DerivedKeys {
        self.derive(b"network\0", "", Some(address))
    }

    /// The keys of an account together with the network of an address.
    pub(crate) fn for_pair(&self, email: &Email, address: IpAddr) -> DerivedKeys {
        self.derive(b"pair\0", email.as_str(), Some(address))
    }

    fn derive(&self, kind: &[u8], email: &str, address: Option<IpAddr>) -> DerivedKeys {
        let derive_one = |mac: &Hmac<Sha256>| {
            let mut mac = mac.clone().chain_update(kind).chain_update(email).chain_update(b"\0");
            match address.map(client_network) {
                Some(IpAddr::V4(v4)) => mac.update(&v4.octets()),
                Some(IpAddr::V6(v6)) => mac.update(&v6.octets()),
                None => {}
            }
            let mut key = [0; 16];
            key.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(place, byte)| *place = byte);
            LoginKey::from_bytes(key)
        };
        DerivedKeys {
            first: derive_one(&self.mac),
            second: self.second_mac.as_ref().map(derive_one),
        }
    }
}

impl DerivedKeys {
    /// The key under the first secret, and that under the second if there is one.
    pub(crate) fn iter(self) -> impl Iterator<Item = LoginKey> {
        [Some(self.first), self.second].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_kind_account_network_and_secret() {
        let keys = LoginKeys::new(b"a secret");
        let (ada, bob) =
            ["ada@example.com", "bob@example.com"].map(|text| Email::parse(text).unwrap()).into();
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let pair = keys.for_pair(&ada, address("2001:db8:0:aa00::1"));
        assert_eq!(pair, keys.for_pair(&ada, address("2001:db8:0:aaff::2")), "one /56");
        for other in [
            keys.for_pair(&ada, address("2001:db8:0:ab00::1")),
            keys.for_pair(&bob, address("2001:db8:0:aa00::1")),
            keys.for_account(&ada),
            keys.for_network(address("2001:db8:0:aa00::1")),
            LoginKeys::new(b"another secret").for_pair(&ada, address("2001:db8:0:aa00::1")),
        ] {
            assert_ne!(pair, other);
        }
    }

    #[test]
    fn nodes_with_the_secrets_in_either_order_share_keys() {
        let (old, new) = (&b"the old secret"[..], &b"the new secret"[..]);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let keys =
            |first, second| LoginKeys::new(first).accepting_second(second).for_network(address);
        let (before, after) = (keys(old, Some(new)), keys(new, Some(old)));
        assert_eq!((Some(before.first), before.second), (after.second, Some(after.first)));
        assert_eq!((keys(old, None).first, keys(new, None).first), (before.first, after.first));
    }
}
