//! The process is killed, the power goes, the disk fills up: a test binary of its own, because it keeps both cores busy,
//! which would disturb tests that count calls in a second, and because a SQLite file system needs unsafe code.

#![allow(unreachable_pub, clippy::unwrap_used)]

mod disk;
mod kill;
mod power;
#[path = "../it/support.rs"]
#[allow(dead_code)]
mod support;
#[allow(unsafe_code)]
mod vfs;
