//! Message authentication codes with keys that are derived from a secret.

use hmac::{Hmac, KeyInit, digest::Key};
use sha2::{Digest, Sha256};

/// The key that `secret` has for messages between the nodes of a cluster.
#[must_use]
pub fn derive_cluster_key(secret: &[u8]) -> [u8; 32] {
    Sha256::new_with_prefix(b"souk cluster\0").chain_update(secret).finalize().into()
}

/// An HMAC-SHA256 with the key that `secret` has for the purpose `label`, so that one secret can
/// have several uses.
pub(super) fn derive_mac(label: &[u8], secret: &[u8]) -> Hmac<Sha256> {
    let derived = Sha256::new_with_prefix(label).chain_update(secret).finalize();
    let mut key = Key::<Hmac<Sha256>>::default();
    key.iter_mut().zip(derived).for_each(|(place, byte)| *place = byte);
    Hmac::new(&key)
}
