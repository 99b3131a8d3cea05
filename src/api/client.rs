//! The calls. Each signs, sends once and says what the answer means.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use tokio::time::Instant;

use super::{
    AccessKey, CanonicalRequest, Credentials, Endpoint, GroupLookup, LookupPage, Meaning, NoAnswer, Payload,
    RawResponse, RecordPage, Removed, SignedRequest, Transport, UploadTarget, authorization, classify, companion,
    credentials::renewed,
    sign::{canonical_query, sha256_hex},
};
use crate::domain::{
    Answer, ApiRejection, CallFailure, Committed, DeleteIntent, FaceGroupCode, FailureKind, FatalError, Intent,
    MerchantUserId, Permit, RunEffect, Verdict,
};

const VERSION: &str = "2022-08-09";
/// Records asked for at once. No document gives the most that a page may hold.
const RECORDS_A_PAGE: u64 = 50;
const FORM: &str = "application/x-www-form-urlencoded";
/// A `Date` further from our clock than this is not believed (reliability.md S15).
const FURTHEST_CLOCK: Duration = Duration::from_secs(24 * 60 * 60);
/// A request whose date was within this of the service's `Date` was not refused for our clock's sake.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// What is called, and where.
pub(super) struct Call<'a> {
    pub(super) to: &'a Endpoint,
    pub(super) method: Method,
    pub(super) version: &'static str,
    pub(super) action: &'static str,
}

/// An answer, and to what.
struct Heard {
    answer: RawResponse,
    key: AccessKey,
    signed_at: Timestamp,
}

/// See the module.
pub struct Client<T> {
    pub(super) transport: T,
    endpoint: Endpoint,
    pub(super) upload: UploadTarget,
    credentials: Credentials,
    /// How far the service's clock is ahead of ours, in milliseconds.
    clock_ahead_ms: AtomicI64,
    /// The same, as the last answer to a question had it; i64::MIN: none had it yet.
    seen_ahead_ms: AtomicI64,
}

impl<T: Transport> Client<T> {
    /// Sends through `transport` to `endpoint`, signed by `credentials`; asks at `upload` for leave to upload.
    pub fn new(transport: T, endpoint: Endpoint, upload: UploadTarget, credentials: Credentials) -> Self {
        Self {
            transport,
            endpoint,
            upload,
            credentials,
            clock_ahead_ms: AtomicI64::new(0),
            seen_ahead_ms: AtomicI64::new(i64::MIN),
        }
    }

