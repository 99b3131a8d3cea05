//! Splits JSON into the values of its top-level array or of a sequence, by brackets and quotes alone. The reader of a value
//! checks whether it is an object.
//!
//! A value has the same maximum length as a record; a longer one is skipped. An extra comma is tolerated. Invalid JSON ends
//! the source, because nothing after it could be trusted.

use std::io::{self, Read};

use super::{Framer, LineSpan, PADDING, RECORD_CAP};

/// Position of the reader between values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manifest) enum JsonPosition {
    /// Nothing has been read.
    Start,
    /// In the array that begins on this line.
    Array(u64),
    /// In a sequence without an array.
    Sequence,
    /// After the array.
    Behind,
}

/// One part of a JSON stream.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::manifest) enum Value {
    /// A value.
    Whole(LineSpan, std::ops::Range<usize>),
    /// A value longer than [`RECORD_CAP`].
    TooLong(LineSpan),
    /// Invalid JSON on this line.
    Broken { line: u64, problem: String },
    /// The end of the stream.
    End,
}

impl<R: Read> Framer<R> {
    /// The next value. Invalidates earlier ranges.
    pub(in crate::manifest) fn next_value(&mut self, position: &mut JsonPosition) -> io::Result<Value> {
        loop {
            let Some(byte) = self.peek(|bytes, _| bytes.first().copied())? else {
                let problem = match *position {
                    JsonPosition::Array(line) => {
                        format!("truncated: the array that begins on line {line} is not closed")
                    }
                    JsonPosition::Start => "empty: expected an array of objects".to_owned(),
                    JsonPosition::Sequence | JsonPosition::Behind => return Ok(Value::End),
                };
                return Ok(Value::Broken { line: self.line, problem });
            };
            let broken = |problem: &str| Ok(Value::Broken { line: self.line, problem: problem.to_owned() });
            let is_blank = byte.is_ascii_whitespace() || PADDING.contains(&byte);
            match (*position, byte) {
                _ if is_blank => self.step(),
                (JsonPosition::Array(_) | JsonPosition::Sequence, b',') => self.step(),
                (JsonPosition::Start, b'[') => {
                    *position = JsonPosition::Array(self.line);
                    self.step();
                }
                (JsonPosition::Start, b'{') => *position = JsonPosition::Sequence,
                (JsonPosition::Array(_), b']') => {
                    *position = JsonPosition::Behind;
                    self.step();
                }
                (JsonPosition::Array(_) | JsonPosition::Sequence, b']' | b'}') => {
                    return broken("unmatched closing bracket");
                }
                (JsonPosition::Array(_) | JsonPosition::Sequence, _) => return self.scan_value(),
                (JsonPosition::Start, _) => return broken("not JSON: expected an array of objects"),
                (JsonPosition::Behind, _) => return broken("unexpected text after the array"),
            }
        }
    }

    /// Skips one byte between values.
    fn step(&mut self) {
        let byte = self.buffer[self.start];
        let is_second_half = byte == b'\n' && self.is_after_cr;
        self.line += u64::from(matches!(byte, b'\r' | b'\n') && !is_second_half);
        self.is_after_cr = byte == b'\r';
        self.start += 1;
    }

