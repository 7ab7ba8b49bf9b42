//! Reading imports piece by piece: NDJSON or CSV in any portions, out come lines with their numbers.

use serde_json::{Value, value::RawValue};

pub(crate) use super::product_patch::import_row;
use crate::{
    domain::money::Currency,
    error::{Error, ErrorCode},
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
    /// How much of the buffer was looked at already, and where that ends.
    scanned: usize,
    quotes: Quotes,
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
            quotes: Quotes::Start,
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
        let (mut lines, mut start) = (Vec::new(), 0);
        while let Some(end) = self.find_end() {
            let record = self.buffer.get(start..=end).unwrap_or_default().to_vec();
            start = end + 1;
            lines.extend(self.complete(record)?);
        }
        self.buffer.drain(..start);
        self.scanned -= start;
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
        if self.quotes == Quotes::Inside {
            let open = |place| {
                Error::invalid_field(place, "invalid", "a quote is opened here and never closed")
            };
            return match self.header {
                None => Err(open("header")),
                Some(_) => {
                    Ok(Some(Line { number: self.number, bytes: rest, row: Err(open("line")) }))
                }
            };
        }
        if rest.is_empty() { Ok(None) } else { self.complete(rest) }
    }

    /// The names of a CSV file's columns, once they were read.
    #[must_use]
    pub fn header(&self) -> &[String] {
        self.header.as_deref().unwrap_or_default()
    }

    /// Where the next line ends. In CSV a line break between quotes is part of a field.
    fn find_end(&mut self) -> Option<usize> {
        for (index, byte) in self.buffer.iter().enumerate().skip(self.scanned) {
            if self.format == Format::Csv {
                self.quotes = self.quotes.after(*byte);
            }
            if *byte == b'\n' && self.quotes != Quotes::Inside {
                self.scanned = index + 1;
                return Some(index);
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
        // Some programs put a byte order mark before everything.
        let text = record.strip_prefix(b"\xef\xbb\xbf").filter(|_| number == 1).unwrap_or(&record);
        let row = match (self.format, &self.header) {
            (Format::Ndjson, _) => import_row(text, self.currency),
            (Format::Csv, Some(header)) => {
                csv_fields(text).and_then(|fields| csv_row(header, fields, self.currency))
            }
            (Format::Csv, None) => {
                self.header = Some(csv_header(csv_fields(text)?)?);
                return Ok(None);
            }
        };
        Ok(Some(Line { number, bytes: record, row }))
    }

    fn too_long(&self) -> Line {
        let error = Error::new(
            ErrorCode::PayloadTooLarge,
            format!("The line is longer than {} bytes, the most allowed.", self.max_line),
        );
        Line { number: self.number, bytes: Vec::new(), row: Err(error) }
    }
}

const COLUMNS: &[&str] = &[
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
enum Quotes {
    /// At the start of a field.
    Start,
    /// In a field, outside quotes.
    Outside,
    /// Between quotes.
    Inside,
    /// Behind a quote that ends a field, or is the first of two.
    Behind,
}

impl Quotes {
    const fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Start | Self::Behind, b'"') => Self::Inside,
            (Self::Inside, b'"') => Self::Behind,
            (Self::Inside, _) => Self::Inside,
            (_, b',' | b'\n') => Self::Start,
            _ => Self::Outside,
        }
    }
}

fn csv_fields(record: &[u8]) -> Result<Vec<String>, Error> {
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

fn csv_header(fields: Vec<String>) -> Result<Vec<String>, Error> {
    let has = |name: &str| fields.iter().any(|field| field == name);
    let unknown = fields.iter().any(|name| !COLUMNS.contains(&name.as_str()));
    if unknown || !(has("sku") || has("name") && has("price")) {
        let message = format!(
            "line 1 must name columns from {}; at least sku, or name and price",
            COLUMNS.join(", ")
        );
        return Err(Error::invalid_field("header", "invalid", message));
    }
    Ok(fields)
}

/// A record as the JSON object that it stands for. An empty field takes away what was said, and leaves stock as it is.
fn csv_row(header: &[String], fields: Vec<String>, currency: Currency) -> Result<ImportRow, Error> {
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
            "price" | "stock" | "attributes" => raw(name, text)?.get().to_owned(),
            "tags" => Value::from(text.split('|').map(str::trim).collect::<Vec<_>>()).to_string(),
            _ => Value::from(text).to_string(),
        };
        members.push(format!("\"{name}\":{value}"));
    }
    import_row(format!("{{{}}}", members.join(",")).as_bytes(), currency)
}

