//! One attempt to enroll an item, from the queue to its outcome.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{
    admission::Entry,
    engine::{Engine, SendMode},
    guards::MissingPhoto,
    stages,
    task::{Delivery, Next, PrepareError, Prepared, ReplacementCleanup, ReplacementLookup, Task, UploadOutcome},
};
use crate::{
    api::{Payload, Transport},
    checkpoint::{Claimed, NewIntent, OutcomeRecord, Store, StoreError},
    domain::{
        Answer, ApiRejection, CallFailure, ConfirmedBy, DrainReason, Event, FailureKind, FatalError, ItemId, ItemState,
        Outcome, PhotoSource, RejectedBy, RunEffect, Supersedes, Verdict,
    },
    pace::{RateChange, RetryDecision},
    picture::Defect,
    storage::Unavailable,
};

impl<T: Transport, S: Store> Engine<T, S> {
    /// Makes one attempt.
    pub(super) async fn attempt(&self, mut task: Task) -> Result<Next, StoreError> {
        let item = task.claimed.item;
        // Prepare and upload nothing while the service is unavailable or asks for a long pause.
        if let Some(deferred) = self.add_gate.deferred(Instant::now()) {
            return Ok(Next::Requeue(task, deferred.until));
        }
        if task.claimed.replaces == Some(Supersedes::Unknown) {
            task = match self.find_superseded_records(task).await? {
                ReplacementLookup::Known(task) => task,
                ReplacementLookup::Later(task) => return Ok(self.requeue(task)),
                ReplacementLookup::Draining => return Ok(Next::Cancelled),
            };
        }
        if self.settings.precheck.applies_to(&task.claimed) {
            task = match self.adopt(task).await? {
                Ok(task) => task,
                Err(end) => return Ok(end),
            };
        }
        let Prepared { load, file, warnings, _bytes } =
            match self.in_stage(stages::PipelineStage::Photo, self.prepare(&task)).await {
                Ok(prepared) => prepared,
                Err(PrepareError::Defect(defect, stamp)) => {
                    let (code, message) = (defect.code(), defect.to_string());
                    let outcome = Outcome::Rejected { stage: RejectedBy::Local, code, message, request_id: None };
                    let refusal = OutcomeRecord::new(item, ItemState::Pending, outcome);
                    let refusal = OutcomeRecord { stamp, ..refusal };
                    if matches!(defect, Defect::Unavailable(Unavailable::NotFound { .. })) {
                        return self.photo_is_missing(refusal).await;
                    }
                    self.photo_is_there().await?;
                    self.settle(refusal).await?;
                    return Ok(Next::Done);
                }
                Err(PrepareError::Fatal(fatal)) => {
                    self.drain(DrainReason::Fatal(fatal));
                    return Ok(Next::Cancelled);
                }
                Err(PrepareError::Machine(error)) => return Ok(self.retry_read(task, &error)),
            };
        if file.stamp.is_some() {
            self.photo_is_there().await?;
        }
        let _in_flight = self.in_flight.acquire().await.expect("the semaphore is never closed");
        let Some(mut entry) = self.admit().await else { return Ok(Next::Cancelled) };
        let payload = match load {
            Delivery::Inline(payload) => payload,
            Delivery::Upload(photo) => {
                // An upload takes long, so it holds no slot, except the probe, which is the only one.
                let kept = match entry {
                    Entry::Open { slot } => {
                        drop(slot);
                        None
                    }
                    probe @ Entry::Probe { .. } => Some(probe),
                };
                let address = match self.upload(task, &photo, file).await? {
                    UploadOutcome::Uploaded(uploaded, address) => {
                        task = uploaded;
                        address
                    }
                    UploadOutcome::NotUploaded(end) => return Ok(end),
                };
                entry = match kept {
                    Some(probe) => probe,
                    None => match self.admit().await {
                        Some(entry) => entry,
                        None => return Ok(Next::Cancelled),
                    },
                };
                Payload::with_file(self.settings.form_fields(&task.claimed), &address)
            }
        };
        if !self.wait_for_bandwidth(payload.body().len()).await {
            return Ok(Next::Cancelled);
        }
        if let Some(deferred) = self.add_gate.deferred(Instant::now()) {
            return Ok(Next::Requeue(task, deferred.until));
        }
        if !task.is_counted {
            if !self.images.take() {
                return Ok(Next::LimitReached);
            }
            self.stats.sent();
            self.stats.warned(&warnings);
            task.is_counted = true;
        }
        let Claimed { group, user, .. } = &task.claimed;
        let intent = NewIntent {
            item,
            group: group.clone(),
            user: user.clone(),
            digest: file.digest,
            sent: file.sent,
            stamp: file.stamp,
            at_ms: self.client.service_time().as_millisecond(),
        };
        task.claimed.intent_ms = Some(intent.at_ms);
        let intent = self.in_stage(stages::PipelineStage::Disk, self.checkpoint.intend(intent)).await?;
        let attempts = intent.get().attempt;
        let permit = tokio::select! {
            biased;
            () = self.stop.draining() => None,
            permit = self.in_stage(stages::PipelineStage::Gate, self.add_gate.permit()) => Some(permit),
        };
        let permit = match permit {
            Some(Ok(permit)) => permit,
            // Nothing was sent: withdraw the intent; it does not count as an attempt.
            Some(Err(deferred)) => {
                self.release_intent(item).await?;
                return Ok(Next::Requeue(task, deferred.until));
            }
            None => {
                self.release_intent(item).await?;
                return Ok(Next::Cancelled);
            }
        };
        // Free the slot at the gate. A probe holds its turn until its answer.
        let probe = match entry {
            Entry::Open { slot } => {
                drop(slot);
                None
            }
            Entry::Probe { turn } => Some(turn),
        };
        crate::crash::point("send.before");
        self.stats.called(Instant::now());
        let answer =
            self.in_stage(stages::PipelineStage::Answer, self.client.add_face_record(permit, intent, payload)).await;
        crate::crash::point("send.after");
        task.claimed.attempts = attempts;
        let end = self.handle_answer(task, answer).await;
        drop(probe);
        end
    }

