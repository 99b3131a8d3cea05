//! Reads a directory of photos: each photo under it is a row.
//!
//! A file with a photo's extension is a photo, whatever its content, which is judged later. A file with another extension or
//! none is a photo if it begins as a JPEG. All other files are skipped and counted, and so are directories of deleted files
//! and old versions, whose people must not be enrolled.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use walkdir::{DirEntry, WalkDir};

use super::{
    error::SourceError,
    file_filter::FileFilter,
    options::{Row, Rows, Settings, SourcePath},
    photo_path::IdFrom,
    row::{RowBuilder, row_error},
};
use crate::{
    domain::{PhotoSource, RowErrorKind},
    files::{beneath, is_path_error},
};

/// Files of NAS boxes and desktops. Hidden files are ignored too.
const IGNORED_NAMES: [&str; 4] = ["@eadir", "thumbs.db", "desktop.ini", "__macosx"];
/// Directories of deleted files, old versions and file system internals: Synology, QNAP, Buffalo, Netgear, NetApp, ZFS,
/// Samba, Windows, macOS, Linux. Names that begin with `.Trash` are added by [`is_trash`].
const TRASH_FOLDERS: [&str; 22] = [
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    ".recycle",
    ".snapshot",
    ".snapshots",
    ".zfs",
    "@recently-snapshot",
    "@recycle",
    "@sharesnap",
    "found.000",
    "lost+found",
    "network trash folder",
    "recycle bin",
    "recycle.bin",
    "recycled",
    "recycler",
    "system volume information",
    "trashbox",
    "~recycle",
    "~snapshot",
    "_recycle",
];
/// Extensions of photos. The content decides whether a photo is usable.
const PHOTO_EXTENSIONS: [&str; 15] =
    ["jpg", "jpeg", "jpe", "jif", "jfif", "jfi", "pjpeg", "pjp", "png", "webp", "bmp", "tif", "tiff", "heic", "heif"];
/// Extensions of other image formats. A JPEG with such a name is still a photo.
const OTHER_IMAGE_EXTENSIONS: [&str; 21] = [
    "arw", "avif", "cr2", "cr3", "dng", "gif", "hif", "j2k", "jp2", "jxl", "nef", "nrw", "orf", "pef", "psd", "raf",
    "raw", "rw2", "sr2", "srw", "tga",
];
/// Extensions that are never photos. These files are not opened: a directory may hold as many of them as photos.
const OTHER_EXTENSIONS: [&str; 32] = [
    "aae", "bak", "crdownload", "csv", "db", "doc", "docx", "gz", "html", "ini", "json", "jsonl", "log", "md", "mov",
    "mp4", "old", "orig", "part", "partial", "pdf", "sqlite", "sqlite-shm", "sqlite-wal", "tmp", "tsv", "txt", "xls",
    "xlsm", "xlsx", "xmp", "zip",
];
/// Most skipped files named in the log (`-v`) per reading.
const MAX_LOGGED_FILES: u32 = 1_000;
/// Most trash directories named in the log per reading.
const MAX_LOGGED_TRASH: u32 = 20;
/// Most extensions counted separately.
const MAX_EXTENSIONS: usize = 20;

/// Reads a directory in name order, so that rows keep their numbers. Follows no links. Counts the rest in `skipped`.
pub(super) fn rows(at: &SourcePath<'_>, settings: &Settings, skipped: Arc<AtomicU64>) -> Result<Rows, SourceError> {
    if settings.group.is_none() {
        return Err(SourceError::NoGroupOfPhotos { path: at.path.to_owned() });
    }
    let folder = at.path.to_owned();
    Ok(Box::new(Walk {
        walk: WalkDir::new(&folder).min_depth(1).sort_by_file_name().into_iter(),
        builder: RowBuilder::new(&SourcePath { path: at.path, root: at.path }, settings),
        id_from: settings.id_from.unwrap_or_default(),
        filter: settings.files.clone(),
        skip_log: SkipLog::new(folder.clone(), skipped),
        folder,
        row: 0,
        is_over: false,
    }))
}

struct Walk {
    walk: walkdir::IntoIter,
    folder: PathBuf,
    builder: RowBuilder,
    id_from: IdFrom,
    filter: FileFilter,
    skip_log: SkipLog,
    row: u64,
    is_over: bool,
}

impl Iterator for Walk {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            let row = match self.walk.next() {
                None => {
                    self.skip_log.report();
                    return None;
                }
                Some(Ok(entry)) => self.entry(&entry),
                Some(Err(error)) => self.failed(error),
            };
            self.is_over = row.is_err();
            if let Some(row) = row.transpose() {
                return Some(row);
            }
        }
        None
    }
}

