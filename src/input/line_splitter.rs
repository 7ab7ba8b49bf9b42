//! Splits a file into numbered records as its chunks arrive.

/// A record of a file, before it is parsed.
pub(super) struct RawRecord<T> {
    /// The number of its first line, from 1.
    pub(super) line: u64,
    /// How many lines it takes.
    pub(super) lines: u64,
    /// How many bytes of the file are read when it is complete.
    pub(super) end: u64,
    /// Its bytes, as they are in the file.
    pub(super) bytes: Vec<u8>,
    /// Its contents.
    pub(super) contents: Result<T, UnreadableRecord>,
}

/// Why a record has no contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnreadableRecord {
    /// It is longer than the reader accepts.
    TooLong,
    /// It is not UTF-8 text.
    NotUtf8,
    /// It has a quoted field that the file does not close.
    UnclosedQuote,
    /// It has text between the closing quote of a field and the next separator.
    TextAfterQuote,
}

/// Splits a file at its line breaks, LF or CRLF.
pub(super) struct LineSplitter {
    max_line_bytes: usize,
    buffer: Vec<u8>,
    /// Whether the buffer's line is too long and is skipped to its end.
    is_too_long: bool,
    line: u64,
    consumed: u64,
}

impl LineSplitter {
    pub(super) const fn new(max_line_bytes: usize) -> Self {
        Self { max_line_bytes, buffer: Vec::new(), is_too_long: false, line: 1, consumed: 0 }
    }

    /// Adds a chunk and returns the lines that it completes. The contents are the bytes.
    pub(super) fn push_chunk(&mut self, chunk: &[u8]) -> Vec<RawRecord<()>> {
        let mut lines = Vec::new();
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            self.consumed += part.len() as u64;
            if !self.is_too_long {
                self.buffer.extend_from_slice(part);
                self.is_too_long = self.buffer.len() > self.max_line_bytes;
            }
            if part.ends_with(b"\n") {
                lines.push(self.take_line());
                self.line += 1;
            }
        }
        lines
    }

    /// Returns the last line if the file does not end with a line break.
    pub(super) fn finish(&mut self) -> Option<RawRecord<()>> {
        (!self.buffer.is_empty()).then(|| self.take_line())
    }

    fn take_line(&mut self) -> RawRecord<()> {
        let bytes = std::mem::take(&mut self.buffer);
        let is_too_long = std::mem::take(&mut self.is_too_long);
        RawRecord {
            line: self.line,
            lines: 1,
            end: self.consumed,
            bytes,
            contents: if is_too_long { Err(UnreadableRecord::TooLong) } else { Ok(()) },
        }
    }
}

/// Counts line breaks: LF, CRLF, or CR alone.
#[derive(Default)]
pub(super) struct LineBreakCounter {
    after_carriage_return: bool,
    after_break: bool,
}

impl LineBreakCounter {
    /// Counts the breaks in the next bytes of a text.
    pub(super) fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut breaks = 0;
        for byte in bytes {
            breaks += u64::from(*byte == b'\r' || *byte == b'\n' && !self.after_carriage_return);
            self.after_carriage_return = *byte == b'\r';
            self.after_break = matches!(byte, b'\r' | b'\n');
        }
        breaks
    }

    /// Whether the last byte ended a line.
    pub(super) const fn is_after_break(&self) -> bool {
        self.after_break
    }
}
