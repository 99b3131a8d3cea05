//! One item's way from the queue to its outcome, once.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{
    admission::Entry,
    engine::Engine,
    guards::MissingPhoto,
    prepare::{Delivery, PrepareError, Prepared},
    replace::{Replacement, ReplacementLookup},
    stages,
    upload::{UploadOutcome, UploadedPhoto},
};
use crate::{
    api::{Payload, Transport},
    checkpoint::{Claimed, NewIntent, OutcomeRecord, Store, StoreError},
    domain::{
        Answer, ApiRejection, CallFailure, ConfirmedBy, DrainReason, ErrorCode, Event, FailureKind, FatalError, ItemId,
        ItemState, Outcome, RejectedBy, RunEffect, Supersedes, Verdict,
    },
    pace::{Backoff, RateChange, RetryDecision},
    picture::Defect,
};

/// An item on its way, with what it remembers of its earlier tries in this run.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) claimed: Claimed,
    /// Of faults and throttles.
    pub(super) backoff: Backoff,
    /// Times that its file could not be read for the machine's sake.
    pub(super) read_faults: u32,
    /// Times that its photo could not be uploaded.
    pub(super) upload_faults: u32,
    /// Where its photo is, if it has been uploaded.
    pub(super) uploaded: Option<UploadedPhoto>,
    /// Has it taken one of `--max-images`?
    pub(super) is_counted: bool,
}

impl Task {
    pub(super) fn new(claimed: Claimed) -> Self {
        Self {
            claimed,
            backoff: Backoff::default(),
            read_faults: 0,
            upload_faults: 0,
            uploaded: None,
            is_counted: false,
        }
    }
}

/// Where an item goes from here.
pub(super) enum Next {
    /// Nowhere: its outcome is on disk.
    Done,
    /// Back to the queue.
    Requeue(Task, Instant),
    /// To be asked about; with the code of its fault.
    InDoubt(Task, ErrorCode),
    /// Its outcome is on disk; the records that it replaces are to go.
    CleanUp(Replacement),
    /// The run drains: it stays pending.
    Cancelled,
    /// Its photo is missing, and perhaps all are: it stays pending.
    Withheld,
    /// It stays pending, and is not taken again in this run.
    SetAside,
    /// `--max-images` are taken: it stays pending, and so does everything behind it.
    LimitReached,
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// See the module.
    pub(super) async fn attempt(&self, mut work: Task) -> Result<Next, StoreError> {
        let item = work.claimed.item;
        // While the service is away, or wants nobody for long, nothing is read, fitted or uploaded for it.
        if let Some(deferred) = self.add_gate.deferred(Instant::now()) {
            return Ok(Next::Requeue(work, deferred.until));
        }
        if work.claimed.replaces == Some(Supersedes::Unknown) {
            work = match self.find_superseded_records(work).await? {
                ReplacementLookup::Known(work) => work,
                ReplacementLookup::Later(work) => return Ok(self.requeue(work)),
                ReplacementLookup::Left => return Ok(Next::Cancelled),
            };
        }
        if self.settings.precheck.applies_to(&work.claimed) {
            work = match self.adopt(work).await? {
                Ok(work) => work,
                Err(end) => return Ok(end),
            };
        }
        let Prepared { load, file, warnings, _bytes } =
            match self.in_stage(stages::PipelineStage::Photo, self.prepare(&work)).await {
                Ok(prepared) => prepared,
                Err(PrepareError::Defect(defect, stamp)) => {
                    let (code, message) = (defect.code(), defect.to_string());
                    let outcome = Outcome::Rejected { stage: RejectedBy::Local, code, message, request_id: None };
                    let refusal = OutcomeRecord::new(item, ItemState::Pending, outcome);
                    let refusal = OutcomeRecord { stamp, ..refusal };
                    if matches!(defect, Defect::NotFound { .. }) {
                        return self.photo_is_missing(refusal).await;
                    }
                    self.photo_is_there().await?;
                    self.settle(refusal).await?;
                    return Ok(Next::Done);
                }
                Err(PrepareError::Machine(error)) => return Ok(self.retry_read(work, &error)),
            };
        if file.stamp.is_some() {
            self.photo_is_there().await?;
        }
        let _in_flight = self.in_flight.acquire().await.expect("the semaphore is never closed");
        let Some(mut entry) = self.admit().await else { return Ok(Next::Cancelled) };
        let payload = match load {
            Delivery::Inline(payload) => payload,
            Delivery::Upload(photo) => {
                // An upload is long: it keeps no place, but for the only one there is while the service is not known.
                let kept = match entry {
                    Entry::Open { place } => {
                        drop(place);
                        None
                    }
                    probe @ Entry::Probe { .. } => Some(probe),
                };
                let address = match self.upload(work, &photo, file).await? {
                    UploadOutcome::There(there, address) => {
                        work = there;
                        address
                    }
                    UploadOutcome::Ended(end) => return Ok(end),
                };
                entry = match kept {
                    Some(probe) => probe,
                    None => match self.admit().await {
                        Some(entry) => entry,
                        None => return Ok(Next::Cancelled),
                    },
                };
                Payload::with_file(&work.claimed.group, &work.claimed.user, &address)
            }
        };
        if let Some(deferred) = self.add_gate.deferred(Instant::now()) {
            return Ok(Next::Requeue(work, deferred.until));
        }
        if !work.is_counted {
            if !self.images.take() {
                return Ok(Next::LimitReached);
            }
            self.stats.sent();
            self.stats.warned(&warnings);
            work.is_counted = true;
        }
        let Claimed { group, user, .. } = &work.claimed;
        let intent = NewIntent {
            item,
            group: group.clone(),
            user: user.clone(),
            digest: file.digest,
            sent: file.sent,
            stamp: file.stamp,
            at_ms: self.client.service_time().as_millisecond(),
        };
        work.claimed.intent_ms = Some(intent.at_ms);
        let intent = self.in_stage(stages::PipelineStage::Disk, self.checkpoint.intend(intent)).await?;
        let attempts = intent.get().attempt;
        let permit = tokio::select! {
            biased;
            () = self.stop.draining() => None,
            permit = self.in_stage(stages::PipelineStage::Gate, self.add_gate.permit()) => Some(permit),
        };
        let permit = match permit {
            Some(Ok(permit)) => permit,
            // Not sent: the intent is withdrawn, and the attempt has not been one.
            Some(Err(deferred)) => {
                self.release_intent(item).await?;
                return Ok(Next::Requeue(work, deferred.until));
            }
            None => {
                self.release_intent(item).await?;
                return Ok(Next::Cancelled);
            }
        };
        // The place before the gate is free; the only call's turn lasts until its answer.
        let probe = match entry {
            Entry::Open { place } => {
                drop(place);
                None
            }
            Entry::Probe { turn } => Some(turn),
        };
        crate::crash::point("send.before");
        self.stats.called(Instant::now());
        let answer =
            self.in_stage(stages::PipelineStage::Answer, self.client.add_face_record(permit, intent, payload)).await;
        crate::crash::point("send.after");
        work.claimed.attempts = attempts;
        let end = self.handle_answer(work, answer).await;
        drop(probe);
        end
    }

