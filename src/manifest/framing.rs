//! Splits a stream into records and finds their lines, before their fields are parsed.
//!
//! An unclosed quote would make one record of the rest of the file. Therefore records have a maximum length. If a record is
//! longer, or the file ends within a quote, only the record's first line is skipped and reading continues with the next
//! line, which is still in the buffer. The maximum length also bounds the memory used.

mod values;

use std::io::{self, Read};

pub(super) use values::{JsonPosition, Value};

/// Longest record in bytes.
pub(super) const RECORD_CAP: usize = 1024 * 1024;
/// Bytes per read.
const CHUNK: usize = 64 * 1024;
/// Padding after the last line, from DOS (`^Z`) and block devices (zeros).
const PADDING: [u8; 2] = [0x1A, 0];
/// Most consecutive zeros kept.
const MAX_ZEROS: usize = 4096;

/// First and last physical line of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineSpan {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// One part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A record with its line end.
    Record(LineSpan, std::ops::Range<usize>),
    /// A line with a quote that is not closed within [`RECORD_CAP`] bytes.
    OpenQuote(LineSpan),
    /// A line longer than [`RECORD_CAP`].
    TooLong(LineSpan),
    /// The end of the stream.
    End,
}

/// Splits a stream into records.
pub(super) struct Framer<R> {
    input: R,
    /// Delimiter of fields that may be quoted; `None` if each line is a record.
    delimiter: Option<u8>,
    buffer: Vec<u8>,
    /// Start of the next record; the bytes before it are consumed.
    start: usize,
    /// Physical line at `start`.
    line: u64,
    is_at_end: bool,
    /// Number of zeros at the end of `buffer`.
    zeros: usize,
    /// Whether the byte before `start` is a CR (between JSON values).
    is_after_cr: bool,
}

/// State of the scan within a record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote in a quoted field: the end of the field, or the first half of `""`.
    QuoteSeen,
}

impl<R: Read> Framer<R> {
    pub(super) fn new(input: R, delimiter: Option<u8>) -> Self {
        Self { input, delimiter, buffer: Vec::new(), start: 0, line: 1, is_at_end: false, zeros: 0, is_after_cr: false }
    }

    /// Bytes of a record.
    pub(super) fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Sets the delimiter for the following records.
    pub(super) fn set_delimiter(&mut self, delimiter: u8) {
        self.delimiter = Some(delimiter);
    }

    /// Calls `look` with the next bytes, and whether they are the last, until it finds something. Returns `None` at the end of
    /// the stream or after [`RECORD_CAP`] bytes.
    pub(super) fn peek<T>(&mut self, look: impl Fn(&[u8], bool) -> Option<T>) -> io::Result<Option<T>> {
        loop {
            let bytes = &self.buffer[self.start..];
            let found = look(bytes, self.is_at_end);
            if found.is_some() || self.is_at_end || bytes.len() > RECORD_CAP {
                return Ok(found);
            }
            self.fill()?;
        }
    }

    /// The next record that is not blank. Invalidates earlier ranges.
    pub(super) fn next(&mut self) -> io::Result<Frame> {
        loop {
            let first = self.line;
            match self.scan()? {
                Scan::Record { end, lines } => {
                    let range = self.start..self.trim_end(end);
                    self.start = end;
                    self.line += lines;
                    if !is_blank(&self.buffer[range.clone()]) {
                        return Ok(Frame::Record(LineSpan { first, last: first + lines.max(1) - 1 }, range));
                    }
                }
                Scan::OpenQuote { last } => {
                    let is_line_too_long = !self.skip_line()?;
                    let span = LineSpan { first, last };
                    return Ok(if is_line_too_long { Frame::TooLong(span) } else { Frame::OpenQuote(span) });
                }
                Scan::TooLong => {
                    self.skip_line()?;
                    return Ok(Frame::TooLong(LineSpan { first, last: first }));
                }
                Scan::End => return Ok(Frame::End),
            }
        }
    }

