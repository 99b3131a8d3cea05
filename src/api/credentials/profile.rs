//! A profile of Alibaba Cloud's CLI, in `~/.aliyun/config.json` (reference, protocol.md section 5): the key that stands
//! there, or what gives one.

use std::path::Path;

use serde::Deserialize;

use super::{
    environment::Environment,
    file,
    grant::key,
    metadata::Metadata,
    source::Source,
    sts::{Role, RoleFields},
    uri::CredentialsUri,
};

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    current: String,
    /// Only one of them is of interest: a mistake in another one is not ours.
    #[serde(default)]
    profiles: Vec<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Profile {
    mode: Option<String>,
    access_key_id: Option<String>,
    access_key_secret: Option<String>,
    sts_token: Option<String>,
    ram_role_name: Option<String>,
    ram_role_arn: Option<String>,
    ram_session_name: Option<String>,
    /// As Python has it; the CLI itself writes the other one.
    role_session_name: Option<String>,
    expired_seconds: Option<u64>,
    policy: Option<String>,
    external_id: Option<String>,
    sts_region: Option<String>,
    enable_vpc: Option<bool>,
    oidc_provider_arn: Option<String>,
    oidc_token_file: Option<String>,
    source_profile: Option<String>,
    process_command: Option<String>,
    credentials_uri: Option<String>,
}

/// The profile that the environment names, or the current one. None: there is no such file.
pub(super) fn read(file: &Path, environment: &Environment) -> Result<Option<(String, Source)>, String> {
    let Some(text) = file::read(file)? else { return Ok(None) };
    // What serde says may quote a secret.
    let config: Config = serde_json::from_str(&text)
        .map_err(|error| format!("it can't be read, line {}, column {}", error.line(), error.column()))?;
    let name = environment.profile.as_deref().unwrap_or(&config.current);
    let source = config.source(name, &mut Vec::new(), environment)?;
    Ok(Some((name.to_owned(), source)))
}

impl Config {
    /// `via`: the profiles that led here.
    fn source<'a>(
        &'a self,
        name: &'a str,
        via: &mut Vec<&'a str>,
        environment: &Environment,
    ) -> Result<Source, String> {
        if via.contains(&name) {
            return Err(format!("profile {name:?} leads back to itself by its source_profile"));
        }
        via.push(name);
        let profile = self.profiles.iter().find(|profile| profile["name"] == name);
        let profile = profile.ok_or_else(|| format!("it has no profile {name:?}"))?;
        let mode = profile["mode"].as_str().unwrap_or_default();
        let profile = Profile::deserialize(profile)
            .map_err(|_| format!("a field of profile {name:?} is of another kind than it should be"))?;
        let found = match mode {
            "AK" => profile.key(false),
            "StsToken" => profile.key(true),
            "RamRoleArn" => profile
                .key(false)
                .and_then(|by| Ok(Source::Role { by: Box::new(by), role: profile.role(environment)? })),
            "ChainableRamRoleArn" => match self.other(profile.source_profile.as_deref()) {
                Some(other) => {
                    let by = Box::new(self.source(other, via, environment)?);
                    profile.role(environment).map(|role| Source::Role { by, role })
                }
                None => Err("it names no source_profile that is there".to_owned()),
            },
            "EcsRamRole" => Metadata::new(profile.ram_role_name, environment)
                .map(Source::Metadata)
                .ok_or_else(|| "ALIBABA_CLOUD_ECS_METADATA_DISABLED is set".to_owned()),
            "OIDC" => profile.oidc(environment),
            "External" => Ok(Source::Command(profile.process_command.unwrap_or_default())),
            "CredentialsURI" => {
                CredentialsUri::parse(profile.credentials_uri.as_deref().unwrap_or_default()).map(Source::Uri)
            }
            mode => Err(format!("its mode {mode} is not known here; put a temporary key into the environment")),
        };
        found.map_err(|why| format!("profile {name:?}: {why}"))
    }

    fn other<'a>(&'a self, name: Option<&str>) -> Option<&'a str> {
        self.profiles.iter().filter_map(|profile| profile["name"].as_str()).find(|known| Some(*known) == name)
    }
}

