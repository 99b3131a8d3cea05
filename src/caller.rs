//! Calls the service: waits for the gate of the action, calls once, and tells the gate what came of it. Only [`Queries`]
//! repeats calls.
//!
//! Its users differ in how they wait. Queries and uploads wait out every pause ([`Caller::call`]). A deletion, a question
//! about a group and `doctor` are put off if the pause is long ([`Caller::permit`]). AddFaceRecord has its intent on disk
//! while it waits, so `run::attempt` handles the permit and the rate itself.

mod query;

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::query::{Queries, QueryError};
use crate::{
    api::{Client, Transport},
    domain::{CallError, Permit},
    pace::{Deferred, Gate},
};

/// Client of the service whose waiting a stop ends. Calls in flight are not cut off.
pub struct Caller<T> {
    /// The client.
    pub client: Client<T>,
    /// Ends the waiting.
    pub stop: CancellationToken,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPermit {
    /// No new calls are wanted.
    Stopped,
    /// The gate is closed until then.
    Deferred(Instant),
}

impl<T: Transport> Caller<T> {
    /// A caller that is never stopped.
    pub fn new(client: Client<T>) -> Self {
        Self { client, stop: CancellationToken::new() }
    }

    /// Sleeps. `None` once stopped.
    pub async fn pause(&self, pause: Duration) -> Option<()> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => None,
            () = tokio::time::sleep(pause) => Some(()),
        }
    }

    /// Waits for the next slot. Waits out a short pause and returns a long one.
    pub async fn permit<A>(&self, gate: &Gate<A>) -> Result<Permit<A>, NoPermit> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(NoPermit::Stopped),
            permit = gate.permit() => permit.map_err(|Deferred { until }| NoPermit::Deferred(until)),
        }
    }

    /// Waits for the next slot, however long that is. `None` once stopped.
    pub async fn patient_permit<A>(&self, gate: &Gate<A>) -> Option<Permit<A>> {
        loop {
            match self.permit(gate).await {
                Ok(permit) => return Some(permit),
                Err(NoPermit::Stopped) => return None,
                Err(NoPermit::Deferred(until)) => tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return None,
                    () = tokio::time::sleep_until(until) => {}
                },
            }
        }
    }

    /// Waits for the next slot, however long that is, and calls once. `None` if stopped before the call.
    pub async fn call<A, R>(
        &self,
        gate: &Gate<A>,
        call: impl AsyncFnOnce(&Client<T>, Permit<A>) -> Result<R, CallError>,
    ) -> Option<Result<R, CallError>> {
        let permit = self.patient_permit(gate).await?;
        let result = call(&self.client, permit).await;
        gate.record(&result, Instant::now());
        Some(result)
    }
}
