//! The parts of a workbook that its sheets refer to: their names, the shared strings and the number formats.

use quick_xml::events::Event;

use super::{
    package::{Bytes, Package, Size},
    value::{Formats, NumberFormat},
    xml::{Xml, attribute, flag},
};
use crate::manifest::content::{self, ForeignContent};

/// Most cell styles; a spreadsheet allows about 64,000.
const MAX_STYLES: usize = 1 << 16;
/// Bytes of texts that any workbook may have, and more of them per byte of their part: rows with long texts that differ by a
/// number have 20.
const FREE_TEXT_BYTES: u64 = 32 << 20;
const TEXT_BYTES_PER_BYTE: u64 = 32;
/// Most sheets that are listed.
const MAX_SHEETS: usize = 10_000;

/// An open workbook.
pub(super) struct Workbook {
    package: Package,
    pub(super) sheets: Vec<Sheet>,
    strings: Option<String>,
    styles: Option<String>,
    is_1904: bool,
    /// Whether formulas were written without values, to be computed when a spreadsheet opens the file.
    pub(super) is_uncomputed: bool,
}

/// A worksheet.
pub(super) struct Sheet {
    pub(super) name: String,
    pub(super) is_visible: bool,
    part: String,
}

/// Why a file is not read as a workbook.
pub(super) enum WorkbookError {
    /// It is something else.
    Foreign(ForeignContent),
    /// It is damaged, or beyond a limit.
    Damaged(String),
}

impl From<String> for WorkbookError {
    fn from(problem: String) -> Self {
        Self::Damaged(problem)
    }
}

/// A part that another part refers to.
struct Relation {
    id: String,
    /// Last segment of its type, such as `worksheet`.
    kind: String,
    part: String,
}

impl Workbook {
    pub(super) fn open(bytes: Bytes, len: u64) -> Result<Self, WorkbookError> {
        let package = Package::open(bytes, len)?;
        let Some(main) = relations(&package, "")?.into_iter().find(|relation| relation.kind == "officeDocument") else {
            let is_ods = package.contains("mimetype") && package.contains("content.xml");
            return Err(WorkbookError::Foreign(if is_ods { content::ODS } else { content::ZIP }));
        };
        if main.part.ends_with(".bin") {
            return Err(WorkbookError::Foreign(content::XLSB));
        }
        let others = relations(&package, &main.part)?;
        let of_kind = |kind: &str| others.iter().find(|other| other.kind == kind).map(|other| other.part.clone());
        let mut book = Self {
            strings: of_kind("sharedStrings"),
            styles: of_kind("styles"),
            sheets: Vec::new(),
            is_1904: false,
            is_uncomputed: false,
            package,
        };
        let missing = || format!("it has no part {}", main.part);
        let mut xml = book.package.open_part(&main.part, Size::Held, 2)?.ok_or_else(missing)?;
        let mut buffer = Vec::new();
        let mut is_workbook = false;
        loop {
            match xml.next(&mut buffer)? {
                Event::Start(tag) => match tag.local_name().as_ref() {
                    "workbook" => is_workbook = true,
                    "workbookPr" if flag(&tag, "date1904")? => book.is_1904 = true,
                    "calcPr" => book.is_uncomputed = flag(&tag, "fullCalcOnLoad")?,
                    "sheet" => {
                        let id = attribute(&tag, "id")?;
                        let target = others.iter().find(|other| Some(&other.id) == id.as_ref());
                        // A chart may be a sheet of its own.
                        if let Some(target) = target.filter(|target| target.kind == "worksheet") {
                            let name = attribute(&tag, "name")?.unwrap_or_default();
                            let state = attribute(&tag, "state")?;
                            let is_visible = state.is_none_or(|state| state == "visible");
                            book.sheets.push(Sheet { name, is_visible, part: target.part.clone() });
                        }
                        if book.sheets.len() > MAX_SHEETS {
                            return Err(format!("it has more than {MAX_SHEETS} sheets").into());
                        }
                    }
                    _ => {}
                },
                Event::Eof => break,
                _ => {}
            }
        }
        if !is_workbook {
            return Err(WorkbookError::Foreign(content::DOCUMENT));
        }
        Ok(book)
    }

