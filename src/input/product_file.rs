//! A streaming reader of product files, NDJSON or CSV: it takes chunks of any size and returns
//! numbered lines.

use super::csv_record::{QuoteState, parse_csv_fields, parse_csv_row, validate_csv_header};
pub(crate) use super::product_patch::parse_import_row;
use crate::{
    domain::money::Currency,
    error::{Error, ErrorCode},
    messages::catalog::ImportRow,
};

/// The format of a product file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProductFileFormat {
    /// One JSON object per line.
    Ndjson,
    /// RFC 4180; line 1 is the header.
    Csv,
}

/// One line of a product file, or one CSV record.
pub struct ProductFileLine {
    /// The line number in the file, from 1. A CSV record that spans lines has that of its first.
    pub number: u64,
    /// The raw bytes, which tell the line from others.
    pub bytes: Vec<u8>,
    /// The parsed row, or the reason why it is invalid.
    pub row: Result<ImportRow, Error>,
}

/// Takes chunks of a file and returns the lines that are complete.
pub struct ProductFileReader {
    format: ProductFileFormat,
    currency: Currency,
    max_line_bytes: usize,
    buffer: Vec<u8>,
    /// How many bytes of the buffer were searched for a line end; `quotes` is the state there.
    scanned: usize,
    quotes: QuoteState,
    /// Whether the reader skips to the end of a line that is too long.
    skipping: bool,
    number: u64,
    header: Option<Vec<String>>,
}

impl ProductFileReader {
    /// Creates a reader that rejects lines longer than `max_line_bytes`.
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

    /// Adds the next chunk of the file and returns the lines that it completes.
    ///
    /// # Errors
    /// `validation_failed` when the CSV header is invalid.
    pub fn push_chunk(&mut self, chunk: &[u8]) -> Result<Vec<ProductFileLine>, Error> {
        self.buffer.extend_from_slice(chunk);
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
            // A skipped line still counts toward the numbers of the lines after it.
            let breaks = self.buffer.iter().filter(|byte| **byte == b'\n').count();
            self.number += breaks as u64;
            self.buffer.clear();
            self.scanned = 0;
        }
        Ok(lines)
    }

    /// Returns the last line if the file does not end with a line break.
    ///
    /// # Errors
    /// `validation_failed` when the CSV header is invalid.
    pub fn finish(&mut self) -> Result<Option<ProductFileLine>, Error> {
        let rest = std::mem::take(&mut self.buffer);
        if self.quotes == QuoteState::Quoted {
            let unclosed =
                |field| Error::invalid_field(field, "invalid", "a quoted field is not closed");
            return match self.header {
                None => Err(unclosed("header")),
                Some(_) => Ok(Some(ProductFileLine {
                    number: self.number,
                    bytes: rest,
                    row: Err(unclosed("line")),
                })),
            };
        }
        if rest.is_empty() { Ok(None) } else { self.parse_line(rest) }
    }

    /// The column names of a CSV file; empty until line 1 is read.
    #[must_use]
    pub fn header(&self) -> &[String] {
        self.header.as_deref().unwrap_or_default()
    }

    /// Finds the end of the next line. In CSV, a line break within quotes is part of a field.
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
        // Spreadsheet programs put a byte order mark at the start.
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
            format!("The line exceeds the maximum of {} bytes.", self.max_line_bytes),
        );
        ProductFileLine { number: self.number, bytes: Vec::new(), row: Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in_chunks(
        format: ProductFileFormat,
        text: &str,
        chunk_size: usize,
    ) -> Vec<(u64, Result<ImportRow, Error>)> {
        let mut lines = ProductFileReader::new(format, "USD".parse().unwrap(), 200);
        let mut read = Vec::new();
        for chunk in text.as_bytes().chunks(chunk_size) {
            read.extend(lines.push_chunk(chunk).unwrap());
        }
        read.extend(lines.finish().unwrap());
        read.into_iter().map(|line| (line.number, line.row)).collect()
    }

    #[test]
    fn ndjson_lines_survive_any_chunking() {
        let text = "{\"name\":\"A\",\"price\":1}\n\n  \n\
                    {\"name\":\"B\",\"price\":2.5,\"stock\":3}\r\nnope\n{\"cost\":1}\n\
                    {\"name\":\"D\",\"price\":4}";
        for chunk_size in [1, 2, 7, 1000] {
            let lines = read_in_chunks(ProductFileFormat::Ndjson, text, chunk_size);
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
                    A-1,\"Tea, \"\"green\"\"\",4.50,7,green|loose,\
                    \"{\"\"organic\"\":true}\",\"two\nlines\"\n\
                    A-2,Cup,9.999,,,,\n\
                    A-3,Pot,12,1,x,{},\n";
        for chunk_size in [1, 3, 1000] {
            let lines = read_in_chunks(ProductFileFormat::Csv, text, chunk_size);
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
        for chunk_size in [10, 100_000] {
            let lines = read_in_chunks(ProductFileFormat::Ndjson, &text, chunk_size);
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
        let invalid_field = |text: &str| {
            read_in_chunks(ProductFileFormat::Csv, text, 100)
                .pop()
                .unwrap()
                .1
                .unwrap_err()
                .field_errors[0]
                .field
                .clone()
        };
        assert_eq!(invalid_field("sku,name,price\nA,\"never closed,1\nB,Cup,5\n"), "line");
        assert_eq!(invalid_field("sku,name,price\nD,Monitor,100\rE,Cup,5\n"), "line");
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
