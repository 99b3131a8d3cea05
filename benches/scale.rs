//! Scaling with the size of the manifest: ingesting rows, also while photos are sent at the quota, `status`, claiming a
//! batch, a run with nothing to do, time to the first call; the same of a workbook and of a ZIP archive; and the cost of
//! starting the program, of the binary, and of a slow run.
//!
//! ```sh
//! cargo bench --bench scale                       # -- --rows 10000000
//! ```
//!
//! Linux only. If the `sqlite3` shell is installed, its `.import` of the same file is measured for comparison.

#![allow(unreachable_pub, missing_docs, dead_code)]

#[path = "common/child.rs"]
mod child;
#[path = "common/cli.rs"]
mod cli;
#[path = "common/photos.rs"]
mod photos;
#[path = "common/stub.rs"]
mod stub;

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use child::{Usage, measure, median};
use face_enroll::{
    checkpoint::{Reader, SqliteStore, Store},
    domain::ItemId,
};
use flate2::write::DeflateEncoder;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use rustix::process::{Pid, Signal, kill_process};
use stub::Stub;

/// Number of photos that exist.
const PHOTOS: usize = 2_000;
const PHOTO_BYTES: usize = 80_000;
/// Photos at the start of an archive: more than are read before the one that is sent.
const ZIP_PHOTOS: usize = 512;

/// Order of the ids in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    Ordered,
    Random,
}

impl Ids {
    fn nth(self, n: usize, random: &mut fastrand::Rng) -> u64 {
        match self {
            Self::Ordered => n as u64,
            Self::Random => random.u64(..),
        }
    }
}

struct Bench {
    folder: tempfile::TempDir,
    stub: Stub,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default| {
        let value = args.iter().skip_while(|arg| *arg != name).nth(1);
        value.map_or(default, |value| value.parse().expect("number"))
    };
    let rows: usize = number("--rows", 1_000_000);
    let bench = Bench::new();
    bench.small_figures();
    let mut size = 10_000;
    while size < rows {
        bench.ingest(size, Ids::Ordered);
        size *= 10;
    }
    for ids in [Ids::Ordered, Ids::Random] {
        let manifest = bench.ingest(rows, ids);
        bench.import(&manifest, rows);
        bench.later_runs(&manifest, rows, ids);
    }
    for percent in [100, 50] {
        bench.ingest_while_sending(rows, percent);
    }
    let workbook = bench.workbook(rows);
    bench.take_in("an .xlsx of 10 columns", rows, &workbook);
    let archive = bench.archive(rows);
    bench.take_in("a .zip", rows, &archive);
    bench.check(number("--check", 200_000));
}

