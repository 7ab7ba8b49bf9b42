//! Reading imports piece by piece: NDJSON or CSV in any portions, out come lines with their numbers.

use serde_json::{Map, Value, value::RawValue};

use super::{product_requests::ProductRequest, receive};
use crate::{
    domain::money::Currency,
    error::{Code, Error},
    messages::catalog::ImportRow,
};

/// The form of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line.
    Ndjson,
    /// RFC 4180, line 1 the header.
    Csv,
}

/// A line as read: its number, its own bytes, and what it says.
pub struct Line {
    /// Its number in the file, from 1. A CSV record that spans lines has the number of its first.
    pub number: u64,
    /// Its bytes, which tell it from other lines.
    pub bytes: Vec<u8>,
    /// What it says, or what is wrong with it.
    pub row: Result<ImportRow, Error>,
}

/// Takes portions of a file and gives the lines that are complete.
pub struct Lines {
    format: Format,
    currency: Currency,
    max_line: usize,
    buffer: Vec<u8>,
    /// How much of the buffer was looked at already, and whether that ends inside quotes.
    scanned: usize,
    quoted: bool,
    /// A line that is too long is skipped to its end.
    skipping: bool,
    number: u64,
    header: Option<Vec<String>>,
}

impl Lines {
    /// A reader for a file in `format`, with lines of at most `max_line` bytes.
    #[must_use]
    pub const fn new(format: Format, currency: Currency, max_line: usize) -> Self {
        Self {
            format,
            currency,
            max_line,
            buffer: Vec::new(),
            scanned: 0,
            quoted: false,
            skipping: false,
            number: 1,
            header: None,
        }
    }

