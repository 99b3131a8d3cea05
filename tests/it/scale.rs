//! What does not grow with the manifest: memory.

use std::{fmt::Write, fs, process::Child, time::Duration};

use face_enroll::sandbox::Settings;

use crate::support::{Archive, Ended, GROUP, Service, export, photo};

const ROWS: usize = 100_000;
/// Of 1 MB each.
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

/// Peak resident memory of a process that is still there, in MiB.
fn peak_mib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib / 1_024)
}

fn peak_until_end(child: &mut Child) -> u64 {
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_mib(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    peak
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
fn first_row_of_an_id_keeps_it_in_whatever_order_ids_come() {
    let archive = Archive::of(0, 0);
    fs::write(archive.path().join("photos/one.jpg"), photo("one", 0)).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut ids: Vec<String> = (0..120_000).map(|_| format!("{:016x}", random.u64(..))).collect();
    // One id twice in one batch, and in batches near and far; and a row that is no item.
    for (first, again) in [(2, 11), (5, 20_000), (21_000, 29_000), (100_000, 101_000)] {
        ids[again] = ids[first].clone();
    }
    ids[110_000] = "x".repeat(40);
    let manifest =
        ids.iter().fold(String::from("path,merchant_user_id\n"), |text, id| text + "photos/one.jpg," + id + "\n");
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
    let archive = Archive::of(1, 0);
    let source = archive.path().join("people.jsonl");
    let mut file = std::io::BufWriter::new(fs::File::create(&source).unwrap());
    let note = "x".repeat(1_000_000);
    for n in 0..LARGE_ROWS {
        use std::io::Write as _;
        writeln!(file, r#"{{"path":"photos/u00001.jpg","merchant_user_id":"u{n}","note":"{note}"}}"#).unwrap();
    }
    drop(file);
    let service = Service::new();
    let mut child = service.run_source(&source).args(["--max-images", "1"]).spawn();
    let peak = peak_until_end(&mut child);
    Ended::from(child.wait_with_output().unwrap()).is(8, &[("total", LARGE_ROWS), ("enrolled", 1)]);
    println!("peak {peak} MiB");
    assert!((1..200).contains(&peak), "{peak} MiB");
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
    run.args(["--oss-endpoint", &service.sandbox.endpoint(), "--max-images", "1", "--checkpoint"]);
    run.arg(dir.path().join("c.sqlite"));
    let started = std::time::Instant::now();
    let mut child = run.spawn();
    let peak = peak_until_end(&mut child);
    Ended::from(child.wait_with_output().unwrap()).is(8, &[("total", ROWS as u64), ("enrolled", 1)]);
    println!("peak {peak} MiB, {:?}", started.elapsed());
    assert!((1..60).contains(&peak), "{peak} MiB");
    let lists = service.calls(face_enroll::sandbox::Action::ListObjects);
    assert_eq!(lists, ROWS / 1_000, "one request for each thousand keys");
}
