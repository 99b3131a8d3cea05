//! What the process is told from outside.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::task::AbortOnDropHandle;

use super::CliError;
use crate::{
    exit::Exit,
    run::{Stop, is_ignored},
};

/// The first signal drains, the second leaves. What was ignored at the start stays ignored.
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
                tracing::warn!("leaving at once: what is in flight is in doubt");
                stop.force_quit();
                return;
            }
            tracing::warn!(signal = number, "stopping: what is in flight is heard out; a second signal leaves at once");
            stop.on_signal(number);
        }
    })))
}

/// A write beyond RLIMIT_FSIZE fails, as on a full disk, and does not kill the process: a signal that is caught interrupts
/// nothing, and is not caught by the programs that we start.
pub(super) fn survive_size_limit() -> Result<(), CliError> {
    let kind = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // Once caught, it stays caught, though nobody listens.
    signal(kind).map(drop).map_err(|error| CliError::new(Exit::Internal, error))
}

/// The next signal; nothing, for ever, where there is none to wait for.
pub(super) async fn next(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => pending().await,
    }
}

/// Returns when any of the signals that end a run has come.
pub(super) async fn any() {
    let hear = |kind| open(kind).unwrap_or_default();
    let (mut hangup, mut interrupt, mut terminate) =
        (hear(SignalKind::hangup()), hear(SignalKind::interrupt()), hear(SignalKind::terminate()));
    tokio::select! {
        Some(()) = next(&mut hangup) => {}
        Some(()) = next(&mut interrupt) => {}
        Some(()) = next(&mut terminate) => {}
        else => pending().await,
    }
}

/// None: it was ignored when the process began.
fn open(kind: SignalKind) -> Result<Option<Signal>, CliError> {
    let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
    if is_ignored(number) {
        Ok(None)
    } else {
        signal(kind).map(Some).map_err(|error| CliError::new(Exit::Internal, error))
    }
}
