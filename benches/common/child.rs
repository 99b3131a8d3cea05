//! A program under measurement: its time, the processor time that it took and the most memory that it held (Linux).

use std::{
    fs,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// A second's clock ticks in what Linux tells of a process (`getconf CLK_TCK`).
const TICKS: u64 = 100;

/// What a program took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub elapsed: Duration,
    pub cpu: Duration,
    /// Bytes.
    pub peak: u64,
}

/// Runs it to a good end. `has_begun` is asked now and then; what the program took before it says yes is not counted.
pub fn measure(command: &mut Command, has_begun: impl FnMut() -> bool) -> Usage {
    let (usage, status) = follow(command, has_begun);
    assert!(status.success(), "{command:?} ended with {status}");
    usage
}

/// The same, to whichever end.
pub fn measure_any(command: &mut Command, has_begun: impl FnMut() -> bool) -> Usage {
    follow(command, has_begun).0
}

fn follow(command: &mut Command, mut has_begun: impl FnMut() -> bool) -> (Usage, ExitStatus) {
    let (mut started, mut before) = (Instant::now(), None);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut peak = 0;
    while !has_ended(&child) {
        if before.is_none() && has_begun() {
            before = Some(cpu(child.id()));
            started = if before == Some(Duration::ZERO) { started } else { Instant::now() };
        }
        peak = peak.max(peak_bytes(child.id()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    let (elapsed, cpu) = (started.elapsed(), cpu(child.id()));
    let status = child.wait().expect("it is our child");
    (Usage { elapsed, cpu: cpu.saturating_sub(before.unwrap_or_default()), peak }, status)
}

/// Leaves it in the table of processes, so that it can still be asked what it took.
fn has_ended(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    waitid(WaitId::Pid(Pid::from_child(child)), options).expect("it is our child").is_some()
}

/// User and system time so far, in steps of 10 ms.
fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    // The 14th and 15th of all (proc_pid_stat(5)); the first two stand before the parenthesis.
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS)
}

fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

/// The middle one; of an even number, the lower of the two.
pub fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("no measurement is NaN"));
    values[(values.len() - 1) / 2]
}