/// Classification of a file by its name.
pub(super) enum NameClass {
    Photo,
    /// The content decides.
    Unknown,
    NotPhoto,
}

impl Walk {
    /// Handles an error of the walk. An unreadable path becomes a row; an error of the machine ends the reading, so that
    /// nobody is rejected for it.
    fn failed(&mut self, error: walkdir::Error) -> Result<Option<Row>, SourceError> {
        let path = error.path().unwrap_or(&self.folder).to_owned();
        let message = error.to_string();
        match error.into_io_error() {
            Some(source) if !is_path_error(&source) => Err(SourceError::Unreadable { path, source }),
            Some(_) | None => Ok(self.reject(RowErrorKind::UnreadableRow, &message, &path)),
        }
    }

    fn reject(&mut self, defect: RowErrorKind, message: &str, path: &Path) -> Option<Row> {
        Some(Err(row_error(self.next_row(), defect, message.to_owned(), Some(path))))
    }

    /// The row of an entry; `None` if the entry is not a photo.
    fn entry(&mut self, entry: &DirEntry) -> Result<Option<Row>, SourceError> {
        let (path, kind) = (entry.path(), entry.file_type());
        let relative = path.strip_prefix(&self.folder).unwrap_or(path);
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if self.filter.is_excluded(relative) {
            self.skip_folder(entry);
            return Ok(None);
        }
        if kind.is_dir() && is_trash(&name) {
            self.skip_log.trash(relative);
            self.skip_folder(entry);
            return Ok(None);
        }
        if is_ignored(&name) {
            self.skip_log.file(relative);
            self.skip_folder(entry);
            return Ok(None);
        }
        if kind.is_dir() {
            return Ok(None);
        }
        let class = match self.filter.is_included(relative) {
            Some(true) => NameClass::Photo,
            // Excluded on purpose, except that a link to a directory is reported.
            Some(false) if !(kind.is_symlink() && path.is_dir()) => return Ok(None),
            Some(false) => NameClass::NotPhoto,
            None => classify(relative),
        };
        let is_photo = matches!(class, NameClass::Photo);
        if kind.is_symlink() && (is_photo || path.is_dir()) {
            let message = "it is a symbolic link, which is not followed: give its target as a source of its own";
            return Ok(self.reject(RowErrorKind::NotFollowed, message, path));
        }
        if !kind.is_file() && is_photo {
            return Ok(self.reject(RowErrorKind::NotAFile, "it is a pipe, a socket or a device", path));
        }
        let is_taken = match class {
            NameClass::Photo => true,
            NameClass::Unknown if kind.is_file() => is_jpeg(path, &self.folder)
                .map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?,
            NameClass::Unknown | NameClass::NotPhoto => false,
        };
        if !is_taken {
            self.skip_log.file(relative);
            return Ok(None);
        }
        if path.to_str().is_none() {
            let message = "its name is not UTF-8 and gives no id: rename it";
            return Ok(self.reject(RowErrorKind::UnreadableRow, message, path));
        }
        let id = if is_photo { None } else { id_with_extension(relative, self.id_from) };
        let row = self.next_row();
        Ok(Some(self.builder.file(row, PhotoSource::Path(path.to_owned()), id.as_deref())))
    }

    fn next_row(&mut self) -> u64 {
        self.row += 1;
        self.row
    }

    fn skip_folder(&mut self, entry: &DirEntry) {
        if entry.file_type().is_dir() {
            self.walk.skip_current_dir();
        }
    }
}

/// Id of a photo without a known extension: a dot and what follows are part of the name.
pub(super) fn id_with_extension(relative: &Path, id_from: IdFrom) -> Option<String> {
    let has_extension =
        extension(relative).is_some_and(|extension| OTHER_IMAGE_EXTENSIONS.contains(&extension.as_str()));
    let name = match id_from {
        IdFrom::Name => relative.file_name()?,
        IdFrom::Path => relative.as_os_str(),
        IdFrom::Parent => return None,
    };
    name.to_str().filter(|_| !has_extension).map(str::to_owned)
}

/// Whether a lower-case name is that of a hidden file, or of one that NAS boxes and desktops add.
pub(super) fn is_ignored(name: &str) -> bool {
    IGNORED_NAMES.contains(&name) || name.starts_with('.')
}

/// Whether a file begins as a JPEG does.
pub(super) fn is_jpeg_head(head: &[u8]) -> bool {
    head.starts_with(&[0xFF, 0xD8, 0xFF])
}

