//! Where a photo is, from what a row says.

use std::path::{Component, Path, PathBuf};

/// A path beneath the root, as written; none if it leads out of it. Links are not looked at here.
pub(super) fn beneath(root: &Path, written: &str) -> Option<PathBuf> {
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
    (path != root && path.starts_with(root)).then_some(path)
}

/// The id of a row that names none: the photo's name without its extension.
pub(super) fn id_of_path(path: &Path) -> Option<String> {
    path.file_stem()?.to_str().map(str::to_owned)
}

/// The same for a link: the last part of its path.
pub(super) fn id_of_url(url: &url::Url) -> Option<String> {
    let last = url.path_segments()?.next_back().filter(|last| !last.is_empty())?;
    let name = percent_encoding::percent_decode_str(last).decode_utf8().ok()?;
    id_of_path(Path::new(&*name))
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
            assert_eq!(beneath(root, written).as_deref(), expected.map(Path::new), "{written}");
        }
    }

    #[test]
    fn name_without_its_extension_is_the_id() {
        assert_eq!(id_of_path(Path::new("/a/张三.01.jpg")).as_deref(), Some("张三.01"));
        let url = |text: &str| id_of_url(&text.parse().unwrap());
        assert_eq!(url("https://h/b/%E5%BC%A0.jpg?Signature=s").as_deref(), Some("张"));
        assert_eq!(url("https://h/"), None);
    }
}
