//! What is asked before an item is sent: whether its person is enrolled already, and which records its photo replaces.

use std::{ops::ControlFlow, sync::Arc};

use super::{
    lookup::{Lookup, NoAnswer},
    recorder::Recorder,
    settings::Precheck,
    task::{Next, Task},
};
use crate::{
    api::Transport,
    checkpoint::{OutcomeRecord, Store, StoreError},
    domain::{ConfirmedBy, ErrorCode, ItemState, Outcome, Supersedes},
};

/// Queries the service before items are sent.
pub(super) struct Prechecker<T, S> {
    pub(super) lookup: Arc<Lookup<T, S>>,
    pub(super) recorder: Arc<Recorder<S>>,
    pub(super) precheck: Precheck,
}

impl Precheck {
    /// Whether the records that an item replaces are to be queried before it is sent for the first time in this run. A
    /// checkpoint that has lost history knows them as they were.
    fn finds_superseded(self, task: &Task) -> bool {
        match (&task.claimed.replaces, self) {
            (Some(Supersedes::Unknown), _) => true,
            (Some(Supersedes::Records(_)), Self::EverySend) => !task.is_counted,
            (Some(Supersedes::Records(_)), Self::Off | Self::FirstSends) | (None, _) => false,
        }
    }

    /// Whether a person may be enrolled already.
    fn asks_for_person(self, task: &Task) -> bool {
        let asks = match self {
            Self::Off => false,
            Self::FirstSends => task.claimed.intent_ms.is_none(),
            Self::EverySend => true,
        };
        asks && task.claimed.replaces.is_none()
    }
}

impl<T: Transport, S: Store> Prechecker<T, S> {
    /// Makes the queries that have to come before the item is sent. Breaks with the item's next step if it is not to be
    /// sent now.
    pub(super) async fn check(&self, mut task: Task) -> Result<ControlFlow<Next, Task>, StoreError> {
        let finds_superseded = self.precheck.finds_superseded(&task);
        if !finds_superseded && !self.precheck.asks_for_person(&task) {
            return Ok(ControlFlow::Continue(task));
        }
        let records = match self.lookup.records(&task.claimed).await {
            Ok(records) => records,
            Err(NoAnswer::Draining) => return Ok(ControlFlow::Break(Next::Cancelled)),
            Err(NoAnswer::Throttled | NoAnswer::Unanswered(_)) => return Ok(ControlFlow::Break(task.requeue())),
        };
        if finds_superseded {
            // Their ids are on disk before the photo is sent.
            let records: Vec<i64> = records.iter().map(|record| record.id).collect();
            self.recorder.checkpoint.record_superseded(task.claimed.item, records.clone()).await?;
            task.claimed.replaces = Some(Supersedes::Records(records));
            return Ok(ControlFlow::Continue(task));
        }
        if records.is_empty() {
            return Ok(ControlFlow::Continue(task));
        }
        let outcome = Outcome::Enrolled {
            confirmed_by: ConfirmedBy::Query,
            quality: None,
            code: Some(ErrorCode::from(ErrorCode::ALREADY_PRESENT)),
            message: Some("the service had this id in this group already; its photo may be another one".into()),
            request_id: None,
        };
        self.recorder.settle(OutcomeRecord::new(task.claimed.item, ItemState::Pending, outcome)).await?;
        Ok(ControlFlow::Break(Next::Done))
    }
}
