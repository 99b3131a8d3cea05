//! `--on-finish`: a command of the operator's is handed the summary when the run has ended.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use super::signals;

/// It is to tell somebody, not to hold up the next run.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Runs it, with the summary on its stdin and our stderr for all that it says. What becomes of it changes no exit code. A
/// signal does not wait for it.
pub(super) async fn hand_over(command: &str, summary: &str) {
    let mut child = match spawn(command) {
        Ok(child) => child,
        Err(error) => return tracing::warn!(%error, "--on-finish could not be run"),
    };
    // All that it starts is in a group of its own, by its first process.
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let is_over = tokio::select! {
        ended = ended(&mut child, summary) => {
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => tracing::warn!(%status, "--on-finish failed"),
                Err(error) => tracing::warn!(%error, "--on-finish could not be waited for"),
            }
            true
        }
        () = tokio::time::sleep(TIME_LIMIT) => {
            tracing::warn!(limit = ?TIME_LIMIT, "--on-finish took too long: it is killed");
            false
        }
        () = signals::any() => {
            tracing::warn!("leaving: --on-finish is killed");
            false
        }
    };
    if let (false, Some(group)) = (is_over, group) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn spawn(command: &str) -> std::io::Result<Child> {
    let mut shell = Command::new("sh");
    // Stdout is for our own results. The keys are none of its business.
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::from(std::io::stderr())).process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ALIBABA_CLOUD_") {
            shell.env_remove(name);
        }
    }
    shell.spawn()
}

async fn ended(child: &mut Child, summary: &str) -> std::io::Result<std::process::ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        // It need not read it.
        let _ = stdin.write_all(format!("{summary}\n").as_bytes()).await;
    }
    child.wait().await
}
