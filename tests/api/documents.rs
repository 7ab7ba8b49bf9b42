//! The documents that the program contains are those that follow from the code.

use std::{env, fs};

use souk::{broker::asyncapi, http};

/// Compares a file with what the code says, or writes it if asked to.
#[track_caller]
fn check_document(name: &str, made: String, contained: &str) {
    let made = made + "\n";
    if env::var_os("SOUK_TEST_WRITE_DOCUMENTS").is_some() {
        fs::write(format!("assets/api/{name}"), made).unwrap();
        return;
    }
    let first = made.lines().zip(contained.lines()).find(|(made, contained)| made != contained);
    assert!(
        made == contained,
        "assets/api/{name} is out of date: {first:?}. Run \
         `SOUK_TEST_WRITE_DOCUMENTS=1 cargo test --test api documents_are_current`"
    );
}

#[test]
fn documents_are_current() {
    let made = http::openapi_document().to_pretty_json().unwrap();
    check_document("openapi.json", made, &http::openapi_json().unwrap());
    let made = serde_json::to_string_pretty(&asyncapi::build_document()).unwrap();
    check_document("asyncapi.json", made, &http::asyncapi_json().unwrap());
}