fn raw(name: &str, text: String) -> Result<Box<RawValue>, Error> {
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
        let text = "{\"name\":\"A\",\"price\":1}\n\n  \n{\"name\":\"B\",\"price\":2.5,\"stock\":3}\r\nnope\n{\"cost\":1}\n{\"name\":\"D\",\"price\":4}";
        for portion in [1, 2, 7, 1000] {
            let lines = read(Format::Ndjson, text, portion);
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
    fn csv_fields_may_hold_commas_quotes_and_line_breaks() {
        let text = "\u{feff}sku,name,price,stock,tags,attributes,description\r\n\
                    A-1,\"Tea, \"\"green\"\"\",4.50,7,green|loose,\"{\"\"organic\"\":true}\",\"two\nlines\"\n\
                    A-2,Cup,9.999,,,,\n\
                    A-3,Pot,12,1,x,{},\n";
        for portion in [1, 3, 1000] {
            let lines = read(Format::Csv, text, portion);
            assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 4, 5]);
            let row = lines[0].1.clone().unwrap();
            let tea = row.patch.into_new().unwrap();
            assert_eq!(
                (tea.name.as_str(), tea.price.minor(), row.stock),
                ("Tea, \"green\"", 450, Some(7))
            );
            assert_eq!((tea.tags.len(), tea.description.as_str()), (2, "two\nlines"));
            assert!(tea.attributes.contains_key("organic"));
            assert_eq!(lines[1].1.as_ref().unwrap_err().field_errors[0].field, "price");
            assert!(lines[2].1.is_ok());
        }
    }

    #[test]
    fn a_line_that_is_too_long_fails_alone() {
        let text = format!(
            "{{\"name\":\"{}\",\"price\":1}}\n{{\"name\":\"B\",\"price\":2}}\n",
            "x".repeat(1000)
        );
        for portion in [10, 100_000] {
            let lines = read(Format::Ndjson, &text, portion);
            assert_eq!(lines.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
            assert_eq!(lines[0].1.as_ref().unwrap_err().code, ErrorCode::PayloadTooLarge);
            assert!(lines[1].1.is_ok());
        }
    }

    #[test]
    fn a_header_must_name_known_columns() {
        let mut lines = Lines::new(Format::Csv, "USD".parse().unwrap(), 200);
        assert!(lines.push(b"name,prize\n").is_err());
    }

    #[test]
    fn a_quote_inside_a_field_is_a_quote() {
        let lines =
            read(Format::Csv, "sku,name,price\nA,Monitor 27\",100\nB,\"Cup \"\"big\"\"\",5\n", 1);
        let names: Vec<_> =
            lines.into_iter().map(|(_, row)| row.unwrap().patch.name.flatten().unwrap()).collect();
        assert_eq!(names, ["Monitor 27\"", "Cup \"big\""]);
    }

    #[test]
    fn what_cannot_be_split_into_lines_is_told() {
        let fault = |text: &str| {
            read(Format::Csv, text, 100).pop().unwrap().1.unwrap_err().field_errors[0].field.clone()
        };
        assert_eq!(fault("sku,name,price\nA,\"never closed,1\nB,Cup,5\n"), "line");
        assert_eq!(fault("sku,name,price\nD,Monitor,100\rE,Cup,5\n"), "line");
        let mut lines = Lines::new(Format::Csv, "USD".parse().unwrap(), 200);
        let read = lines.push(b"sku,name,price\nF,ok,1\nG,caf\xe9,100\nH,Cup,5\n").unwrap();
        assert_eq!(
            read.iter().map(|line| line.row.is_ok()).collect::<Vec<_>>(),
            [true, false, true]
        );
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        assert!(read(Format::Ndjson, "\u{feff}{\"name\":\"A\",\"price\":1}\n", 1)[0].1.is_ok());
    }

    #[test]
    fn columns_that_are_not_there_are_not_changed_and_empty_fields_take_away() {
        let row =
            read(Format::Csv, "sku,price,category,stock\nA,2,,\n", 100).pop().unwrap().1.unwrap();
        assert_eq!((row.sku(), row.stock), (Some("A"), None));
        assert_eq!((row.patch.name, row.patch.category), (None, Some(None)));
    }

    #[test]
    fn numbers_of_fields_must_agree() {
        let lines = read(Format::Csv, "name,price\na,1,2\n", 100);
        assert_eq!(lines[0].1.as_ref().unwrap_err().field_errors[0].field, "line");
    }
}