    /// Opens the XML of a sheet.
    pub(super) fn open_sheet(&self, sheet: &Sheet) -> Result<Xml, String> {
        let missing = || format!("it has no part {}", sheet.part);
        // Rows are elements within `worksheet` and `sheetData`.
        self.package.open_part(&sheet.part, Size::Streamed, 2)?.ok_or_else(missing)
    }

    /// Reads the number formats.
    pub(super) fn read_formats(&self) -> Result<Formats, String> {
        let mut formats = Formats { by_style: Vec::new(), is_1904: self.is_1904 };
        let Some(part) = &self.styles else { return Ok(formats) };
        let Some(mut xml) = self.package.open_part(part, Size::Held, 2)? else { return Ok(formats) };
        let mut custom: Vec<(u32, NumberFormat)> = Vec::new();
        let mut is_in_cell_styles = false;
        let mut buffer = Vec::new();
        loop {
            match xml.next(&mut buffer)? {
                Event::Start(tag) => match tag.local_name().as_ref() {
                    "numFmt" if custom.len() < MAX_STYLES => {
                        let id = attribute(&tag, "numFmtId")?.and_then(|id| id.parse().ok());
                        let code = attribute(&tag, "formatCode")?;
                        custom.extend(id.zip(code.map(|code| NumberFormat::parse(&code))));
                    }
                    "cellXfs" => is_in_cell_styles = true,
                    "xf" if is_in_cell_styles => {
                        let id: u32 = attribute(&tag, "numFmtId")?.and_then(|id| id.parse().ok()).unwrap_or(0);
                        let found = custom.iter().find(|(custom, _)| *custom == id).map(|(_, format)| format.clone());
                        let unknown = || NumberFormat::Other("a format of its own".into());
                        formats.by_style.push(found.or_else(|| NumberFormat::built_in(id)).unwrap_or_else(unknown));
                        if formats.by_style.len() > MAX_STYLES {
                            return Err(format!("it has more than {MAX_STYLES} cell styles"));
                        }
                    }
                    _ => {}
                },
                Event::End(tag) if tag.local_name().as_ref() == "cellXfs" => is_in_cell_styles = false,
                Event::Eof => return Ok(formats),
                _ => {}
            }
        }
    }

    /// Reads the shared strings.
    pub(super) fn read_strings(&self) -> Result<SharedStrings, String> {
        let mut strings = SharedStrings::default();
        let Some(part) = &self.strings else { return Ok(strings) };
        // Strings are elements within `sst`.
        let Some(mut xml) = self.package.open_part(part, Size::Held, 1)? else { return Ok(strings) };
        let most = usize::try_from(FREE_TEXT_BYTES + TEXT_BYTES_PER_BYTE * xml.packed()).unwrap_or(usize::MAX);
        let (mut buffer, mut text) = (Vec::new(), String::new());
        loop {
            match xml.next(&mut buffer)? {
                Event::Start(tag) if tag.local_name().as_ref() == "si" => {
                    text.clear();
                    xml.read_string(&mut text)?;
                    strings.push(&unescape(&text))?;
                    if strings.text.len() > most {
                        return Err(
                            "its texts repeat themselves more than a spreadsheet's would: save it as CSV".to_owned()
                        );
                    }
                }
                Event::Eof => return Ok(strings),
                _ => {}
            }
        }
    }
}

/// Texts of a workbook's cells, in one block of memory.
#[derive(Debug, Default)]
pub(super) struct SharedStrings {
    text: String,
    ends: Vec<u32>,
}

