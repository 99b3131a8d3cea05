//! Safeguards that keep an operator's mistake from turning a million rows to `rejected`.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    checkpoint::OutcomeRecord,
    domain::{
        ApiRejection, CallError, CallFailure, DrainReason, ErrorCode, FaceGroupCode, FailureKind, FatalError, ItemId,
        Outcome,
    },
    pace::Qps,
};

/// This many equal rejections in a row have a cause other than the photos (reliability.md 4.3).
const MAX_REPEATED_REFUSALS: usize = 20;
/// Rejected certificates in a row that stop the run (reliability.md 4.1).
const MAX_CERTIFICATE_FAILURES: u32 = 3;
/// A proxy that fails this often before it first reaches the service is misconfigured ...
const MAX_PROXY_FAILURES: u32 = 5;
/// ... if it has also failed for this long.
const MIN_PROXY_OUTAGE: Duration = Duration::from_secs(10);
/// How long a group is assumed to exist: it may be deleted during a run.
const GROUP_CACHE_TTL: Duration = Duration::from_secs(60);

/// If this many photos are missing and none was found, their folder is not mounted or is the wrong one.
const MAX_MISSING: usize = 100;
/// With fewer missing photos, their names tell more than a stopped run.
const MIN_MISSING: usize = 2;

/// The lowest rate (`pace::rate`).
const LOWEST_RATE: f64 = 0.5;
/// Longest time of nearly only throttled calls at the lowest rate (reliability.md 4.3).
const MAX_ONLY_THROTTLED: Duration = Duration::from_secs(600);
/// Share of throttled calls that counts as nearly all.
const NEARLY_ALL: f64 = 0.9;

/// Every rule that ends a run because of what the service answers, or of what the photos are.
#[derive(Debug)]
pub(super) struct Guards {
    give_up_after: Duration,
    certificates: CertificateFailures,
    proxy: ProxyFailures,
    throttle_floor: ThrottleFloor,
    /// Start of the current outage of the queries.
    query_outage_since: Mutex<Option<Instant>>,
    uploads: OnlyThrottled,
    deletions: OnlyThrottled,
    pub(super) refusals: RepeatedRefusal,
    pub(super) missing_photos: MissingPhotos,
    pub(super) unread: UnreadPhotos,
}