impl Profile {
    fn key(&self, has_token: bool) -> Result<Source, String> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let token = has_token.then(|| text(&self.sts_token));
        key(&text(&self.access_key_id), &text(&self.access_key_secret), token.as_deref())
            .map(Source::Key)
            .ok_or_else(|| "it lacks a part of its key".to_owned())
    }

    fn role(&self, environment: &Environment) -> Result<Role, String> {
        let fields = RoleFields {
            arn: self.ram_role_arn.clone(),
            session: self.role_session_name.clone().or_else(|| self.ram_session_name.clone()),
            seconds: self.expired_seconds,
            policy: self.policy.clone(),
            external_id: self.external_id.clone(),
            sts_region: self.sts_region.clone(),
            is_in_vpc: self.enable_vpc,
        };
        Role::new(fields, environment)
    }

    fn oidc(self, environment: &Environment) -> Result<Source, String> {
        let role = self.role(environment)?;
        file::oidc(role, (self.oidc_provider_arn, self.oidc_token_file), environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"current": "bank", "profiles": [
        {"name": "bank", "mode": "AK", "access_key_id": "LTAI5tTHEBANKSKEY001", "access_key_secret": "s1", "region_id": "x"},
        {"name": "temporary", "mode": "StsToken", "access_key_id": "STS.0123456789AB", "access_key_secret": "s2", "sts_token": "t"},
        {"name": "half", "mode": "AK", "access_key_id": "LTAI5tTHEBANKSKEY001", "access_key_secret": null},
        {"name": "role", "mode": "RamRoleArn", "access_key_id": "a", "access_key_secret": "b", "ram_role_arn": "r", "expired_seconds": 900},
        {"name": "short", "mode": "RamRoleArn", "access_key_id": "a", "access_key_secret": "s1", "ram_role_arn": "r", "expired_seconds": 60},
        {"name": "nobody", "mode": "RamRoleArn", "access_key_id": "a", "access_key_secret": "s1"},
        {"name": "next", "mode": "ChainableRamRoleArn", "source_profile": "role", "ram_role_arn": "r2"},
        {"name": "third", "mode": "ChainableRamRoleArn", "source_profile": "next", "ram_role_arn": "r3"},
        {"name": "round", "mode": "ChainableRamRoleArn", "source_profile": "about", "ram_role_arn": "r"},
        {"name": "about", "mode": "ChainableRamRoleArn", "source_profile": "round", "ram_role_arn": "r"},
        {"name": "lost", "mode": "ChainableRamRoleArn", "source_profile": "nowhere", "ram_role_arn": "r"},
        {"name": "ecs", "mode": "EcsRamRole", "ram_role_name": "web"},
        {"name": "oidc", "mode": "OIDC", "ram_role_arn": "r", "oidc_provider_arn": "p", "oidc_token_file": "/f"},
        {"name": "program", "mode": "External", "process_command": "give-key"},
        {"name": "uri", "mode": "CredentialsURI", "credentials_uri": "http://127.0.0.1:1/"},
        {"name": "sso", "mode": "CloudSSO", "access_token": "s1"},
        {"name": "odd", "mode": "AK", "access_key_id": 7, "access_key_secret": "s1"}]}"#;

    fn read_in(text: &str, profile: Option<&str>) -> Result<Option<(String, Source)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        let variable = |name: &str| profile.filter(|_| name == "ALIBABA_CLOUD_PROFILE").map(str::to_owned);
        read(&file, &Environment::read(variable).unwrap())
    }

    fn kind(source: &Source) -> String {
        match source {
            Source::Key(key) => key.masked_id(),
            Source::Oidc { .. } => "oidc".to_owned(),
            Source::Role { by, .. } => format!("role by {}", kind(by)),
            Source::Metadata(_) => "metadata".to_owned(),
            Source::Command(_) => "command".to_owned(),
            Source::Uri(_) => "uri".to_owned(),
        }
    }

    #[test]
    fn profile_is_current_or_named() {
        assert_eq!(read_in(CONFIG, None).unwrap().unwrap().0, "bank");
        for (name, expected) in [
            ("bank", "LTAI****Y001"),
            ("temporary", "STS.****89AB"),
            ("role", "role by ****"),
            ("next", "role by role by ****"),
            ("third", "role by role by role by ****"),
            ("ecs", "metadata"),
            ("oidc", "oidc"),
            ("program", "command"),
            ("uri", "uri"),
        ] {
            let (found, source) = read_in(CONFIG, Some(name)).unwrap().unwrap();
            assert_eq!((found.as_str(), kind(&source).as_str()), (name, expected));
        }
        let nowhere = Environment::read(|_| None).unwrap();
        assert!(read(Path::new("/nowhere/config.json"), &nowhere).unwrap().is_none());
    }

    #[test]
    fn byte_order_mark_is_no_part_of_the_file() {
        for bytes in [format!("\u{feff}{CONFIG}"), CONFIG.replace("\"s1\"", "\" 's1'\\r\"")] {
            let (_, Source::Key(key)) = read_in(&bytes, None).unwrap().unwrap() else { panic!() };
            assert_eq!(key.secret(), "s1");
        }
    }

    #[test]
    fn profile_error_names_missing_key_not_values() {
        for (name, words) in [
            ("half", "lacks a part"),
            ("short", "900 s is the shortest"),
            ("nobody", "names no role"),
            ("round", "leads back to itself"),
            ("lost", "no source_profile"),
            ("sso", "CloudSSO"),
            ("odd", "of another kind"),
            ("none", "no profile \"none\""),
        ] {
            let Err(error) = read_in(CONFIG, Some(name)) else { panic!("{name}") };
            assert!(error.contains(words) && !error.contains("s1"), "{name}: {error}");
        }
        let Err(error) = read_in(r#"{"profiles": [{"access_key_secret": s1}]}"#, None) else { panic!() };
        assert!(error.contains("line 1") && !error.contains("s1"), "{error}");
    }
}
