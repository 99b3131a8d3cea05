//! The settings file: flags that would otherwise be typed, or set in the environment, each time.
//!
//! TOML; each key is a long flag without its dashes. `--profile NAME` lets `[profile.NAME]` override the other keys. A
//! typed flag comes before the environment, the environment before the file, the file before the default. The file's keys
//! become arguments, so each value is parsed, and refused, exactly as if it had been typed.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

use crate::domain::{closest_match, decode_text};

/// Global flags that take a value; the word after one is not a subcommand.
const GLOBAL_FLAGS_WITH_VALUE: [&str; 5] = ["--config", "--profile", "--log-format", "--log-file", "--color"];

/// Reason why the settings file can't be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SettingsError {
    #[error("can't read the settings file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is not valid TOML: {detail}", path.display())]
    InvalidToml { path: PathBuf, detail: String },
    #[error("{}: unknown key {key}{}", path.display(), suggestion.as_ref().map(|name| format!(" (did you mean {name}?)")).unwrap_or_default())]
    UnknownKey { path: PathBuf, key: String, suggestion: Option<String> },
    #[error("{}: {key}: {detail}", path.display())]
    WrongValue { path: PathBuf, key: String, detail: &'static str },
    #[error("{} has no [profile.{name}]", path.display())]
    UnknownProfile { path: PathBuf, name: String },
}

/// Path of the settings file: the named one, or the default one if it exists.
pub fn file(typed: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let named = typed_value(typed, "--config").or_else(|| variable("FACE_ENROLL_CONFIG")).map(PathBuf::from);
    named.or_else(|| default_path(&variable).filter(|path| path.exists()))
}

/// Adds the flags of the settings file to the typed arguments.
pub fn arguments(
    cli: &Command,
    typed: Vec<OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<OsString>, SettingsError> {
    let named = typed_value(&typed, "--config").or_else(|| variable("FACE_ENROLL_CONFIG")).map(PathBuf::from);
    let Some(path) = named.clone().or_else(|| default_path(&variable)) else { return Ok(typed) };
    let text = match std::fs::read(&path).and_then(|bytes| Ok(decode_text(bytes)?)) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(typed),
        Err(source) => return Err(SettingsError::Unreadable { path, source }),
    };
    let profile = typed_value(&typed, "--profile").or_else(|| variable("FACE_ENROLL_PROFILE"));
    let profile = profile.map(|name| name.to_string_lossy().into_owned());
    let settings = read(&path, &text, profile.as_deref())?;
    let Some((at, command)) = subcommand(cli, &typed) else { return Ok(typed) };
    // Flags of `sandbox` with the same names mean something else: its own quota, its own window.
    let is_server = command.get_name() == "sandbox";
    // A rehearsal ignores the endpoint of the real runs.
    let is_rehearsal = flag(command, "sandbox").is_some_and(|arg| is_typed(&typed, arg) || is_true(arg, &variable));
    let mut added = Vec::new();
    for (key, value) in &settings {
        if flag(cli, key).is_none() && !cli.get_subcommands().any(|command| flag(command, key).is_some()) {
            let suggestion = closest_flag(cli, key);
            return Err(SettingsError::UnknownKey { path, key: key.clone(), suggestion });
        }
        // A key of another command is skipped.
        let own = flag(command, key).filter(|_| !is_server);
        let Some(arg) = own.or_else(|| flag(cli, key)) else { continue };
        if is_set(arg, &variable) || is_typed(&typed, arg) || (is_rehearsal && key == "endpoint") {
            continue;
        }
        let values = as_arguments(arg, key, value).map_err(|detail| SettingsError::WrongValue {
            path: path.clone(),
            key: key.clone(),
            detail,
        })?;
        added.extend(values.into_iter().map(OsString::from));
    }
    let mut all = typed;
    all.splice(at + 1..at + 1, added);
    Ok(all)
}

