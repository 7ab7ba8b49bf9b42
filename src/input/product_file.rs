//! Reading imports piece by piece: NDJSON or CSV in any portions, out come lines with their numbers.

use serde_json::{Value, value::RawValue};

pub(crate) use super::product_patch::parse_import_row;
use crate::{
    domain::money::Currency,
    error::{Error, ErrorCode},
    messages::catalog::ImportRow,
};

/// The form of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProductFileFormat {
    /// A JSON object a line.
    Ndjson,
    /// RFC 4180, line 1 the header.
    Csv,
}

/// A line as read: its number, its own bytes, and what it says.
pub struct ProductFileLine {
    /// Its number in the file, from 1. A CSV record that spans lines has the number of its first.
    pub number: u64,
    /// Its bytes, which tell it from other lines.
    pub bytes: Vec<u8>,
    /// What it says, or what is wrong with it.
    pub row: Result<ImportRow, Error>,
}

/// Takes portions of a file and gives the lines that are complete.
pub struct ProductFileReader {
    format: ProductFileFormat,
    currency: Currency,
    max_line_bytes: usize,
    buffer: Vec<u8>,
    /// How much of the buffer was looked at already, and where that ends.
    scanned: usize,
    quotes: QuoteState,
    /// A line that is too long is skipped to its end.
    skipping: bool,
    number: u64,
    header: Option<Vec<String>>,
}

impl ProductFileReader {
    /// A reader for a file in `format`, with lines of at most `max_line_bytes` bytes.
    #[must_use]
    pub const fn new(format: ProductFileFormat, currency: Currency, max_line_bytes: usize) -> Self {
        Self {
            format,
            currency,
            max_line_bytes,
            buffer: Vec::new(),
            scanned: 0,
            quotes: QuoteState::FieldStart,
            skipping: false,
            number: 1,
            header: None,
        }
    }

    /// Takes the next portion.
    ///
    /// # Errors
    /// The CSV header is not one.
    pub fn push_chunk(&mut self, portion: &[u8]) -> Result<Vec<ProductFileLine>, Error> {
        self.buffer.extend_from_slice(portion);
        let (mut lines, mut start) = (Vec::new(), 0);
        while let Some(end) = self.find_line_end() {
            let record = self.buffer.get(start..=end).unwrap_or_default().to_vec();
            start = end + 1;
            lines.extend(self.parse_line(record)?);
        }
        self.buffer.drain(..start);
        self.scanned -= start;
        if self.buffer.len() > self.max_line_bytes && !self.skipping {
            self.skipping = true;
            lines.push(self.line_too_long());
        }
        if self.skipping {
            // Of a line that is thrown away only the line breaks matter, for the numbers that follow.
            let breaks = self.buffer.iter().filter(|byte| **byte == b'\n').count();
            self.number += breaks as u64;
            self.buffer.clear();
            self.scanned = 0;
        }
        Ok(lines)
    }

    /// The last line, when the file does not end with a line break.
    ///
    /// # Errors
    /// The CSV header is not one.
    pub fn finish(&mut self) -> Result<Option<ProductFileLine>, Error> {
        let rest = std::mem::take(&mut self.buffer);
        if self.quotes == QuoteState::Quoted {
            let open = |place| {
                Error::invalid_field(place, "invalid", "a quote is opened here and never closed")
            };
            return match self.header {
                None => Err(open("header")),
                Some(_) => Ok(Some(ProductFileLine {
                    number: self.number,
                    bytes: rest,
                    row: Err(open("line")),
                })),
            };
        }
        if rest.is_empty() { Ok(None) } else { self.parse_line(rest) }
    }

    /// The names of a CSV file's columns, once they were read.
    #[must_use]
    pub fn header(&self) -> &[String] {
        self.header.as_deref().unwrap_or_default()
    }

    /// Where the next line ends. In CSV a line break between quotes is part of a field.
    fn find_line_end(&mut self) -> Option<usize> {
        for (index, byte) in self.buffer.iter().enumerate().skip(self.scanned) {
            if self.format == ProductFileFormat::Csv {
                self.quotes = self.quotes.next_state(*byte);
            }
            if *byte == b'\n' && self.quotes != QuoteState::Quoted {
                self.scanned = index + 1;
                return Some(index);
            }
        }
        self.scanned = self.buffer.len();
        None
    }