    /// Finds the end of the value at `start`.
    fn scan_value(&mut self) -> io::Result<Value> {
        let first = self.line;
        let (mut at, mut depth, mut is_too_long) = (self.start, 0_usize, false);
        let (mut is_text, mut is_escaped) = (false, false);
        self.is_after_cr = false;
        let end = loop {
            if at == self.buffer.len() {
                if at - self.start > RECORD_CAP {
                    is_too_long = true;
                    self.start = at;
                }
                let taken = self.start;
                if !self.is_at_end {
                    self.fill()?;
                    at -= taken - self.start;
                    continue;
                }
                if depth == 0 && !is_text {
                    break at;
                }
                let problem = format!("truncated: the value that begins on line {first} is not closed");
                self.start = at;
                return Ok(Value::Broken { line: self.line, problem });
            }
            let byte = self.buffer[at];
            let is_line_end = matches!(byte, b'\r' | b'\n');
            let is_delimiter = byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
            if depth == 0 && !is_text && is_delimiter {
                break at;
            }
            at += 1;
            if is_line_end {
                self.line += u64::from(!(byte == b'\n' && self.is_after_cr));
            }
            self.is_after_cr = byte == b'\r';
            match byte {
                _ if is_escaped && !is_line_end => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                // JSON strings never contain a line end, so an unclosed string ends with its line.
                _ if is_text && (byte == b'"' || is_line_end) => (is_text, is_escaped) = (false, false),
                _ if is_text => {}
                b'"' => is_text = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            if depth == 0 && !is_text && matches!(byte, b'"' | b'}' | b']') {
                break at;
            }
        };
        let range = self.start..end;
        self.start = end;
        let span = LineSpan { first, last: self.line };
        Ok(if is_too_long || range.len() > RECORD_CAP { Value::TooLong(span) } else { Value::Whole(span, range) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{CHUNK, OneByteReader},
        *,
    };

    fn values(input: impl Read) -> Vec<String> {
        let mut framer = Framer::new(input, None);
        let (mut position, mut shown) = (JsonPosition::Start, Vec::new());
        loop {
            match framer.next_value(&mut position).unwrap() {
                Value::Whole(span, range) => {
                    let text = String::from_utf8_lossy(framer.bytes(range)).into_owned();
                    shown.push(format!("{}-{} {text}", span.first, span.last));
                }
                Value::TooLong(span) => shown.push(format!("{} too long", span.first)),
                Value::Broken { line, problem } => {
                    shown.push(format!("{line}: {problem}"));
                    return shown;
                }
                Value::End => return shown,
            }
        }
    }

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(values(text.as_bytes()), expected, "{text:?}");
        assert_eq!(values(OneByteReader(text.as_bytes())), expected, "{text:?}, a byte at a time");
    }

    #[test]
    fn array_is_split_into_its_values() {
        check("[]", &[]);
        check(" [ {\"a\":1},{\"b\":[2,{}]} ]\r\n\0\x1A", &["1-1 {\"a\":1}", "1-1 {\"b\":[2,{}]}"]);
        check("[\r\n {\r\n\"a\":\r1},\n{}\n,]\n", &["2-4 {\r\n\"a\":\r1}", "5-5 {}"]);
        check(
            r#"["}",{"a":"]\"}"},1 ,null,[1,[2]]]"#,
            &["1-1 \"}\"", r#"1-1 {"a":"]\"}"}"#, "1-1 1", "1-1 null", "1-1 [1,[2]]"],
        );
    }

    #[test]
    fn sequence_of_values_is_split() {
        check("{\"a\":1}\n{\n}\n\n{}", &["1-1 {\"a\":1}", "2-3 {\n}", "5-5 {}"]);
        check("{}{}", &["1-1 {}", "1-1 {}"]);
    }

    #[test]
    fn invalid_json_ends_the_source_with_its_line() {
        check("", &["1: empty: expected an array of objects"]);
        check("\npath,id\n", &["2: not JSON: expected an array of objects"]);
        check("[{},\n", &["1-1 {}", "2: truncated: the array that begins on line 1 is not closed"]);
        check("[\n{\"a\":\n", &["3: truncated: the value that begins on line 2 is not closed"]);
        check("[{}]\n[{}]", &["1-1 {}", "2: unexpected text after the array"]);
        check("[}]", &["1: unmatched closing bracket"]);
    }

    #[test]
    fn unclosed_string_ends_with_its_line() {
        check("[\n{\"a\":\"x\n},\n{\"b\":1}]", &["2-3 {\"a\":\"x\n}", "4-4 {\"b\":1}"]);
    }

    #[test]
    fn value_over_the_cap_skips_only_itself() {
        let long = format!("[{{}},\n{{\"a\":[\"{}\"\n]}},\n{{}}]", "x".repeat(3 * RECORD_CAP));
        assert_eq!(values(long.as_bytes()), ["1-1 {}", "2 too long", "4-4 {}"]);
        let mut framer = Framer::new(io::Read::chain(&b"[\""[..], io::repeat(b'x')).take(64 * 1024 * 1024), None);
        assert!(matches!(framer.next_value(&mut JsonPosition::Start).unwrap(), Value::Broken { .. }));
        assert!(framer.buffer.capacity() < 4 * RECORD_CAP, "{}", framer.buffer.capacity());
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(serde_json::Value::from),
            any::<bool>().prop_map(serde_json::Value::from),
            "([ -~]|\n|张){0,12}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::vec((".{0,8}", inner), 0..4)
                    .prop_map(|members| members.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_array_is_split_into_its_values(
            values in prop::collection::vec(json(), 0..6), is_pretty: bool, padding in 0..CHUNK,
        ) {
            let array = serde_json::Value::from(values.clone());
            let text = if is_pretty { serde_json::to_string_pretty(&array) } else { serde_json::to_string(&array) };
            // Moves the values across the chunk boundaries.
            let text = format!("{}{}", " ".repeat(CHUNK - padding), text.unwrap());
            let mut framer = Framer::new(text.as_bytes(), None);
            let (mut position, mut found) = (JsonPosition::Start, Vec::new());
            while let Value::Whole(span, range) = framer.next_value(&mut position).unwrap() {
                let lines = text[..].as_bytes().split(|&byte| byte == b'\n').count() as u64;
                prop_assert!(span.first <= span.last && span.last <= lines);
                found.push(serde_json::from_slice::<serde_json::Value>(framer.bytes(range)).unwrap());
            }
            prop_assert_eq!(found, values);
            prop_assert_eq!(position, JsonPosition::Behind);
        }
    }
}
