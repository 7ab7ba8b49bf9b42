//! A password from standard input.

use std::io::Read;

use anyhow::{Context as _, bail};

/// More than any password, and less than any file that is given by mistake may fill.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads the password that `--password-stdin` announces: one line.
pub(super) fn read_password_from_stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .context("failed to read the password from standard input")?;
    parse_password(bytes)
}

fn parse_password(bytes: Vec<u8>) -> anyhow::Result<String> {
    const WANTED: &str = "--password-stdin needs the password there, and nothing else";
    let Ok(text) = String::from_utf8(bytes) else { bail!("standard input is not text; {WANTED}") };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("standard input is empty; {WANTED}");
    }
    match text.lines().count() {
        1 => Ok(text.to_owned()),
        lines => bail!("standard input has {lines} lines; {WANTED}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_one_line() {
        let parse = |text: &[u8]| parse_password(text.to_vec()).map_err(|error| error.to_string());
        assert_eq!(parse(b"a good password\r\n").as_deref(), Ok("a good password"));
        assert_eq!(parse(b" spaces stay ").as_deref(), Ok(" spaces stay "));
        for (wrong, said) in [
            (&b""[..], "is empty"),
            (b"\n\n", "is empty"),
            (b"PASSWORD=x\nPORT=1\n", "has 2 lines"),
            (b"\x7fELF\xff\xfe", "is not text"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(said) && error.ends_with("nothing else"), "{error}");
        }
    }
}
