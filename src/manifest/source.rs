//! Opens a source in its format.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    archive,
    content::{self, recognize_bytes},
    dialect::Delimiter,
    directory,
    error::SourceError,
    input::{self, Compression, FileFormat, Format, Input},
    json::{self, Layout},
    objects,
    options::{Row, Rows, Settings, SourcePath},
    sheet, table,
    text::{self, read_head},
};
use crate::{domain::ObjectRef, storage::is_archive};

/// Most bytes of a workbook in a bucket. A million rows take 25 MiB.
const MAX_OBJECT_WORKBOOK_BYTES: u64 = 64 << 20;

/// An open source: an iterator of its rows.
pub struct Source {
    name: String,
    root: PathBuf,
    rows: Rows,
    kind: Kind,
}

/// Kind of a source.
enum Kind {
    /// A table or a JSON array, which is complete even without rows.
    Table,
    /// JSON Lines, which are cut off unless they have rows.
    JsonLines,
    /// A directory or an archive of photos, with the number of files skipped so far.
    Directory(Arc<AtomicU64>),
}

impl Kind {
    fn of(format: Format) -> Self {
        match format {
            Format::Csv | Format::Tsv | Format::Json | Format::Sheet => Self::Table,
            Format::JsonLines => Self::JsonLines,
        }
    }
}

/// Opens a manifest, a directory or an archive of photos; `-` is standard input.
pub fn open(path: &Path, settings: &Settings) -> Result<Source, SourceError> {
    let root_given = settings.root.as_deref().map(root).transpose()?;
    if let Some(text) = path.to_str().filter(|text| ObjectRef::is_object(text)) {
        return open_object(&parse_object(text)?, root_given, settings);
    }
    if path == Path::new("-") {
        let FileFormat { format, compression } = settings.format.ok_or(SourceError::NoFormat)?;
        let root = root_given.map_or_else(|| absolute(Path::new(".")), Ok)?;
        let rows = rows(input::open(None, compression)?, format, &SourcePath { path, root: &root }, settings)?;
        return Ok(Source { name: "-".to_owned(), root, rows, kind: Kind::of(format) });
    }
    let absolute = absolute(path)?;
    let is_directory = absolute.is_dir();
    let folder = if is_directory { absolute.as_path() } else { absolute.parent().unwrap_or(&absolute) };
    let is_archive = settings.format.is_none() && is_archive(&absolute);
    // A directory or an archive names its own photos: without relative paths to resolve, `--root` can only widen it.
    let given = root_given.filter(|root| !(is_directory || is_archive) || folder.starts_with(root));
    let root = given.unwrap_or_else(|| folder.to_owned());
    let at = SourcePath { path: &absolute, root: &root };
    let (rows, kind) = if is_directory {
        let skipped = Arc::default();
        (directory::rows(&at, settings, Arc::clone(&skipped))?, Kind::Directory(skipped))
    } else if is_archive {
        let skipped = Arc::default();
        (archive::rows(&at, settings, Arc::clone(&skipped))?, Kind::Directory(skipped))
    } else {
        let named = || FileFormat::from_name(&absolute.file_name()?.to_string_lossy());
        let unknown = || unknown_kind(&absolute, path);
        let FileFormat { format, compression } = settings.format.or_else(named).ok_or_else(unknown)?;
        let rows = match (format, compression) {
            (Format::Sheet, Compression::None) => {
                let (rows, sheet) = sheet::open(&at, settings)?;
                let name = sheet_name(absolute.to_string_lossy().into_owned(), sheet);
                return Ok(Source { name, root, rows, kind: Kind::of(format) });
            }
            (Format::Sheet, Compression::Gzip | Compression::Zstd) => {
                let found = content::COMPRESSED_WORKBOOK;
                return Err(SourceError::NotAManifest { path: absolute, found });
            }
            (Format::Csv | Format::Tsv | Format::JsonLines | Format::Json, _) => {
                rows(input::open(Some(&absolute), compression)?, format, &at, settings)?
            }
        };
        (rows, Kind::of(format))
    };
    Ok(Source { name: absolute.to_string_lossy().into_owned(), root, rows, kind })
}

/// Opens a prefix of a bucket, or a manifest in it.
fn open_object(place: &ObjectRef, root: Option<PathBuf>, settings: &Settings) -> Result<Source, SourceError> {
    let name = place.to_string();
    if place.is_prefix() {
        let skipped = Arc::default();
        let rows = objects::rows(place.clone(), settings, Arc::clone(&skipped))?;
        return Ok(Source { root: PathBuf::from(&name), name, rows, kind: Kind::Directory(skipped) });
    }
    let named = || FileFormat::from_name(place.key.rsplit('/').next().unwrap_or_default());
    let path = Path::new(&name);
    let unknown = || SourceError::UnknownObject { place: name.clone() };
    let FileFormat { format, compression } = settings.format.or_else(named).ok_or_else(unknown)?;
    let stream = settings.objects.stream(place).map_err(|error| objects::source_error(place, error))?;
    let root = root.unwrap_or_else(|| place.folder().to_string().into());
    let at = SourcePath { path, root: &root };
    if format == Format::Sheet {
        if compression != Compression::None {
            return Err(SourceError::NotAManifest { path: path.to_owned(), found: content::COMPRESSED_WORKBOOK });
        }
        let (rows, sheet) = sheet::from_bytes(read_workbook(stream, path)?, &at, settings)?;
        return Ok(Source { name: sheet_name(name, sheet), root, rows, kind: Kind::of(format) });
    }
    let input = input::from_stream(Box::new(stream), compression, path)?;
    let rows = rows(input, format, &at, settings)?;
    Ok(Source { name, root, rows, kind: Kind::of(format) })
}

