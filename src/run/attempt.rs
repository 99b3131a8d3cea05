//! One attempt to enroll an item, from the queue to its outcome.

use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use super::{
    admission::{Admission, Entry},
    budget::ImageLimit,
    guards::{Guards, MissingPhoto, Sign},
    lookup::Lookup,
    precheck::Prechecker,
    prepare::Preparer,
    recorder::Recorder,
    settings::Settings,
    stages::{PipelineStage, StageGauges},
    task::{Delivery, Next, PhotoFile, PrepareError, Prepared, ReplacementCleanup, Task, UploadedPhoto},
    upload::Uploader,
};
use crate::{
    api::{FaceQualityCheck, FormFields, Payload, Transport},
    caller::{Caller, NoPermit},
    checkpoint::{Claimed, NewIntent, OutcomeRecord, Store, StoreError},
    domain::{
        Answer, ApiRejection, CallError, CallFailure, ConfirmedBy, DrainReason, Event, FailureKind, FatalError, ItemId,
        ItemState, Outcome, RejectedBy, RunEffect, action::AddFaceRecord,
    },
    pace::{Bandwidth, Gate, RateChange, RetryDecision, RetryRules, RetryTokens},
    picture::{Defect, Warning},
    storage::Unavailable,
};

/// Sends items.
pub(super) struct Sender<T, S> {
    caller: Arc<Caller<T>>,
    pub(super) gate: Gate<AddFaceRecord>,
    recorder: Arc<Recorder<S>>,
    guards: Arc<Guards>,
    lookup: Arc<Lookup<T, S>>,
    prechecker: Prechecker<T, S>,
    preparer: Preparer,
    uploader: Uploader<T>,
    pub(super) admission: Admission,
    in_flight: Semaphore,
    images: ImageLimit,
    retries: Mutex<RetryTokens>,
    pub(super) stages: StageGauges,
    rules: RetryRules,
    keep_going: bool,
    quality_check: Option<FaceQualityCheck>,
    bandwidth: Bandwidth,
}

impl<T: Transport, S: Store> Sender<T, S> {
    pub(super) fn new(
        settings: &Settings,
        lookup: &Arc<Lookup<T, S>>,
        gate: Gate<AddFaceRecord>,
        uploader: Uploader<T>,
    ) -> Self {
        let Lookup { caller, recorder, guards, .. } = &**lookup;
        let (lookup, recorder, guards) = (Arc::clone(lookup), Arc::clone(recorder), Arc::clone(guards));
        Self {
            caller: Arc::clone(caller),
            gate,
            prechecker: Prechecker {
                lookup: Arc::clone(&lookup),
                recorder: Arc::clone(&recorder),
                precheck: settings.precheck,
            },
            preparer: Preparer::new(settings, Arc::clone(&guards)),
            recorder,
            guards,
            lookup,
            uploader,
            admission: Admission::new(settings.quota),
            in_flight: Semaphore::new(settings.concurrency.get()),
            images: ImageLimit::new(settings.limits.images),
            retries: Mutex::new(RetryTokens::new(Instant::now())),
            stages: StageGauges::default(),
            rules: settings.rules,
            keep_going: settings.keep_going,
            quality_check: settings.quality_check,
            bandwidth: Bandwidth::new(settings.bandwidth.clone()),
        }
    }

