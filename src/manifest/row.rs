//! One row's fields become an item, or the reason why not.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use super::{
    embedded::{self, MAX_PATH_BYTES},
    place::{self, IdFrom, id_of_url, is_beneath, normal},
    source::{At, Settings},
};
use crate::{
    domain::{
        Damage, Extra, FaceGroupCode, Item, MerchantUserId, Origin, PhotoSource, PhotoUrl, RawFields, RowError,
        RowErrorKind, find_damage,
    },
    files::spelling::trimmed,
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
    let was_duplicate = code.is_some_and(|code| code == RowErrorKind::DuplicateUserId.code().0);
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
    /// Has it been said that photos in other columns are not kept?
    has_dropped: Cell<bool>,
}

/// What is wrong with a row, before it is known which row.
type Problem = (RowErrorKind, String);

impl Rules {
    pub(super) fn new(at: &At<'_>, settings: &Settings) -> Self {
        Self {
            root: at.root.to_owned(),
            group: settings.group.clone(),
            may_lead_out: settings.allow_outside_root,
            id_from: settings.id_from.unwrap_or_default(),
            is_id_from_given: settings.id_from.is_some(),
            allow_odd_ids: settings.allow_odd_ids,
            has_dropped: Cell::new(false),
        }
    }

    /// See the module.
    pub(super) fn item(&self, row: u64, fields: &Fields<'_>, others: Others) -> Result<Item, RowError> {
        self.finish(row, fields, others, self.picture(fields))
    }

    /// A file that was found, by the very name that it has.
    pub(super) fn file(&self, row: u64, path: &Path, id: Option<&str>) -> Result<Item, RowError> {
        let shown = path.to_string_lossy();
        let fields = Fields { path: Some(&shown), merchant_user_id: id, ..Fields::default() };
        let id = self.id_from.of_path(path, &self.root);
        self.finish(row, &fields, Others::default(), Ok((PhotoSource::Path(path.to_owned()), id)))
    }

    fn finish(
        &self,
        row: u64,
        fields: &Fields<'_>,
        mut others: Others,
        picture: Result<(PhotoSource, Option<String>), Problem>,
    ) -> Result<Item, RowError> {
        others.extra.retain(|(name, value)| !self.is_dropped(name, value));
        match picture.and_then(|picture| self.parts(fields, picture)) {
            Ok((group, user, picture)) => {
                let Others { extra, origin } = others;
                Ok(Item { row, group, user, picture, extra, origin })
            }
            Err((defect, message)) => Err(RowError { row, defect, message, fields: self.raw(fields, others) }),
        }
    }

    /// A photo in one of the other columns is kept nowhere.
    fn is_dropped(&self, name: &str, value: &str) -> bool {
        let is_photo = embedded::is_photo(value);
        if is_photo && !self.has_dropped.replace(true) {
            tracing::warn!(column = name, "the column holds photos themselves: they are neither sent nor kept");
        }
        is_photo
    }

    fn picture(&self, fields: &Fields<'_>) -> Result<(PhotoSource, Option<String>), Problem> {
        let written = |field: Option<&'_ str>| field.filter(|text| !trimmed(text).is_empty()).map(str::to_owned);
        match (written(fields.path), written(fields.url)) {
            (Some(path), None) => self.reference(&path, "path"),
            (None, Some(url)) => self.reference(&url, "url"),
            (Some(_), Some(_)) => {
                Err((RowErrorKind::TwoPictures, "it has both a path and a url: leave one of them empty".into()))
            }
            (None, None) => Err((RowErrorKind::MissingPicture, "it has neither a path nor a url".into())),
        }
    }

    /// What stands in the column of the path, or of the link: people put either into both.
    fn reference(&self, written: &str, column: &str) -> Result<(PhotoSource, Option<String>), Problem> {
        if embedded::is_photo(written) {
            let message = format!(
                "its {column} is the photo itself (Base64 or hexadecimal), which is not taken: write the photos to files \
                 and give their names"
            );
            return Err((RowErrorKind::EmbeddedPhoto, message));
        }
        let text = trimmed(written);
        match (place::scheme(text).as_deref(), column) {
            (Some("http" | "https"), _) => link(text),
            (Some("file"), _) => match place::of_file_url(text) {
                Some(path) => self.photo(&self.beneath_or_here(path)),
                None => Err((
                    RowErrorKind::InvalidUrl,
                    format!("its {column} is a file:// link to another machine: give a path on this one"),
                )),
            },
            (Some(scheme), "path") => Err((
                RowErrorKind::InvalidUrl,
                format!("its path is a link of an unknown kind ({scheme}://): give a path, or an http or https link"),
            )),
            (None, "path") => self.photo(written),
            (_, _) => Err((RowErrorKind::InvalidUrl, "its url is no http or https link".to_owned())),
        }
    }

    /// Some write `file:///photos/a.jpg` of what lies in `photos` beside the manifest.
    fn beneath_or_here(&self, path: String) -> String {
        if self.may_lead_out || is_beneath(&self.root, &normal(&self.root, &path)) {
            return path;
        }
        path.trim_start_matches('/').to_owned()
    }

