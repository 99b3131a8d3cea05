//! Failpoints: named points at which a test kills the process. `FACE_ENROLL_CRASH=intent.after_commit:3` kills it at the third
//! pass.
//!
//! Compiled only with the feature `failpoints`, which the tests enable. Uses SIGKILL, so nothing is flushed or dropped.

/// Kills the process if `FACE_ENROLL_CRASH` names this point.
#[cfg(feature = "failpoints")]
pub(crate) fn point(name: &'static str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };
    static TARGET: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let spec = std::env::var("FACE_ENROLL_CRASH").ok()?;
        let (name, pass) = spec.rsplit_once(':')?;
        Some((name.to_owned(), AtomicU32::new(pass.parse().ok()?)))
    });
    let Some((target, left)) = &*TARGET else { return };
    if target == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal may take a moment to arrive; do nothing until then.
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing without the feature.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn point(_name: &'static str) {}
