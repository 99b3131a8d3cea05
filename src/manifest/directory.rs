//! A directory of photos: each `.jpg` beneath it is a row, its name without the extension the id.

use std::path::Path;

use walkdir::{DirEntry, WalkDir};

use super::{
    row::{Fields, Rules, bare},
    source::{Rows, Settings, SourceError},
};
use crate::domain::RowDefect;

/// What cameras, NAS boxes and desktops leave among photos.
const JUNK: [&str; 4] = [".DS_Store", "@eaDir", "Thumbs.db", "__MACOSX"];
const PHOTOS: [&str; 2] = ["jpg", "jpeg"];

/// Walks in the order of names, so that rows keep their numbers. Follows no links.
pub(super) fn rows(path: &Path, settings: &Settings) -> Result<Rows, SourceError> {
    if settings.group.is_none() {
        return Err(SourceError::NoGroup { path: path.to_owned() });
    }
    let rules = Rules { root: path.to_owned(), group: settings.group.clone() };
    let walk = WalkDir::new(path).sort_by_file_name().into_iter().filter_entry(is_wanted);
    let mut row = 0;
    let rows = walk.filter_map(move |entry| {
        let entry = match entry {
            Ok(entry) if entry.file_type().is_file() && is_photo(entry.path()) => entry,
            Ok(_) => return None,
            Err(error) => {
                row += 1;
                return Some(Ok(Err(bare(row, RowDefect::UnreadableRow, error.to_string(), error.path()))));
            }
        };
        row += 1;
        let Some(text) = entry.path().to_str() else {
            let message = "its name is no UTF-8, so it gives no id: rename it".to_owned();
            return Some(Ok(Err(bare(row, RowDefect::UnreadableRow, message, Some(entry.path())))));
        };
        let fields = Fields { path: Some(text), ..Fields::default() };
        Some(Ok(rules.item(row, &fields, Vec::new())))
    });
    Ok(Box::new(rows))
}

fn is_wanted(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    entry.depth() == 0 || !(JUNK.contains(&&*name) || name.starts_with("._"))
}

fn is_photo(path: &Path) -> bool {
    path.extension().is_some_and(|ending| PHOTOS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::{
        domain::FaceGroupCode,
        manifest::{Settings, open},
    };

    #[test]
    fn directory_gives_its_photos_in_the_order_of_names_without_the_junk() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/2.JPG", "a/1.jpeg", "a/notes.txt", "a/._1.jpg", "@eaDir/3.jpg", ".DS_Store", "0.png"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("a/loop")).unwrap();
        let settings = Settings { group: FaceGroupCode::parse("g").ok(), root: None };
        let rows: Vec<_> = open(dir.path(), &settings).unwrap().map(|row| row.unwrap().unwrap()).collect();
        let shown: Vec<String> = rows.iter().map(|item| format!("{} {}", item.row, item.user)).collect();
        assert_eq!(shown, ["1 1", "2 2"]);
        assert!(open(dir.path(), &Settings::default()).is_err_and(|error| error.is_usage()));
    }
}
