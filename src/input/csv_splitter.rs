//! Splits a CSV file (RFC 4180) into records as its chunks arrive.
//!
//! `csv::Reader` pulls from a blocking reader and buffers a record of any length. The incremental
//! `csv_core` below it takes chunks, so a record that is too long can be skipped without being
//! kept.

use csv_core::{ReadRecordResult, ReaderBuilder};

use super::line_splitter::{LineBreakCounter, RawRecord, UnreadableRecord};

/// The characters that may separate fields, the usual one first.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// Spreadsheet programs put one at the start of a UTF-8 file.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The fields of a record, unquoted.
pub(super) struct CsvFields {
    text: String,
    ends: Vec<usize>,
}

impl CsvFields {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The fields without outer spaces.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let field =
            |(start, end): (&usize, &usize)| self.text.get(*start..*end).unwrap_or_default();
        starts.zip(&self.ends).map(field).map(str::trim)
    }

    /// Whether all fields are empty: a row of nothing but separators.
    pub(super) fn is_blank(&self) -> bool {
        self.iter().all(str::is_empty)
    }
}

/// Takes chunks of a CSV file and returns the records that are complete.
pub(super) struct CsvSplitter {
    parser: csv_core::Reader,
    max_record_bytes: usize,
    /// The bytes of the record so far, and its fields as far as they are parsed.
    bytes: Vec<u8>,
    text: Vec<u8>,
    text_len: usize,
    ends: Vec<usize>,
    ends_len: usize,
    /// Whether the record is too long, so that its bytes are not kept.
    is_too_long: bool,
    /// Whether the record has begun.
    has_begun: bool,
    breaks: LineBreakCounter,
    /// The line that the next byte is in, and the one in which the record began.
    line: u64,
    record_line: u64,
    consumed: u64,
}

impl CsvSplitter {
    pub(super) fn new(delimiter: u8, max_record_bytes: usize) -> Self {
        Self {
            parser: ReaderBuilder::new().delimiter(delimiter).build(),
            max_record_bytes,
            bytes: Vec::new(),
            text: vec![0; 1024],
            text_len: 0,
            ends: vec![0; 32],
            ends_len: 0,
            is_too_long: false,
            has_begun: false,
            breaks: LineBreakCounter::default(),
            line: 1,
            record_line: 1,
            consumed: 0,
        }
    }

    /// Adds a chunk and returns the records that it completes.
    pub(super) fn push_chunk(&mut self, mut chunk: &[u8]) -> Vec<RawRecord<CsvFields>> {
        let mut records = Vec::new();
        loop {
            if !self.has_begun {
                let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
                let blank = chunk.iter().take_while(|byte| is_break(byte)).count();
                chunk = self.consume(chunk, blank);
                self.record_line = self.line;
            }
            if chunk.is_empty() {
                return records;
            }
            self.has_begun = true;
            let (result, read) = self.parse(chunk);
            let (parsed, _) = chunk.split_at(read);
            self.keep(parsed);
            chunk = self.consume(chunk, read);
            match result {
                ReadRecordResult::Record => records.push(self.take_record()),
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::InputEmpty | ReadRecordResult::End => {}
            }
        }
    }

    /// Returns the last record if the file does not end with a line break.
    pub(super) fn finish(&mut self) -> Option<RawRecord<CsvFields>> {
        if !self.has_begun {
            return None;
        }
        // At the end of a file the parser closes a quoted field. A line break does not: after it,
        // only a record within quotes is still incomplete.
        let closing = loop {
            match self.parse(b"\n").0 {
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                other => break other,
            }
        };
        let record = self.take_record();
        let is_closed = matches!(closing, ReadRecordResult::Record);
        let contents = match record.contents {
            Ok(_) | Err(UnreadableRecord::NotUtf8) if !is_closed => {
                Err(UnreadableRecord::UnclosedQuote)
            }
            contents => contents,
        };
        Some(RawRecord { contents, ..record })
    }

