//! What a run prints and writes, and what must never be in it.

use std::fs;

use face_enroll::sandbox::{Action, Settings};

use crate::support::{Archive, Service};

#[test]
fn quiet_run_says_only_why_it_stopped_early() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    let wrong = service.run(&archive).arg("-q").env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "planted-wrong-secret").end();
    assert_eq!(wrong.code, Some(7));
    assert!(wrong.stderr.contains("check ALIBABA_CLOUD_ACCESS_KEY_SECRET, then run again"), "{wrong:#?}");
    for (args, code) in [(&["--max-images", "1"][..], 8), (&["--max-duration", "0s"], 10), (&[], 0)] {
        let ended = service.run(&archive).arg("-q").args(args).end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(code), ""), "{args:?}");
    }
    // Nobody else will tell of what is new: the next run knows it.
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    archive.write(&(manifest + "../x.jpg,u9\n"));
    for (duration, is_told) in [("0s", true), ("1h", false)] {
        let args = ["-q", "--exit-on", "new", "--max-duration", duration];
        let ended = service.run(&archive).args(args).end();
        assert_eq!(ended.stderr.contains("export --status rejected"), is_told, "{ended:#?}");
    }
}

#[test]
fn quiet_run_logs_start_and_end_to_file() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    let log = archive.path().join("run.log");
    let ended = service.run(&archive).arg("-q").arg("--log-file").arg(&log).end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("INFO run started run=") && log.contains("INFO Every row is enrolled exit=0"), "{log}");
}

#[test]
fn dry_run_only_reports() {
    let archive = Archive::of(5, 0);
    let service = Service::new();
    fs::remove_file(archive.path().join("photos/u00004.jpg")).unwrap();
    let ended = service.run(&archive).arg("--dry-run").end();
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    let lines: Vec<serde_json::Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [finding, sum] = &lines[..] else { panic!("{}", ended.stdout) };
    assert_eq!(
        (&finding["type"], &finding["row"], &finding["code"]),
        (&"finding".into(), &5.into(), &"NotFound".into())
    );
    assert_eq!((&sum["type"], &sum["total"], &sum["good"]), (&"check".into(), &5.into(), &4.into()));
    assert_eq!(service.calls(Action::AddFaceRecord), 0);
    assert!(!archive.checkpoint().exists());
}

#[test]
fn outputs_hold_no_secret_and_no_photo() {
    let archive = Archive::of(6, 0);
    let credentials = face_enroll::sandbox::Credentials {
        access_key_id: "LTAI5tPLANTEDKEY0001".into(),
        access_key_secret: "planted-secret-4711".into(),
        security_token: Some("planted-token-0815".into()),
    };
    let faults = r#"[{"user": "u00006", "fault": "not_passed"}, {"calls": [2], "fault": "reset_after"}, {"calls": [4], "fault": "html"}]"#;
    let faults = face_enroll::sandbox::Script::parse(faults).unwrap();
    let service = Service::with(Settings { credentials, faults, ..Settings::default() });
    let log = archive.path().join("run.log");
    let ended = service
        .run(&archive)
        .args(["-vv", "--json=items", "--log-file"])
        .arg(&log)
        .env("RUST_LOG", "trace")
        .env("ALIBABA_CLOUD_SECURITY_TOKEN", "planted-token-0815")
        .end();
    ended.is(6, &[("enrolled", 5), ("rejected", 1)]);
    let mut everything = vec![ended.stdout.into_bytes(), ended.stderr.into_bytes()];
    for entry in fs::read_dir(archive.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            everything.push(fs::read(&path).unwrap());
            let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
            let is_ours = path != archive.manifest();
            assert!(!is_ours || mode & 0o077 == 0, "{} is readable by others", path.display());
        }
    }
    let photo = fs::read(archive.path().join("photos/u00003.jpg")).unwrap();
    let slice = &photo[20_000..20_024];
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, slice);
    for canary in [
        &b"planted-secret-4711"[..],
        b"planted-token-0815",
        b"LTAI5tPLANTEDKEY0001",
        b"Signature=",
        slice,
        base64.as_bytes(),
    ] {
        for output in &everything {
            let is_there = output.windows(canary.len()).any(|window| window == canary);
            assert!(!is_there, "{} was found in an output", String::from_utf8_lossy(canary));
        }
    }
}

#[test]
fn metrics_file_holds_run_figures_and_exit_code() {
    let archive = Archive::of(5, 0);
    let service = Service::new();
    let file = archive.path().join("face_enroll.prom");
    service.run(&archive).arg("--metrics-file").arg(&file).args(["--max-images", "3"]).end().is(8, &[("enrolled", 3)]);
    let text = fs::read_to_string(&file).unwrap();
    let lines = ["face_enroll_rows{state=\"enrolled\"} 3", "face_enroll_calls_total 3", "face_enroll_exit_code 8"];
    for line in lines {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    let ended = service.run(&archive).args(["--metrics-file", "/nowhere/at/all.prom"]).end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(service.calls(Action::AddFaceRecord), 3);
}
