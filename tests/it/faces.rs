//! `--faces`: what `check` finds and what `run` refuses, on pictures made from the samples.

use std::{collections::BTreeMap, fs, path::Path};

use face_enroll::sandbox::Action;
use serde_json::Value;

use crate::support::{Ended, Enroll, Service, export};

/// A picture as rows of RGB pixels.
#[derive(Clone)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

impl Image {
    pub fn sample(n: usize) -> Self {
        let path = format!("{}/samples/photos/collins-{n:02}.jpg", env!("CARGO_MANIFEST_DIR"));
        Self::read(Path::new(&path))
    }

    pub fn read(path: &Path) -> Self {
        let mut decoder = jpeg_decoder::Decoder::new(fs::File::open(path).unwrap());
        let rgb = decoder.decode().unwrap();
        let info = decoder.info().unwrap();
        Self { width: info.width.into(), height: info.height.into(), rgb }
    }

    pub fn new(width: usize, height: usize, mut pixel: impl FnMut(usize, usize) -> [u8; 3]) -> Self {
        let points = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Self { width, height, rgb: points.flat_map(|(x, y)| pixel(x, y)).collect() }
    }

    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    /// Turned clockwise by 90 degrees.
    pub fn turned(&self) -> Self {
        Self::new(self.height, self.width, |x, y| self.pixel(y, self.height - 1 - x))
    }

    /// The part from (left, top).
    pub fn part(&self, (left, top): (usize, usize), (width, height): (usize, usize)) -> Self {
        Self::new(width, height, |x, y| self.pixel(left + x, top + y))
    }

    /// Copies another picture onto this one.
    pub fn with(mut self, other: &Self, (left, top): (usize, usize)) -> Self {
        for (y, row) in other.rgb.chunks_exact(other.width * 3).enumerate() {
            let at = ((top + y) * self.width + left) * 3;
            self.rgb[at..at + row.len()].copy_from_slice(row);
        }
        self
    }

    /// Every `n`th pixel is the mean of `n` x `n`.
    pub fn shrunk(&self, n: usize) -> Self {
        Self::new(self.width / n, self.height / n, |x, y| {
            let mut sums = [0; 3];
            for (dx, dy) in (0..n).flat_map(|dy| (0..n).map(move |dx| (dx, dy))) {
                for (sum, value) in sums.iter_mut().zip(self.pixel(x * n + dx, y * n + dy)) {
                    *sum += usize::from(value);
                }
            }
            sums.map(|sum| (sum / (n * n)) as u8)
        })
    }

    pub fn jpeg(&self, quality: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (width, height) = (u16::try_from(self.width).unwrap(), u16::try_from(self.height).unwrap());
        let encoder = jpeg_encoder::Encoder::new(&mut bytes, quality);
        encoder.encode(&self.rgb, width, height, jpeg_encoder::ColorType::Rgb).unwrap();
        bytes
    }
}

/// A page with the photo in a corner, as a scan of a form has it.
pub fn form() -> Image {
    let page = Image::new(720, 960, |x, y| {
        let is_line = (60..660).contains(&x) && y > 330 && y % 40 < 2;
        if is_line { [90; 3] } else { [244, 243, 238] }
    });
    page.with(&Image::sample(1).shrunk(2), (60, 40))
}

pub fn two_people() -> Image {
    let (left, right) = (Image::sample(1), Image::sample(8));
    let height = left.height.min(right.height);
    let whole = Image::new(480, 640, |_, _| [60, 60, 70]);
    let half = |image: &Image| image.part((0, 0), (480, height.min(640))).shrunk(2);
    whole.with(&half(&left), (0, 160)).with(&half(&right), (240, 160))
}

/// A folder of photos of which two are fine; its path names each.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let wall = Image::new(480, 640, |x, y| [(x / 5) as u8, (y / 6) as u8, 90]);
    for (name, image) in [
        ("fine", Image::sample(1)),
        ("also-fine", Image::sample(10)),
        ("wall", wall),
        ("upside-down", Image::sample(2).turned().turned()),
        ("two", two_people()),
        ("form", form()),
    ] {
        fs::write(dir.path().join(format!("{name}.jpg")), image.jpeg(90)).unwrap();
    }
    dir
}

/// Code of each finding about a face by photo, and all findings.
fn findings(ended: &Ended) -> (BTreeMap<String, String>, Vec<Value>) {
    let lines = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let findings: Vec<Value> = lines.filter(|line| line["type"] == "finding" && line["code"] != "Small").collect();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (findings.iter().map(|finding| (text(&finding["merchant_user_id"]), text(&finding["code"]))).collect(), findings)
}

fn codes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, code)| ((*name).to_owned(), (*code).to_owned())).collect()
}

