//! The README's pictures, made from real runs: a terminal in which a run is killed and goes on, the page of a report, and
//! the faces that a check finds.
//!
//! `cargo test --test it recording -- --ignored` draws them anew into `samples/pictures/`.

use std::{
    fmt::Write as _,
    io::Read,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use face_enroll::{
    picture::{self, FacePolicy, Rules},
    sandbox::{Script, Settings},
};

use crate::{
    faces::{Image, form, two_people},
    support::{Archive, Enroll, Service},
};

const COLUMNS: u16 = 100;
const ROWS: u16 = 21;
/// Of one character, in the picture's own units.
const WIDTH: f64 = 8.4;
const HEIGHT: f64 = 18.0;
/// A picture each.
const EVERY: Duration = Duration::from_millis(500);
/// The last one stays for so long.
const AT_THE_END: Duration = Duration::from_secs(6);

/// What is typed, and shown as if it were: killed in the middle, then gone on with.
const SESSION: &str = r#"
say() { printf '\033[1m$ %s\033[0m\n' "$1"; sleep 0.6; }
say 'face-enroll run samples/manifest.csv --sandbox --checkpoint people.sqlite --qps 2'
sh -c 'timeout -s KILL 3.6 face-enroll run samples/manifest.csv --sandbox --checkpoint people.sqlite --qps 2; sleep 1'
say 'face-enroll run samples/manifest.csv --sandbox --checkpoint people.sqlite --qps 4'
face-enroll run samples/manifest.csv --sandbox --checkpoint people.sqlite --qps 4
sleep 0.6
"#;

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/pictures")
}

