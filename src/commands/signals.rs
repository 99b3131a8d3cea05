//! Signals that end a run.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::CliError;
use crate::{
    exit::Exit,
    run::{Stop, is_ignored},
};

/// Drains at the first signal and quits at the second. A signal that was ignored at start-up (`nohup`) stays ignored.
pub(super) fn listen(stop: Stop) -> Result<AbortOnDropHandle<()>, CliError> {
    let (mut hangup, mut interrupt, mut terminate) =
        (open(SignalKind::hangup())?, open(SignalKind::interrupt())?, open(SignalKind::terminate())?);
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let kind = tokio::select! {
                Some(()) = next(&mut hangup) => SignalKind::hangup(),
                Some(()) = next(&mut interrupt) => SignalKind::interrupt(),
                Some(()) = next(&mut terminate) => SignalKind::terminate(),
                else => return,
            };
            let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
            if stop.is_signalled() {
                tracing::warn!("quitting now: in-flight requests are recorded as in doubt");
                stop.force_quit();
                return;
            }
            tracing::warn!(
                signal = number,
                "stopping: waiting for in-flight requests; send a second signal to quit now"
            );
            stop.on_signal(number);
        }
    })))
}

/// Makes a write beyond RLIMIT_FSIZE fail, as on a full disk, instead of killing the process. SIGXFSZ is caught, not
/// ignored, so that child processes do not inherit the change.
pub(super) fn survive_size_limit() -> Result<(), CliError> {
    let kind = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // The signal stays caught after the listener is dropped.
    signal(kind).map(drop).map_err(|error| CliError::new(Exit::Internal, error))
}

/// Waits for the next signal; never returns if the signal is `None`.
pub(super) async fn next(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => pending().await,
    }
}

/// Waits for any signal that ends a run.
pub(super) async fn any() {
    let listen = |kind| open(kind).unwrap_or_default();
    let (mut hangup, mut interrupt, mut terminate) =
        (listen(SignalKind::hangup()), listen(SignalKind::interrupt()), listen(SignalKind::terminate()));
    tokio::select! {
        Some(()) = next(&mut hangup) => {}
        Some(()) = next(&mut interrupt) => {}
        Some(()) = next(&mut terminate) => {}
        else => pending().await,
    }
}

/// `None` if the signal was ignored at start-up.
fn open(kind: SignalKind) -> Result<Option<Signal>, CliError> {
    let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
    if is_ignored(number) {
        Ok(None)
    } else {
        signal(kind).map(Some).map_err(|error| CliError::new(Exit::Internal, error))
    }
}
