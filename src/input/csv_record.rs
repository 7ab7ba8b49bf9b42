//! CSV records: where they end, and how their fields become an import row.
//!
//! The product file reader splits CSV into records itself and leaves only the fields of a record to
//! the `csv` crate. `csv::Reader` pulls from a blocking reader and buffers a record of any length,
//! while the product file reader takes chunks as they arrive and skips a record that is too long
//! without keeping it. The incremental `csv_core` treats the end of the file as the end of a quoted
//! field, so a quote that is never closed would silently swallow the rest of the file.

use serde_json::{Value, value::RawValue};

use super::product_patch::parse_import_row;
use crate::{
    domain::{excerpt::excerpt, money::Currency},
    error::Error,
    messages::catalog::ImportRow,
};

const KNOWN_COLUMNS: &[&str] = &[
    "name",
    "description",
    "price",
    "stock",
    "sku",
    "category",
    "tags",
    "image_url",
    "attributes",
    "purchase_limit",
];

/// The state between two bytes of a CSV file (RFC 4180, section 2). A quote opens a quoted field
/// only at the field's start, and a doubled quote stands for one within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuoteState {
    /// Before the first byte of a field.
    FieldStart,
    /// Within a field that is not quoted.
    Unquoted,
    /// Within a quoted field.
    Quoted,
    /// After a quote that ends the quoted field or is the first of a doubled one.
    AfterQuote,
}

impl QuoteState {
    pub(super) const fn next_state(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::FieldStart | Self::AfterQuote, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::AfterQuote,
            (Self::Quoted, _) => Self::Quoted,
            (_, b',' | b'\n') => Self::FieldStart,
            _ => Self::Unquoted,
        }
    }
}

pub(super) fn parse_csv_fields(record: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(record);
    let mut records = reader.records();
    let fields = records
        .next()
        .transpose()
        .map_err(|_| Error::invalid_field("line", "invalid", "the line is not UTF-8 text"))?;
    if records.next().is_some() {
        return Err(Error::invalid_field(
            "line",
            "invalid",
            "lines must end with LF or CRLF, not with CR alone",
        ));
    }
    Ok(fields.iter().flatten().map(str::to_owned).collect())
}

pub(super) fn validate_csv_header(fields: Vec<String>) -> Result<Vec<String>, Error> {
    let has = |name: &str| fields.iter().any(|field| field == name);
    let unknown = fields.iter().any(|name| !KNOWN_COLUMNS.contains(&name.as_str()));
    if unknown || !(has("sku") || has("name") && has("price")) {
        let message = format!(
            "line 1 must contain sku, or name and price, and only these columns: {}",
            KNOWN_COLUMNS.join(", ")
        );
        return Err(Error::invalid_field("header", "invalid", message));
    }
    Ok(fields)
}

/// Converts a record to the JSON object of an NDJSON import. An empty field clears the value, but
/// an empty stock or purchase limit leaves it unchanged.
pub(super) fn parse_csv_row(
    header: &[String],
    fields: Vec<String>,
    currency: Currency,
) -> Result<ImportRow, Error> {
    if fields.len() != header.len() {
        let message =
            format!("the line has {} fields; the header has {}", fields.len(), header.len());
        return Err(Error::invalid_field("line", "invalid", message));
    }
    let mut members = Vec::new();
    for (name, text) in header.iter().zip(fields) {
        let value = match name.as_str() {
            "stock" | "purchase_limit" if text.is_empty() => continue,
            "description" => Value::from(text).to_string(),
            _ if text.is_empty() => "null".to_owned(),
            // These are JSON already. Raw text keeps every digit of a price.
            "price" | "stock" | "purchase_limit" | "attributes" => {
                parse_raw_json(name, text)?.get().to_owned()
            }
            "tags" => Value::from(text.split('|').map(str::trim).collect::<Vec<_>>()).to_string(),
            _ => Value::from(text).to_string(),
        };
        members.push(format!("\"{name}\":{value}"));
    }
    parse_import_row(format!("{{{}}}", members.join(",")).as_bytes(), currency)
}

fn parse_raw_json(name: &str, text: String) -> Result<Box<RawValue>, Error> {
    let expected = if name == "attributes" { "valid JSON" } else { "a number" };
    RawValue::from_string(text.trim().to_owned()).map_err(|_| {
        let message = format!("{name} is not {expected}: {}", excerpt(&text));
        Error::invalid_field(name, "invalid", message)
    })
}
