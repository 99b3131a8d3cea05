//! What is built in, against deny.toml: for machines on which cargo-deny is not installed.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::Value;

/// The quoted words of a list in deny.toml.
fn list(name: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap();
    let from = text.find(&format!("\n{name} = [")).unwrap_or_else(|| panic!("deny.toml has no list {name}"));
    let list = &text[from..];
    let list = &list[..list.find("]\n").unwrap()];
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn dependencies_are_what_deny_toml_allows() {
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--format-version", "1", "--locked", "--all-features"]);
    let metadata = metadata.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let (licences, banned) = (list("allow"), list("deny"));
    assert!(licences.contains("MIT") && banned.contains("openssl"), "{licences:?} {banned:?}");
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "{}", packages.len());
    for package in packages {
        let name = package["name"].as_str().unwrap();
        assert!(!banned.contains(name), "{name} is banned");
        let source = package["source"].as_str().unwrap_or("here");
        let is_known = name == "face-enroll" || source == "registry+https://github.com/rust-lang/crates.io-index";
        assert!(is_known, "{name} comes from {source}");
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX).unwrap();
        let is_allowed = expression.evaluate(|required| licences.contains(&required.to_string()));
        assert!(is_allowed, "{name} is under {licence}");
    }
}
