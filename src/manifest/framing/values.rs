//! Cuts JSON into the values of its top-level array, or into values that stand one behind another, by brackets and quotes
//! alone: whether a value is an object is seen by whoever reads it.
//!
//! A value has the same greatest length as a record; a longer one is given up and the next one is read. A comma too many
//! is forgiven. What can't be cut ends the source: behind it nothing could be trusted.

use std::io::{self, Read};

use super::{Framer, PADDING, RECORD_CAP, Span};

/// Where between the values the reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manifest) enum Place {
    /// Nothing has been read.
    Start,
    /// In the array that begins on this line.
    Array(u64),
    /// Among values without an array.
    Sequence,
    /// Behind the array.
    Behind,
}

/// A piece of JSON, in order.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::manifest) enum Value {
    /// One value.
    Whole(Span, std::ops::Range<usize>),
    /// One of more than [`RECORD_CAP`].
    TooLong(Span),
    /// No JSON, on this line.
    Broken { line: u64, problem: String },
    /// Nothing more.
    End,
}

impl<R: Read> Framer<R> {
    /// The next value. Ranges given out before are no longer valid.
    pub(in crate::manifest) fn next_value(&mut self, place: &mut Place) -> io::Result<Value> {
        loop {
            let Some(byte) = self.peek(|bytes, _| bytes.first().copied())? else {
                let problem = match *place {
                    Place::Array(line) => format!("it is cut off: the array of line {line} is not closed"),
                    Place::Start => "it is empty: it must be an array of objects".to_owned(),
                    Place::Sequence | Place::Behind => return Ok(Value::End),
                };
                return Ok(Value::Broken { line: self.line, problem });
            };
            let broken = |problem: &str| Ok(Value::Broken { line: self.line, problem: problem.to_owned() });
            let is_blank = byte.is_ascii_whitespace() || PADDING.contains(&byte);
            match (*place, byte) {
                _ if is_blank => self.step(),
                (Place::Array(_) | Place::Sequence, b',') => self.step(),
                (Place::Start, b'[') => {
                    *place = Place::Array(self.line);
                    self.step();
                }
                (Place::Start, b'{') => *place = Place::Sequence,
                (Place::Array(_), b']') => {
                    *place = Place::Behind;
                    self.step();
                }
                (Place::Array(_) | Place::Sequence, b']' | b'}') => return broken("a bracket closes nothing"),
                (Place::Array(_) | Place::Sequence, _) => return self.cut_value(),
                (Place::Start, _) => return broken("it is no JSON: it must be an array of objects"),
                (Place::Behind, _) => return broken("there is something behind the array"),
            }
        }
    }

    /// Passes over one byte between values.
    fn step(&mut self) {
        let byte = self.buffer[self.start];
        let is_second_half = byte == b'\n' && self.is_behind_cr;
        self.line += u64::from(matches!(byte, b'\r' | b'\n') && !is_second_half);
        self.is_behind_cr = byte == b'\r';
        self.start += 1;
    }

    /// Finds the end of the value that begins at `start`.
    fn cut_value(&mut self) -> io::Result<Value> {
        let first = self.line;
        let (mut at, mut depth, mut is_too_long) = (self.start, 0_usize, false);
        let (mut is_text, mut is_escaped) = (false, false);
        self.is_behind_cr = false;
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
                let problem = format!("it is cut off: the value of line {first} is not closed");
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
                self.line += u64::from(!(byte == b'\n' && self.is_behind_cr));
            }
            self.is_behind_cr = byte == b'\r';
            match byte {
                _ if is_escaped && !is_line_end => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                // No text of JSON has a line end in it: it is not closed, and the next line is none of it.
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
        let span = Span { first, last: self.line };
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
        let (mut place, mut shown) = (Place::Start, Vec::new());
        loop {
            match framer.next_value(&mut place).unwrap() {
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
    fn array_is_cut_into_its_values() {
        check("[]", &[]);
        check(" [ {\"a\":1},{\"b\":[2,{}]} ]\r\n\0\x1A", &["1-1 {\"a\":1}", "1-1 {\"b\":[2,{}]}"]);
        check("[\r\n {\r\n\"a\":\r1},\n{}\n,]\n", &["2-4 {\r\n\"a\":\r1}", "5-5 {}"]);
        check(
            r#"["}",{"a":"]\"}"},1 ,null,[1,[2]]]"#,
            &["1-1 \"}\"", r#"1-1 {"a":"]\"}"}"#, "1-1 1", "1-1 null", "1-1 [1,[2]]"],
        );
    }

    #[test]
    fn values_may_stand_one_behind_another() {
        check("{\"a\":1}\n{\n}\n\n{}", &["1-1 {\"a\":1}", "2-3 {\n}", "5-5 {}"]);
        check("{}{}", &["1-1 {}", "1-1 {}"]);
    }

    #[test]
    fn what_can_t_be_cut_ends_it_with_its_line() {
        check("", &["1: it is empty: it must be an array of objects"]);
        check("\npath,id\n", &["2: it is no JSON: it must be an array of objects"]);
        check("[{},\n", &["1-1 {}", "2: it is cut off: the array of line 1 is not closed"]);
        check("[\n{\"a\":\n", &["3: it is cut off: the value of line 2 is not closed"]);
        check("[{}]\n[{}]", &["1-1 {}", "2: there is something behind the array"]);
        check("[}]", &["1: a bracket closes nothing"]);
    }

    #[test]
    fn text_that_is_not_closed_ends_with_its_line() {
        check("[\n{\"a\":\"x\n},\n{\"b\":1}]", &["2-3 {\"a\":\"x\n}", "4-4 {\"b\":1}"]);
    }

    #[test]
    fn value_over_the_cap_costs_itself_only() {
        let long = format!("[{{}},\n{{\"a\":[\"{}\"\n]}},\n{{}}]", "x".repeat(3 * RECORD_CAP));
        assert_eq!(values(long.as_bytes()), ["1-1 {}", "2 too long", "4-4 {}"]);
        let mut framer = Framer::new(io::Read::chain(&b"[\""[..], io::repeat(b'x')).take(64 * 1024 * 1024), None);
        assert!(matches!(framer.next_value(&mut Place::Start).unwrap(), Value::Broken { .. }));
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
        fn any_array_is_cut_into_what_it_was_made_of(
            values in prop::collection::vec(json(), 0..6), is_pretty: bool, padding in 0..CHUNK,
        ) {
            let array = serde_json::Value::from(values.clone());
            let text = if is_pretty { serde_json::to_string_pretty(&array) } else { serde_json::to_string(&array) };
            // Moves the values over the edges between chunks.
            let text = format!("{}{}", " ".repeat(CHUNK - padding), text.unwrap());
            let mut framer = Framer::new(text.as_bytes(), None);
            let (mut place, mut found) = (Place::Start, Vec::new());
            while let Value::Whole(span, range) = framer.next_value(&mut place).unwrap() {
                let lines = text[..].as_bytes().split(|&byte| byte == b'\n').count() as u64;
                prop_assert!(span.first <= span.last && span.last <= lines);
                found.push(serde_json::from_slice::<serde_json::Value>(framer.bytes(range)).unwrap());
            }
            prop_assert_eq!(found, values);
            prop_assert_eq!(place, Place::Behind);
        }
    }
}
