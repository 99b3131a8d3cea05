//! The SDKs' INI file, `~/.alibabacloud/credentials` (reference, protocol.md section 5).

use std::{collections::BTreeMap, path::Path};

use super::{
    environment::Environment,
    file,
    provider::Provider,
    sts::{Role, RoleFields},
};
use crate::domain::unquoted;

/// Provider of the section named by the environment, or of `default`. `None` if the file does not exist.
pub(super) fn read(file: &Path, environment: &Environment) -> Result<Option<(String, Provider)>, String> {
    let Some(text) = file::read(file)? else { return Ok(None) };
    let name = environment.profile.as_deref().unwrap_or("default");
    let fields = fields(&text, name).ok_or_else(|| format!("no section [{name}]"))?;
    let provider = provider(&fields, environment).map_err(|why| format!("section [{name}]: {why}"))?;
    Ok(Some((name.to_owned(), provider)))
}

/// Fields of a section. As in the Python package, a value ends at `#`. Unlike there, quotes are not part of a value, as in
/// the Go package.
fn fields(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut in_section = false;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.starts_with(';') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            in_section = unquoted(section) == name;
            if in_section {
                found.get_or_insert_default();
            }
        } else if let (true, Some(fields), Some((field, value))) =
            (in_section, found.as_mut(), line.split_once(['=', ':']))
        {
            fields.insert(unquoted(field).to_ascii_lowercase(), unquoted(value).to_owned());
        }
    }
    found
}

fn provider(fields: &BTreeMap<String, String>, environment: &Environment) -> Result<Provider, String> {
    let field = |name: &str| fields.get(name).filter(|value| !value.is_empty()).cloned();
    let static_key =
        || file::static_key(field("access_key_id").as_deref(), field("access_key_secret").as_deref(), None);
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
        "access_key" => static_key(),
        "ram_role_arn" => Ok(Provider::Role { by: Box::new(static_key()?), role: role()? }),
        "oidc_role_arn" => {
            file::oidc(role()?, (field("oidc_provider_arn"), field("oidc_token_file_path")), environment)
        }
        "ecs_ram_role" => file::instance_metadata(field("role_name"), environment),
        kind => Err(format!("unsupported type {kind:?}; set a temporary key in the environment instead")),
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

    fn read_in(section: Option<&str>) -> Result<Provider, String> {
        read_bytes(FILE.as_bytes(), section)
    }

    fn read_bytes(bytes: &[u8], section: Option<&str>) -> Result<Provider, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(&file, bytes).unwrap();
        let variable = |name: &str| section.filter(|_| name == "ALIBABA_CLOUD_PROFILE").map(str::to_owned);
        read(&file, &Environment::read(variable).unwrap()).map(|found| found.unwrap().1)
    }

    #[test]
    fn section_is_default_or_named() {
        assert!(matches!(read_in(None), Ok(Provider::Static(key)) if key.masked_id() == "LTAI****Y001"));
        assert!(matches!(read_in(Some("ecs")), Ok(Provider::Metadata(_))));
        assert!(matches!(read_in(Some("role")), Ok(Provider::Role { .. })));
        assert!(matches!(read_in(Some("oidc")), Ok(Provider::Oidc { .. })));
    }

    #[test]
    fn windows_marks_and_quotes_are_stripped() {
        let quoted = "\u{feff}[\"default\"]\r\n\"type\" = \"access_key\"\r\naccess_key_id='LTAI5tTHEBANKSKEY001' \r\n\
            access_key_secret=\"s1\"\r\n";
        let utf16: Vec<u8> = quoted.encode_utf16().flat_map(u16::to_le_bytes).collect();
        for bytes in [quoted.as_bytes(), &utf16] {
            let Ok(Provider::Static(key)) = read_bytes(bytes, None) else { panic!() };
            assert_eq!((key.id(), key.secret()), ("LTAI5tTHEBANKSKEY001", "s1"));
        }
        let Err(error) = read_bytes(b"[default]\ntype = access_key # gr\xfcn s1", None) else { panic!() };
        assert_eq!(error, "it is not UTF-8 text: save it as UTF-8");
    }

    #[test]
    fn ini_error_names_missing_key_not_values() {
        for (name, words) in [
            ("tokenless", "no OIDC token file"),
            ("pair", "rsa_key_pair"),
            ("half", "incomplete"),
            ("none", "no section [none]"),
        ] {
            let Err(error) = read_in(Some(name)) else { panic!("{name}") };
            assert!(error.contains(words) && !error.contains("s1"), "{name}: {error}");
        }
    }
}
