//! What does not grow with the manifest: memory.

use std::{fmt::Write as _, fs, io::Write as _, process::Child, time::Duration};

use face_enroll::sandbox::Settings;
use rusqlite::Connection;

use crate::{
    reading::{piped, start},
    support::{Archive, Ended, Enroll, GROUP, Service, export, photo, wait_until, zip_of_pieces},
};

const ROWS: usize = 100_000;
/// Of 500 KB each: twice the memory that the run may take.
const LARGE_ROWS: u64 = 400;

/// One photo under many ids: what counts here is the rows.
fn many_rows() -> Archive {
    let archive = Archive::of(0, 0);
    fs::write(archive.path().join("photos/one.jpg"), photo("one", 80_000)).unwrap();
    let mut manifest = String::from("path,merchant_user_id,department\n");
    for n in 0..ROWS {
        writeln!(manifest, "photos/one.jpg,employee-{n:06},department {}", n % 100).unwrap();
    }
    archive.write(&manifest);
    archive
}

/// Peak resident memory of a process that is still there, in MiB. Without pages of files, most of which are the binary's:
/// a debug build has 10 MiB more of them.
fn peak_mib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some((kib("VmHWM:")? - kib("RssFile:")?).div_ceil(1_024))
}

/// Processor time of a process that is still there.
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Fields 14 and 15 (proc_pid_stat(5)) in ticks of 10 ms; the first two end with the parenthesis.
    let fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(2);
    Some(Duration::from_millis(fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10))
}

/// Waits for the end, and returns peak memory in MiB and processor time.
pub fn usage_until_end(child: &mut Child) -> (u64, Duration) {
    let (mut peak, mut cpu) = (0, Duration::ZERO);
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_mib(child.id()).unwrap_or(0));
        cpu = cpu.max(cpu_time(child.id()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(5));
    }
    (peak, cpu)
}

fn peak_until_end(child: &mut Child) -> u64 {
    usage_until_end(child).0
}

#[test]
fn hundred_thousand_rows_take_less_than_60_mib() {
    let archive = many_rows();
    let service = Service::with_quota(0, Duration::from_millis(20));
    // The first run takes every row in, and sends some.
    let ended = service.run(&archive).args(["--max-images", "300"]).end();
    ended.is(8, &[("total", ROWS as u64), ("enrolled", 300)]);

    let mut child = service.run(&archive).args(["--max-images", "3000", "--group", GROUP]).spawn();
    let peak = peak_until_end(&mut child);
    let ended = Ended::from(child.wait_with_output().unwrap());
    ended.is(8, &[("total", ROWS as u64), ("newly_enrolled", 3_000)]);
    println!("peak {peak} MiB");
    assert!((1..60).contains(&peak), "{peak} MiB");
}

