//! `--ping-url`, against monitors on this machine that answer, refuse, redirect and hang.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Archive, Ended, Enroll, Service};

/// Path of the monitor's URL, which nothing may show.
const TOKEN: &str = "planted-ping-token";

/// A request as the monitor received it.
#[derive(Debug, Clone)]
struct Request {
    line: String,
    body: String,
}

/// What a monitor does with a request.
#[derive(Clone)]
enum Reaction {
    /// Answers with this status line and this header.
    Answer(&'static str, String),
    /// Keeps the connection open and never answers.
    Hang,
}

struct Monitor {
    url: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Monitor {
    fn start(reaction: Reaction) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/{TOKEN}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let received = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                received.lock().unwrap().push(read(&mut stream));
                match &reaction {
                    Reaction::Answer(status, header) => {
                        let answer =
                            format!("HTTP/1.1 {status}\r\n{header}content-length: 0\r\nconnection: close\r\n\r\n");
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                    Reaction::Hang => open.push(stream),
                }
            }
        });
        Self { url, requests }
    }

    fn answering(status: &'static str) -> Self {
        Self::start(Reaction::Answer(status, String::new()))
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Request lines without the HTTP version and the token.
    fn lines(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.line.replace(TOKEN, "").replace(" HTTP/1.1", "")).collect()
    }

    fn last_body(&self) -> Value {
        serde_json::from_str(&self.requests().last().unwrap().body).unwrap()
    }
}

fn read(stream: &mut TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).unwrap();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let header = header.trim_end().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Request { line: line.trim_end().to_owned(), body: String::from_utf8(body).unwrap() }
}

fn run(service: &Service, archive: &Archive, url: &str) -> Enroll {
    let mut run = service.run(archive);
    run.env("FACE_ENROLL_PING_URL", url);
    run
}

#[test]
fn success_pings_start_then_posts_summary() {
    let (archive, service, monitor) = (Archive::of(2, 0), Service::new(), Monitor::answering("200 OK"));
    let ended = run(&service, &archive, &monitor.url).end();
    ended.is(0, &[("enrolled", 2)]);
    assert_eq!(monitor.lines(), ["GET //start", "POST /"]);
    assert_eq!(monitor.last_body(), ended.summary());
    // A dry run is not the job that the monitor waits for.
    run(&service, &archive, &monitor.url).arg("--dry-run").end();
    assert_eq!(monitor.requests().len(), 2);
}

#[test]
fn every_other_exit_pings_fail() {
    let (archive, service, monitor) = (Archive::of(3, 0), Service::new(), Monitor::answering("200 OK"));
    fs::write(archive.path().join("photos/u00002.jpg"), "no photo").unwrap();
    for (flags, code) in [(&["--max-images", "1"][..], 8), (&[], 6)] {
        let ended = run(&service, &archive, &monitor.url).args(flags).end();
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert_eq!(monitor.lines().split_off(monitor.lines().len() - 2), ["GET //start", "POST //fail"]);
        assert_eq!(monitor.last_body(), ended.summary());
    }
    // A run that fails before it starts has no summary.
    fs::remove_file(archive.manifest()).unwrap();
    let ended = run(&service, &archive, &monitor.url).end();
    assert_eq!((ended.code, monitor.lines().len()), (Some(3), 6), "{ended:#?}");
    assert!(monitor.requests()[5].line.contains("/fail"));
    let body = monitor.last_body();
    assert_eq!((&body["type"], &body["exit_code"]), (&"error".into(), &3.into()), "{body}");
    assert!(body["exit_reason"].as_str().unwrap().contains("manifest.csv"), "{body}");
}