#[test]
#[ignore = "writes a picture of the README: it tests nothing, and takes a terminal or a browser"]
fn draw_terminal_picture() {
    let dir = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    assert!(Command::new("cp").arg("-r").arg(&samples).arg(dir.path()).status().unwrap().success());
    let binary = Path::new(env!("CARGO_BIN_EXE_face-enroll"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let typed = format!("stty cols {COLUMNS} rows {ROWS}; {SESSION}");
    let mut terminal = Command::new("script")
        .args(["-qfec", &format!("bash -c '{}'", typed.replace('\'', r"'\''")), "/dev/null"])
        .current_dir(dir.path())
        .env("PATH", path)
        .env("HOME", "/nonexistent")
        .env("TERM", "xterm-256color")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = terminal.stdout.take().unwrap();
    let (sender, chunks) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = output.read(&mut buffer) {
            if length == 0 || sender.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut screen = vt100::Parser::new(ROWS.try_into().unwrap(), COLUMNS.try_into().unwrap(), 0);
    let began = Instant::now();
    let mut frames: Vec<(Duration, String)> = Vec::new();
    let mut goes_on = true;
    while goes_on {
        let until = Instant::now() + EVERY;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            match chunks.recv_timeout(left) {
                Ok(chunk) => screen.process(&chunk),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                    goes_on = false;
                    break;
                }
            }
        }
        let frame = drawn(screen.screen());
        if frames.last().is_none_or(|(_, last)| *last != frame) {
            frames.push((began.elapsed(), frame));
        }
    }
    terminal.wait().unwrap();
    assert!(frames.last().unwrap().1.contains("Every row is enrolled"), "{}", screen.screen().contents());
    std::fs::create_dir_all(pictures()).unwrap();
    std::fs::write(pictures().join("terminal.svg"), animated(&frames)).unwrap();
}

/// The rows of a screen, as runs of text of one colour.
fn drawn(screen: &vt100::Screen) -> String {
    let mut text = String::new();
    for row in 0..ROWS {
        let mut run = String::new();
        let mut column = 0;
        while column < COLUMNS {
            let Some(cell) = screen.cell(row, column) else { break };
            let class = class(cell);
            let from = column;
            run.clear();
            while let Some(next) =
                screen.cell(row, column).filter(|next| column < COLUMNS && self::class(next) == class)
            {
                run.push_str(if next.has_contents() { next.contents() } else { " " });
                column += 1;
            }
            if !run.trim().is_empty() {
                let escaped = run.trim_end().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let (x, y) = (f64::from(from) * WIDTH + 12.0, f64::from(row) * HEIGHT + 26.0);
                write!(text, r#"<text x="{x:.1}" y="{y:.0}" class="{class}">{escaped}</text>"#).unwrap();
            }
        }
    }
    text
}

fn class(cell: &vt100::Cell) -> &'static str {
    match cell.fgcolor() {
        vt100::Color::Idx(2 | 10) => "g",
        vt100::Color::Idx(1 | 3 | 9 | 11) => "w",
        _ if cell.dim() => "d",
        _ if cell.bold() => "b",
        _ => "t",
    }
}

fn animated(frames: &[(Duration, String)]) -> String {
    let whole = (frames.last().unwrap().0 + AT_THE_END).as_secs_f64();
    let (width, height) = (f64::from(COLUMNS) * WIDTH + 24.0, f64::from(ROWS) * HEIGHT + 24.0);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" role="img" aria-label="A run is killed, and goes on">
<style>text{{font:14px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;white-space:pre;fill:#d7dae0}}.b{{font-weight:bold;fill:#fff}}.d{{fill:#868e96}}.g{{fill:#69db7c}}.w{{fill:#ffa94d}}</style>
<rect width="100%" height="100%" rx="8" fill="#17191c"/>
"##
    );
    for (at, (from, frame)) in frames.iter().enumerate() {
        let from = if at == 0 { 0.0 } else { from.as_secs_f64() / whole };
        let to = frames.get(at + 1).map_or(1.0, |(next, _)| next.as_secs_f64() / whole);
        // Where nothing moves, the last one is seen.
        let still = if at + 1 == frames.len() { "visible" } else { "hidden" };
        let (values, times) = match (at, at + 1 == frames.len()) {
            (0, _) => ("visible;hidden".to_owned(), format!("0;{to:.4}")),
            (_, true) => ("hidden;visible".to_owned(), format!("0;{from:.4}")),
            (_, false) => ("hidden;visible;hidden".to_owned(), format!("0;{from:.4};{to:.4}")),
        };
        writeln!(
            svg,
            r#"<g visibility="{still}"><animate attributeName="visibility" calcMode="discrete" dur="{whole:.1}s" repeatCount="indefinite" values="{values}" keyTimes="{times}"/>{frame}</g>"#
        )
        .unwrap();
    }
    svg + "</svg>\n"
}

#[test]
#[ignore = "writes a picture of the README: it tests nothing, and takes a terminal or a browser"]
fn page_of_a_report() {
    let archive = Archive::of(2_000, 2_000);
    for gone in ["u00007", "u00311"] {
        std::fs::remove_file(archive.path().join(format!("photos/{gone}.jpg"))).unwrap();
    }
    let faults = r#"{"calls": [600, 601, 602], "fault": "throttle"}
        {"calls": [1300], "fault": "reset_after"}
        {"calls": [90, 700], "fault": "not_passed"}"#;
    let faults = Script::parse(faults).unwrap();
    let latency = Duration::from_millis(80);
    let service = Service::with(Settings { faults, latency, qps: NonZeroU32::new(50), ..Settings::default() });
    let run = |more: &[&str]| service.run(&archive).args(["--qps", "50"]).args(more).end();
    run(&["--max-images", "700"]).is(8, &[]);
    std::thread::sleep(Duration::from_secs(8));
    run(&["--max-images", "500"]).is(8, &[]);
    run(&[]).is(6, &[]);
    let page = archive.path().join("report.html");
    let mut report = Enroll::new("report");
    report.command().current_dir(archive.path());
    let ended = report.args(["--checkpoint", "manifest.csv.enroll.sqlite", "-o", "report.html"]).end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    std::fs::create_dir_all(pictures()).unwrap();
    let shown = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,1500"])
        .arg(format!("--screenshot={}", pictures().join("report.png").display()))
        .arg(format!("file://{}", page.display()))
        .stderr(Stdio::null())
        .status();
    assert!(shown.unwrap().success());
}

/// Width and height of a photo in the picture of faces, and the space around it.
const TILE: (usize, usize) = (150, 200);
const GAP: usize = 14;

#[test]
#[ignore = "writes a picture of the README: it tests nothing"]
fn faces_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let photos = [
        Image::sample(1),
        Image::sample(10),
        form(),
        Image::sample(8).part((225, 0), (255, 340)),
        Image::sample(2).turned().turned(),
        two_people(),
        Image::sample(4).part((0, 300), (250, 334)),
    ];
    for (n, image) in photos.iter().enumerate() {
        std::fs::write(dir.path().join(format!("{n}.jpg")), image.jpeg(92)).unwrap();
    }
    let ended = Enroll::new("check").arg(dir.path()).args(["--report", "jsonl"]).end();
    let findings: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (width, height) = (photos.len() * (TILE.0 + GAP) + GAP, TILE.1 + 2 * GAP + 22);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="Faces that a check finds">
<style>text{{font:13px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;text-anchor:middle}}rect{{fill:none;stroke-width:3}}</style>
<rect width="100%" height="100%" rx="8" style="fill:#17191c"/>
"##
    );
    for (n, image) in photos.iter().enumerate() {
        let code = findings
            .iter()
            .find(|finding| finding["merchant_user_id"] == n.to_string().as_str() && finding["code"] != "Small")
            .map_or("fine", |finding| finding["code"].as_str().unwrap());
        let colour = match code {
            "fine" => "#69db7c",
            "NoFace" | "SeveralFaces" => "#ff6b6b",
            _ => "#ffa94d",
        };
        let rules = Rules { faces: FacePolicy::Warn, ..Rules::default() };
        let face = picture::load(&dir.path().join(format!("{n}.jpg")), &rules).unwrap().face;
        let thumbnail = BASE64_STANDARD.encode(image.shrunk((image.width / TILE.0).max(1)).jpeg(70));
        let (left, (w, h)) = (GAP + n * (TILE.0 + GAP), TILE);
        writeln!(
            svg,
            r#"<svg x="{left}" y="{GAP}" width="{w}" height="{h}"><image width="{w}" height="{h}" preserveAspectRatio="none" href="data:image/jpeg;base64,{thumbnail}"/>"#
        )
        .unwrap();
        if let Some(face) = face {
            let [x, width] = [face.x, face.width].map(|part| part * w as f32);
            let [y, height] = [face.y, face.height].map(|part| part * h as f32);
            write!(svg, r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" stroke="{colour}"/>"#)
                .unwrap();
        }
        let (middle, below) = (left + w / 2, GAP + h + 22);
        writeln!(svg, r#"</svg><text x="{middle}" y="{below}" fill="{colour}">{code}</text>"#).unwrap();
    }
    std::fs::write(pictures().join("faces.svg"), svg + "</svg>\n").unwrap();
}