/// What a run has seen.
pub(super) enum Sign<'a> {
    /// A conclusive answer of the service.
    Answer,
    /// A call without a conclusive answer.
    Failure(&'a CallFailure),
    /// No conclusive answer for this long.
    Outage(Duration),
    /// An answer at this rate.
    Rate {
        /// Whether the call was throttled.
        throttled: bool,
        /// Rate at that moment.
        rate: Qps,
    },
    /// The end of a query, with its error if it failed.
    Query(Option<&'a CallError>),
    /// The end of an upload, with its error if it failed.
    Upload(Option<&'a CallError>),
    /// The end of a deletion, with its error if it failed.
    Deletion(Option<&'a CallError>),
    /// A photo that could be read at none of its tries.
    UnreadPhoto(&'a std::io::Error),
    /// The end of the work.
    End,
}

impl Guards {
    pub(super) fn new(give_up_after: Duration) -> Self {
        Self {
            give_up_after,
            certificates: CertificateFailures::default(),
            proxy: ProxyFailures::default(),
            throttle_floor: ThrottleFloor::default(),
            query_outage_since: Mutex::default(),
            uploads: OnlyThrottled::default(),
            deletions: OnlyThrottled::default(),
            refusals: RepeatedRefusal::default(),
            missing_photos: MissingPhotos::default(),
            unread: UnreadPhotos::default(),
        }
    }

    /// Records a sign. Returns the reason to drain, if it is one.
    pub(super) fn observe(&self, sign: Sign<'_>, now: Instant) -> Option<DrainReason> {
        match sign {
            Sign::Answer => {
                self.proxy.on_success();
                None
            }
            Sign::Failure(fault) => self.proxy_reason(fault, now).or_else(|| {
                let message = fault.message.clone();
                let is_reached = self.certificates.is_limit_reached(fault);
                is_reached.then_some(DrainReason::Fatal(FatalError::Certificate { message }))
            }),
            Sign::Outage(away) => (away > self.give_up_after).then_some(DrainReason::ServiceUnavailable(away)),
            Sign::Rate { throttled, rate } => {
                self.throttle_floor.on_answer(throttled, rate, now).map(DrainReason::ThrottledTooLong)
            }
            Sign::Query(error) => match error {
                None | Some(CallError::Rejected(_) | CallError::Fatal(_)) => {
                    self.proxy.on_success();
                    *self.query_outage() = None;
                    None
                }
                // Items stay in doubt, so nothing is lost.
                Some(CallError::Throttled { .. }) => {
                    self.proxy.on_success();
                    self.query_outage_reason(now)
                }
                Some(CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault)) => {
                    self.proxy_reason(fault, now).or(self.query_outage_reason(now))
                }
            },
            Sign::Upload(error) => self.only_throttled_reason(&self.uploads, error, now),
            Sign::Deletion(error) => self.only_throttled_reason(&self.deletions, error, now),
            Sign::UnreadPhoto(error) => self.unread.set_aside(error).then(|| self.unread.reason()).flatten(),
            Sign::End => self.unread.reason(),
        }
    }

    fn proxy_reason(&self, fault: &CallFailure, now: Instant) -> Option<DrainReason> {
        let message = || format!("the proxy has never reached the service: {}", fault.message);
        let is_reached = self.proxy.is_limit_reached(fault, now);
        is_reached.then(|| DrainReason::Fatal(FatalError::Proxy { message: message() }))
    }

    fn only_throttled_reason(
        &self,
        calls: &OnlyThrottled,
        error: Option<&CallError>,
        now: Instant,
    ) -> Option<DrainReason> {
        let lasted = calls.observe(matches!(error, Some(CallError::Throttled { .. })), now)?;
        (lasted > self.give_up_after).then_some(DrainReason::ThrottledTooLong(lasted))
    }

    fn query_outage_reason(&self, now: Instant) -> Option<DrainReason> {
        let away = now.saturating_duration_since(*self.query_outage().get_or_insert(now));
        (away > self.give_up_after).then_some(DrainReason::ServiceUnavailable(away))
    }

    fn query_outage(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.query_outage_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Consecutive rejections by the service with the same code. `Passed=N` does not count: that photo was examined.
#[derive(Debug, Default)]
pub(super) struct RepeatedRefusal(Mutex<Option<(ErrorCode, Vec<ItemId>)>>);

impl RepeatedRefusal {
    /// Records a rejection. Returns the rejected items once there are too many: the photos are not at fault.
    pub(super) fn refused(&self, item: ItemId, refusal: &ApiRejection) -> Option<Vec<ItemId>> {
        if refusal.code.0 == ErrorCode::NOT_PASSED {
            self.reset();
            return None;
        }
        let mut streak = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (code, items) = streak.get_or_insert_with(|| (refusal.code.clone(), Vec::new()));
        if *code != refusal.code {
            (*code, *items) = (refusal.code.clone(), Vec::new());
        }
        items.push(item);
        (items.len() >= MAX_REPEATED_REFUSALS).then(|| std::mem::take(items))
    }

    /// Ends the streak.
    pub(super) fn reset(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Groups that were seen to exist recently.
#[derive(Debug, Default)]
pub(super) struct GroupCache(Mutex<HashMap<FaceGroupCode, Instant>>);

impl GroupCache {
    pub(super) fn is_known(&self, group: &FaceGroupCode, now: Instant) -> bool {
        let groups = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        groups.get(group).is_some_and(|&at| now < at + GROUP_CACHE_TTL)
    }

    pub(super) fn exists(&self, group: &FaceGroupCode, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(group.clone(), now);
    }
}

/// Consecutive calls that failed for the server's certificate.
#[derive(Debug, Default)]
pub(super) struct CertificateFailures(AtomicU32);

impl CertificateFailures {
    /// Records a failure. Returns whether the limit is reached: one may be a bad host among several, three are the
    /// configuration.
    pub(super) fn is_limit_reached(&self, fault: &CallFailure) -> bool {
        if fault.kind == FailureKind::CertificateRefused {
            self.0.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_CERTIFICATE_FAILURES
        } else {
            self.0.store(0, Ordering::Relaxed);
            false
        }
    }
}

/// Photos that were not found. Until a photo is found, the whole folder may be missing, so their rejections are
/// withheld and the items stay pending.
#[derive(Debug, Default)]
pub(super) struct MissingPhotos(Mutex<Missing>);

#[derive(Debug, Default)]
struct Missing {
    has_found: bool,
    withheld: Vec<OutcomeRecord>,
}

/// What to do about a missing photo.
#[derive(Debug)]
pub(super) enum MissingPhoto {
    /// Reject these items.
    Refuse(Vec<OutcomeRecord>),
    /// Leave the item pending.
    Withhold,
    /// Stop the run: too many are missing.
    Stop(DrainReason),
}

impl MissingPhotos {
    /// Records that a photo was found. Returns the withheld rejections, which are now certain.
    pub(super) fn found(&self) -> Vec<OutcomeRecord> {
        let mut missing = self.lock();
        missing.has_found = true;
        std::mem::take(&mut missing.withheld)
    }

    /// Records that a photo was found; withheld rejections wait for the next missing photo or the end.
    pub(super) fn note_found(&self) {
        self.lock().has_found = true;
    }

    /// Records that a photo was not found.
    pub(super) fn on_failure(&self, refusal: OutcomeRecord) -> MissingPhoto {
        let mut missing = self.lock();
        missing.withheld.push(refusal);
        if missing.has_found {
            MissingPhoto::Refuse(std::mem::take(&mut missing.withheld))
        } else if missing.withheld.len() == MAX_MISSING {
            missing.stop()
        } else {
            MissingPhoto::Withhold
        }
    }

    /// Decides on the withheld rejections at the end of a run. `None` if there are none.
    pub(super) fn end(&self) -> Option<MissingPhoto> {
        let mut missing = self.lock();
        match missing.withheld.len() {
            0 => None,
            MIN_MISSING.. if !missing.has_found => Some(missing.stop()),
            _ => Some(MissingPhoto::Refuse(std::mem::take(&mut missing.withheld))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Missing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Missing {
    /// Logs the first missing photo here, because the end of the run is reported to more people than the log is.
    fn stop(&self) -> MissingPhoto {
        if let Some(Outcome::Rejected { message, .. }) = self.withheld.first().map(|refusal| &refusal.outcome) {
            tracing::warn!(first = message, "no photo was found");
        }
        MissingPhoto::Stop(DrainReason::NoPhotoFound { looked_for: self.withheld.len() as u64 })
    }
}

/// Failures of a proxy that has never reached the service: not an outage, but a wrong address or a proxy without a
/// route to it.
#[derive(Debug, Default)]
pub(super) struct ProxyFailures {
    has_worked: AtomicBool,
    failures: AtomicU32,
    since: Mutex<Option<Instant>>,
}

impl ProxyFailures {
    /// Records an answer through the proxy.
    pub(super) fn on_success(&self) {
        self.has_worked.store(true, Ordering::Relaxed);
    }

    /// Records a failure. Returns whether the proxy has failed too often.
    pub(super) fn is_limit_reached(&self, fault: &CallFailure, now: Instant) -> bool {
        match fault.kind {
            FailureKind::ProxyFailed => {}
            // Bytes were sent, so the proxy reached the service.
            FailureKind::Timeout
            | FailureKind::ConnectionLost
            | FailureKind::UnreadableAnswer
            | FailureKind::Service(_) => {
                self.on_success();
                return false;
            }
            FailureKind::ConnectFailed
            | FailureKind::CertificateRefused
            | FailureKind::ClockCorrected
            | FailureKind::KeyRenewed
            | FailureKind::NonceUsed
            | FailureKind::DownloadTimeout
            | FailureKind::UploadFailed
            | FailureKind::Interrupted => return false,
        }
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let has_lasted = now.saturating_duration_since(since) >= MIN_PROXY_OUTAGE;
        failures >= MAX_PROXY_FAILURES && has_lasted && !self.has_worked.load(Ordering::Relaxed)
    }
}

/// After this many consecutive photos that failed all their reads, the machine can read no others either.
const MAX_UNREAD_PHOTOS: u32 = 20;

/// Photos that are left pending because the machine could not read them.
#[derive(Debug, Default)]
pub(super) struct UnreadPhotos {
    in_a_row: AtomicU32,
    all: Mutex<Option<(u64, String)>>,
}

impl UnreadPhotos {
    /// Records a photo after its last read. Returns whether there are too many in a row.
    pub(super) fn set_aside(&self, error: &std::io::Error) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        *all = Some((all.as_ref().map_or(0, |(photos, _)| *photos) + 1, error.to_string()));
        self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_UNREAD_PHOTOS
    }

    /// Records that a photo was read.
    pub(super) fn reset(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    /// Reason to drain if there are such photos: the next run tries them.
    fn reason(&self) -> Option<DrainReason> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.map(|(photos, error)| DrainReason::Unread { photos, error })
    }
}

/// Calls of an action without a retry limit that were all throttled.
#[derive(Debug, Default)]
struct OnlyThrottled(Mutex<Option<Instant>>);

impl OnlyThrottled {
    /// Records a call. Returns how long all of them have been throttled.
    fn observe(&self, throttled: bool, now: Instant) -> Option<Duration> {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !throttled {
            *since = None;
            return None;
        }
        Some(now.saturating_duration_since(*since.get_or_insert(now)))
    }
}

/// Detects that nearly every call is throttled at the lowest rate, so that this run need not wait any longer.
#[derive(Debug, Default)]
pub(super) struct ThrottleFloor(Mutex<Option<FloorPeriod>>);

/// A period at the lowest rate.
#[derive(Debug)]
struct FloorPeriod {
    since: Instant,
    replies: u32,
    throttled: u32,
}

impl ThrottleFloor {
    /// Records an answer. Returns how long the throttling has lasted once that is too long.
    pub(super) fn on_answer(&self, throttled: bool, rate: Qps, now: Instant) -> Option<Duration> {
        let mut period = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.get() > LOWEST_RATE {
            *period = None;
            return None;
        }
        let period = period.get_or_insert(FloorPeriod { since: now, replies: 0, throttled: 0 });
        period.replies += 1;
        period.throttled += u32::from(throttled);
        let lasted = now.saturating_duration_since(period.since);
        let is_nearly_all = f64::from(period.throttled) >= NEARLY_ALL * f64::from(period.replies);
        if lasted < MAX_ONLY_THROTTLED {
            return None;
        }
        (period.since, period.replies, period.throttled) = (now, 0, 0);
        is_nearly_all.then_some(lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemState, RejectedBy};

    #[test]
    fn ten_minutes_of_throttling_at_lowest_rate_stop_run() {
        let (guard, start) = (ThrottleFloor::default(), Instant::now());
        let (lowest, low) = (Qps::new(0.5).unwrap(), Qps::new(0.6).unwrap());
        let at = |second: u64| start + Duration::from_secs(second);
        for second in 0..599 {
            assert_eq!(guard.on_answer(true, lowest, at(second)), None);
        }
        assert_eq!(guard.on_answer(true, lowest, at(600)), Some(Duration::from_secs(600)));
        // One success in five calls, or a higher rate, resets it.
        for second in 601..1_300 {
            assert_eq!(guard.on_answer(second % 5 != 0, lowest, at(second)), None);
        }
        for second in 1_300..2_600 {
            let rate = if second % 500 == 0 { low } else { lowest };
            assert_eq!(guard.on_answer(true, rate, at(second)), None);
        }
    }

    fn missing(item: usize) -> OutcomeRecord {
        let message = format!("file not found: {item}.jpg");
        let outcome =
            Outcome::Rejected { stage: RejectedBy::Local, code: "NotFound".into(), message, request_id: None };
        OutcomeRecord::new(ItemId(item as i64), ItemState::Pending, outcome)
    }

    fn refused(end: Option<MissingPhoto>) -> usize {
        match end {
            Some(MissingPhoto::Refuse(refusals)) => refusals.len(),
            Some(MissingPhoto::Withhold | MissingPhoto::Stop(_)) | None => 0,
        }
    }

    #[test]
    fn hundredth_missing_photo_stops_run_and_rejects_nobody() {
        let guard = MissingPhotos::default();
        for item in 1..MAX_MISSING {
            assert!(matches!(guard.on_failure(missing(item)), MissingPhoto::Withhold), "{item}");
        }
        let MissingPhoto::Stop(reason) = guard.on_failure(missing(100)) else { panic!("it goes on") };
        assert_eq!(reason, DrainReason::NoPhotoFound { looked_for: 100 });
    }

    #[test]
    fn found_photo_releases_withheld_rejections() {
        let guard = MissingPhotos::default();
        for item in 1..MAX_MISSING {
            guard.on_failure(missing(item));
        }
        assert_eq!(guard.found().len(), 99);
        for item in 1..1_000 {
            assert_eq!(refused(Some(guard.on_failure(missing(item)))), 1);
        }
        assert!(guard.end().is_none());
    }

    #[test]
    fn two_missing_photos_stop_run_unless_one_was_found() {
        let end = |items: usize, has_found: bool| {
            let guard = MissingPhotos::default();
            (0..items).for_each(|item| drop(guard.on_failure(missing(item))));
            if has_found {
                guard.note_found();
            }
            guard.end()
        };
        assert!(end(0, false).is_none());
        assert_eq!(refused(end(1, false)), 1, "a single one tells nothing of its folder");
        assert!(matches!(end(2, false), Some(MissingPhoto::Stop(_))));
        assert_eq!(refused(end(2, true)), 2);
    }

    #[test]
    fn twenty_unreadable_photos_in_a_row_stop_run() {
        let (guard, error) = (UnreadPhotos::default(), std::io::Error::from_raw_os_error(24));
        for photo in 0..200 {
            if photo % 19 == 0 {
                guard.reset();
            }
            assert!(!guard.set_aside(&error));
        }
        guard.reset();
        assert_eq!((0..20).filter(|_| guard.set_aside(&error)).count(), 1);
        assert!(matches!(guard.reason(), Some(DrainReason::Unread { photos: 220, .. })));
    }

    #[test]
    fn only_proxy_that_never_worked_stops_run() {
        let fault = |kind| CallFailure { kind, message: String::new(), request_id: None };
        let failed = fault(FailureKind::ProxyFailed);
        let (guard, start) = (ProxyFailures::default(), Instant::now());
        let at = |second: u64| start + Duration::from_secs(second);
        let results: Vec<bool> =
            [0, 0, 0, 0, 0, 9, 10].map(|second| guard.is_limit_reached(&failed, at(second))).into();
        assert_eq!(results, [false, false, false, false, false, false, true]);
        for proof in [None, Some(FailureKind::Timeout)] {
            let guard = ProxyFailures::default();
            match proof {
                None => guard.on_success(),
                Some(kind) => assert!(!guard.is_limit_reached(&fault(kind), start)),
            }
            assert!((0..1_000).all(|second| !guard.is_limit_reached(&failed, at(second))));
        }
    }

    fn refusal(code: &str) -> ApiRejection {
        ApiRejection { code: code.into(), message: String::new(), request_id: None }
    }

    #[test]
    fn twentieth_refusal_in_a_row_names_all_twenty() {
        let streak = RepeatedRefusal::default();
        for item in 1..MAX_REPEATED_REFUSALS {
            assert_eq!(streak.refused(ItemId(item as i64), &refusal("InvalidParameter")), None);
        }
        let items = streak.refused(ItemId(20), &refusal("InvalidParameter")).unwrap();
        assert_eq!(items.len(), MAX_REPEATED_REFUSALS);
    }

    #[test]
    fn other_code_or_success_resets_repeated_refusal() {
        let streak = RepeatedRefusal::default();
        for item in 0..1_000 {
            let code = if item % 19 == 0 { ErrorCode::NOT_PASSED } else { "NoFaceDetected" };
            assert_eq!(streak.refused(ItemId(item), &refusal(code)), None);
        }
    }
}
