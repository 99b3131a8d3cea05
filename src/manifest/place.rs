//! Where a photo is, from what a row says.

use std::{
    path::{Component, Path, PathBuf},
    str::FromStr,
};

/// A path joined to the root, without its detours. Links are not looked at here: see `picture`.
pub(super) fn normal(root: &Path, written: &str) -> PathBuf {
    // Manifests made on Windows: a backslash is no separator here, but no file name either where there is no slash.
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

/// Does a normal path lie beneath the root?
pub(super) fn is_beneath(root: &Path, path: &Path) -> bool {
    path != root && path.starts_with(root)
}

/// `--id-from`: which part of a photo's path is the id of a row that names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IdFrom {
    /// The photo's name without its extension.
    #[default]
    Name,
    /// The name of its folder: `<person>/<photo>.jpg`.
    Parent,
    /// The whole path beneath the root, without its extension.
    Path,
}

impl IdFrom {
    /// None: it gives none.
    pub(super) fn of_path(self, path: &Path, root: &Path) -> Option<String> {
        let part = match self {
            Self::Name => PathBuf::from(path.file_stem()?),
            Self::Parent => PathBuf::from(path.parent().filter(|parent| *parent != root)?.file_name()?),
            Self::Path => path.strip_prefix(root).unwrap_or(path).with_extension(""),
        };
        part.to_str().map(str::to_owned)
    }
}

impl FromStr for IdFrom {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "name" => Ok(Self::Name),
            "parent" => Ok(Self::Parent),
            "path" => Ok(Self::Path),
            _ => Err("one of name, parent, path"),
        }
    }
}

/// The same for a link: the last part of its path.
pub(super) fn id_of_url(url: &url::Url) -> Option<String> {
    let last = url.path_segments()?.next_back().filter(|last| !last.is_empty())?;
    let name = percent_encoding::percent_decode_str(last).decode_utf8().ok()?;
    IdFrom::Name.of_path(Path::new(&*name), Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let path = Some(normal(root, written)).filter(|path| is_beneath(root, path));
            assert_eq!(path.as_deref(), expected.map(Path::new), "{written}");
        }
    }

    #[test]
    fn id_is_the_photos_name_its_folder_or_its_path() {
        let id = |from: IdFrom, path: &str| from.of_path(Path::new(path), Path::new("/a"));
        assert_eq!(id(IdFrom::Name, "/a/b/张三.01.jpg").as_deref(), Some("张三.01"));
        assert_eq!(id(IdFrom::Parent, "/a/张三/IMG_1.jpg").as_deref(), Some("张三"));
        assert_eq!(id(IdFrom::Parent, "/a/IMG_1.jpg"), None, "the root is nobody's folder");
        assert_eq!(id(IdFrom::Path, "/a/b/c.d.jpg").as_deref(), Some("b/c.d"));
        let url = |text: &str| id_of_url(&text.parse().unwrap());
        assert_eq!(url("https://h/b/%E5%BC%A0.jpg?Signature=s").as_deref(), Some("张"));
        assert_eq!(url("https://h/"), None);
    }
}