#[test]
fn check_names_photos_without_a_usable_face() {
    let dir = folder();
    let check = |args: &[&str]| Enroll::new("check").arg(dir.path()).args(args).end();
    let ended = check(&["--report", "jsonl", "--json"]);
    assert_eq!(ended.code, Some(0), "warnings only: {ended:#?}");
    let (found, rows) = findings(&ended);
    let expected =
        [("wall", "NoFace"), ("upside-down", "FaceTurned180"), ("two", "SeveralFaces"), ("form", "SmallFace")];
    assert_eq!(found, codes(&expected));
    for row in rows {
        let face = row.get("face").map(|face| face.as_array().unwrap().iter().map(|part| part.as_f64().unwrap()));
        let face: Option<Vec<f64>> = face.map(Iterator::collect);
        assert_eq!((face.is_none(), &row["gravity"]), (row["code"] == "NoFace", &"warning".into()), "{row:#}");
        assert!(
            face.is_none_or(|face| face.len() == 5 && face.iter().all(|part| (0.0..1.0).contains(part))),
            "{row:#}"
        );
    }
    let summary: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    let faces = serde_json::json!({"none": 1, "unclear": 0, "several": 1, "small": 1, "turned": 1, "cut": 0});
    assert_eq!((&summary["faces"], &summary["calls_saved"]), (&faces, &2.into()), "{summary:#}");
    let text = check(&[]).stdout;
    assert!(text.contains("warning: NoFace: no face is visible"), "{text}");
    assert!(text.contains("--faces reject leaves them out and saves 2 calls"), "{text}");

    let ended = check(&["--report", "jsonl", "--json", "--faces", "reject"]);
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    let (found, rows) = findings(&ended);
    assert_eq!(found, codes(&expected));
    for row in rows {
        let is_refused = row["code"] == "NoFace" || row["code"] == "SeveralFaces";
        assert_eq!(row["gravity"], if is_refused { "fault" } else { "warning" }, "{row:#}");
    }
    let summary: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&summary["faces"], &summary["calls"]), (&faces, &4.into()), "{summary:#}");

    for args in
        [["--report", "jsonl", "--json", "--faces", "ignore"], ["--report", "jsonl", "--json", "--headers-only", "-q"]]
    {
        let ended = check(&args);
        assert_eq!(findings(&ended).0, BTreeMap::new(), "{args:?}");
        let summary: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(summary["faces"], Value::Null, "{args:?}");
    }
}

#[test]
fn run_rejects_photos_without_one_face_only_on_request() {
    let dir = folder();
    let service = Service::new();
    let checkpoint = |name: &str| dir.path().join(name);
    let run = |name: &str, args: &[&str]| {
        service.run_source(dir.path()).arg("--checkpoint").arg(checkpoint(name)).args(args).end()
    };
    let ended = run("reject.sqlite", &["--faces", "reject"]);
    ended.is(6, &[("enrolled", 4), ("rejected", 2)]);
    assert!(ended.stderr.contains("FaceTurned180"), "a warning is shown too: {}", ended.stderr);
    assert_eq!(service.calls(Action::AddFaceRecord), 4, "no call is spent on the others");
    let rejected = export(&checkpoint("reject.sqlite"), &["--status", "rejected"]);
    let named: BTreeMap<String, String> = rejected
        .iter()
        .inspect(|row| assert_eq!(row["stage"], "local"))
        .map(|row| (row["merchant_user_id"].as_str().unwrap().to_owned(), row["code"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(named, codes(&[("wall", "NoFace"), ("two", "SeveralFaces")]));
    let page = dir.path().join("page.html");
    let mut report = Enroll::new("report");
    report.arg("--checkpoint").arg(checkpoint("reject.sqlite")).arg("-o").arg(&page);
    assert_eq!(report.end().code, Some(0));
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("NoFace") && page.contains("Crop it to one person"), "the page says what to do");

    let service = Service::new();
    let mut enroll = service.run_source(dir.path());
    enroll.arg("--checkpoint").arg(checkpoint("default.sqlite")).end().is(0, &[("enrolled", 6)]);
}

#[test]
fn lying_photo_is_told_from_a_landscape_one() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, image: Image| fs::write(dir.path().join(format!("{name}.jpg")), image.jpeg(90)).unwrap();
    let lying = Image::sample(2).turned();
    write("turned-by-270", lying.turned().turned());
    write("turned-by-90", lying);
    write("wide", Image::new(640, 480, |x, y| [(x / 5) as u8, (y / 6) as u8, 90]));
    let messages = |rows: &[Value]| -> Vec<String> {
        rows.iter()
            .map(|row| format!("{} {}", row["code"].as_str().unwrap(), row["message"].as_str().unwrap()))
            .collect()
    };
    let expected = ["lies on its side: turn it by 90 degrees", "lies on its side: turn it by 270", ": crop it, or"];
    let names_the_turn = |found: Vec<String>| {
        assert_eq!(found.len(), 3, "{found:?}");
        for (message, expected) in found.iter().zip(expected) {
            assert!(message.starts_with("NotPortrait ") && message.contains(expected), "{message}");
        }
    };
    let ended = Enroll::new("check").arg(dir.path()).args(["--report", "jsonl", "--json"]).end();
    names_the_turn(messages(&findings(&ended).1));
    let service = Service::new();
    let run = |name: &str, faces: &str| {
        let checkpoint = dir.path().join(name);
        let mut enroll = service.run_source(dir.path());
        enroll.arg("--checkpoint").arg(&checkpoint).args(["--faces", faces]).end().is(6, &[("rejected", 3)]);
        export(&checkpoint, &[])
    };
    names_the_turn(messages(&run("warn.sqlite", "warn")));
    assert!(messages(&run("ignore.sqlite", "ignore")).iter().all(|message| message.contains(": crop it, or")));
}
