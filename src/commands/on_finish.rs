//! `--on-finish`: runs a command of the operator with the summary on its stdin after the run has ended.

use std::{process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use super::signals;

/// A hook is for notifications and must not delay the next run.
const HOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs the hook with its output on our stderr. Its result never changes the exit code; a signal kills it.
pub(super) async fn run_hook(command: &str, summary: &str) {
    let mut child = match spawn(command) {
        Ok(child) => child,
        Err(error) => return tracing::warn!(%error, "cannot run --on-finish"),
    };
    // The hook leads a process group of its own, so its children can be killed with it.
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let is_over = tokio::select! {
        ended = wait(&mut child, summary) => {
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => tracing::warn!(%status, "--on-finish failed"),
                Err(error) => tracing::warn!(%error, "cannot wait for --on-finish"),
            }
            true
        }
        () = tokio::time::sleep(HOOK_TIMEOUT) => {
            tracing::warn!(limit = ?HOOK_TIMEOUT, "--on-finish took too long: killed it");
            false
        }
        () = signals::any() => {
            tracing::warn!("quitting: killed --on-finish");
            false
        }
    };
    if let (false, Some(group)) = (is_over, group) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn spawn(command: &str) -> std::io::Result<Child> {
    let mut shell = Command::new("sh");
    // Stdout is reserved for our own results, and the hook must not see the credentials or the token of --ping-url.
    shell.args(["-c", command]).stdin(Stdio::piped()).stdout(Stdio::from(std::io::stderr())).process_group(0);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ALIBABA_CLOUD_") || name == "FACE_ENROLL_PING_URL" {
            shell.env_remove(name);
        }
    }
    shell.spawn()
}

async fn wait(child: &mut Child, summary: &str) -> std::io::Result<std::process::ExitStatus> {
    if let Some(mut stdin) = child.stdin.take() {
        // The hook may close its stdin without reading.
        let _ = stdin.write_all(format!("{summary}\n").as_bytes()).await;
    }
    child.wait().await
}
