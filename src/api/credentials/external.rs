//! A key from a program that a profile of the CLI names: run without a shell, as the official Python package does.

use std::{process::Stdio, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use tokio::{io::AsyncReadExt, process::Command, time::Instant};

use super::{
    error::FetchError,
    grant::{TemporaryCredentials, Ttl, key, life},
};
use crate::domain::{CallFailure, FailureKind};

/// How long the program may take (PY-CRED, external.py).
const LIMIT: Duration = Duration::from_secs(60);
/// More than a key can be.
const OUTPUT_CAP: u64 = 64 * 1024;

#[derive(Deserialize)]
struct Output {
    mode: Option<String>,
    access_key_id: String,
    access_key_secret: String,
    sts_token: Option<String>,
    expiration: Option<String>,
}

/// Neither what it is called with nor what it says is shown: either may hold a secret.
pub(super) async fn fetch(command: &str) -> Result<TemporaryCredentials, FetchError> {
    let unusable = |why: &str| FetchError::Unusable(format!("the profile's process_command {why}"));
    let words = shlex::split(command).filter(|words| !words.is_empty()).ok_or_else(|| unusable("is no command"))?;
    let from = Instant::now();
    let ran = async {
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut output = Vec::new();
        let stdout = child.stdout.take().expect("it is piped");
        stdout.take(OUTPUT_CAP).read_to_end(&mut output).await?;
        // One that has more to say must not wait for ever to say it.
        child.wait().await.map(|status| (status, output))
    };
    let (status, output) = match tokio::time::timeout(LIMIT, ran).await {
        Ok(ran) => ran.map_err(|error: std::io::Error| unusable(&format!("can't be run: {error}")))?,
        Err(_) => {
            let message = format!("the profile's process_command has not ended within {} s", LIMIT.as_secs());
            return Err(FetchError::Unavailable(CallFailure { kind: FailureKind::Timeout, message, request_id: None }));
        }
    };
    if !status.success() {
        return Err(unusable(&format!("has failed ({status}): run it by hand to see why")));
    }
    let output: Output = serde_json::from_slice(&output).map_err(|_| unusable("printed no key in JSON"))?;
    let token = output.sts_token.as_deref().filter(|token| !token.is_empty());
    if output.mode.as_deref() == Some("StsToken") && token.is_none() {
        return Err(unusable("printed no sts_token"));
    }
    let key =
        key(&output.access_key_id, &output.access_key_secret, token).ok_or_else(|| unusable("printed half a key"))?;
    let expiration = output.expiration.filter(|text| !text.is_empty());
    let length = expiration.map(|text| life(&text, Timestamp::now())).transpose()?;
    Ok(TemporaryCredentials { key, ends: length.map(|length| Ttl { from, length }), role: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn command_gives_a_key_without_a_shell() {
        let output = r#"{"mode":"StsToken","access_key_id":"STS.0123456789AB","access_key_secret":"s","sts_token":"$t","expiration":"2199-01-01T00:00:00Z"}"#;
        let grant = fetch(&format!("printf %s '{output}'")).await.unwrap();
        assert_eq!((grant.key.masked_id().as_str(), grant.key.token()), ("STS.****89AB", Some("$t")));
        assert!(grant.ends.unwrap().length > Duration::from_secs(1_000_000));
        let lasting = r#"{"mode":"AK","access_key_id":"LTAI5tTHEBANKSKEY001","access_key_secret":"s"}"#;
        assert!(fetch(&format!("printf %s '{lasting}'")).await.unwrap().ends.is_none());
    }

    #[tokio::test]
    async fn credential_process_errors_hide_its_output() {
        for (command, words) in [
            ("", "no command"),
            ("printf 'planted", "no command"),
            ("/nonexistent/planted-program planted", "can't be run"),
            ("sh -c 'echo planted; exit 3'", "exit status: 3"),
            ("echo planted", "no key in JSON"),
            (r#"echo '{"access_key_id":"planted","access_key_secret":""}'"#, "half a key"),
            (r#"echo '{"mode":"StsToken","access_key_id":"planted","access_key_secret":"s"}'"#, "no sts_token"),
            (
                r#"echo '{"access_key_id":"a","access_key_secret":"planted","expiration":"2001-01-01T00:00:00Z"}'"#,
                "expired already",
            ),
        ] {
            let error = fetch(command).await.unwrap_err().to_string();
            assert!(error.contains(words) && !error.contains("planted"), "{command}: {error}");
        }
    }
}