    /// Finds the end of the record at `start`.
    fn scan(&mut self) -> io::Result<Scan> {
        let (mut state, mut at, mut lines) = (State::FieldStart, self.start, 0);
        loop {
            if at == self.buffer.len() {
                if at - self.start > RECORD_CAP {
                    return Ok(if state == State::Quoted {
                        Scan::OpenQuote { last: self.line + lines }
                    } else {
                        Scan::TooLong
                    });
                }
                let taken = self.start;
                if !self.is_at_end {
                    self.fill()?;
                    at -= taken - self.start;
                    continue;
                }
                return Ok(match state {
                    _ if at == self.start => Scan::End,
                    State::Quoted => Scan::OpenQuote { last: self.line + lines },
                    State::FieldStart | State::Plain | State::QuoteSeen => Scan::Record { end: at, lines: lines + 1 },
                });
            }
            let byte = self.buffer[at];
            at += 1;
            let is_line_end =
                byte == b'\n' || (byte == b'\r' && self.buffer.get(at).is_some_and(|&next| next != b'\n'));
            // Only the next chunk shows whether an LF follows a CR at the end of the buffer.
            let is_cr_at_edge = byte == b'\r' && at == self.buffer.len();
            if is_cr_at_edge && !self.is_at_end {
                let taken = self.start;
                self.fill()?;
                at -= taken - self.start + 1;
                continue;
            }
            let is_line_end = is_line_end || is_cr_at_edge;
            if is_line_end {
                lines += 1;
            }
            state = match state {
                State::Quoted if byte == b'"' => State::QuoteSeen,
                State::Quoted => State::Quoted,
                State::QuoteSeen if byte == b'"' => State::Quoted,
                State::FieldStart if byte == b'"' && self.delimiter.is_some() => State::Quoted,
                State::FieldStart | State::Plain | State::QuoteSeen if is_line_end => {
                    return Ok(Scan::Record { end: at, lines });
                }
                State::FieldStart | State::Plain | State::QuoteSeen if Some(byte) == self.delimiter => {
                    State::FieldStart
                }
                State::FieldStart | State::Plain | State::QuoteSeen => State::Plain,
            };
        }
    }

    /// End of a record, without the padding after the file's last record.
    fn trim_end(&self, end: usize) -> usize {
        let is_last = self.is_at_end && end == self.buffer.len();
        let padding = self.buffer[self.start..end].iter().rev().take_while(|byte| PADDING.contains(byte));
        if is_last { end - padding.count() } else { end }
    }

    /// Skips the physical line at `start`. Returns whether it was within the maximum length.
    pub(super) fn skip_line(&mut self) -> io::Result<bool> {
        let mut is_short = true;
        loop {
            let rest = &self.buffer[self.start..];
            if let Some(end) = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r') {
                let is_crlf = rest[end] == b'\r' && rest.get(end + 1) == Some(&b'\n');
                self.start += end + 1 + usize::from(is_crlf);
                self.line += 1;
                return Ok(is_short);
            }
            is_short = is_short && rest.len() <= RECORD_CAP;
            self.start = self.buffer.len();
            if self.is_at_end {
                return Ok(is_short);
            }
            self.fill()?;
        }
    }

    /// Reads another chunk and drops the consumed bytes.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let len = self.buffer.len();
        self.buffer.resize(len + CHUNK, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[len..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(len + *read.as_ref().unwrap_or(&0));
        self.is_at_end = read? == 0;
        self.shorten_zeros(len);
        Ok(())
    }

    /// Shortens long runs of zeros, so that padding after the last record doesn't count as a long record.
    fn shorten_zeros(&mut self, from: usize) {
        match &self.buffer[from..] {
            [] => return,
            read if !read.contains(&0) => {
                self.zeros = 0;
                return;
            }
            _ => {}
        }
        let (mut to, mut zeros) = (from, self.zeros);
        for at in from..self.buffer.len() {
            let byte = self.buffer[at];
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            if zeros <= MAX_ZEROS {
                self.buffer[to] = byte;
                to += 1;
            }
        }
        // No need to count further.
        self.zeros = zeros.min(MAX_ZEROS);
        self.buffer.truncate(to);
    }
}

enum Scan {
    Record { end: usize, lines: u64 },
    OpenQuote { last: u64 },
    TooLong,
    End,
}

fn is_blank(record: &[u8]) -> bool {
    record.iter().all(|byte| matches!(byte, b'\r' | b'\n') || PADDING.contains(byte))
}

/// Returns one byte per read, to test every chunk boundary.
#[cfg(test)]
pub(super) struct OneByteReader<R>(pub(super) R);

