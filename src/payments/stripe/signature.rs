//! The signatures of webhooks.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::domain::clock::Timestamp;

/// How old a signature may be.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// Whether `header` has a signature of `body` that is not older than [`TOLERANCE`].
pub(super) fn verify_signature(body: &[u8], header: &str, secret: &str, now: Timestamp) -> bool {
    let mut time = None;
    let mut signatures = Vec::new();
    for part in header.split(',') {
        match part.trim().split_once('=') {
            Some(("t", value)) => time = value.parse::<i64>().ok(),
            Some(("v1", value)) => signatures.push(value),
            _ => {}
        }
    }
    let Some(time) = time else { return false };
    let oldest = now.saturating_sub(TOLERANCE).as_secs();
    let newest = now.saturating_add(TOLERANCE).as_secs();
    if !(oldest..=newest).contains(&time) {
        return false;
    }
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    mac.update(time.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let expected = to_hex(&mac.finalize().into_bytes());
    signatures.iter().any(|signature| bool::from(signature.as_bytes().ct_eq(expected.as_bytes())))
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id": "evt_1"}"#;
    const SECRET: &str = "whsec_test";

    fn header(time: i64) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{time}.").as_bytes());
        mac.update(BODY);
        format!("t={time},v1={},v0=00", to_hex(&mac.finalize().into_bytes()))
    }

    #[test]
    fn signature_is_checked_with_its_time() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let seconds = now.as_secs();
        assert!(verify_signature(BODY, &header(seconds), SECRET, now));
        assert!(verify_signature(BODY, &header(seconds - 299), SECRET, now));
        assert!(!verify_signature(BODY, &header(seconds - 301), SECRET, now));
        assert!(!verify_signature(BODY, &header(seconds), "whsec_other", now));
        assert!(!verify_signature(b"{}", &header(seconds), SECRET, now));
        let moved = header(seconds).replace(&seconds.to_string(), &(seconds + 1).to_string());
        assert!(!verify_signature(BODY, &moved, SECRET, now));
        for wrong in ["", "t=1", "v1=00", "nonsense", "t=x,v1=00"] {
            assert!(!verify_signature(BODY, wrong, SECRET, now), "{wrong}");
        }
    }
}