    /// Makes one attempt.
    pub(super) async fn attempt(&self, mut task: Task) -> Result<Next, StoreError> {
        let item = task.claimed.item;
        // Prepare and upload nothing while the service is unavailable or asks for a long pause.
        if let Some(deferred) = self.gate.deferred(Instant::now()) {
            return Ok(Next::Requeue(task, deferred.until));
        }
        task = match self.prechecker.check(task).await? {
            ControlFlow::Continue(task) => task,
            ControlFlow::Break(next) => return Ok(next),
        };
        let Prepared { load, file, warnings, _bytes } =
            match self.in_stage(PipelineStage::Photo, self.preparer.prepare(&task)).await {
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
                    self.recorder.settle(refusal).await?;
                    return Ok(Next::Done);
                }
                Err(PrepareError::Fatal(fatal)) => {
                    self.recorder.drain(DrainReason::Fatal(fatal));
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
                if !self.wait_for_bandwidth(photo.len()).await {
                    return Ok(Next::Cancelled);
                }
                let uploaded = self.uploader.upload(&photo).await;
                if let Some(uploaded) = &uploaded {
                    self.observe(Sign::Upload(uploaded.as_ref().err()));
                }
                let address = match uploaded {
                    None => return Ok(Next::Cancelled),
                    Some(Err(error)) => return self.upload_failed(task, error, file).await,
                    Some(Ok(address)) => address,
                };
                task.uploaded = Some(UploadedPhoto { address: address.clone(), file, at: Instant::now() });
                entry = match kept {
                    Some(probe) => probe,
                    None => match self.admit().await {
                        Some(entry) => entry,
                        None => return Ok(Next::Cancelled),
                    },
                };
                let Claimed { group, user, .. } = &task.claimed;
                Payload::with_file(FormFields { group, user, quality_check: self.quality_check }, &address)
            }
        };
        if !self.wait_for_bandwidth(payload.body().len()).await {
            return Ok(Next::Cancelled);
        }
        if let Some(deferred) = self.gate.deferred(Instant::now()) {
            return Ok(Next::Requeue(task, deferred.until));
        }
        if !task.is_counted {
            if !self.images.take() {
                return Ok(Next::LimitReached);
            }
            self.recorder.stats.sent();
            self.recorder.stats.warned(&warnings);
            for warning in warnings.iter().filter(|warning| matches!(warning, Warning::Face(_))) {
                tracing::warn!(row = task.claimed.row, code = warning.name(), "{}", warning.message());
            }
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
            at_ms: self.caller.client.service_time().as_millisecond(),
        };
        task.claimed.intent_ms = Some(intent.at_ms);
        let intent = self.in_stage(PipelineStage::Disk, self.recorder.checkpoint.intend(intent)).await?;
        let attempts = intent.get().attempt;
        let permit = match self.in_stage(PipelineStage::Gate, self.caller.permit(&self.gate)).await {
            Ok(permit) => permit,
            // Nothing was sent: withdraw the intent; it does not count as an attempt.
            Err(no_permit) => {
                self.recorder.release_intent(item).await?;
                return Ok(match no_permit {
                    NoPermit::Deferred(until) => Next::Requeue(task, until),
                    NoPermit::Stopped => Next::Cancelled,
                });
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
        self.recorder.stats.called(Instant::now());
        let answer =
            self.in_stage(PipelineStage::Answer, self.caller.client.add_face_record(permit, intent, payload)).await;
        crate::crash::point("send.after");
        task.claimed.attempts = attempts;
        let end = self.handle_answer(task, answer).await;
        drop(probe);
        end
    }

    /// Handles a photo that was not found. See [`MissingPhotos`](super::guards::MissingPhotos).
    async fn photo_is_missing(&self, refusal: OutcomeRecord) -> Result<Next, StoreError> {
        match self.guards.missing_photos.on_failure(refusal) {
            MissingPhoto::Refuse(refusals) => {
                self.recorder.settle_all(refusals).await?;
                Ok(Next::Done)
            }
            MissingPhoto::Withhold => Ok(Next::Withheld),
            MissingPhoto::Stop(reason) => {
                self.recorder.drain(reason);
                Ok(Next::Withheld)
            }
        }
    }

    async fn photo_is_there(&self) -> Result<(), StoreError> {
        self.recorder.settle_all(self.guards.missing_photos.found()).await
    }

    /// Counts the item in this stage until the future completes.
    async fn in_stage<R>(&self, stage: PipelineStage, future: impl Future<Output = R>) -> R {
        let _in_stage = self.stages.enter(stage);
        future.await
    }

    /// Waits for a slot at the gate. `None` if the run is draining.
    async fn admit(&self) -> Option<Entry<'_>> {
        let stop = &self.recorder.stop;
        tokio::select! {
            biased;
            entry = self.admission.admit() => Some(entry).filter(|_| !stop.is_draining()),
            () = stop.draining() => None,
        }
    }

    /// Waits until these bytes may be sent, before any intent and permit. False if the run is draining.
    async fn wait_for_bandwidth(&self, bytes: usize) -> bool {
        tokio::select! {
            biased;
            () = self.recorder.stop.draining() => false,
            () = self.in_stage(PipelineStage::Bandwidth, self.bandwidth.wait(bytes as u64)) => true,
        }
    }

