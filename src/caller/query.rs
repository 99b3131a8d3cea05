//! Queries that are repeated until the service answers. A query changes nothing, so repeating one is safe.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::Caller;
use crate::{
    api::{Client, FaceRecord, LookupPages, Transport},
    domain::{CallError, CallFailure, FaceGroupCode, FailureKind, FatalError, MerchantUserId, Permit, action::Query},
    pace::{Backoff, Gate},
};

/// A proxy that has failed for this long and never worked before is treated as misconfigured.
const PROXY_GRACE: Duration = Duration::from_secs(10);

/// Asks the service until it answers.
pub struct Queries<T> {
    /// Caller of the service.
    pub caller: Caller<T>,
    gate: Gate<Query>,
    /// Maximum time without an answer.
    give_up_after: Duration,
    was_answered: AtomicBool,
    count: AtomicU64,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryError {
    /// No new calls are wanted.
    Stopped,
    /// The user must act first.
    Fatal(FatalError),
    /// The service did not answer for too long.
    Unanswered(CallFailure),
}

impl<T: Transport> Queries<T> {
    /// Queries that give up after this long without an answer.
    pub fn new(caller: Caller<T>, gate: Gate<Query>, give_up_after: Duration) -> Self {
        Self { caller, gate, give_up_after, was_answered: AtomicBool::default(), count: AtomicU64::default() }
    }

    /// Maximum time without an answer.
    pub fn give_up_after(&self) -> Duration {
        self.give_up_after
    }

    /// Number of queries made.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Queries all records of a person.
    pub async fn records(&self, group: &FaceGroupCode, user: &MerchantUserId) -> Result<Vec<FaceRecord>, QueryError> {
        let mut pages = LookupPages::default();
        loop {
            let number = pages.next_page();
            let query =
                async |client: &Client<T>, permit| client.query_face_record(permit, (group, user), number).await;
            if let Some(records) = pages.add(self.query(query).await?) {
                return Ok(records);
            }
        }
    }

    /// Repeats the query until the service answers.
    pub async fn query<R>(
        &self,
        query: impl AsyncFn(&Client<T>, Permit<Query>) -> Result<R, CallError>,
    ) -> Result<R, QueryError> {
        let mut backoff = Backoff::default();
        let mut outage_since = None;
        loop {
            let result = self.caller.call(&self.gate, &query).await.ok_or(QueryError::Stopped)?;
            self.count.fetch_add(1, Ordering::Relaxed);
            let (fault, is_throttled) = match result {
                Ok(answer) => {
                    self.was_answered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(CallError::Throttled { .. }) => (CallFailure::only_throttled(), true),
                Err(CallError::Fatal(fatal)) => return Err(QueryError::Fatal(fatal)),
                Err(CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault)) => (fault, false),
                Err(CallError::Rejected(rejection)) => (rejection.into(), false),
            };
            let now = Instant::now();
            let outage = now.saturating_duration_since(*outage_since.get_or_insert(now));
            let never_answered = !self.was_answered.load(Ordering::Relaxed);
            if fault.kind == FailureKind::ProxyFailed && never_answered && outage > PROXY_GRACE {
                return Err(QueryError::Fatal(FatalError::Proxy { message: fault.message }));
            }
            if outage > self.give_up_after {
                return Err(QueryError::Unanswered(fault));
            }
            // The gate slows a throttled query down.
            if !is_throttled {
                tracing::warn!(fault = fault.message, "query got no response; retrying");
                self.caller.pause(backoff.next(fastrand::f64())).await.ok_or(QueryError::Stopped)?;
            }
        }
    }
}
