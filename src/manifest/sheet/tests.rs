use std::{io::Write, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::{
    domain::{Item, PhotoSource},
    manifest::test_support::{read_as, settings},
};

const RELATIONS: &str = "http://schemas.openxmlformats.org/officeDocument/2006/relationships";

/// A ZIP archive of these parts.
fn zip(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
    for (name, content) in parts {
        let (mut entry, config) =
            archive.new_file(name).compression_method(rawzip::CompressionMethod::DEFLATE).start().unwrap();
        let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast());
        let mut writer = config.wrap(encoder);
        writer.write_all(content).unwrap();
        let (encoder, descriptor) = writer.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

/// The parts of a workbook that has one sheet with these rows, and these shared strings.
fn parts(rows: &str, strings: &str) -> Vec<(&'static str, Vec<u8>)> {
    let relation = |id: &str, kind: &str, target: &str| {
        format!(r#"<Relationship Id="{id}" Type="{RELATIONS}/{kind}" Target="{target}"/>"#)
    };
    let relations = |all: &[String]| format!("<Relationships>{}</Relationships>", all.concat()).into_bytes();
    let styles = [0, 1, 164, 4, 14].map(|id| format!(r#"<xf numFmtId="{id}"/>"#)).concat();
    vec![
        ("_rels/.rels", relations(&[relation("r", "officeDocument", "/xl/book.xml")])),
        ("xl/book.xml", br#"<x:workbook xmlns:r="r"><x:sheets><x:sheet name="S &amp; T" r:id="a"/></x:sheets></x:workbook>"#.to_vec()),
        (
            "xl/_rels/book.xml.rels",
            relations(&[
                relation("a", "worksheet", "sheets/one.xml"),
                relation("b", "styles", "styles.xml"),
                relation("c", "sharedStrings", "strings.xml"),
            ]),
        ),
        (
            "xl/styles.xml",
            format!(
                r#"<s><numFmts><numFmt numFmtId="164" formatCode="00000"/></numFmts><cellStyleXfs><xf numFmtId="9"/></cellStyleXfs><cellXfs>{styles}</cellXfs></s>"#
            )
            .into_bytes(),
        ),
        ("xl/strings.xml", format!("<sst>{strings}</sst>").into_bytes()),
        ("xl/sheets/one.xml", format!("<worksheet><sheetData>{rows}</sheetData></worksheet>").into_bytes()),
    ]
}

fn workbook(rows: &str, strings: &str) -> Vec<u8> {
    let parts = parts(rows, strings);
    zip(&parts.iter().map(|(name, content)| (*name, content.as_slice())).collect::<Vec<_>>())
}

const HEADER: &str = r#"<row r="1"><c t="inlineStr"><is><t>path</t></is></c><c t="inlineStr"><is><t>id</t></is></c><c t="inlineStr"><is><t>note</t></is></c></row>"#;

/// Reads a workbook with the columns path, id and note and these other rows.
fn read(rows: &str) -> Result<Vec<Row>, SourceError> {
    read_as("m.xlsx", &workbook(&format!("{HEADER}{rows}"), "<si><t>a.jpg</t></si>"), &settings())
}

fn show(row: &Row) -> String {
    match row {
        Ok(Item { row, user, picture: PhotoSource::Path(path), extra, .. }) => {
            let extra: Vec<&str> = extra.iter().map(|(_, value)| value.as_str()).collect();
            format!("{row} {user} {} {}", path.file_name().unwrap().to_string_lossy(), extra.join(" "))
        }
        Ok(Item { row, user, .. }) => format!("{row} {user}"),
        Err(error) => format!("{} {}: {}", error.row, error.defect.code(), error.message),
    }
}

fn shown(rows: &str) -> Vec<String> {
    read(rows).unwrap().iter().map(show).collect()
}

fn manifest(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(name)).unwrap()
}

fn refusal(name: &str, bytes: &[u8], settings: &Settings) -> String {
    let error = read_as(name, bytes, settings).unwrap_err();
    error.to_string()
}

#[test]
fn ids_of_real_workbooks_are_read() {
    let columns = ["path=照片", "merchant_user_id=工号"].map(|column| column.parse().unwrap()).to_vec();
    let chinese = Settings { columns, ..settings() };
    for name in ["staff.xlsx", "libreoffice.xlsx"] {
        let rows = read_as(name, &manifest(name), &chinese).unwrap();
        let rows: Vec<String> = rows.iter().map(show).collect();
        let expected = [
            "2 0001 a.jpg 张三 2024-03-01",
            "3 00002 b.jpg x 12.5",
            "4 3 c.jpg x 12.5",
            "5 4 d.jpg x 12.5",
            "6 5 e.jpg x 12.5",
            "7 123456789012345 f.jpg x 12.5",
            "9 E8 h.jpg rich TRUE",
        ];
        assert_eq!(rows, expected, "{name}");
    }
    let rows: Vec<String> =
        read_as("m.xlsm", &manifest("xlsxwriter.xlsx"), &settings()).unwrap().iter().map(show).collect();
    let never_computed = "6 InvalidUserId: cell B6 is a formula that was never computed: open the workbook in a \
                          spreadsheet and save it";
    let beside = "7 WrongFieldCount: cell F7 has a value, but the header has no column there: name the column or clear \
                  the cell";
    let expected =
        ["3 7 a.jpg _x0041_ & <b>\nnext 2024-03-01T06:00:00", "4 008 b.jpg ", "5 E9 c.jpg ", never_computed, beside];
    assert_eq!(rows, expected);
}

#[test]
fn cells_that_are_no_sure_id_are_refused_by_name() {
    let rows = read_as("faults.xlsx", &manifest("faults.xlsx"), &settings()).unwrap();
    let words = [
        "cell B2 is a number of more than 15 digits",
        "cell B3 is a number shown as #,##0: format the column as Text",
        "cell B4 is a date",
        "cell B5 is a boolean",
        "cell B6 is the spreadsheet error #N/A",
        "cell B7 is a formula that was never computed",
        "cell B8: merchant_user_id starts or ends with white space",
        "cell B9 is a picture",
    ];
    for (row, words) in rows.iter().zip(words) {
        let error = row.as_ref().unwrap_err();
        assert_eq!(error.defect, RowErrorKind::InvalidUserId);
        assert!(error.message.starts_with(words), "{}", error.message);
        // A damaged number must not come back as the text of an export.
        assert!(error.fields.user.is_none() || error.row == 8, "{:?}", error.fields.user);
    }
    assert_eq!(rows.len(), words.len());
}

#[test]
fn cells_of_every_type_are_read() {
    let rows = [
        r#"<row r="3"><c r="A3" t="s"><v>0</v></c><c r="B3" s="2"><v>7</v></c><c r="C3" s="4"><v>45352</v></c></row>"#,
        r#"<row><c t="str"><f>X()</f><v>b.jpg</v></c><c><v>8</v></c><c t="d"><v>2024-03-01</v></c></row>"#,
        r#"<row r="9"><c t="s"><v>0</v></c><c t="inlineStr"><is><r><t>E</t></r><rPh><t>no</t></rPh><r><t>&#49;&amp;</t></r></is></c><c t="b"><v>0</v></c></row>"#,
        r#"<row r="10"><c r="A10"/><c r="B10" t="str"><v> </v></c><c r="C10" s="1"/></row><row r="11"/>"#,
        r#"<row r="12"><c r="A12" t="s"><v>0</v></c><c r="B12" t="n"><v>1.2E1</v></c><c t="e"><v>#SPILL!</v></c></row>"#,
        r#"<x:row r="13"><x:c r="A13" t="s"><x:v>0</x:v></x:c><x:c r="B13"><x:v>13</x:v></x:c></x:row>"#,
    ];
    assert_eq!(
        shown(&rows.concat()),
        [
            "3 00007 a.jpg 2024-03-01",
            "4 8 b.jpg 2024-03-01",
            "9 E1& a.jpg FALSE",
            "12 12 a.jpg #SPILL!",
            "13 13 a.jpg ",
        ]
    );
}

#[test]
fn pictures_in_cells_are_refused_with_advice() {
    for cell in [
        r#"<c t="str"><f>_xlfn.DISPIMG("ID_1",1)</f><v>=DISPIMG("ID_1",1)</v></c>"#,
        r#"<c t="str"><v>=DISPIMG("ID_1",1)</v></c>"#,
        r#"<c t="e"><f>_xlfn.IMAGE("https://h/a.jpg")</f><v>#VALUE!</v></c>"#,
        r##"<c t="e" vm="1"><v>#VALUE!</v></c>"##,
    ] {
        let row = shown(&format!(r#"<row r="2">{cell}<c><v>1</v></c></row>"#)).remove(0);
        assert!(
            row.starts_with("2 EmbeddedPhoto: cell A2 is a picture inside the cell") && row.contains("save the photos")
        );
    }
}

#[test]
fn faults_of_fields_name_their_cell() {
    let text = |text: &str| format!(r#"<c t="inlineStr"><is><t>{text}</t></is></c>"#);
    for (cells, message) in [
        ([text("../a.jpg"), text("1")], "OutsideRoot: cell A2: its path leads out of"),
        ([text("a.jpg"), text(&"x".repeat(33))], "InvalidUserId: cell B2: merchant_user_id has 33 characters"),
        ([text("a.jpg"), text("6.2E+17")], "SuspiciousUserId: cell B2: "),
        ([text("a.jpg"), text("")], "MissingUserId: cell B2: "),
        ([text(""), text("1")], "MissingPicture: cell A2: "),
        ([r#"<c s="3"><v>1</v></c>"#.into(), text("1")], "UnreadableRow: cell A2 is a number shown as #,##0.00"),
    ] {
        let row = shown(&format!(r#"<row r="2">{}</row>"#, cells.concat())).remove(0);
        assert!(row.starts_with(&format!("2 {message}")), "{row}");
    }
}

#[test]
fn sheet_is_chosen_by_name() {
    let bytes = manifest("staff.xlsx");
    let with = |sheet: &str| Settings { sheet: Some(sheet.to_owned()), ..settings() };
    for name in ["Old", "old "] {
        let rows = read_as("m.xlsx", &bytes, &with(name)).unwrap();
        assert_eq!(show(&rows[0]), "2 old a.jpg ");
    }
    let refused = read_as("m.xlsx", &bytes, &with("Staf")).unwrap_err();
    assert!(refused.is_usage());
    assert!(refused.to_string().ends_with("has no sheet Staf; did you mean Staff?; it has Old, Staff"), "{refused}");
}

#[test]
fn other_files_are_refused_with_what_to_do() {
    let plain = zip(&[("photos/a.jpg", b"\xFF\xD8\xFF")]);
    let binary = parts("", "");
    let binary: Vec<(&str, &[u8])> = binary
        .iter()
        .map(|(name, content)| match *name {
            "_rels/.rels" => (*name, &br#"<Relationships><Relationship Id="r" Type="x/officeDocument" Target="xl/workbook.bin"/></Relationships>"#[..]),
            name => (name, content.as_slice()),
        })
        .collect();
    let encrypted = b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0";
    let old = "is an old Excel workbook (.xls) or one with a password: save it as .xlsx without a password";
    let ods = "is an OpenDocument spreadsheet (.ods): save it as .xlsx or as CSV UTF-8";
    for (name, bytes, words) in [
        ("m.xlsx", manifest("staff.xls"), old),
        ("m.xls", manifest("staff.xls"), old),
        ("m.xlsx", encrypted.to_vec(), old),
        ("m.xlsx", manifest("staff.ods"), ods),
        ("m.ods", manifest("staff.ods"), ods),
        ("m.xlsx", plain.clone(), "is a ZIP archive: name it .zip if it holds photos, or unpack it"),
        ("m.xlsx", zip(&binary), "is a binary workbook (.xlsb): save it as .xlsx"),
        ("m.xlsx", b"path,id\na.jpg,1\n".to_vec(), "is no workbook: name it after its format, such as .csv"),
        ("m.xlsx", b"<html><table>".to_vec(), "is a web page (HTML)"),
        ("m.xlsx.gz", manifest("staff.xlsx"), "is a compressed workbook: decompress it"),
        ("m.csv", manifest("staff.xlsx"), "is an .xlsx workbook: rename it to .xlsx"),
        ("m.xlsx", Vec::new(), "is empty"),
    ] {
        let message = refusal(name, &bytes, &settings());
        assert!(message.contains(words), "{name}: {message}");
    }
}

#[test]
fn damaged_workbook_is_reported_with_its_place() {
    let whole = workbook(&format!("{HEADER}<row r=\"2\"><c><v>1</v></c></row>"), "");
    let message = refusal("m.xlsx", &whole[..whole.len() / 2], &settings());
    assert!(message.contains("its ZIP container is damaged or truncated"), "{message}");
    for (rows, words) in [
        (r#"<row r="2"><c r="A3"/></row>"#, "row 2 has a cell of row 3"),
        (r#"<row r="2"><c r="B2"/><c r="A2"/></row>"#, "cell A2 is out of order"),
        (r#"<row r="5"/><row r="5"/>"#, "row 5 is out of order"),
        (r#"<row r="1048577"><c><v>1</v></c></row>"#, "row 1048577 is out of order"),
        (r#"<row r="2"><c r="A2" t="s"><v>1</v></c></row>"#, "cell A2: its text is missing"),
        (r#"<row r="2"><c t="what"><v>1</v></c></row>"#, "it has a cell of type what"),
        (r#"<row r="2"><c t="n"><v>x</v></c></row>"#, "cell A2: its number is damaged"),
        (r#"<row r="2"><c></row>"#, "its XML is damaged"),
        ("<row r=\"2\"><c t=\"str\"><v>&lol;</v></c></row>", "unknown entity"),
    ] {
        let message = refusal("m.xlsx", &workbook(&format!("{HEADER}{rows}"), ""), &settings());
        assert!(message.starts_with("can't read the workbook") && message.contains(words), "{message}");
    }
}

#[test]
fn bombs_end_at_the_budget() {
    let repeat = |text: &str, bytes: usize| text.repeat(bytes / text.len());
    let large = 64 << 20;
    for (rows, strings, words) in [
        (String::new(), format!("<si><t>{}</t></si>", repeat("x", large)), "more than 8 MiB"),
        (String::new(), format!("<si>{}</si>", repeat("<r><t>x</t></r>", large)), "more than 8 MiB"),
        (format!("<row>{}", repeat(" ", large)), String::new(), "more than 8 MiB"),
        (format!("<row><c t=\"str\"><v>{}", repeat("</c>x", large)), String::new(), "its XML is damaged"),
        (format!("<row><c x=\"{}", repeat("</c>", large)), String::new(), "more than 8 MiB"),
        (format!("<!--{}", repeat("</c></row>", large)), String::new(), "more than 8 MiB"),
        (repeat("<a>", 1 << 10), String::new(), "nested too deeply"),
    ] {
        let message = refusal("m.xlsx", &workbook(&format!("{HEADER}{rows}"), &strings), &settings());
        assert!(message.contains(words), "{words}: {message}");
    }
    let last = r#"<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>"#;
    assert!(shown(last)[0].starts_with("1048576 WrongFieldCount: cell XFD1048576 has a value"));
}

#[test]
fn header_that_lies_about_a_part_is_refused() {
    let whole = workbook(&format!("{HEADER}<row r=\"2\"><c><v>1</v></c></row>"), "");
    let directory = whole.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    // Sizes and checksum of each entry of the directory, 16 to 27 bytes from its start.
    for (offset, value) in [(16, 1_u8), (24, 1), (24, 0xFF), (27, 0xFF)] {
        let mut lying = whole.clone();
        let entries = (directory..lying.len()).filter(|at| lying[*at..].starts_with(b"PK\x01\x02")).collect::<Vec<_>>();
        for at in entries {
            lying[at + offset] ^= value;
        }
        let message = refusal("m.xlsx", &lying, &settings());
        assert!(message.starts_with("can't read the workbook"), "{message}");
    }
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 1..8)) {
        let mut file = manifest("libreoffice.xlsx");
        let at = at.index(file.len() - bytes.len());
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        let _ = read_as("m.xlsx", &file, &settings());
    }

    #[test]
    fn damaged_xml_never_panics(at in any::<prop::sample::Index>(), text in "[<>/=\"&;a-z0-9 ]{1,6}") {
        let row = r#"<row r="2"><c r="A2" t="s" s="1"><f>A1</f><v>0</v></c><c t="inlineStr"><is><t>E</t></is></c></row>"#;
        let mut rows = row.to_owned();
        let at = at.index(rows.len() - text.len());
        rows.replace_range(at..at + text.len(), &text);
        let _ = read(&rows);
    }

    #[test]
    fn id_is_the_text_or_the_certain_digits(text in "[0-9A-Za-z]{1,20}", number in 0_u64..1_000_000_000_000_000) {
        let cells = |id: &str| format!(r#"<row r="2"><c t="s"><v>0</v></c>{id}</row>"#);
        let id = |id: &str| read(&cells(id)).unwrap().remove(0).unwrap().user.to_string();
        prop_assert_eq!(id(&format!(r#"<c t="inlineStr"><is><t>{text}z9</t></is></c>"#)), format!("{text}z9"));
        prop_assert_eq!(id(&format!("<c><v>{number}</v></c>")), number.to_string());
        prop_assert_eq!(id(&format!(r#"<c s="2"><v>{number}</v></c>"#)), format!("{number:05}"));
    }
}