/// Parses the file; keys of the profile override the others.
fn read(path: &Path, text: &str, profile: Option<&str>) -> Result<Table, SettingsError> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| SettingsError::InvalidToml {
        path: path.to_owned(),
        detail: toml_error(text, &error),
    })?;
    let profiles = match table.remove("profile") {
        None => Table::new(),
        Some(Value::Table(profiles)) => profiles,
        Some(_) => {
            let detail = "expected a table such as [profile.NAME]";
            return Err(SettingsError::WrongValue { path: path.to_owned(), key: "profile".into(), detail });
        }
    };
    let Some(name) = profile else { return Ok(table) };
    match profiles.get(name) {
        Some(Value::Table(own)) => table.extend(own.clone()),
        Some(_) | None => {
            return Err(SettingsError::UnknownProfile { path: path.to_owned(), name: name.to_owned() });
        }
    }
    Ok(table)
}

/// Describes the error without its line, which may hold the token of `ping-url`.
fn toml_error(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: {}", error.message())
}

fn default_path(variable: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let of = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = of("XDG_CONFIG_HOME").or_else(|| of("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("face-enroll/config.toml"))
}

/// Value of `--name VALUE` or `--name=VALUE`.
fn typed_value(typed: &[OsString], name: &str) -> Option<OsString> {
    let mut words = typed.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == name {
            return words.next().cloned();
        }
        let text = word.to_string_lossy();
        if let Some(value) = text.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.into());
        }
    }
    None
}

/// Index and definition of the subcommand.
fn subcommand<'a>(cli: &'a Command, typed: &[OsString]) -> Option<(usize, &'a Command)> {
    let mut is_value = false;
    for (at, word) in typed.iter().enumerate().skip(1) {
        if !is_value && let Some(found) = cli.get_subcommands().find(|command| word == command.get_name()) {
            return Some((at, found));
        }
        is_value = GLOBAL_FLAGS_WITH_VALUE.iter().any(|flag| word == flag);
    }
    None
}

fn flag<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    // These two locate the settings themselves.
    let locates_settings = matches!(key, "config" | "profile");
    command.get_arguments().filter(|_| !locates_settings).find(|arg| arg.get_long() == Some(key))
}

fn is_set(arg: &Arg, variable: &impl Fn(&str) -> Option<OsString>) -> bool {
    arg.get_env().and_then(|name| name.to_str()).and_then(variable).is_some()
}

/// Whether the variable is true, as clap's `BoolishValueParser` reads it.
fn is_true(arg: &Arg, variable: &impl Fn(&str) -> Option<OsString>) -> bool {
    let value = arg.get_env().and_then(|name| name.to_str()).and_then(variable);
    let value = value.map(|value| value.to_string_lossy().to_lowercase());
    value.is_some_and(|value| ["y", "yes", "t", "true", "on", "1"].contains(&value.as_str()))
}

fn is_typed(typed: &[OsString], arg: &Arg) -> bool {
    let long = arg.get_long().map(|long| format!("--{long}")).unwrap_or_default();
    typed.iter().take_while(|word| *word != "--").any(|word| {
        let word = word.to_string_lossy();
        let rest = word.strip_prefix(&long);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
            || arg
                .get_short()
                .is_some_and(|short| word.len() == 2 && word.strip_prefix('-') == Some(&short.to_string()))
    })
}

fn as_arguments(arg: &Arg, key: &str, value: &Value) -> Result<Vec<String>, &'static str> {
    let takes_none = matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::SetFalse);
    let needs_none = takes_none || arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    match value {
        Value::Boolean(false) if needs_none => Ok(Vec::new()),
        Value::Boolean(true) if needs_none => Ok(vec![format!("--{key}")]),
        Value::Integer(times) if matches!(arg.get_action(), ArgAction::Count) => {
            Ok((0..(*times).clamp(0, 3)).map(|_| format!("--{key}")).collect())
        }
        _ if takes_none => Err("expected true or false"),
        Value::String(text) => Ok(vec![format!("--{key}={text}")]),
        Value::Integer(number) => Ok(vec![format!("--{key}={number}")]),
        Value::Float(number) => Ok(vec![format!("--{key}={number}")]),
        Value::Array(values) => {
            let texts: Option<Vec<&str>> = values.iter().map(Value::as_str).collect();
            let texts = texts.ok_or("expected a list of strings")?;
            Ok(texts.into_iter().map(|text| format!("--{key}={text}")).collect())
        }
        Value::Boolean(_) | Value::Datetime(_) | Value::Table(_) => {
            Err("expected a string, a number or a list of strings")
        }
    }
}