    /// See [`MissingPhotos`](super::guards::MissingPhotos).
    async fn photo_is_missing(&self, refusal: OutcomeRecord) -> Result<Next, StoreError> {
        match self.missing_photos.on_failure(refusal) {
            MissingPhoto::Refuse(refusals) => {
                self.settle_all(refusals).await?;
                Ok(Next::Done)
            }
            MissingPhoto::Withhold => Ok(Next::Withheld),
            MissingPhoto::Stop(reason) => {
                self.drain(reason);
                Ok(Next::Withheld)
            }
        }
    }

    async fn photo_is_there(&self) -> Result<(), StoreError> {
        self.settle_all(self.missing_photos.found()).await
    }

    pub(super) async fn settle_all(&self, settlements: Vec<OutcomeRecord>) -> Result<(), StoreError> {
        for settlement in settlements {
            self.settle(settlement).await?;
        }
        Ok(())
    }

    /// The item is in this stage until that is done.
    async fn in_stage<R>(&self, stage: stages::PipelineStage, work: impl Future<Output = R>) -> R {
        let _in_stage = self.stages.enter(stage);
        work.await
    }

    /// Waits for a place before the gate. None: the run drains.
    async fn admit(&self) -> Option<Entry<'_>> {
        tokio::select! {
            entry = self.admission.admit() => Some(entry).filter(|_| !self.stop.is_draining()),
            () = self.stop.draining() => None,
        }
    }

    /// What the answer means for the run, then for the item.
    async fn handle_answer(&self, work: Task, answer: Answer) -> Result<Next, StoreError> {
        let now = Instant::now();
        let Answer { verdict, run_effect, retry_after, latency } = answer;
        if let Some(pause) = retry_after {
            self.add_gate.pause(pause, now);
        }
        // Of an answer; a call that was given up on had none.
        let latency = matches!(verdict, Verdict::Enrolled(_) | Verdict::Refused(_)).then_some(latency);
        let item = work.claimed.item;
        latency.inspect(|latency| self.stats.on_response(*latency));
        match verdict {
            Verdict::Enrolled(receipt) => {
                self.stats.sent_is_enrolled();
                self.on_answer(false).await?;
                self.retries.lock().unwrap_or_else(PoisonError::into_inner).reward(now);
                self.streak.broken();
                let outcome = Outcome::Enrolled {
                    confirmed_by: ConfirmedBy::Response,
                    quality: receipt.quality,
                    code: None,
                    message: None,
                    request_id: receipt.request_id,
                };
                self.settle_sent(item, outcome, latency).await?;
                Ok(Replacement::of(work.claimed).map_or(Next::Done, Next::CleanUp))
            }
            Verdict::Refused(refusal) => self.refused(work, refusal, latency).await,
            Verdict::Throttled(_) => {
                self.slow_down(retry_after).await?;
                self.release_intent(item).await?;
                Ok(self.requeue(work))
            }
            // Nothing left: its key ended while it waited for its turn. No attempt, and nobody's fault.
            Verdict::NotSent(CallFailure { kind: FailureKind::KeyRenewed, .. }) => {
                self.release_intent(item).await?;
                Ok(self.requeue(work))
            }
            Verdict::NotSent(fault) => {
                let is_away = self.on_failure(&fault).await;
                let next = self.settings.rules.after_failure(work.claimed.attempts, is_away);
                self.settle_sent(item, self.settings.rules.outcome(&next, &fault), latency).await?;
                match next {
                    // While the service is away, one call at a time is all there is.
                    RetryDecision::Retry { .. } if is_away => Ok(self.requeue(work)),
                    RetryDecision::Retry { .. } => {
                        let affordable = Instant::now() + self.retry_wait();
                        Ok(match self.requeue(work) {
                            Next::Requeue(work, at) => Next::Requeue(work, at.max(affordable)),
                            end => end,
                        })
                    }
                    RetryDecision::GiveUp => Ok(Next::Done),
                }
            }
            Verdict::MaybeSent(fault) => {
                match run_effect {
                    None => drop(self.on_failure(&fault).await),
                    Some(RunEffect::SlowDown) => self.slow_down(retry_after).await?,
                    Some(RunEffect::Stop(fatal)) => self.drain(DrainReason::Fatal(fatal)),
                }
                let CallFailure { kind, message, request_id } = fault;
                let code = kind.code();
                let outcome = Outcome::InDoubt { code: code.clone(), message, request_id };
                self.settle_sent(item, outcome, latency).await?;
                Ok(Next::InDoubt(work, code))
            }
            Verdict::Fatal(fatal) => self.abort_with(work, fatal).await,
        }
    }

    /// Too many calls: the rate comes down.
    async fn slow_down(&self, retry_after: Option<Duration>) -> Result<(), StoreError> {
        self.stats.throttled();
        self.on_answer(true).await?;
        let rate = self.add_gate.rate().get();
        self.emit(Event::Throttled { rate, pause: retry_after }).await;
        Ok(())
    }

    /// A refusal concerns the photo, unless it concerns everyone's.
    async fn refused(&self, work: Task, refusal: ApiRejection, latency: Option<Duration>) -> Result<Next, StoreError> {
        let item = work.claimed.item;
        if refusal.code.0.starts_with("InvalidParameter") && self.is_group_missing(&work.claimed.group).await {
            let group = work.claimed.group.clone();
            return self.abort_with(work, FatalError::UnknownGroup { group }).await;
        }
        // Only now: until it was known whom the refusal concerns, nobody else was to go.
        self.on_answer(false).await?;
        let innocent = if self.settings.keep_going { None } else { self.streak.refused(item, &refusal) };
        let ApiRejection { code, message, request_id } = refusal;
        let outcome =
            Outcome::Rejected { stage: RejectedBy::Service, code: code.clone(), message: message.clone(), request_id };
        self.settle_sent(item, outcome, latency).await?;
        if let Some(items) = innocent {
            let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
            self.checkpoint.requeue(items).await?;
            self.drain(DrainReason::Fatal(FatalError::SameRefusal { code, count, message }));
        }
        Ok(Next::Done)
    }

    /// Nothing will go better until a person acts; the item is not to blame.
    async fn abort_with(&self, work: Task, fatal: FatalError) -> Result<Next, StoreError> {
        self.release_intent(work.claimed.item).await?;
        self.drain(DrainReason::Fatal(fatal));
        Ok(Next::Cancelled)
    }

    /// How long a retry has to wait for the budget.
    pub(super) fn retry_wait(&self) -> Duration {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner).try_acquire(Instant::now())
    }

    pub(super) fn requeue(&self, mut work: Task) -> Next {
        let wait = work.backoff.next(fastrand::f64());
        Next::Requeue(work, Instant::now() + wait)
    }

    /// The service has answered conclusively.
    async fn on_answer(&self, throttled: bool) -> Result<(), StoreError> {
        self.proxy_failures.worked();
        if self.admission.on_response() {
            self.emit(Event::ServiceRecovered).await;
        }
        let now = Instant::now();
        if let Some(lasted) = self.throttled_out.on_answer(throttled, self.add_gate.rate(), now) {
            self.drain(DrainReason::ThrottledTooLong(lasted));
        }
        match self.add_gate.observe(throttled, now) {
            None => {}
            Some(RateChange::Cut(rate)) => self.checkpoint.save_rate(Some(rate.get())).await?,
            Some(RateChange::Tolerated(share)) => self.emit(Event::ThrottlingTolerated { share }).await,
            Some(RateChange::Recovered(rate)) => {
                self.checkpoint.save_rate(None).await?;
                self.emit(Event::RateRestored { rate: rate.get() }).await;
            }
        }
        Ok(())
    }

    /// The service has not. True if it is taken to be away.
    pub(super) async fn on_failure(&self, fault: &CallFailure) -> bool {
        match fault.kind {
            // It has answered; only this call was not to its liking.
            FailureKind::ClockCorrected
            | FailureKind::KeyRenewed
            | FailureKind::NonceUsed
            | FailureKind::DownloadTimeout
            | FailureKind::UploadFailed => return false,
            FailureKind::ConnectFailed
            | FailureKind::ProxyFailed
            | FailureKind::CertificateRefused
            | FailureKind::Timeout
            | FailureKind::ConnectionLost
            | FailureKind::UnreadableAnswer
            | FailureKind::Service(_)
            | FailureKind::Interrupted => {}
        }
        let now = Instant::now();
        self.guard_proxy(fault, now);
        if self.bad_certificates.is_one_too_many(fault) {
            self.drain(DrainReason::Fatal(FatalError::Certificate { message: fault.message.clone() }));
        }
        let Some(pause) = self.admission.on_failure(now) else { return false };
        let away = self.admission.retry_in(now);
        if away > self.settings.give_up_after {
            self.drain(DrainReason::ServiceUnavailable(away));
        }
        self.add_gate.pause(pause, now);
        self.emit(Event::ServiceUnavailable { pause, fault: fault.message.clone() }).await;
        true
    }

    /// An outcome of what was being sent: on disk, then told.
    async fn settle_sent(&self, item: ItemId, outcome: Outcome, latency: Option<Duration>) -> Result<(), StoreError> {
        let settlement = OutcomeRecord::new(item, ItemState::Sending, outcome);
        self.settle(OutcomeRecord { latency, ..settlement }).await
    }

    /// What was not executed is pending again, and its attempt has not been one. Nothing that anyone needs to be told.
    async fn release_intent(&self, item: ItemId) -> Result<(), StoreError> {
        let outcome = Outcome::Requeue { counts: false };
        let settlement = OutcomeRecord::new(item, ItemState::Sending, outcome);
        self.checkpoint.settle(settlement).await.map(drop)
    }

    /// On disk, then counted and told.
    pub(super) async fn settle(&self, settlement: OutcomeRecord) -> Result<(), StoreError> {
        let report = self.checkpoint.settle(settlement).await?;
        match report.outcome {
            Outcome::Enrolled { .. } => self.stats.enrolled(),
            Outcome::Rejected { .. } | Outcome::Failed { .. } => {
                if matches!(report.outcome, Outcome::Rejected { .. }) {
                    self.stats.rejected();
                }
                let (errors, ended) = self.stats.erred();
                if self.settings.limits.errors.is_some_and(|limit| limit.is_reached(errors, ended)) {
                    self.drain(DrainReason::MaxErrors);
                }
            }
            Outcome::InDoubt { .. } | Outcome::Requeue { .. } => {}
        }
        self.emit(Event::Item(report)).await;
        Ok(())
    }
}