impl SharedStrings {
    fn push(&mut self, text: &str) -> Result<(), String> {
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).map_err(|_| "its texts are too long".to_owned())?);
        Ok(())
    }

    pub(super) fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(start..end)
    }
}

/// Replaces `_x000D_` and the like, as spreadsheets write characters that XML can't hold.
pub(super) fn unescape(text: &str) -> std::borrow::Cow<'_, str> {
    if !text.contains("_x") {
        return text.into();
    }
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("_x") {
        let code = rest.get(at + 2..at + 6).filter(|_| rest.as_bytes().get(at + 6) == Some(&b'_'));
        let is_hex = |code: &&str| code.bytes().all(|byte| byte.is_ascii_hexdigit());
        let c = code.filter(is_hex).and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        let taken = if c.is_some() { at + 7 } else { at + 2 };
        plain.push_str(&rest[..if c.is_some() { at } else { taken }]);
        plain.extend(c);
        rest = &rest[taken..];
    }
    plain.push_str(rest);
    plain.into()
}

/// The parts that a part refers to; those of the package for an empty name.
fn relations(package: &Package, part: &str) -> Result<Vec<Relation>, String> {
    let (folder, file) = part.rsplit_once('/').unwrap_or(("", part));
    let name = if folder.is_empty() { format!("_rels/{file}.rels") } else { format!("{folder}/_rels/{file}.rels") };
    let mut relations = Vec::new();
    let Some(mut xml) = package.open_part(&name, Size::Held, 1)? else { return Ok(relations) };
    let mut buffer = Vec::new();
    loop {
        match xml.next(&mut buffer)? {
            Event::Start(tag) if tag.local_name().as_ref() == "Relationship" => {
                let is_external = attribute(&tag, "TargetMode")?.is_some_and(|mode| mode == "External");
                let (id, kind) = (attribute(&tag, "Id")?, attribute(&tag, "Type")?);
                if let (false, Some(kind), Some(target)) = (is_external, kind, attribute(&tag, "Target")?) {
                    let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
                    relations.push(Relation { id: id.unwrap_or_default(), kind, part: resolve(folder, &target) });
                }
                if relations.len() > MAX_SHEETS {
                    return Err(format!("it has more than {MAX_SHEETS} relations"));
                }
            }
            Event::Eof => return Ok(relations),
            _ => {}
        }
    }
}

/// Name of the part that a target names, relative to the folder of the part that refers to it.
fn resolve(folder: &str, target: &str) -> String {
    let target = target.replace('\\', "/");
    let mut segments: Vec<&str> = if target.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
    for segment in target.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_characters_are_replaced() {
        assert_eq!(unescape("a_x000D_b_x0041_"), "a\rbA");
        assert_eq!(unescape("_x005F_x0041_"), "_x0041_");
        for plain in ["_x", "_x00", "a_xyz1_", "_x00é_", "_xD800_", "x_x0041"] {
            assert_eq!(unescape(plain), plain);
        }
    }

    #[test]
    fn targets_are_resolved_from_the_folder_of_their_part() {
        assert_eq!(resolve("xl", "worksheets/sheet1.xml"), "xl/worksheets/sheet1.xml");
        assert_eq!(resolve("xl", "/xl/worksheets/sheet1.xml"), "xl/worksheets/sheet1.xml");
        assert_eq!(resolve("xl/worksheets", "../media\\a.xml"), "xl/media/a.xml");
        assert_eq!(resolve("", "xl/workbook.xml"), "xl/workbook.xml");
        assert_eq!(resolve("", "../../a"), "a");
    }

    #[test]
    fn shared_strings_come_back_by_index() {
        let mut strings = SharedStrings::default();
        for text in ["a", "", "bc"] {
            strings.push(text).unwrap();
        }
        let all: Vec<Option<&str>> = (0..4).map(|index| strings.get(index)).collect();
        assert_eq!(all, [Some("a"), Some(""), Some("bc"), None]);
    }
}
