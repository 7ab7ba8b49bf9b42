//! The keys that failed logins are counted under.

use std::net::IpAddr;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::derived_mac::derive_mac;
use crate::domain::account::{Email, client_network, login_failures::LoginKey};

/// Derives the keys of accounts and networks. All nodes must share one secret. With another secret,
/// the counts and the known networks of the last one are forgotten.
#[derive(Clone)]
pub struct LoginKeys {
    mac: Hmac<Sha256>,
}

impl LoginKeys {
    /// Derives the MAC key from `secret`, so that the secret can have other uses, too.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self { mac: derive_mac(b"souk login counter\0", secret) }
    }

    /// The key of an account, which need not exist.
    pub(crate) fn for_account(&self, email: &Email) -> LoginKey {
        self.derive(b"account\0", email.as_str(), None)
    }

    /// The key of the network of an address.
    pub(crate) fn for_network(&self, address: IpAddr) -> LoginKey {
        self.derive(b"network\0", "", Some(address))
    }

    /// The key of an account together with the network of an address.
    pub(crate) fn for_pair(&self, email: &Email, address: IpAddr) -> LoginKey {
        self.derive(b"pair\0", email.as_str(), Some(address))
    }

    fn derive(&self, kind: &[u8], email: &str, address: Option<IpAddr>) -> LoginKey {
        let mut mac = self.mac.clone().chain_update(kind).chain_update(email).chain_update(b"\0");
        match address.map(client_network) {
            Some(IpAddr::V4(v4)) => mac.update(&v4.octets()),
            Some(IpAddr::V6(v6)) => mac.update(&v6.octets()),
            None => {}
        }
        let mut key = [0; 16];
        key.iter_mut().zip(mac.finalize().into_bytes()).for_each(|(place, byte)| *place = byte);
        LoginKey::from_bytes(key)
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
}
