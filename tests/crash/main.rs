//! Crash tests: SIGKILL, power loss, full disk.
//!
//! They are a separate test binary because they keep all cores busy, which would disturb tests that count calls per second,
//! and because a SQLite VFS needs unsafe code.

#![allow(unreachable_pub, clippy::unwrap_used)]

mod disk;
mod kill;
mod power;
#[path = "../it/support.rs"]
#[allow(dead_code)]
mod support;
#[allow(unsafe_code)]
mod vfs;
