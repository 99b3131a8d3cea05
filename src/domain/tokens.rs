//! Capability tokens that a call consumes. They are not `Clone`, and each is issued in one place.

use std::marker::PhantomData;

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

/// Permission to make one call of the kind `A` now. Only the gate of that kind issues it.
#[derive(Debug)]
#[must_use = "an unused permit wastes a slot of the quota"]
pub struct Permit<A>(PhantomData<A>);

impl<A> Permit<A> {
    /// Only `pace` may call this (a test searches the source for other callers).
    pub(crate) fn issue() -> Self {
        Self(PhantomData)
    }
}

/// What a gate limits: one action, or the two queries together.
pub mod action {
    /// AddFaceRecord.
    #[derive(Debug)]
    pub enum AddFaceRecord {}
    /// QueryFaceRecord and QueryFaceGroup, which share a gate: both are rare, and their quotas are not documented.
    #[derive(Debug)]
    pub enum Query {}
    /// DeleteFaceRecord.
    #[derive(Debug)]
    pub enum DeleteFaceRecord {}
    /// AuthorizeFileUpload.
    #[derive(Debug)]
    pub enum AuthorizeFileUpload {}
    /// PostObject of the object store.
    #[derive(Debug)]
    pub enum PostObject {}
}
