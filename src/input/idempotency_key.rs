//! Idempotency keys, as clients send them over any transport.

use crate::error::{Error, ErrorCode};

/// Checks a key: 1 to 255 visible ASCII characters.
///
/// # Errors
/// `idempotency_key_invalid`
pub(crate) fn parse_idempotency_key(key: &[u8]) -> Result<Box<str>, Error> {
    let is_valid = (1..=255).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(key) {
        Ok(text) if is_valid => Ok(text.into()),
        _ => Err(Error::new(
            ErrorCode::IdempotencyKeyInvalid,
            "Send one Idempotency-Key of 1 to 255 visible ASCII characters.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_short_and_visible() {
        assert_eq!(&*parse_idempotency_key(b"delivery-17!").unwrap(), "delivery-17!");
        for bad in [b"".as_slice(), b"a b", "é".as_bytes(), b"\x07", &[b'k'; 256]] {
            let error = parse_idempotency_key(bad).unwrap_err();
            assert_eq!(error.code, ErrorCode::IdempotencyKeyInvalid);
        }
    }
}
