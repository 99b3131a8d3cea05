//! Why a call has no answer.

use super::TransportError;
use crate::domain::{CallFailure, FatalError, Verdict};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// No byte of it has left.
    NotSent(CallFailure),
    /// It may have arrived.
    MaybeSent(CallFailure),
    /// Nothing has left, and nothing will before a person acts: there is no key, or no way through the proxy.
    Fatal(FatalError),
}

impl From<TransportError> for NoAnswer {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::NotSent(fault) => Self::NotSent(fault),
            TransportError::MaybeSent(fault) => Self::MaybeSent(fault),
            TransportError::Fatal(fatal) => Self::Fatal(fatal),
        }
    }
}

impl From<NoAnswer> for Verdict {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::NotSent(fault) => Self::NotSent(fault),
            NoAnswer::MaybeSent(fault) => Self::MaybeSent(fault),
            NoAnswer::Fatal(fatal) => Self::Fatal(fatal),
        }
    }
}
