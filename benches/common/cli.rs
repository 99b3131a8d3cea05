//! Commands that run the real binary against a stub, without environment variables that could change its behaviour.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub const GROUP: &str = "sgl0001uc";
pub const KEY: &str = "LTAIstub";
pub const SECRET: &str = "secret-of-the-stub";

/// `face-enroll SUBCOMMAND -q`.
pub fn command(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_face-enroll"));
    for (name, _) in std::env::vars_os() {
        let is_config =
            ["FACE_ENROLL_", "ALIBABA_CLOUD_", "XDG_"].iter().any(|it| name.to_string_lossy().starts_with(it));
        if is_config {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").arg(subcommand).arg("-q").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// `face-enroll run MANIFEST --checkpoint FILE --endpoint URL`.
pub fn run(manifest: &Path, checkpoint: &Path, endpoint: &str) -> Command {
    let mut command = command("run");
    command.arg(manifest).arg("--checkpoint").arg(checkpoint);
    command.args(["--group", GROUP, "--endpoint", endpoint, "--progress", "never"]);
    command.env("ALIBABA_CLOUD_ACCESS_KEY_ID", KEY).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", SECRET);
    command
}

/// Removes a checkpoint and its companion files.
pub fn remove(checkpoint: &Path) {
    for end in ["", "-wal", "-shm", ".lock"] {
        let _ = std::fs::remove_file(PathBuf::from(format!("{}{end}", checkpoint.display())));
    }
}
