//! Finds a file whose name is spelled differently on disk. Used only after a file was not found.
//!
//! Accepted differences are spaces and invisible characters around a name, `\` as the separator, and Unicode
//! normalization: they mean the same file to every reader. A name in another letter case may be another file, so it is
//! only suggested.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    path::{Component, Path, PathBuf},
};

use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};

use super::beneath;

/// Most names of a directory that are compared; beyond that only the usual spellings are tried.
const MAX_COMPARED_NAMES: usize = 10_000;

/// Trims spaces and the invisible characters that come with pasted text: direction marks, zero-width characters, a
/// byte-order mark.
pub fn trimmed(text: &str) -> &str {
    let is_invisible =
        |c: char| matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}' | '\u{FEFF}');
    text.trim_matches(|c: char| c.is_whitespace() || is_invisible(c))
}

/// Whether a path begins with a Windows drive letter.
pub fn has_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [drive, b':', b'/' | b'\\', ..] if drive.is_ascii_alphabetic())
}

/// Finds the file that `path` means under another spelling; `None` if there is none.
pub fn find(path: &Path, root: Option<&Path>) -> Option<PathBuf> {
    let (top, names) = split(path, root);
    let with_backslashes = || {
        let whole = names.join(OsStr::new("\\"));
        Some(top.join(whole)).filter(|file| names.len() > 1 && exists(file))
    };
    descend(top, &names).or_else(with_backslashes).filter(|found| found != path)
}

/// Suggests a file for a `path` that does not exist: the same name in another letter case, or, for a path with a drive
/// letter, a file under the root. The result is relative to the root.
pub fn suggest(path: &Path, root: Option<&Path>) -> Option<PathBuf> {
    let (top, names) = split(path, root);
    let is_drive = names.first().and_then(|name| name.to_str()).is_some_and(|name| has_drive(&format!("{name}/")));
    let found = if is_drive {
        (1..names.len()).find_map(|from| descend(top, &names[from..]))
    } else {
        names.iter().try_fold(top.to_owned(), |folder, name| {
            descend(&folder, std::slice::from_ref(name)).or_else(|| in_another_case(&folder, name, root))
        })
    };
    found.map(|found| found.strip_prefix(top).map(Path::to_owned).unwrap_or(found))
}

/// Splits a path into its start and the names below it.
fn split<'a>(path: &'a Path, root: Option<&'a Path>) -> (&'a Path, Vec<OsString>) {
    let (top, rest) = match root.and_then(|root| Some((root, path.strip_prefix(root).ok()?))) {
        Some(beneath) => beneath,
        None => (Path::new("/"), path),
    };
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    };
    (top, rest.components().filter_map(name).collect())
}

/// Whether something exists at this path. A link counts, wherever it leads: opening it decides.
fn exists(file: &Path) -> bool {
    file.symlink_metadata().is_ok()
}

fn descend(folder: &Path, names: &[OsString]) -> Option<PathBuf> {
    let Some((name, rest)) = names.split_first() else { return Some(folder.to_owned()) };
    let of_spelling = |spelling: &OsString| {
        let file = folder.join(spelling);
        if exists(&file) { descend(&file, rest) } else { None }
    };
    let of_parts = || {
        let parts: Vec<&str> = name.to_str()?.split('\\').filter(|part| !matches!(*part, "" | ".")).collect();
        let is_path = name.to_str()?.contains('\\') && !parts.is_empty() && !parts.contains(&"..");
        let names: Vec<OsString> = parts.into_iter().map(OsString::from).chain(rest.iter().cloned()).collect();
        if is_path { descend(folder, &names) } else { None }
    };
    spellings(name).iter().find_map(of_spelling).or_else(of_parts)
}

/// The name as written, then other spellings it may have on disk.
fn spellings(name: &OsStr) -> Vec<OsString> {
    let mut all = vec![name.to_owned()];
    let Some(text) = name.to_str() else { return all };
    for text in [text, trimmed(text)] {
        for spelling in [text.to_owned(), nfc(text).into_owned(), nfd(text).into_owned()] {
            let spelling = OsString::from(spelling);
            if !spelling.is_empty() && !all.contains(&spelling) {
                all.push(spelling);
            }
        }
    }
    all
}

fn nfc(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}

fn nfd(text: &str) -> Cow<'_, str> {
    DecomposingNormalizerBorrowed::new_nfd().normalize(text)
}