    /// Parses the next bytes of the record. Returns how many of them were read.
    fn parse(&mut self, input: &[u8]) -> (ReadRecordResult, usize) {
        if self.is_too_long {
            // Only the end of the record matters.
            (self.text_len, self.ends_len) = (0, 0);
        }
        let text = self.text.get_mut(self.text_len..).unwrap_or_default();
        let ends = self.ends.get_mut(self.ends_len..).unwrap_or_default();
        let (result, read, text_len, ends_len) = self.parser.read_record(input, text, ends);
        self.text_len += text_len;
        self.ends_len += ends_len;
        match result {
            // The buffers are overwritten, and need not grow.
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull if self.is_too_long => {
                (ReadRecordResult::InputEmpty, read)
            }
            _ => (result, read),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.is_too_long {
            return;
        }
        if self.bytes.len() + bytes.len() > self.max_record_bytes {
            self.is_too_long = true;
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Counts the first bytes as read, and returns the rest.
    fn consume<'a>(&mut self, chunk: &'a [u8], count: usize) -> &'a [u8] {
        let (read, rest) = chunk.split_at(count);
        self.line += self.breaks.count(read);
        self.consumed += count as u64;
        rest
    }

    fn take_record(&mut self) -> RawRecord<CsvFields> {
        let text = self.text.get(..self.text_len).unwrap_or_default();
        let ends = self.ends.get(..self.ends_len).unwrap_or_default();
        let contents = if self.is_too_long {
            Err(UnreadableRecord::TooLong)
        } else {
            parse_fields(text, ends)
        };
        (self.text_len, self.ends_len) = (0, 0);
        (self.is_too_long, self.has_begun) = (false, false);
        let bytes = std::mem::take(&mut self.bytes);
        RawRecord { line: self.record_line, end: self.consumed, bytes, contents }
    }
}

fn parse_fields(text: &[u8], ends: &[usize]) -> Result<CsvFields, UnreadableRecord> {
    let text = std::str::from_utf8(text).map_err(|_| UnreadableRecord::NotUtf8)?;
    // Two fields that are not UTF-8 can be so together.
    if !ends.iter().all(|end| text.is_char_boundary(*end)) {
        return Err(UnreadableRecord::NotUtf8);
    }
    Ok(CsvFields { text: text.to_owned(), ends: ends.to_vec() })
}

/// Returns the character that separates the fields of a file that begins with `head`. `None` if
/// that is not known before more of it arrives.
///
/// A line `sep=;`, as spreadsheet programs write it, decides. Otherwise it is the most frequent
/// one outside of quotes in the first line that has text.
pub(super) fn detect_delimiter(head: &[u8], is_complete: bool) -> Option<u8> {
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    for line in head.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
        if !is_complete && !line.ends_with(b"\n") && !line.ends_with(b"\r") {
            return None;
        }
        if let Some(delimiter) = declared_delimiter(line) {
            return Some(delimiter);
        }
        let has_text = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
        if line.iter().any(has_text) {
            return Some(most_frequent_delimiter(line));
        }
    }
    is_complete.then_some(b',')
}

/// The delimiter that a line such as `sep=;` declares.
fn declared_delimiter(line: &[u8]) -> Option<u8> {
    let [name @ .., delimiter] = line.trim_ascii_start().get(..5)? else { return None };
    (name.eq_ignore_ascii_case(b"sep=") && DELIMITERS.contains(delimiter)).then_some(*delimiter)
}

fn most_frequent_delimiter(line: &[u8]) -> u8 {
    let (mut counts, mut is_quoted) = ([0; DELIMITERS.len()], false);
    for byte in line {
        is_quoted ^= *byte == b'"';
        for (count, delimiter) in counts.iter_mut().zip(DELIMITERS) {
            *count += usize::from(!is_quoted && *byte == delimiter);
        }
    }
    let most = counts.iter().max().copied().unwrap_or_default();
    let first = counts.iter().zip(DELIMITERS).find(|(count, _)| **count == most);
    first.map_or(b',', |(_, delimiter)| delimiter)
}