    fn parts(
        &self,
        fields: &Fields<'_>,
        (picture, id): (PhotoSource, Option<String>),
    ) -> Result<(FaceGroupCode, MerchantUserId, PhotoSource), Problem> {
        let user = self.user(fields, id)?;
        let group = match fields.face_group_code {
            Some(code) => FaceGroupCode::parse(code)
                .map_err(|invalid| (RowErrorKind::InvalidGroup, format!("face_group_code {invalid}")))?,
            None => self.group.clone().ok_or_else(|| {
                (RowErrorKind::MissingGroup, "it has no face_group_code, and no --group was given".to_owned())
            })?,
        };
        Ok((group, user, picture))
    }

    /// The id as written, or the one that the photo's name gives.
    fn user(&self, fields: &Fields<'_>, of_photo: Option<String>) -> Result<MerchantUserId, Problem> {
        if let Some(damage) = fields.id_damage.filter(|_| !self.allow_odd_ids) {
            return Err((RowErrorKind::SuspiciousUserId, odd(damage)));
        }
        let is_missing = fields.needs_id && !self.is_id_from_given;
        let id = match fields.merchant_user_id.map(str::to_owned).or(of_photo.filter(|_| !is_missing)) {
            Some(id) => id,
            None if is_missing => {
                let message = "it has no merchant_user_id: fill it in, or give --column merchant_user_id=NAME if it has \
                               another name, or --id-from name to take the photo's name where it is missing";
                return Err((RowErrorKind::MissingUserId, message.to_owned()));
            }
            None => {
                let message = "it has no merchant_user_id, and the photo's name gives none".to_owned();
                return Err((RowErrorKind::MissingUserId, message));
            }
        };
        let id = MerchantUserId::parse(id)
            .map_err(|invalid| (RowErrorKind::InvalidUserId, format!("merchant_user_id {invalid}")))?;
        match find_damage(id.as_str()).filter(|_| !self.allow_odd_ids) {
            Some(damage) => Err((RowErrorKind::SuspiciousUserId, odd(damage))),
            None => Ok(id),
        }
    }

    /// Spaces around it may belong to the name: whoever opens it finds out.
    fn photo(&self, written: &str) -> Result<(PhotoSource, Option<String>), Problem> {
        if written.len() > MAX_PATH_BYTES {
            let message = format!("its path has {} bytes; at most {MAX_PATH_BYTES} are possible", written.len());
            return Err((RowErrorKind::PathTooLong, message));
        }
        let plain = trimmed(written);
        let path = normal(&self.root, if plain.starts_with('/') { plain } else { written });
        if !self.may_lead_out && !is_beneath(&self.root, &path) {
            let message = format!(
                "its path leads out of {}: give --root DIR, or --allow-outside-root if that is meant",
                self.root.display()
            );
            return Err((RowErrorKind::OutsideRoot, message));
        }
        let named = if plain == written && !plain.contains('\\') {
            self.id_from.of_path(&path, &self.root)
        } else {
            self.id_from.of_path(&normal(&self.root, &plain.replace('\\', "/")), &self.root)
        };
        Ok((PhotoSource::Path(path), named))
    }

    /// As written, so that an export can give it back for mending.
    fn raw(&self, fields: &Fields<'_>, Others { extra, origin }: Others) -> Box<RawFields> {
        let group = kept(fields.face_group_code);
        let (path, url) = match (fields.path, fields.url) {
            // A link is given back as one: it may be signed, and a path is shown.
            (Some(path), None) if is_link(path) => (None, Some(path)),
            (path, url) => (path, url),
        };
        Box::new(RawFields {
            path: kept(path),
            url: kept(url),
            user: kept(fields.merchant_user_id),
            group: group.or_else(|| self.group.as_ref().map(ToString::to_string)),
            extra,
            origin,
        })
    }
}

/// What may be kept of a field as it was written: no photo, and nothing that is too long to be anything else.
pub(super) fn kept(field: Option<&str>) -> Option<String> {
    let is_kept = |text: &&str| !embedded::is_photo(text) && (text.len() <= MAX_PATH_BYTES || is_link(text));
    field.filter(is_kept).map(str::to_owned)
}

fn is_link(text: &str) -> bool {
    matches!(place::scheme(trimmed(text)).as_deref(), Some("http" | "https"))
}

fn odd(damage: Damage) -> String {
    format!("merchant_user_id {damage}; --allow-odd-ids takes it as it is")
}

fn link(written: &str) -> Result<(PhotoSource, Option<String>), Problem> {
    let invalid = || (RowErrorKind::InvalidUrl, "its url is no http or https link".to_owned());
    let url = url::Url::parse(written).map_err(|_| invalid())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid());
    }
    let id = id_of_url(&url);
    Ok((PhotoSource::Url(PhotoUrl(written.to_owned())), id))
}

/// For formats that have no fields to give.
pub(super) fn bare(row: u64, defect: RowErrorKind, message: String, path: Option<&Path>) -> RowError {
    let path = path.map(|path| path.to_string_lossy().into_owned());
    RowError { row, defect, message, fields: Box::new(RawFields { path, ..RawFields::default() }) }
}
