//! Asks the service about a person's records and about groups. Decides nothing about items.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    guards::{GroupCache, Guards, Sign},
    recorder::Recorder,
};
use crate::{
    api::{FaceRecord, LookupPages, Transport},
    caller::{Caller, NoPermit},
    checkpoint::{Claimed, Store},
    domain::{CallError, CallFailure, DrainReason, FaceGroupCode, action::Query},
    pace::Gate,
};

/// The queries of a run.
pub(super) struct Lookup<T, S> {
    pub(super) caller: Arc<Caller<T>>,
    pub(super) gate: Gate<Query>,
    pub(super) recorder: Arc<Recorder<S>>,
    pub(super) guards: Arc<Guards>,
    pub(super) groups: GroupCache,
}

/// Why a query has no result.
pub(super) enum NoAnswer {
    /// Throttled.
    Throttled,
    /// Not answered, or not usably.
    Unanswered(CallFailure),
    /// The run is draining.
    Draining,
}

impl<T: Transport, S: Store> Lookup<T, S> {
    /// Queries all records of a person.
    pub(super) async fn records(&self, claimed: &Claimed) -> Result<Vec<FaceRecord>, NoAnswer> {
        let mut pages = LookupPages::default();
        loop {
            let (id, number) = ((&claimed.group, &claimed.user), pages.next_page());
            let page = self.caller.call(&self.gate, async |client, permit| {
                self.recorder.stats.queried();
                client.query_face_record(permit, id, number).await
            });
            let Some(page) = page.await else { return Err(NoAnswer::Draining) };
            self.recorder.drain_for(self.guards.observe(Sign::Query(page.as_ref().err()), Instant::now()));
            match page {
                Ok(page) => {
                    if let Some(records) = pages.add(page) {
                        return Ok(records);
                    }
                }
                Err(CallError::Throttled { .. }) => return Err(NoAnswer::Throttled),
                Err(CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault)) => return Err(unanswered(fault)),
                Err(CallError::Rejected(rejection)) => return Err(unanswered(rejection.into())),
                Err(CallError::Fatal(fatal)) => {
                    self.recorder.drain(DrainReason::Fatal(fatal));
                    return Err(NoAnswer::Draining);
                }
            }
        }
    }

    /// Whether the service does not know this group. Asks at most once a minute; without an answer, false. `None` if the
    /// run is draining.
    pub(super) async fn is_group_missing(&self, group: &FaceGroupCode) -> Option<bool> {
        if self.groups.is_known(group, Instant::now()) {
            return Some(false);
        }
        let permit = match self.caller.permit(&self.gate).await {
            Ok(permit) => permit,
            Err(NoPermit::Stopped) => return None,
            Err(NoPermit::Deferred(_)) => return Some(false),
        };
        self.recorder.stats.queried();
        match self.caller.client.query_face_group(permit, group).await {
            Ok(true) => {
                self.groups.exists(group, Instant::now());
                Some(false)
            }
            Ok(false) => Some(true),
            Err(_) => Some(false),
        }
    }
}

fn unanswered(fault: CallFailure) -> NoAnswer {
    tracing::debug!(fault = fault.message, "query not answered");
    NoAnswer::Unanswered(fault)
}
