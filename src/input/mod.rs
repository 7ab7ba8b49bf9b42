//! Strict parsing of input from clients: JSON bodies and product files.

pub(crate) mod attributes;
mod csv_record;
mod duplicates;
pub mod json;
pub mod product_file;
pub mod product_patch;