fn in_another_case(folder: &Path, name: &OsStr, root: Option<&Path>) -> Option<PathBuf> {
    let name = trimmed(name.to_str()?);
    let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
    let usual = [
        format!("{stem}.{}", ending.to_uppercase()),
        format!("{stem}.{}", ending.to_lowercase()),
        name.to_lowercase(),
        name.to_uppercase(),
    ];
    let plain = |name: &str| nfc(name).to_lowercase();
    let listed = || {
        // Opened like a photo, so that no name from outside the root is shown.
        let mut folder = rustix::fs::Dir::read_from(beneath::open(folder, root).ok()?).ok()?;
        let names = std::iter::from_fn(|| folder.read()?.ok()).take(MAX_COMPARED_NAMES);
        let names = names.filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        names.filter(|found| plain(found) == plain(name)).min()
    };
    let found = usual.into_iter().find(|name| exists(&folder.join(name))).or_else(listed)?;
    Some(folder.join(found))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    /// A directory with some files.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn of(files: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for file in files {
                let file = dir.path().join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "x").unwrap();
            }
            Self(dir)
        }

        fn find(&self, written: &str) -> Option<String> {
            let root = self.0.path();
            let found = find(&root.join(written), Some(root))?;
            assert!(exists(&found), "{}", found.display());
            Some(found.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
        }

        fn suggest(&self, written: &str) -> Option<String> {
            let root = self.0.path();
            Some(suggest(&root.join(written), Some(root))?.to_str().unwrap().to_owned())
        }
    }

    #[test]
    fn spaces_separators_and_normalization_are_ignored() {
        let tree = Tree::of(&["photos/a b.jpg", "photos/Mu\u{308}ller.jpg", "é/x.jpg", "flat\\c.jpg"]);
        for (written, found) in [
            (" photos/a b.jpg", "photos/a b.jpg"),
            ("photos/a b.jpg ", "photos/a b.jpg"),
            ("\u{a0}photos /\ta b.jpg\u{3000}", "photos/a b.jpg"),
            ("\u{202a}photos/a b.jpg\u{200b}", "photos/a b.jpg"),
            (".\\photos/a b.jpg", "photos/a b.jpg"),
            ("photos\\a b.jpg", "photos/a b.jpg"),
            ("photos\\\\a b.jpg", "photos/a b.jpg"),
            ("photos/M\u{fc}ller.jpg", "photos/Mu\u{308}ller.jpg"),
            ("e\u{301}\\x.jpg", "é/x.jpg"),
            ("flat/c.jpg", "flat\\c.jpg"),
        ] {
            assert_eq!(tree.find(written).as_deref(), Some(found), "{written:?}");
        }
        for missing in ["photos/A B.jpg", "photos/c.jpg", "photos\\..\\photos\\a b.jpg", "..\\x.jpg", " ", "\\"] {
            assert_eq!(tree.find(missing), None, "{missing:?}");
        }
    }

    #[test]
    fn other_case_is_only_suggested() {
        let tree = Tree::of(&["photos/IMG_1.JPG", "Team/Anna Maria.jpeg", "Users/HR/z.jpg"]);
        for (written, suggested) in [
            ("photos/img_1.jpg", Some("photos/IMG_1.JPG")),
            ("photos/IMG_1.jpg", Some("photos/IMG_1.JPG")),
            ("PHOTOS/img_1.JPG", Some("photos/IMG_1.JPG")),
            ("team/anna maria.JPEG ", Some("Team/Anna Maria.jpeg")),
            ("C:/Users/HR/z.jpg", Some("Users/HR/z.jpg")),
            ("D:/export/photos/IMG_1.JPG", Some("photos/IMG_1.JPG")),
            ("photos/img_2.jpg", None),
            ("C:/z.jpg", None),
        ] {
            assert_eq!(tree.find(written), None, "{written}");
            assert_eq!(tree.suggest(written).as_deref(), suggested, "{written}");
        }
    }

    #[test]
    fn folder_outside_the_root_is_not_searched() {
        let outside = Tree::of(&["Passwords.jpg"]);
        let tree = Tree::of(&["a.jpg"]);
        std::os::unix::fs::symlink(outside.0.path(), tree.0.path().join("link")).unwrap();
        assert_eq!(tree.suggest("link/passwordS.jpg"), None);
    }

    proptest! {
        #[test]
        fn every_spelling_finds_the_file(
            names in prop::collection::vec("[a-z0-9_éüñ각가日本]{1,12}", 1..4),
            spelling in prop::collection::vec((any::<bool>(), any::<bool>(), 0_usize..3), 4),
        ) {
            let stored: Vec<String> =
                names.iter().zip(&spelling).map(|(name, (is_nfd, ..))| if *is_nfd { nfd(name) } else { nfc(name) }.into_owned()).collect();
            let file = format!("{}.jpg", stored.join("/"));
            let tree = Tree::of(&[&file]);
            let mut written = " ".repeat(spelling[3].2);
            for (at, (name, (_, is_nfd, separator))) in names.iter().zip(&spelling).enumerate() {
                if at > 0 {
                    written.push_str(["/", "\\", "\\\\"][*separator]);
                }
                written.push_str(&if *is_nfd { nfd(name) } else { nfc(name) });
            }
            written.push_str(".jpg\t");
            prop_assert_eq!(tree.find(&written), Some(file));
        }
    }
}
