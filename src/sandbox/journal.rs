//! Everything that arrived, and what became of it: the witness for 'never more calls in any second', 'nothing is sent twice'.
//!
//! In memory always; in a file (JSON Lines) when there is to be one: a line once it is known what becomes of the arrival,
//! before the answer leaves. Lines are in that order; `seq` is the order of arrival.

use std::{fs::File, io::Write, path::Path, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{SandboxError, text};
use crate::{domain::Digest, files};

/// The window in which quotas count.
const SECOND: Duration = Duration::from_secs(1);

/// One request that was read to its end.
#[derive(Debug, Clone, Serialize)]
pub struct CallRecord {
    /// Its number, the first being 0.
    pub seq: u64,
    /// When its last byte had been read, since the sandbox opened.
    #[serde(rename = "at_us", serialize_with = "micros")]
    pub at: Duration,
    /// The same by the sandbox's clock.
    #[serde(serialize_with = "text::timestamp::serialize")]
    pub wall: Timestamp,
    /// `x-acs-action` as sent.
    pub action: Option<String>,
    /// `MerchantUserId` as sent.
    pub user: Option<String>,
    /// `FaceGroupCode` as sent.
    pub group: Option<String>,
    /// `x-acs-signature-nonce` as sent.
    pub nonce: Option<String>,
    /// SHA-256 of the picture, where a well-formed one came with a call that was let through.
    #[serde(serialize_with = "text::digest::serialize")]
    pub picture: Option<Digest>,
    /// Did the gateway take it, and the quota let it through?
    pub admitted: bool,
    /// The record that it made.
    pub record: Option<i64>,
    /// What its sender got.
    pub ending: CallEnd,
}

/// What the sender of a request got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// Nothing yet.
    Pending,
    /// An answer.
    Answered {
        /// HTTP status.
        status: u16,
        /// `Code`; `Passed=N` for a success that did not pass, `html` and `unreadable` for what is no JSON.
        code: String,
    },
    /// Half an answer and the end of the connection.
    Cut,
    /// A reset connection.
    Reset,
    /// Nothing, ever.
    Stalled,
}

impl CallRecord {
    /// Was it refused for coming too soon?
    pub fn is_throttled(&self) -> bool {
        match &self.ending {
            CallEnd::Answered { code, .. } => code.starts_with("Throttling"),
            CallEnd::Pending | CallEnd::Cut | CallEnd::Reset | CallEnd::Stalled => false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    arrivals: Vec<CallRecord>,
    file: Option<File>,
}

impl Journal {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, SandboxError> {
        let file_error = |path: &Path, source| SandboxError::File { path: path.to_owned(), source };
        let open = |path: &Path| files::open_log(path).map_err(|e| file_error(path, e));
        Ok(Self { arrivals: Vec::new(), file: path.map(open).transpose()? })
    }

    /// Notes an arrival, and gives it its number.
    pub(super) fn note(&mut self, mut arrival: CallRecord) -> u64 {
        let seq = self.arrivals.len() as u64;
        arrival.seq = seq;
        self.arrivals.push(arrival);
        seq
    }

    /// Adds what has become known of an arrival.
    pub(super) fn amend(&mut self, seq: u64, amend: impl FnOnce(&mut CallRecord)) {
        if let Some(arrival) = self.arrivals.get_mut(seq as usize) {
            amend(arrival);
        }
    }

    /// Notes what its sender gets, and writes its line.
    pub(super) fn end(&mut self, seq: u64, ending: CallEnd) {
        self.amend(seq, |arrival| arrival.ending = ending);
        let Some((file, arrival)) = self.file.as_mut().zip(self.arrivals.get(seq as usize)) else { return };
        let written = serde_json::to_vec(arrival).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            file.write_all(&line)
        });
        if let Err(error) = written {
            tracing::error!(%error, "the sandbox's journal can't be written");
        }
    }

    pub(super) fn arrivals(&self) -> &[CallRecord] {
        &self.arrivals
    }
}

/// The most of these stamps that lie within one second, wherever it begins.
pub(super) fn max_accepted_in_any_second(stamps: impl IntoIterator<Item = Duration>) -> usize {
    let mut stamps: Vec<Duration> = stamps.into_iter().collect();
    stamps.sort_unstable();
    let mut first = 0;
    let mut worst = 0;
    for (last, &stamp) in stamps.iter().enumerate() {
        while stamps[first] + SECOND <= stamp {
            first += 1;
        }
        worst = worst.max(last - first + 1);
    }
    worst
}

fn micros<S: serde::Serializer>(at: &Duration, to: S) -> Result<S::Ok, S::Error> {
    (at.as_micros() as u64).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worst_second_is_found_wherever_it_begins() {
        let worst = |millis: &[u64]| max_accepted_in_any_second(millis.iter().map(|&ms| Duration::from_millis(ms)));
        assert_eq!(worst(&[]), 0);
        assert_eq!(worst(&[0, 999, 1000]), 2);
        assert_eq!(worst(&[2100, 900, 1000, 1899, 1900]), 3);
    }
}
