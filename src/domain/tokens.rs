//! Capability tokens that a call consumes. They are not `Clone`, and each is issued in one place.

/// Proof that a value is on disk. Only the checkpoint issues it, after the commit has returned.
#[derive(Debug)]
#[must_use = "an intent that is not sent must be released"]
pub struct Committed<T>(T);

impl<T> Committed<T> {
    /// Only `checkpoint` may call this (a test searches the source for other callers).
    pub(crate) fn attest(value: T) -> Self {
        Self(value)
    }

    /// The value on disk.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Consumes the proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// Permission to make one call now. Only the gate of that API action issues it.
#[derive(Debug)]
#[must_use = "an unused permit wastes a slot of the quota"]
pub struct Permit(());

impl Permit {
    /// Only `pace` may call this (a test searches the source for other callers).
    pub(crate) fn issue() -> Self {
        Self(())
    }
}
