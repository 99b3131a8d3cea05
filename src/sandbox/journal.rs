//! Access log of the sandbox. Tests use it to prove that no second exceeds the quota and that nothing is sent twice.
//!
//! It is always kept in memory and optionally appended to a file (JSON Lines). A line is written once the end of a call is
//! known, before the response is sent. Lines are in that order; `seq` is the order of arrival.

use std::{fs::File, io::Write, path::Path, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{SandboxError, serde_text};
use crate::{domain::Digest, files};

/// Window in which quotas count.
const SECOND: Duration = Duration::from_secs(1);

/// One completely received request.
#[derive(Debug, Clone, Serialize)]
pub struct CallRecord {
    /// Sequence number, starting at 0.
    pub seq: u64,
    /// Time since the sandbox started when the last byte was read.
    #[serde(rename = "at_us", serialize_with = "micros")]
    pub at: Duration,
    /// The same time by the sandbox's wall clock.
    #[serde(serialize_with = "serde_text::timestamp::serialize")]
    pub wall: Timestamp,
    /// Bytes of the body.
    pub bytes: u64,
    /// `x-acs-action` as sent.
    pub action: Option<String>,
    /// `MerchantUserId` as sent.
    pub user: Option<String>,
    /// `FaceGroupCode` as sent.
    pub group: Option<String>,
    /// `FaceQualityCheck` as sent.
    pub quality_check: Option<String>,
    /// `x-acs-signature-nonce` as sent.
    pub nonce: Option<String>,
    /// SHA-256 of the photo, if the call was admitted and carried a well-formed one.
    #[serde(serialize_with = "serde_text::digest::serialize")]
    pub picture: Option<Digest>,
    /// Whether gateway and quota admitted the call.
    pub admitted: bool,
    /// Id of the record that the call created.
    pub record: Option<i64>,
    /// What the client received.
    pub ending: CallEnd,
}

/// What the client of a call received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallEnd {
    /// Nothing so far.
    Pending,
    /// A response.
    Answered {
        /// HTTP status.
        status: u16,
        /// `Code` of the response; `Passed=N` if the photo did not pass, `html` or `unreadable` if the body is not JSON.
        code: String,
    },
    /// Half of a response, then the end of the connection.
    Cut,
    /// A connection reset.
    Reset,
    /// No response, ever.
    Stalled,
}

impl CallRecord {
    /// Whether the call was throttled.
    pub fn is_throttled(&self) -> bool {
        match &self.ending {
            CallEnd::Answered { code, .. } => code.starts_with("Throttling"),
            CallEnd::Pending | CallEnd::Cut | CallEnd::Reset | CallEnd::Stalled => false,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    calls: Vec<CallRecord>,
    file: Option<File>,
}

impl Journal {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, SandboxError> {
        let file_error = |path: &Path, source| SandboxError::File { path: path.to_owned(), source };
        let open = |path: &Path| files::open_log(path).map_err(|e| file_error(path, e));
        Ok(Self { calls: Vec::new(), file: path.map(open).transpose()? })
    }

    /// Appends a call and returns its sequence number.
    pub(super) fn append(&mut self, mut call: CallRecord) -> u64 {
        let seq = self.calls.len() as u64;
        call.seq = seq;
        self.calls.push(call);
        seq
    }

    /// Updates the entry of a call.
    pub(super) fn update(&mut self, seq: u64, update: impl FnOnce(&mut CallRecord)) {
        if let Some(call) = self.calls.get_mut(seq as usize) {
            update(call);
        }
    }

    /// Records the end of a call and writes its line.
    pub(super) fn finish(&mut self, seq: u64, ending: CallEnd) {
        self.update(seq, |call| call.ending = ending);
        let Some((file, call)) = self.file.as_mut().zip(self.calls.get(seq as usize)) else { return };
        let written = serde_json::to_vec(call).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            file.write_all(&line)
        });
        if let Err(error) = written {
            tracing::error!(%error, "cannot write the journal of the sandbox");
        }
    }

    pub(super) fn calls(&self) -> &[CallRecord] {
        &self.calls
    }
}

/// Largest number of these times within any window of one second.
pub(super) fn max_in_any_second(times: impl IntoIterator<Item = Duration>) -> usize {
    let mut times: Vec<Duration> = times.into_iter().collect();
    times.sort_unstable();
    let mut first = 0;
    let mut max = 0;
    for (last, &time) in times.iter().enumerate() {
        while times[first] + SECOND <= time {
            first += 1;
        }
        max = max.max(last - first + 1);
    }
    max
}

fn micros<S: serde::Serializer>(at: &Duration, to: S) -> Result<S::Ok, S::Error> {
    (at.as_micros() as u64).serialize(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busiest_second_may_start_at_any_time() {
        let max = |millis: &[u64]| max_in_any_second(millis.iter().map(|&ms| Duration::from_millis(ms)));
        assert_eq!(max(&[]), 0);
        assert_eq!(max(&[0, 999, 1000]), 2);
        assert_eq!(max(&[2100, 900, 1000, 1899, 1900]), 3);
    }
}
