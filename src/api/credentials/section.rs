//! A section of the SDKs' file, `~/.alibabacloud/credentials` (reference, protocol.md section 5): the key that stands
//! there, or what gives one.

use std::{collections::BTreeMap, path::Path};

use super::{
    environment::Environment,
    file,
    grant::key,
    metadata::Metadata,
    source::Source,
    sts::{Role, RoleFields},
};
use crate::domain::unquoted;

/// The section that the environment names, or `default`. None: there is no such file.
pub(super) fn read(file: &Path, environment: &Environment) -> Result<Option<(String, Source)>, String> {
    let Some(text) = file::read(file)? else { return Ok(None) };
    let name = environment.profile.as_deref().unwrap_or("default");
    let fields = fields(&text, name).ok_or_else(|| format!("it has no section [{name}]"))?;
    let source = source(&fields, environment).map_err(|why| format!("section [{name}]: {why}"))?;
    Ok(Some((name.to_owned(), source)))
}

/// As the Python package reads it: a value ends at `#`. Quotes, which it would take for a part of the key, are left out, as
/// Go's does.
fn fields(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut is_in = false;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.starts_with(';') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_in = unquoted(section) == name;
            if is_in {
                found.get_or_insert_default();
            }
        } else if let (true, Some(fields), Some((field, value))) = (is_in, found.as_mut(), line.split_once(['=', ':']))
        {
            fields.insert(unquoted(field).to_ascii_lowercase(), unquoted(value).to_owned());
        }
    }
    found
}

fn source(fields: &BTreeMap<String, String>, environment: &Environment) -> Result<Source, String> {
    let field = |name: &str| fields.get(name).filter(|value| !value.is_empty()).cloned();
    let stored = || {
        let text = |name: &str| field(name).unwrap_or_default();
        key(&text("access_key_id"), &text("access_key_secret"), None)
            .map(Source::Key)
            .ok_or_else(|| "it lacks a part of its key".to_owned())
    };
    let role = || {
        let fields = RoleFields {
            arn: field("role_arn"),
            session: field("role_session_name"),
            policy: field("policy"),
            ..RoleFields::default()
        };
        Role::new(fields, environment)
    };
    match fields.get("type").map_or("", String::as_str) {
        "access_key" => stored(),
        "ram_role_arn" => Ok(Source::Role { by: Box::new(stored()?), role: role()? }),
        "oidc_role_arn" => {
            file::oidc(role()?, (field("oidc_provider_arn"), field("oidc_token_file_path")), environment)
        }
        "ecs_ram_role" => Metadata::new(field("role_name"), environment)
            .map(Source::Metadata)
            .ok_or_else(|| "ALIBABA_CLOUD_ECS_METADATA_DISABLED is set".to_owned()),
        kind => Err(format!("its type {kind:?} is not known here; put a temporary key into the environment")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# ours\n[default]\ntype = access_key # kind\naccess_key_id=LTAI5tTHEBANKSKEY001\n\
        Access_Key_Secret : s1\n; a comment\n\n[ecs]\ntype = ecs_ram_role\nrole_name = r\n\
        [role]\ntype = ram_role_arn\naccess_key_id = a\naccess_key_secret = s1\nrole_arn = r\n\
        [oidc]\ntype = oidc_role_arn\nrole_arn = r\noidc_provider_arn = p\noidc_token_file_path = /f\n\
        [tokenless]\ntype = oidc_role_arn\nrole_arn = r\noidc_provider_arn = p\n\
        [pair]\ntype = rsa_key_pair\nprivate_key_file = s1\n[half]\ntype = access_key\naccess_key_secret = s1\n";

    fn read_in(section: Option<&str>) -> Result<Source, String> {
        read_bytes(FILE.as_bytes(), section)
    }

    fn read_bytes(bytes: &[u8], section: Option<&str>) -> Result<Source, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(&file, bytes).unwrap();
        let variable = |name: &str| section.filter(|_| name == "ALIBABA_CLOUD_PROFILE").map(str::to_owned);
        read(&file, &Environment::read(variable).unwrap()).map(|found| found.unwrap().1)
    }

    #[test]
    fn section_is_default_or_the_one_that_is_named() {
        assert!(matches!(read_in(None), Ok(Source::Key(key)) if key.masked_id() == "LTAI****Y001"));
        assert!(matches!(read_in(Some("ecs")), Ok(Source::Metadata(_))));
        assert!(matches!(read_in(Some("role")), Ok(Source::Role { .. })));
        assert!(matches!(read_in(Some("oidc")), Ok(Source::Oidc { .. })));
    }

    #[test]
    fn marks_line_ends_and_quotes_of_windows_are_no_part_of_a_key() {
        let quoted = "\u{feff}[\"default\"]\r\n\"type\" = \"access_key\"\r\naccess_key_id='LTAI5tTHEBANKSKEY001' \r\n\
            access_key_secret=\"s1\"\r\n";
        let utf16: Vec<u8> = quoted.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [quoted.as_bytes(), &utf16] {
            let Ok(Source::Key(key)) = read_bytes(bytes, None) else { panic!() };
            assert_eq!((key.id(), key.secret()), ("LTAI5tTHEBANKSKEY001", "s1"));
        }
        let Err(error) = read_bytes(b"[default]\ntype = access_key # gr\xfcn s1", None) else { panic!() };
        assert_eq!(error, "it is not UTF-8 text: save it as UTF-8");
    }

    #[test]
    fn ini_error_names_missing_key_not_values() {
        for (name, words) in [
            ("tokenless", "no file of an OIDC token"),
            ("pair", "rsa_key_pair"),
            ("half", "lacks a part"),
            ("none", "no section [none]"),
        ] {
            let Err(error) = read_in(Some(name)) else { panic!("{name}") };
            assert!(error.contains(words) && !error.contains("s1"), "{name}: {error}");
        }
    }
}
