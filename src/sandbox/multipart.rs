//! `multipart/form-data` (RFC 7578), as strictly as OSS reads it: every part named, the file last.

use super::answer::Refusal;

/// Form fields before the file (OSS, PostObject, EC 0006-00000112).
const FIELDS_MAX_BYTES: usize = 8 << 20;

/// The parts of a form.
#[derive(Debug)]
pub(super) struct Form<'a> {
    fields: Vec<(&'a str, &'a str)>,
    pub(super) file: &'a [u8],
}

impl<'a> Form<'a> {
    /// A text field. Names are compared as they are.
    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Takes a body apart.
    pub(super) fn parse(content_type: &str, body: &'a [u8]) -> Result<Self, Refusal> {
        let boundary = content_type
            .strip_prefix("multipart/form-data;")
            .and_then(|rest| rest.trim().strip_prefix("boundary="))
            .map(|boundary| boundary.trim_matches('"'))
            .filter(|boundary| (1..=70).contains(&boundary.len()))
            .ok_or_else(|| malformed("it is no multipart/form-data with a boundary"))?;
        let mut rest = body
            .strip_prefix(format!("--{boundary}\r\n").as_bytes())
            .ok_or_else(|| malformed("it does not begin with its boundary"))?;
        let delimiter = format!("\r\n--{boundary}");
        let (mut fields, mut before) = (Vec::new(), 0);
        loop {
            let (part, behind) = split(rest, delimiter.as_bytes()).ok_or_else(|| malformed("a part has no end"))?;
            let (head, content) = split(part, b"\r\n\r\n").ok_or_else(|| malformed("a part has no head"))?;
            let head = str::from_utf8(head).map_err(|_| malformed("a part's head is no text"))?;
            let name = name(head).ok_or_else(|| malformed("a part has no name"))?;
            let is_last = behind.starts_with(b"--");
            match (name, is_last) {
                ("file", true) => return Ok(Self { fields, file: content }),
                ("file", false) => return Err(malformed("the file is not the last part")),
                (_, true) => return Err(malformed("there is no file")),
                (name, false) => {
                    before += content.len();
                    if before > FIELDS_MAX_BYTES {
                        return Err(malformed("the fields before the file are too long"));
                    }
                    let value = str::from_utf8(content).map_err(|_| malformed("a field is no text"))?;
                    fields.push((name, value));
                }
            }
            rest = behind.strip_prefix(b"\r\n").ok_or_else(|| malformed("a boundary is not followed by a line end"))?;
        }
    }
}

fn name(head: &str) -> Option<&str> {
    let disposition = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let at = disposition.find("; name=\"")? + "; name=\"".len();
    disposition[at..].split('"').next()
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = bytes.windows(at.len()).position(|window| window == at)?;
    Some((&bytes[..found], &bytes[found + at.len()..]))
}

fn malformed(what: &str) -> Refusal {
    let message = format!("The body of your POST request is not well-formed multipart/form-data: {what}.");
    Refusal::new(400, "MalformedPOSTRequest", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=B";

    #[test]
    fn fields_and_the_file_behind_them_are_read() {
        let body = b"--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na/b\r\n--B\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a/b\"\r\nContent-Type: \r\n\r\nx\r\n-y\r\n--B--\r\n";
        let form = Form::parse(KIND, body).unwrap();
        assert_eq!((form.field("key"), form.field("policy"), form.file), (Some("a/b"), None, &b"x\r\n-y"[..]));
    }

    #[test]
    fn whatever_is_not_well_formed_is_refused() {
        let part = |name: &str| format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\nx\r\n");
        for (kind, body) in [
            ("application/json", String::new()),
            ("multipart/form-data; boundary=", String::new()),
            (KIND, String::new()),
            (KIND, format!("--B\r\n{}--B--\r\n", part("key"))),
            (KIND, format!("--B\r\n{}--B\r\n{}--B--\r\n", part("file"), part("key"))),
            (KIND, format!("--B\r\n{}", part("file"))),
            (KIND, "--B\r\nContent-Type: text/plain\r\n\r\nx\r\n--B--\r\n".to_owned()),
        ] {
            let refusal = Form::parse(kind, body.as_bytes()).unwrap_err();
            assert_eq!((refusal.status, &*refusal.code), (400, "MalformedPOSTRequest"), "{kind} {body}");
        }
    }
}
