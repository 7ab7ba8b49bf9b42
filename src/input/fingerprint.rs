//! Request fingerprints, which distinguish a retry from a different request with the same key.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// 2^53: floats represent every integer up to this one exactly.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Hashes the method, the path and the JSON value of the body, regardless of its formatting.
pub(crate) fn request_fingerprint(method: &str, path: &str, body: &[u8]) -> [u8; 32] {
    // serde_json sorts object keys, so equal values serialize to equal text.
    let canonical =
        serde_json::from_slice::<Value>(body).map(|value| normalize_numbers(value).to_string());
    let mut hash = Sha256::new();
    for part in [method.as_bytes(), path.as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    match &canonical {
        Ok(text) => hash.update(text.as_bytes()),
        Err(_) => hash.update(body),
    }
    hash.finalize().into()
}

/// Writes each whole number without a fraction or an exponent: `20.0` and `2e1` are `20`.
fn normalize_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Above the limit, different integers can have the same float.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "whole, and within what both can hold"
            )]
            Some(float) if float.fract() == 0.0 && float.abs() < MAX_SAFE_INTEGER => {
                Value::from(float as i64)
            }
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(normalize_numbers).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, normalize_numbers(value))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_ignores_json_formatting() {
        let print = |body: &[u8]| request_fingerprint("POST", "/x", body);
        assert_eq!(print(br#"{"a":1,"b":[2]}"#), print(b"{ \"b\" : [2], \"a\":1}"));
        assert_eq!(print(br#"{"a":[20]}"#), print(br#"{"a":[2e1]}"#));
        assert_eq!(print(br#"{"a":-0.0,"b":20.10}"#), print(br#"{"a":0,"b":201e-1}"#));
        assert_ne!(print(br#"{"a":1}"#), print(br#"{"a":2}"#));
        assert_ne!(print(br#"{"a":9007199254740993}"#), print(br#"{"a":9007199254740992}"#));
        assert_ne!(print(b""), request_fingerprint("DELETE", "/x", b""));
        assert_ne!(print(b""), request_fingerprint("POST", "/y", b""));
    }
}
