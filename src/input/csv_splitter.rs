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

/// Where the parser is in a record. The parser of the library does not say so, and takes text after
/// a closing quote as a part of the field. Such text means that an earlier quote is not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QuoteState {
    /// At the beginning of a field.
    Start,
    /// In a field without quotes.
    Unquoted,
    /// In quotes.
    Quoted,
    /// After a quote that closes the field, unless another quote follows.
    Closing,
    /// After a quote that closes the field, and more.
    Closed,
}

impl QuoteState {
    /// The state after the next byte.
    const fn after(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Self::Quoted, b'"') => Self::Closing,
            (Self::Quoted, _) | (Self::Start | Self::Closing, b'"') => Self::Quoted,
            (_, b'\n' | b'\r') => Self::Start,
            (_, byte) if byte == delimiter => Self::Start,
            (Self::Closing | Self::Closed, _) => Self::Closed,
            (Self::Start | Self::Unquoted, _) => Self::Unquoted,
        }
    }
}

/// The most bytes after a closing quote that are compared with spaces.
const MAX_TAIL_BYTES: usize = 100;

/// Takes chunks of a CSV file and returns the records that are complete.
pub(super) struct CsvSplitter {
    parser: csv_core::Reader,
    delimiter: u8,
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
    quotes: QuoteState,
    /// What follows a closing quote in the field.
    tail: Vec<u8>,
    has_text_after_quote: bool,
    /// Whether the parser has had any bytes.
    has_parsed: bool,
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
            delimiter,
            max_record_bytes,
            bytes: Vec::new(),
            text: vec![0; 1024],
            text_len: 0,
            ends: vec![0; 32],
            ends_len: 0,
            is_too_long: false,
            has_begun: false,
            quotes: QuoteState::Start,
            tail: Vec::new(),
            has_text_after_quote: false,
            has_parsed: false,
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
            self.follow_quotes(parsed);
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
        loop {
            match self.parse(b"\n").0 {
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                _ => break,
            }
        }
        let is_closed = self.quotes != QuoteState::Quoted;
        self.end_field();
        let record = self.take_record();
        let contents = match record.contents {
            Ok(_) | Err(UnreadableRecord::NotUtf8) if !is_closed => {
                Err(UnreadableRecord::UnclosedQuote)
            }
            contents => contents,
        };
        Some(RawRecord { contents, ..record })
    }

    fn follow_quotes(&mut self, mut bytes: &[u8]) {
        if !std::mem::replace(&mut self.has_parsed, true) {
            // The parser skips the mark, too.
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        }
        for byte in bytes {
            self.quotes = self.quotes.after(*byte, self.delimiter);
            if self.quotes == QuoteState::Closed {
                self.tail.extend((self.tail.len() < MAX_TAIL_BYTES).then_some(byte));
            } else if self.quotes == QuoteState::Start {
                self.end_field();
            }
        }
    }

    fn end_field(&mut self) {
        let is_blank = str::from_utf8(&self.tail).is_ok_and(|tail| tail.trim().is_empty());
        self.has_text_after_quote |= !is_blank;
        self.tail.clear();
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
        } else if self.has_text_after_quote {
            Err(UnreadableRecord::TextAfterQuote)
        } else {
            parse_fields(text, ends)
        };
        (self.text_len, self.ends_len) = (0, 0);
        (self.is_too_long, self.has_begun) = (false, false);
        (self.quotes, self.has_text_after_quote) = (QuoteState::Start, false);
        let bytes = std::mem::take(&mut self.bytes);
        let after_last = self.line + u64::from(!self.breaks.is_after_break());
        let lines = after_last - self.record_line;
        RawRecord { line: self.record_line, lines, end: self.consumed, bytes, contents }
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
mod tests;
