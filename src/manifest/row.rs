//! Builds an item from the fields of one row, or the error that says why not.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use super::{
    embedded::{self, MAX_PATH_BYTES},
    options::{Row, Settings, SourcePath},
    photo_path::{self, IdFrom, id_from_url, is_inside, normalize},
};
use crate::{
    domain::{
        Damage, Extra, FaceGroupCode, FileStamp, Item, MerchantUserId, ObjectRef, Origin, PhotoSource, PhotoUrl,
        RawFields, RowError, RowErrorKind, find_damage,
    },
    files::spelling::trimmed,
};

/// Fields of a row as written; empty fields are absent.
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
    /// Damage of an id that is neither text nor a whole number in JSON.
    #[serde(skip)]
    pub(super) id_damage: Option<Damage>,
    /// Whether a row without an id is rejected, because other rows have ids or another field may be the id.
    #[serde(skip)]
    pub(super) needs_id: bool,
}

/// The rest of a row.
#[derive(Default)]
pub(super) struct OtherFields {
    pub(super) extra: Extra,
    pub(super) origin: Option<Box<Origin>>,
}

/// Parses the origin of an export row.
pub(super) fn origin(source: &str, row: &str, code: Option<&str>) -> Option<Box<Origin>> {
    let row = row.parse().ok()?;
    let was_duplicate = code.is_some_and(|code| code == RowErrorKind::DuplicateUserId.code().0);
    Some(Box::new(Origin { source: source.to_owned(), row, was_duplicate }))
}

/// Builds items with the options of one source.
pub(super) struct RowBuilder {
    bounds: Bounds,
    /// Folder of the manifest, where the relative paths of an export begin.
    folder: PathBuf,
    is_root_given: bool,
    /// The root, if it is a prefix of a bucket.
    object_root: Option<ObjectRef>,
    group: Option<FaceGroupCode>,
    allow_outside_root: bool,
    id_from: IdFrom,
    is_id_from_given: bool,
    allow_odd_ids: bool,
    /// Whether the warning about photos in extra columns was logged.
    has_warned: Cell<bool>,
}

/// Where a row's relative paths begin, and what its photos must lie in.
struct Bounds {
    base: PathBuf,
    root: PathBuf,
}

/// A photo, and the id that its name gives.
type PhotoAndId = (PhotoSource, Option<String>);

/// An error of a row whose number is not known yet.
type RowProblem = (RowErrorKind, String);

impl RowBuilder {
    pub(super) fn new(at: &SourcePath<'_>, settings: &Settings) -> Self {
        let folder = at.path.parent().filter(|folder| folder.is_absolute()).unwrap_or(at.root);
        Self {
            bounds: Bounds { base: at.root.to_owned(), root: at.root.to_owned() },
            folder: folder.to_owned(),
            is_root_given: settings.root.is_some(),
            object_root: at.root.to_str().and_then(|root| root.parse().ok()),
            group: settings.group.clone(),
            allow_outside_root: settings.allow_outside_root,
            id_from: settings.id_from.unwrap_or_default(),
            is_id_from_given: settings.id_from.is_some(),
            allow_odd_ids: settings.allow_odd_ids,
            has_warned: Cell::new(false),
        }
    }

    /// Builds the item of a row.
    pub(super) fn item(&self, row: u64, fields: &Fields<'_>, others: OtherFields) -> Row {
        let of_export = others.origin.as_deref().map(|origin| self.bounds_of_export_row(&origin.source));
        let photo = self.parse_photo(fields, of_export.as_ref().unwrap_or(&self.bounds));
        self.build(row, fields, others, photo)
    }

    /// Bounds of a row of an export. Its relative paths begin at the export's folder, whatever `--root` is; without `--root`
    /// an export in a folder further up opens no more folders than its source did.
    fn bounds_of_export_row(&self, source: &str) -> Bounds {
        let source = Path::new(source);
        let folder = if source.is_dir() { source } else { source.parent().unwrap_or(source) };
        let is_narrower = !self.is_root_given && folder.starts_with(&self.bounds.root);
        let root = if is_narrower { folder } else { &self.bounds.root };
        Bounds { base: self.folder.clone(), root: root.to_owned() }
    }

    /// Builds the item of an existing file or member, whose name is taken exactly.
    pub(super) fn file(&self, row: u64, photo: PhotoSource, id: Option<&str>) -> Row {
        let path = photo.path().unwrap_or(Path::new("")).to_owned();
        let shown = path.to_string_lossy();
        let fields = Fields { path: Some(&shown), merchant_user_id: id, ..Fields::default() };
        let id = self.id_from.id_of(&path, &self.bounds.root);
        self.build(row, &fields, OtherFields::default(), Ok((photo, id)))
    }

