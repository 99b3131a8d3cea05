//! The fields of a row that we use, and the names of their columns.

use std::{fmt, str::FromStr};

use crate::domain::is_invisible;

/// A field of a row that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Path of the photo.
    Path,
    /// Link to the photo.
    Url,
    /// Id of the person.
    MerchantUserId,
    /// Code of the face group.
    FaceGroupCode,
}

impl Field {
    /// All fields.
    pub(super) const ALL: [Self; 4] = [Self::Path, Self::Url, Self::MerchantUserId, Self::FaceGroupCode];

    /// Canonical name of the field.
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    /// All accepted names. The first is canonical and wins over the others.
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

/// A `--column FIELD=NAME` flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnName {
    /// The field.
    pub field: Field,
    /// Name of its column in the manifest.
    pub name: String,
}

impl FromStr for ColumnName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (field, column) = text.split_once('=').ok_or("expected FIELD=NAME, such as path=photo")?;
        let known = Field::ALL
            .into_iter()
            .find(|known| known.name() == field.trim())
            .ok_or_else(|| format!("unknown field {field}: use path, url, merchant_user_id or face_group_code"))?;
        match column.trim() {
            "" => Err(format!("missing column name for {field}")),
            name => Ok(Self { field: known, name: name.to_owned() }),
        }
    }
}

/// Normalizes a name for comparison: case, dashes, spaces and invisible characters don't matter.
pub(super) fn normalize_name(name: &str) -> String {
    let visible = |c: &char| !is_invisible(*c) || c.is_whitespace();
    let name: String = name.chars().filter(visible).collect();
    name.trim().to_lowercase().replace(|c: char| c == '-' || c.is_whitespace(), "_")
}
