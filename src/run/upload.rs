//! Photos that don't go inline are uploaded first, before any intent: an upload enrols nobody, so whatever goes wrong
//! with it leaves the item pending, and the next try begins with a new leave.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    engine::Engine,
    prepare::PhotoFile,
    unit::{End, Work},
};
use crate::{
    api::{FileAddress, Leave, Transport, UploadError},
    checkpoint::{Settlement, Store, StoreError},
    domain::{DrainReason, ItemState, Outcome, Permit, Stage},
    pace::{Gate, Next},
};

/// How long an uploaded file is named again, by a retry: no document says how long it is kept.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// A photo that is there already.
#[derive(Debug, Clone)]
pub(super) struct Uploaded {
    pub(super) address: FileAddress,
    pub(super) file: PhotoFile,
    at: Instant,
}

impl Uploaded {
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.at + KEPT
    }
}

/// How an upload ends.
pub(super) enum UploadEnd {
    /// The photo is there, and the item knows where.
    There(Work, FileAddress),
    /// It is not, and this becomes of the item.
    Ended(End),
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// Leave, then the file.
    pub(super) async fn upload(&self, mut work: Work, photo: &[u8], file: PhotoFile) -> Result<UploadEnd, StoreError> {
        match self.try_upload(photo).await {
            Some(Ok(address)) => {
                work.uploaded = Some(Uploaded { address: address.clone(), file, at: Instant::now() });
                Ok(UploadEnd::There(work, address))
            }
            Some(Err(error)) => self.upload_failed(work, error, file).await.map(UploadEnd::Ended),
            None => Ok(UploadEnd::Ended(End::Left)),
        }
    }

    /// None: the run drains.
    async fn try_upload(&self, file: &[u8]) -> Option<Result<FileAddress, UploadError>> {
        let (leave, permit) = loop {
            let permit = self.permit(&self.leave_gate).await?;
            let leave: Leave = match self.observed(&self.leave_gate, self.client.authorize_file_upload(permit).await) {
                Ok(leave) => leave,
                Err(error) => return Some(Err(error)),
            };
            let given_at = Instant::now();
            let permit = self.permit(&self.object_gate).await?;
            // It may have run out while the file waited for its turn.
            if given_at.elapsed() < leave.life {
                break (leave, permit);
            }
        };
        crate::crash::point("upload.before");
        let stored = self.client.post_object(permit, &leave, file).await;
        crate::crash::point("upload.after");
        Some(self.observed(&self.object_gate, stored))
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
            Err(UploadError::Fault(_) | UploadError::Fatal(_)) => {}
        }
        result
    }

    async fn upload_failed(&self, mut work: Work, error: UploadError, file: PhotoFile) -> Result<End, StoreError> {
        let outcome = match error {
            UploadError::Throttled { .. } => return Ok(self.later(work)),
            UploadError::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                return Ok(End::Left);
            }
            UploadError::Refused(refusal) => Outcome::Rejected {
                stage: Stage::Service,
                code: refusal.code,
                message: refusal.message,
                request_id: refusal.request_id,
            },
            UploadError::Fault(fault) => {
                let is_away = self.missed(&fault).await;
                work.upload_faults += u32::from(!is_away);
                tracing::debug!(row = work.claimed.row, fault = fault.message, "a photo could not be uploaded");
                let next = self.settings.rules.after_fault(work.upload_faults, is_away);
                match next {
                    Next::Again { .. } => return Ok(self.later(work)),
                    Next::GiveUp => self.settings.rules.outcome(&next, &fault),
                }
            }
        };
        let item = work.claimed.item;
        let settlement = Settlement::new(item, ItemState::Pending, outcome);
        self.settle(Settlement { stamp: file.stamp, ..settlement }).await?;
        Ok(End::Done)
    }
}
