//! Profiles of Alibaba Cloud's CLI, in `~/.aliyun/config.json` (reference, protocol.md section 5).

use std::path::Path;

use serde::Deserialize;

use super::{
    environment::Environment,
    file,
    provider::Provider,
    sts::{Role, RoleFields},
    uri::CredentialsUri,
};

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    current: String,
    /// Parsed one at a time, so that an error in an unused profile does not matter.
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
    /// Name in the Python package; the CLI writes `ram_session_name`.
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

/// Provider of the profile named by the environment, or of the current one. `None` if the file does not exist.
pub(super) fn read(file: &Path, environment: &Environment) -> Result<Option<(String, Provider)>, String> {
    let Some(text) = file::read(file)? else { return Ok(None) };
    // Drop the message of serde, because it may quote a secret.
    let config: Config = serde_json::from_str(&text)
        .map_err(|error| format!("invalid JSON at line {}, column {}", error.line(), error.column()))?;
    let name = environment.profile.as_deref().unwrap_or(&config.current);
    let provider = config.provider(name, &mut Vec::new(), environment)?;
    Ok(Some((name.to_owned(), provider)))
}

impl Config {
    /// Resolves a profile; `via` holds the profiles that refer to it.
    fn provider<'a>(
        &'a self,
        name: &'a str,
        via: &mut Vec<&'a str>,
        environment: &Environment,
    ) -> Result<Provider, String> {
        if via.contains(&name) {
            return Err(format!("profile {name:?} refers to itself through source_profile"));
        }
        via.push(name);
        let profile = self.profiles.iter().find(|profile| profile["name"] == name);
        let profile = profile.ok_or_else(|| format!("no profile {name:?}"))?;
        let mode = profile["mode"].as_str().unwrap_or_default();
        let profile =
            Profile::deserialize(profile).map_err(|_| format!("profile {name:?}: a field has the wrong type"))?;
        let found = match mode {
            "AK" => profile.key(false),
            "StsToken" => profile.key(true),
            "RamRoleArn" => profile
                .key(false)
                .and_then(|by| Ok(Provider::Role { by: Box::new(by), role: profile.role(environment)? })),
            "ChainableRamRoleArn" => match self.other(profile.source_profile.as_deref()) {
                Some(other) => {
                    let by = Box::new(self.provider(other, via, environment)?);
                    profile.role(environment).map(|role| Provider::Role { by, role })
                }
                None => Err("source_profile does not exist".to_owned()),
            },
            "EcsRamRole" => file::instance_metadata(profile.ram_role_name, environment),
            "OIDC" => profile.oidc(environment),
            "External" => Ok(Provider::Command(profile.process_command.unwrap_or_default())),
            "CredentialsURI" => {
                CredentialsUri::parse(profile.credentials_uri.as_deref().unwrap_or_default()).map(Provider::Uri)
            }
            mode => Err(format!("unsupported mode {mode}; set a temporary key in the environment instead")),
        };
        found.map_err(|why| format!("profile {name:?}: {why}"))
    }

    fn other<'a>(&'a self, name: Option<&str>) -> Option<&'a str> {
        self.profiles.iter().filter_map(|profile| profile["name"].as_str()).find(|known| Some(*known) == name)
    }
}

impl Profile {
    fn key(&self, has_token: bool) -> Result<Provider, String> {
        let token = has_token.then(|| self.sts_token.as_deref().unwrap_or_default());
        file::static_key(self.access_key_id.as_deref(), self.access_key_secret.as_deref(), token)
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

    fn oidc(self, environment: &Environment) -> Result<Provider, String> {
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

    fn read_in(text: &str, profile: Option<&str>) -> Result<Option<(String, Provider)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        std::fs::write(&file, text).unwrap();
        let variable = |name: &str| profile.filter(|_| name == "ALIBABA_CLOUD_PROFILE").map(str::to_owned);
        read(&file, &Environment::read(variable).unwrap())
    }

    fn kind(provider: &Provider) -> String {
        match provider {
            Provider::Static(key) => key.masked_id(),
            Provider::Oidc { .. } => "oidc".to_owned(),
            Provider::Role { by, .. } => format!("role by {}", kind(by)),
            Provider::Metadata(_) => "metadata".to_owned(),
            Provider::Command(_) => "command".to_owned(),
            Provider::Uri(_) => "uri".to_owned(),
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
            let (found, provider) = read_in(CONFIG, Some(name)).unwrap().unwrap();
            assert_eq!((found.as_str(), kind(&provider).as_str()), (name, expected));
        }
        let nowhere = Environment::read(|_| None).unwrap();
        assert!(read(Path::new("/nowhere/config.json"), &nowhere).unwrap().is_none());
    }

    #[test]
    fn byte_order_mark_and_quotes_are_stripped() {
        for bytes in [format!("\u{feff}{CONFIG}"), CONFIG.replace("\"s1\"", "\" 's1'\\r\"")] {
            let (_, Provider::Static(key)) = read_in(&bytes, None).unwrap().unwrap() else { panic!() };
            assert_eq!(key.secret(), "s1");
        }
    }

    #[test]
    fn profile_error_names_missing_key_not_values() {
        for (name, words) in [
            ("half", "incomplete"),
            ("short", "at least 900 s"),
            ("nobody", "no role"),
            ("round", "refers to itself"),
            ("lost", "source_profile does not exist"),
            ("sso", "CloudSSO"),
            ("odd", "wrong type"),
            ("none", "no profile \"none\""),
        ] {
            let Err(error) = read_in(CONFIG, Some(name)) else { panic!("{name}") };
            assert!(error.contains(words) && !error.contains("s1"), "{name}: {error}");
        }
        let Err(error) = read_in(r#"{"profiles": [{"access_key_secret": s1}]}"#, None) else { panic!() };
        assert!(error.contains("line 1") && !error.contains("s1"), "{error}");
    }
}
