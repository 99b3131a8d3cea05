//! Access keys in the files that Alibaba Cloud's own tools keep (reference, protocol.md section 5): the CLI's
//! `~/.aliyun/config.json` and the SDKs' `~/.alibabacloud/credentials`. Only what stands in a file: roles that are to be
//! asked for are not.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::credentials::{Credentials, CredentialsError, Origin};
use crate::secret::AccessKey;

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    current: String,
    #[serde(default)]
    profiles: Vec<Profile>,
}

#[derive(Deserialize)]
struct Profile {
    #[serde(default)]
    name: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    access_key_id: String,
    #[serde(default)]
    access_key_secret: String,
    #[serde(default)]
    sts_token: String,
}

/// A profile of the CLI: the one that is named, or the current one. None: there is no such file.
pub(super) fn of_cli(file: &Path, named: Option<&str>) -> Result<Option<Credentials>, CredentialsError> {
    let Some(text) = read(file)? else { return Ok(None) };
    let unusable = |detail: String| CredentialsError::File { path: file.to_owned(), detail };
    // What serde says may quote a secret.
    let config: Config = serde_json::from_str(&text)
        .map_err(|error| unusable(format!("it can't be read, line {}, column {}", error.line(), error.column())))?;
    let name = named.unwrap_or(&config.current);
    let profile = config.profiles.into_iter().find(|profile| profile.name == name);
    let profile = profile.ok_or_else(|| unusable(format!("it has no profile {name:?}")))?;
    let token = match profile.mode.as_str() {
        "AK" => None,
        "StsToken" => Some(profile.sts_token.as_str()),
        mode => {
            let advice = "AK and StsToken are read; for a role, put its temporary key into the environment";
            return Err(unusable(format!("profile {name:?} is of the mode {mode}: {advice}")));
        }
    };
    let origin = Origin::Profile { path: file.to_owned(), name: name.to_owned() };
    key(&profile.access_key_id, &profile.access_key_secret, token)
        .map(|key| Some(Credentials::from(key, origin)))
        .ok_or_else(|| unusable(format!("profile {name:?} lacks a part of its key")))
}

/// A section of the SDKs' file: the one that is named, or `default`. None: there is no such file.
pub(super) fn of_ini(file: &Path, named: Option<&str>) -> Result<Option<Credentials>, CredentialsError> {
    let Some(text) = read(file)? else { return Ok(None) };
    let unusable = |detail: String| CredentialsError::File { path: file.to_owned(), detail };
    let name = named.unwrap_or("default");
    let mut is_in = false;
    let mut is_there = false;
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for line in text.lines() {
        // The Python SDK ends a value at `#`, so one with it works for nobody.
        let line = line.split(['#', ';']).next().unwrap_or_default().trim();
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            is_in = section.trim() == name;
            is_there |= is_in;
        } else if let (true, Some((field, value))) = (is_in, line.split_once('=')) {
            fields.push((field.trim(), value.trim()));
        }
    }
    if !is_there {
        return Err(unusable(format!("it has no section [{name}]")));
    }
    let field = |name: &str| fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| *value);
    let kind = field("type");
    if kind != "access_key" {
        let advice = "access_key is read; for a role, put its temporary key into the environment";
        return Err(unusable(format!("section [{name}] is of the type {kind:?}: {advice}")));
    }
    let origin = Origin::Profile { path: file.to_owned(), name: name.to_owned() };
    key(field("access_key_id"), field("access_key_secret"), None)
        .map(|key| Some(Credentials::from(key, origin)))
        .ok_or_else(|| unusable(format!("section [{name}] lacks a part of its key")))
}

fn read(file: &Path) -> Result<Option<String>, CredentialsError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CredentialsError::File { path: PathBuf::from(file), detail: error.to_string() }),
    }
}

/// None: a part of it is missing, or no request can carry it.
fn key(id: &str, secret: &str, token: Option<&str>) -> Option<AccessKey> {
    let is_usable = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    let parts = [Some(id), Some(secret), token];
    parts
        .into_iter()
        .flatten()
        .all(is_usable)
        .then(|| AccessKey::new(id.to_owned(), secret.into(), token.map(Into::into)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, text).unwrap();
        (dir, file)
    }

    const CONFIG: &str = r#"{"current": "bank", "profiles": [
        {"name": "bank", "mode": "AK", "access_key_id": "LTAI5tTHEBANKSKEY001", "access_key_secret": "s1", "region_id": "x"},
        {"name": "temporary", "mode": "StsToken", "access_key_id": "STS.0123456789AB", "access_key_secret": "s2", "sts_token": "t"},
        {"name": "half", "mode": "AK", "access_key_id": "LTAI5tTHEBANKSKEY001"},
        {"name": "role", "mode": "RamRoleArn", "access_key_id": "a", "access_key_secret": "b"}]}"#;

    #[test]
    fn profile_of_the_cli_is_the_current_one_or_the_one_that_is_named() {
        let (_dir, file) = in_file(CONFIG);
        assert_eq!(of_cli(&file, None).unwrap().unwrap().masked_id(), "LTAI****Y001");
        assert_eq!(of_cli(&file, Some("temporary")).unwrap().unwrap().masked_id(), "STS.****89AB");
        for (name, words) in [("half", "lacks a part"), ("role", "RamRoleArn"), ("none", "no profile \"none\"")] {
            let error = of_cli(&file, Some(name)).unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("s1"), "{error}");
        }
        assert!(of_cli(Path::new("/nowhere/config.json"), None).unwrap().is_none());
        let (_dir, broken) = in_file(r#"{"profiles": [{"access_key_secret": s1}]}"#);
        let error = of_cli(&broken, None).unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("s1"), "{error}");
    }

    #[test]
    fn section_of_the_sdks_file_is_default_or_the_one_that_is_named() {
        let (_dir, file) = in_file(
            "# ours\n[default]\ntype = access_key # kind\naccess_key_id=LTAI5tTHEBANKSKEY001\naccess_key_secret = s1\n\n\
             [role]\ntype = ecs_ram_role\nrole_name = r\n",
        );
        assert_eq!(of_ini(&file, None).unwrap().unwrap().masked_id(), "LTAI****Y001");
        assert!(of_ini(&file, Some("role")).unwrap_err().to_string().contains("ecs_ram_role"));
        assert!(of_ini(&file, Some("none")).unwrap_err().to_string().contains("[none]"));
    }
}
