//! `face-enroll config show`: the settings of a run and where each comes from. Fetches the credentials, as a run would.

use std::ffi::OsString;

use clap::{CommandFactory, parser::ValueSource};

use super::CliError;
use crate::{
    api::{Credentials, PingUrl},
    cli::{Cli, LogArgs},
    exit::Exit,
    report, settings,
};

pub(super) async fn show(log: &LogArgs) -> Result<Exit, CliError> {
    let cli = Cli::command();
    let typed = run_command_line(log);
    let variable = |name: &str| std::env::var_os(name);
    let file = settings::file(&typed, variable);
    let usage = |error: Box<dyn std::error::Error + Send + Sync>| CliError::new(Exit::Usage, error);
    let arguments = settings::arguments(&cli, typed.clone(), variable).map_err(|error| usage(indent(&error).into()))?;
    let from_file: Vec<String> = arguments
        .iter()
        .filter(|word| !typed.contains(word))
        .map(|word| word.to_string_lossy().trim_start_matches('-').split('=').next().unwrap_or_default().to_owned())
        .collect();
    // clap's message names the flag and the error.
    let matches = cli.clone().try_get_matches_from(&arguments).map_err(|error| usage(indent(&error).into()))?;
    let (_, run) = matches.subcommand().expect("`run` was typed");
    let run_command = cli.find_subcommand("run").expect("there is a command run");
    let named = file.as_ref().map_or("none".to_owned(), |file| file.display().to_string());
    report::print(&format!("settings file  {named}"));
    for arg in run_command.get_arguments() {
        let (Some(long), id) = (arg.get_long(), arg.get_id().as_str()) else { continue };
        let values: Vec<String> =
            run.get_raw(id).into_iter().flatten().map(|value| without_secret(long, &value.to_string_lossy())).collect();
        let value = if values.is_empty() { "-".to_owned() } else { values.join(",") };
        let from = match run.value_source(id) {
            Some(ValueSource::EnvVariable) => {
                arg.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
            Some(ValueSource::CommandLine) if from_file.iter().any(|key| key == long) => "file".to_owned(),
            Some(ValueSource::CommandLine) => "typed".to_owned(),
            Some(_) | None => "default".to_owned(),
        };
        report::print(&format!("{long:<20} {value:<34} {from}"));
    }
    let ca_file = run.get_one::<std::path::PathBuf>("ca_file");
    let roots = ca_file.map(std::fs::read).transpose().map_err(|error| usage(format!("--ca-file: {error}").into()))?;
    let roots = roots.unwrap_or_default();
    let credentials = match Credentials::resolve(|name| std::env::var(name).ok(), &roots).await {
        Ok(found) => format!("{:<20} {:<34} {}", "access key", found.masked_id(), found.origin()),
        Err(error) => format!("{:<20} {:<34} {error}", "access key", "-"),
    };
    report::print(&credentials);
    Ok(Exit::Success)
}

/// Indents the later lines of a message.
fn indent(error: &dyn std::fmt::Display) -> String {
    error.to_string().trim_end().replace('\n', "\n  ")
}

/// The shortest `run` command line with the same settings.
fn run_command_line(log: &LogArgs) -> Vec<OsString> {
    let mut typed: Vec<OsString> = vec!["face-enroll".into()];
    let given = [
        ("--config", log.config.as_ref().map(|path| path.clone().into_os_string())),
        ("--profile", log.profile.as_ref().map(OsString::from)),
    ];
    for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        typed.extend([name.into(), value]);
    }
    typed.extend(["run".into(), "-".into()]);
    typed
}

/// Masks the password of a URL, and all of `--ping-url` but its host.
fn without_secret(flag: &str, text: &str) -> String {
    if flag == "ping-url" {
        return PingUrl::parse(&text.into()).map_or("****".to_owned(), |url| url.to_string());
    }
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            let _ = url.set_password(Some("****"));
            url.to_string()
        }
        Ok(_) | Err(_) => text.to_owned(),
    }
}