#[cfg(test)]
impl<R: Read> Read for OneByteReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(1);
        self.0.read(&mut buffer[..len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(input: impl Read) -> Vec<String> {
        let mut framer = Framer::new(input, Some(b','));
        let mut pieces = Vec::new();
        loop {
            match framer.next().unwrap() {
                Frame::Record(span, range) => {
                    let text = String::from_utf8_lossy(framer.bytes(range)).trim_end().to_owned();
                    pieces.push(format!("{}-{} {text:?}", span.first, span.last));
                }
                Frame::OpenQuote(span) => pieces.push(format!("{} open quote", span.first)),
                Frame::TooLong(span) => pieces.push(format!("{} too long", span.first)),
                Frame::End => return pieces,
            }
        }
    }

    fn check_once(text: &str, expected: &[&str]) {
        assert_eq!(pieces(text.as_bytes()), expected);
    }

    fn check(text: &str, expected: &[&str]) {
        check_once(text, expected);
        assert_eq!(pieces(OneByteReader(text.as_bytes())), expected, "{text:?}, a byte at a time");
    }

    #[test]
    fn all_line_endings_are_recognised() {
        check("a,b\nc,d\n", &[r#"1-1 "a,b""#, r#"2-2 "c,d""#]);
        check("a,b\r\nc,d", &[r#"1-1 "a,b""#, r#"2-2 "c,d""#]);
        check("a,b\rc,d\r", &[r#"1-1 "a,b""#, r#"2-2 "c,d""#]);
        check("a\r\n\r\n\n\rb", &[r#"1-1 "a""#, r#"5-5 "b""#]);
        check("", &[]);
        check("\n\n", &[]);
    }

    #[test]
    fn quoted_line_ends_belong_to_the_record() {
        check("a,\"b\r\nc\",\"d\"\"\ne\"\nf", &["1-3 \"a,\\\"b\\r\\nc\\\",\\\"d\\\"\\\"\\ne\\\"\"", r#"4-4 "f""#]);
        check("a\"b\nc", &[r#"1-1 "a\"b""#, r#"2-2 "c""#]);
    }

    #[test]
    fn unclosed_quote_skips_one_line() {
        check("a\n\"b\nc\nd\n", &[r#"1-1 "a""#, "2 open quote", r#"3-3 "c""#, r#"4-4 "d""#]);
        check("a\nb,\"c", &[r#"1-1 "a""#, "2 open quote"]);
    }

    #[test]
    fn padding_after_the_last_record_is_ignored() {
        let zeros = "\0".repeat(3 * RECORD_CAP);
        for padding in ["\x1A", "\0\0", "\x1A\0", "\x1A\x1A\r\n", &zeros] {
            check_once(&format!("a,b\nc,d\n{padding}"), &[r#"1-1 "a,b""#, r#"2-2 "c,d""#]);
        }
        check("a,b\nc,d\x1A\0", &[r#"1-1 "a,b""#, r#"2-2 "c,d""#]);
        check_once(&format!("a,b\nc,d{zeros}"), &[r#"1-1 "a,b""#, r#"2-2 "c,d""#]);
        check("a\x1A,b\nc", &[r#"1-1 "a\u{1a},b""#, r#"2-2 "c""#]);
    }

    #[test]
    fn record_over_the_cap_skips_only_its_line() {
        let filler = "x\n".repeat(RECORD_CAP);
        let text = format!("a\n\"b\n{filler}");
        let found = pieces(text.as_bytes());
        assert_eq!(found[..3], [r#"1-1 "a""#.to_owned(), "2 open quote".into(), r#"3-3 "x""#.into()]);
        assert_eq!(found.len(), 2 + RECORD_CAP);
        let line = format!("a\n{}\nb\n", "x".repeat(3 * RECORD_CAP));
        assert_eq!(pieces(line.as_bytes()), [r#"1-1 "a""#, "2 too long", r#"3-3 "b""#]);
    }

    #[test]
    fn memory_is_bounded_by_the_record_cap() {
        let mut framer = Framer::new(io::Read::chain(&b"\""[..], io::repeat(b'x')).take(64 * 1024 * 1024), Some(b','));
        assert!(matches!(framer.next().unwrap(), Frame::TooLong(_)));
        assert!(framer.buffer.capacity() < 4 * RECORD_CAP, "{}", framer.buffer.capacity());
    }
}