pub(super) fn is_trash(name: &str) -> bool {
    TRASH_FOLDERS.contains(&name) || name.starts_with(".trash")
}

pub(super) fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_lowercase())
}

pub(super) fn classify(path: &Path) -> NameClass {
    let Some(extension) = extension(path) else { return NameClass::Unknown };
    // Services append to the extension: `.JPG_large`, `.jpg:large`, `.jpg!d`. exiftool appends `_original` to files that it
    // has replaced, and editors append a tilde.
    let plain = extension.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    if extension.ends_with("_original") || extension.ends_with('~') || OTHER_EXTENSIONS.contains(&extension.as_str()) {
        NameClass::NotPhoto
    } else if PHOTO_EXTENSIONS.contains(&plain) {
        NameClass::Photo
    } else {
        NameClass::Unknown
    }
}

/// Whether a file begins as a JPEG does. A file that can't be opened does not; an error of the machine is returned.
fn is_jpeg(path: &Path, folder: &Path) -> io::Result<bool> {
    let mut head = [0; 3];
    match beneath::open(path, Some(folder)).and_then(|mut file| file.read_exact(&mut head)) {
        Ok(()) => Ok(is_jpeg_head(&head)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof || is_path_error(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Counts and logs what is skipped.
pub(super) struct SkipLog {
    folder: PathBuf,
    skipped: Arc<AtomicU64>,
    names: u32,
    folders: u32,
    by_extension: BTreeMap<String, u64>,
}

impl SkipLog {
    pub(super) fn new(folder: PathBuf, skipped: Arc<AtomicU64>) -> Self {
        Self { folder, skipped, names: 0, folders: 0, by_extension: BTreeMap::new() }
    }

    /// Counts a skipped file or ignored directory.
    pub(super) fn file(&mut self, relative: &Path) {
        self.skipped.fetch_add(1, Relaxed);
        self.names += 1;
        if self.names <= MAX_LOGGED_FILES {
            tracing::debug!(file = %relative.display(), "skipped: not a photo by name or content");
        }
        let extension =
            extension(relative).map_or_else(|| "without an extension".to_owned(), |extension| format!(".{extension}"));
        if self.by_extension.len() < MAX_EXTENSIONS || self.by_extension.contains_key(&extension) {
            *self.by_extension.entry(extension).or_default() += 1;
        }
    }

    pub(super) fn trash(&mut self, relative: &Path) {
        self.skipped.fetch_add(1, Relaxed);
        self.folders += 1;
        if self.folders <= MAX_LOGGED_TRASH {
            tracing::info!(folder = %relative.display(), "skipped: holds deleted files or old versions");
        }
    }

    /// Logs the totals at the end.
    pub(super) fn report(&mut self) {
        let by_extension = std::mem::take(&mut self.by_extension);
        if by_extension.is_empty() {
            return;
        }
        let has_pictures =
            OTHER_IMAGE_EXTENSIONS.iter().any(|extension| by_extension.contains_key(&format!(".{extension}")));
        let extensions: Vec<String> = by_extension.iter().map(|(extension, n)| format!("{n} {extension}")).collect();
        let (directory, files) = (self.folder.display(), extensions.join(", "));
        if has_pictures {
            tracing::warn!(%directory, files, "skipped files, some of them images in other formats: save these as JPEG");
        } else {
            tracing::info!(%directory, files, "skipped files that are not photos by name or content");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::{
        domain::FaceGroupCode,
        manifest::{IdFrom, Pattern, open},
    };

    fn archive() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b/2.JPG", "a/1.jpeg", "a/notes.txt", "a/._1.jpg", "@eaDir/3.jpg", ".DS_Store", ".git/x.jpg", "0.png",
            "a/4.HEIC", "Thumbs.db",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    fn shown(dir: &Path, settings: Settings) -> Vec<String> {
        let settings = Settings { group: FaceGroupCode::parse("g").ok(), ..settings };
        let show = |row: Result<Row, SourceError>| match row.unwrap() {
            Ok(item) => format!("{} {}", item.row, item.user),
            Err(error) => format!("{} {}", error.row, error.defect.code()),
        };
        open(dir, &settings).unwrap().map(show).collect()
    }

    /// The ids in a directory of these files, and the number of skipped files.
    fn ids(files: &[(&str, &[u8])], settings: Settings) -> (Vec<String>, u64) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let mut source = open(dir.path(), &Settings { group: FaceGroupCode::parse("g").ok(), ..settings }).unwrap();
        let ids = source.by_ref().map(|row| row.unwrap().unwrap().user.to_string()).collect();
        (ids, source.skipped().unwrap())
    }

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0";

    #[test]
    fn jpegs_are_read_by_content_and_other_files_counted() {
        let files: [(&str, &[u8]); 14] = [
            ("no-ending", JPEG),
            ("a.jfif", JPEG),
            ("b.JPG_large", JPEG),
            ("c.jpg!d", JPEG),
            ("d.jpg:large", JPEG),
            ("e.jpe", b"not a JPEG, but judged later"),
            ("f.gif", JPEG),
            ("j.smith", JPEG),
            ("g.hif", b"\0\0\0\x18ftypheix"),
            ("README", b"text"),
            ("h.jpg_original", JPEG),
            ("i.jpg~", JPEG),
            ("empty", b""),
            ("notes.txt", JPEG),
        ];
        let (taken, skipped) = ids(&files, Settings::default());
        assert_eq!(taken, ["a", "b", "c", "d", "e", "f", "j.smith", "no-ending"]);
        assert_eq!(skipped, 6);
        let (taken, _) = ids(&files, Settings { id_from: Some(IdFrom::Path), ..Settings::default() });
        assert_eq!(taken, ["a", "b", "c", "d", "e", "f", "j.smith", "no-ending"]);
    }

    #[test]
    fn trash_folder_is_skipped_and_counts_once() {
        for name in TRASH_FOLDERS.iter().chain(&[".Trash-1000", ".Trashes", ".TRASH"]) {
            let (below, named) = (format!("team/{name}/x.jpg"), format!("{name}.jpg"));
            let (taken, skipped) = ids(&[(&below, JPEG), ("a.jpg", JPEG)], Settings::default());
            assert_eq!((taken, skipped), (vec!["a".to_owned()], 1), "{name}");
            if !name.starts_with('.') {
                assert_eq!(ids(&[(&named, JPEG)], Settings::default()).0, [*name], "a photo may be named so");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn trash_folders_are_recognized_in_any_case(at in 0..TRASH_FOLDERS.len(), upper in proptest::prelude::any::<u64>()) {
            let case = |(at, c): (usize, char)| if upper >> at & 1 == 1 { c.to_ascii_uppercase() } else { c };
            let name: String = TRASH_FOLDERS[at].chars().enumerate().map(case).collect();
            let (taken, skipped) = ids(&[(&format!("{name}/x.jpg"), JPEG)], Settings::default());
            proptest::prop_assert_eq!((taken.len(), skipped), (0, 1), "{}", name);
        }
    }

    #[test]
    fn directory_is_sorted_and_skips_junk() {
        let dir = archive();
        assert_eq!(shown(dir.path(), Settings::default()), ["1 0", "2 1", "3 4", "4 2"]);
        assert!(open(dir.path(), &Settings::default()).is_err_and(|error| error.is_usage()));
    }

    #[test]
    fn patterns_include_files_and_exclude_folders() {
        let files = |include: &[&str], exclude: &[&str]| {
            let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            Settings {
                files: FileFilter { include: patterns(include), exclude: patterns(exclude) },
                ..Settings::default()
            }
        };
        let dir = archive();
        assert_eq!(shown(dir.path(), files(&["*.txt", "b/*"], &[])), ["1 notes", "2 2"]);
        assert_eq!(shown(dir.path(), files(&[], &["a", "*.png"])), ["1 2"]);
        assert_eq!(shown(dir.path(), files(&[], &["**/*.{jpeg,HEIC}"])), ["1 0", "2 2"]);
        assert!("a[".parse::<Pattern>().is_err());
    }

    #[test]
    fn id_from_parent_or_path() {
        let dir = archive();
        let with = |id_from| shown(dir.path(), Settings { id_from: Some(id_from), ..Settings::default() });
        assert_eq!(with(IdFrom::Parent), ["1 MissingUserId", "2 a", "3 a", "4 b"]);
        assert_eq!(with(IdFrom::Path), ["1 0", "2 a/1", "3 a/4", "4 b/2"]);
    }

    #[test]
    fn links_and_special_files_are_rejected_unopened() {
        let dir = archive();
        symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        symlink("1.jpeg", dir.path().join("a/link.jpg")).unwrap();
        symlink("nowhere", dir.path().join("a/note.txt")).unwrap();
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("pipe.jpg"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let expected = ["1 0", "2 1", "3 4", "4 NotFollowed", "5 NotFollowed", "6 2", "7 NotAFile"];
        assert_eq!(shown(dir.path(), Settings::default()), expected);
    }
}
