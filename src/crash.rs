//! Named points at which a test may kill the process: `FACE_ENROLL_CRASH=intent.after_commit:3` dies at the third passage.
//!
//! Compiled only with the feature `failpoints`, which the tests switch on for themselves. The process dies by SIGKILL,
//! so nothing is flushed or dropped.

/// Kills the process here if the environment says so.
#[cfg(feature = "failpoints")]
pub(crate) fn point(name: &'static str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };
    static TARGET: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let spec = std::env::var("FACE_ENROLL_CRASH").ok()?;
        let (name, passage) = spec.rsplit_once(':')?;
        Some((name.to_owned(), AtomicU32::new(passage.parse().ok()?)))
    });
    let Some((target, left)) = &*TARGET else { return };
    if target == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        // The signal may need a moment to arrive; nothing may happen in it.
        loop {
            std::thread::park();
        }
    }
}

/// Does nothing without the feature.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn point(_name: &'static str) {}
