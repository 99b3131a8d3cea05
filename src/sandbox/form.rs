//! Parameters in `application/x-www-form-urlencoded`, in the body or in the query string.
//!
//! A value is decoded only when it is read, and once, because a photo is most of a body.

use std::borrow::Cow;

use super::response::ApiError;

/// Encoded parameters of a body or a query string.
#[derive(Debug, Default)]
pub(super) struct Params<'a>(Vec<(Cow<'a, [u8]>, &'a str)>);

impl<'a> Params<'a> {
    /// Splits the pairs. A name that occurs twice is rejected as ambiguous.
    pub(super) fn parse(raw: &'a [u8]) -> Result<Self, ApiError> {
        let text = str::from_utf8(raw).map_err(|_| invalid("the form", "the encoding is invalid"))?;
        let mut pairs: Vec<(Cow<'a, [u8]>, &'a str)> = Vec::new();
        for (name, value) in split(text) {
            let name = decode(name).ok_or_else(|| invalid("a parameter's name", "the encoding is invalid"))?;
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                return Err(invalid(&String::from_utf8_lossy(&name), "given twice"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// Decoded bytes of a parameter; an empty value counts as absent.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<Cow<'a, [u8]>>, ApiError> {
        match self.0.iter().find(|(other, value)| **other == *name.as_bytes() && !value.is_empty()) {
            None => Ok(None),
            Some((_, value)) => decode(value).map(Some).ok_or_else(|| invalid(name, "the encoding is invalid")),
        }
    }

    /// Text of a parameter; an empty value counts as absent.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        String::from_utf8(bytes.into_owned()).map(Some).map_err(|_| invalid(name, "not UTF-8"))
    }

    /// Text of a required parameter.
    pub(super) fn required(&self, name: &str) -> Result<String, ApiError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// Value of a required numeric parameter.
    pub(super) fn number(&self, name: &str) -> Result<i64, ApiError> {
        self.required(name)?.parse().map_err(|_| invalid(name, "not a number"))
    }
}

pub(super) fn missing(name: &str) -> ApiError {
    ApiError::new(400, "MissingParameter", format!("A required parameter is missing: {name}."))
}

pub(super) fn invalid(name: &str, why: &str) -> ApiError {
    ApiError::new(400, "InvalidParameter", format!("The specified parameter is invalid: {name}, {why}."))
}

/// Encoded pairs; a name without `=` has an empty value.
pub(super) fn split(raw: &str) -> impl Iterator<Item = (&str, &str)> {
    raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Decodes `+` as a space and `%XX` as a byte; `None` for any other `%`. Copies the text between escapes in one piece.
pub(super) fn decode(raw: &str) -> Option<Cow<'_, [u8]>> {
    let raw = raw.as_bytes();
    let escape = |rest: &[u8]| rest.iter().position(|&b| b == b'%' || b == b'+');
    if escape(raw).is_none() {
        return Some(Cow::Borrowed(raw));
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = escape(rest) {
        decoded.extend_from_slice(&rest[..at]);
        if rest[at] == b'+' {
            decoded.push(b' ');
            rest = &rest[at + 1..];
        } else {
            let mut byte = [0];
            hex::decode_to_slice(rest.get(at + 1..at + 3)?, &mut byte).ok()?;
            decoded.push(byte[0]);
            rest = &rest[at + 3..];
        }
    }
    decoded.extend_from_slice(rest);
    Some(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_and_percent_escapes_are_decoded() {
        let params = Params::parse(b"a=x+y&b=x%20y&c=%2B%2f%3D&d=&e").unwrap();
        let text = |name| params.text(name).unwrap();
        assert_eq!(
            (text("a").as_deref(), text("b").as_deref(), text("c").as_deref()),
            (Some("x y"), Some("x y"), Some("+/="))
        );
        assert_eq!((text("d"), text("e"), text("f")), (None, None, None));
    }

    #[test]
    fn duplicate_or_badly_encoded_parameter_is_rejected() {
        assert_eq!(Params::parse(b"a=1&a=2").unwrap_err().code, "InvalidParameter");
        for raw in ["a=%", "a=%4", "a=%4g", "a=%ff"] {
            assert_eq!(Params::parse(raw.as_bytes()).unwrap().text("a").unwrap_err().code, "InvalidParameter", "{raw}");
        }
    }
}