/// Reads a workbook of a bucket, which is read at several places, into memory.
fn read_workbook(stream: impl Read, path: &Path) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let read = stream.take(MAX_OBJECT_WORKBOOK_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_OBJECT_WORKBOOK_BYTES {
        let problem = format!(
            "it has more than {} MiB: download it and give its file, or store it as CSV",
            MAX_OBJECT_WORKBOOK_BYTES >> 20
        );
        return Err(SourceError::Workbook { path: path.to_owned(), problem });
    }
    Ok(bytes)
}

/// Name of a source whose sheet is not the one that is read by default: the rows of two sheets are not those of one source.
fn sheet_name(workbook: String, sheet: Option<String>) -> String {
    sheet.map_or(workbook.clone(), |sheet| format!("{workbook}#{sheet}"))
}

fn parse_object(text: &str) -> Result<ObjectRef, SourceError> {
    text.parse().map_err(|problem| SourceError::InvalidObject { place: text.to_owned(), problem })
}

/// The root as given: a directory, or a prefix of a bucket, which then ends with a slash.
fn root(given: &Path) -> Result<PathBuf, SourceError> {
    let Some(text) = given.to_str().filter(|text| ObjectRef::is_object(text)) else { return absolute(given) };
    let mut prefix = parse_object(text)?;
    if !prefix.is_prefix() {
        prefix.key.push('/');
    }
    Ok(prefix.to_string().into())
}

/// Opens a manifest in memory.
pub fn from_bytes(bytes: Vec<u8>, format: FileFormat, root: &Path, settings: &Settings) -> Result<Source, SourceError> {
    let path = Path::new("-");
    let at = SourcePath { path, root };
    let rows = match format.format {
        Format::Sheet => sheet::from_bytes(bytes, &at, settings)?.0,
        format @ (Format::Csv | Format::Tsv | Format::JsonLines | Format::Json) => {
            rows(Box::new(std::io::Cursor::new(bytes)), format, &at, settings)?
        }
    };
    Ok(Source { name: "-".to_owned(), root: root.to_owned(), rows, kind: Kind::of(format.format) })
}

/// Makes a path absolute without resolving links, so that files under a directory keep it as their prefix. Only `..` needs
/// the links resolved: the folder before it may be one.
fn absolute(path: &Path) -> Result<PathBuf, SourceError> {
    let has_parent = path.components().any(|part| part == std::path::Component::ParentDir);
    let find = |path: &Path| {
        if has_parent { path.canonicalize() } else { path.metadata().and_then(|_| std::path::absolute(path)) }
    };
    let found = find(path).or_else(|error| match folder_in_archive(path) {
        // A folder in a ZIP archive, which the lookups find or not.
        Some((archive, folder)) => Ok(find(archive)?.join(folder)),
        None => Err(error),
    });
    let found = found.map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?;
    Ok(found.components().collect())
}

/// Splits a path at the archive that it runs through.
fn folder_in_archive(path: &Path) -> Option<(&Path, &Path)> {
    let archive = path.ancestors().skip(1).find(|above| is_archive(above) && above.is_file())?;
    Some((archive, path.strip_prefix(archive).ok()?))
}

fn rows(input: Input, format: Format, at: &SourcePath<'_>, settings: &Settings) -> Result<Rows, SourceError> {
    let text = || text::open(input, format, settings.encoding, at.path);
    match format {
        Format::Csv => table::rows(text()?, Delimiter::COMMA, at, settings),
        Format::Tsv => table::rows(text()?, Delimiter::TAB, at, settings),
        Format::JsonLines => json::rows(text()?, Layout::Lines, at, settings),
        Format::Json => json::rows(text()?, Layout::Values, at, settings),
        Format::Sheet => Err(SourceError::StreamedWorkbook),
    }
}

/// Error for a file of unknown format, which names the content if it is recognized.
fn unknown_kind(file: &Path, path: &Path) -> SourceError {
    let head = std::fs::File::open(file).and_then(|mut file| read_head(&mut file, 512)).unwrap_or_default();
    match recognize_bytes(&head) {
        Some(found) => SourceError::NotAManifest { path: path.to_owned(), found },
        None => SourceError::UnknownKind { path: path.to_owned() },
    }
}

impl Source {
    /// Absolute path of the source; `-` for standard input.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Base of relative paths.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the source is a directory or an archive, whose rows have no visible numbers.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Whether the source may be empty although it had rows before. A table with a header may.
    pub fn may_be_empty(&self) -> bool {
        matches!(self.kind, Kind::Table)
    }

    /// Number of files skipped so far; `None` if the source has none.
    pub fn skipped(&self) -> Option<u64> {
        self.skipped_counter().map(|skipped| skipped.load(Relaxed))
    }

    /// Counter of skipped files, updated while reading; `None` if the source has none.
    pub fn skipped_counter(&self) -> Option<Arc<AtomicU64>> {
        match &self.kind {
            Kind::Directory(skipped) => Some(Arc::clone(skipped)),
            Kind::Table | Kind::JsonLines => None,
        }
    }
}

impl Iterator for Source {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_outside_the_given_root_is_its_own_root() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for folder in ["archive/photos", "elsewhere"] {
            std::fs::create_dir_all(path(folder)).unwrap();
        }
        let root = |given: Option<&str>| {
            let group = Some(crate::domain::FaceGroupCode::parse("g").unwrap());
            let settings = Settings { root: given.map(path), group, ..Settings::default() };
            open(&path("archive/photos"), &settings).unwrap().root().to_owned()
        };
        assert_eq!(root(None), path("archive/photos"));
        assert_eq!(root(Some("archive")), path("archive"));
        assert_eq!(root(Some("elsewhere")), path("archive/photos"));
    }
}
