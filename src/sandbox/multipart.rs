//! Parser of `multipart/form-data` (RFC 7578), as strict as OSS: every part has a name, and the file is last.

use super::response::ApiError;

/// Largest total size of the form fields before the file (OSS, PostObject, EC 0006-00000112).
const FIELDS_MAX_BYTES: usize = 8 << 20;

/// A parsed form.
#[derive(Debug)]
pub(super) struct Form<'a> {
    fields: Vec<(&'a str, &'a str)>,
    pub(super) file: &'a [u8],
}

impl<'a> Form<'a> {
    /// Value of a text field. Names are case-sensitive.
    pub(super) fn field(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    /// Parses a request body.
    pub(super) fn parse(content_type: &str, body: &'a [u8]) -> Result<Self, ApiError> {
        let boundary = content_type
            .strip_prefix("multipart/form-data;")
            .and_then(|rest| rest.trim().strip_prefix("boundary="))
            .map(|boundary| boundary.trim_matches('"'))
            .filter(|boundary| (1..=70).contains(&boundary.len()))
            .ok_or_else(|| malformed("the content type is not multipart/form-data with a boundary"))?;
        let mut rest = body
            .strip_prefix(format!("--{boundary}\r\n").as_bytes())
            .ok_or_else(|| malformed("the body does not start with the boundary"))?;
        let delimiter = format!("\r\n--{boundary}");
        let (mut fields, mut field_bytes) = (Vec::new(), 0);
        loop {
            let (part, tail) = split(rest, delimiter.as_bytes()).ok_or_else(|| malformed("a part has no end"))?;
            let (head, content) = split(part, b"\r\n\r\n").ok_or_else(|| malformed("a part has no head"))?;
            let head = str::from_utf8(head).map_err(|_| malformed("a part's head is not UTF-8"))?;
            let name = name(head).ok_or_else(|| malformed("a part has no name"))?;
            let is_last = tail.starts_with(b"--");
            match (name, is_last) {
                ("file", true) => return Ok(Self { fields, file: content }),
                ("file", false) => return Err(malformed("the file is not the last part")),
                (_, true) => return Err(malformed("the file is missing")),
                (name, false) => {
                    field_bytes += content.len();
                    if field_bytes > FIELDS_MAX_BYTES {
                        return Err(malformed("the fields before the file are too long"));
                    }
                    let value = str::from_utf8(content).map_err(|_| malformed("a field is not UTF-8"))?;
                    fields.push((name, value));
                }
            }
            rest = tail.strip_prefix(b"\r\n").ok_or_else(|| malformed("a boundary is not followed by a line end"))?;
        }
    }
}

fn name(head: &str) -> Option<&str> {
    let disposition = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let at = disposition.find("; name=\"")? + "; name=\"".len();
    disposition[at..].split('"').next()
}

fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let found = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..found], &bytes[found + separator.len()..]))
}

fn malformed(what: &str) -> ApiError {
    let message = format!("The body of your POST request is not well-formed multipart/form-data: {what}.");
    ApiError::new(400, "MalformedPOSTRequest", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=B";

    #[test]
    fn fields_and_file_are_parsed() {
        let body = b"--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\na/b\r\n--B\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a/b\"\r\nContent-Type: \r\n\r\nx\r\n-y\r\n--B--\r\n";
        let form = Form::parse(KIND, body).unwrap();
        assert_eq!((form.field("key"), form.field("policy"), form.file), (Some("a/b"), None, &b"x\r\n-y"[..]));
    }

    #[test]
    fn malformed_form_is_rejected() {
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
            let error = Form::parse(kind, body.as_bytes()).unwrap_err();
            assert_eq!((error.status, &*error.code), (400, "MalformedPOSTRequest"), "{kind} {body}");
        }
    }
}
