//! Photos that don't go inline are uploaded first, before any intent: an upload enrols nobody, so whatever goes wrong
//! with it leaves the item pending, and the next try begins with a new leave.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    attempt::{Next, Task},
    engine::Engine,
    prepare::PhotoFile,
};
use crate::{
    api::{ObjectUrl, Transport, UploadAuthorization, UploadError},
    checkpoint::{OutcomeRecord, Store, StoreError},
    domain::{DrainReason, ItemState, Outcome, Permit, RejectedBy},
    pace::{Gate, RetryDecision},
};

/// How long an uploaded file is named again, by a retry: no document says how long it is kept.
const UPLOAD_REUSE_TTL: Duration = Duration::from_secs(10 * 60);

/// A photo that is there already.
#[derive(Debug, Clone)]
pub(super) struct UploadedPhoto {
    pub(super) address: ObjectUrl,
    pub(super) file: PhotoFile,
    at: Instant,
}

impl UploadedPhoto {
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.at + UPLOAD_REUSE_TTL
    }
}

/// How an upload ends.
pub(super) enum UploadOutcome {
    /// The photo is there, and the item knows where.
    There(Task, ObjectUrl),
    /// It is not, and this becomes of the item.
    Ended(Next),
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// UploadAuthorization, then the file.
    pub(super) async fn upload(
        &self,
        mut work: Task,
        photo: &[u8],
        file: PhotoFile,
    ) -> Result<UploadOutcome, StoreError> {
        match self.try_upload(photo).await {
            Some(Ok(address)) => {
                work.uploaded = Some(UploadedPhoto { address: address.clone(), file, at: Instant::now() });
                Ok(UploadOutcome::There(work, address))
            }
            Some(Err(error)) => self.upload_failed(work, error, file).await.map(UploadOutcome::Ended),
            None => Ok(UploadOutcome::Ended(Next::Cancelled)),
        }
    }

    /// None: the run drains.
    async fn try_upload(&self, file: &[u8]) -> Option<Result<ObjectUrl, UploadError>> {
        let (leave, permit) = loop {
            let permit = self.permit(&self.authorize_gate).await?;
            let leave: UploadAuthorization =
                match self.observed(&self.authorize_gate, self.client.authorize_file_upload(permit).await) {
                    Ok(leave) => leave,
                    Err(error) => return Some(Err(error)),
                };
            let given_at = Instant::now();
            let permit = self.permit(&self.upload_gate).await?;
            // It may have run out while the file waited for its turn.
            if given_at.elapsed() < leave.life {
                break (leave, permit);
            }
        };
        crate::crash::point("upload.before");
        let stored = self.client.post_object(permit, &leave, file).await;
        crate::crash::point("upload.after");
        Some(self.observed(&self.upload_gate, stored))
    }

    /// A permit of a gate, however long it takes. None: the run drains.
    async fn permit(&self, gate: &Gate) -> Option<Permit> {
        loop {
            let permit = tokio::select! {
                biased;
                () = self.stop.draining() => return None,
                permit = gate.permit() => permit,
            };
            match permit {
                Ok(permit) => return Some(permit),
                Err(deferred) => tokio::select! {
                    () = self.stop.draining() => return None,
                    () = tokio::time::sleep_until(deferred.until) => {}
                },
            }
        }
    }

    fn observed<R>(&self, gate: &Gate, result: Result<R, UploadError>) -> Result<R, UploadError> {
        let now = Instant::now();
        match &result {
            Ok(_) | Err(UploadError::Refused(_)) => drop(gate.observe(false, now)),
            Err(UploadError::Throttled { retry_after }) => {
                gate.observe(true, now);
                if let Some(pause) = retry_after {
                    gate.pause(*pause, now);
                }
            }
            Err(UploadError::CallFailure(_) | UploadError::Fatal(_)) => {}
        }
        result
    }

    async fn upload_failed(&self, mut work: Task, error: UploadError, file: PhotoFile) -> Result<Next, StoreError> {
        let outcome = match error {
            UploadError::Throttled { .. } => return Ok(self.requeue(work)),
            UploadError::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                return Ok(Next::Cancelled);
            }
            UploadError::Refused(refusal) => Outcome::Rejected {
                stage: RejectedBy::Service,
                code: refusal.code,
                message: refusal.message,
                request_id: refusal.request_id,
            },
            UploadError::CallFailure(fault) => {
                let is_away = self.on_failure(&fault).await;
                work.upload_faults += u32::from(!is_away);
                tracing::debug!(row = work.claimed.row, fault = fault.message, "a photo could not be uploaded");
                let next = self.settings.rules.after_failure(work.upload_faults, is_away);
                match next {
                    RetryDecision::Retry { .. } => return Ok(self.requeue(work)),
                    RetryDecision::GiveUp => self.settings.rules.outcome(&next, &fault),
                }
            }
        };
        let item = work.claimed.item;
        let settlement = OutcomeRecord::new(item, ItemState::Pending, outcome);
        self.settle(OutcomeRecord { stamp: file.stamp, ..settlement }).await?;
        Ok(Next::Done)
    }
}