    /// Applies the answer to the run, then to the item.
    async fn handle_answer(&self, task: Task, answer: Answer) -> Result<Next, StoreError> {
        let now = Instant::now();
        let Answer { result, run_effect, retry_after, latency } = answer;
        if let Some(pause) = retry_after {
            self.gate.retry_after(pause, now);
        }
        // A call without an answer has no latency.
        let latency = matches!(result, Ok(_) | Err(CallError::Rejected(_))).then_some(latency);
        let item = task.claimed.item;
        latency.inspect(|latency| self.recorder.stats.on_response(*latency));
        match result {
            Ok(receipt) => {
                self.recorder.stats.sent_is_enrolled();
                self.service_answered().await;
                self.adapt_rate(false).await?;
                self.retries.lock().unwrap_or_else(PoisonError::into_inner).reward(now);
                self.guards.refusals.reset();
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
            Err(CallError::Rejected(refusal)) => self.refused(task, refusal, latency).await,
            Err(CallError::Throttled { .. }) => {
                self.service_answered().await;
                self.slow_down(retry_after).await?;
                self.recorder.release_intent(item).await?;
                Ok(task.requeue())
            }
            // Nothing was sent: the key expired while the call waited. It is neither an attempt nor a failure.
            Err(CallError::NotExecuted(CallFailure { kind: FailureKind::KeyRenewed, .. })) => {
                self.recorder.release_intent(item).await?;
                Ok(task.requeue())
            }
            Err(CallError::NotExecuted(fault)) => {
                self.count_failed_link(&task, &fault);
                let is_away = self.on_failure(&fault).await;
                let next = self.rules.after_failure(task.claimed.attempts, is_away);
                self.settle_sent(item, self.rules.outcome(&next, &fault), latency).await?;
                match next {
                    // During an outage only one call is made at a time, so retries need no tokens.
                    RetryDecision::Retry { .. } if is_away => Ok(task.requeue()),
                    RetryDecision::Retry { .. } => {
                        let affordable = Instant::now() + self.retry_wait();
                        Ok(match task.requeue() {
                            Next::Requeue(task, at) => Next::Requeue(task, at.max(affordable)),
                            end => end,
                        })
                    }
                    RetryDecision::GiveUp => Ok(Next::Done),
                }
            }
            Err(CallError::MaybeExecuted(fault)) => {
                self.count_failed_link(&task, &fault);
                match run_effect {
                    None => drop(self.on_failure(&fault).await),
                    // Not the service's answer: it does not show that the service is back.
                    Some(RunEffect::SlowDown) => {
                        self.on_failure(&fault).await;
                        self.slow_down(retry_after).await?;
                    }
                    Some(RunEffect::Stop(fatal)) => self.recorder.drain(DrainReason::Fatal(fatal)),
                }
                let CallFailure { kind, message, request_id } = fault;
                let code = kind.code();
                let outcome = Outcome::InDoubt { code: code.clone(), message, request_id };
                self.settle_sent(item, outcome, latency).await?;
                Ok(Next::InDoubt(task, code))
            }
            Err(CallError::Fatal(fatal)) => self.abort_with(task, fatal).await,
        }
    }

    /// Counts a call that failed with a link of ours: the service may not be able to fetch from the bucket at all, and no
    /// document says what it answers then. Many failures in a row stop the run.
    fn count_failed_link(&self, task: &Task, fault: &CallFailure) {
        let is_of_service = matches!(fault.kind, FailureKind::DownloadTimeout | FailureKind::Service(_));
        if !is_of_service || !self.preparer.sends_link(&task.claimed.picture) {
            return;
        }
        let (code, message) = (fault.kind.code(), fault.message.clone());
        let refusal = ApiRejection { code: code.clone(), message: message.clone(), request_id: None };
        if let Some(items) = self.guards.refusals.refused(task.claimed.item, &refusal) {
            let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
            self.recorder.drain(DrainReason::Fatal(FatalError::SameRefusal { code, count, message }));
        }
    }

    /// Handles a throttled call: lowers the rate.
    async fn slow_down(&self, retry_after: Option<Duration>) -> Result<(), StoreError> {
        self.recorder.stats.throttled();
        self.adapt_rate(true).await?;
        let rate = self.gate.rate().get();
        self.recorder.emit(Event::Throttled { rate, pause: retry_after }).await;
        Ok(())
    }

    /// Handles a rejection, which concerns this photo or, if it is fatal or repeats, all photos.
    async fn refused(&self, task: Task, refusal: ApiRejection, latency: Option<Duration>) -> Result<Next, StoreError> {
        let item = task.claimed.item;
        if refusal.code.0.starts_with("InvalidParameter") {
            match self.lookup.is_group_missing(&task.claimed.group).await {
                Some(false) => {}
                Some(true) => {
                    let group = task.claimed.group.clone();
                    return self.abort_with(task, FatalError::UnknownGroup { group }).await;
                }
                // Perhaps the group is missing: the photo must not be rejected for that.
                None => {
                    self.recorder.release_intent(item).await?;
                    return Ok(Next::Cancelled);
                }
            }
        }
        // Not earlier: no other call may go until it is known whether the rejection concerns them all.
        self.service_answered().await;
        self.adapt_rate(false).await?;
        let innocent = if self.keep_going { None } else { self.guards.refusals.refused(item, &refusal) };
        let ApiRejection { code, message, request_id } = refusal;
        let outcome =
            Outcome::Rejected { stage: RejectedBy::Service, code: code.clone(), message: message.clone(), request_id };
        self.settle_sent(item, outcome, latency).await?;
        if let Some(items) = innocent {
            let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
            self.recorder.checkpoint.reopen(items).await?;
            self.recorder.drain(DrainReason::Fatal(FatalError::SameRefusal { code, count, message }));
        }
        Ok(Next::Done)
    }

    /// Stops the run for an error that only a person can fix; the item stays pending.
    async fn abort_with(&self, task: Task, fatal: FatalError) -> Result<Next, StoreError> {
        self.recorder.release_intent(task.claimed.item).await?;
        self.recorder.drain(DrainReason::Fatal(fatal));
        Ok(Next::Cancelled)
    }

    /// Time that a retry has to wait for a retry token.
    pub(super) fn retry_wait(&self) -> Duration {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner).try_acquire(Instant::now())
    }

