//! A directory of photos: each file beneath it that is one is a row.
//!
//! A file is a photo by the ending of its name, whatever its content: that is judged later, and said. A file of another
//! ending, or of none, is a photo if it begins as a JPEG does. Everything else is left out and counted; so are folders
//! of deleted files and old versions, for nobody wants those people enrolled.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use globset::{Glob, GlobMatcher};
use walkdir::{DirEntry, WalkDir};

use super::{
    place::IdFrom,
    row::{Rules, bare},
    source::{At, Rows, Settings, SourceError},
};
use crate::{
    domain::{Item, RowError, RowErrorKind},
    files::{beneath, is_path_error},
};

/// What NAS boxes and desktops leave among photos; besides, whatever is hidden.
const JUNK: [&str; 4] = ["@eadir", "thumbs.db", "desktop.ini", "__macosx"];
/// Folders of deleted files, of old versions and of the file system's own: Synology, QNAP, Buffalo, Netgear, NetApp, ZFS,
/// Samba, Windows, macOS, Linux. Besides, what begins with `.Trash`.
const DELETED: [&str; 22] = [
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
/// What photos are named. Which of them can be used, their content tells.
const PHOTOS: [&str; 15] =
    ["jpg", "jpeg", "jpe", "jif", "jfif", "jfi", "pjpeg", "pjp", "png", "webp", "bmp", "tif", "tiff", "heic", "heif"];
/// Pictures of other formats; a JPEG that is named so is taken all the same.
const OTHER_PICTURES: [&str; 21] = [
    "arw", "avif", "cr2", "cr3", "dng", "gif", "hif", "j2k", "jp2", "jxl", "nef", "nrw", "orf", "pef", "psd", "raf",
    "raw", "rw2", "sr2", "srw", "tga",
];
/// What lies beside photos and is none: not looked into, for a folder may hold as many of these as photos.
const NO_PHOTOS: [&str; 31] = [
    "aae",
    "bak",
    "crdownload",
    "csv",
    "db",
    "doc",
    "docx",
    "gz",
    "html",
    "ini",
    "json",
    "jsonl",
    "log",
    "md",
    "mov",
    "mp4",
    "old",
    "orig",
    "part",
    "partial",
    "pdf",
    "sqlite",
    "sqlite-shm",
    "sqlite-wal",
    "tmp",
    "tsv",
    "txt",
    "xls",
    "xlsx",
    "xmp",
    "zip",
];
/// Files whose names are logged (`-v`), and folders of deleted files that are told of, in one reading.
const MAX_NAMES: u32 = 1_000;
const MAX_FOLDERS: u32 = 20;
/// Endings that are told apart.
const MAX_ENDINGS: usize = 20;

/// `--include` and `--exclude`: a pattern such as `*.jpg` or `2024/**`, for paths beneath the directory.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

impl FromStr for Pattern {
    type Err = globset::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Glob::new(text).map(|glob| Self(glob.compile_matcher()))
    }
}

/// Which files of a directory are photos.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// None: by the endings of their names, and by their content.
    pub include: Vec<Pattern>,
    /// Not these, nor what lies beneath them.
    pub exclude: Vec<Pattern>,
}

impl Files {
    /// None: nobody has said.
    fn is_included(&self, path: &Path) -> Option<bool> {
        (!self.include.is_empty()).then(|| self.include.iter().any(|pattern| pattern.fits(path)))
    }

    fn is_excluded(&self, path: &Path) -> bool {
        self.exclude.iter().any(|pattern| pattern.fits(path))
    }
}

impl Pattern {
    /// `*.png` means a file of any folder, as in `.gitignore`.
    fn fits(&self, path: &Path) -> bool {
        let has_folder = self.0.glob().glob().contains('/');
        self.0.is_match(path) || (!has_folder && path.file_name().is_some_and(|name| self.0.is_match(name)))
    }
}

/// Walks in the order of names, so that rows keep their numbers. Follows no links. What is left out is counted in `skipped`.
pub(super) fn rows(at: &At<'_>, settings: &Settings, skipped: Arc<AtomicU64>) -> Result<Rows, SourceError> {
    if settings.group.is_none() {
        return Err(SourceError::NoGroup { path: at.path.to_owned() });
    }
    let folder = at.path.to_owned();
    Ok(Box::new(Walk {
        walk: WalkDir::new(&folder).min_depth(1).sort_by_file_name().into_iter(),
        rules: Rules::new(&At { path: at.path, root: at.path }, settings),
        id_from: settings.id_from.unwrap_or_default(),
        files: settings.files.clone(),
        left_out: LeftOut::new(folder.clone(), skipped),
        folder,
        row: 0,
        is_over: false,
    }))
}