/// Adds a deflated member to an archive.
fn add<W: Write>(archive: &mut ZipArchiveWriter<W>, name: &str, content: impl FnOnce(&mut dyn Write)) {
    let method = CompressionMethod::DEFLATE;
    let (mut entry, config) = archive.new_file(name).compression_method(method).start().expect("the disk has room");
    let encoder = DeflateEncoder::new(&mut entry, flate2::Compression::fast());
    let mut writer = config.wrap(BufWriter::new(encoder));
    content(&mut writer);
    let (encoder, descriptor) = writer.finish().expect("the disk has room");
    let encoder = encoder.into_inner().map_err(|_| ()).expect("the disk has room");
    encoder.finish().expect("the disk has room");
    entry.finish(descriptor).expect("the disk has room");
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        photos::write(&folder.path().join("photos"), PHOTOS, PHOTO_BYTES);
        let stub = Stub::start(&folder.path().join("ca.pem"));
        Self { folder, stub }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a manifest; the n-th row names the n-th photo, and the last one a photo that exists. No other is read.
    fn manifest(&self, rows: usize, ids: Ids) -> PathBuf {
        self.write_manifest(&format!("{ids:?}-{rows}.csv"), (rows, ids), |n| if n + 1 == rows { 0 } else { n })
    }

    fn write_manifest(&self, name: &str, (rows, ids): (usize, Ids), photo: impl Fn(usize) -> usize) -> PathBuf {
        let path = self.path(name);
        let mut file = BufWriter::new(File::create(&path).expect("folder is writable"));
        let mut random = fastrand::Rng::with_seed(7);
        writeln!(file, "path,merchant_user_id").expect("the disk has room");
        for n in 0..rows {
            let id = ids.nth(n, &mut random);
            writeln!(file, "photos/{},{id:016x}", photos::name(photo(n))).expect("the disk has room");
        }
        file.into_inner().expect("the disk has room");
        path
    }

    fn run(&self, manifest: &Path) -> Command {
        let endpoint = format!("http://{}", self.stub.plain);
        let mut command = cli::run(manifest, &manifest.with_extension("sqlite"), &endpoint);
        command.args(["--qps", "1000"]).stderr(Stdio::null());
        command
    }

    fn small_figures(&self) {
        let binary = Path::new(env!("CARGO_BIN_EXE_face-enroll"));
        let starts = (0..20).map(|_| {
            let started = Instant::now();
            let ended = Command::new(binary).arg("--version").stdout(Stdio::null()).status();
            assert!(ended.is_ok_and(|status| status.success()));
            started.elapsed()
        });
        println!("`--version`: {:.1} ms", ms(median(starts)));
        let stripped = self.path("stripped");
        fs::copy(binary, &stripped).expect("folder is writable");
        let _ = Command::new("strip").arg(&stripped).status();
        println!("binary, stripped: {:.1} MB", fs::metadata(&stripped).expect("file exists").len() as f64 / 1e6);

        let manifest = self.manifest(1_000, Ids::Ordered);
        let usage = measure(self.run(&manifest).args(["--qps", "50"]), || false);
        let share = usage.cpu.as_secs_f64() / usage.elapsed.as_secs_f64() * 100.0;
        println!(
            "1,000 photos at 50/s: {:.1} s, {share:.1} % of a core, peak {:.0} MiB",
            usage.elapsed.as_secs_f64(),
            mib(usage.peak)
        );
    }

    /// Ingests every row and sends one photo.
    fn ingest(&self, rows: usize, ids: Ids) -> PathBuf {
        let manifest = self.manifest(rows, ids);
        let checkpoint = manifest.with_extension("sqlite");
        cli::remove(&checkpoint);
        self.stub.take_answered();
        let (started, mut first_call) = (Instant::now(), None);
        let mut command = self.run(&manifest);
        let usage = child::measure_any(command.args(["--max-images", "1"]), || {
            if first_call.is_none() && self.stub.was_called() {
                first_call = Some(started.elapsed());
            }
            false
        });
        let size = fs::metadata(&checkpoint).expect("run created the checkpoint").len();
        println!(
            "{rows} rows, ids {}: {:.2} s, {:.2} us per row, peak {:.0} MiB, {:.0} bytes per row ({:.2} GB), first call after {:.0} ms",
            format!("{ids:?}").to_lowercase(),
            usage.elapsed.as_secs_f64(),
            usage.elapsed.as_secs_f64() * 1e6 / rows as f64,
            mib(usage.peak),
            size as f64 / rows as f64,
            size as f64 / 1e9,
            ms(first_call.expect("one photo was sent")),
        );
        manifest
    }

    /// Ingests unordered rows while photos are sent at 50/s. Stops the run with SIGTERM once `percent` of them are in.
    fn ingest_while_sending(&self, rows: usize, percent: usize) {
        let manifest = self.write_manifest("sending.csv", (rows, Ids::Random), |n| n % PHOTOS);
        let checkpoint = manifest.with_extension("sqlite");
        cli::remove(&checkpoint);
        self.stub.take_answered();
        let started = Instant::now();
        let mut child = self.run(&manifest).args(["--qps", "50"]).spawn().expect("the binary is built");
        // Calls of each second, and of the last, incomplete one.
        let (mut calls, mut ingested, mut peak) = (vec![0], 0, 0);
        while ingested < rows * percent / 100 {
            std::thread::sleep(Duration::from_millis(20));
            assert!(child.try_wait().expect("own child process").is_none(), "the run has ended");
            let counts = Reader::open(&checkpoint).and_then(|reader| reader.counts());
            ingested = counts.map_or(ingested, |counts| counts.total as usize);
            calls.resize(started.elapsed().as_secs() as usize + 1, 0);
            *calls.last_mut().expect("one second at least") += self.stub.take_answered();
            peak = peak.max(child::peak_bytes(child.id()).unwrap_or(0));
        }
        let took = started.elapsed().as_secs_f64();
        let stopped = Instant::now();
        kill_process(Pid::from_child(&child), Signal::TERM).expect("own child process");
        child.wait().expect("own child process");
        let whole = &calls[..calls.len() - 1];
        println!(
            "{ingested} of {rows} unordered rows while sending at 50/s: {:.0} rows/s, {:.1} calls/s ({} in the first second, \
             {} in the slowest later one), peak {:.0} MiB, exit {:.2} s after SIGTERM",
            ingested as f64 / took,
            calls.iter().sum::<usize>() as f64 / took,
            calls[0],
            whole.iter().skip(1).min().map_or("-".to_owned(), usize::to_string),
            mib(peak),
            stopped.elapsed().as_secs_f64(),
        );
    }

    /// Writes a workbook as a spreadsheet would: paths and ids are shared strings, all different; the other eight columns
    /// repeat themselves.
    fn workbook(&self, rows: usize) -> PathBuf {
        const KIND: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
        let path = self.path("people.xlsx");
        let mut archive = ZipArchiveWriter::new(BufWriter::new(File::create(&path).expect("folder is writable")));
        let relations = |all: &[(&str, &str)]| {
            let one = |(kind, target): &(&str, &str)| {
                format!(r#"<Relationship Id="{kind}" Type="{KIND}/{kind}" Target="{target}"/>"#)
            };
            format!("<Relationships>{}</Relationships>", all.iter().map(one).collect::<String>())
        };
        let book = r#"<workbook xmlns:r="r"><sheets><sheet name="S" r:id="worksheet"/></sheets></workbook>"#;
        for (name, xml) in [
            ("_rels/.rels", relations(&[("officeDocument", "xl/workbook.xml")])),
            ("xl/_rels/workbook.xml.rels", relations(&[("worksheet", "s.xml"), ("sharedStrings", "t.xml")])),
            ("xl/workbook.xml", book.to_owned()),
        ] {
            add(&mut archive, name, |out| out.write_all(xml.as_bytes()).expect("the disk has room"));
        }
        let columns = ["path", "merchant_user_id", "c", "d", "e", "f", "g", "h", "i", "j"];
        add(&mut archive, "xl/t.xml", |out| {
            write!(out, "<sst>").expect("the disk has room");
            for text in columns {
                write!(out, "<si><t>{text}</t></si>").expect("the disk has room");
            }
            for n in 0..rows {
                let photo = photos::name(if n + 1 == rows { 0 } else { n });
                write!(out, "<si><t>photos/{photo}</t></si><si><t>{n:016x}</t></si>").expect("the disk has room");
            }
            write!(out, "</sst>").expect("the disk has room");
        });
        add(&mut archive, "xl/s.xml", |out| {
            write!(out, "<worksheet><sheetData>").expect("the disk has room");
            for row in 0..=rows {
                write!(out, r#"<row r="{}">"#, row + 1).expect("the disk has room");
                for (column, letter) in ('A'..='J').enumerate() {
                    let text = if row > 0 && column < 2 { columns.len() + 2 * (row - 1) + column } else { column };
                    write!(out, r#"<c r="{letter}{}" t="s"><v>{text}</v></c>"#, row + 1).expect("the disk has room");
                }
                write!(out, "</row>").expect("the disk has room");
            }
            write!(out, "</sheetData></worksheet>").expect("the disk has room");
        });
        archive.finish().expect("the disk has room");
        path
    }

    /// Writes an archive whose first members are photos. The others are not read.
    fn archive(&self, members: usize) -> PathBuf {
        let path = self.path("photos.zip");
        let photo = fs::read(self.path("photos").join(photos::name(0))).expect("the photo exists");
        let mut archive = ZipArchiveWriter::new(BufWriter::new(File::create(&path).expect("folder is writable")));
        for n in 0..members {
            let content = if n < ZIP_PHOTOS { &photo[..] } else { b"photo" };
            add(&mut archive, &format!("{n:08}.jpg"), |out| out.write_all(content).expect("the disk has room"));
        }
        archive.finish().expect("the disk has room");
        path
    }

    /// Takes in every row of a source, and sends one photo.
    fn take_in(&self, what: &str, rows: usize, source: &Path) {
        self.stub.take_answered();
        let (started, mut first_call) = (Instant::now(), None);
        let usage = child::measure_any(self.run(source).args(["--max-images", "1"]), || {
            if first_call.is_none() && self.stub.was_called() {
                first_call = Some(started.elapsed());
            }
            false
        });
        println!(
            "{rows} rows of {what} ({:.0} MB): {:.2} s, peak {:.0} MiB, first call after {:.0} ms",
            fs::metadata(source).expect("file exists").len() as f64 / 1e6,
            usage.elapsed.as_secs_f64(),
            mib(usage.peak),
            ms(first_call.expect("one photo was sent"))
        );
    }

    /// Imports the same file into a plain table, as users would without this program.
    fn import(&self, manifest: &Path, rows: usize) {
        let file = self.path("import.sqlite");
        cli::remove(&file);
        let import = format!(".import --csv '{}' rows", manifest.display());
        let mut command = Command::new("sqlite3");
        command.arg(&file).arg(import);
        if Command::new("sqlite3").arg("--version").stdout(Stdio::null()).status().is_ok() {
            let Usage { elapsed, peak, .. } = measure(&mut command, || false);
            let mut index = Command::new("sqlite3");
            index.arg(&file).arg("CREATE UNIQUE INDEX by_id ON rows (merchant_user_id)");
            let indexed = measure(&mut index, || false).elapsed;
            println!(
                "  sqlite3 .import of its {rows} rows: {:.2} s, and {:.2} s for a unique index, peak {:.0} MiB",
                elapsed.as_secs_f64(),
                indexed.as_secs_f64(),
                mib(peak)
            );
        }
    }

    /// Measures `status`, claiming a batch and later runs on a complete checkpoint.
    fn later_runs(&self, manifest: &Path, rows: usize, ids: Ids) {
        let checkpoint = manifest.with_extension("sqlite");
        let status = || measure(cli::command("status").arg("--checkpoint").arg(&checkpoint), || false).elapsed;
        println!("  status: {:.1} ms", ms(median((0..5).map(|_| status()))));
        let mut store = SqliteStore::open(&checkpoint, &self.binding(&checkpoint)).expect("valid checkpoint");
        let mut claim = |after: usize| {
            let started = Instant::now();
            let claimed = store.claim(ItemId(after as i64), 256).expect("checkpoint is readable");
            assert_eq!(claimed.len(), 256);
            started.elapsed()
        };
        println!("  next 256 pending: {:.2} ms", ms(median((0..9).map(|tenth| claim(rows / 10 * tenth + 1)))));
        drop(store);
        enrol_all_but_the_last(&checkpoint, rows);
        self.stub.take_answered();
        let (started, mut first_call) = (Instant::now(), None);
        measure(&mut self.run(manifest), || {
            if first_call.is_none() && self.stub.was_called() {
                first_call = Some(started.elapsed());
            }
            false
        });
        println!(
            "  run with only the last row to do: {:.2} s, its call after {:.2} s",
            started.elapsed().as_secs_f64(),
            first_call.expect("one photo was sent").as_secs_f64()
        );
        let usage = measure(&mut self.run(manifest), || false);
        println!("  run with nothing to do: {:.2} s, peak {:.0} MiB", usage.elapsed.as_secs_f64(), mib(usage.peak));
        self.grow(manifest, rows, ids);
        self.stub.take_answered();
        let (started, mut first_call) = (Instant::now(), None);
        let usage = child::measure_any(self.run(manifest).args(["--max-images", "1"]), || {
            if first_call.is_none() && self.stub.was_called() {
                first_call = Some(started.elapsed());
            }
            false
        });
        println!(
            "  manifest grown by 1 % and read again: {:.2} s, peak {:.0} MiB, first call after {:.2} s",
            usage.elapsed.as_secs_f64(),
            mib(usage.peak),
            first_call.expect("one photo was sent").as_secs_f64()
        );
    }

    /// Appends 1 % more rows.
    fn grow(&self, manifest: &Path, rows: usize, ids: Ids) {
        let mut file = BufWriter::new(fs::OpenOptions::new().append(true).open(manifest).expect("file exists"));
        let mut random = fastrand::Rng::with_seed(8);
        for n in rows..rows + rows / 100 {
            let id = ids.nth(n, &mut random);
            writeln!(file, "photos/{},{id:016x}", photos::name(0)).expect("the disk has room");
        }
        file.flush().expect("the disk has room");
    }

    fn binding(&self, checkpoint: &Path) -> String {
        let db = rusqlite::Connection::open(checkpoint).expect("file exists");
        db.query_row("SELECT value FROM settings WHERE name = 'binding'", [], |row| row.get(0)).expect("binding is set")
    }

    /// Checks the headers of `photos` photos in a warm cache; they are hard links to fewer files.
    fn check(&self, photos: usize) {
        let folder = self.path("many");
        fs::create_dir(&folder).expect("folder can be created");
        for n in 0..photos {
            let original = self.path("photos").join(photos::name(n % PHOTOS));
            fs::hard_link(original, folder.join(format!("{n}.jpg"))).expect("the file system has links");
        }
        let check = || {
            let report = self.path("report.csv");
            let mut command = cli::command("check");
            command.arg(&folder).args(["--headers-only", "--group", cli::GROUP, "--progress", "never", "--report"]);
            child::measure_any(command.arg(&report).stderr(Stdio::null()), || false)
        };
        let best = (0..3).map(|_| check()).min_by_key(|usage| usage.elapsed).expect("three of them");
        println!(
            "check --headers-only of {photos} photos ({PHOTOS} files and hard links to them): {:.2} s, {:.0} per second, peak {:.0} MiB",
            best.elapsed.as_secs_f64(),
            photos as f64 / best.elapsed.as_secs_f64(),
            mib(best.peak)
        );
    }
}

/// Marks all rows but the last as enrolled, as after a run of days.
fn enrol_all_but_the_last(checkpoint: &Path, rows: usize) {
    let db = rusqlite::Connection::open(checkpoint).expect("file exists");
    let last = "(SELECT id FROM items ORDER BY row DESC LIMIT 1)";
    let changed = db.execute(
        &format!(
            "UPDATE items SET state = 3, confirmed_by = 0, attempts = 1, enrolled_at = 1, first_intent_at = 1, quality = 'HIGH',
             sha256 = randomblob(32), size = {PHOTO_BYTES}, mark = 1, request_id = '7F1C9F4C-9C5D-5E4B-8B77-0A6D3F1E2B11'
             WHERE id <> {last}"
        ),
        [],
    );
    assert_eq!(changed.expect("no other writer"), rows - 1);
    db.execute_batch(&format!(
        "DELETE FROM tally; INSERT INTO tally VALUES (0, '', 1), (3, '', {}); PRAGMA wal_checkpoint(TRUNCATE)",
        rows - 1
    ))
    .expect("no other writer");
}