    /// Records a conclusive answer of the service.
    async fn service_answered(&self) {
        self.observe(Sign::Answer);
        if self.admission.on_response() {
            self.recorder.emit(Event::ServiceRecovered).await;
        }
    }

    /// Adapts the rate to an answer.
    async fn adapt_rate(&self, throttled: bool) -> Result<(), StoreError> {
        let now = Instant::now();
        self.observe(Sign::Rate { throttled, rate: self.gate.rate() });
        match self.gate.observe(throttled, now) {
            None => {}
            Some(RateChange::Cut(rate)) => self.recorder.checkpoint.save_rate(Some(rate.get())).await?,
            Some(RateChange::Tolerated(share)) => self.recorder.emit(Event::ThrottlingTolerated { share }).await,
            Some(RateChange::Recovered(rate)) => {
                self.recorder.checkpoint.save_rate(None).await?;
                self.recorder.emit(Event::RateRestored { rate: rate.get() }).await;
            }
        }
        Ok(())
    }

    /// Records a call without a conclusive answer. Returns whether the service counts as unavailable.
    async fn on_failure(&self, fault: &CallFailure) -> bool {
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
        self.observe(Sign::Failure(fault));
        let Some(pause) = self.admission.on_failure(now) else { return false };
        self.observe(Sign::Outage(self.admission.outage(now)));
        self.gate.pause(pause, now);
        self.recorder.emit(Event::ServiceUnavailable { pause, fault: fault.message.clone() }).await;
        true
    }

    /// Drains the run if a guard finds a reason to.
    fn observe(&self, sign: Sign<'_>) {
        self.recorder.drain_for(self.guards.observe(sign, Instant::now()));
    }

    /// Settles an item that was being sent.
    async fn settle_sent(&self, item: ItemId, outcome: Outcome, latency: Option<Duration>) -> Result<(), StoreError> {
        let settlement = OutcomeRecord::new(item, ItemState::Sending, outcome);
        self.recorder.settle(OutcomeRecord { latency, ..settlement }).await
    }

    /// Handles a photo that could not be uploaded.
    async fn upload_failed(&self, mut task: Task, error: CallError, file: PhotoFile) -> Result<Next, StoreError> {
        let outcome = match error {
            CallError::Throttled { .. } => return Ok(task.requeue()),
            CallError::Fatal(fatal) => {
                self.recorder.drain(DrainReason::Fatal(fatal));
                return Ok(Next::Cancelled);
            }
            CallError::Rejected(ApiRejection { code, message, request_id }) => {
                Outcome::Rejected { stage: RejectedBy::Service, code, message, request_id }
            }
            CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault) => {
                let is_away = self.on_failure(&fault).await;
                task.upload_faults += u32::from(!is_away);
                tracing::debug!(row = task.claimed.row, fault = fault.message, "photo not uploaded");
                let next = self.rules.after_failure(task.upload_faults, is_away);
                match next {
                    RetryDecision::Retry { .. } => return Ok(task.requeue()),
                    RetryDecision::GiveUp => self.rules.outcome(&next, &fault),
                }
            }
        };
        let settlement = OutcomeRecord::new(task.claimed.item, ItemState::Pending, outcome);
        self.recorder.settle(OutcomeRecord { stamp: file.stamp, ..settlement }).await?;
        Ok(Next::Done)
    }

    /// Retries a file that the machine could not read, then leaves it pending: the photo is not at fault.
    fn retry_read(&self, mut task: Task, error: &std::io::Error) -> Next {
        let (row, is_first) = (task.claimed.row, task.read_faults == 0);
        task.read_faults += 1;
        if task.read_faults < self.rules.attempts {
            if is_first {
                tracing::warn!(row, %error, "cannot read a photo on this machine; retrying");
            }
            return task.requeue();
        }
        tracing::warn!(row, %error, tries = task.read_faults, "cannot read a photo on this machine; it stays pending");
        self.observe(Sign::UnreadPhoto(error));
        Next::SetAside
    }
}
