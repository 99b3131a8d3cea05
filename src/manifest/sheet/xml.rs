//! Reads the XML of a part: events, attributes and texts, within the part's budget.

use std::io::BufReader;

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_predefined_entity,
    events::{BytesStart, Event},
};

use super::package::Budget;

/// Deepest nesting of elements; the parts of a workbook need about ten.
const MAX_DEPTH: usize = 64;
/// Bytes per read of inflated data.
const CHUNK_BYTES: usize = 32 * 1024;

/// What a part may cost.
pub(super) struct Limits {
    /// The budget is renewed between elements at this depth.
    pub(super) record_depth: usize,
    /// Elements that may start.
    pub(super) elements: u64,
    /// Bytes of the part as compressed.
    pub(super) packed: u64,
}

/// The XML of a part. An element without content comes as a start and an end.
pub(super) struct Xml {
    reader: Reader<BufReader<Budget>>,
    depth: usize,
    limits: Limits,
    /// Space for the events within a text.
    scratch: Vec<u8>,
}

impl Xml {
    pub(super) fn new(input: Budget, limits: Limits) -> Self {
        let mut reader = Reader::from_reader(BufReader::with_capacity(CHUNK_BYTES, input));
        reader.config_mut().expand_empty_elements = true;
        Self { reader, depth: 0, limits, scratch: Vec::new() }
    }

    /// Bytes of the part as compressed.
    pub(super) fn packed(&self) -> u64 {
        self.limits.packed
    }

    /// The next event, with its bytes in `buffer`.
    pub(super) fn next<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Result<Event<'b>, String> {
        if self.depth <= self.limits.record_depth {
            self.reader.get_mut().get_mut().renew();
        }
        buffer.clear();
        let event = self.reader.read_event_into(buffer).map_err(|error| problem(&error))?;
        match &event {
            Event::Start(_) => {
                self.depth += 1;
                let left = self.limits.elements.checked_sub(1);
                self.limits.elements =
                    left.ok_or("a part repeats itself more than a spreadsheet would: save it as CSV")?;
            }
            // The reader refuses ends that do not match.
            Event::End(_) => self.depth = self.depth.saturating_sub(1),
            Event::Eof if self.depth > 0 => return Err("it ends early".to_owned()),
            _ => {}
        }
        if self.depth > MAX_DEPTH { Err("its XML is nested too deeply".to_owned()) } else { Ok(event) }
    }

    /// Skips the rest of the element that has just started.
    pub(super) fn skip(&mut self) -> Result<(), String> {
        self.read_texts(|_| false, &mut String::new())
    }

    /// Appends the text of the element that has just started.
    pub(super) fn read_text(&mut self, into: &mut String) -> Result<(), String> {
        self.read_texts(|path| path.is_empty(), into)
    }

    /// Appends the text of a string element that has just started: of its `t` elements, not of phonetic hints.
    pub(super) fn read_string(&mut self, into: &mut String) -> Result<(), String> {
        self.read_texts(|path| path.last() == Some(&Inner::Text) && !path.contains(&Inner::Phonetic), into)
    }

    /// Appends the texts where `is_wanted` says so of the path from the element that has just started.
    fn read_texts(&mut self, is_wanted: impl Fn(&[Inner]) -> bool, into: &mut String) -> Result<(), String> {
        let mut path: Vec<Inner> = Vec::new();
        let mut scratch = std::mem::take(&mut self.scratch);
        loop {
            match self.next(&mut scratch)? {
                Event::Start(tag) => path.push(match tag.local_name().as_ref() {
                    "t" => Inner::Text,
                    "rPh" => Inner::Phonetic,
                    _ => Inner::Other,
                }),
                Event::End(_) => {
                    if path.pop().is_none() {
                        break;
                    }
                }
                Event::Text(text) if is_wanted(&path) => into.push_str(&text.xml10_content()),
                Event::CData(text) if is_wanted(&path) => into.push_str(&text.xml10_content()),
                Event::GeneralRef(entity) if is_wanted(&path) => {
                    match entity.resolve_char_ref().map_err(|error| problem(&error))? {
                        Some(c) => into.push(c),
                        None => into.push_str(resolve_predefined_entity(&entity).ok_or("it has an unknown entity")?),
                    }
                }
                Event::Eof => return Err("it ends early".to_owned()),
                Event::Text(_)
                | Event::CData(_)
                | Event::GeneralRef(_)
                | Event::Empty(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_) => {}
            }
        }
        self.scratch = scratch;
        Ok(())
    }
}

/// Kind of an element within a text.
#[derive(PartialEq, Eq)]
enum Inner {
    Text,
    Phonetic,
    Other,
}

fn problem(error: &quick_xml::Error) -> String {
    match error {
        quick_xml::Error::Io(error) => error.to_string(),
        error => format!("its XML is damaged ({error})"),
    }
}

/// Value of an attribute by its name without a prefix.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    for attribute in tag.attributes().with_checks(false) {
        let attribute = attribute.map_err(|error| problem(&error.into()))?;
        if attribute.key.local_name().as_ref() == name {
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|error| problem(&error))?;
            return Ok(Some(value.into_owned()));
        }
    }
    Ok(None)
}

/// Whether an attribute is 1 or true.
pub(super) fn flag(tag: &BytesStart<'_>, name: &str) -> Result<bool, String> {
    Ok(attribute(tag, name)?.is_some_and(|value| value == "1" || value == "true"))
}