struct Walk {
    walk: walkdir::IntoIter,
    folder: PathBuf,
    rules: Rules,
    id_from: IdFrom,
    files: Files,
    left_out: LeftOut,
    row: u64,
    is_over: bool,
}

impl Iterator for Walk {
    type Item = Result<Result<Item, RowError>, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            let row = match self.walk.next() {
                None => {
                    self.left_out.report();
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

/// What the name of a file says of it.
enum Named {
    Photo,
    /// It may be one; its content decides.
    Anything,
    NoPhoto,
}

impl Walk {
    /// An unreadable folder or entry becomes a row; an error of the machine ends the reading, and nobody is rejected for it.
    fn failed(&mut self, error: walkdir::Error) -> Result<Option<Result<Item, RowError>>, SourceError> {
        if error.io_error().is_none_or(is_path_error) {
            return Ok(Some(Err(bare(self.next_row(), RowErrorKind::UnreadableRow, error.to_string(), error.path()))));
        }
        let path = error.path().unwrap_or(&self.folder).to_owned();
        Err(SourceError::Unreadable { path, source: error.into_io_error().expect("it was one above") })
    }

    /// The row of an entry; `None` if the entry is not a photo.
    fn entry(&mut self, entry: &DirEntry) -> Result<Option<Result<Item, RowError>>, SourceError> {
        let (path, kind) = (entry.path(), entry.file_type());
        let beneath = path.strip_prefix(&self.folder).unwrap_or(path);
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if self.files.is_excluded(beneath) {
            self.skip_folder(entry);
            return Ok(None);
        }
        if kind.is_dir() && is_deleted(&name) {
            self.left_out.deleted(beneath);
            self.skip_folder(entry);
            return Ok(None);
        }
        if JUNK.contains(&name.as_str()) || name.starts_with('.') {
            self.left_out.file(beneath);
            self.skip_folder(entry);
            return Ok(None);
        }
        if kind.is_dir() {
            return Ok(None);
        }
        let named = match self.files.is_included(beneath) {
            Some(true) => Named::Photo,
            // Left out as it was wanted. A link to a folder is another matter.
            Some(false) if !(kind.is_symlink() && path.is_dir()) => return Ok(None),
            Some(false) => Named::NoPhoto,
            None => named(beneath),
        };
        let is_photo = matches!(named, Named::Photo);
        if kind.is_symlink() && (is_photo || path.is_dir()) {
            let message =
                "it is a link, and links are not followed: give what it points to as a source of its own".to_owned();
            return Ok(Some(Err(bare(self.next_row(), RowErrorKind::NotFollowed, message, Some(path)))));
        }
        if !kind.is_file() && is_photo {
            let message = "it is a pipe, a socket or a device".to_owned();
            return Ok(Some(Err(bare(self.next_row(), RowErrorKind::NotAFile, message, Some(path)))));
        }
        let is_taken = match named {
            Named::Photo => true,
            Named::Anything if kind.is_file() => begins_as_jpeg(path, &self.folder)
                .map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?,
            Named::Anything => false,
            Named::NoPhoto => false,
        };
        if !is_taken {
            self.left_out.file(beneath);
            return Ok(None);
        }
        let row = self.next_row();
        if path.to_str().is_none() {
            let message = "its name is no UTF-8, so it gives no id: rename it".to_owned();
            return Ok(Some(Err(bare(row, RowErrorKind::UnreadableRow, message, Some(path)))));
        }
        let id = if is_photo { None } else { self.whole_name(beneath) };
        Ok(Some(self.rules.file(row, path, id.as_deref())))
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

    /// The id of a photo whose name has no ending that we know: what stands behind a dot is a part of the name.
    fn whole_name(&self, beneath: &Path) -> Option<String> {
        let has_ending = ending(beneath).is_some_and(|ending| OTHER_PICTURES.contains(&ending.as_str()));
        let name = match self.id_from {
            IdFrom::Name => beneath.file_name()?,
            IdFrom::Path => beneath.as_os_str(),
            IdFrom::Parent => return None,
        };
        name.to_str().filter(|_| !has_ending).map(str::to_owned)
    }
}

fn is_deleted(name: &str) -> bool {
    DELETED.contains(&name) || name.starts_with(".trash")
}

fn ending(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_lowercase())
}

fn named(path: &Path) -> Named {
    let Some(ending) = ending(path) else { return Named::Anything };
    // `.JPG_large`, `.jpg:large`, `.jpg!d`: what services hang behind the ending. exiftool hangs a word of its own behind
    // the ending of what it has replaced, editors a tilde.
    let plain = ending.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    if ending.ends_with("_original") || ending.ends_with('~') || NO_PHOTOS.contains(&ending.as_str()) {
        Named::NoPhoto
    } else if PHOTOS.contains(&plain) {
        Named::Photo
    } else {
        Named::Anything
    }
}

/// Whether a file begins as a JPEG does. A file that can't be opened does not; an error of the machine is returned.
fn begins_as_jpeg(path: &Path, folder: &Path) -> io::Result<bool> {
    let mut head = [0; 3];
    match beneath::open(path, Some(folder)).and_then(|mut file| file.read_exact(&mut head)) {
        Ok(()) => Ok(head == [0xFF, 0xD8, 0xFF]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof || is_path_error(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is left out of a directory.
struct LeftOut {
    folder: PathBuf,
    skipped: Arc<AtomicU64>,
    names: u32,
    folders: u32,
    by_ending: BTreeMap<String, u64>,
}

impl LeftOut {
    fn new(folder: PathBuf, skipped: Arc<AtomicU64>) -> Self {
        Self { folder, skipped, names: 0, folders: 0, by_ending: BTreeMap::new() }
    }

    /// A file, or a folder of no interest.
    fn file(&mut self, beneath: &Path) {
        self.skipped.fetch_add(1, Relaxed);
        self.names += 1;
        if self.names <= MAX_NAMES {
            tracing::debug!(file = %beneath.display(), "left out: no photo by name or content");
        }
        let ending = ending(beneath).map_or_else(|| "without an ending".to_owned(), |ending| format!(".{ending}"));
        if self.by_ending.len() < MAX_ENDINGS || self.by_ending.contains_key(&ending) {
            *self.by_ending.entry(ending).or_default() += 1;
        }
    }

    fn deleted(&mut self, beneath: &Path) {
        self.skipped.fetch_add(1, Relaxed);
        self.folders += 1;
        if self.folders <= MAX_FOLDERS {
            tracing::info!(folder = %beneath.display(), "left out: it holds deleted files or old versions");
        }
    }

    /// At the end.
    fn report(&mut self) {
        let by_ending = std::mem::take(&mut self.by_ending);
        if by_ending.is_empty() {
            return;
        }
        let has_pictures = OTHER_PICTURES.iter().any(|ending| by_ending.contains_key(&format!(".{ending}")));
        let endings: Vec<String> = by_ending.iter().map(|(ending, n)| format!("{n} {ending}")).collect();
        let (directory, files) = (self.folder.display(), endings.join(", "));
        if has_pictures {
            tracing::warn!(%directory, files, "files were left out, pictures among them that are no JPEG: save these as JPEG");
        } else {
            tracing::info!(%directory, files, "files were left out: no photos by name or content");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::{
        domain::FaceGroupCode,
        manifest::{IdFrom, open},
    };

    fn archive() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b/2.JPG",
            "a/1.jpeg",
            "a/notes.txt",
            "a/._1.jpg",
            "@eaDir/3.jpg",
            ".DS_Store",
            ".git/x.jpg",
            "0.png",
            "a/4.HEIC",
            "Thumbs.db",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        dir
    }

    fn shown(dir: &Path, settings: Settings) -> Vec<String> {
        let settings = Settings { group: FaceGroupCode::parse("g").ok(), ..settings };
        let show = |row: Result<Result<Item, RowError>, SourceError>| match row.unwrap() {
            Ok(item) => format!("{} {}", item.row, item.user),
            Err(error) => format!("{} {}", error.row, error.defect.code()),
        };
        open(dir, &settings).unwrap().map(show).collect()
    }

    /// The ids in a directory of these files, and how many were left out.
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
    fn jpegs_are_taken_by_content_and_others_are_counted() {
        let files: [(&str, &[u8]); 14] = [
            ("no-ending", JPEG),
            ("a.jfif", JPEG),
            ("b.JPG_large", JPEG),
            ("c.jpg!d", JPEG),
            ("d.jpg:large", JPEG),
            ("e.jpe", b"not a JPEG, which is told of as of any .jpg"),
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
    fn folders_of_deleted_files_are_left_out_and_count_as_one() {
        for name in DELETED.iter().chain(&[".Trash-1000", ".Trashes", ".TRASH"]) {
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
        fn folders_of_deleted_files_are_known_in_any_case(at in 0..DELETED.len(), upper in proptest::prelude::any::<u64>()) {
            let case = |(at, c): (usize, char)| if upper >> at & 1 == 1 { c.to_ascii_uppercase() } else { c };
            let name: String = DELETED[at].chars().enumerate().map(case).collect();
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
    fn patterns_choose_files_and_leave_folders_out() {
        let files = |include: &[&str], exclude: &[&str]| {
            let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            Settings { files: Files { include: patterns(include), exclude: patterns(exclude) }, ..Settings::default() }
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
    fn links_and_special_files_are_named_and_not_opened() {
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
