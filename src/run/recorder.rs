//! Commits what became of an item, then counts and reports it. Never in another order.

use tokio::{sync::mpsc, time::Instant};

use super::{
    control::{MaxErrors, Stop},
    stats::Stats,
};
use crate::{
    checkpoint::{Checkpoint, OutcomeRecord, Store, StoreError},
    domain::{DrainReason, ErrorCode, Event, ItemId, ItemState, Outcome},
};

/// The checkpoint, the events and the counters of a run.
pub(super) struct Recorder<S> {
    pub(super) checkpoint: Checkpoint<S>,
    pub(super) stats: Stats,
    pub(super) stop: Stop,
    events: mpsc::Sender<Event>,
    max_errors: Option<MaxErrors>,
}

impl<S: Store> Recorder<S> {
    pub(super) fn new(
        checkpoint: Checkpoint<S>,
        events: mpsc::Sender<Event>,
        stop: Stop,
        max_errors: Option<MaxErrors>,
    ) -> Self {
        Self { checkpoint, stats: Stats::new(Instant::now()), stop, events, max_errors }
    }

    /// Commits an outcome, then counts and reports it.
    pub(super) async fn settle(&self, settlement: OutcomeRecord) -> Result<(), StoreError> {
        let report = self.checkpoint.settle(settlement).await?;
        match &report.outcome {
            Outcome::Enrolled { code: Some(code), message, .. } if code.0 == ErrorCode::NEW_PHOTO_REFUSED => {
                let reason = message.as_deref().unwrap_or_default();
                tracing::warn!(row = report.row, reason, "the new photo of an enrolled person is refused");
            }
            Outcome::Enrolled { .. } => self.stats.enrolled(),
            Outcome::Rejected { .. } | Outcome::Failed { .. } => {
                if matches!(report.outcome, Outcome::Rejected { .. }) {
                    self.stats.rejected();
                }
                let (errors, ended) = self.stats.erred();
                if self.max_errors.is_some_and(|limit| limit.is_reached(errors, ended)) {
                    self.drain(DrainReason::MaxErrors);
                }
            }
            Outcome::InDoubt { .. } | Outcome::Retry { .. } => {}
        }
        self.emit(Event::Item(report)).await;
        Ok(())
    }

    pub(super) async fn settle_all(&self, settlements: Vec<OutcomeRecord>) -> Result<(), StoreError> {
        for settlement in settlements {
            self.settle(settlement).await?;
        }
        Ok(())
    }

    /// Makes an item pending again whose call was not executed. It is neither counted as an attempt nor reported.
    pub(super) async fn release_intent(&self, item: ItemId) -> Result<(), StoreError> {
        let outcome = Outcome::Retry { counts: false };
        self.checkpoint.settle(OutcomeRecord::new(item, ItemState::Sending, outcome)).await.map(drop)
    }

    /// Sends an event. A closed receiver never ends a run.
    pub(super) async fn emit(&self, event: Event) {
        let _ = self.events.send(event).await;
    }

    /// Sends an event if the queue has room, for callers that must not wait.
    pub(super) fn try_emit(&self, event: Event) {
        let _ = self.events.try_send(event);
    }

    /// Starts draining: no new sends. Only the reason that is kept is reported.
    pub(super) fn drain(&self, reason: DrainReason) {
        if self.stop.drain(reason.clone()) {
            // `stop` keeps the reason even if the event is lost.
            self.try_emit(Event::Draining(reason));
        }
    }

    /// Drains if a guard has found a reason to.
    pub(super) fn drain_for(&self, reason: Option<DrainReason>) {
        if let Some(reason) = reason {
            self.drain(reason);
        }
    }
}
