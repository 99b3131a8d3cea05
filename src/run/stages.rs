//! Where the items on their way are, to tell what binds.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::domain::Binding;

/// A stage in which items wait.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// A photo is read, fitted and encoded, or waits for that.
    Photo,
    /// An intent is on its way to the disk.
    Disk,
    /// Waiting for the gate.
    Gate,
    /// Waiting for the answer.
    Answer,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stages {
    photo: AtomicUsize,
    disk: AtomicUsize,
    gate: AtomicUsize,
    answer: AtomicUsize,
}

/// An item in a stage, until it is dropped.
pub(super) struct InStage<'a>(&'a AtomicUsize);

impl Drop for InStage<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Stages {
    pub(super) fn enter(&self, stage: Stage) -> InStage<'_> {
        let gauge = match stage {
            Stage::Photo => &self.photo,
            Stage::Disk => &self.disk,
            Stage::Gate => &self.gate,
            Stage::Answer => &self.answer,
        };
        gauge.fetch_add(1, Relaxed);
        InStage(gauge)
    }

    /// What binds, where the service answers: the gate if anyone waits there, else wherever most are.
    pub(super) fn binding(&self, is_throttled: bool) -> Binding {
        if self.gate.load(Relaxed) > 0 {
            return if is_throttled { Binding::Throttled } else { Binding::Quota };
        }
        let waiting = [(&self.photo, Binding::Photos), (&self.disk, Binding::Disk), (&self.answer, Binding::Answers)];
        let fullest = waiting.into_iter().max_by_key(|(gauge, _)| gauge.load(Relaxed));
        fullest.filter(|(gauge, _)| gauge.load(Relaxed) > 0).map_or(Binding::Rows, |(_, binding)| binding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_binds_where_anyone_waits_at_it_and_else_the_fullest_stage() {
        let stages = Stages::default();
        assert_eq!(stages.binding(false), Binding::Rows);
        let photos = [stages.enter(Stage::Photo), stages.enter(Stage::Photo)];
        let _answer = stages.enter(Stage::Answer);
        assert_eq!(stages.binding(false), Binding::Photos);
        let gate = stages.enter(Stage::Gate);
        assert_eq!([stages.binding(false), stages.binding(true)], [Binding::Quota, Binding::Throttled]);
        drop((photos, gate));
        assert_eq!(stages.binding(true), Binding::Answers);
    }
}
