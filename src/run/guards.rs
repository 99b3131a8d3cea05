//! Keeps a mistake of the operator's from turning a million rows to `rejected`.

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
    domain::{ApiRejection, CallFailure, DrainReason, ErrorCode, FaceGroupCode, FailureKind, ItemId, Outcome},
    pace::Qps,
};

/// The same refusal so often in a row has a cause that is not in the photos (reliability.md 4.3).
const MAX_REPEATED_REFUSALS: usize = 20;
/// Refused certificates in a row that stop the run (reliability.md 4.1).
const MAX_CERTIFICATE_FAILURES: u32 = 3;
/// A proxy that has failed so often, and for so long, before it first led to the service is set up wrongly.
const PROXY_FAILURES: u32 = 5;
const PROXY_PATIENCE: Duration = Duration::from_secs(10);
/// A group that was there is taken to be there for so long: it may be deleted while a run lasts.
const GROUP_CACHE_TTL: Duration = Duration::from_secs(60);

/// So many photos in a row are not there, and none was: their folder is not mounted, or is another one.
const MAX_MISSING: usize = 100;
/// A run that looked for fewer photos tells more by naming them.
const MIN_MISSING: usize = 2;

/// The rate below which none goes (pace::rate), and how long throttles are put up with there (reliability.md 4.3).
const LOWEST_RATE: f64 = 0.5;
const MAX_ONLY_THROTTLED: Duration = Duration::from_secs(600);
const NEARLY_ALL: f64 = 0.9;

/// Refusals by the service, in a row, with one code. `Passed=N` is not one: that is a photo which was looked at.
#[derive(Debug, Default)]
pub(super) struct RepeatedRefusal(Mutex<Option<(ErrorCode, Vec<ItemId>)>>);

