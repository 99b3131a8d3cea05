//! Manifests as real programs write them: read, or refused with what to do, and nobody under a wrong id.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

use crate::support::{Ended, Enroll, Service, codes, export, photo, zip};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests");

/// A folder with photos `a.jpg` to `h.jpg`, and a manifest.
fn folder(name: &str, manifest: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in 'a'..='h' {
        fs::write(dir.path().join(format!("{name}.jpg")), photo(&name.to_string(), 0)).unwrap();
    }
    fs::write(dir.path().join(name), manifest).unwrap();
    dir
}

fn check(source: &Path, args: &[&str]) -> Ended {
    Enroll::new("check").arg(source).args(["--report", "jsonl"]).args(args).end()
}

/// The codes of the findings of a check, by row.
fn findings(ended: &Ended) -> Vec<(u64, String)> {
    let lines = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["row"].as_u64().unwrap(), line["code"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn odd_manifests_are_read_or_refused_with_advice() {
    let photo = "--column=path=Foto";
    let chinese: &[&str] = &["--column=path=照片", "--column=merchant_user_id=工号", "--encoding=gbk"];
    let none: &[(u64, &str)] = &[];
    let from_name: &[&str] = &["--id-from=name"];
    // Read, with these findings.
    for (name, args, expected) in [
        ("excel-german.csv", &["--encoding=windows-1252", photo][..], none),
        ("excel-unicode.csv", &[photo], none),
        ("powershell.csv", &[photo], none),
        ("chinese-gbk.csv", chinese, none),
        ("chinese-gbk.csv.gz", chinese, none),
        ("pandas.csv", &[], &[(2, "SuspiciousUserId"), (3, "MissingUserId"), (4, "SuspiciousUserId")][..]),
        ("pandas.json", &[], &[(1, "SuspiciousUserId"), (2, "SuspiciousUserId"), (3, "SuspiciousUserId")]),
        ("pandas.jsonl", &[], &[(1, "SuspiciousUserId"), (2, "SuspiciousUserId"), (3, "SuspiciousUserId")]),
        ("pandas-nan.csv", &[], &[(2, "SuspiciousUserId"), (3, "SuspiciousUserId"), (4, "SuspiciousUserId")]),
        ("pandas-nan.csv", &["--allow-odd-ids"], none),
        ("pandas.csv", &["--allow-odd-ids", from_name[0]], none),
        ("pandas-strings.json", &[], none),
    ] {
        let dir = folder(name, &fs::read(Path::new(MANIFESTS).join(name)).unwrap());
        let ended = check(&dir.path().join(name), args);
        let expected: Vec<(u64, String)> = expected.iter().map(|(row, code)| (*row, (*code).to_owned())).collect();
        assert_eq!(findings(&ended), expected, "{name} {args:?}: {ended:#?}");
    }
    // Refused as a whole, with these words.
    for (name, args, code, words) in [
        ("chinese-gbk.csv", &[][..], 3, "--encoding"),
        ("pandas-array.jsonl", &[], 3, "name it .json"),
        ("web-page.csv", &[], 3, "is a web page (HTML)"),
        ("workbook.csv", &[], 3, "is an .xlsx workbook: rename it to .xlsx, or give --input-format xlsx"),
    ] {
        let dir = folder(name, &fs::read(Path::new(MANIFESTS).join(name)).unwrap());
        let ended = check(&dir.path().join(name), args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{name}: {ended:#?}");
        assert!(ended.stderr.contains(words), "{name}: {}", ended.stderr);
    }
}

#[test]
fn workbooks_are_enrolled_and_exported_by_cell() {
    let columns = ["--column=path=照片", "--column=merchant_user_id=工号"];
    let everyone = ["00002", "0001", "123456789012345", "3", "4", "5", "E8"];
    for name in ["staff.xlsx", "libreoffice.xlsx"] {
        let dir = folder(name, &fs::read(Path::new(MANIFESTS).join(name)).unwrap());
        let service = Service::new();
        let ended = service.run_source(&dir.path().join(name)).args(columns).end();
        ended.is(0, &[("total", 7), ("enrolled", 7)]);
        assert_eq!(service.records().into_keys().collect::<Vec<_>>(), everyone, "{name}");
        assert!(ended.stderr.contains("hidden rows were read too"), "{}", ended.stderr);
        let rows = export(&dir.path().join(format!("{name}.enroll.sqlite")), &[]);
        let row = rows.iter().find(|row| row["merchant_user_id"] == "0001").unwrap();
        assert_eq!((&row["row"], &row["姓名"], &row["入职"]), (&2.into(), &"张三".into(), &"2024-03-01".into()));
    }
    let dir = folder("faults.xlsx", &fs::read(Path::new(MANIFESTS).join("faults.xlsx")).unwrap());
    let service = Service::new();
    let ended = service.run_source(&dir.path().join("faults.xlsx")).end();
    // No row of it parses.
    assert_eq!((ended.code, service.records().len()), (Some(3), 0), "{ended:#?}");
    let rows = export(&dir.path().join("faults.xlsx.enroll.sqlite"), &[]);
    let first = rows[0]["message"].as_str().unwrap();
    assert!(rows.len() == 8 && first.starts_with("cell B2 is a number of more than 15 digits"), "{first}");
    // A damaged number must not come back as text that a corrected export would send.
    assert!(rows[0]["merchant_user_id"].as_str().is_none_or(str::is_empty), "{:#}", rows[0]);
}

/// A workbook of these sheets, each with the columns path and id and one row.
fn workbook(sheets: &[(&str, [&str; 2])]) -> Vec<u8> {
    const KIND: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";
    let text = |text: &str| format!("<c t=\"inlineStr\"><is><t>{text}</t></is></c>");
    let row = |cells: [&str; 2]| format!("<row>{}</row>", cells.map(text).concat());
    let relation = |id: &str, kind: &str, target: &str| {
        format!("<Relationship Id=\"{id}\" Type=\"{KIND}/{kind}\" Target=\"{target}\"/>")
    };
    let all = |relations: String| format!("<Relationships>{relations}</Relationships>").into_bytes();
    let (mut names, mut relations, mut parts) = (String::new(), String::new(), Vec::new());
    for (name, cells) in sheets {
        names += &format!("<sheet name=\"{name}\" r:id=\"{name}\"/>");
        relations += &relation(name, "worksheet", &format!("{name}.xml"));
        let rows = row(["path", "merchant_user_id"]) + &row(*cells);
        let sheet = format!("<worksheet><sheetData>{rows}</sheetData></worksheet>").into_bytes();
        parts.push((format!("xl/{name}.xml"), sheet));
    }
    parts.push(("_rels/.rels".into(), all(relation("a", "officeDocument", "xl/workbook.xml"))));
    parts.push(("xl/_rels/workbook.xml.rels".into(), all(relations)));
    let book = format!("<workbook xmlns:r=\"r\"><sheets>{names}</sheets></workbook>").into_bytes();
    parts.push(("xl/workbook.xml".into(), book));
    zip(parts.iter().map(|(name, content)| (name.as_str(), content.clone())))
}

#[test]
fn rows_of_two_sheets_are_kept_apart() {
    let dir = folder("people.xlsx", &workbook(&[("A", ["../a.jpg", "a"]), ("B", ["../b.jpg", "b"])]));
    let (service, source) = (Service::new(), dir.path().join("people.xlsx"));
    let run = |args: &[&str]| service.run_source(&source).args(args).end();
    run(&[]).is(3, &[("total", 1), ("rejected", 1)]);
    run(&["--sheet", "B"]).is(3, &[("total", 2), ("rejected", 2)]);
    // The first sheet by its name is the one that is read without.
    run(&["--sheet", "A"]).is(3, &[("total", 2), ("rejected", 2)]);
    fs::write(&source, workbook(&[("A", ["../a.jpg", "a"]), ("B", ["b.jpg", "b"])])).unwrap();
    run(&["--sheet", "B"]).is(6, &[("total", 2), ("rejected", 1), ("enrolled", 1)]);
    let checkpoint = dir.path().join("people.xlsx.enroll.sqlite");
    let rows = export(&checkpoint, &[]);
    let mut sources: Vec<&str> = rows.iter().map(|row| row["source"].as_str().unwrap()).collect();
    sources.sort_unstable();
    assert!(sources[0].ends_with("/people.xlsx") && sources[1].ends_with("/people.xlsx#B"), "{sources:?}");
}

#[test]
fn export_keeps_the_reason_for_a_cell_that_is_empty_in_it() {
    let dir = folder("faults.xlsx", &fs::read(Path::new(MANIFESTS).join("faults.xlsx")).unwrap());
    let service = Service::new();
    let checkpoint = dir.path().join("faults.xlsx.enroll.sqlite");
    service.run_source(&dir.path().join("faults.xlsx")).end();
    let before = export(&checkpoint, &[]);
    let exported = dir.path().join("rejected.csv");
    let mut command = Enroll::new("export");
    command.args(["--status", "rejected", "--checkpoint"]).arg(&checkpoint).arg("-o").arg(&exported);
    assert_eq!(command.end().code, Some(0));
    // Run as it is, nothing was corrected.
    let mut run = service.run_source(&exported);
    let ended = run.arg("--checkpoint").arg(&checkpoint).end();
    ended.is(3, &[("rejected", 8)]);
    let after = export(&checkpoint, &[]);
    assert_eq!(codes(&before), codes(&after));
    let emptied = before.iter().zip(&after).filter(|(before, _)| before["merchant_user_id"].is_null());
    let kept = emptied.filter(|(before, after)| before["message"] == after["message"]).count();
    assert_eq!(kept, 7, "all but the id with a space, which is exported: {after:#?}");
}

#[test]
fn workbook_needs_its_file_and_an_existing_sheet() {
    let dir = folder("people.xlsx", &fs::read(Path::new(MANIFESTS).join("staff.xlsx")).unwrap());
    let source = dir.path().join("people.xlsx");
    let ended = check(&source, &["--sheet", "Staf"]);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("has no sheet Staf; did you mean Staff?; it has Old, Staff"), "{}", ended.stderr);
    let ended = Enroll::new("check").arg(&source).env("FACE_ENROLL_SHEET", "Old").end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let mut check = Enroll::new("check");
    check.args(["-", "--input-format", "xlsx"]).command().stdin(fs::File::open(&source).unwrap());
    let ended = check.end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("can't be read from standard input"), "{}", ended.stderr);
}

#[test]
fn manifest_that_is_refused_as_a_whole_sends_nobody() {
    for (name, text, code, words) in [
        (
            "m.jsonl",
            "[\n {\"path\":\"a.jpg\",\"id\":\"E1\"},\n {\"path\":\"b.jpg\",\"id\":\"E2\"}\n]\n",
            3,
            "name it .json",
        ),
        ("m.csv", "Emp ID,Photo\n1001,a.jpg\n1002,b.jpg\n", 2, "--column merchant_user_id=\"Emp ID\""),
        ("m.csv", "Emp ID,Photo\n1001,a.jpg\n1002,b.jpg\n", 2, "--id-from name"),
        ("m.csv", "PK\u{3}\u{4}[Content_Types].xml", 3, "is an .xlsx workbook"),
    ] {
        let dir = folder(name, text.as_bytes());
        let service = Service::new();
        let ended = service.run_source(&dir.path().join(name)).end();
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
        assert!(service.records().is_empty());
    }
}

#[test]
fn invisible_or_damaged_ids_are_never_sent() {
    let table = "path,merchant_user_id\na.jpg,\u{200B}E1\nb.jpg,E2\u{200E}\nc.jpg,\u{FEFF}E3\nd.jpg,E\u{AD}4\n\
                 e.jpg,6.22848E+17\nf.jpg,'0042\ng.jpg,\nh.jpg,می\u{200C}خواهم\n";
    let dir = folder("m.csv", table.as_bytes());
    let service = Service::new();
    service.run_source(&dir.path().join("m.csv")).end().is(6, &[("enrolled", 1), ("rejected", 7)]);
    assert_eq!(service.records().into_keys().collect::<Vec<_>>(), ["می\u{200C}خواهم"]);
    let rows = export(&dir.path().join("m.csv.enroll.sqlite"), &["--status", "rejected"]);
    let codes: Vec<&str> = rows.iter().map(|row| row["code"].as_str().unwrap()).collect();
    let (invisible, damaged) = ("InvalidUserId", "SuspiciousUserId");
    assert_eq!(codes, [invisible, invisible, invisible, invisible, damaged, damaged, "MissingUserId"]);
    assert!(rows[0]["message"].as_str().unwrap().contains("U+200B ZERO WIDTH SPACE at character 1"));
    service.run_source(&dir.path().join("m.csv")).arg("--allow-odd-ids").end().is(6, &[("enrolled", 3)]);
    assert!(service.records().contains_key("6.22848E+17") && service.records().contains_key("'0042"));
}

#[test]
fn settings_of_the_table_come_from_the_environment_too() {
    let dir = folder("m.csv", b"path^id\na.jpg^\xD5\xC5\nb.jpg^nan\n");
    let ended = Enroll::new("check")
        .arg(dir.path().join("m.csv"))
        .env("FACE_ENROLL_DELIMITER", "^")
        .env("FACE_ENROLL_ENCODING", "gbk")
        .env("FACE_ENROLL_ALLOW_ODD_IDS", "true")
        .end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    for (flag, value) in [("--delimiter", "ab"), ("--encoding", "klingon")] {
        let ended = check(&dir.path().join("m.csv"), &[flag, value]);
        assert_eq!(ended.code, Some(2), "{ended:#?}");
    }
}

#[test]
fn columns_with_the_names_of_our_export_come_out_again() {
    let table = "path,merchant_user_id,status,code,message,row,source,attempts,stage,Name,Name\n\
                 a.jpg,E1,active,C7,hello,12,HR,3,final,x,y\n";
    let lines = "{\"path\":\"a.jpg\",\"merchant_user_id\":\"E1\",\"status\":\"active\",\"code\":\"C7\",\"message\":\"hello\",\
                 \"row\":\"12\",\"source\":\"HR\",\"attempts\":\"3\",\"stage\":\"final\",\"Name\":\"x\",\"Name 2\":\"y\"}\n";
    let own = ["status", "code", "message", "row", "source", "attempts", "stage"];
    let values = ["active", "C7", "hello", "12", "HR", "3", "final"];
    for (name, text) in [("m.csv", table), ("m.jsonl", lines)] {
        let dir = folder(name, text.as_bytes());
        let service = Service::new();
        service.run_source(&dir.path().join(name)).end().is(0, &[("enrolled", 1)]);
        let checkpoint = dir.path().join(format!("{name}.enroll.sqlite"));
        let row = export(&checkpoint, &[]).remove(0);
        assert_eq!((&row["status"], &row["Name"], &row["Name 2"]), (&"enrolled".into(), &"x".into(), &"y".into()));
        let kept = |row: &Value| own.map(|name| row[format!("{name} 2")].as_str().unwrap_or("none").to_owned());
        assert_eq!(kept(&row), values, "{row:#}");

        // An export is a manifest, whose own columns are no fields of the manifest, in either format.
        for format in ["csv", "jsonl"] {
            let exported = dir.path().join(format!("export.{format}"));
            let ended = Enroll::new("export").arg("--checkpoint").arg(&checkpoint).arg("-o").arg(&exported).end();
            assert_eq!(ended.code, Some(0), "{ended:#?}");
            let again = dir.path().join(format!("again-{format}.sqlite"));
            let service = Service::new();
            service.run_source(&exported).arg("--checkpoint").arg(&again).end().is(0, &[("enrolled", 1)]);
            let row = export(&again, &[]).remove(0);
            assert_eq!(kept(&row), values, "{format}: {row:#}");
            let names: Vec<&String> = row.as_object().unwrap().keys().collect();
            assert!(!names.iter().any(|name| name.ends_with(" 3")), "{format}: {names:?}");
        }
    }
}

#[test]
fn similar_ids_are_warned_about_in_a_check() {
    let dir = folder("m.csv", "path,id\na.jpg,Müller\nb.jpg,Mu\u{308}ller\nc.jpg,E1\nd.jpg,e1\ne.jpg,E1\n".as_bytes());
    let ended = check(&dir.path().join("m.csv"), &[]);
    let similar = |row| (row, "SimilarUserId".to_owned());
    assert_eq!(findings(&ended), [similar(3), similar(5), (6, "DuplicateUserId".to_owned())]);
    let ended = Enroll::new("check").arg(dir.path().join("m.csv")).arg("--json").end();
    let summary: Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
    let expected: BTreeMap<&str, u64> = [("SimilarUserId", 2)].into();
    assert_eq!(summary["warnings"], serde_json::json!(expected), "{summary:#}");
}
