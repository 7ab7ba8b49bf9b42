//! Strict parsing of input from clients: JSON bodies and product files.

pub(crate) mod attributes;
mod csv_row;
mod csv_splitter;
mod duplicates;
pub mod json;
mod line_splitter;
pub mod product_file;
pub mod product_patch;