    /// Takes the next portion.
    ///
    /// # Errors
    /// The CSV header is not one.
    pub fn push(&mut self, portion: &[u8]) -> Result<Vec<Line>, Error> {
        self.buffer.extend_from_slice(portion);
        let mut lines = Vec::new();
        while let Some(end) = self.find_end() {
            let record: Vec<u8> = self.buffer.drain(..=end).collect();
            self.scanned = 0;
            lines.extend(self.complete(record)?);
        }
        if self.buffer.len() > self.max_line && !self.skipping {
            self.skipping = true;
            lines.push(self.too_long());
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
    pub fn finish(&mut self) -> Result<Option<Line>, Error> {
        let rest = std::mem::take(&mut self.buffer);
        if rest.is_empty() { Ok(None) } else { self.complete(rest) }
    }

    /// The names of a CSV file's columns, once they were read.
    #[must_use]
    pub fn header(&self) -> &[String] {
        self.header.as_deref().unwrap_or_default()
    }

    /// Where the next line ends. In CSV a line break between quotes is part of a field; since a quote inside quotes is doubled
    /// (RFC 4180, section 2.7), the number of quotes so far tells.
    fn find_end(&mut self) -> Option<usize> {
        for (index, byte) in self.buffer.iter().enumerate().skip(self.scanned) {
            match byte {
                b'"' if self.format == Format::Csv => self.quoted = !self.quoted,
                b'\n' if !self.quoted => return Some(index),
                _ => {}
            }
        }
        self.scanned = self.buffer.len();
        None
    }

    fn complete(&mut self, record: Vec<u8>) -> Result<Option<Line>, Error> {
        let number = self.number;
        self.number += record.iter().filter(|byte| **byte == b'\n').count() as u64;
        if std::mem::take(&mut self.skipping) || record.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        if record.len() > self.max_line {
            return Ok(Some(Line { number, ..self.too_long() }));
        }
        let row = match self.format {
            Format::Ndjson => {
                receive::parse::<ProductRequest>(&record, &[]).and_then(|request| request.parse_line(self.currency))
            }
            Format::Csv => {
                let fields = csv_fields(&record)?;
                match &self.header {
                    None => {
                        self.header = Some(csv_header(fields)?);
                        return Ok(None);
                    }
                    Some(header) => csv_row(header, fields, self.currency),
                }
            }
        };
        Ok(Some(Line { number, bytes: record, row }))
    }

    fn too_long(&self) -> Line {
        let error =
            Error::new(Code::PayloadTooLarge, format!("The line is longer than {} bytes, the most allowed.", self.max_line));
        Line { number: self.number, bytes: Vec::new(), row: Err(error) }
    }
}

const COLUMNS: &[&str] = &["name", "description", "price", "stock", "sku", "category", "tags", "image_url", "attributes"];

fn csv_fields(record: &[u8]) -> Result<Vec<String>, Error> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(record);
    let mut fields = csv::StringRecord::new();
    match reader.read_record(&mut fields) {
        Ok(_) => Ok(fields.iter().map(str::to_owned).collect()),
        Err(_) => Err(Error::fault("csv", "invalid", "The file is not UTF-8 text.")),
    }
}

fn csv_header(mut fields: Vec<String>) -> Result<Vec<String>, Error> {
    if let Some(first) = fields.first_mut() {
        // Spreadsheets put a byte order mark before the first name.
        *first = first.trim_start_matches('\u{feff}').to_owned();
    }
    let unknown: Vec<&String> = fields.iter().filter(|name| !COLUMNS.contains(&name.as_str())).collect();
    if !unknown.is_empty() || !fields.iter().any(|name| name == "name") || !fields.iter().any(|name| name == "price") {
        let message = format!("line 1 must name columns from {}; name and price are required", COLUMNS.join(", "));
        return Err(Error::fault("header", "invalid", message));
    }
    Ok(fields)
}

/// A record as the JSON object that it stands for. Empty fields are members that are not there.
fn csv_row(header: &[String], fields: Vec<String>, currency: Currency) -> Result<ImportRow, Error> {
    if fields.len() != header.len() {
        let message = format!("the line has {} fields; the header has {}", fields.len(), header.len());
        return Err(Error::fault("line", "invalid", message));
    }
    let mut object: Map<String, Value> = Map::new();
    let mut members = Vec::new();
    for (name, text) in header.iter().zip(fields).filter(|(_, text)| !text.is_empty()) {
        match name.as_str() {
            // Numbers and attributes are JSON already; as raw text a price keeps every digit.
            "price" | "stock" | "attributes" => members.push((name, raw(name, text)?)),
            "tags" => drop(object.insert(name.clone(), text.split('|').map(|tag| Value::from(tag.trim())).collect())),
            _ => drop(object.insert(name.clone(), text.into())),
        }
    }
    let mut json = Value::Object(object).to_string();
    for (name, value) in members {
        let comma = if json == "{}" { "" } else { "," };
        json.truncate(json.len().saturating_sub(1));
        json.push_str(&format!("{comma}\"{name}\":{value}}}"));
    }
    receive::parse::<ProductRequest>(json.as_bytes(), &[])?.parse_line(currency)
}

fn raw(name: &str, text: String) -> Result<Box<RawValue>, Error> {
    RawValue::from_string(text.trim().to_owned())
        .map_err(|_| Error::fault(name, "invalid", format!("{name} is neither a number nor JSON: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: Format, text: &str, portion: usize) -> Vec<(u64, Result<ImportRow, Error>)> {
        let mut lines = Lines::new(format, "USD".parse().unwrap(), 200);
        let mut read = Vec::new();
        for portion in text.as_bytes().chunks(portion) {
            read.extend(lines.push(portion).unwrap());
        }
        read.extend(lines.finish().unwrap());
        read.into_iter().map(|line| (line.number, line.row)).collect()
    }

    #[test]
    fn json_lines_come_whole_however_they_are_cut() {
        let text = "{\"name\":\"A\",\"price\":1}\n\n  \n{\"name\":\"B\",\"price\":2.5,\"stock\":3}\r\nnope\n{\"name\":\"C\"}\n{\"name\":\"D\",\"price\":4}";
        for portion in [1, 2, 7, 1000] {
            let lines = read(Format::Ndjson, text, portion);
            assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 4, 5, 6, 7]);
            let codes: Vec<_> = lines.iter().map(|(_, row)| row.as_ref().err().map(|error| error.code)).collect();
            assert_eq!(codes, [None, None, Some(Code::MalformedJson), Some(Code::ValidationFailed), None]);
            assert_eq!(lines[1].1.as_ref().unwrap().stock, Some(3));
        }
    }

    #[test]
    fn csv_fields_may_hold_commas_quotes_and_line_breaks() {
        let text = "\u{feff}sku,name,price,stock,tags,attributes,description\r\n\
                    A-1,\"Tea, \"\"green\"\"\",4.50,7,green|loose,\"{\"\"organic\"\":true}\",\"two\nlines\"\n\
                    A-2,Cup,9.999,,,,\n\
                    A-3,Pot,12,1,x,{},\n";
        for portion in [1, 3, 1000] {
            let lines = read(Format::Csv, text, portion);
            assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 4, 5]);
            let tea = lines[0].1.as_ref().unwrap();
            assert_eq!((tea.facts.name.as_str(), tea.facts.price.minor(), tea.stock), ("Tea, \"green\"", 450, Some(7)));
            assert_eq!((tea.facts.tags.len(), tea.facts.description.as_str()), (2, "two\nlines"));
            assert!(tea.facts.attributes.contains_key("organic"));
            assert_eq!(lines[1].1.as_ref().unwrap_err().faults[0].field, "price");
            assert!(lines[2].1.is_ok());
        }
    }

    #[test]
    fn a_line_that_is_too_long_fails_alone() {
        let text = format!("{{\"name\":\"{}\",\"price\":1}}\n{{\"name\":\"B\",\"price\":2}}\n", "x".repeat(1000));
        for portion in [10, 100_000] {
            let lines = read(Format::Ndjson, &text, portion);
            assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
            assert_eq!(lines[0].1.as_ref().unwrap_err().code, Code::PayloadTooLarge);
            assert!(lines[1].1.is_ok());
        }
    }

    #[test]
    fn a_header_must_name_known_columns() {
        let mut lines = Lines::new(Format::Csv, "USD".parse().unwrap(), 200);
        assert!(lines.push(b"name,prize\n").is_err());
    }

    #[test]
    fn numbers_of_fields_must_agree() {
        let lines = read(Format::Csv, "name,price\na,1,2\n", 100);
        assert_eq!(lines[0].1.as_ref().unwrap_err().faults[0].field, "line");
    }
}
