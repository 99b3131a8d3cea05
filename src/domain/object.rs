//! Objects in object storage, written `oss://bucket/key`.

use std::{fmt, str::FromStr};

/// Scheme of a place in object storage.
const SCHEME: &str = "oss://";
/// Longest key in bytes (OSS naming conventions).
const MAX_KEY_BYTES: usize = 1_023;

/// A place in a bucket: an object, or a prefix of keys if the key is empty or ends with a slash.
///
/// The text is the key as it is, without percent-encoding, as ossutil writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Name of the bucket.
    pub bucket: String,
    /// Key of the object.
    pub key: String,
}

/// Why a text is no place in object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObject {
    /// Another scheme.
    #[error("does not begin with oss://")]
    Scheme,
    /// The name of the bucket breaks the rules of OSS.
    #[error("has no valid bucket name: 3 to 63 lower-case letters, digits and hyphens")]
    Bucket,
    /// The key is too long or begins with a slash.
    #[error("has an invalid key: at most 1,023 bytes, without a slash or backslash at the start")]
    Key,
    /// A part of the key is `.` or `..`, which no URL can carry.
    #[error("has a key with the part . or .., which no URL can carry")]
    DotSegment,
}

impl ObjectRef {
    /// Whether the text names a place in object storage, in any letter case.
    pub fn is_object(text: &str) -> bool {
        text.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
    }

    /// Whether the place is a prefix of keys rather than one object.
    pub fn is_prefix(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// The prefix that ends with the last slash of the key.
    pub fn folder(&self) -> Self {
        let end = self.key.rfind('/').map_or(0, |at| at + 1);
        Self { bucket: self.bucket.clone(), key: self.key[..end].to_owned() }
    }

    /// Whether this place is under a prefix.
    pub fn is_under(&self, prefix: &Self) -> bool {
        self.bucket == prefix.bucket && self.key.len() > prefix.key.len() && self.key.starts_with(&prefix.key)
    }
}

impl FromStr for ObjectRef {
    type Err = InvalidObject;
    fn from_str(text: &str) -> Result<Self, InvalidObject> {
        let rest = text.get(SCHEME.len()..).filter(|_| Self::is_object(text)).ok_or(InvalidObject::Scheme)?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(3..=63).contains(&bucket.len())
            || !bucket.chars().all(is_name)
            || bucket.starts_with('-')
            || bucket.ends_with('-')
        {
            return Err(InvalidObject::Bucket);
        }
        if key.len() > MAX_KEY_BYTES || key.starts_with(['/', '\\']) {
            return Err(InvalidObject::Key);
        }
        if key.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(InvalidObject::DotSegment);
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_parsed_as_written() {
        for text in ["oss://faces/", "oss://faces/a b/张+1%20?x#y//.jpg", "oss://faces-01/photos/"] {
            assert_eq!(text.parse::<ObjectRef>().unwrap().to_string(), text);
        }
        assert_eq!("OSS://faces".parse::<ObjectRef>().unwrap().to_string(), "oss://faces/");
        for (text, error) in [
            ("s3://faces/a", InvalidObject::Scheme),
            ("oss:/faces", InvalidObject::Scheme),
            ("oss://Faces/a", InvalidObject::Bucket),
            ("oss://ab/a", InvalidObject::Bucket),
            ("oss://-faces/a", InvalidObject::Bucket),
            ("oss:///a", InvalidObject::Bucket),
            ("oss://faces//a", InvalidObject::Key),
            ("oss://faces/a/../b", InvalidObject::DotSegment),
        ] {
            assert_eq!(text.parse::<ObjectRef>(), Err(error), "{text}");
        }
    }

    #[test]
    fn folder_ends_with_the_last_slash() {
        let place = |text: &str| text.parse::<ObjectRef>().unwrap();
        assert_eq!(place("oss://faces/a/b.csv").folder(), place("oss://faces/a/"));
        assert_eq!(place("oss://faces/b.csv").folder(), place("oss://faces/"));
        assert!(place("oss://faces/a/b").is_under(&place("oss://faces/a/")));
        for other in ["oss://faces/a/", "oss://other/a/b", "oss://faces/ab"] {
            assert!(!place(other).is_under(&place("oss://faces/a/")), "{other}");
        }
    }
}
