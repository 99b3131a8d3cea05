//! The states of an item, and the only legal ways between them.

use super::{ErrorCode, RequestId};

/// Where an item stands. The numbers are stored; they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i64)]
pub enum ItemState {
    /// Not attempted, or to be attempted again.
    Pending = 0,
    /// An intent is on disk and its outcome is not: a live run holds it. After a crash it is `InDoubt`.
    Sending = 1,
    /// A request may have been executed and its outcome is not known.
    InDoubt = 2,
    /// The service has the record.
    Enrolled = 3,
    /// This photo will never pass as it is.
    Rejected = 4,
    /// Attempts are used up; the last one is known not to have been executed.
    Failed = 5,
}

impl ItemState {
    /// Every state, in the order of the stored numbers.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Sending, Self::InDoubt, Self::Enrolled, Self::Rejected, Self::Failed];

    /// The state's name in the contract. `Sending` has none of its own: while a run is alive it counts as pending.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending | Self::Sending => "pending",
            Self::InDoubt => "in_doubt",
            Self::Enrolled => "enrolled",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }

    /// May an item go from here to there? Everything that is not listed is a bug, and the checkpoint refuses it.
    pub fn can_become(self, next: Self) -> bool {
        use ItemState::{Enrolled, Failed, InDoubt, Pending, Rejected, Sending};
        match self {
            // Refused by our own check, never uploaded, found to be there already, or its intent has been committed.
            Pending => matches!(next, Rejected | Failed | Enrolled | Sending),
            // Answered, given back unsent, or unknown.
            Sending => matches!(next, Pending | InDoubt | Enrolled | Rejected | Failed),
            // Settled by a query; `Pending` under `--in-doubt retry` too.
            InDoubt => matches!(next, Enrolled | Pending | Failed),
            // A changed photo or `retry` opens these again.
            Rejected | Failed => matches!(next, Pending),
            // A changed photo that is to take the old one's place.
            Enrolled => matches!(next, Pending),
        }
    }
}

/// Who refused: our own check, or the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectedBy {
    /// Our own check, without a call.
    Local,
    /// The service.
    Service,
}

impl RejectedBy {
    /// The `stage` column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Service => "service",
        }
    }
}

/// What told us that a record is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfirmedBy {
    /// The answer to AddFaceRecord.
    Response,
    /// QueryFaceRecord.
    Query,
}

impl ConfirmedBy {
    /// The `confirmed_by` column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::Query => "query",
        }
    }
}

/// How an attempt, or a settling, ended for its item: what the checkpoint stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The record is there.
    Enrolled {
        /// What told us.
        confirmed_by: ConfirmedBy,
        /// `faceQuality` of the answer.
        quality: Option<String>,
        /// Only where there is something to say: `AlreadyPresent`.
        code: Option<ErrorCode>,
        /// For a person.
        message: Option<String>,
        /// Of the answer.
        request_id: Option<RequestId>,
    },
    /// The photo will never pass as it is.
    Rejected {
        /// Who refused.
        stage: RejectedBy,
        /// Why, as a code.
        code: ErrorCode,
        /// Why, for a person.
        message: String,
        /// Of the answer, if the service refused.
        request_id: Option<RequestId>,
    },
    /// Attempts are used up.
    Failed {
        /// The last fault, as a code.
        code: ErrorCode,
        /// For a person.
        message: String,
        /// Of the last answer.
        request_id: Option<RequestId>,
    },
    /// The request may have been executed.
    InDoubt {
        /// The fault, as a code.
        code: ErrorCode,
        /// For a person.
        message: String,
        /// Of the answer, if there was one.
        request_id: Option<RequestId>,
    },
    /// Known not to have been executed: to be attempted again.
    Requeue {
        /// Does the attempt count against `--retries`? A throttled or withdrawn one does not.
        counts: bool,
    },
}

impl Outcome {
    /// The state that an item is in after this.
    pub fn state(&self) -> ItemState {
        match self {
            Self::Enrolled { .. } => ItemState::Enrolled,
            Self::Rejected { .. } => ItemState::Rejected,
            Self::Failed { .. } => ItemState::Failed,
            Self::InDoubt { .. } => ItemState::InDoubt,
            Self::Requeue { .. } => ItemState::Pending,
        }
    }

    /// Whether this is how an item in the state `before` may end: an answer confirms only what was sent.
    pub fn can_follow(&self, before: ItemState) -> bool {
        let answer = matches!(self, Self::Enrolled { confirmed_by: ConfirmedBy::Response, .. });
        before.can_become(self.state()) && (!answer || before == ItemState::Sending)
    }
}

#[cfg(test)]
mod tests {
    use super::{ItemState::*, *};

    #[test]
    fn only_settled_states_can_be_sent() {
        for state in ItemState::ALL {
            assert_eq!(state.can_become(Sending), state == Pending, "{state:?}");
        }
    }

    #[test]
    fn enrolled_is_left_for_another_photo_alone() {
        assert!(ItemState::ALL.iter().all(|&next| Enrolled.can_become(next) == (next == Pending)));
    }

    #[test]
    fn stored_numbers_never_change() {
        let numbers: Vec<i64> = ItemState::ALL.iter().map(|&s| s as i64).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    }
}
