//! A run of the real binary against a sandbox that outlives it, a file per theme.

mod answers;
mod basic;
mod corrections;
mod help;
mod limits;
mod output;
mod signals;
mod usage;

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStderr},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::Ended;

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn wait(child: Child) -> Ended {
    Ended::from(child.wait_with_output().unwrap())
}

/// Waits for a line of stderr with the text. The caller keeps the reader, so that the process does not lose its stderr.
fn wait_for_line(child: &mut Child, text: &str) -> BufReader<ChildStderr> {
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the process ended without a line with {text}");
    }
    stderr
}
