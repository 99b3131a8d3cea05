//! Cuts a stream into records, before anything looks at their fields: where each begins and ends, and on which lines.
//!
//! A quote that is never closed would make one record of the rest of the file. So a record has a greatest length; where
//! it is passed, or the file ends within a quote, the record's first line alone is given up, and reading goes on with
//! the next line, which is still in the buffer. Memory is bounded by that length, whatever the file.

use std::io::{self, Read};

/// Longest record.
pub(super) const RECORD_CAP: usize = 1024 * 1024;
/// Bytes read at once; also about the size of a block.
const CHUNK: usize = 64 * 1024;

/// Where a record stood: its first and its last physical line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// A piece of a stream, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// One record, with its line end.
    Record(Span, std::ops::Range<usize>),
    /// A line that opens a quote which is never closed, or not within [`RECORD_CAP`].
    OpenQuote(Span),
    /// A line of more than [`RECORD_CAP`].
    TooLong(Span),
    /// Nothing more.
    End,
}

/// See the module.
pub(super) struct Framer<R> {
    input: R,
    /// Of fields that may be quoted; none: a record is a line.
    delimiter: Option<u8>,
    buffer: Vec<u8>,
    /// What is behind this has been given out.
    start: usize,
    /// The physical line at `start`.
    line: u64,
    is_at_end: bool,
}

/// Where in a record the scan is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    FieldStart,
    Plain,
    Quoted,
    /// Behind a quote within a quoted field: its end, or the first half of `""`.
    QuoteSeen,
}

impl<R: Read> Framer<R> {
    pub(super) fn new(input: R, delimiter: Option<u8>) -> Self {
        Self { input, delimiter, buffer: Vec::new(), start: 0, line: 1, is_at_end: false }
    }

    /// The bytes of a record.
    pub(super) fn bytes(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// The first bytes of the stream, before anything has been taken.
    pub(super) fn peek(&mut self) -> io::Result<&[u8]> {
        while self.buffer.len() < 4 && !self.is_at_end {
            self.fill()?;
        }
        Ok(&self.buffer)
    }

    /// Leaves out so many bytes at the beginning.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.start += bytes;
    }

    /// The next record that is not blank. Ranges given out before are no longer valid.
    pub(super) fn next(&mut self) -> io::Result<Piece> {
        loop {
            let first = self.line;
            match self.scan()? {
                Scan::Record { end, lines } => {
                    let range = self.start..end;
                    self.start = end;
                    self.line += lines;
                    if !is_blank(&self.buffer[range.clone()]) {
                        return Ok(Piece::Record(Span { first, last: first + lines.max(1) - 1 }, range));
                    }
                }
                Scan::OpenQuote { last } => {
                    let is_line_too_long = !self.leave_line()?;
                    let span = Span { first, last };
                    return Ok(if is_line_too_long { Piece::TooLong(span) } else { Piece::OpenQuote(span) });
                }
                Scan::TooLong => {
                    self.leave_line()?;
                    return Ok(Piece::TooLong(Span { first, last: first }));
                }
                Scan::End => return Ok(Piece::End),
            }
        }
    }

    /// Finds the end of the record that begins at `start`.
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
            // A lone CR at the end of what has been read: whether an LF follows is known after the next chunk.
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

    /// Gives up the physical line at `start`. False: it is longer than a record can be.
    fn leave_line(&mut self) -> io::Result<bool> {
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

    /// Reads another chunk; what has been given out makes room for it.
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
        Ok(())
    }
}

enum Scan {
    Record { end: usize, lines: u64 },
    OpenQuote { last: u64 },
    TooLong,
    End,
}

fn is_blank(record: &[u8]) -> bool {
    record.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time: every edge between chunks.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = usize::from(!self.0.is_empty());
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn pieces(input: impl Read) -> Vec<String> {
        let mut framer = Framer::new(input, Some(b','));
        let mut pieces = Vec::new();
        loop {
            match framer.next().unwrap() {
                Piece::Record(span, range) => {
                    let text = String::from_utf8_lossy(framer.bytes(range)).trim_end().to_owned();
                    pieces.push(format!("{}-{} {text:?}", span.first, span.last));
                }
                Piece::OpenQuote(span) => pieces.push(format!("{} open quote", span.first)),
                Piece::TooLong(span) => pieces.push(format!("{} too long", span.first)),
                Piece::End => return pieces,
            }
        }
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(pieces(text.as_bytes()), expected, "{text:?}");
        assert_eq!(pieces(Drip(text.as_bytes())), expected, "{text:?}, a byte at a time");
    }

    #[test]
    fn lines_end_in_lf_crlf_or_cr_and_the_last_need_not_end() {
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
    fn quote_that_is_never_closed_costs_its_own_line_only() {
        check("a\n\"b\nc\nd\n", &[r#"1-1 "a""#, "2 open quote", r#"3-3 "c""#, r#"4-4 "d""#]);
        check("a\nb,\"c", &[r#"1-1 "a""#, "2 open quote"]);
    }

    #[test]
    fn record_over_the_cap_costs_its_own_line_only() {
        let filler = "x\n".repeat(RECORD_CAP);
        let text = format!("a\n\"b\n{filler}");
        let found = pieces(text.as_bytes());
        assert_eq!(found[..3], [r#"1-1 "a""#.to_owned(), "2 open quote".into(), r#"3-3 "x""#.into()]);
        assert_eq!(found.len(), 2 + RECORD_CAP);
        let line = format!("a\n{}\nb\n", "x".repeat(3 * RECORD_CAP));
        assert_eq!(pieces(line.as_bytes()), [r#"1-1 "a""#, "2 too long", r#"3-3 "b""#]);
    }

    #[test]
    fn memory_is_bounded_by_the_cap() {
        let mut framer = Framer::new(io::Read::chain(&b"\""[..], io::repeat(b'x')).take(64 * 1024 * 1024), Some(b','));
        assert!(matches!(framer.next().unwrap(), Piece::TooLong(_)));
        assert!(framer.buffer.capacity() < 4 * RECORD_CAP, "{}", framer.buffer.capacity());
    }
}
