//! Large files that the program contains compressed: scripts and styles of the pages, and the
//! documents that describe the API and the events.
//!
//! The documents follow from annotations, but the code that makes them would be 2 MB of the
//! program. So a test makes them, and holds the files to the code: `tests/api/documents.rs`.

use std::io::Read as _;

use flate2::bufread::GzDecoder;

use crate::error::Error;

/// The title that both documents have, in the form in which they have it once.
const TITLE: &str = r#""title": "Souk""#;

/// A file that the build script has compressed with gzip.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed(&'static [u8]);

macro_rules! packed {
    ($name:literal) => {
        Packed(include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".gz")))
    };
}

pub(super) const SWAGGER_UI_STYLE: Packed = packed!("swagger-ui.css");
pub(super) const SWAGGER_UI_SCRIPT: Packed = packed!("swagger-ui-bundle.js");
const OPENAPI: Packed = packed!("openapi.json");
const ASYNCAPI: Packed = packed!("asyncapi.json");

impl Packed {
    /// The compressed file.
    pub(super) const fn gzip(self) -> &'static [u8] {
        self.0
    }

    pub(super) fn unpack(self) -> Result<String, Error> {
        let mut text = String::new();
        GzDecoder::new(self.0).read_to_string(&mut text).map_err(|error| {
            tracing::error!(%error, "failed to unpack a file of the program");
            Error::internal()
        })?;
        Ok(text)
    }
}

/// The OpenAPI 3.1 document, as `assets/api/openapi.json` has it.
///
/// # Errors
/// The program is damaged.
pub fn openapi_json() -> Result<String, Error> {
    OPENAPI.unpack()
}

/// The AsyncAPI 3.0 document, as `assets/api/asyncapi.json` has it.
///
/// # Errors
/// The program is damaged.
pub fn asyncapi_json() -> Result<String, Error> {
    ASYNCAPI.unpack()
}

/// The document with another title.
pub(super) fn with_title(document: &str, title: &str) -> String {
    document.replacen(TITLE, &format!(r#""title": {}"#, serde_json::Value::from(title)), 1)
}
