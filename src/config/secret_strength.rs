//! Whether a secret is evidently weak, and whether other users of the machine can read a file.
use std::path::Path;

/// The fewest bytes of a secret.
pub(super) const MIN_SECRET_BYTES: usize = 32;

/// Of 32 random hexadecimal digits, 7 or fewer are different once in 25 million times; with other
/// alphabets it happens even less often.
const MIN_DIFFERENT_BYTES: usize = 8;

/// Why a secret is evidently weak, as the end of a sentence about it. This finds placeholders and
/// typing patterns; it cannot tell whether a secret is random.
#[must_use]
pub fn secret_weakness(secret: &str) -> Option<String> {
    let bytes = secret.as_bytes();
    if bytes.len() < MIN_SECRET_BYTES {
        let length = bytes.len();
        return Some(format!("has {length} bytes; use at least {MIN_SECRET_BYTES} random bytes"));
    }
    let mut different = bytes.to_vec();
    different.sort_unstable();
    different.dedup();
    let different = different.len();
    if different < MIN_DIFFERENT_BYTES {
        let kinds =
            if different == 1 { "one byte".to_owned() } else { format!("{different} bytes") };
        return Some(format!(
            "is easy to guess: it consists of {kinds}, repeated; \
             use at least {MIN_SECRET_BYTES} random bytes"
        ));
    }
    if let Some(period) = shortest_period(bytes).filter(|period| *period < MIN_SECRET_BYTES) {
        return Some(format!(
            "is easy to guess: it repeats the same {period} bytes; \
             use at least {MIN_SECRET_BYTES} random bytes"
        ));
    }
    let steps = bytes.iter().zip(bytes.iter().skip(1));
    if steps.filter(|(a, b)| a.abs_diff(**b) == 1).count() * 2 > bytes.len() {
        return Some(format!(
            "is easy to guess: it is a sequence; use at least {MIN_SECRET_BYTES} random bytes"
        ));
    }
    None
}

/// The length of the shortest text that `bytes` repeats at least twice, the last time perhaps in
/// part.
fn shortest_period(bytes: &[u8]) -> Option<usize> {
    (1..=bytes.len() / 2)
        .find(|period| bytes.iter().zip(bytes.iter().skip(*period)).all(|(a, b)| a == b))
}

/// Warns if users other than the owner and its group can read or change `file`.
///
/// It is not refused: Kubernetes and Docker mount secrets readable for everybody in a container, in
/// which there is nobody else.
#[must_use]
pub fn readable_file_warning(name: &str, file: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    // A file that cannot be read is reported by whoever reads it.
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o006 != 0).then(|| {
        format!(
            "{name}: any user of this machine can read or change {file}; run chmod 600 {file}",
            file = file.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_secrets_are_found() {
        for (secret, reason) in [
            ("hush".to_owned(), "has 4 bytes"),
            ("s".repeat(64), "consists of one byte"),
            ("0".repeat(32), "consists of one byte"),
            ("abcabab".repeat(6), "consists of 3 bytes"),
            ("change-me-".repeat(4), "repeats the same 10 bytes"),
            ("0123456789abcdef".repeat(2), "repeats the same 16 bytes"),
            ("abcdefghijklmnopqrstuvwxyz0123456789".to_owned(), "is a sequence"),
        ] {
            let weakness = secret_weakness(&secret).unwrap_or_default();
            assert!(weakness.contains(reason), "{secret}: {weakness}");
            assert!(!weakness.contains(&secret), "{weakness}");
        }
    }

    #[test]
    fn random_and_long_secrets_pass() {
        for secret in [
            // openssl rand -hex 16, openssl rand -base64 32, a passphrase, and 32 digits.
            "9f86d081884c7d659a2feaa0c55ad015",
            "qL0Yz8o3b5Jm1XkU7eWn2RtVc9AsDfGh4PiTyKlMxZw=",
            "a secret that is only used in tests",
            "31415926535897932384626433832795",
        ] {
            assert_eq!(secret_weakness(secret), None, "{secret}");
        }
    }
}
