//! Counts the items in each stage, to find the bottleneck.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::domain::Bottleneck;

/// A stage in which items wait.
#[derive(Debug, Clone, Copy)]
pub(super) enum PipelineStage {
    /// Reading, fitting and encoding a photo, or waiting for that.
    Photo,
    /// Waiting for `--bwlimit`.
    Bandwidth,
    /// Committing an intent.
    Disk,
    /// Waiting at the gate.
    Gate,
    /// Waiting for the answer.
    Answer,
}

/// Number of items in each stage.
#[derive(Debug, Default)]
pub(super) struct StageGauges {
    photo: AtomicUsize,
    bandwidth: AtomicUsize,
    disk: AtomicUsize,
    gate: AtomicUsize,
    answer: AtomicUsize,
}

/// Keeps an item counted in a stage until it is dropped.
pub(super) struct StageGuard<'a>(&'a AtomicUsize);

impl Drop for StageGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl StageGauges {
    pub(super) fn enter(&self, stage: PipelineStage) -> StageGuard<'_> {
        let gauge = match stage {
            PipelineStage::Photo => &self.photo,
            PipelineStage::Bandwidth => &self.bandwidth,
            PipelineStage::Disk => &self.disk,
            PipelineStage::Gate => &self.gate,
            PipelineStage::Answer => &self.answer,
        };
        gauge.fetch_add(1, Relaxed);
        StageGuard(gauge)
    }

    /// Bottleneck while the service answers: of the two rate limits the one where more items wait, otherwise the fullest
    /// stage.
    pub(super) fn bottleneck(&self, is_throttled: bool) -> Bottleneck {
        // A paced item usually also waits for the gate's next slot, but alone.
        if self.bandwidth.load(Relaxed) > self.gate.load(Relaxed) {
            return Bottleneck::Bandwidth;
        }
        if self.gate.load(Relaxed) > 0 {
            return if is_throttled { Bottleneck::Throttled } else { Bottleneck::Quota };
        }
        let waiting =
            [(&self.photo, Bottleneck::Photos), (&self.disk, Bottleneck::Disk), (&self.answer, Bottleneck::Answers)];
        let fullest = waiting.into_iter().max_by_key(|(gauge, _)| gauge.load(Relaxed));
        fullest.filter(|(gauge, _)| gauge.load(Relaxed) > 0).map_or(Bottleneck::Rows, |(_, bottleneck)| bottleneck)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bottleneck_is_gate_or_fullest_stage() {
        let stages = StageGauges::default();
        assert_eq!(stages.bottleneck(false), Bottleneck::Rows);
        let photos = [stages.enter(PipelineStage::Photo), stages.enter(PipelineStage::Photo)];
        let _answer = stages.enter(PipelineStage::Answer);
        assert_eq!(stages.bottleneck(false), Bottleneck::Photos);
        let gate = stages.enter(PipelineStage::Gate);
        assert_eq!([stages.bottleneck(false), stages.bottleneck(true)], [Bottleneck::Quota, Bottleneck::Throttled]);
        let bandwidth = [stages.enter(PipelineStage::Bandwidth), stages.enter(PipelineStage::Bandwidth)];
        assert_eq!(stages.bottleneck(false), Bottleneck::Bandwidth);
        drop(bandwidth);
        assert_eq!(stages.bottleneck(false), Bottleneck::Quota);
        drop((photos, gate));
        assert_eq!(stages.bottleneck(true), Bottleneck::Answers);
    }
}
