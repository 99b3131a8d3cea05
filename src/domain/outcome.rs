//! States of an item and the legal transitions between them.

use super::{ErrorCode, RequestId};

/// State of an item. The numbers are stored, so their meaning never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i64)]
pub enum ItemState {
    /// Not attempted yet, or waiting for another attempt.
    Pending = 0,
    /// The intent is on disk, the outcome is not. A live run holds the item; after a crash it becomes `InDoubt`.
    Sending = 1,
    /// A request may have been executed; the outcome is unknown.
    InDoubt = 2,
    /// The service has the record.
    Enrolled = 3,
    /// The photo will never pass unchanged.
    Rejected = 4,
    /// Attempts are used up; the last one was certainly not executed.
    Failed = 5,
}

impl ItemState {
    /// All states, in the order of their stored numbers.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Sending, Self::InDoubt, Self::Enrolled, Self::Rejected, Self::Failed];

    /// Name of the state in the contract. `Sending` has none of its own and counts as pending.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending | Self::Sending => "pending",
            Self::InDoubt => "in_doubt",
            Self::Enrolled => "enrolled",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }

    /// Whether an item may change to the state `next`. The checkpoint refuses any other transition as a bug.
    pub fn can_become(self, next: Self) -> bool {
        use ItemState::{Enrolled, Failed, InDoubt, Pending, Rejected, Sending};
        match self {
            // Rejected locally, never uploaded, already enrolled, or its intent has been committed.
            Pending => matches!(next, Rejected | Failed | Enrolled | Sending),
            // Answered, released unsent, or unknown.
            Sending => matches!(next, Pending | InDoubt | Enrolled | Rejected | Failed),
            // Reconciled by a query; also `Pending` with `--in-doubt retry`.
            InDoubt => matches!(next, Enrolled | Pending | Failed),
            // Reopened by a changed photo or by `retry`.
            Rejected | Failed => matches!(next, Pending),
            // Reopened by a changed photo that replaces the old one.
            Enrolled => matches!(next, Pending),
        }
    }
}

/// Who rejected a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectedBy {
    /// A local check, without a call.
    Local,
    /// The service, in its answer.
    Service,
}

impl RejectedBy {
    /// Value of the `stage` column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Service => "service",
        }
    }
}

/// What confirmed that the record exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmedBy {
    /// Answer to AddFaceRecord.
    Response,
    /// QueryFaceRecord.
    Query,
}

impl ConfirmedBy {
    /// Value of the `confirmed_by` column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Query => "query",
        }
    }
}

/// How an attempt or a reconciliation ended for its item, as the checkpoint stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The record exists.
    Enrolled {
        /// What confirmed it.
        confirmed_by: ConfirmedBy,
        /// `faceQuality` from the answer.
        quality: Option<String>,
        /// `AlreadyPresent`, or `None`.
        code: Option<ErrorCode>,
        /// Message for people.
        message: Option<String>,
        /// Request id of the answer.
        request_id: Option<RequestId>,
    },
    /// The photo will never pass unchanged.
    Rejected {
        /// Who rejected it.
        stage: RejectedBy,
        /// Code of the reason.
        code: ErrorCode,
        /// Reason for people.
        message: String,
        /// Request id, if the service rejected it.
        request_id: Option<RequestId>,
    },
    /// Attempts are used up.
    Failed {
        /// Code of the last failure.
        code: ErrorCode,
        /// Message for people.
        message: String,
        /// Request id of the last answer.
        request_id: Option<RequestId>,
    },
    /// The request may have been executed.
    InDoubt {
        /// Code of the failure.
        code: ErrorCode,
        /// Message for people.
        message: String,
        /// Request id, if there was an answer.
        request_id: Option<RequestId>,
    },
    /// Certainly not executed; waits for another attempt.
    Retry {
        /// Whether the attempt counts against `--retries`. A throttled or withdrawn one does not.
        counts: bool,
    },
}

impl Outcome {
    /// State of the item after this outcome.
    pub fn state(&self) -> ItemState {
        match self {
            Self::Enrolled { .. } => ItemState::Enrolled,
            Self::Rejected { .. } => ItemState::Rejected,
            Self::Failed { .. } => ItemState::Failed,
            Self::InDoubt { .. } => ItemState::InDoubt,
            Self::Retry { .. } => ItemState::Pending,
        }
    }

    /// Whether an item in the state `before` may end like this. An answer confirms only what was sent.
    pub fn can_follow(&self, before: ItemState) -> bool {
        let answer = matches!(self, Self::Enrolled { confirmed_by: ConfirmedBy::Response, .. });
        before.can_become(self.state()) && (!answer || before == ItemState::Sending)
    }
}

#[cfg(test)]
mod tests {
    use super::{ItemState::*, *};

    #[test]
    fn only_pending_items_can_be_sent() {
        for state in ItemState::ALL {
            assert_eq!(state.can_become(Sending), state == Pending, "{state:?}");
        }
    }

    #[test]
    fn enrolled_items_only_become_pending() {
        assert!(ItemState::ALL.iter().all(|&next| Enrolled.can_become(next) == (next == Pending)));
    }

    #[test]
    fn stored_numbers_never_change() {
        let numbers: Vec<i64> = ItemState::ALL.iter().map(|&s| s as i64).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    }
}
