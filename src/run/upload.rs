//! Uploads photos that do not go inline, before any intent: an upload enrolls nobody, so a failed one leaves the item
//! pending, and the next attempt starts with a new authorization.

use tokio::time::Instant;

use super::{
    engine::Engine,
    task::{Next, PhotoFile, Task, UploadOutcome, UploadedPhoto},
};
use crate::{
    api::{ObjectUrl, Transport, UploadAuthorization, UploadError},
    checkpoint::{OutcomeRecord, Store, StoreError},
    domain::{DrainReason, ItemState, Outcome, Permit, RejectedBy},
    pace::{Gate, RetryDecision},
};

impl<T: Transport, S: Store> Engine<T, S> {
    /// Gets an authorization, then uploads the photo.
    pub(super) async fn upload(
        &self,
        mut task: Task,
        photo: &[u8],
        file: PhotoFile,
    ) -> Result<UploadOutcome, StoreError> {
        if !self.wait_for_bandwidth(photo.len()).await {
            return Ok(UploadOutcome::NotUploaded(Next::Cancelled));
        }
        match self.try_upload(photo).await {
            Some(Ok(address)) => {
                task.uploaded = Some(UploadedPhoto { address: address.clone(), file, at: Instant::now() });
                Ok(UploadOutcome::Uploaded(task, address))
            }
            Some(Err(error)) => self.upload_failed(task, error, file).await.map(UploadOutcome::NotUploaded),
            None => Ok(UploadOutcome::NotUploaded(Next::Cancelled)),
        }
    }

    /// `None` if the run is draining.
    async fn try_upload(&self, file: &[u8]) -> Option<Result<ObjectUrl, UploadError>> {
        let (authorization, permit) = loop {
            let permit = self.permit(&self.authorize_gate).await?;
            let authorization: UploadAuthorization =
                match self.record(&self.authorize_gate, self.client.authorize_file_upload(permit).await) {
                    Ok(authorization) => authorization,
                    Err(error) => return Some(Err(error)),
                };
            let issued_at = Instant::now();
            let permit = self.permit(&self.upload_gate).await?;
            // The authorization may have expired while the file waited at the gate.
            if issued_at.elapsed() < authorization.life {
                break (authorization, permit);
            }
        };
        crate::crash::point("upload.before");
        let stored = self.client.post_object(permit, &authorization, file).await;
        crate::crash::point("upload.after");
        Some(self.record(&self.upload_gate, stored))
    }

    /// Waits for a permit of the gate. `None` if the run is draining.
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
                    biased;
                    () = self.stop.draining() => return None,
                    () = tokio::time::sleep_until(deferred.until) => {}
                },
            }
        }
    }

    fn record<R>(&self, gate: &Gate, result: Result<R, UploadError>) -> Result<R, UploadError> {
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

    async fn upload_failed(&self, mut task: Task, error: UploadError, file: PhotoFile) -> Result<Next, StoreError> {
        let outcome = match error {
            UploadError::Throttled { .. } => return Ok(self.requeue(task)),
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
                task.upload_faults += u32::from(!is_away);
                tracing::debug!(row = task.claimed.row, fault = fault.message, "photo not uploaded");
                let next = self.settings.rules.after_failure(task.upload_faults, is_away);
                match next {
                    RetryDecision::Retry { .. } => return Ok(self.requeue(task)),
                    RetryDecision::GiveUp => self.settings.rules.outcome(&next, &fault),
                }
            }
        };
        let item = task.claimed.item;
        let settlement = OutcomeRecord::new(item, ItemState::Pending, outcome);
        self.settle(OutcomeRecord { stamp: file.stamp, ..settlement }).await?;
        Ok(Next::Done)
    }
}
