//! One item's way from the queue to its outcome, once.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{
    admission::Entry,
    engine::Engine,
    guards::MissingPhoto,
    prepare::{Load, NotReady, Prepared},
    replace::{Asked, Replacement},
    stages,
    upload::{UploadEnd, Uploaded},
};
use crate::{
    api::{Payload, Transport},
    checkpoint::{Claimed, NewIntent, Settlement, Store, StoreError},
    domain::{
        Answer, ApiCode, ConfirmedBy, DrainReason, Event, Fatal, Fault, FaultKind, ItemId, ItemState, Outcome, Refusal,
        Replaces, RunEffect, Stage, Verdict,
    },
    pace::{Backoff, Change, Next},
    picture::Defect,
};

/// An item on its way, with what it remembers of its earlier tries in this run.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) claimed: Claimed,
    /// Of faults and throttles.
    pub(super) backoff: Backoff,
    /// Times that its file could not be read for the machine's sake.
    pub(super) read_faults: u32,
    /// Times that its photo could not be uploaded.
    pub(super) upload_faults: u32,
    /// Where its photo is, if it has been uploaded.
    pub(super) uploaded: Option<Uploaded>,
    /// Has it taken one of `--max-images`?
    pub(super) is_counted: bool,
}

impl Work {
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
pub(super) enum End {
    /// Nowhere: its outcome is on disk.
    Done,
    /// Back to the queue.
    Again(Work, Instant),
    /// To be asked about; with the code of its fault.
    Doubt(Work, ApiCode),
    /// Its outcome is on disk; the records that it replaces are to go.
    Replace(Replacement),
    /// The run drains: it stays pending.
    Left,
    /// Its photo is missing, and perhaps all are: it stays pending.
    Withheld,
    /// It stays pending, and is not taken again in this run.
    SetAside,
    /// `--max-images` are taken: it stays pending, and so does everything behind it.
    NotTaken,
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// See the module.
    pub(super) async fn attempt(&self, mut work: Work) -> Result<End, StoreError> {
        let item = work.claimed.item;
        // While the service is away, or wants nobody for long, nothing is read, fitted or uploaded for it.
        if let Some(deferred) = self.add_gate.deferred(Instant::now()) {
            return Ok(End::Again(work, deferred.until));
        }
        if work.claimed.replaces == Some(Replaces::Unasked) {
            work = match self.ask_what_it_replaces(work).await? {
                Asked::Known(work) => work,
                Asked::Later(work) => return Ok(self.later(work)),
                Asked::Left => return Ok(End::Left),
            };
        }
        if self.settings.precheck.concerns(&work.claimed) {
            work = match self.adopt(work).await? {
                Ok(work) => work,
                Err(end) => return Ok(end),
            };
        }
        let Prepared { load, file, warnings, _bytes } =
            match self.staged(stages::Stage::Photo, self.prepare(&work)).await {
                Ok(prepared) => prepared,
                Err(NotReady::Defect(defect, stamp)) => {
                    let (code, message) = (defect.code(), defect.to_string());
                    let outcome = Outcome::Rejected { stage: Stage::Local, code, message, request_id: None };
                    let refusal = Settlement::new(item, ItemState::Pending, outcome);
                    let refusal = Settlement { stamp, ..refusal };
                    if matches!(defect, Defect::NotFound { .. }) {
                        return self.photo_is_missing(refusal).await;
                    }
                    self.photo_is_there().await?;
                    self.settle(refusal).await?;
                    return Ok(End::Done);
                }
                Err(NotReady::Machine(error)) => return Ok(self.read_again(work, &error)),
            };
        if file.stamp.is_some() {
            self.photo_is_there().await?;
        }
        let _in_flight = self.in_flight.acquire().await.expect("the semaphore is never closed");
        let Some(mut entry) = self.enter().await else { return Ok(End::Left) };
        let payload = match load {
            Load::Call(payload) => payload,
            Load::Photo(photo) => {
                // An upload is long: it keeps no place, but for the only one there is while the service is not known.
                let kept = match entry {
                    Entry::Open { place } => {
                        drop(place);
                        None
                    }
                    probe @ Entry::Probe { .. } => Some(probe),
                };
                let address = match self.upload(work, &photo, file).await? {
                    UploadEnd::There(there, address) => {
                        work = there;
                        address
                    }
                    UploadEnd::Ended(end) => return Ok(end),
                };
                entry = match kept {
                    Some(probe) => probe,
                    None => match self.enter().await {
                        Some(entry) => entry,
                        None => return Ok(End::Left),
                    },
                };
                Payload::with_file(&work.claimed.group, &work.claimed.user, &address)
            }
        };
        if let Some(deferred) = self.add_gate.deferred(Instant::now()) {
            return Ok(End::Again(work, deferred.until));
        }
        if !work.is_counted {
            if !self.images.take() {
                return Ok(End::NotTaken);
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
        let intent = self.staged(stages::Stage::Disk, self.checkpoint.intend(intent)).await?;
        let attempts = intent.get().attempt;
        let permit = tokio::select! {
            biased;
            () = self.stop.draining() => None,
            permit = self.staged(stages::Stage::Gate, self.add_gate.permit()) => Some(permit),
        };
        let permit = match permit {
            Some(Ok(permit)) => permit,
            // Not sent: the intent is withdrawn, and the attempt has not been one.
            Some(Err(deferred)) => {
                self.give_back(item).await?;
                return Ok(End::Again(work, deferred.until));
            }
            None => {
                self.give_back(item).await?;
                return Ok(End::Left);
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
        let answer = self.staged(stages::Stage::Answer, self.client.add_face_record(permit, intent, payload)).await;
        crate::crash::point("send.after");
        work.claimed.attempts = attempts;
        let end = self.conclude(work, answer).await;
        drop(probe);
        end
    }

    /// See [`MissingPhotos`](super::guards::MissingPhotos).
    async fn photo_is_missing(&self, refusal: Settlement) -> Result<End, StoreError> {
        match self.missing_photos.missed(refusal) {
            MissingPhoto::Refuse(refusals) => {
                self.settle_all(refusals).await?;
                Ok(End::Done)
            }
            MissingPhoto::Withhold => Ok(End::Withheld),
            MissingPhoto::Stop(reason) => {
                self.drain(reason);
                Ok(End::Withheld)
            }
        }
    }

    async fn photo_is_there(&self) -> Result<(), StoreError> {
        self.settle_all(self.missing_photos.found()).await
    }

    pub(super) async fn settle_all(&self, settlements: Vec<Settlement>) -> Result<(), StoreError> {
        for settlement in settlements {
            self.settle(settlement).await?;
        }
        Ok(())
    }

    /// The item is in this stage until that is done.
    async fn staged<R>(&self, stage: stages::Stage, work: impl Future<Output = R>) -> R {
        let _in_stage = self.stages.enter(stage);
        work.await
    }

    /// Waits for a place before the gate. None: the run drains.
    async fn enter(&self) -> Option<Entry<'_>> {
        tokio::select! {
            entry = self.admission.enter() => Some(entry).filter(|_| !self.stop.is_draining()),
            () = self.stop.draining() => None,
        }
    }

    /// What the answer means for the run, then for the item.
    async fn conclude(&self, work: Work, answer: Answer) -> Result<End, StoreError> {
        let now = Instant::now();
        let Answer { verdict, run_effect, retry_after, latency } = answer;
        if let Some(pause) = retry_after {
            self.add_gate.pause(pause, now);
        }
        // Of an answer; a call that was given up on had none.
        let latency = matches!(verdict, Verdict::Enrolled(_) | Verdict::Refused(_)).then_some(latency);
        let item = work.claimed.item;
        latency.inspect(|latency| self.stats.answered(*latency));
        match verdict {
            Verdict::Enrolled(receipt) => {
                self.stats.sent_is_enrolled();
                self.heard(false).await?;
                self.retries.lock().unwrap_or_else(PoisonError::into_inner).earn(now);
                self.streak.broken();
                let outcome = Outcome::Enrolled {
                    confirmed_by: ConfirmedBy::Response,
                    quality: receipt.quality,
                    code: None,
                    message: None,
                    request_id: receipt.request_id,
                };
                self.settle_sent(item, outcome, latency).await?;
                Ok(Replacement::of(work.claimed).map_or(End::Done, End::Replace))
            }
            Verdict::Refused(refusal) => self.refused(work, refusal, latency).await,
            Verdict::Throttled(_) => {
                self.slow_down(retry_after).await?;
                self.give_back(item).await?;
                Ok(self.later(work))
            }
            // Nothing left: its key ended while it waited for its turn. No attempt, and nobody's fault.
            Verdict::NotSent(Fault { kind: FaultKind::KeyRenewed, .. }) => {
                self.give_back(item).await?;
                Ok(self.later(work))
            }
            Verdict::NotSent(fault) => {
                let is_away = self.missed(&fault).await;
                let next = self.settings.rules.after_fault(work.claimed.attempts, is_away);
                self.settle_sent(item, self.settings.rules.outcome(&next, &fault), latency).await?;
                match next {
                    // While the service is away, one call at a time is all there is.
                    Next::Again { .. } if is_away => Ok(self.later(work)),
                    Next::Again { .. } => {
                        let affordable = Instant::now() + self.retry_wait();
                        Ok(match self.later(work) {
                            End::Again(work, at) => End::Again(work, at.max(affordable)),
                            end => end,
                        })
                    }
                    Next::GiveUp => Ok(End::Done),
                }
            }
            Verdict::MaybeSent(fault) => {
                match run_effect {
                    None => drop(self.missed(&fault).await),
                    Some(RunEffect::SlowDown) => self.slow_down(retry_after).await?,
                    Some(RunEffect::Stop(fatal)) => self.drain(DrainReason::Fatal(fatal)),
                }
                let Fault { kind, message, request_id } = fault;
                let code = kind.code();
                let outcome = Outcome::InDoubt { code: code.clone(), message, request_id };
                self.settle_sent(item, outcome, latency).await?;
                Ok(End::Doubt(work, code))
            }
            Verdict::Fatal(fatal) => self.stopped_by(work, fatal).await,
        }
    }

    /// Too many calls: the rate comes down.
    async fn slow_down(&self, retry_after: Option<Duration>) -> Result<(), StoreError> {
        self.stats.throttled();
        self.heard(true).await?;
        let rate = self.add_gate.rate().get();
        self.tell(Event::Throttled { rate, pause: retry_after }).await;
        Ok(())
    }

    /// A refusal concerns the photo, unless it concerns everyone's.
    async fn refused(&self, work: Work, refusal: Refusal, latency: Option<Duration>) -> Result<End, StoreError> {
        let item = work.claimed.item;
        if refusal.code.0.starts_with("InvalidParameter") && self.is_group_missing(&work.claimed.group).await {
            let group = work.claimed.group.clone();
            return self.stopped_by(work, Fatal::UnknownGroup { group }).await;
        }
        // Only now: until it was known whom the refusal concerns, nobody else was to go.
        self.heard(false).await?;
        let innocent = if self.settings.keep_going { None } else { self.streak.refused(item, &refusal) };
        let Refusal { code, message, request_id } = refusal;
        let outcome =
            Outcome::Rejected { stage: Stage::Service, code: code.clone(), message: message.clone(), request_id };
        self.settle_sent(item, outcome, latency).await?;
        if let Some(items) = innocent {
            let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
            self.checkpoint.reopen(items).await?;
            self.drain(DrainReason::Fatal(Fatal::SameRefusal { code, count, message }));
        }
        Ok(End::Done)
    }

    /// Nothing will go better until a person acts; the item is not to blame.
    async fn stopped_by(&self, work: Work, fatal: Fatal) -> Result<End, StoreError> {
        self.give_back(work.claimed.item).await?;
        self.drain(DrainReason::Fatal(fatal));
        Ok(End::Left)
    }

    /// How long a retry has to wait for the budget.
    pub(super) fn retry_wait(&self) -> Duration {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner).spend(Instant::now())
    }

    pub(super) fn later(&self, mut work: Work) -> End {
        let wait = work.backoff.next(fastrand::f64());
        End::Again(work, Instant::now() + wait)
    }

    /// The service has answered conclusively.
    async fn heard(&self, throttled: bool) -> Result<(), StoreError> {
        self.proxy_failures.worked();
        if self.admission.answered() {
            self.tell(Event::Back).await;
        }
        let now = Instant::now();
        if let Some(lasted) = self.throttled_out.heard(throttled, self.add_gate.rate(), now) {
            self.drain(DrainReason::ThrottledOut(lasted));
        }
        match self.add_gate.observe(throttled, now) {
            None => {}
            Some(Change::Cut(rate)) => self.checkpoint.learn_rate(Some(rate.get())).await?,
            Some(Change::Tolerated(share)) => self.tell(Event::Tolerated { share }).await,
            Some(Change::Recovered(rate)) => {
                self.checkpoint.learn_rate(None).await?;
                self.tell(Event::Recovered { rate: rate.get() }).await;
            }
        }
        Ok(())
    }

    /// The service has not. True if it is taken to be away.
    pub(super) async fn missed(&self, fault: &Fault) -> bool {
        match fault.kind {
            // It has answered; only this call was not to its liking.
            FaultKind::ClockCorrected
            | FaultKind::KeyRenewed
            | FaultKind::NonceUsed
            | FaultKind::DownloadTimeout
            | FaultKind::UploadFailed => return false,
            FaultKind::ConnectFailed
            | FaultKind::ProxyFailed
            | FaultKind::CertificateRefused
            | FaultKind::Timeout
            | FaultKind::ConnectionLost
            | FaultKind::UnreadableAnswer
            | FaultKind::Service(_)
            | FaultKind::Interrupted => {}
        }
        let now = Instant::now();
        self.guard_proxy(fault, now);
        if self.bad_certificates.is_one_too_many(fault) {
            self.drain(DrainReason::Fatal(Fatal::Certificate { message: fault.message.clone() }));
        }
        let Some(pause) = self.admission.faulted(now) else { return false };
        let away = self.admission.away_for(now);
        if away > self.settings.give_up_after {
            self.drain(DrainReason::ServiceAway(away));
        }
        self.add_gate.pause(pause, now);
        self.tell(Event::Away { pause, fault: fault.message.clone() }).await;
        true
    }

    /// An outcome of what was being sent: on disk, then told.
    async fn settle_sent(&self, item: ItemId, outcome: Outcome, latency: Option<Duration>) -> Result<(), StoreError> {
        let settlement = Settlement::new(item, ItemState::Sending, outcome);
        self.settle(Settlement { latency, ..settlement }).await
    }

    /// What was not executed is pending again, and its attempt has not been one. Nothing that anyone needs to be told.
    async fn give_back(&self, item: ItemId) -> Result<(), StoreError> {
        let outcome = Outcome::Again { counts: false };
        let settlement = Settlement::new(item, ItemState::Sending, outcome);
        self.checkpoint.settle(settlement).await.map(drop)
    }

    /// On disk, then counted and told.
    pub(super) async fn settle(&self, settlement: Settlement) -> Result<(), StoreError> {
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
            Outcome::InDoubt { .. } | Outcome::Again { .. } => {}
        }
        self.tell(Event::Item(report)).await;
        Ok(())
    }
}
