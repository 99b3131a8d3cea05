//! Identifiers. Each is validated once, where it enters, and trusted afterwards.

use std::fmt;

use super::invisible;

/// Longest `MerchantUserId`, in Unicode scalar values (AddFaceRecord page: "up to 32 characters in length").
const USER_ID_MAX_CHARS: usize = 32;
/// Longest accepted `FaceGroupCode`. The API page gives no limit; its examples have 11 characters.
const GROUP_CODE_MAX_CHARS: usize = 128;

/// Why a text is not an identifier. The message follows the field's name and never repeats the text: ids are personal data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum InvalidId {
    #[error("is empty")]
    Empty,
    #[error("has {chars} characters ({bytes} bytes); at most {max} are allowed")]
    TooLong { chars: usize, bytes: usize, max: usize },
    /// A control character, which reports can't show.
    #[error("has a control character (U+{code:04X}) at character {position}")]
    Control { position: usize, code: u32 },
    /// White space at either end, almost always an invisible export error.
    #[error("starts or ends with white space")]
    EdgeSpace,
    /// An invisible character: two ids that look the same would be two people.
    #[error("has U+{:04X}{} at character {position}, which is invisible", u32::from(*character), invisible::name(*character))]
    Invisible { position: usize, character: char },
}

fn check(text: &str, max: usize) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if let Some((at, c)) = text.chars().enumerate().find(|(_, c)| c.is_control()) {
        return Err(InvalidId::Control { position: at + 1, code: u32::from(c) });
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err(InvalidId::EdgeSpace);
    }
    let chars = text.chars().count();
    if chars > max {
        return Err(InvalidId::TooLong { chars, bytes: text.len(), max });
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Validates the text and keeps it as written.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidId> {
                let id = Self::parse_recorded(text)?;
                match invisible::find_invisible(&id.0) {
                    Some((position, character)) => Err(InvalidId::Invisible { position, character }),
                    None => Ok(id),
                }
            }

            /// Validates an id from a checkpoint or the service, which may date from when invisible characters were allowed.
            pub fn parse_recorded(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                check(&text, $max)?;
                Ok(Self(text))
            }

            /// Text as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    };
}

text_id! {
    /// The tenant's id of a person: 1 to 32 Unicode scalar values, no control or invisible characters, no white space at
    /// either end.
    MerchantUserId, USER_ID_MAX_CHARS
}
text_id! {
    /// Code of a face group, as the console shows it.
    FaceGroupCode, GROUP_CODE_MAX_CHARS
}

/// Row id of an item in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(pub i64);

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Name of a run, from its start in UTC and a random part: `20261123T020015Z-7f3a`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunId(pub String);

impl RunId {
    /// Id of a run that starts now.
    pub fn new(start: jiff::Timestamp, random: u16) -> Self {
        Self(format!("{}-{random:04x}", start.strftime("%Y%m%dT%H%M%SZ")))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Request id given by the service. Its support asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(pub String);

/// The `Code` of an answer, or a code of our own for a local rejection. `Passed=N` means that the service read the photo
/// and did not accept it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub String);

impl ErrorCode {
    /// Code for `Code: Success` with `Passed: N`.
    pub const NOT_PASSED: &'static str = "Passed=N";
    /// Code for a record that existed at the service before our first intent.
    pub const ALREADY_PRESENT: &'static str = "AlreadyPresent";
    /// Code for an id with more than one record.
    pub const SEVERAL_RECORDS: &'static str = "SeveralRecords";
    /// Code of an enrolled item whose new photo was refused here: the old one stays enrolled.
    pub const NEW_PHOTO_REFUSED: &'static str = "NewPhotoRefused";
    /// Code of an item in doubt whose record `undo` was removing.
    pub const UNDOING: &'static str = "Undoing";
    /// Code of a pending item whose record `undo` removed.
    pub const UNDONE: &'static str = "Undone";
}

impl From<&str> for ErrorCode {
    fn from(code: &str) -> Self {
        Self(code.to_owned())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A SHA-256 digest, of a photo unless stated otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_id_allows_up_to_32_characters() {
        assert_eq!(MerchantUserId::parse("a".repeat(32)).unwrap().as_str().len(), 32);
        assert_eq!(MerchantUserId::parse("张".repeat(32)).unwrap().as_str().len(), 96);
        assert_eq!(MerchantUserId::parse("张".repeat(33)), Err(InvalidId::TooLong { chars: 33, bytes: 99, max: 32 }));
    }

    #[test]
    fn user_id_rejects_invisible_characters() {
        assert_eq!(MerchantUserId::parse(""), Err(InvalidId::Empty));
        assert_eq!(MerchantUserId::parse(" u1"), Err(InvalidId::EdgeSpace));
        assert_eq!(MerchantUserId::parse("u1\u{a0}"), Err(InvalidId::EdgeSpace));
        assert_eq!(MerchantUserId::parse("u\u{0}1"), Err(InvalidId::Control { position: 2, code: 0 }));
        assert_eq!(MerchantUserId::parse("u 1").unwrap().as_str(), "u 1");
        let hidden = InvalidId::Invisible { position: 2, character: '\u{200B}' };
        assert_eq!(hidden.to_string(), "has U+200B ZERO WIDTH SPACE at character 2, which is invisible");
        assert_eq!(MerchantUserId::parse("u\u{200B}1"), Err(hidden));
        assert_eq!(MerchantUserId::parse_recorded("u\u{200B}1").unwrap().as_str(), "u\u{200B}1");
    }
}
