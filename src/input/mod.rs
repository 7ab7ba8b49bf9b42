//! Strict parsing of input from clients: JSON bodies, product files, and what comes beside them.

pub(crate) mod attributes;
mod csv_row;
mod csv_splitter;
mod duplicates;
pub(crate) mod fingerprint;
pub(crate) mod idempotency_key;
pub mod json;
mod line_splitter;
pub mod product_file;
pub mod product_patch;
pub(crate) mod request_id;
pub(crate) mod search_text;