fn closest_flag(cli: &Command, key: &str) -> Option<String> {
    let commands = std::iter::once(cli).chain(cli.get_subcommands());
    let names = commands.flat_map(Command::get_arguments).filter_map(Arg::get_long);
    closest_match(key, names).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn with(settings: &str, typed: &str, environment: &[(&str, &str)]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, settings).unwrap();
        let mut typed: Vec<OsString> = typed.split(' ').map(OsString::from).collect();
        typed.insert(1, format!("--config={}", file.display()).into());
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        let cli = Cli::command();
        let all = arguments(&cli, typed, variable).map_err(|error| error.to_string())?;
        cli.try_get_matches_from(&all).map_err(|error| error.to_string())?;
        Ok(all[2..].iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn settings_keys_become_flags_after_the_command() {
        let settings = "qps = 20\ngroup = \"g1\"\nsandbox = true\nprecheck = false\ncolumn = [\"path=photo\"]\n";
        assert_eq!(
            with(settings, "face-enroll run m.csv", &[]).unwrap(),
            "run --column=path=photo --group=g1 --qps=20 --sandbox m.csv"
        );
        assert_eq!(
            with(settings, "face-enroll -q run m.csv --qps 5", &[("FACE_ENROLL_GROUP", "g2")]).unwrap(),
            "-q run --column=path=photo --sandbox m.csv --qps 5"
        );
        // Another command takes only the keys that it knows.
        assert_eq!(with(settings, "face-enroll status m.csv", &[]).unwrap(), "status --sandbox m.csv");
        // The flags of `sandbox` with these names are different ones.
        assert_eq!(with(settings, "face-enroll sandbox", &[]).unwrap(), "sandbox");
        // A rehearsal has its own endpoint.
        let settings = "endpoint = \"https://example.com\"\nqps = 5\n";
        let rehearsal = "run --qps=5 m.csv --sandbox";
        assert_eq!(with(settings, "face-enroll run m.csv --sandbox", &[]).unwrap(), rehearsal);
        let by_variable = |value| with(settings, "face-enroll run m.csv", &[("FACE_ENROLL_SANDBOX", value)]).unwrap();
        assert_eq!(by_variable("Yes"), "run --qps=5 m.csv");
        assert_eq!(by_variable("false"), "run --endpoint=https://example.com --qps=5 m.csv");
    }

    #[test]
    fn profile_overrides_other_keys() {
        let settings = "qps = 20\n[profile.night]\nqps = 40\nmax-duration = \"8h\"\n";
        assert_eq!(
            with(settings, "face-enroll --profile night run m.csv", &[]).unwrap(),
            "--profile night run --max-duration=8h --qps=40 m.csv"
        );
        assert!(with(settings, "face-enroll --profile day run m.csv", &[]).unwrap_err().contains("no [profile.day]"));
    }

    #[test]
    fn byte_order_mark_is_skipped() {
        assert_eq!(with("\u{feff}qps = 20\r\n", "face-enroll run m.csv", &[]).unwrap(), "run --qps=20 m.csv");
    }

    #[test]
    fn sample_settings_are_valid() {
        let sample = include_str!("../samples/config.toml");
        let all = with(sample, "face-enroll --profile night run m.csv", &[]).unwrap();
        assert!(all.contains("--region=ap-southeast-1") && all.contains("--exit-on=new"), "{all}");
    }

    #[test]
    fn settings_error_names_line_and_closest_flag() {
        let error = |settings: &str| with(settings, "face-enroll run m.csv", &[]).unwrap_err();
        assert!(error("max-durration = \"1h\"").contains("did you mean max-duration?"));
        assert!(error("precheck = \"maybe\"").contains("true or false"));
        assert!(error("a = [\nb").contains("line 2"), "{}", error("a = [\nb"));
        assert!(error("qps = 0").contains("a rate is a number"));
        assert!(error("access_key_secret = \"x\"").contains("unknown key"));
    }
}
