//! Measures a child process: elapsed time, CPU time and peak memory (Linux).

use std::{
    fs,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Clock ticks per second in `/proc/PID/stat` (`getconf CLK_TCK`).
const TICKS_PER_SECOND: u64 = 100;

/// Resources used by a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub elapsed: Duration,
    pub cpu: Duration,
    /// Peak resident memory in bytes.
    pub peak: u64,
}

/// Runs the command and expects success. `has_started` is polled; usage before it returns true is not counted.
pub fn measure(command: &mut Command, has_started: impl FnMut() -> bool) -> Usage {
    let (usage, status) = run(command, has_started);
    assert!(status.success(), "{command:?} ended with {status}");
    usage
}

/// Like [`measure`], but accepts any exit status.
pub fn measure_any(command: &mut Command, has_started: impl FnMut() -> bool) -> Usage {
    run(command, has_started).0
}

fn run(command: &mut Command, mut has_started: impl FnMut() -> bool) -> (Usage, ExitStatus) {
    let (mut started, mut before) = (Instant::now(), None);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut peak = 0;
    while !has_exited(&child) {
        if before.is_none() && has_started() {
            before = Some(cpu(child.id()));
            started = if before == Some(Duration::ZERO) { started } else { Instant::now() };
        }
        peak = peak.max(peak_bytes(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    let (elapsed, cpu) = (started.elapsed(), cpu(child.id()));
    let status = child.wait().expect("own child process");
    (Usage { elapsed, cpu: cpu.saturating_sub(before.unwrap_or_default()), peak }, status)
}

/// Whether the process has exited. It is not reaped, so that its usage can still be read.
fn has_exited(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    waitid(WaitId::Pid(Pid::from_child(child)), options).expect("own child process").is_some()
}

/// User and system time so far, with a resolution of 10 ms.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    // Fields 14 and 15 (proc_pid_stat(5)); the first two end with the parenthesis.
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// Peak resident memory so far.
pub fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

/// Median; the lower one for an even number of values.
pub fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("no measurement is NaN"));
    values[(values.len() - 1) / 2]
}