    /// Builds the item of a listed object.
    pub(super) fn object(&self, row: u64, object: ObjectRef, stamp: FileStamp) -> Row {
        let shown = object.to_string();
        let fields = Fields { url: Some(&shown), ..Fields::default() };
        let id = self.id_of_object(&object);
        self.build(row, &fields, OtherFields::default(), Ok((PhotoSource::Object(object, Some(stamp)), id)))
    }

    fn build(
        &self,
        row: u64,
        fields: &Fields<'_>,
        mut others: OtherFields,
        picture: Result<PhotoAndId, RowProblem>,
    ) -> Row {
        others.extra.retain(|(name, value)| !self.is_embedded_photo(name, value));
        match picture.and_then(|picture| self.parse_fields(fields, picture)) {
            Ok((group, user, picture)) => {
                let OtherFields { extra, origin } = others;
                Ok(Item { row, group, user, picture, extra, origin })
            }
            Err((defect, message)) => Err(RowError { row, defect, message, fields: self.raw_fields(fields, others) }),
        }
    }

    /// Whether an extra field holds a photo, which is never stored.
    fn is_embedded_photo(&self, name: &str, value: &str) -> bool {
        let is_photo = embedded::is_photo(value);
        if is_photo && !self.has_warned.replace(true) {
            tracing::warn!(column = name, "the column holds photos, which are neither sent nor stored");
        }
        is_photo
    }

    fn parse_photo(&self, fields: &Fields<'_>, bounds: &Bounds) -> Result<PhotoAndId, RowProblem> {
        let written = |field: Option<&'_ str>| field.filter(|text| !trimmed(text).is_empty()).map(str::to_owned);
        match (written(fields.path), written(fields.url)) {
            (Some(path), None) => self.parse_photo_field((&path, "path"), bounds),
            (None, Some(url)) => self.parse_photo_field((&url, "url"), bounds),
            (Some(_), Some(_)) => {
                Err((RowErrorKind::TwoPictures, "it has both a path and a url: leave one of them empty".into()))
            }
            (None, None) => Err((RowErrorKind::MissingPicture, "it has neither a path nor a url".into())),
        }
    }

    /// Parses the `path` or the `url` column; people write either value into both.
    fn parse_photo_field(&self, (written, column): (&str, &str), bounds: &Bounds) -> Result<PhotoAndId, RowProblem> {
        if embedded::is_photo(written) {
            let message = format!(
                "its {column} is the photo itself (Base64 or hexadecimal), which is not supported: write the photos to \
                 files and give their paths"
            );
            return Err((RowErrorKind::EmbeddedPhoto, message));
        }
        let text = trimmed(written);
        match (photo_path::scheme(text).as_deref(), column) {
            (Some("http" | "https"), _) => parse_url(text, self.id_from),
            (Some("oss"), _) => self.parse_object(text),
            (Some("file"), _) => match photo_path::path_of_file_url(text) {
                Some(path) => self.parse_path(&self.resolve_file_url(path, bounds), bounds),
                None => Err((
                    RowErrorKind::InvalidUrl,
                    format!("its {column} is a file:// link to another machine: give a path on this machine"),
                )),
            },
            (Some(scheme), "path") => Err((
                RowErrorKind::InvalidUrl,
                format!("its path has the unsupported scheme {scheme}://: give a path, or an oss, http or https link"),
            )),
            (None, "path") => self.parse_path(written, bounds),
            (_, _) => Err((RowErrorKind::InvalidUrl, "its url is not an http or https link".to_owned())),
        }
    }

    /// Reads `file:///photos/a.jpg` as relative to the root if it would leave the root.
    fn resolve_file_url(&self, path: String, Bounds { base, root }: &Bounds) -> String {
        if self.object_root.is_none() && self.allow_outside_root || is_inside(root, &normalize(base, &path)) {
            return path;
        }
        path.trim_start_matches('/').to_owned()
    }

    fn parse_fields(
        &self,
        fields: &Fields<'_>,
        (picture, id): PhotoAndId,
    ) -> Result<(FaceGroupCode, MerchantUserId, PhotoSource), RowProblem> {
        let user = self.parse_id(fields, id)?;
        let group = match fields.face_group_code {
            Some(code) => FaceGroupCode::parse(code)
                .map_err(|invalid| (RowErrorKind::InvalidGroup, format!("face_group_code {invalid}")))?,
            None => self.group.clone().ok_or_else(|| {
                (RowErrorKind::MissingGroup, "it has no face_group_code: fill it in or give --group".to_owned())
            })?,
        };
        Ok((group, user, picture))
    }

