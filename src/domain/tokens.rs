//! Tokens that a send consumes. They are not `Clone`, and each has one maker.

/// Proof that a value is on disk. Made by the checkpoint alone, after the commit has returned.
#[derive(Debug)]
#[must_use = "an intent that is not sent must be given back"]
pub struct Committed<T>(T);

impl<T> Committed<T> {
    /// Called by `checkpoint` alone (a test reads the source for other callers).
    pub(crate) fn attest(value: T) -> Self {
        Self(value)
    }

    /// What is on disk.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Consumes the proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// The right to make one call now. Made by the gate of that call's API action alone.
#[derive(Debug)]
#[must_use = "a permit that is not used has spent a slot of the quota"]
pub struct Permit(());

impl Permit {
    /// Called by `pace` alone (a test reads the source for other callers).
    pub(crate) fn issue() -> Self {
        Self(())
    }
}