#[test]
fn workbook_that_is_a_bomb_ends_soon_and_within_100_mib() {
    let kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let relation = |id: &str, name: &str, target: &str| {
        format!(r#"<Relationships><Relationship Id="{id}" Type="{kind}/{name}" Target="{target}"/>"#)
    };
    let package = relation("a", "officeDocument", "xl/workbook.xml") + "</Relationships>";
    let strings = format!(r#"<Relationship Id="c" Type="{kind}/sharedStrings" Target="strings.xml"/></Relationships>"#);
    let book = relation("b", "worksheet", "sheet.xml") + &strings;
    let workbook = r#"<workbook xmlns:r="r"><sheets><sheet name="S" r:id="b"/></sheets></workbook>"#;
    let text = |text: &str| format!(r#"<c t="inlineStr"><is><t>{text}</t></is></c>"#);
    let header = format!("<worksheet><sheetData><row>{}{}</row>", text("path"), text("id"));
    let mib = "x".repeat(1 << 20);
    let end = "</sheetData></worksheet>";
    let last = r#"<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>"#;
    type Repeated<'a> = &'a [(&'a str, usize)];
    let letters = "<si><t>a</t></si>".repeat(1 << 10);
    let empty = "<a/>".repeat(1 << 10);
    let long = format!("<si><t>{mib}</t></si>");
    let cases: [(&str, Repeated<'_>, Repeated<'_>); 7] = [
        ("a text of 1 GiB", &[("<sst><si><t>", 1), (&mib, 1 << 10), ("</t></si></sst>", 1)], &[(&header, 1), (end, 1)]),
        ("a cell of 64 MiB", &[("<sst/>", 1)], &[(&header, 1), ("<row><c t=\"str\"><v>", 1), (&mib, 64)]),
        ("texts of one letter", &[("<sst>", 1), (&letters, 16 << 10), ("</sst>", 1)], &[(&header, 1), (end, 1)]),
        ("texts of 1 MiB", &[("<sst>", 1), (&long, 1 << 8), ("</sst>", 1)], &[(&header, 1), (end, 1)]),
        ("no texts", &[("<sst>", 1), (&empty, 64 << 10), ("</sst>", 1)], &[(&header, 1), (end, 1)]),
        ("no rows", &[("<sst/>", 1)], &[(&header, 1), (&empty, 64 << 10), (end, 1)]),
        ("a cell in the last corner", &[("<sst/>", 1)], &[(&header, 1), (last, 1), (end, 1)]),
    ];
    for (name, strings, sheet) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bomb.xlsx");
        let parts: &[(&str, &[(&str, usize)])] = &[
            ("_rels/.rels", &[(&package, 1)]),
            ("xl/workbook.xml", &[(workbook, 1)]),
            ("xl/_rels/workbook.xml.rels", &[(&book, 1)]),
            ("xl/strings.xml", strings),
            ("xl/sheet.xml", sheet),
        ];
        // A piece, and how often it is repeated.
        let members = parts.iter().map(|(name, pieces)| {
            (*name, pieces.iter().flat_map(|(piece, times)| std::iter::repeat_n(piece.as_bytes(), *times)))
        });
        fs::write(&path, zip_of_pieces(members)).unwrap();
        let start = std::time::Instant::now();
        let mut child = Enroll::new("check").arg(&path).spawn();
        let peak = peak_until_end(&mut child);
        let ended = Ended::from(child.wait_with_output().unwrap());
        let took = start.elapsed();
        println!("{name}: peak {peak} MiB, {took:?}, {}", ended.stderr.trim());
        assert_eq!(ended.code, Some(3), "{name}: {ended:#?}");
        assert!(peak < 100, "{name}: {peak} MiB");
        assert!(took < Duration::from_secs(10), "{name}: {took:?}");
    }
}

#[test]
fn first_row_of_an_id_keeps_it_in_any_order() {
    let archive = Archive::of(0, 0);
    for name in ["one", "two"] {
        fs::write(archive.path().join(format!("photos/{name}.jpg")), photo(name, 0)).unwrap();
    }
    let mut random = fastrand::Rng::with_seed(3);
    let mut ids: Vec<String> = (0..120_000).map(|_| format!("{:016x}", random.u64(..))).collect();
    // One id twice in one batch, and in batches near and far; and a row that is no item.
    let again = [(2, 11), (5, 20_000), (21_000, 29_000), (100_000, 101_000)];
    for (first, again) in again {
        ids[again] = ids[first].clone();
    }
    ids[110_000] = "x".repeat(40);
    let mut manifest = String::from("path,merchant_user_id\n");
    for (at, id) in ids.iter().enumerate() {
        let photo = if again.iter().any(|(_, again)| *again == at) { "two" } else { "one" };
        writeln!(manifest, "photos/{photo}.jpg,{id}").unwrap();
    }
    archive.write(&manifest);
    let service = Service::new();
    let killed =
        service.run(&archive).args(["--max-images", "40"]).env("FACE_ENROLL_CRASH", "ingest.before_commit:9").end();
    assert_eq!(killed.code, None, "it was not killed: {killed:#?}");
    for _ in 0..2 {
        let ended = service.run(&archive).args(["--max-images", "40"]).end();
        ended.is(8, &[("total", 120_000), ("rejected", 5), ("vanished", 0)]);
        let rows = export(&archive.checkpoint(), &["--status", "rejected"]);
        let refused: Vec<_> =
            rows.iter().map(|row| (row["row"].as_u64().unwrap(), row["code"].as_str().unwrap())).collect();
        let expected = [
            (13, "DuplicateUserId"),
            (20_002, "DuplicateUserId"),
            (29_002, "DuplicateUserId"),
            (101_002, "DuplicateUserId"),
            (110_002, "InvalidUserId"),
        ];
        assert_eq!(refused, expected);
    }
    assert!(service.records().values().all(|records| *records == 1));
}

#[test]
fn memory_is_bounded_by_bytes_where_rows_are_large() {
    let (archive, service) = (Archive::of(1, 0), Service::new());
    let note = "a note. ".repeat(62_500);
    let row = move |n| format!("photos/u00001.jpg,u{n},{note}");
    let (mut child, mut input) = start(&mut piped(&service, &archive, "csv"));
    writeln!(input, "path,merchant_user_id,note\n{}", row(0)).unwrap();
    wait_until("the first row is not sent", || service.records().len() == 1);
    // While nothing can be committed, the reader would fill the memory.
    let busy = Connection::open(archive.checkpoint()).unwrap();
    busy.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writing = std::thread::spawn(move || (1..LARGE_ROWS).for_each(|n| writeln!(input, "{}", row(n)).unwrap()));
    std::thread::sleep(Duration::from_secs(3));
    busy.execute_batch("ROLLBACK").unwrap();
    let peak = peak_until_end(&mut child);
    writing.join().unwrap();
    Ended::from(child.wait_with_output().unwrap()).is(0, &[("total", LARGE_ROWS), ("enrolled", LARGE_ROWS)]);
    println!("peak {peak} MiB");
    assert!((1..110).contains(&peak), "{peak} MiB");
}

#[test]
fn hundred_thousand_objects_take_less_than_60_mib() {
    let buckets = [("faces".to_owned(), None)].into();
    let service = Service::with(Settings { buckets, ..Settings::default() });
    for n in 0..ROWS {
        let bytes = if n == 0 { photo("one", 0) } else { Vec::new() };
        service.sandbox.put_object("faces", &format!("archive/{:03}/employee-{n:06}.jpg", n / 1_000), bytes, None);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut run = service.run_source("oss://faces/archive/".as_ref());
    run.args(["--oss-endpoint", &service.sandbox.endpoint(), "--max-errors", "1", "--checkpoint"]);
    run.arg(dir.path().join("c.sqlite"));
    let started = std::time::Instant::now();
    let mut child = run.spawn();
    let peak = peak_until_end(&mut child);
    Ended::from(child.wait_with_output().unwrap()).is(8, &[("total", ROWS as u64)]);
    println!("peak {peak} MiB, {:?}", started.elapsed());
    assert!((1..60).contains(&peak), "{peak} MiB");
    let lists = service.calls(face_enroll::sandbox::Action::ListObjects);
    assert_eq!(lists, ROWS / 1_000, "one request for each thousand keys");
}
