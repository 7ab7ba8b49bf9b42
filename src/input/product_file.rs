//! A streaming reader of product files, NDJSON or CSV: it takes chunks of any size and returns
//! numbered lines.

use super::{
    csv_row::{CsvHeader, parse_csv_row},
    csv_splitter::{
        BYTE_ORDER_MARK, CsvFields, CsvSplitter, detect_delimiter, is_delimiter_declaration,
    },
    line_splitter::{LineBreakCounter, LineSplitter, RawRecord, UnreadableRecord},
    product_patch::parse_import_row,
};
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
    /// RFC 4180, or with `;` or tabs in place of the commas. The first line is the header.
    Csv,
}

/// How a product file is read.
#[derive(Debug, Clone, Copy)]
pub struct ProductFileOptions {
    /// The format of the file.
    pub format: ProductFileFormat,
    /// The currency of the prices.
    pub currency: Currency,
    /// The longest line that is accepted, in bytes.
    pub max_line_bytes: usize,
    /// Whether unknown columns and members are ignored instead of rejected.
    pub ignore_unknown: bool,
    /// Lines up to this one are skipped; 0 skips none.
    pub skip_through_line: u64,
}

/// One line of a product file, or one CSV record.
pub struct ProductFileLine {
    /// The line number in the file, from 1. A CSV record that spans lines has that of its first.
    pub number: u64,
    /// How many bytes of the file precede the next line.
    pub end: u64,
    /// The raw bytes, which tell the line from others.
    pub bytes: Vec<u8>,
    /// The parsed row, or the reason why it is invalid.
    pub row: Result<ImportRow, Error>,
}

/// Takes chunks of a file and returns the lines that are complete. Empty lines, and rows of nothing
/// but separators, are skipped.
pub struct ProductFileReader {
    options: ProductFileOptions,
    splitter: Splitter,
    header: Option<CsvHeader>,
    /// The bytes of a CSV file through its header.
    preamble: Vec<u8>,
}

enum Splitter {
    Ndjson(LineSplitter),
    /// The first bytes of a CSV file, until they tell its delimiter.
    CsvHead(Vec<u8>),
    Csv(Box<CsvSplitter>),
}

impl ProductFileReader {
    /// Creates a reader.
    #[must_use]
    pub const fn new(options: ProductFileOptions) -> Self {
        let splitter = match options.format {
            ProductFileFormat::Ndjson => {
                Splitter::Ndjson(LineSplitter::new(options.max_line_bytes))
            }
            ProductFileFormat::Csv => Splitter::CsvHead(Vec::new()),
        };
        Self { options, splitter, header: None, preamble: Vec::new() }
    }

    /// Adds the next chunk of the file and returns the lines that it completes.
    ///
    /// # Errors
    /// `validation_failed` when the CSV header is invalid.
    pub fn push_chunk(&mut self, chunk: &[u8]) -> Result<Vec<ProductFileLine>, Error> {
        match &mut self.splitter {
            Splitter::Ndjson(splitter) => {
                let lines = splitter.push_chunk(chunk);
                Ok(lines.into_iter().filter_map(|line| self.parse_json_line(line)).collect())
            }
            Splitter::CsvHead(head) => {
                head.extend_from_slice(chunk);
                let is_complete = head.len() > self.options.max_line_bytes;
                self.read_head(is_complete)
            }
            Splitter::Csv(splitter) => {
                let records = splitter.push_chunk(chunk);
                self.parse_records(records)
            }
        }
    }

    /// Returns the last lines, if the file does not end with a line break.
    ///
    /// # Errors
    /// The same as [`Self::push_chunk`].
    pub fn finish(&mut self) -> Result<Vec<ProductFileLine>, Error> {
        let mut lines = match &mut self.splitter {
            Splitter::CsvHead(_) => self.read_head(true)?,
            _ => Vec::new(),
        };
        match &mut self.splitter {
            Splitter::Ndjson(splitter) => {
                let last = splitter.finish();
                lines.extend(last.and_then(|line| self.parse_json_line(line)));
            }
            Splitter::Csv(splitter) => {
                let last = splitter.finish();
                lines.extend(self.parse_records(last)?);
            }
            Splitter::CsvHead(_) => {}
        }
        Ok(lines)
    }

    /// The column names of a CSV file; empty until the header is read.
    #[must_use]
    pub fn header(&self) -> &[String] {
        self.header.as_ref().map(CsvHeader::names).unwrap_or_default()
    }

    /// The bytes of a CSV file through its header, without the line break; empty until it is read.
    #[must_use]
    pub fn preamble(&self) -> &[u8] {
        &self.preamble
    }

