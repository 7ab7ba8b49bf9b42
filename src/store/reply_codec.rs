//! The stored form of replies. A reply can be as large as a full cart, and each is kept for a day
//! (see [`IDEMPOTENCY_KEY_TTL`](super::retention::IDEMPOTENCY_KEY_TTL)), so larger ones are
//! compressed.

use std::{borrow::Cow, cell::RefCell};

use bytes::Bytes;
use zstd::bulk::Compressor;

/// The bodies that are compressed. Smaller ones gain little: compressing an order of one line would
/// take a tenth of the instructions of its whole checkout.
const MIN_COMPRESSED_BYTES: usize = 1024;

/// The fastest level that zstd calls a regular one. Higher levels gain little on a cart.
const LEVEL: i32 = 1;

/// The first bytes of a zstd frame (RFC 8878, section 3.1.1). No JSON text begins with them, so a
/// body needs no other mark.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The stored form of `body`.
pub(super) fn encode(body: &[u8]) -> Cow<'_, [u8]> {
    if body.len() < MIN_COMPRESSED_BYTES {
        return Cow::Borrowed(body);
    }
    match compress(body) {
        Ok(compressed) if compressed.len() < body.len() => Cow::Owned(compressed),
        _ => Cow::Borrowed(body),
    }
}

/// Compresses with the tables of the last call: to make new ones for a few kilobytes takes as long
/// as to compress those.
fn compress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    thread_local! {
        static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|kept| match kept {
        Some(compressor) => compressor.compress(body),
        None => kept.insert(Compressor::new(LEVEL)?).compress(body),
    })
}

/// The body of a stored reply.
///
/// # Errors
/// The stored form is damaged.
pub(super) fn decode(stored: Vec<u8>) -> std::io::Result<Bytes> {
    if stored.starts_with(&MAGIC) {
        zstd::stream::decode_all(stored.as_slice()).map(Bytes::from)
    } else {
        Ok(Bytes::from(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_survive_and_large_ones_shrink() {
        let line = r#"{"product_id":"0196e0c0-0000-7000-8000-00000000000N","name":"A mug"},"#;
        let cart: String =
            (0..200).map(|number: u32| line.replace('N', &format!("{number:x}"))).collect();
        for body in ["".as_bytes(), b"{}", cart.as_bytes(), &[0xff; 2000]] {
            let stored = encode(body).into_owned();
            assert_eq!(decode(stored).unwrap(), body);
        }
        assert!(encode(cart.as_bytes()).len() * 5 < cart.len());
    }

    #[test]
    fn damaged_reply_is_an_error() {
        let mut stored = encode(&[b'x'; 10_000]).into_owned();
        stored.truncate(stored.len() - 3);
        assert!(decode(stored).is_err());
    }
}