    /// The id as written, or the id from the photo's name.
    fn parse_id(&self, fields: &Fields<'_>, of_photo: Option<String>) -> Result<MerchantUserId, RowProblem> {
        if let Some(damage) = fields.id_damage.filter(|_| !self.allow_odd_ids) {
            return Err((RowErrorKind::SuspiciousUserId, damage_message(damage)));
        }
        let is_missing = fields.needs_id && !self.is_id_from_given;
        let id = match fields.merchant_user_id.map(str::to_owned).or(of_photo.filter(|_| !is_missing)) {
            Some(id) => id,
            None if is_missing => {
                let message = "it has no merchant_user_id: fill it in, give --column merchant_user_id=NAME if its column has \
                               another name, or give --id-from name to use the photo's name instead";
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
            Some(damage) => Err((RowErrorKind::SuspiciousUserId, damage_message(damage))),
            None => Ok(id),
        }
    }

    fn id_of_object(&self, object: &ObjectRef) -> Option<String> {
        let root = self.object_root.as_ref().filter(|root| object.is_under(root)).map_or("", |root| &root.key);
        self.id_from.id_of(Path::new(&object.key), Path::new(root))
    }

    /// Parses `oss://bucket/key`, which must be under the root if that is in a bucket.
    fn parse_object(&self, written: &str) -> Result<PhotoAndId, RowProblem> {
        let object: ObjectRef =
            written.parse().map_err(|problem| (RowErrorKind::InvalidUrl, format!("its link {problem}")))?;
        if object.is_prefix() {
            return Err((RowErrorKind::InvalidUrl, "its link names no object: give oss://bucket/key".to_owned()));
        }
        if !self.allow_outside_root && self.object_root.as_ref().is_some_and(|root| !object.is_under(root)) {
            return Err(outside_root(&self.bounds.root));
        }
        let id = self.id_of_object(&object);
        Ok((PhotoSource::Object(object, None), id))
    }

    /// Parses a path below a prefix of a bucket.
    fn parse_key(&self, root: &ObjectRef, written: &str) -> Result<PhotoAndId, RowProblem> {
        let portable = if written.contains('/') { written.to_owned() } else { written.replace('\\', "/") };
        if portable.starts_with('/') {
            return Err(outside_root(&self.bounds.root));
        }
        let mut parts: Vec<&str> = Vec::new();
        for part in portable.split('/') {
            match part {
                "." => {}
                ".." => drop(parts.pop().ok_or_else(|| outside_root(&self.bounds.root))?),
                part => parts.push(part),
            }
        }
        self.parse_object(&format!("{root}{}", parts.join("/")))
    }

    /// Parses a path. Spaces around it may belong to the name, so they are kept until the file is opened.
    fn parse_path(&self, written: &str, Bounds { base, root }: &Bounds) -> Result<PhotoAndId, RowProblem> {
        if written.len() > MAX_PATH_BYTES {
            let message = format!("its path has {} bytes; at most {MAX_PATH_BYTES} are allowed", written.len());
            return Err((RowErrorKind::PathTooLong, message));
        }
        let plain = trimmed(written);
        if let Some(root) = &self.object_root {
            return self.parse_key(root, plain);
        }
        let path = normalize(base, if plain.starts_with('/') { plain } else { written });
        if !self.allow_outside_root && !is_inside(root, &path) {
            return Err(outside_root(root));
        }
        let named = if plain == written && !plain.contains('\\') {
            self.id_from.id_of(&path, root)
        } else {
            self.id_from.id_of(&normalize(base, &plain.replace('\\', "/")), root)
        };
        Ok((PhotoSource::Path(path), named))
    }

    /// Fields as written, so that an export can return them for correction.
    fn raw_fields(&self, fields: &Fields<'_>, OtherFields { extra, origin }: OtherFields) -> Box<RawFields> {
        let group = storable(fields.face_group_code);
        let (path, url) = storable_photo(fields.path, fields.url);
        Box::new(RawFields {
            path,
            url,
            user: storable(fields.merchant_user_id),
            group: group.or_else(|| self.group.as_ref().map(ToString::to_string)),
            extra,
            origin,
        })
    }
}

/// A field as it may be stored: never a photo, or a text too long to be anything else.
pub(super) fn storable(field: Option<&str>) -> Option<String> {
    let is_kept = |text: &&str| !embedded::is_photo(text) && (text.len() <= MAX_PATH_BYTES || is_link(text));
    field.filter(is_kept).map(str::to_owned)
}

/// Storable `path` and `url` of a row. A link in `path` may be signed, and a `path` is shown unmasked: it becomes the `url`, or
/// is masked where there is one.
pub(super) fn storable_photo(path: Option<&str>, url: Option<&str>) -> (Option<String>, Option<String>) {
    match (path, url) {
        (Some(path), url) if is_link(path) => match url.filter(|url| !trimmed(url).is_empty()) {
            None => (None, storable(Some(path))),
            Some(url) => (Some(PhotoUrl(path.to_owned()).to_string()), storable(Some(url))),
        },
        (path, url) => (storable(path), storable(url)),
    }
}

fn is_link(text: &str) -> bool {
    matches!(photo_path::scheme(trimmed(text)).as_deref(), Some("http" | "https"))
}

fn outside_root(root: &Path) -> RowProblem {
    let message =
        format!("its path leads out of {}: give --root DIR, or --allow-outside-root to allow this", root.display());
    (RowErrorKind::OutsideRoot, message)
}

fn damage_message(damage: Damage) -> String {
    format!("merchant_user_id {damage}; --allow-odd-ids accepts it as it is")
}

fn parse_url(written: &str, id_from: IdFrom) -> Result<PhotoAndId, RowProblem> {
    let invalid = || (RowErrorKind::InvalidUrl, "its url is not an http or https link".to_owned());
    let url = url::Url::parse(written).map_err(|_| invalid())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid());
    }
    let id = id_from_url(&url, id_from);
    Ok((PhotoSource::Url(PhotoUrl(written.to_owned())), id))
}

