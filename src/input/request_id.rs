//! Request ids, as clients send them over any transport.

use crate::domain::ids::EventId;

/// Whether a client may name its request like this: 1 to 128 letters, digits, dots, dashes and
/// underscores.
pub(crate) fn is_valid_request_id(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The id of a request whose client sent none.
pub(crate) fn new_request_id() -> String {
    EventId::new().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_are_taken() {
        assert!(is_valid_request_id(b"a.B_9-") && is_valid_request_id(new_request_id().as_bytes()));
        assert!(!is_valid_request_id(b"") && !is_valid_request_id(b"a b"));
        assert!(!is_valid_request_id("é".as_bytes()) && !is_valid_request_id(&[b'a'; 129]));
    }
}