    fn call(&self, action: &'static str) -> Call<'_> {
        Call { to: &self.endpoint, method: Method::POST, version: VERSION, action }
    }

    /// AddFaceRecord. Consumes the proof that it is on disk and the right to call now.
    pub async fn add_face_record(&self, _permit: Permit, _intent: Committed<Intent>, payload: Payload) -> Answer {
        let started = Instant::now();
        let Payload { body, sha256 } = payload;
        let heard = self.send(self.call("AddFaceRecord"), "", (body, &sha256)).await;
        let retry_after = heard.as_ref().ok().and_then(|heard| heard.answer.retry_after);
        let (verdict, run_effect) = match heard {
            Err(none) => (none.into(), None),
            Ok(heard) => self.verdict(&heard).await,
        };
        Answer { verdict, run_effect, retry_after, latency: started.elapsed() }
    }

    /// QueryFaceRecord: a page of what the service has of this id in this group, the first being 1.
    pub async fn query_face_record(
        &self,
        _permit: Permit,
        (group, user): (&FaceGroupCode, &MerchantUserId),
        page: u64,
    ) -> LookupPage {
        let (number, size) = (page.to_string(), companion::LOOKUP_PAGE_SIZE.to_string());
        let query = [
            ("CurrentPage", number.as_str()),
            ("FaceGroupCode", group.as_str()),
            ("MerchantUserId", user.as_str()),
            ("PageSize", size.as_str()),
        ];
        companion::lookup_page(self.ask("QueryFaceRecord", &query).await, user.as_str(), page)
    }

    /// QueryFaceRecord: a page of everything that the group holds, the first being 1.
    pub async fn query_face_records(&self, _permit: Permit, group: &FaceGroupCode, page: u64) -> RecordPage {
        let (page, size) = (page.to_string(), RECORDS_A_PAGE.to_string());
        let query = [("CurrentPage", page.as_str()), ("FaceGroupCode", group.as_str()), ("PageSize", size.as_str())];
        companion::record_page(self.ask("QueryFaceRecord", &query).await)
    }

    /// QueryFaceGroup: is there such a group?
    pub async fn query_face_group(&self, _permit: Permit, group: &FaceGroupCode) -> GroupLookup {
        let query = [("CurrentPage", "1"), ("GroupCode", group.as_str()), ("PageSize", "10")];
        companion::group_lookup(self.ask("QueryFaceGroup", &query).await, group.as_str())
    }

    /// DeleteFaceRecord: removes this record, and no other. (DeleteFaceRecordV2 takes an id, and without a group removes
    /// it from every group: it is never called.)
    pub async fn delete_face_record(&self, _permit: Permit, intent: Committed<DeleteIntent>) -> Removed {
        let body = format!("Id={}", intent.get().record);
        companion::removed(self.exchange(self.call("DeleteFaceRecord"), "", body.into()).await)
    }

    /// A question: everything in the query, no body.
    async fn ask(&self, action: &'static str, parameters: &[(&str, &str)]) -> Result<RawResponse, NoAnswer> {
        self.ask_as(self.call(action), parameters).await
    }

    pub(super) async fn ask_as(&self, call: Call<'_>, parameters: &[(&str, &str)]) -> Result<RawResponse, NoAnswer> {
        self.exchange(call, &canonical_query(parameters), Bytes::new()).await
    }

    /// A clock that is found wrong is corrected for the next one, and a key that has ended is renewed.
    async fn exchange(&self, call: Call<'_>, query: &str, body: Bytes) -> Result<RawResponse, NoAnswer> {
        let sha256 = sha256_hex(&body);
        let heard = self.send(call, query, (body, &sha256)).await?;
        if let Some(service) = heard.answer.server_date() {
            let ahead = service.duration_since(Timestamp::now());
            self.seen_ahead_ms.store(ahead.as_millis() as i64, Ordering::Relaxed);
        }
        match self.verdict(&heard).await.0 {
            Verdict::NotSent(fault) => Err(NoAnswer::NotSent(fault)),
            // What it means as an answer to this question is for others to say.
            Verdict::Enrolled(_)
            | Verdict::Refused(_)
            | Verdict::Throttled(_)
            | Verdict::MaybeSent(_)
            | Verdict::Fatal(_) => Ok(heard.answer),
        }
    }

    async fn send(&self, call: Call<'_>, query: &str, body: (Bytes, &str)) -> Result<Heard, NoAnswer> {
        // Before the date: who has to wait for a key is not to be late besides.
        let key = self.credentials.current().await?;
        let signed_at = self.service_time();
        let request = sign(call, query, body, (&key, signed_at));
        let answer = self.transport.exchange(request).await?;
        Ok(Heard { answer, key, signed_at })
    }

    /// What an answer means, for its item and for the run; some faults are mended for the next one.
    async fn verdict(&self, heard: &Heard) -> (Verdict, Option<RunEffect>) {
        let verdict = match classify(&heard.answer) {
            Meaning::Foreign(fault, effect) => return (Verdict::MaybeSent(fault), effect),
            Meaning::WrongClock(refusal) => self.correct_clock_skew(&heard.answer, heard.signed_at, refusal),
            Meaning::Verdict(Verdict::Fatal(fatal @ FatalError::Credentials { .. })) => {
                match self.credentials.refused(&heard.key).await {
                    Ok(true) => Verdict::NotSent(renewed()),
                    Ok(false) => Verdict::Fatal(fatal),
                    Err(none) => none.into(),
                }
            }
            Meaning::Verdict(verdict) => verdict,
        };
        (verdict, None)
    }

    /// How far the service's clock is ahead of ours, as the last answer to a question had it, to the second.
    pub fn clock_offset(&self) -> Option<SignedDuration> {
        let ahead = self.seen_ahead_ms.load(Ordering::Relaxed);
        (ahead != i64::MIN).then(|| SignedDuration::from_millis(ahead))
    }

    /// What time it is at the service: our clock, as the service last corrected it.
    pub fn service_time(&self) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.clock_ahead_ms.load(Ordering::Relaxed));
        Timestamp::now().checked_add(ahead).unwrap_or_else(|_| Timestamp::now())
    }

    /// The service refused our date, and its `Date` says what time it is. Not executed; signed anew it may pass.
    fn correct_clock_skew(&self, answer: &RawResponse, signed_at: Timestamp, refusal: ApiRejection) -> Verdict {
        let ApiRejection { code, message, request_id } = refusal;
        let Some(service) = answer.server_date() else { return Verdict::Fatal(FatalError::Clock { code, message }) };
        let ahead = service.duration_since(Timestamp::now());
        let was_right = service.duration_since(signed_at).unsigned_abs() <= MAX_CLOCK_SKEW;
        if was_right || ahead.unsigned_abs() > FURTHEST_CLOCK {
            return Verdict::Fatal(FatalError::Clock { code, message });
        }
        self.clock_ahead_ms.store(ahead.as_millis() as i64, Ordering::Relaxed);
        tracing::warn!(seconds = ahead.as_secs(), "this machine's clock is wrong by so much; corrected for this run");
        Verdict::NotSent(CallFailure { kind: FailureKind::ClockCorrected, message, request_id })
    }
}

/// Signed for this moment: a nonce and a date of its own.
fn sign(
    call: Call<'_>,
    query: &str,
    (body, sha256): (Bytes, &str),
    (key, signed_at): (&AccessKey, Timestamp),
) -> SignedRequest {
    let mut headers = vec![
        ("host", call.to.host_header().to_owned()),
        ("x-acs-action", call.action.to_owned()),
        ("x-acs-version", call.version.to_owned()),
        ("x-acs-date", signed_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("x-acs-signature-nonce", uuid::Uuid::new_v4().simple().to_string()),
        ("x-acs-content-sha256", sha256.to_owned()),
    ];
    if !body.is_empty() {
        headers.push(("content-type", FORM.to_owned()));
    }
    if let Some(token) = key.token() {
        headers.push(("x-acs-accesskey-id", key.id().to_owned()));
        headers.push(("x-acs-security-token", token.to_owned()));
    }
    let signed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let request =
        CanonicalRequest { method: call.method.as_str(), path: "/", query, headers: &signed, body_sha256: sha256 };
    let authorization = authorization(request, key.id(), key.secret());
    // Not signed, like the official TypeScript SDK: something on the way may rewrite it.
    headers.push(("accept", "application/json".to_owned()));
    headers.push(("authorization", authorization));
    SignedRequest { method: call.method, to: call.to.clone(), query: query.to_owned(), headers, body }
}