#[test]
fn failing_monitor_is_tried_three_times_and_fails_no_run() {
    let (archive, service) = (Archive::of(1, 0), Service::new());
    let elsewhere = Monitor::answering("200 OK");
    let redirect = Reaction::Answer("302 Found", format!("location: {}\r\n", elsewhere.url));
    for (monitor, status) in [(Monitor::answering("500 Internal Server Error"), 500), (Monitor::start(redirect), 302)] {
        // Longer than the tries of the first ping.
        let ended = run(&service, &archive, &monitor.url).args(["--stats", "1s"]).end();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let lines = monitor.lines();
        assert_eq!(lines.iter().filter(|line| *line == "POST /").count(), 3, "{lines:?}");
        assert_eq!(lines.iter().filter(|line| *line == "GET //start").count(), 3, "{lines:?}");
        assert!(ended.stderr.contains(&format!("127.0.0.1 answered with HTTP status {status}")), "{}", ended.stderr);
    }
    assert!(elsewhere.requests().is_empty(), "a redirect was followed");
    let closed = format!("http://{}/{TOKEN}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let ended = run(&service, &archive, &closed).end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("cannot ping") && !ended.stderr.contains(TOKEN), "{}", ended.stderr);
}

#[test]
fn hanging_monitor_delays_the_end_by_ten_seconds_at_most() {
    let (archive, service, monitor) = (Archive::of(1, 0), Service::new(), Monitor::start(Reaction::Hang));
    let started = Instant::now();
    let ended = run(&service, &archive, &monitor.url).end();
    ended.is(0, &[("enrolled", 1)]);
    let elapsed = started.elapsed();
    assert!((Duration::from_secs(8)..Duration::from_secs(14)).contains(&elapsed), "{elapsed:?}");
    assert_eq!(monitor.lines(), ["GET //start", "POST /"]);
}

#[test]
fn ping_url_is_shown_nowhere() {
    let (archive, service, monitor) = (Archive::of(1, 0), Service::new(), Monitor::answering("503 Unavailable"));
    let log = archive.path().join("run.log");
    let hook = archive.path().join("hook.txt");
    let mut shown = Vec::new();
    let mut keep = |ended: Ended| shown.push(format!("{}{}", ended.stdout, ended.stderr));
    let on_finish = format!("env > {}", hook.display());
    keep(run(&service, &archive, &monitor.url).args(["-vv", "--on-finish", &on_finish, "--log-file"]).arg(&log).end());
    keep(run(&service, &archive, &monitor.url).arg("--help").end());
    keep(Enroll::new("man").env("FACE_ENROLL_PING_URL", &monitor.url).end());
    for bad in ["http://hc.example/planted-ping-token", "planted-ping-token", "https://hc.example:planted-ping-token/"]
    {
        let ended = run(&service, &archive, bad).end();
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains("--ping-url"), "{ended:#?}");
        keep(ended);
        keep(service.run(&archive).arg(format!("--ping-url={bad}")).end());
        keep(Enroll::new("status").arg(archive.manifest()).arg(format!("--ping-url={bad}")).end());
        keep(Enroll::new("config").args(["show", "-vv"]).env("FACE_ENROLL_PING_URL", bad).end());
    }
    let settings = archive.path().join("config.toml");
    fs::write(&settings, format!("ping-url = \"https://hc.example/{TOKEN}\"\n")).unwrap();
    let config = Enroll::new("config").arg("show").arg("--config").arg(&settings).end();
    assert!(config.stdout.contains("https://hc.example/****"), "{config:#?}");
    keep(config);
    for broken in
        [format!("ping-url = [\"{TOKEN}\", 5]\n"), format!("qps = 5\nping-url = \"https://hc.example/{TOKEN}\n")]
    {
        fs::write(&settings, broken).unwrap();
        let config = Enroll::new("config").arg("show").arg("--config").arg(&settings).end();
        assert_eq!(config.code, Some(2), "{config:#?}");
        keep(config);
    }
    shown.extend([&log, &hook].map(|file| fs::read_to_string(file).unwrap()));
    let shown = shown.join("\n");
    assert!(shown.contains("cannot ping --ping-url") && shown.contains("FACE_ENROLL_PING_URL"), "{shown}");
    assert!(!shown.contains(TOKEN), "{shown}");
    let checkpoint = fs::read(archive.checkpoint()).unwrap();
    assert!(!checkpoint.windows(TOKEN.len()).any(|bytes| bytes == TOKEN.as_bytes()));
}