impl RepeatedRefusal {
    /// Takes in a refusal. Some: it is one too many, and these items are not to blame.
    pub(super) fn refused(&self, item: ItemId, refusal: &ApiRejection) -> Option<Vec<ItemId>> {
        if refusal.code.0 == ErrorCode::NOT_PASSED {
            self.broken();
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

    /// Something else happened.
    pub(super) fn broken(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Which groups are known to be there.
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

/// Certificates that were refused, in a row.
#[derive(Debug, Default)]
pub(super) struct CertificateFailures(AtomicU32);

impl CertificateFailures {
    /// A certificate that is refused once may be one bad host of several; three times is the configuration.
    pub(super) fn is_one_too_many(&self, fault: &CallFailure) -> bool {
        if fault.kind == FailureKind::CertificateRefused {
            self.0.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_CERTIFICATE_FAILURES
        } else {
            self.0.store(0, Ordering::Relaxed);
            false
        }
    }
}

/// Photos that were not found. As long as no photo was, it may be the folder of all that is missing, so their refusals are
/// withheld and the items stay pending.
#[derive(Debug, Default)]
pub(super) struct MissingPhotos(Mutex<Missing>);

#[derive(Debug, Default)]
struct Missing {
    has_found: bool,
    withheld: Vec<OutcomeRecord>,
}

/// What is to be done about a missing photo.
#[derive(Debug)]
pub(super) enum MissingPhoto {
    /// These are refused.
    Refuse(Vec<OutcomeRecord>),
    /// Its refusal is withheld.
    Withhold,
    /// It is one too many.
    Stop(DrainReason),
}

impl MissingPhotos {
    /// A photo was found: those that were not are missing themselves. They are to be refused.
    pub(super) fn found(&self) -> Vec<OutcomeRecord> {
        let mut missing = self.lock();
        missing.has_found = true;
        std::mem::take(&mut missing.withheld)
    }

    /// The same; those that are missing are refused with the next one, or at the end.
    pub(super) fn note_found(&self) {
        self.lock().has_found = true;
    }

    /// A photo was not found.
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

    /// Nothing is left to be looked for. None: no refusal is withheld.
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
    /// Names one of them here: how the run ended is told to more people than its log is.
    fn stop(&self) -> MissingPhoto {
        if let Some(Outcome::Rejected { message, .. }) = self.withheld.first().map(|refusal| &refusal.outcome) {
            tracing::warn!(first = message, "no photo that was looked for is there");
        }
        MissingPhoto::Stop(DrainReason::NoPhotoFound { looked_for: self.withheld.len() as u64 })
    }
}

/// Failures of the proxy before it has led to the service once: no outage, but a wrong address or a proxy that does not
/// lead there.
#[derive(Debug, Default)]
pub(super) struct ProxyFailures {
    has_worked: AtomicBool,
    failures: AtomicU32,
    since: Mutex<Option<Instant>>,
}

impl ProxyFailures {
    /// An answer has come through.
    pub(super) fn worked(&self) {
        self.has_worked.store(true, Ordering::Relaxed);
    }

    /// Takes in a fault. True: the proxy has failed too often by now.
    pub(super) fn is_one_too_many(&self, fault: &CallFailure, now: Instant) -> bool {
        match fault.kind {
            FailureKind::ProxyFailed => {}
            // Bytes have left: it led there.
            FailureKind::Timeout
            | FailureKind::ConnectionLost
            | FailureKind::UnreadableAnswer
            | FailureKind::Service(_) => {
                self.worked();
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
        let has_lasted = now.saturating_duration_since(since) >= PROXY_PATIENCE;
        failures >= PROXY_FAILURES && has_lasted && !self.has_worked.load(Ordering::Relaxed)
    }
}

/// Photos in a row that the machine could not read in all their tries: then it reads no other one either.
const UNREAD_PHOTOS: u32 = 20;

/// Photos that are left pending because the machine could not read them.
#[derive(Debug, Default)]
pub(super) struct UnreadPhotos {
    in_a_row: AtomicU32,
    all: Mutex<Option<(u64, String)>>,
}

impl UnreadPhotos {
    /// One more, after its last try. True: there have been too many in a row.
    pub(super) fn set_aside(&self, error: &std::io::Error) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        *all = Some((all.as_ref().map_or(0, |(photos, _)| *photos) + 1, error.to_string()));
        self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= UNREAD_PHOTOS
    }

    /// A photo was read.
    pub(super) fn broken(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    /// How many there are, and the last error.
    pub(super) fn so_far(&self) -> Option<(u64, String)> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Throttled and nothing else, at the lowest rate there is: waiting longer in this run is of no use.
#[derive(Debug, Default)]
pub(super) struct ThrottleFloor(Mutex<Option<OnlyThrottled>>);

/// A time of drought.
#[derive(Debug)]
struct OnlyThrottled {
    since: Instant,
    replies: u32,
    throttled: u32,
}

impl ThrottleFloor {
    /// Takes in a reply. Some: it has been so for this long, and that is too long.
    pub(super) fn on_answer(&self, throttled: bool, rate: Qps, now: Instant) -> Option<Duration> {
        let mut dry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if rate.get() > LOWEST_RATE {
            *dry = None;
            return None;
        }
        let dry = dry.get_or_insert(OnlyThrottled { since: now, replies: 0, throttled: 0 });
        dry.replies += 1;
        dry.throttled += u32::from(throttled);
        let lasted = now.saturating_duration_since(dry.since);
        let is_nearly_all = f64::from(dry.throttled) >= NEARLY_ALL * f64::from(dry.replies);
        if lasted < MAX_ONLY_THROTTLED {
            return None;
        }
        (dry.since, dry.replies, dry.throttled) = (now, 0, 0);
        is_nearly_all.then_some(lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ItemState, RejectedBy};

    #[test]
    fn ten_minutes_of_throttles_at_floor_are_enough() {
        let (guard, start) = (ThrottleFloor::default(), Instant::now());
        let (lowest, low) = (Qps::new(0.5).unwrap(), Qps::new(0.6).unwrap());
        let at = |second: u64| start + Duration::from_secs(second);
        for second in 0..599 {
            assert_eq!(guard.on_answer(true, lowest, at(second)), None);
        }
        assert_eq!(guard.on_answer(true, lowest, at(600)), Some(Duration::from_secs(600)));
        // One that gets through in five is something; and so is a rate that rises.
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
    fn hundredth_missing_photo_in_a_row_stops_and_refuses_nobody() {
        let guard = MissingPhotos::default();
        for item in 1..MAX_MISSING {
            assert!(matches!(guard.on_failure(missing(item)), MissingPhoto::Withhold), "{item}");
        }
        let MissingPhoto::Stop(reason) = guard.on_failure(missing(100)) else { panic!("it goes on") };
        assert_eq!(reason, DrainReason::NoPhotoFound { looked_for: 100 });
    }

    #[test]
    fn photo_that_is_found_refuses_all_that_are_missing() {
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
    fn few_missing_photos_stop_the_run_unless_another_was_found() {
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
    fn photos_that_can_t_be_read_stop_the_run_where_none_can() {
        let (guard, error) = (UnreadPhotos::default(), std::io::Error::from_raw_os_error(24));
        for photo in 0..200 {
            if photo % 19 == 0 {
                guard.broken();
            }
            assert!(!guard.set_aside(&error));
        }
        guard.broken();
        assert_eq!((0..20).filter(|_| guard.set_aside(&error)).count(), 1);
        assert_eq!(guard.so_far().map(|(photos, _)| photos), Some(220));
    }

    #[test]
    fn proxy_that_never_led_anywhere_is_a_mistake_and_one_that_did_is_away() {
        let fault = |kind| CallFailure { kind, message: String::new(), request_id: None };
        let failed = fault(FailureKind::ProxyFailed);
        let (guard, start) = (ProxyFailures::default(), Instant::now());
        let at = |second: u64| start + Duration::from_secs(second);
        let told: Vec<bool> = [0, 0, 0, 0, 0, 9, 10].map(|second| guard.is_one_too_many(&failed, at(second))).into();
        assert_eq!(told, [false, false, false, false, false, false, true]);
        for proof in [None, Some(FailureKind::Timeout)] {
            let guard = ProxyFailures::default();
            match proof {
                None => guard.worked(),
                Some(kind) => assert!(!guard.is_one_too_many(&fault(kind), start)),
            }
            assert!((0..1_000).all(|second| !guard.is_one_too_many(&failed, at(second))));
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
