//! Maps the columns of a table to fields.

use std::collections::HashSet;

use csv::StringRecord;

use super::fields::{ColumnName, Field, normalize_name};
use crate::domain::{EXPORT_COLUMNS, closest_match, did_you_mean};

/// Longest column name shown in a message.
const MAX_NAME_CHARS: usize = 64;

/// Columns of a table.
#[derive(Debug)]
pub(super) struct Columns {
    /// Header with our field names, for serde; other columns have an empty name.
    pub(super) names: StringRecord,
    /// Extra columns. Their names are unique and differ from the export's columns.
    pub(super) extra: Vec<(usize, String)>,
    /// Whether there is a column for the group.
    pub(super) has_group: bool,
    /// Whether there is a column for the id.
    pub(super) has_id: bool,
    /// Columns of an export that give the origin of its rows, and why they were rejected.
    pub(super) origin: Option<OriginColumns>,
    /// Least number of fields in a row; a shorter row would lack one of our fields.
    pub(super) min_fields: usize,
}

/// Positions of the columns that give the origin of an export row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OriginColumns {
    pub(super) source: usize,
    pub(super) row: usize,
    pub(super) code: Option<usize>,
}

/// Maps the columns of a header, using `--column`; the error says what is wrong with it.
pub(super) fn resolve(header: &StringRecord, given: &[ColumnName]) -> Result<Columns, String> {
    let written: Vec<&str> = header.iter().map(str::trim).collect();
    let plain: Vec<String> = written.iter().map(|name| normalize_name(name)).collect();
    let first = |name: &str| plain.iter().position(|known| known == name);
    let export: Option<Vec<usize>> = EXPORT_COLUMNS.iter().map(|name| first(name)).collect();
    let mut ours: Vec<Option<&str>> = vec![None; plain.len()];
    for ColumnName { field, name } in given {
        match positions_of(&plain, &super::fields::normalize_name(name))[..] {
            [at] => ours[at] = Some(field.name()),
            [a, b, ..] => return Err(duplicate_column(name, a, b)),
            [] => {
                let meant = did_you_mean(name, written.iter().copied());
                return Err(format!("--column {field}={name}: no such column{meant}; found {}", list_names(&written)));
            }
        }
    }
    for field in Field::ALL.into_iter().filter(|field| given.iter().all(|given| given.field != *field)) {
        let is_free = |at: &usize| ours[*at].is_none() && field.names().contains(&plain[*at].as_str());
        let found: Vec<usize> = (0..plain.len()).filter(is_free).collect();
        let own: Vec<usize> = found.iter().copied().filter(|&at| plain[at] == field.name()).collect();
        match (&own[..], &found[..]) {
            (&[at], _) | (&[], &[at]) => ours[at] = Some(field.name()),
            // In an export our columns come before the extra ones.
            (&[at, _, ..], _) if export.is_some() => ours[at] = Some(field.name()),
            (&[], &[]) => {}
            (&[a, b, ..], _) => return Err(duplicate_column(field.name(), a, b)),
            (&[], &[a, b, ..]) if plain[a] == plain[b] => return Err(duplicate_column(&plain[a], a, b)),
            (&[], &[a, b, ..]) => {
                return Err(format!(
                    "columns {} and {} could both be {field}: rename the right one to {field}, or give --column {field}={}",
                    written[a], written[b], written[a]
                ));
            }
        }
    }
    if !ours.contains(&Some("path")) && !ours.contains(&Some("url")) {
        let alike = written.iter().find(|name| closest_match(name, ["path", "url"]).is_some());
        let hint = match written[..] {
            [only] if !only.is_empty() => " (or --delimiter, if it is not , ; | or a tab)",
            _ => "",
        };
        return Err(format!(
            "no photo column: expected path or url, found {}; give --column path={}{hint}",
            list_names(&written),
            alike.copied().filter(|_| hint.is_empty()).unwrap_or("NAME")
        ));
    }
    let is_extra = |at: &usize| ours[*at].is_none() && !export.as_ref().is_some_and(|export| export.contains(at));
    let mut names = UniqueNames::default();
    let name = |at: usize| match written[at] {
        "" => (at, names.assign(&format!("column {}", at + 1))),
        name => (at, names.assign(name)),
    };
    let extra = (0..plain.len()).filter(is_extra).map(name).collect();
    let own = |name: &str| first(name).filter(|_| export.is_some());
    Ok(Columns {
        names: ours.iter().map(|field| field.unwrap_or("")).collect(),
        extra,
        has_group: ours.contains(&Some("face_group_code")),
        has_id: ours.contains(&Some("merchant_user_id")),
        origin: own("source").zip(own("row")).map(|(source, row)| OriginColumns { source, row, code: own("code") }),
        min_fields: ours.iter().rposition(Option::is_some).map_or(0, |last| last + 1),
    })
}

/// Lists column names for a message. Without a header they are values of a row, so long texts are hidden.
fn list_names(names: &[&str]) -> String {
    let is_name = |name: &&&str| name.chars().count() <= MAX_NAME_CHARS;
    names
        .iter()
        .map(|name| Some(name).filter(is_name).map_or("(a long text)", |name| name))
        .collect::<Vec<_>>()
        .join(", ")
}

fn positions_of(plain: &[String], name: &str) -> Vec<usize> {
    (0..plain.len()).filter(|&at| plain[at] == name).collect()
}

fn duplicate_column(name: &str, a: usize, b: usize) -> String {
    format!("duplicate column {name} ({} and {}): rename one", a + 1, b + 1)
}

/// Makes the names of extra columns unique in an export: a second `Name` becomes `Name 2`, and a manifest's own `status`
/// becomes `status 2`.
#[derive(Debug, Default)]
pub(super) struct UniqueNames(HashSet<String>);

