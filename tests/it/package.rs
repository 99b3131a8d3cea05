//! The Debian package and the version that it reports.

use std::{fs, path::Path, process::Command};

use crate::support::{Enroll, skip};

/// Runs the packaging script with the binary under test, and returns what it prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn package_holds_binary_manual_completions_units_and_settings() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        return skip("dpkg-deb");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("samples/package/build-deb.sh");
    let built = run(Command::new(script).env("FACE_ENROLL_BINARY", env!("CARGO_BIN_EXE_face-enroll")));
    let deb = root.join(built.trim());
    let dir = tempfile::tempdir().unwrap();
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(&deb).arg(dir.path()));
    let file = |name: &str| fs::read(dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    for name in [
        "usr/bin/face-enroll",
        "usr/share/man/man1/face-enroll.1.gz",
        "usr/share/bash-completion/completions/face-enroll",
        "usr/share/zsh/vendor-completions/_face-enroll",
        "usr/share/fish/vendor_completions.d/face-enroll.fish",
        "usr/lib/systemd/system/face-enroll.timer",
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
