//! Tests of the errors that clients get.

use std::collections::HashSet;

use super::*;

#[test]
fn error_code_strings_are_unique() {
    let codes: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), ErrorCode::ALL.len());
    assert!(codes.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
}

#[test]
fn every_error_code_has_a_title() {
    assert!(ErrorCode::ALL.iter().all(|code| !code.title().is_empty()));
}