/// Whether a record is such a line.
pub(super) fn is_delimiter_declaration(fields: &CsvFields) -> bool {
    let mut values = fields.iter();
    values.next().is_some_and(|first| first.eq_ignore_ascii_case("sep="))
        && values.all(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (u64, Result<Vec<String>, UnreadableRecord>);

    fn split(text: &[u8], chunk_size: usize, max: usize) -> Vec<Read> {
        let mut splitter = CsvSplitter::new(b',', max);
        let mut records: Vec<_> =
            text.chunks(chunk_size).flat_map(|chunk| splitter.push_chunk(chunk)).collect();
        records.extend(splitter.finish());
        let fields = |fields: CsvFields| fields.iter().map(str::to_owned).collect();
        records.into_iter().map(|record| (record.line, record.contents.map(fields))).collect()
    }

    fn row(fields: &[&str]) -> Result<Vec<String>, UnreadableRecord> {
        Ok(fields.iter().map(|field| (*field).to_owned()).collect())
    }

    #[test]
    fn records_survive_any_chunking() {
        let text =
            "\r\n\na, b \r\n\"c,\"\"d\"\"\r\n\r\ne\",f\r\rg 27\",h\n\"i\" j,\n\n,\nk".as_bytes();
        let wanted = [
            (3, row(&["a", "b"])),
            (4, row(&["c,\"d\"\r\n\r\ne", "f"])),
            (8, row(&["g 27\"", "h"])),
            (9, row(&["i j", ""])),
            (11, row(&["", ""])),
            (12, row(&["k"])),
        ];
        for chunk_size in [1, 2, 3, 5, 1000] {
            assert_eq!(split(text, chunk_size, 100), wanted, "{chunk_size}");
        }
    }

    #[test]
    fn long_record_fails_alone_and_is_not_kept() {
        let many = ",".repeat(5000);
        let text = format!("a\n\"{}\n\",b\n{many}\nc", "x\n".repeat(3000));
        for chunk_size in [1, 7, 100_000] {
            let records = split(text.as_bytes(), chunk_size, 100);
            let too_long = Err(UnreadableRecord::TooLong);
            let wanted =
                [(1, row(&["a"])), (2, too_long.clone()), (3004, too_long), (3005, row(&["c"]))];
            assert_eq!(records, wanted, "{chunk_size}");
        }
        let mut splitter = CsvSplitter::new(b',', 100);
        splitter.push_chunk(&[b'x'; 100_000]);
        let kept = splitter.bytes.capacity() + splitter.text.capacity();
        assert!(kept < 10_000, "{kept} bytes");
        for _ in 0..100 {
            splitter.push_chunk(&[b'x'; 100_000]);
        }
        assert_eq!(splitter.bytes.capacity() + splitter.text.capacity(), kept);
    }

    #[test]
    fn record_with_more_fields_than_expected_is_complete() {
        let text = "x,".repeat(2000);
        let records = split(text.as_bytes(), 333, 10_000);
        assert_eq!(records[0].1.as_ref().unwrap().len(), 2001);
    }

    #[test]
    fn unclosed_quote_and_other_encodings_are_reported() {
        assert_eq!(
            split(b"a\n\"b\nc", 2, 100),
            [(1, row(&["a"])), (2, Err(UnreadableRecord::UnclosedQuote))]
        );
        assert_eq!(split(b"\"a\"", 1, 100), [(1, row(&["a"]))]);
        let latin = [(1, Err(UnreadableRecord::NotUtf8)), (2, row(&["é"]))];
        assert_eq!(split(b"caf\xe9,1\n\xc3\xa9\n", 4, 100), latin);
        assert_eq!(split(b"\xc3,\xa9\n\xc3\xa9", 4, 100), latin);
    }

    #[test]
    fn delimiter_is_the_most_frequent_one_of_the_header() {
        for (head, delimiter) in [
            ("sku,name;x,price\n", b','),
            ("sku;name;price\r\n", b';'),
            ("sku\tname\tprice\n", b'\t'),
            ("\"a,b,c\";name\n", b';'),
            ("sku\n", b','),
            ("\r\n;;\nsku;name\n", b';'),
            ("sep=\t\nsku;name\n", b'\t'),
            ("SEP=;\r\nsku,name\r\n", b';'),
        ] {
            assert_eq!(detect_delimiter(head.as_bytes(), false), Some(delimiter), "{head:?}");
        }
        assert_eq!(detect_delimiter(b"sku;name", false), None);
        assert_eq!(detect_delimiter(b"sku;name", true), Some(b';'));
        assert_eq!(detect_delimiter(b"\n", true), Some(b','));
    }
}