/// An error of a row without its fields.
pub(super) fn row_error(row: u64, defect: RowErrorKind, message: String, path: Option<&Path>) -> RowError {
    let path = path.map(|path| path.to_string_lossy().into_owned());
    RowError { row, defect, message, fields: Box::new(RawFields { path, ..RawFields::default() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_row_keeps_to_the_folder_of_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let row = |export: &Path, root: Option<PathBuf>, photo: &str| {
            let settings =
                Settings { group: FaceGroupCode::parse("g").ok(), root: root.clone(), ..Settings::default() };
            let root = root.unwrap_or_else(|| export.parent().unwrap().to_owned());
            let builder = RowBuilder::new(&SourcePath { path: export, root: &root }, &settings);
            let origin = origin(path("m/people.csv").to_str().unwrap(), "2", None);
            let fields = Fields { path: Some(photo), merchant_user_id: Some("u"), ..Fields::default() };
            let item = builder.item(2, &fields, OtherFields { origin, ..OtherFields::default() });
            item.map(|item| item.picture).map_err(|error| error.defect)
        };
        let found = Ok(PhotoSource::Path(path("m/a.jpg")));
        // Beside the source, one folder up, and elsewhere.
        assert_eq!(row(&path("m/x.csv"), None, "a.jpg"), found);
        assert_eq!(row(&path("x.csv"), None, "m/a.jpg"), found);
        assert_eq!(row(&path("x.csv"), None, "other/a.jpg"), Err(RowErrorKind::OutsideRoot));
        let absolute = path("m/a.jpg");
        assert_eq!(row(&path("n/x.csv"), None, absolute.to_str().unwrap()), Err(RowErrorKind::OutsideRoot));
        // `--root` says what is allowed, not where an export's paths begin.
        assert_eq!(row(&path("n/x.csv"), Some(path("m")), absolute.to_str().unwrap()), found);
        assert_eq!(row(&path("m/n/x.csv"), Some(path("m")), "a.jpg"), Ok(PhotoSource::Path(path("m/n/a.jpg"))));
    }

    #[test]
    fn signed_link_in_path_column_is_not_a_path() {
        let link = "https://h/a.jpg?Signature=secret";
        assert_eq!(storable_photo(Some(link), None), (None, Some(link.to_owned())));
        assert_eq!(storable_photo(Some(link), Some(" ")), (None, Some(link.to_owned())));
        let (path, url) = storable_photo(Some(link), Some("https://h/b.jpg"));
        assert!(!path.unwrap().contains("secret"));
        assert_eq!(url.as_deref(), Some("https://h/b.jpg"));
        assert_eq!(storable_photo(Some("a.jpg"), None), (Some("a.jpg".to_owned()), None));
    }
}
