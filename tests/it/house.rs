//! The rooms keep to the plan of the crate doc: read from the source, so that it cannot drift.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Who may import whom. A room that is not listed may import everything.
const PLAN: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("secret", &[]),
    ("crash", &[]),
    ("exit", &[]),
    ("files", &[]),
    ("manifest", &["domain", "files"]),
    ("picture", &["domain", "files"]),
    ("api", &["domain", "secret"]),
    ("pace", &["domain"]),
    ("checkpoint", &["domain", "crash", "files"]),
    ("sandbox", &["domain", "files"]),
    ("run", &["domain", "crash", "manifest", "picture", "api", "pace", "checkpoint"]),
    ("check", &["domain", "manifest", "picture"]),
    ("verify", &["domain", "api", "pace", "checkpoint"]),
    ("report", &["domain", "checkpoint", "check"]),
];

fn sources(room: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: Vec<PathBuf> = walkdir::WalkDir::new(src.join(room))
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .collect();
    found.extend(Some(src.join(format!("{room}.rs"))).filter(|file| file.exists()));
    assert!(!found.is_empty(), "there is no room {room}");
    found
}

/// The rooms that a source names, by `crate::room` alone or within braces.
fn imports(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => top_level(list),
            None => vec![rest],
        };
        for name in names {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            rooms.insert(name);
        }
    }
    rooms.remove("");
    rooms
}

/// The items of a braced list, not those of the lists within.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut from, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&list[from..at]);
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    items
}

#[test]
fn rooms_import_only_what_the_plan_allows() {
    for (room, allowed) in PLAN {
        for file in sources(room) {
            let text = fs::read_to_string(&file).unwrap();
            for import in imports(&text) {
                let is_own = import == *room;
                assert!(is_own || allowed.contains(&import.as_str()), "{} imports {import}", file.display());
            }
        }
    }
}

#[test]
fn proofs_are_made_in_one_place_each() {
    for (maker, home) in [("Committed::attest", "src/checkpoint"), ("Permit::issue", "src/pace")] {
        let makers: Vec<PathBuf> = walkdir::WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
            .into_iter()
            .filter_map(Result::ok)
            .map(walkdir::DirEntry::into_path)
            .filter(|path| path.is_file() && fs::read_to_string(path).unwrap().contains(maker))
            .collect();
        assert!(!makers.is_empty(), "nobody makes {maker}");
        for file in makers {
            assert!(file.to_string_lossy().contains(home), "{} makes a proof of {home}", file.display());
        }
    }
}