impl UniqueNames {
    pub(super) fn assign(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 1;
        while EXPORT_COLUMNS.contains(&name.as_str()) || !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{wanted} {number}");
        }
        name
    }
}

/// Suggests the most likely id column, quoted for `--column` in a shell.
pub(super) fn suggest_id_column(columns: &Columns) -> String {
    const WORDS: [&str; 9] = ["id", "no", "nr", "num", "number", "code", "badge", "key", "login"];
    let is_number = |name: &str| {
        normalize_name(name).split(|c: char| !c.is_alphanumeric()).any(|word| WORDS.contains(&word))
            || name.contains(['号', '號', '番', '码'])
    };
    let mut names = columns.extra.iter().map(|(_, name)| name.as_str());
    let likely = names.clone().find(|name| is_number(name));
    let alike = || {
        names
            .clone()
            .find(|name| closest_match(&normalize_name(name), Field::MerchantUserId.names().iter().copied()).is_some())
    };
    let name = likely.or_else(alike).or_else(|| names.next()).unwrap_or("NAME");
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &[&str]) -> Result<Columns, String> {
        resolve(&StringRecord::from(header.to_vec()), &[])
    }

    #[test]
    fn columns_are_matched_by_aliases_in_any_case() {
        let columns = of(&["Photo Path", "Employee-No", "Department", "GROUP"]).unwrap();
        assert_eq!(columns.names, ["path", "merchant_user_id", "", "face_group_code"][..]);
        assert_eq!(columns.extra, [(2, "Department".to_owned())]);
        assert!(columns.has_group);
    }

    #[test]
    fn exact_column_name_beats_alias() {
        let columns = of(&["file", "path", "id", "merchant_user_id"]).unwrap();
        assert_eq!(columns.names, ["", "path", "", "merchant_user_id"][..]);
        assert_eq!(columns.extra, [(0, "file".to_owned()), (2, "id".to_owned())]);
    }

    #[test]
    fn given_column_wins_and_must_exist() {
        let header = StringRecord::from(vec!["path", "Staff Photo", "id", "badge"]);
        let given = |text: &[&str]| text.iter().map(|text| text.parse().unwrap()).collect::<Vec<ColumnName>>();
        let columns = resolve(&header, &given(&["path=staff photo", "merchant_user_id=badge"])).unwrap();
        assert_eq!(columns.names, ["", "path", "", "merchant_user_id"][..]);
        assert_eq!(columns.extra, [(0, "path 2".to_owned()), (2, "id".to_owned())]);
        let missing = resolve(&header, &given(&["path=picture"])).unwrap_err();
        assert!(missing.contains("--column path=picture: no such column"), "{missing}");
        assert!("photo=path".parse::<ColumnName>().unwrap_err().contains("unknown field photo"));
    }

    #[test]
    fn export_columns_are_not_extra_columns() {
        let mut header: Vec<&str> = EXPORT_COLUMNS.to_vec();
        header.push("department");
        let columns = of(&header).unwrap();
        assert_eq!(columns.extra, [(16, "department".to_owned())]);
        assert_eq!(columns.origin, Some(OriginColumns { source: 1, row: 0, code: Some(8) }));
        assert_eq!(of(&["path", "row", "source"]).unwrap().origin, None, "not an export: they are extra columns");
        header.push("status");
        assert_eq!(of(&header).unwrap().extra[1], (17, "status 2".to_owned()), "the first is the export's");
    }

    #[test]
    fn columns_named_like_the_exports_are_kept() {
        for missing in EXPORT_COLUMNS.iter().filter(|name| **name != "path") {
            let header: Vec<&str> = EXPORT_COLUMNS.iter().copied().filter(|name| name != missing).collect();
            let columns = of(&header).unwrap();
            let kept: Vec<&str> = columns.extra.iter().map(|(at, _)| header[*at]).collect();
            let ours = ["path", "url", "merchant_user_id", "face_group_code"];
            let expected: Vec<&str> = header.iter().copied().filter(|name| !ours.contains(name)).collect();
            assert_eq!((kept, columns.origin), (expected, None), "without {missing}");
            assert!(columns.extra.iter().all(|(_, name)| name.ends_with(" 2")), "an export has one of each name");
        }
    }

    #[test]
    fn columns_that_share_a_name_are_numbered() {
        let columns = of(&["path", "Name", "Name", "Name 2", "name", "", "Name"]).unwrap();
        let names: Vec<&str> = columns.extra.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["Name", "Name 2", "Name 2 2", "name", "column 6", "Name 3"]);
    }

    #[test]
    fn likely_id_column_is_suggested_in_quotes() {
        for (header, suggested) in [
            (&["Photo", "Name", "Emp ID"][..], "\"Emp ID\""),
            (&["Photo", "姓名", "工号"], "工号"),
            (&["Photo", "Department", "Staff No."], "\"Staff No.\""),
            (&["Photo", "employee"], "employee"),
            (&["Photo", "Abteilung"], "Abteilung"),
        ] {
            assert_eq!(suggest_id_column(&of(header).unwrap()), suggested);
        }
    }

    #[test]
    fn unusable_header_gives_advice() {
        for (header, words) in [
            (&["name", "id"][..], "expected path or url, found name, id"),
            (&["path^id"], "--delimiter"),
            (&["file", "photo"], "columns file and photo could both be path"),
            (&["path", "id", "ID"], "duplicate column id (2 and 3)"),
            (&["path", "a", "Path"], "duplicate column path (1 and 3)"),
            (&["Photo", "photo", "id"], "duplicate column photo (1 and 2)"),
        ] {
            let problem = of(header).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
