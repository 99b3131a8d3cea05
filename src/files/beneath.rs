//! Opens a file for reading without ever leaving its root, even if links change at the same time.
//!
//! Links that stay under the root are followed. On Linux the kernel resolves the path (openat2 with RESOLVE_BENEATH). On
//! other systems, and where openat2 is missing or filtered, the open descriptor is checked: it must be the file to which
//! the path resolves under the root.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::{fs::OFlags, io::Errno};

/// Don't block on a FIFO, and don't acquire a controlling terminal.
const FLAGS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY);

/// Opens `path`. With a root, a path that leads out of it fails with [`Errno::XDEV`].
pub fn open(path: &Path, root: Option<&Path>) -> io::Result<File> {
    let Some(root) = root else { return open_anywhere(path) };
    let beneath = path.strip_prefix(root).map_err(|_| Errno::XDEV)?;
    let beneath = if beneath.as_os_str().is_empty() { Path::new(".") } else { beneath };
    #[cfg(target_os = "linux")]
    match linux::open(beneath, root) {
        // The kernel lacks the call, or a seccomp filter refuses it.
        Err(Errno::NOSYS | Errno::PERM) => {}
        opened => return Ok(opened?.into()),
    }
    open_and_check(&root.join(beneath), root)
}

/// Whether the error means that a path leads out of its root.
pub fn escapes_root(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::XDEV)
}

fn open_anywhere(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(FLAGS.bits().cast_signed()).open(path)
}

/// Opens the file, then checks where its path leads. A link swapped in between makes the two differ, which is refused.
fn open_and_check(path: &Path, root: &Path) -> io::Result<File> {
    let file = open_anywhere(path)?;
    let opened = file.metadata()?;
    let (resolved, root) = (path.canonicalize()?, root.canonicalize()?);
    let found = resolved.metadata()?;
    let is_same = (opened.dev(), opened.ino()) == (found.dev(), found.ino());
    if is_same && resolved.starts_with(&root) { Ok(file) } else { Err(Errno::XDEV.into()) }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{os::fd::OwnedFd, path::Path};

    use rustix::{
        fs::{Mode, OFlags, ResolveFlags, openat2},
        io::Errno,
    };

    use super::FLAGS;

    /// Tries of openat2, which fails with EAGAIN if a directory is renamed while it resolves a `..`.
    const MAX_TRIES: usize = 32;

    pub(super) fn open(beneath: &Path, root: &Path) -> Result<OwnedFd, Errno> {
        match resolve(beneath, root, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
            Err(Errno::XDEV) => open_resolved(&root.join(beneath), root),
            opened => opened,
        }
    }

    /// Opens a path through absolute links that stay under the root, which RESOLVE_BENEATH refuses. Opens the resolved path
    /// without following links, so a link created meanwhile is refused.
    fn open_resolved(path: &Path, root: &Path) -> Result<OwnedFd, Errno> {
        let canonical = |path: &Path| path.canonicalize().map_err(|_| Errno::XDEV);
        let (path, root) = (canonical(path)?, canonical(root)?);
        let beneath = path.strip_prefix(&root).map_err(|_| Errno::XDEV)?;
        match resolve(beneath, &root, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => Err(Errno::XDEV),
            opened => opened,
        }
    }

    fn resolve(beneath: &Path, root: &Path, how: ResolveFlags) -> Result<OwnedFd, Errno> {
        let folder = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let open = || openat2(&folder, beneath, OFlags::RDONLY | OFlags::CLOEXEC | FLAGS, Mode::empty(), how);
        (1..MAX_TRIES)
            .map(|_| open())
            .find(|opened| !matches!(opened, Err(Errno::AGAIN | Errno::INTR)))
            .unwrap_or_else(open)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read,
        os::unix::fs::symlink,
        path::PathBuf,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    type Open = fn(&Path, &Path) -> io::Result<File>;
    /// Both implementations: openat2 and the fallback.
    const IMPLEMENTATIONS: [Open; 2] = [|path, root| open(path, Some(root)), open_and_check];

    fn text(file: io::Result<File>) -> Result<String, Errno> {
        let mut text = String::new();
        file.and_then(|mut file| file.read_to_string(&mut text))
            .map_err(|error| Errno::from_io_error(&error).unwrap())?;
        Ok(text)
    }

    /// A tree with `root/in/a` and the secret `out/a` outside the root.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("in")).unwrap();
        fs::write(root.join("in/a"), "inside").unwrap();
        fs::create_dir(dir.path().join("out")).unwrap();
        fs::write(dir.path().join("out/a"), "secret").unwrap();
        (dir, root)
    }

    #[test]
    fn links_are_followed_only_inside_the_root() {
        let (dir, root) = tree();
        let link = |to: &Path, name: &str| symlink(to, root.join(name)).unwrap();
        link("in/a".as_ref(), "file");
        link("in".as_ref(), "folder");
        link("../in/../in/a".as_ref(), "in/up-and-down");
        link(&root.join("in/a"), "absolute");
        link(&root.join("in"), "absolute-folder");
        link("../out/a".as_ref(), "out-file");
        link(&dir.path().join("out"), "out-folder");
        link("out-folder".as_ref(), "out-by-two");
        link("/proc/self/root".as_ref(), "magic");
        for way in IMPLEMENTATIONS {
            for inside in ["in/a", "file", "folder/a", "in/up-and-down", "absolute", "absolute-folder/a", "in/../in/a"]
            {
                assert_eq!(text(way(&root.join(inside), &root)).as_deref(), Ok("inside"), "{inside}");
            }
            let beneath_magic = format!("magic{}", dir.path().join("out/a").display());
            for outside in ["out-file", "out-folder/a", "out-by-two/a", "../out/a", &beneath_magic] {
                assert_eq!(text(way(&root.join(outside), &root)), Err(Errno::XDEV), "{outside}");
            }
            assert_eq!(text(way(&root.join("nobody"), &root)), Err(Errno::NOENT));
        }
        assert_eq!(text(open(&dir.path().join("out/a"), Some(&root))), Err(Errno::XDEV), "not beneath by its name");
        assert_eq!(text(open(&root.join("out-file"), None)).as_deref(), Ok("secret"));
    }

    #[test]
    fn root_may_be_a_link_itself() {
        let (dir, root) = tree();
        let link = dir.path().join("link");
        symlink(&root, &link).unwrap();
        for way in IMPLEMENTATIONS {
            assert_eq!(text(way(&link.join("in/a"), &link)).as_deref(), Ok("inside"));
        }
    }

    #[test]
    fn swapped_link_never_leads_out_of_the_root() {
        let (dir, root) = tree();
        let (inside, outside, swapped) = (root.join("in"), dir.path().join("out"), root.join("swapped"));
        let is_over = AtomicBool::new(false);
        symlink(&inside, &swapped).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for to in [&outside, &inside] {
                        let next = root.join("next");
                        symlink(to, &next).unwrap();
                        fs::rename(&next, &swapped).unwrap();
                    }
                }
            });
            let mut found = [0, 0];
            for way in IMPLEMENTATIONS.iter().cycle().take(20_000) {
                match text(way(&swapped.join("a"), &root)) {
                    Ok(text) => {
                        assert_eq!(text, "inside");
                        found[0] += 1;
                    }
                    Err(_) => found[1] += 1,
                }
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(found.iter().all(|&n| n > 0), "the link was not swapped: {found:?}");
        });
    }
}
