//! What the columns of a table mean.

use std::collections::HashSet;

use csv::StringRecord;

use super::fields::{ColumnName, Field, plain};
use crate::domain::{EXPORT_COLUMNS, closest_match, did_you_mean};

/// A longer name of a column is not shown.
const MAX_NAME_CHARS: usize = 64;

/// The columns of one table.
#[derive(Debug)]
pub(super) struct Columns {
    /// The header with our names in it, for serde; columns that are not ours have none.
    pub(super) names: StringRecord,
    /// The manifest's own other columns. Their names are all different, and none is one of our export's.
    pub(super) extra: Vec<(usize, String)>,
    /// Can rows name a group?
    pub(super) has_group: bool,
    /// Can rows name an id?
    pub(super) has_id: bool,
    /// Of an export: which columns say where its rows come from, and why they were refused.
    pub(super) origin: Option<OriginColumns>,
    /// A row may end behind so many fields: what is missing then is none of ours.
    pub(super) least_width: usize,
}

/// See [`Columns::origin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OriginColumns {
    pub(super) source: usize,
    pub(super) row: usize,
    pub(super) code: Option<usize>,
}

/// Understands a header, with what `--column` says of it; or says what is wrong with it.
pub(super) fn understand(header: &StringRecord, given: &[ColumnName]) -> Result<Columns, String> {
    let written: Vec<&str> = header.iter().map(str::trim).collect();
    let plain: Vec<String> = written.iter().map(|name| plain(name)).collect();
    let first = |name: &str| plain.iter().position(|known| known == name);
    let export: Option<Vec<usize>> = EXPORT_COLUMNS.iter().map(|name| first(name)).collect();
    let mut ours: Vec<Option<&str>> = vec![None; plain.len()];
    for ColumnName { field, name } in given {
        match columns_named(&plain, &super::fields::plain(name))[..] {
            [at] => ours[at] = Some(field.name()),
            [a, b, ..] => return Err(twice(name, a, b)),
            [] => {
                let meant = did_you_mean(name, written.iter().copied());
                return Err(format!("there is no column {name} to be the {field}{meant}: found {}", listed(&written)));
            }
        }
    }
    for field in Field::ALL.into_iter().filter(|field| given.iter().all(|given| given.field != *field)) {
        let is_free = |at: &usize| ours[*at].is_none() && field.names().contains(&plain[*at].as_str());
        let found: Vec<usize> = (0..plain.len()).filter(is_free).collect();
        let own: Vec<usize> = found.iter().copied().filter(|&at| plain[at] == field.name()).collect();
        match (&own[..], &found[..]) {
            (&[at], _) | (&[], &[at]) => ours[at] = Some(field.name()),
            // Our own columns come first in an export.
            (&[at, _, ..], _) if export.is_some() => ours[at] = Some(field.name()),
            (&[], &[]) => {}
            (&[a, b, ..], _) => return Err(twice(field.name(), a, b)),
            (&[], &[a, b, ..]) if plain[a] == plain[b] => return Err(twice(&plain[a], a, b)),
            (&[], &[a, b, ..]) => {
                return Err(format!(
                    "the columns {} and {} could both be {field}: rename the right one to {field}, or give --column {field}={}",
                    written[a], written[b], written[a]
                ));
            }
        }
    }
    if !ours.contains(&Some("path")) && !ours.contains(&Some("url")) {
        let alike = written.iter().find(|name| closest_match(name, ["path", "url"]).is_some());
        let hint = match written[..] {
            [only] if !only.is_empty() => " (or --delimiter, if it is another character than , ; | or a tab)",
            _ => "",
        };
        return Err(format!(
            "no column is the photo: found {}; needed is path or url (or --column path={}){hint}",
            listed(&written),
            alike.copied().filter(|_| hint.is_empty()).unwrap_or("NAME")
        ));
    }
    let is_extra = |at: &usize| ours[*at].is_none() && !export.as_ref().is_some_and(|export| export.contains(at));
    let mut names = UniqueNames::default();
    let name = |at: usize| match written[at] {
        "" => (at, names.give(&format!("column {}", at + 1))),
        name => (at, names.give(name)),
    };
    let extra = (0..plain.len()).filter(is_extra).map(name).collect();
    let own = |name: &str| first(name).filter(|_| export.is_some());
    Ok(Columns {
        names: ours.iter().map(|field| field.unwrap_or("")).collect(),
        extra,
        has_group: ours.contains(&Some("face_group_code")),
        has_id: ours.contains(&Some("merchant_user_id")),
        origin: own("source").zip(own("row")).map(|(source, row)| OriginColumns { source, row, code: own("code") }),
        least_width: ours.iter().rposition(Option::is_some).map_or(0, |last| last + 1),
    })
}

