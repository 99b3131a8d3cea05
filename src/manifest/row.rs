//! One row's fields become an item, or the reason why not.

use std::path::{Path, PathBuf};

use super::{
    place::{IdFrom, id_of_url, is_beneath, normal},
    source::{At, Settings},
};
use crate::domain::{
    Damage, Extra, FaceGroupCode, Item, MerchantUserId, Origin, PictureRef, PictureUrl, RawFields, RowDefect, RowError,
    find_damage,
};

/// The fields of a row as they were written; empty ones are absent.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow, default)]
    pub(super) path: Option<&'a str>,
    #[serde(borrow, default)]
    pub(super) url: Option<&'a str>,
    #[serde(borrow, default)]
    pub(super) merchant_user_id: Option<&'a str>,
    #[serde(borrow, default)]
    pub(super) face_group_code: Option<&'a str>,
    /// Where JSON has no text and no whole number as the id.
    #[serde(skip)]
    pub(super) id_damage: Option<Damage>,
    /// A row without an id is refused: other rows name theirs, or another field may be the id.
    #[serde(skip)]
    pub(super) needs_id: bool,
}

/// What else stands in a row.
#[derive(Default)]
pub(super) struct Others {
    pub(super) extra: Extra,
    pub(super) origin: Option<Box<Origin>>,
}

/// Where a row of an export says that it comes from.
pub(super) fn origin(source: &str, row: &str, code: Option<&str>) -> Option<Box<Origin>> {
    let row = row.parse().ok()?;
    let was_duplicate = code.is_some_and(|code| code == RowDefect::DuplicateUserId.code().0);
    Some(Box::new(Origin { source: source.to_owned(), row, was_duplicate }))
}

/// What rows are read with.
pub(super) struct Rules {
    root: PathBuf,
    group: Option<FaceGroupCode>,
    may_lead_out: bool,
    id_from: IdFrom,
    is_id_from_given: bool,
    allow_odd_ids: bool,
}

/// What is wrong with a row, before it is known which row.
type Problem = (RowDefect, String);

impl Rules {
    pub(super) fn new(at: &At<'_>, settings: &Settings) -> Self {
        Self {
            root: at.root.to_owned(),
            group: settings.group.clone(),
            may_lead_out: settings.allow_outside_root,
            id_from: settings.id_from.unwrap_or_default(),
            is_id_from_given: settings.id_from.is_some(),
            allow_odd_ids: settings.allow_odd_ids,
        }
    }

    /// See the module.
    pub(super) fn item(&self, row: u64, fields: &Fields<'_>, others: Others) -> Result<Item, RowError> {
        match self.parts(fields) {
            Ok((group, user, picture)) => {
                let Others { extra, origin } = others;
                Ok(Item { row, group, user, picture, extra, origin })
            }
            Err((defect, message)) => Err(RowError { row, defect, message, fields: self.raw(fields, others) }),
        }
    }

    fn parts(&self, fields: &Fields<'_>) -> Result<(FaceGroupCode, MerchantUserId, PictureRef), Problem> {
        let (picture, id) = match (fields.path, fields.url) {
            (Some(path), None) => self.photo(path)?,
            (None, Some(url)) => link(url)?,
            (Some(_), Some(_)) => {
                return Err((RowDefect::TwoPictures, "it has both a path and a url: leave one of them empty".into()));
            }
            (None, None) => {
                return Err((RowDefect::MissingPicture, "it has neither a path nor a url".into()));
            }
        };
        let user = self.user(fields, id)?;
        let group = match fields.face_group_code {
            Some(code) => FaceGroupCode::parse(code)
                .map_err(|invalid| (RowDefect::InvalidGroup, format!("face_group_code {invalid}")))?,
            None => self.group.clone().ok_or_else(|| {
                (RowDefect::MissingGroup, "it has no face_group_code, and no --group was given".to_owned())
            })?,
        };
        Ok((group, user, picture))
    }

    /// The id as written, or the one that the photo's name gives.
    fn user(&self, fields: &Fields<'_>, of_photo: Option<String>) -> Result<MerchantUserId, Problem> {
        if let Some(damage) = fields.id_damage.filter(|_| !self.allow_odd_ids) {
            return Err((RowDefect::SuspiciousUserId, odd(damage)));
        }
        let is_missing = fields.needs_id && !self.is_id_from_given;
        let id = match fields.merchant_user_id.map(str::to_owned).or(of_photo.filter(|_| !is_missing)) {
            Some(id) => id,
            None if is_missing => {
                let message = "it has no merchant_user_id: fill it in, or give --column merchant_user_id=NAME if it has \
                               another name, or --id-from name to take the photo's name where it is missing";
                return Err((RowDefect::MissingUserId, message.to_owned()));
            }
            None => {
                let message = "it has no merchant_user_id, and the photo's name gives none".to_owned();
                return Err((RowDefect::MissingUserId, message));
            }
        };
        let id = MerchantUserId::parse(id)
            .map_err(|invalid| (RowDefect::InvalidUserId, format!("merchant_user_id {invalid}")))?;
        match find_damage(id.as_str()).filter(|_| !self.allow_odd_ids) {
            Some(damage) => Err((RowDefect::SuspiciousUserId, odd(damage))),
            None => Ok(id),
        }
    }

    fn photo(&self, written: &str) -> Result<(PictureRef, Option<String>), Problem> {
        let path = normal(&self.root, written);
        if !self.may_lead_out && !is_beneath(&self.root, &path) {
            let message = format!(
                "its path leads out of {}: give --root DIR, or --allow-outside-root if that is meant",
                self.root.display()
            );
            return Err((RowDefect::OutsideRoot, message));
        }
        let id = self.id_from.of_path(&path, &self.root);
        Ok((PictureRef::Path(path), id))
    }

    /// As written, so that an export can give it back for mending.
    fn raw(&self, fields: &Fields<'_>, Others { extra, origin }: Others) -> Box<RawFields> {
        let group = fields.face_group_code.map(str::to_owned);
        Box::new(RawFields {
            path: fields.path.map(str::to_owned),
            url: fields.url.map(str::to_owned),
            user: fields.merchant_user_id.map(str::to_owned),
            group: group.or_else(|| self.group.as_ref().map(ToString::to_string)),
            extra,
            origin,
        })
    }
}

fn odd(damage: Damage) -> String {
    format!("merchant_user_id {damage}; --allow-odd-ids takes it as it is")
}

fn link(written: &str) -> Result<(PictureRef, Option<String>), Problem> {
    let invalid = || (RowDefect::InvalidUrl, "its url is no http or https link".to_owned());
    let url = url::Url::parse(written).map_err(|_| invalid())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid());
    }
    let id = id_of_url(&url);
    Ok((PictureRef::Url(PictureUrl(written.to_owned())), id))
}

/// For formats that have no fields to give.
pub(super) fn bare(row: u64, defect: RowDefect, message: String, path: Option<&Path>) -> RowError {
    let path = path.map(|path| path.to_string_lossy().into_owned());
    RowError { row, defect, message, fields: Box::new(RawFields { path, ..RawFields::default() }) }
}