    fn parse_line(&mut self, record: Vec<u8>) -> Result<Option<ProductFileLine>, Error> {
        let number = self.number;
        self.number += record.iter().filter(|byte| **byte == b'\n').count() as u64;
        if std::mem::take(&mut self.skipping) || record.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if record.len() > self.max_line_bytes {
            return Ok(Some(ProductFileLine { number, ..self.line_too_long() }));
        }
        // Some programs put a byte order mark before everything.
        let text = record.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&record);
        let row = match (self.format, &self.header) {
            (ProductFileFormat::Ndjson, _) => parse_import_row(text, self.currency),
            (ProductFileFormat::Csv, Some(header)) => parse_csv_fields(text)
                .and_then(|fields| parse_csv_row(header, fields, self.currency)),
            (ProductFileFormat::Csv, None) => {
                self.header = Some(validate_csv_header(parse_csv_fields(text)?)?);
                return Ok(None);
            }
        };
        Ok(Some(ProductFileLine { number, bytes: record, row }))
    }

    fn line_too_long(&self) -> ProductFileLine {
        let error = Error::new(
            ErrorCode::PayloadTooLarge,
            format!("The line is longer than {} bytes, the most allowed.", self.max_line_bytes),
        );
        ProductFileLine { number: self.number, bytes: Vec::new(), row: Err(error) }
    }
}

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
];

/// Where in a CSV file a byte stands (RFC 4180, section 2): a quote opens a field only at its start, and one inside is doubled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuoteState {
    /// At the start of a field.
    FieldStart,
    /// In a field, outside quotes.
    Unquoted,
    /// Between quotes.
    Quoted,
    /// Behind a quote that ends a field, or is the first of two.
    AfterQuote,
}

impl QuoteState {
    const fn next_state(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::FieldStart | Self::AfterQuote, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::AfterQuote,
            (Self::Quoted, _) => Self::Quoted,
            (_, b',' | b'\n') => Self::FieldStart,
            _ => Self::Unquoted,
        }
    }
}

fn parse_csv_fields(record: &[u8]) -> Result<Vec<String>, Error> {
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
            "lines must end with LF or CR LF, not with CR alone",
        ));
    }
    Ok(fields.iter().flatten().map(str::to_owned).collect())
}

fn validate_csv_header(fields: Vec<String>) -> Result<Vec<String>, Error> {
    let has = |name: &str| fields.iter().any(|field| field == name);
    let unknown = fields.iter().any(|name| !KNOWN_COLUMNS.contains(&name.as_str()));
    if unknown || !(has("sku") || has("name") && has("price")) {
        let message = format!(
            "line 1 must name columns from {}; at least sku, or name and price",
            KNOWN_COLUMNS.join(", ")
        );
        return Err(Error::invalid_field("header", "invalid", message));
    }
    Ok(fields)
}

/// A record as the JSON object that it stands for. An empty field takes away what was said, and leaves stock as it is.
fn parse_csv_row(
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
            "stock" if text.is_empty() => continue,
            "description" => Value::from(text).to_string(),
            _ if text.is_empty() => "null".to_owned(),
            // Numbers and attributes are JSON already; as raw text a price keeps every digit.
            "price" | "stock" | "attributes" => parse_raw_json(name, text)?.get().to_owned(),
            "tags" => Value::from(text.split('|').map(str::trim).collect::<Vec<_>>()).to_string(),
            _ => Value::from(text).to_string(),
        };
        members.push(format!("\"{name}\":{value}"));
    }
    parse_import_row(format!("{{{}}}", members.join(",")).as_bytes(), currency)
}

