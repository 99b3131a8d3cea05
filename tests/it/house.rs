//! Rooms import one another only as the crate doc says. Read from the source, so that it cannot drift.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Every room, and the rooms that it may import. `commands` wires all of them together, and only `main` imports it.
const PLAN: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("secret", &[]),
    ("crash", &[]),
    ("exit", &[]),
    ("files", &[]),
    ("storage", &["domain", "files", "api"]),
    ("manifest", &["domain", "files", "storage"]),
    ("picture", &["domain", "storage"]),
    ("api", &["domain", "secret"]),
    ("pace", &["domain"]),
    ("database", &[]),
    ("quota", &["database", "pace"]),
    ("caller", &["domain", "api", "pace"]),
    ("checkpoint", &["domain", "crash", "files"]),
    ("sandbox", &["domain", "files"]),
    ("run", &["caller", "domain", "crash", "storage", "manifest", "picture", "api", "pace", "checkpoint"]),
    ("check", &["domain", "storage", "manifest", "picture"]),
    ("verify", &["caller", "domain", "api", "pace", "checkpoint"]),
    ("undo", &["caller", "crash", "domain", "api", "pace", "checkpoint"]),
    ("report", &["domain", "checkpoint", "check"]),
    // Flags are parsed straight into the types of the rooms that use them.
    ("cli", &["domain", "manifest", "picture", "api", "pace", "run"]),
    // Its tests read the real flags.
    ("settings", &["domain", "cli"]),
    ("telemetry", &["domain", "files", "cli"]),
    (
        "commands",
        &[
            "api", "caller", "check", "checkpoint", "cli", "crash", "database", "domain", "exit", "files", "manifest",
            "pace", "picture", "quota", "report", "run", "sandbox", "secret", "settings", "storage", "telemetry",
            "undo", "verify",
        ],
    ),
    ("main", &["cli", "commands", "exit", "report", "run", "settings", "telemetry"]),
    ("lib", &[]),
];

fn sources(room: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found: Vec<PathBuf> = walkdir::WalkDir::new(src.join(room))
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    found.extend(Some(src.join(format!("{room}.rs"))).filter(|file| file.exists()));
    assert!(!found.is_empty(), "no such room: {room}");
    found
}

/// The rooms that a source names after `crate::` (in the binary, `face_enroll::`), alone or in braces.
fn imports(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    let paths = ["crate::", "face_enroll::"].into_iter().flat_map(|root| text.match_indices(root));
    for (at, root) in paths {
        let rest = &text[at + root.len()..];
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

/// Splits a braced list at its own commas, not at those of nested lists.
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
fn plan_lists_every_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms: BTreeSet<String> = fs::read_dir(src)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let planned: BTreeSet<String> = PLAN.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!(rooms, planned);
}

#[test]
fn only_main_imports_commands() {
    let importers = PLAN.iter().filter(|(_, allowed)| allowed.contains(&"commands")).map(|(room, _)| *room);
    assert_eq!(importers.collect::<Vec<_>>(), ["main"]);
}

/// The steps of a run know nothing of the loop that calls them.
#[test]
fn no_step_of_a_run_imports_the_engine() {
    for file in sources("run").into_iter().filter(|file| !file.ends_with("mod.rs")) {
        let text = fs::read_to_string(&file).unwrap();
        let imports = text.split("use super::").skip(1).map(|rest| rest.split(';').next().unwrap());
        assert!(imports.into_iter().all(|list| !list.contains("engine")), "{} imports the engine", file.display());
    }
}

#[test]
fn proofs_are_made_in_one_place_each() {
    for (maker, home) in [("Committed::attest", "src/checkpoint"), ("Permit::issue", "src/pace")] {
        let makers: Vec<PathBuf> = walkdir::WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
            .into_iter()
            .filter_map(Result::ok)
            .map(walkdir::DirEntry::into_path)
            .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
            .filter(|path| fs::read_to_string(path).unwrap().contains(maker))
            .collect();
        assert!(!makers.is_empty(), "no source calls {maker}");
        for file in makers {
            assert!(file.to_string_lossy().contains(home), "{} calls {maker}, which only {home} may", file.display());
        }
    }
}

/// The guarantees of the README name their tests, so that a reader can run them.
#[test]
fn tests_named_in_the_readme_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let guarantees = readme.split("\n## Guarantees\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let code: String = ["src", "tests"].iter().flat_map(|folder| walkdir::WalkDir::new(root.join(folder))).fold(
        String::new(),
        |mut code, entry| {
            let entry = entry.unwrap();
            if entry.path().extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&fs::read_to_string(entry.path()).unwrap());
            }
            code
        },
    );
    let rows = guarantees.lines().filter(|line| line.starts_with("| ")).skip(1);
    let tests = rows.flat_map(|row| row.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let mut named = 0;
    for test in tests {
        assert!(code.contains(&format!("fn {test}(")), "the README names {test}, which is not a test");
        named += 1;
    }
    assert!(named > 20, "only {named} tests are named");
}
