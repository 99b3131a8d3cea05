//! Credentials from a program named by a CLI profile. It runs without a shell, as in the official Python package.

use std::{process::Stdio, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use tokio::{io::AsyncReadExt, process::Command, time::Instant};

use super::{
    error::FetchError,
    temporary::{TemporaryCredentials, Ttl, access_key, parse_ttl},
};
use crate::domain::{CallFailure, FailureKind};

/// Timeout for the program (PY-CRED, external.py).
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest output that is read, in bytes; a key is much smaller.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;

#[derive(Deserialize)]
struct Output {
    mode: Option<String>,
    access_key_id: String,
    access_key_secret: String,
    sts_token: Option<String>,
    expiration: Option<String>,
}

/// Runs the command. Errors show neither the command nor its output, because both may contain a secret.
pub(super) async fn fetch(command: &str) -> Result<TemporaryCredentials, FetchError> {
    let unusable = |why: &str| FetchError::Unusable(format!("the profile's process_command {why}"));
    let words =
        shlex::split(command).filter(|words| !words.is_empty()).ok_or_else(|| unusable("is not a valid command"))?;
    let from = Instant::now();
    let run = async {
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut output = Vec::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        stdout.take(MAX_OUTPUT_BYTES).read_to_end(&mut output).await?;
        // The pipe is closed by now, so a program with more output does not block forever.
        child.wait().await.map(|status| (status, output))
    };
    let (status, output) = match tokio::time::timeout(COMMAND_TIMEOUT, run).await {
        Ok(run) => run.map_err(|error: std::io::Error| unusable(&format!("cannot be run: {error}")))?,
        Err(_) => {
            let message =
                format!("the profile's process_command did not finish within {} s", COMMAND_TIMEOUT.as_secs());
            return Err(FetchError::Unavailable(CallFailure { kind: FailureKind::Timeout, message, request_id: None }));
        }
    };
    if !status.success() {
        return Err(unusable(&format!("failed ({status}); run it by hand to see why")));
    }
    let output: Output = serde_json::from_slice(&output).map_err(|_| unusable("did not print a key as JSON"))?;
    let token = output.sts_token.as_deref().filter(|token| !token.is_empty());
    if output.mode.as_deref() == Some("StsToken") && token.is_none() {
        return Err(unusable("printed no sts_token"));
    }
    let key = access_key(&output.access_key_id, &output.access_key_secret, token)
        .ok_or_else(|| unusable("printed an incomplete key"))?;
    let expiration = output.expiration.filter(|text| !text.is_empty());
    let length = expiration.map(|text| parse_ttl(&text, Timestamp::now())).transpose()?;
    Ok(TemporaryCredentials { key, ttl: length.map(|length| Ttl { from, length }), role: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn command_runs_without_a_shell() {
        let output = r#"{"mode":"StsToken","access_key_id":"STS.0123456789AB","access_key_secret":"s","sts_token":"$t","expiration":"2199-01-01T00:00:00Z"}"#;
        let credentials = fetch(&format!("printf %s '{output}'")).await.unwrap();
        assert_eq!((credentials.key.masked_id().as_str(), credentials.key.token()), ("STS.****89AB", Some("$t")));
        assert!(credentials.ttl.unwrap().length > Duration::from_secs(1_000_000));
        let permanent = r#"{"mode":"AK","access_key_id":"LTAI5tTHEBANKSKEY001","access_key_secret":"s"}"#;
        assert!(fetch(&format!("printf %s '{permanent}'")).await.unwrap().ttl.is_none());
    }

    #[tokio::test]
    async fn credential_process_errors_hide_its_output() {
        for (command, words) in [
            ("", "not a valid command"),
            ("printf 'planted", "not a valid command"),
            ("/nonexistent/planted-program planted", "cannot be run"),
            ("sh -c 'echo planted; exit 3'", "exit status: 3"),
            ("echo planted", "key as JSON"),
            (r#"echo '{"access_key_id":"planted","access_key_secret":""}'"#, "incomplete key"),
            (r#"echo '{"mode":"StsToken","access_key_id":"planted","access_key_secret":"s"}'"#, "no sts_token"),
            (
                r#"echo '{"access_key_id":"a","access_key_secret":"planted","expiration":"2001-01-01T00:00:00Z"}'"#,
                "already expired",
            ),
        ] {
            let error = fetch(command).await.unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("planted"), "{command}: {error}");
        }
    }
}
