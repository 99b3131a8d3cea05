//! `--on-finish`: a command of the operator's is handed the summary when the run has ended.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

/// It is to tell somebody, not to hold up the next run.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Runs it, with the summary on its stdin and our stderr for all that it says. What becomes of it changes no exit code.
pub(super) async fn hand_over(command: &str, summary: &str) {
    match tokio::time::timeout(TIME_LIMIT, run(command, summary)).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::warn!(%status, "--on-finish failed"),
        Ok(Err(error)) => tracing::warn!(%error, "--on-finish could not be run"),
        Err(_elapsed) => tracing::warn!(limit = ?TIME_LIMIT, "--on-finish took too long and was killed"),
    }
}

async fn run(command: &str, summary: &str) -> std::io::Result<std::process::ExitStatus> {
    let mut shell = Command::new("sh");
    // Stdout is for our own results. The keys are none of its business.
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::from(std::io::stderr())).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ALIBABA_CLOUD_") {
            shell.env_remove(name);
        }
    }
    let mut child = shell.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read it.
        let _ = stdin.write_all(format!("{summary}\n").as_bytes()).await;
    }
    child.wait().await
}