    /// Splits the first bytes of a CSV file if they tell its delimiter.
    fn read_head(&mut self, is_complete: bool) -> Result<Vec<ProductFileLine>, Error> {
        let Splitter::CsvHead(head) = &mut self.splitter else { return Ok(Vec::new()) };
        if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
            let message = "the file is UTF-16 text; save it as CSV in UTF-8";
            return Err(Error::invalid_field("header", "invalid", message));
        }
        let Some(delimiter) = detect_delimiter(head, is_complete) else { return Ok(Vec::new()) };
        let head = std::mem::take(head);
        let mut splitter = CsvSplitter::new(delimiter, self.options.max_line_bytes);
        let records = splitter.push_chunk(&head);
        self.splitter = Splitter::Csv(Box::new(splitter));
        self.parse_records(records)
    }

    fn parse_json_line(&self, line: RawRecord<()>) -> Option<ProductFileLine> {
        let RawRecord { line: number, end, bytes, contents, .. } = line;
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).filter(|_| number == 1).unwrap_or(&bytes);
        let is_blank = contents.is_ok() && text.iter().all(u8::is_ascii_whitespace);
        if is_blank || number <= self.options.skip_through_line {
            return None;
        }
        let row = match contents {
            Ok(()) if number == 1 && text.trim_ascii_start().starts_with(b"[") => {
                let message = "a JSON array begins here; write one object per line, without \
                               brackets and commas between them";
                Err(Error::invalid_field("line", "invalid", message))
            }
            Ok(()) => parse_import_row(text, self.options.currency, self.options.ignore_unknown),
            Err(reason) => Err(self.unreadable_line_error(reason, 1)),
        };
        Some(ProductFileLine { number, end, bytes, row })
    }

    fn parse_records(
        &mut self,
        records: impl IntoIterator<Item = RawRecord<CsvFields>>,
    ) -> Result<Vec<ProductFileLine>, Error> {
        let mut lines = Vec::new();
        for record in records {
            match &self.header {
                Some(header) => lines.extend(self.parse_record(header, record)),
                None => self.read_header(record)?,
            }
        }
        Ok(lines)
    }

    fn read_header(&mut self, record: RawRecord<CsvFields>) -> Result<(), Error> {
        if !self.preamble.is_empty() {
            self.preamble.push(b'\n');
        }
        self.preamble.extend_from_slice(without_line_break(&record.bytes));
        let invalid = |reason| Error { code: ErrorCode::ValidationFailed, ..reason };
        let lines = record.lines;
        let fields =
            record.contents.map_err(|reason| invalid(self.unreadable_line_error(reason, lines)))?;
        if !fields.is_blank() && !is_delimiter_declaration(&fields) {
            self.header = Some(CsvHeader::parse(&fields, self.options.ignore_unknown)?);
        }
        Ok(())
    }

    fn parse_record(
        &self,
        header: &CsvHeader,
        record: RawRecord<CsvFields>,
    ) -> Option<ProductFileLine> {
        let lines = record.lines;
        let RawRecord { line: number, end, bytes, contents, .. } = record;
        let is_blank = contents.as_ref().is_ok_and(CsvFields::is_blank);
        if is_blank || number <= self.options.skip_through_line {
            return None;
        }
        let row = match contents {
            Ok(fields) => parse_csv_row(header, &fields, self.options.currency),
            Err(reason) => Err(self.unreadable_line_error(reason, lines)),
        };
        Some(ProductFileLine { number, end, bytes, row })
    }

    /// The error of a record that takes this many lines of the file.
    fn unreadable_line_error(&self, reason: UnreadableRecord, lines: u64) -> Error {
        let field = if self.header.is_some() { "line" } else { "header" };
        let invalid = |message: &str| {
            // Without line numbers: those of an uploaded part are not those of the file.
            let extent = match lines {
                0 | 1 => String::new(),
                lines => format!("; {lines} lines of the file were read as one record"),
            };
            Error::invalid_field(field, "invalid", format!("{message}{extent}"))
        };
        match reason {
            UnreadableRecord::TooLong => {
                let max = self.options.max_line_bytes;
                let hint = match (self.options.format, lines) {
                    (ProductFileFormat::Ndjson, _) => String::new(),
                    (ProductFileFormat::Csv, 0 | 1) => " Is a quoted field not closed?".to_owned(),
                    (ProductFileFormat::Csv, lines) => format!(
                        " {lines} lines of the file were read as one record; is a quoted field \
                         not closed?"
                    ),
                };
                let detail = format!("The line exceeds the maximum of {max} bytes.{hint}");
                Error::new(ErrorCode::PayloadTooLarge, detail)
            }
            UnreadableRecord::NotUtf8 => {
                invalid("the line is not UTF-8 text; save the file as UTF-8")
            }
            UnreadableRecord::UnclosedQuote => invalid("a quoted field is not closed"),
            UnreadableRecord::TextAfterQuote => invalid(
                "text follows the closing quote of a field; is a quoted field before it not \
                 closed, or a quote within one not doubled?",
            ),
        }
    }
}

/// `line` without the line break at its end.
#[must_use]
pub fn without_line_break(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The number of line breaks in `text`: LF, CRLF, or CR alone.
#[must_use]
pub fn count_line_breaks(text: &[u8]) -> u64 {
    LineBreakCounter::default().count(text)
}

#[cfg(test)]
mod tests;
