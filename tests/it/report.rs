//! `status` from another terminal, and the page of `report`, also as a browser shows it.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use face_enroll::sandbox::Action;

use crate::support::{Archive, Enroll, Service, skip};

fn stdout_of(command: &mut Enroll) -> String {
    let ended = command.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    ended.stdout
}

/// People whose rows are of every kind: well, throttled on the way, refused by the service, and without a photo.
fn archive_and_service() -> (Archive, Service) {
    let archive = Archive::of(40, 3_000);
    std::fs::remove_file(archive.path().join("photos/u00007.jpg")).unwrap();
    let service = Service::failing(
        r#"{"calls": [3, 4], "fault": "throttle"}
           {"calls": [9], "fault": "code", "status": 400, "code": "NoFaceDetected", "message": "no face <b>was</b> found"}"#,
    );
    (archive, service)
}

#[test]
fn report_masks_ids_by_default() {
    let (archive, service) = archive_and_service();
    service.run(&archive).args(["--max-images", "10"]).end().is(8, &[]);
    service.run(&archive).end().is(6, &[("enrolled", 38), ("rejected", 2)]);
    let report = |more: &[&str]| stdout_of(Enroll::new("report").arg(archive.manifest()).args(more));
    let page = report(&[]);
    for words in ["38", "95.0 %", "NoFaceDetected", "NotFound", "stopped by --max-images", "HIGH", "&lt;b&gt;was"] {
        assert!(page.contains(words), "{words} is not on the page");
    }
    assert_eq!(page.matches("<svg").count(), 3, "the pace, the answers, the runs");
    for (words, why) in
        [("u00007", "an id"), ("<script", "a script"), ("src=", "something to be fetched"), ("@import", "the same")]
    {
        assert!(!page.contains(words), "{why} is on the page");
    }
    let links = page.match_indices("http").filter(|(at, _)| !page[*at..].starts_with("http://www.w3.org/2000/svg"));
    assert_eq!(links.count(), 0, "the page speaks of another place");
    assert!(report(&["--show-ids"]).contains("u00007"));

    let file = archive.path().join("report.html");
    assert_eq!(report(&["-o", file.to_str().unwrap()]), "");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn report_is_readable_in_every_theme_and_width() {
    let Some(browser) = browser() else {
        skip("Chromium (set FACE_ENROLL_CHROMIUM)");
        return;
    };
    let (archive, service) = archive_and_service();
    service.run(&archive).end().is(6, &[]);
    let page = archive.path().join("report.html");
    stdout_of(Enroll::new("report").arg(archive.manifest()).arg("-o").arg(&page));
    let show = |name: &str, options: &[&str]| -> PathBuf {
        let picture = archive.path().join(name);
        let to = if name.ends_with(".pdf") { "--print-to-pdf" } else { "--screenshot" };
        let shown = Command::new(&browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", archive.path().join("profile").display()))
            .args(options)
            .arg(format!("{to}={}", picture.display()))
            .arg(format!("file://{}", page.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(shown.unwrap().success(), "the browser could not show it");
        picture
    };
    let corner = |picture: &Path| {
        let image = image::open(picture).unwrap().to_luma8();
        let shades: std::collections::BTreeSet<u8> = image.pixels().map(|pixel| pixel.0[0]).collect();
        assert!(shades.len() > 20, "there is nothing to see");
        image.get_pixel(0, 0).0[0]
    };
    assert!(corner(&show("light.png", &["--window-size=1100,1600"])) > 240);
    let dark = ["--window-size=1100,1600", "--blink-settings=preferredColorScheme=0"];
    assert!(corner(&show("dark.png", &dark)) < 40);
    assert!(corner(&show("narrow.png", &["--window-size=500,1600"])) > 240);
    let paper = std::fs::read(show("paper.pdf", &[])).unwrap();
    assert!(paper.starts_with(b"%PDF") && paper.len() > 10_000);
}

/// One that runs: some systems have a stub of that name.
fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("FACE_ENROLL_CHROMIUM").map(PathBuf::from);
    let places = ["chromium", "chromium-browser", "google-chrome"].map(PathBuf::from);
    let runs = |browser: &PathBuf| {
        let version = Command::new(browser).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    named.into_iter().chain(places).find(runs)
}

#[test]
fn status_watch_follows_a_live_run_to_its_end() {
    let archive = Archive::of(300, 2_000);
    let service = Service::with_quota(50, Duration::from_millis(20));
    let mut run = service.run(&archive).args(["--qps", "5"]).spawn();
    let status = |more: &[&str]| stdout_of(Enroll::new("status").arg(archive.manifest()).args(more));
    // It records what it has done after a second, then every five.
    let started = Instant::now();
    let object = loop {
        std::thread::sleep(Duration::from_millis(200));
        if service.calls(Action::AddFaceRecord) > 0 {
            let object: serde_json::Value = serde_json::from_str(&status(&["--json"])).unwrap();
            if object["last_run"]["rate"].as_f64().is_some_and(|rate| rate > 0.0) {
                break object;
            }
        }
    };
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert!(object["last_run"]["is_live"] == true && object["last_run"]["limited_by"].is_string(), "{object}");
    assert!(object["last_run"]["rate"].as_f64().unwrap() < 6.0, "{object}");
    let shown = status(&[]);
    for words in ["a run is in progress", "limited by", "/s of 5", "left"] {
        assert!(shown.contains(words), "{words} in {shown}");
    }
    let mut watch = Enroll::new("status").arg(archive.manifest()).arg("--watch=200ms").spawn();
    let mut watching = BufReader::new(watch.stdout.take().unwrap());
    let mut watched = String::new();
    while !watched.contains("a run is in progress") {
        assert_ne!(watching.read_line(&mut watched).unwrap(), 0, "{watched}");
    }
    let process = rustix::process::Pid::from_raw(run.id() as i32).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(143));
    watching.read_to_string(&mut watched).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    assert!(watched.contains("no run in progress") && watched.contains("stopped by signal 15"), "{watched}");
    assert!(!watched.contains('\x1b'), "cursor codes where there is no terminal");
}

#[test]
fn status_of_a_killed_run_shows_its_calls() {
    let (archive, service) = (Archive::of(100, 0), Service::new());
    let mut run = service.run(&archive).args(["--qps", "20"]).spawn();
    let calls = || {
        let status = Enroll::new("status").arg(archive.manifest()).arg("--json").end();
        let object = serde_json::from_str::<serde_json::Value>(&status.stdout).unwrap_or_default();
        object["last_run"]["calls"].as_u64().unwrap_or(0)
    };
    let started = Instant::now();
    while calls() == 0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    run.kill().unwrap();
    run.wait().unwrap();
    assert!(calls() > 0);
}
