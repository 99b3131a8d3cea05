//! What cron, systemd and a collector of figures meet.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    time::Duration,
};

use face_enroll::sandbox::Action;

use crate::support::{Archive, Enroll, GROUP, Service, python_with_sdk, skip};

/// Hours, by the clock of a process whose zone is UTC: from so many hours hence, for one.
fn window(from_hours: i64) -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let at = |hours: i64| now.time().wrapping_add(jiff::Span::new().hours(hours)).strftime("%H:%M").to_string();
    format!("{}-{}", at(from_hours), at(from_hours + 2))
}

#[test]
fn nothing_is_sent_outside_the_window_and_everything_within() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    let mut run = service.run(&archive);
    let ended = run.env("TZ", "UTC").args(["--window", &window(3), "--max-duration", "1s"]).end();
    ended.is(10, &[("pending", 4), ("calls", 0)]);
    assert!(ended.stderr.contains("outside the hours of --window"), "{ended:#?}");
    service.run(&archive).env("TZ", "UTC").args(["--window", &window(-1)]).end().is(0, &[("enrolled", 4)]);
    // With nothing to do, nothing is waited for.
    service.run(&archive).env("TZ", "UTC").args(["--window", &window(3)]).end().is(0, &[("calls", 0)]);
}

#[test]
fn canary_stops_with_a_verdict_on_what_it_sent() {
    let archive = Archive::of(12, 0);
    let service = Service::failing(r#"{"calls": [7], "fault": "not_passed"}"#);
    let well = service.run(&archive).args(["--canary", "5"]).end().is(0, &[("enrolled", 5), ("calls", 5)]);
    assert!(well["exit_reason"].as_str().unwrap().contains("all 5 photos sent are enrolled"), "{well}");
    let ill = service.run(&archive).args(["--canary", "5"]).end().is(6, &[("enrolled", 9), ("calls", 5)]);
    assert!(ill["exit_reason"].as_str().unwrap().contains("4 of 5 photos sent"), "{ill}");
    // Fewer than that are left, and one was refused before: what counts is what was sent.
    service.run(&archive).args(["--canary", "5"]).end().is(0, &[("enrolled", 11), ("calls", 2), ("rejected", 1)]);
    // Nothing is left to judge by.
    service.run(&archive).args(["--canary", "5"]).end().is(6, &[("calls", 0)]);
}

#[test]
fn metrics_are_served_during_the_run() {
    let archive = Archive::of(30, 0);
    let service = Service::new();
    let mut run = service.run(&archive).args(["--qps", "10", "--metrics-addr", "0"]).spawn();
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines();
    let line = said.by_ref().map(Result::unwrap).find(|line| line.contains("/metrics")).unwrap();
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "a port alone is one of this machine only: {line}");
    let scrape = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let mut answer = scrape();
    // The address is there a moment before the first figures are.
    while !answer.contains("face_enroll") {
        answer = scrape();
    }
    assert!(answer.contains("text/plain; version=0.0.4") && answer.contains("face_enroll_running 1"), "{answer}");
    said.for_each(drop);
    assert_eq!(run.wait().unwrap().code(), Some(0));
}

#[test]
fn on_finish_gets_summary_and_no_key() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    let (summary, environment) = (archive.path().join("summary.json"), archive.path().join("environment"));
    let command = format!("cat > '{}'; env > '{}'; echo said; exit 3", summary.display(), environment.display());
    let ended = service.run(&archive).args(["--on-finish", &command]).end();
    ended.is(0, &[("enrolled", 3)]);
    assert!(ended.stderr.contains("said") && ended.stderr.contains("--on-finish failed"), "{ended:#?}");
    let handed: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(summary).unwrap()).unwrap();
    assert_eq!((handed["type"].as_str(), handed["enrolled"].as_u64()), (Some("summary"), Some(3)));
    assert!(!std::fs::read_to_string(environment).unwrap().contains("ALIBABA_CLOUD_ACCESS_KEY"));
}

