//! What the columns of a table mean.

use csv::StringRecord;

use super::fields::{ColumnName, Field, plain};
use crate::domain::{EXPORT_COLUMNS, EXPORT_MARKS, most_similar, suggestion};

/// A longer name of a column is not shown.
const MAX_NAME_CHARS: usize = 64;

/// The columns of one table.
#[derive(Debug)]
pub(super) struct Columns {
    /// The header with our names in it, for serde; columns that are not ours have none.
    pub(super) names: StringRecord,
    /// The manifest's own other columns.
    pub(super) extra: Vec<(usize, String)>,
    /// Can rows name a group?
    pub(super) has_group: bool,
    /// Can rows name an id?
    pub(super) has_id: bool,
    /// Of an export: which columns say where its rows come from, and why they were refused.
    pub(super) origin: Option<OriginColumns>,
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
    if let Some((at, twice)) =
        plain.iter().enumerate().find(|(at, name)| !name.is_empty() && plain[..*at].contains(name))
    {
        return Err(format!(
            "the column {twice} is there twice ({} and {}): rename one",
            first(&plain, twice) + 1,
            at + 1
        ));
    }
    let mut ours: Vec<Option<&str>> = vec![None; plain.len()];
    for ColumnName { field, name } in given {
        let wanted = super::fields::plain(name);
        match plain.iter().position(|known| *known == wanted) {
            Some(at) => ours[at] = Some(field.name()),
            None => {
                let meant = suggestion(name, written.iter().copied());
                return Err(format!("there is no column {name} to be the {field}{meant}: found {}", listed(&written)));
            }
        }
    }
    for field in Field::ALL.into_iter().filter(|field| given.iter().all(|given| given.field != *field)) {
        let is_free = |at: &usize| ours[*at].is_none() && field.names().contains(&plain[*at].as_str());
        let found: Vec<usize> = (0..plain.len()).filter(is_free).collect();
        let own = found.iter().find(|&&at| plain[at] == field.name());
        match (own, &found[..]) {
            (Some(&at), _) | (None, &[at]) => ours[at] = Some(field.name()),
            (None, []) => {}
            (None, [a, b, ..]) => {
                return Err(format!(
                    "the columns {} and {} could both be {field}: rename the right one to {field}, or give --column {field}={}",
                    written[*a], written[*b], written[*a]
                ));
            }
        }
    }
    if !ours.contains(&Some("path")) && !ours.contains(&Some("url")) {
        let hint = match written[..] {
            [only] if only.contains(';') => " (it seems to be separated by semicolons: save it with commas)",
            [only] if only.contains('\t') => " (it seems to be separated by tabs: name it .tsv)",
            _ => "",
        };
        let alike = written.iter().find(|name| most_similar(name, ["path", "url"]).is_some());
        let name = alike.copied().filter(|_| hint.is_empty()).unwrap_or("NAME");
        return Err(format!(
            "no column is the photo: found {}; needed is path or url (or --column path={name}){hint}",
            listed(&written)
        ));
    }
    let is_export = EXPORT_MARKS.iter().all(|mark| plain.iter().any(|name| name == mark));
    let is_extra = |at: usize| {
        ours[at].is_none() && !plain[at].is_empty() && !(is_export && EXPORT_COLUMNS.contains(&plain[at].as_str()))
    };
    let own = |name: &str| plain.iter().position(|known| known == name).filter(|_| is_export);
    Ok(Columns {
        names: ours.iter().map(|field| field.unwrap_or("")).collect(),
        extra: (0..plain.len()).filter(|&at| is_extra(at)).map(|at| (at, written[at].to_owned())).collect(),
        has_group: ours.contains(&Some("face_group_code")),
        has_id: ours.contains(&Some("merchant_user_id")),
        origin: own("source").zip(own("row")).map(|(source, row)| OriginColumns { source, row, code: own("code") }),
    })
}

/// A table without a header has a row in its place, and in that may stand anything.
fn listed(names: &[&str]) -> String {
    let is_name = |name: &&&str| name.chars().count() <= MAX_NAME_CHARS;
    names
        .iter()
        .map(|name| Some(name).filter(is_name).map_or("(a long text)", |name| name))
        .collect::<Vec<_>>()
        .join(", ")
}

fn first(names: &[String], name: &str) -> usize {
    names.iter().position(|other| other == name).unwrap_or_default()
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
    fn own_name_wins_and_the_alias_is_kept_as_it_is() {
        let columns = of(&["file", "path", "id", "merchant_user_id"]).unwrap();
        assert_eq!(columns.names, ["", "path", "", "merchant_user_id"][..]);
        assert_eq!(columns.extra, [(0, "file".to_owned()), (2, "id".to_owned())]);
    }

    #[test]
    fn given_name_wins_over_all_and_has_to_be_there() {
        let header = StringRecord::from(vec!["path", "Staff Photo", "id", "badge"]);
        let given = |text: &[&str]| text.iter().map(|text| text.parse().unwrap()).collect::<Vec<ColumnName>>();
        let columns = understand(&header, &given(&["path=staff photo", "merchant_user_id=badge"])).unwrap();
        assert_eq!(columns.names, ["", "path", "", "merchant_user_id"][..]);
        assert_eq!(columns.extra, [(0, "path".to_owned()), (2, "id".to_owned())]);
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
        assert_eq!(of(&["path", "status"]).unwrap().extra, [(1, "status".to_owned())], "not an export: it is theirs");
    }

    #[test]
    fn header_that_can_t_be_used_says_what_to_do() {
        for (header, words) in [
            (&["name", "id"][..], "found name, id; needed is path or url"),
            (&["path;id"], "semicolons"),
            (&["path\tid"], ".tsv"),
            (&["file", "photo"], "file and photo could both be path"),
            (&["path", "a", "A"], "there twice (2 and 3)"),
        ] {
            let problem = of(header).unwrap_err();
            assert!(problem.contains(words), "{problem}");
        }
    }
}
