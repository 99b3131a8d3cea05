//! The Debian package and the version that it reports.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use crate::support::{Enroll, skip};

/// Runs the packaging script with the binary under test, and returns what it prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The package with the binary under test, built once.
fn package() -> Option<&'static Path> {
    static BUILT: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        if Command::new("dpkg-deb").arg("--version").output().is_err() {
            skip("dpkg-deb");
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let script = root.join("samples/package/build-deb.sh");
        let built = run(Command::new(script).env("FACE_ENROLL_BINARY", env!("CARGO_BIN_EXE_face-enroll")));
        Some(root.join(built.trim()))
    });
    BUILT.as_deref()
}

/// Source, target and mode of each asset in Cargo.toml, which `cargo deb` packs.
fn assets() -> Vec<(String, String, u32)> {
    let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let text = |asset: &toml::Value, at: usize| asset[at].as_str().unwrap().to_owned();
    let mode = |asset| u32::from_str_radix(&text(asset, 2), 8).unwrap();
    assets.iter().map(|asset| (text(asset, 0), text(asset, 1), mode(asset))).collect()
}

#[test]
fn package_holds_binary_manual_completions_units_and_settings() {
    let Some(deb) = package() else { return };
    let dir = tempfile::tempdir().unwrap();
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(deb).arg(dir.path()));
    let file = |name: &str| fs::read(dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for name in [
        "usr/bin/face-enroll",
        "usr/share/man/man1/face-enroll.1.gz",
        "usr/share/bash-completion/completions/face-enroll",
        "usr/share/zsh/vendor-completions/_face-enroll",
        "usr/share/fish/vendor_completions.d/face-enroll.fish",
        "usr/lib/systemd/system/face-enroll.timer",
        "usr/share/doc/face-enroll/changelog.gz",
    ] {
        assert!(!file(name).is_empty(), "{name} is empty");
    }
    let settings = String::from_utf8(file("etc/face-enroll/config.toml")).unwrap();
    assert!(settings.contains("\n#region = "), "{settings}");
    assert!(settings.lines().all(|line| line.is_empty() || line.starts_with('#')), "{settings}");
    let unit = String::from_utf8(file("usr/lib/systemd/system/face-enroll.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/face-enroll run --config /etc/face-enroll/config.toml "), "{unit}");
    let version = run(Command::new(dir.path().join("usr/bin/face-enroll")).arg("-V"));
    let control = String::from_utf8(file("DEBIAN/control")).unwrap();
    assert!(control.contains(&format!("Version: {}\n", version.trim().rsplit(' ').next().unwrap())), "{control}");
    // What `cargo deb` packs is the same.
    let listed = walkdir::WalkDir::new(dir.path()).into_iter().map(Result::unwrap);
    let files: BTreeSet<(String, u32)> = listed
        .filter(|entry| entry.file_type().is_file() && !entry.path().starts_with(dir.path().join("DEBIAN")))
        .map(|entry| {
            let name = entry.path().strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
            (name, entry.metadata().unwrap().mode() & 0o777)
        })
        .collect();
    assert_eq!(files, assets().into_iter().map(|(_, target, mode)| (target, mode)).collect());
    for (source, target, _) in assets().into_iter().filter(|(source, ..)| !source.starts_with("target/release")) {
        let source = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(source)).unwrap();
        assert!(source == file(&target), "{target} differs");
    }
}

#[test]
fn package_and_release_notes_pass_their_checkers() {
    let Some(deb) = package() else { return };
    let passes = |tool: &str, args: &[&str]| match Command::new(tool).args(args).output() {
        Err(_) => skip(tool),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            let is_clean = !said.contains("W: ") && !said.contains("E: ") && !said.contains("warning");
            assert!(output.status.success() && is_clean, "{said}");
        }
    };
    let changelog = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/package/changelog");
    passes("dpkg-parsechangelog", &["-l", changelog]);
    assert!(fs::read_to_string(changelog).unwrap().starts_with(concat!(
        "face-enroll (",
        env!("CARGO_PKG_VERSION"),
        ") "
    )));
    // The address of the maintainer is a placeholder.
    let placeholder = "bogus-mail-host,bogus-mail-host-in-debian-changelog";
    passes("lintian", &["--allow-root", "--suppress-tags", placeholder, deb.to_str().unwrap()]);
}

/// Needs root, debootstrap and a mirror of Debian: `cargo test --test it chroot -- --ignored`.
#[test]
#[ignore = "downloads a Debian system"]
fn package_installs_and_purges_in_a_chroot() {
    let deb = package().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let mirror = std::env::var("DEBIAN_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".to_owned());
    let release = std::env::var("DEBIAN_RELEASE").unwrap_or_else(|_| "stable".to_owned());
    let mut bootstrap = Command::new("debootstrap");
    bootstrap.args(["--variant=minbase", "--include=adduser,libgcc-s1", &release]).arg(root).arg(mirror);
    run(&mut bootstrap);
    let within =
        |args: &[&str]| run(Command::new("chroot").arg(root).args(args).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"));
    fs::copy(deb, root.join("package.deb")).unwrap();
    within(&["dpkg", "--install", "package.deb"]);
    for (_, target, mode) in assets() {
        let found = root.join(&target).metadata().unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!((found.mode() & 0o777, found.uid()), (mode, 0), "{target}");
    }
    assert!(within(&["face-enroll", "--version"]).starts_with("face-enroll "));
    assert!(within(&["getent", "passwd", "face-enroll"]).contains("/var/lib/face-enroll"));
    within(&["dpkg", "--purge", "face-enroll"]);
    let all = walkdir::WalkDir::new(root).into_iter().map(|entry| entry.unwrap().into_path());
    let left: Vec<PathBuf> = all.filter(|path| path.to_str().unwrap().contains("face-enroll")).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert!(!fs::read_to_string(root.join("etc/passwd")).unwrap().contains("face-enroll"));
}

#[test]
fn long_version_names_commit_and_sqlite() {
    let short = Enroll::new("-V").end();
    assert_eq!(short.stdout, concat!("face-enroll ", env!("CARGO_PKG_VERSION"), "\n"));
    for flags in [&["--version"][..], &["--version", "--verbose"]] {
        let mut enroll = Enroll::new(flags[0]);
        let long = enroll.args(&flags[1..]).end();
        assert_eq!(long.code, Some(0), "{long:#?}");
        assert!(long.stdout.contains("\ncommit  ") && long.stdout.contains("\nSQLite  3."), "{long:#?}");
    }
}
