//! Why a call has no answer.

use super::TransportError;
use crate::domain::{Fatal, Fault, Verdict};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// No byte of it has left.
    NotSent(Fault),
    /// It may have arrived.
    MaybeSent(Fault),
    /// There is no key to sign it with, and there will be none before a person acts.
    Fatal(Fatal),
}

impl From<TransportError> for NoAnswer {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::NotSent(fault) => Self::NotSent(fault),
            TransportError::MaybeSent(fault) => Self::MaybeSent(fault),
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