#[test]
fn systemd_gets_ready_watchdog_and_stopping() {
    let archive = Archive::of(20, 0);
    let service = Service::new();
    let path = archive.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut run = service.run(&archive);
    run.args(["--qps", "10"]).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    let mut child = run.spawn();
    let mut heard = Vec::new();
    let mut buffer = [0; 512];
    while heard.last().is_none_or(|word| word != "STOPPING=1") {
        let length = socket.recv(&mut buffer).expect("a word within 10 s");
        heard.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(heard.first().map(String::as_str), Some("READY=1"));
    assert!(heard.iter().filter(|word| *word == "WATCHDOG=1").count() >= 3, "{heard:?}");
}

#[test]
fn second_checkpoint_of_a_group_draws_a_warning() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    let monday = archive.path().join("staff-monday.csv");
    std::fs::copy(archive.manifest(), &monday).unwrap();
    service.run_source(&monday).end().is(0, &[]);
    let tuesday = archive.path().join("staff-tuesday.csv");
    std::fs::copy(archive.manifest(), &tuesday).unwrap();
    let warned = service.run_source(&tuesday).args(["--precheck"]).end();
    warned.is(0, &[("enrolled", 2), ("calls", 0)]);
    assert!(warned.stderr.contains("staff-monday.csv.enroll.sqlite"), "{warned:#?}");
    // Also where the place was chosen: it may be mistyped. Not where it is known already, nor for another program's file.
    let mistyped = archive.path().join("stuff.sqlite");
    let mut run = service.run_source(&monday);
    let warned = run.arg("--checkpoint").arg(&mistyped).arg("--precheck").end();
    assert!(warned.stderr.contains("same group"), "{warned:#?}");
    let again = service.run_source(&tuesday).end();
    assert!(!again.stderr.contains("same group"), "{again:#?}");
    let folder = archive.path().join("another");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(archive.checkpoint().with_file_name("staff-monday.csv"), folder.join("a.sqlite")).unwrap();
    let alone = service.run_source(&monday).arg("--checkpoint").arg(folder.join("b.sqlite")).arg("--precheck").end();
    assert!(!alone.stderr.contains("same group"), "{alone:#?}");
    assert_eq!(service.calls(Action::AddFaceRecord), 2);
}

#[test]
fn config_show_lists_origins_and_no_secret() {
    let archive = Archive::of(1, 0);
    let file = archive.path().join("config.toml");
    std::fs::write(&file, "qps = 20\nregion = \"cn-hongkong\"\n[profile.night]\nmax-duration = \"8h\"\n").unwrap();
    let mut show = Enroll::new("config");
    let shown = show
        .args(["show", "--profile", "night", "--config"])
        .arg(&file)
        .env("FACE_ENROLL_GROUP", GROUP)
        .env("FACE_ENROLL_QPS", "30")
        .env("FACE_ENROLL_ENDPOINT", "https://someone:planted-secret@proxy.example")
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI5tTESTVECTORKEY0001")
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "planted-secret")
        .end();
    assert_eq!(shown.code, Some(0), "{shown:#?}");
    assert!(!shown.stdout.contains("planted-secret"), "{shown:#?}");
    let has = |words: &[&str]| shown.stdout.lines().any(|line| line.split_whitespace().collect::<Vec<_>>() == words);
    for words in [
        &["qps", "30", "FACE_ENROLL_QPS"][..],
        &["region", "cn-hongkong", "file"],
        &["max-duration", "8h", "file"],
        &["group", GROUP, "FACE_ENROLL_GROUP"],
        &["concurrency", "64", "default"],
        &["access", "key", "LTAI****0001", "the", "environment"],
    ] {
        assert!(has(words), "{words:?} in {}", shown.stdout);
    }
}

fn passes(tool: &mut Command) {
    let name = tool.get_program().to_string_lossy().into_owned();
    let Ok(output) = tool.output() else {
        skip(&name);
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}");
}

#[test]
fn service_samples_pass_their_own_tools() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/services");
    let dir = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string(samples.join("face-enroll.service")).unwrap();
    let here = dir.path().join("face-enroll.service");
    // systemd looks whether the program is there.
    std::fs::write(&here, unit.replace("/usr/local/bin/face-enroll", env!("CARGO_BIN_EXE_face-enroll"))).unwrap();
    let timer = dir.path().join("face-enroll.timer");
    std::fs::copy(samples.join("face-enroll.timer"), &timer).unwrap();
    passes(Command::new("systemd-analyze").arg("verify").args([&here, &timer]));
    // Debian's; others have no dry run.
    if Path::new("/etc/debian_version").exists() {
        passes(Command::new("crontab").arg("-n").arg(samples.join("face-enroll.cron")));
    }
    if let Some(python) = python_with_sdk() {
        let yaml = samples.join("cronjob.yaml");
        let known = Command::new(&python).args(["-c", "import kubernetes_validate"]).output().unwrap().status.success();
        if known {
            passes(Command::new(python).args(["-m", "kubernetes_validate", "--strict"]).arg(yaml));
        } else {
            skip("kubernetes-validate beside the official SDK");
        }
    }
}

#[test]
fn samples_for_services_are_flags_that_a_run_takes() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/services");
    let read = |name: &str| std::fs::read_to_string(samples.join(name)).unwrap();
    let cron = read("face-enroll.cron").lines().last().unwrap().split_once("face-enroll ").unwrap().1.to_owned();
    let service = read("face-enroll.service")
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/face-enroll ").map(str::to_owned))
        .unwrap();
    let yaml = read("cronjob.yaml");
    let pod = yaml.split("args:").nth(1).unwrap().split("env:").next().unwrap().replace("- ", "");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/config.toml");
    for words in [cron, service, pod] {
        let mut words = words.split_whitespace();
        // With a source that is not there: what was typed is understood, and that is the only thing wrong.
        let ended = Enroll::new(words.next().unwrap())
            .args(words)
            .env("FACE_ENROLL_CONFIG", &config)
            .env("FACE_ENROLL_LOG_FILE", "/dev/null")
            .end();
        assert_eq!(ended.code, Some(3), "{ended:#?}");
    }
}
