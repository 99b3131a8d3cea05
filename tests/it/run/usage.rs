//! Flags, environment, settings file and shell completion.

use std::fs;

use face_enroll::sandbox::Action;

use crate::support::{Archive, Enroll, GROUP, Service, skip};

#[test]
fn usage_errors_exit_2_with_advice() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    let manifest = archive.manifest();
    let with_key = || {
        let mut enroll = Enroll::new("run");
        enroll
            .arg(&manifest)
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAIplanted")
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "planted");
        enroll
    };
    for (mut enroll, code, words) in [
        (with_key(), 2, "--group"),
        (
            {
                let mut e = with_key();
                e.args(["--group", "g"]);
                e
            },
            2,
            "--region",
        ),
        (
            {
                let mut e = with_key();
                e.args(["--group", "g", "--region", "cn-shanghai"]);
                e
            },
            2,
            "cn-shanghai",
        ),
        (
            {
                let mut e = with_key();
                e.args(["--group", "g", "--endpoint", "http://10.0.0.1"]);
                e
            },
            2,
            "cleartext",
        ),
        (
            {
                let mut e = with_key();
                e.args(["--group", "g", "--qps", "0"]);
                e
            },
            2,
            "--qps",
        ),
        (
            {
                let mut e = with_key();
                e.args(["--groupp", "g"]);
                e
            },
            2,
            "--group",
        ),
        (
            {
                let mut e = Enroll::new("run");
                e.arg("no-such.csv").arg("--sandbox");
                e
            },
            3,
            "no-such.csv",
        ),
        (
            {
                let mut e = service.run(&archive);
                e.env("ALIBABA_CLOUD_ACCESS_KEY_ID", "");
                e
            },
            7,
            "ALIBABA_CLOUD_ACCESS_KEY_ID",
        ),
    ] {
        let ended = enroll.end();
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        assert!(!ended.stderr.contains("planted"), "{}", ended.stderr);
    }
    assert_eq!(service.calls(Action::AddFaceRecord), 0);
    let left: Vec<_> = fs::read_dir(archive.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "a mistake of usage left something behind: {left:?}");
}

#[test]
fn run_can_be_set_up_by_the_environment_alone() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    let ended = Enroll::new("run")
        .arg(archive.manifest())
        .env("FACE_ENROLL_GROUP", GROUP)
        .env("FACE_ENROLL_ENDPOINT", service.sandbox.endpoint())
        .env("FACE_ENROLL_JSON", "items")
        .env("FACE_ENROLL_QPS", "1000")
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", service.sandbox.access_key_id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", service.sandbox.access_key_secret())
        .end();
    ended.is(0, &[("enrolled", 3)]);
    let items = ended.stdout.lines().filter(|line| line.contains(r#""type":"item""#)).count();
    assert_eq!(items, 3, "{}", ended.stdout);
}

#[test]
fn settings_file_has_lowest_precedence() {
    let archive = Archive::of(6, 0);
    let service = Service::new();
    let folder = archive.path().join("config/face-enroll");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), "max-images = 1\n[profile.two]\nmax-images = 2\n").unwrap();
    let home = archive.path().join("config");
    service.run(&archive).env("XDG_CONFIG_HOME", &home).end().is(8, &[("calls", 1)]);
    let mut run = service.run(&archive);
    run.env("XDG_CONFIG_HOME", &home).env("FACE_ENROLL_PROFILE", "two").end().is(8, &[("calls", 2)]);
    let mut run = service.run(&archive);
    run.env("XDG_CONFIG_HOME", &home).env("FACE_ENROLL_MAX_IMAGES", "1").end().is(8, &[("calls", 1)]);
    service.run(&archive).env("XDG_CONFIG_HOME", &home).args(["--max-images", "9"]).end().is(0, &[("calls", 2)]);
    fs::write(folder.join("config.toml"), "maximages = 1\n").unwrap();
    let ended = service.run(&archive).env("XDG_CONFIG_HOME", &home).end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("did you mean max-images?"), "{}", ended.stderr);
}

#[test]
fn completions_and_the_manual_name_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = Enroll::new("completions").arg(shell).end();
        assert!(script.code == Some(0) && script.stdout.contains("in-doubt"), "{shell}");
    }
    let page = Enroll::new("man").end();
    for command in ["run", "check", "status", "export", "retry", "sandbox"] {
        assert!(page.stdout.contains(&format!("face\\-enroll {command}")), "{command} is not in the manual");
    }
}

#[test]
fn bash_completes_the_flags_of_a_command() {
    let script = Enroll::new("completions").arg("bash").end().stdout;
    // As bash calls it: the word that is being typed, and the one before.
    let typed =
        "COMP_WORDS=(face-enroll run --precheck --wind); COMP_CWORD=3; _face__enroll face-enroll --wind --precheck";
    let shell = std::process::Command::new("bash")
        .args(["-c", &format!("{script}\n{typed}; echo \"${{COMPREPLY[*]}}\"")])
        .output();
    let Ok(output) = shell else {
        skip("bash");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "--window", "{output:?}");
}