/// A table without a header has a row in its place, which may hold anything.
fn listed(names: &[&str]) -> String {
    let is_name = |name: &&&str| name.chars().count() <= MAX_NAME_CHARS;
    names
        .iter()
        .map(|name| Some(name).filter(is_name).map_or("(a long text)", |name| name))
        .collect::<Vec<_>>()
        .join(", ")
}

fn columns_named(plain: &[String], name: &str) -> Vec<usize> {
    (0..plain.len()).filter(|&at| plain[at] == name).collect()
}

fn twice(name: &str, a: usize, b: usize) -> String {
    format!("the column {name} is there twice ({} and {}): rename one", a + 1, b + 1)
}

/// Gives each of the manifest's own fields a name that no other one has in an export: a second `Name` is `Name 2`, and
/// so is a `status` of the manifest's own `status 2`.
#[derive(Debug, Default)]
pub(super) struct UniqueNames(HashSet<String>);

impl UniqueNames {
    pub(super) fn give(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 1;
        while EXPORT_COLUMNS.contains(&name.as_str()) || !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{wanted} {number}");
        }
        name
    }
}

/// The column that is most likely the id, as `--column` takes it in a shell.
pub(super) fn likely_id(columns: &Columns) -> String {
    const WORDS: [&str; 9] = ["id", "no", "nr", "num", "number", "code", "badge", "key", "login"];
    let is_number = |name: &str| {
        plain(name).split(|c: char| !c.is_alphanumeric()).any(|word| WORDS.contains(&word))
            || name.contains(['号', '號', '番', '码'])
    };
    let mut names = columns.extra.iter().map(|(_, name)| name.as_str());
    let likely = names.clone().find(|name| is_number(name));
    let alike = || {
        names.clone().find(|name| closest_match(&plain(name), Field::MerchantUserId.names().iter().copied()).is_some())
    };
    let name = likely.or_else(alike).or_else(|| names.next()).unwrap_or("NAME");
    let is_plain = name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
    if is_plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\\\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &[&str]) -> Result<Columns, String> {
        understand(&StringRecord::from(header.to_vec()), &[])
    }

    #[test]
    fn columns_are_known_by_many_names_in_any_case() {
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
    fn given_column_name_wins_and_must_exist() {
        let header = StringRecord::from(vec!["path", "Staff Photo", "id", "badge"]);
        let given = |text: &[&str]| text.iter().map(|text| text.parse().unwrap()).collect::<Vec<ColumnName>>();
        let columns = understand(&header, &given(&["path=staff photo", "merchant_user_id=badge"])).unwrap();
        assert_eq!(columns.names, ["", "path", "", "merchant_user_id"][..]);
        assert_eq!(columns.extra, [(0, "path 2".to_owned()), (2, "id".to_owned())]);
        let missing = understand(&header, &given(&["path=picture"])).unwrap_err();
        assert!(missing.contains("there is no column picture"), "{missing}");
        assert!("photo=path".parse::<ColumnName>().unwrap_err().contains("none of our fields"));
    }

    #[test]
    fn export_of_ours_carries_nothing_of_its_own_along() {
        let mut header: Vec<&str> = EXPORT_COLUMNS.to_vec();
        header.push("department");
        let columns = of(&header).unwrap();
        assert_eq!(columns.extra, [(16, "department".to_owned())]);
        assert_eq!(columns.origin, Some(OriginColumns { source: 1, row: 0, code: Some(8) }));
        assert_eq!(of(&["path", "row", "source"]).unwrap().origin, None, "not an export: they are theirs");
        header.push("status");
        assert_eq!(of(&header).unwrap().extra[1], (17, "status 2".to_owned()), "the first is ours");
    }

    #[test]
    fn columns_with_the_names_of_our_export_are_kept() {
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
            assert_eq!(likely_id(&of(header).unwrap()), suggested);
        }
    }

    #[test]
    fn unusable_header_says_what_to_do() {
        for (header, words) in [
            (&["name", "id"][..], "found name, id; needed is path or url"),
            (&["path^id"], "--delimiter"),
            (&["file", "photo"], "file and photo could both be path"),
            (&["path", "id", "ID"], "there twice (2 and 3)"),
            (&["path", "a", "Path"], "there twice (1 and 3)"),
            (&["Photo", "photo", "id"], "there twice (1 and 2)"),
        ] {
            let problem = of(header).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
