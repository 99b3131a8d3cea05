//! Paths and links of photos, as rows write them.

use std::path::{Component, Path, PathBuf};

use clap::ValueEnum;

use crate::files::spelling::has_drive;

/// Joins a path to the root and removes `.` and `..`. Links and other spellings are resolved later, in `files`.
pub(super) fn normalize(root: &Path, written: &str) -> PathBuf {
    // In a manifest from Windows the backslash is the separator: treat it so if there is no slash.
    let portable;
    let written = if written.contains('\\') && !written.contains('/') {
        portable = written.replace('\\', "/");
        &portable
    } else {
        written
    };
    let mut path = PathBuf::new();
    for component in root.join(written).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => path.push(component),
        }
    }
    path
}

/// Path of a `file:` URL on this machine; `None` for another machine, or if it is not UTF-8. Only percent-encoding is
/// decoded: `?` and `#` belong to names that were written unencoded.
pub(super) fn path_of_file_url(url: &str) -> Option<String> {
    let rest = url.get(5..)?;
    let path = match rest.strip_prefix("//") {
        Some(rest) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            matches!(host.to_ascii_lowercase().as_str(), "" | "localhost" | "127.0.0.1").then_some(path)?
        }
        // Java writes one slash.
        None => rest,
    };
    let path = percent_encoding::percent_decode_str(path).decode_utf8().ok()?.into_owned();
    // The slash before a drive letter belongs to the URL.
    Some(path.strip_prefix('/').filter(|path| has_drive(path)).map(str::to_owned).unwrap_or(path))
}

/// Scheme of a link, in lower case. A drive letter is not a scheme.
pub(super) fn scheme(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    let scheme = scheme.to_ascii_lowercase();
    let is_link = rest.starts_with("//") || (scheme == "file" && rest.starts_with('/'));
    (is_scheme && is_link).then_some(scheme)
}

/// Whether a normalized path is inside the root.
pub(super) fn is_inside(root: &Path, path: &Path) -> bool {
    path != root && path.starts_with(root)
}

/// The `--id-from` flag: the part of a photo's path that gives the id of a row without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum IdFrom {
    /// File name without its extension.
    #[default]
    Name,
    /// Name of its directory: `<person>/<photo>.jpg`.
    Parent,
    /// Path relative to the root, without its extension.
    Path,
}

impl IdFrom {
    /// The id that a path gives, if any.
    pub(super) fn id_of(self, path: &Path, root: &Path) -> Option<String> {
        let part = match self {
            Self::Name => PathBuf::from(path.file_stem()?),
            Self::Parent => PathBuf::from(path.parent().filter(|parent| *parent != root)?.file_name()?),
            Self::Path => path.strip_prefix(root).unwrap_or(path).with_extension(""),
        };
        part.to_str().map(str::to_owned)
    }
}

/// The id that a link gives: the name in the last part of its path.
pub(super) fn id_from_url(url: &url::Url, id_from: IdFrom) -> Option<String> {
    url.path_segments()?.next_back().filter(|last| !last.is_empty())?;
    let decode = |text: &str| Some(percent_encoding::percent_decode_str(text).decode_utf8().ok()?.into_owned());
    match id_from {
        // An encoded slash belongs to the name.
        IdFrom::Name => id_from.id_of(Path::new(&decode(url.path_segments()?.next_back()?)?), Path::new("")),
        IdFrom::Parent | IdFrom::Path => id_from.id_of(Path::new(&decode(url.path())?), Path::new("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_of_a_link_follows_id_from() {
        let url = url::Url::parse("https://h/people/u%201/photo.jpg?Signature=s").unwrap();
        for (id_from, expected) in
            [(IdFrom::Name, "photo"), (IdFrom::Parent, "u 1"), (IdFrom::Path, "people/u 1/photo")]
        {
            assert_eq!(id_from_url(&url, id_from).as_deref(), Some(expected));
        }
        let bare = url::Url::parse("https://h/photo.jpg").unwrap();
        assert_eq!(id_from_url(&bare, IdFrom::Parent), None);
    }

    #[test]
    fn paths_stay_beneath_the_root() {
        let root = Path::new("/archive/2024");
        for (written, expected) in [
            ("a.jpg", Some("/archive/2024/a.jpg")),
            ("./b/../a.jpg", Some("/archive/2024/a.jpg")),
            ("/archive/2024/x/a.jpg", Some("/archive/2024/x/a.jpg")),
            (r"x\a.jpg", Some("/archive/2024/x/a.jpg")),
            ("..a.jpg", Some("/archive/2024/..a.jpg")),
            ("../a.jpg", None),
            ("x/../../a.jpg", None),
            ("/etc/passwd", None),
            ("/archive/20244/a.jpg", None),
            (r"..\..\a.jpg", None),
            (".", None),
        ] {
            let path = Some(normalize(root, written)).filter(|path| is_inside(root, path));
            assert_eq!(path.as_deref(), expected.map(Path::new), "{written}");
        }
    }

    #[test]
    fn file_url_is_a_local_path() {
        for (url, expected) in [
            ("file:///photos/a%20b.jpg", Some("/photos/a b.jpg")),
            ("FILE://localhost/photos/%E5%BC%A0.jpg", Some("/photos/张.jpg")),
            ("file:/photos/100%.jpg", Some("/photos/100%.jpg")),
            ("file:///photos/a#1?.jpg", Some("/photos/a#1?.jpg")),
            ("file:///C:/photos/a.jpg", Some("C:/photos/a.jpg")),
            ("file://server/photos/a.jpg", None),
            ("file:///photos/%ff.jpg", None),
        ] {
            assert_eq!(path_of_file_url(url).as_deref(), expected, "{url}");
            assert_eq!(scheme(url).as_deref(), Some("file"));
        }
    }

    #[test]
    fn drive_letter_is_not_a_scheme() {
        assert_eq!(scheme("HTTPS://h/a.jpg").as_deref(), Some("https"));
        assert_eq!(scheme("s3://b/a.jpg").as_deref(), Some("s3"));
        for path in ["C:/a.jpg", "C:\\a.jpg", "a:b.jpg", "photo 12:30.jpg", "photos/x://y", "a.jpg"] {
            assert_eq!(scheme(path), None, "{path}");
        }
    }

    #[test]
    fn id_comes_from_name_folder_or_path() {
        let id = |from: IdFrom, path: &str| from.id_of(Path::new(path), Path::new("/a"));
        assert_eq!(id(IdFrom::Name, "/a/b/张三.01.jpg").as_deref(), Some("张三.01"));
        assert_eq!(id(IdFrom::Parent, "/a/张三/IMG_1.jpg").as_deref(), Some("张三"));
        assert_eq!(id(IdFrom::Parent, "/a/IMG_1.jpg"), None, "the root gives no id");
        assert_eq!(id(IdFrom::Path, "/a/b/c.d.jpg").as_deref(), Some("b/c.d"));
        let url = |text: &str| id_from_url(&text.parse().unwrap(), IdFrom::Name);
        assert_eq!(url("https://h/b/%E5%BC%A0.jpg?Signature=s").as_deref(), Some("张"));
        assert_eq!(url("https://h/"), None);
    }
}
