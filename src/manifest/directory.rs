//! A directory of photos: each file beneath it that has the name of one is a row.

use std::{path::Path, str::FromStr};

use globset::{Glob, GlobMatcher};
use walkdir::{DirEntry, WalkDir};

use super::{
    row::{Fields, Others, Rules, bare},
    source::{At, Rows, Settings, SourceError},
};
use crate::domain::RowDefect;

/// What NAS boxes and desktops leave among photos; besides, whatever is hidden.
const JUNK: [&str; 4] = ["@eaDir", "Thumbs.db", "desktop.ini", "__MACOSX"];
/// What photos are named. Which of them can be used, their content tells.
const PHOTOS: [&str; 9] = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "heic", "heif"];

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
    /// None: by the endings of their names.
    pub include: Vec<Pattern>,
    /// Not these, nor what lies beneath them.
    pub exclude: Vec<Pattern>,
}

impl Files {
    fn has(&self, path: &Path) -> bool {
        if !self.include.is_empty() {
            return self.include.iter().any(|pattern| pattern.fits(path));
        }
        let ending = path.extension();
        ending.is_some_and(|ending| PHOTOS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
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

/// Walks in the order of names, so that rows keep their numbers. Follows no links.
pub(super) fn rows(at: &At<'_>, settings: &Settings) -> Result<Rows, SourceError> {
    if settings.group.is_none() {
        return Err(SourceError::NoGroup { path: at.path.to_owned() });
    }
    let rules = Rules::new(&At { path: at.path, root: at.path }, settings);
    let (folder, files) = (at.path.to_owned(), settings.files.clone());
    let excluded = (folder.clone(), files.clone());
    let walk = WalkDir::new(&folder).sort_by_file_name().into_iter().filter_entry(move |entry| {
        let beneath = entry.path().strip_prefix(&excluded.0).unwrap_or(entry.path());
        entry.depth() == 0 || !(is_junk(entry) || excluded.1.is_excluded(beneath))
    });
    let mut row = 0;
    let rows = walk.filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                row += 1;
                return Some(Ok(Err(bare(row, RowDefect::UnreadableRow, error.to_string(), error.path()))));
            }
        };
        let path = entry.path();
        let kind = entry.file_type();
        if kind.is_dir() || !files.has(path.strip_prefix(&folder).unwrap_or(path)) {
            // A link to a folder has no photo's name, and what is in it is left out: that is worth a word.
            if kind.is_symlink() && path.is_dir() {
                row += 1;
                return Some(Ok(Err(not_followed(row, path))));
            }
            return None;
        }
        row += 1;
        Some(Ok(if kind.is_symlink() {
            Err(not_followed(row, path))
        } else if !kind.is_file() {
            Err(bare(row, RowDefect::NotAFile, "it is a pipe, a socket or a device".to_owned(), Some(path)))
        } else if let Some(text) = path.to_str() {
            rules.item(row, &Fields { path: Some(text), ..Fields::default() }, Others::default())
        } else {
            let message = "its name is no UTF-8, so it gives no id: rename it".to_owned();
            Err(bare(row, RowDefect::UnreadableRow, message, Some(path)))
        }))
    });
    Ok(Box::new(rows))
}

fn not_followed(row: u64, path: &Path) -> crate::domain::RowError {
    let message = "it is a link, and links are not followed: give what it points to as a source of its own".to_owned();
    bare(row, RowDefect::NotFollowed, message, Some(path))
}

fn is_junk(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    JUNK.contains(&&*name) || name.starts_with('.')
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
        let show = |row: Result<Result<crate::domain::Item, crate::domain::RowError>, SourceError>| match row.unwrap() {
            Ok(item) => format!("{} {}", item.row, item.user),
            Err(error) => format!("{} {}", error.row, error.defect.code()),
        };
        open(dir, &settings).unwrap().map(show).collect()
    }

    #[test]
    fn directory_gives_its_photos_in_the_order_of_names_without_the_junk() {
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
    fn id_is_the_folder_or_the_path_where_that_is_wanted() {
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
