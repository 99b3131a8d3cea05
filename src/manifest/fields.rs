//! The fields that are ours, and the names under which they come.

use std::{fmt, str::FromStr};

use crate::domain::is_invisible;

/// A field of a row that means something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The photo's file.
    Path,
    /// The photo's link.
    Url,
    /// Who it is.
    MerchantUserId,
    /// Where to.
    FaceGroupCode,
}

impl Field {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Path, Self::Url, Self::MerchantUserId, Self::FaceGroupCode];

    /// Its own name.
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    /// Every name. The first is its own; it wins over the others.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Path => {
                &["path", "file", "filename", "file_name", "photo", "photo_path", "image", "image_path", "picture"]
            }
            Self::Url => &["url", "photo_url", "image_url", "picture_url", "link"],
            Self::MerchantUserId => {
                &["merchant_user_id", "merchantuserid", "user_id", "userid", "user", "id", "employee_id", "employee_no"]
            }
            Self::FaceGroupCode => &["face_group_code", "facegroupcode", "group", "group_code", "face_group"],
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `--column OURS=THEIRS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnName {
    /// Which field.
    pub field: Field,
    /// What it is called in the manifest.
    pub name: String,
}

impl FromStr for ColumnName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (ours, theirs) = text.split_once('=').ok_or("give it as path=photo")?;
        let field = Field::ALL
            .into_iter()
            .find(|field| field.name() == ours.trim())
            .ok_or_else(|| format!("{ours} is none of our fields: path, url, merchant_user_id, face_group_code"))?;
        match theirs.trim() {
            "" => Err(format!("no name given for {ours}")),
            name => Ok(Self { field, name: name.to_owned() }),
        }
    }
}

/// A name as it is compared: case, dashes, spaces and what nobody can see do not matter.
pub(super) fn plain(name: &str) -> String {
    let visible = |c: &char| !is_invisible(*c) || c.is_whitespace();
    let name: String = name.chars().filter(visible).collect();
    name.trim().to_lowercase().replace(|c: char| c == '-' || c.is_whitespace(), "_")
}
