//! Exit codes (contract.md). When several apply, [`Exit::most_severe`] picks one.

/// Exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Every row is enrolled, or the command did its work.
    Success,
    /// A bug.
    Internal,
    /// Usage or configuration.
    Usage,
    /// A source is missing or unreadable, or no row of it parses.
    Source,
    /// Finished; some rows failed.
    Failed,
    /// Finished; some rows are rejected, or faults were found.
    Rejected,
    /// Stopped by an error that only a person can fix.
    Fatal,
    /// `--max-images` or `--max-errors`.
    Limit,
    /// `--max-duration`, or the service was unavailable too long.
    TimeUp,
    /// Another run holds the checkpoint.
    Locked,
    /// Something is still in doubt.
    InDoubt,
    /// The checkpoint can't be trusted or written.
    Checkpoint,
    /// Stopped by this signal, after a clean drain.
    Signal(u8),
}

impl Exit {
    /// Every code and its meaning, as in the manual page and the README.
    pub const TABLE: [(&'static str, &'static str); 13] = [
        ("0", "every row is enrolled (nothing to do counts)"),
        ("1", "internal error: please report it"),
        ("2", "usage or configuration"),
        (
            "3",
            "source missing or unreadable, or no row of it parses; a directory that is empty now and was not; a root without any of the photos named",
        ),
        ("5", "finished; some rows failed: trying again may help"),
        ("6", "finished; some rows are rejected: trying again does not help"),
        (
            "7",
            "stopped: credentials, permission, account, unknown group, endpoint, TLS, or the same refusal again and again",
        ),
        ("8", "--max-images or --max-errors reached"),
        (
            "10",
            "--max-duration reached, the service stayed away too long, or old records are still to be removed: run again",
        ),
        ("11", "another run holds the checkpoint"),
        ("12", "something is still in doubt, or verify --all found a difference"),
        ("13", "the checkpoint can't be trusted or written"),
        ("129, 130, 143", "SIGHUP, SIGINT, SIGTERM, after a clean drain; a second signal leaves at once"),
    ];

    /// The number of the code.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Source => 3,
            Self::Failed => 5,
            Self::Rejected => 6,
            Self::Fatal => 7,
            Self::Limit => 8,
            Self::TimeUp => 10,
            Self::Locked => 11,
            Self::InDoubt => 12,
            Self::Checkpoint => 13,
            Self::Signal(number) => 128 + number,
        }
    }

    /// The most severe exit, by the contract's precedence: 13 > 1 > 3 > 7 > signal > 10 > 8 > 12 > 5 > 6 > 0. Usage and a held
    /// lock come first, as they end the program before anything else can.
    pub fn most_severe(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().min_by_key(|exit| exit.rank()).unwrap_or(Self::Success)
    }

    fn rank(self) -> u8 {
        match self {
            Self::Usage | Self::Locked => 0,
            Self::Checkpoint => 1,
            Self::Internal => 2,
            Self::Source => 3,
            Self::Fatal => 4,
            Self::Signal(_) => 5,
            Self::TimeUp => 6,
            Self::Limit => 7,
            Self::InDoubt => 8,
            Self::Failed => 9,
            Self::Rejected => 10,
            Self::Success => 11,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_follows_the_contract() {
        let order = [
            Exit::Checkpoint,
            Exit::Internal,
            Exit::Fatal,
            Exit::Signal(15),
            Exit::TimeUp,
            Exit::Limit,
            Exit::InDoubt,
            Exit::Failed,
            Exit::Rejected,
            Exit::Success,
        ];
        for (at, severe) in order.iter().enumerate() {
            assert_eq!(Exit::most_severe(order[at..].iter().rev().copied()), *severe);
        }
        assert_eq!(Exit::most_severe([]), Exit::Success);
    }

    #[test]
    fn readme_has_the_same_exit_codes() {
        let readme = include_str!("../README.md").replace('`', "");
        for (code, meaning) in Exit::TABLE {
            assert!(readme.contains(&format!("| {code} | {meaning} |")), "{code}");
        }
    }

    #[test]
    fn signal_exits_with_128_plus_number() {
        assert_eq!([1, 2, 15].map(|signal| Exit::Signal(signal).code()), [129, 130, 143]);
    }
}