    /// Handles a photo that was not found. See [`MissingPhotos`](super::guards::MissingPhotos).
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

    /// Counts the item in this stage until the future completes.
    async fn in_stage<R>(&self, stage: stages::PipelineStage, future: impl Future<Output = R>) -> R {
        let _in_stage = self.stages.enter(stage);
        future.await
    }

    /// Waits for a slot at the gate. `None` if the run is draining.
    async fn admit(&self) -> Option<Entry<'_>> {
        tokio::select! {
            biased;
            entry = self.admission.admit() => Some(entry).filter(|_| !self.stop.is_draining()),
            () = self.stop.draining() => None,
        }
    }

    /// Waits until these bytes may be sent, before any intent and permit. False if the run is draining.
    pub(super) async fn wait_for_bandwidth(&self, bytes: usize) -> bool {
        tokio::select! {
            biased;
            () = self.stop.draining() => false,
            () = self.in_stage(stages::PipelineStage::Bandwidth, self.bandwidth.wait(bytes as u64)) => true,
        }
    }

    /// Applies the answer to the run, then to the item.
    async fn handle_answer(&self, task: Task, answer: Answer) -> Result<Next, StoreError> {
        let now = Instant::now();
        let Answer { verdict, run_effect, retry_after, latency } = answer;
        if let Some(pause) = retry_after {
            self.add_gate.pause(pause, now);
        }
        // A call without an answer has no latency.
        let latency = matches!(verdict, Verdict::Enrolled(_) | Verdict::Refused(_)).then_some(latency);
        let item = task.claimed.item;
        latency.inspect(|latency| self.stats.on_response(*latency));
        match verdict {
            Verdict::Enrolled(receipt) => {
                self.stats.sent_is_enrolled();
                self.on_answer(false).await?;
                self.retries.lock().unwrap_or_else(PoisonError::into_inner).reward(now);
                self.streak.reset();
                let outcome = Outcome::Enrolled {
                    confirmed_by: ConfirmedBy::Response,
                    quality: receipt.quality,
                    code: None,
                    message: None,
                    request_id: receipt.request_id,
                };
                self.settle_sent(item, outcome, latency).await?;
                Ok(ReplacementCleanup::of(task.claimed).map_or(Next::Done, Next::CleanUp))
            }
            Verdict::Refused(refusal) => self.refused(task, refusal, latency).await,
            Verdict::Throttled(_) => {
                self.slow_down(retry_after).await?;
                self.release_intent(item).await?;
                Ok(self.requeue(task))
            }
            // Nothing was sent: the key expired while the call waited. It is neither an attempt nor a failure.
            Verdict::NotSent(CallFailure { kind: FailureKind::KeyRenewed, .. }) => {
                self.release_intent(item).await?;
                Ok(self.requeue(task))
            }
            Verdict::NotSent(fault) => {
                self.count_failed_link(&task, &fault);
                let is_away = self.on_failure(&fault).await;
                let next = self.settings.rules.after_failure(task.claimed.attempts, is_away);
                self.settle_sent(item, self.settings.rules.outcome(&next, &fault), latency).await?;
                match next {
                    // During an outage only one call is made at a time, so retries need no tokens.
                    RetryDecision::Retry { .. } if is_away => Ok(self.requeue(task)),
                    RetryDecision::Retry { .. } => {
                        let affordable = Instant::now() + self.retry_wait();
                        Ok(match self.requeue(task) {
                            Next::Requeue(task, at) => Next::Requeue(task, at.max(affordable)),
                            end => end,
                        })
                    }
                    RetryDecision::GiveUp => Ok(Next::Done),
                }
            }
            Verdict::MaybeSent(fault) => {
                self.count_failed_link(&task, &fault);
                match run_effect {
                    None => drop(self.on_failure(&fault).await),
                    Some(RunEffect::SlowDown) => self.slow_down(retry_after).await?,
                    Some(RunEffect::Stop(fatal)) => self.drain(DrainReason::Fatal(fatal)),
                }
                let CallFailure { kind, message, request_id } = fault;
                let code = kind.code();
                let outcome = Outcome::InDoubt { code: code.clone(), message, request_id };
                self.settle_sent(item, outcome, latency).await?;
                Ok(Next::InDoubt(task, code))
            }
            Verdict::Fatal(fatal) => self.abort_with(task, fatal).await,
        }
    }

    /// Counts a call that failed with a link of ours: the service may not be able to fetch from the bucket at all, and no
    /// document says what it answers then. Many failures in a row stop the run.
    fn count_failed_link(&self, task: &Task, fault: &CallFailure) {
        let is_link = self.settings.send == SendMode::Link && matches!(task.claimed.picture, PhotoSource::Object(..));
        let is_of_service = matches!(fault.kind, FailureKind::DownloadTimeout | FailureKind::Service(_));
        if !is_link || !is_of_service {
            return;
        }
        let (code, message) = (fault.kind.code(), fault.message.clone());
        let refusal = ApiRejection { code: code.clone(), message: message.clone(), request_id: None };
        if let Some(items) = self.streak.refused(task.claimed.item, &refusal) {
            let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
            self.drain(DrainReason::Fatal(FatalError::SameRefusal { code, count, message }));
        }
    }

    /// Handles a throttled call: lowers the rate.
    async fn slow_down(&self, retry_after: Option<Duration>) -> Result<(), StoreError> {
        self.stats.throttled();
        self.on_answer(true).await?;
        let rate = self.add_gate.rate().get();
        self.emit(Event::Throttled { rate, pause: retry_after }).await;
        Ok(())
    }

    /// Handles a rejection, which concerns this photo or, if it is fatal or repeats, all photos.
    async fn refused(&self, task: Task, refusal: ApiRejection, latency: Option<Duration>) -> Result<Next, StoreError> {
        let item = task.claimed.item;
        if refusal.code.0.starts_with("InvalidParameter") && self.is_group_missing(&task.claimed.group).await {
            let group = task.claimed.group.clone();
            return self.abort_with(task, FatalError::UnknownGroup { group }).await;
        }
        // Not earlier: no other call may go until it is known whether the rejection concerns them all.
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

    /// Stops the run for an error that only a person can fix; the item stays pending.
    async fn abort_with(&self, task: Task, fatal: FatalError) -> Result<Next, StoreError> {
        self.release_intent(task.claimed.item).await?;
        self.drain(DrainReason::Fatal(fatal));
        Ok(Next::Cancelled)
    }

    /// Time that a retry has to wait for a retry token.
    pub(super) fn retry_wait(&self) -> Duration {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner).try_acquire(Instant::now())
    }

    pub(super) fn requeue(&self, mut task: Task) -> Next {
        let wait = task.backoff.next(fastrand::f64());
        Next::Requeue(task, Instant::now() + wait)
    }

    /// Records a conclusive answer of the service.
    async fn on_answer(&self, throttled: bool) -> Result<(), StoreError> {
        self.proxy_failures.on_success();
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

    /// Records a call without a conclusive answer. Returns whether the service counts as unavailable.
    pub(super) async fn on_failure(&self, fault: &CallFailure) -> bool {
        match fault.kind {
            // The service has answered; only this call failed.
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
        if self.bad_certificates.is_limit_reached(fault) {
            self.drain(DrainReason::Fatal(FatalError::Certificate { message: fault.message.clone() }));
        }
        let Some(pause) = self.admission.on_failure(now) else { return false };
        let away = self.admission.outage(now);
        if away > self.settings.give_up_after {
            self.drain(DrainReason::ServiceUnavailable(away));
        }
        self.add_gate.pause(pause, now);
        self.emit(Event::ServiceUnavailable { pause, fault: fault.message.clone() }).await;
        true
    }

    /// Settles an item that was being sent.
    async fn settle_sent(&self, item: ItemId, outcome: Outcome, latency: Option<Duration>) -> Result<(), StoreError> {
        let settlement = OutcomeRecord::new(item, ItemState::Sending, outcome);
        self.settle(OutcomeRecord { latency, ..settlement }).await
    }

    /// Makes an item pending again whose call was not executed. It is neither counted as an attempt nor reported.
    async fn release_intent(&self, item: ItemId) -> Result<(), StoreError> {
        let outcome = Outcome::Requeue { counts: false };
        let settlement = OutcomeRecord::new(item, ItemState::Sending, outcome);
        self.checkpoint.settle(settlement).await.map(drop)
    }

    /// Commits an outcome, then counts and reports it.
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