fn parse_raw_json(name: &str, text: String) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(text.trim().to_owned()).map_err(|_| {
        Error::invalid_field(
            name,
            "invalid",
            format!("{name} is neither a number nor JSON: {text}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in_chunks(
        format: ProductFileFormat,
        text: &str,
        portion: usize,
    ) -> Vec<(u64, Result<ImportRow, Error>)> {
        let mut lines = ProductFileReader::new(format, "USD".parse().unwrap(), 200);
        let mut read = Vec::new();
        for portion in text.as_bytes().chunks(portion) {
            read.extend(lines.push_chunk(portion).unwrap());
        }
        read.extend(lines.finish().unwrap());
        read.into_iter().map(|line| (line.number, line.row)).collect()
    }

    #[test]
    fn ndjson_lines_survive_any_chunking() {
        let text = "{\"name\":\"A\",\"price\":1}\n\n  \n{\"name\":\"B\",\"price\":2.5,\"stock\":3}\r\nnope\n{\"cost\":1}\n{\"name\":\"D\",\"price\":4}";
        for portion in [1, 2, 7, 1000] {
            let lines = read_in_chunks(ProductFileFormat::Ndjson, text, portion);
            assert_eq!(
                lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
                [1, 4, 5, 6, 7]
            );
            let codes: Vec<_> =
                lines.iter().map(|(_, row)| row.as_ref().err().map(|error| error.code)).collect();
            assert_eq!(
                codes,
                [
                    None,
                    None,
                    Some(ErrorCode::MalformedJson),
                    Some(ErrorCode::ValidationFailed),
                    None
                ]
            );
            assert_eq!(lines[1].1.as_ref().unwrap().stock, Some(3));
        }
    }

    #[test]
    fn csv_fields_may_contain_commas_quotes_and_line_breaks() {
        let text = "\u{feff}sku,name,price,stock,tags,attributes,description\r\n\
                    A-1,\"Tea, \"\"green\"\"\",4.50,7,green|loose,\"{\"\"organic\"\":true}\",\"two\nlines\"\n\
                    A-2,Cup,9.999,,,,\n\
                    A-3,Pot,12,1,x,{},\n";
        for portion in [1, 3, 1000] {
            let lines = read_in_chunks(ProductFileFormat::Csv, text, portion);
            assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 4, 5]);
            let row = lines[0].1.clone().unwrap();
            let tea = row.patch.into_details().unwrap();
            assert_eq!(
                (tea.name.as_str(), tea.price.minor_units(), row.stock),
                ("Tea, \"green\"", 450, Some(7))
            );
            assert_eq!((tea.tags.len(), tea.description.as_str()), (2, "two\nlines"));
            assert!(tea.attributes.contains_key("organic"));
            assert_eq!(lines[1].1.as_ref().unwrap_err().field_errors[0].field, "price");
            assert!(lines[2].1.is_ok());
        }
    }

    #[test]
    fn overlong_line_fails_alone() {
        let text = format!(
            "{{\"name\":\"{}\",\"price\":1}}\n{{\"name\":\"B\",\"price\":2}}\n",
            "x".repeat(1000)
        );
        for portion in [10, 100_000] {
            let lines = read_in_chunks(ProductFileFormat::Ndjson, &text, portion);
            assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
            assert_eq!(lines[0].1.as_ref().unwrap_err().code, ErrorCode::PayloadTooLarge);
            assert!(lines[1].1.is_ok());
        }
    }

    #[test]
    fn unknown_header_column_is_rejected() {
        let mut lines = ProductFileReader::new(ProductFileFormat::Csv, "USD".parse().unwrap(), 200);
        assert!(lines.push_chunk(b"name,prize\n").is_err());
    }

    #[test]
    fn quote_inside_unquoted_field_is_literal() {
        let lines = read_in_chunks(
            ProductFileFormat::Csv,
            "sku,name,price\nA,Monitor 27\",100\nB,\"Cup \"\"big\"\"\",5\n",
            1,
        );
        let names: Vec<_> =
            lines.into_iter().map(|(_, row)| row.unwrap().patch.name.flatten().unwrap()).collect();
        assert_eq!(names, ["Monitor 27\"", "Cup \"big\""]);
    }

    #[test]
    fn unsplittable_csv_reports_line_error() {
        let fault = |text: &str| {
            read_in_chunks(ProductFileFormat::Csv, text, 100)
                .pop()
                .unwrap()
                .1
                .unwrap_err()
                .field_errors[0]
                .field
                .clone()
        };
        assert_eq!(fault("sku,name,price\nA,\"never closed,1\nB,Cup,5\n"), "line");
        assert_eq!(fault("sku,name,price\nD,Monitor,100\rE,Cup,5\n"), "line");
        let mut lines = ProductFileReader::new(ProductFileFormat::Csv, "USD".parse().unwrap(), 200);
        let read = lines.push_chunk(b"sku,name,price\nF,ok,1\nG,caf\xe9,100\nH,Cup,5\n").unwrap();
        assert_eq!(
            read.iter().map(|line| line.row.is_ok()).collect::<Vec<_>>(),
            [true, false, true]
        );
    }

    #[test]
    fn byte_order_mark_is_stripped() {
        assert!(
            read_in_chunks(ProductFileFormat::Ndjson, "\u{feff}{\"name\":\"A\",\"price\":1}\n", 1)
                [0]
            .1
            .is_ok()
        );
    }

    #[test]
    fn missing_columns_keep_values_and_empty_fields_clear_them() {
        let row = read_in_chunks(ProductFileFormat::Csv, "sku,price,category,stock\nA,2,,\n", 100)
            .pop()
            .unwrap()
            .1
            .unwrap();
        assert_eq!((row.sku(), row.stock), (Some("A"), None));
        assert_eq!((row.patch.name, row.patch.category), (None, Some(None)));
    }

    #[test]
    fn field_count_mismatch_is_rejected() {
        let lines = read_in_chunks(ProductFileFormat::Csv, "name,price\na,1,2\n", 100);
        assert_eq!(lines[0].1.as_ref().unwrap_err().field_errors[0].field, "line");
    }
}
