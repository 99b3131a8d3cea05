//! The API calls. Each one signs, sends once and classifies the response.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use tokio::time::Instant;

use super::{
    AccessKey, CanonicalRequest, Classification, Credentials, Endpoint, LookupPage, Payload, RawResponse, RecordPage,
    SignedRequest, Transport, TransportError, UploadTarget, authorization, classify,
    credentials::key_renewed,
    queries,
    sign::{canonical_query, sha256_hex},
};
use crate::domain::{
    Answer, ApiRejection, CallError, CallFailure, Committed, DeleteIntent, EnrollmentReceipt, FaceGroupCode,
    FailureKind, FatalError, Intent, MerchantUserId, Permit, RunEffect,
    action::{AddFaceRecord, DeleteFaceRecord, Query},
};

const VERSION: &str = "2022-08-09";
/// Page size for listing a group. The documents give no maximum.
const LIST_PAGE_SIZE: u64 = 50;
const FORM: &str = "application/x-www-form-urlencoded";
/// A `Date` further than this from our clock is ignored (reliability.md S15).
const MAX_CLOCK_CORRECTION: Duration = Duration::from_secs(24 * 60 * 60);
/// If the signed date was within this of the service's `Date`, our clock is not the reason for the rejection.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);

/// An action and its endpoint.
pub(super) struct Call<'a> {
    pub(super) to: &'a Endpoint,
    pub(super) method: Method,
    pub(super) version: &'static str,
    pub(super) action: &'static str,
}

/// A response, and the key and time that signed its request.
struct Exchange {
    response: RawResponse,
    key: AccessKey,
    signed_at: Timestamp,
}

/// Client of the API.
pub struct Client<T> {
    pub(super) transport: T,
    endpoint: Endpoint,
    pub(super) upload: UploadTarget,
    credentials: Credentials,
    /// Correction added to our clock, in milliseconds, from the last rejected date.
    clock_correction_ms: AtomicI64,
    /// Offset of the service's clock in the last query response, in milliseconds; `i64::MIN` before the first one.
    observed_offset_ms: AtomicI64,
}

impl<T: Transport> Client<T> {
    /// A client that sends through `transport` to `endpoint`, signs with `credentials`, and requests uploads at `upload`.
    pub fn new(transport: T, endpoint: Endpoint, upload: UploadTarget, credentials: Credentials) -> Self {
        Self {
            transport,
            endpoint,
            upload,
            credentials,
            clock_correction_ms: AtomicI64::new(0),
            observed_offset_ms: AtomicI64::new(i64::MIN),
        }
    }

    fn call(&self, action: &'static str) -> Call<'_> {
        Call { to: &self.endpoint, method: Method::POST, version: VERSION, action }
    }

    /// AddFaceRecord. Consumes the permit and the proof that the intent is on disk.
    pub async fn add_face_record(
        &self,
        _permit: Permit<AddFaceRecord>,
        _intent: Committed<Intent>,
        payload: Payload,
    ) -> Answer {
        let started = Instant::now();
        let Payload { body, sha256 } = payload;
        let exchange = self.send(self.call("AddFaceRecord"), "", (body, &sha256)).await;
        let retry_after = exchange.as_ref().ok().and_then(|exchange| exchange.response.retry_after);
        let (result, run_effect) = match exchange {
            Err(error) => (Err(error.into()), None),
            Ok(exchange) => self.classify(&exchange).await,
        };
        Answer { result, run_effect, retry_after, latency: started.elapsed() }
    }

    /// QueryFaceRecord for one id in one group. Pages start at 1.
    pub async fn query_face_record(
        &self,
        _permit: Permit<Query>,
        (group, user): (&FaceGroupCode, &MerchantUserId),
        page: u64,
    ) -> Result<LookupPage, CallError> {
        let (number, size) = (page.to_string(), queries::LOOKUP_PAGE_SIZE.to_string());
        let query = [
            ("CurrentPage", number.as_str()),
            ("FaceGroupCode", group.as_str()),
            ("MerchantUserId", user.as_str()),
            ("PageSize", size.as_str()),
        ];
        queries::lookup_page(&self.query("QueryFaceRecord", &query).await?, user.as_str(), page)
    }

    /// QueryFaceRecord for a whole group. Pages start at 1.
    pub async fn query_face_records(
        &self,
        _permit: Permit<Query>,
        group: &FaceGroupCode,
        page: u64,
    ) -> Result<RecordPage, CallError> {
        let (page, size) = (page.to_string(), LIST_PAGE_SIZE.to_string());
        let query = [("CurrentPage", page.as_str()), ("FaceGroupCode", group.as_str()), ("PageSize", size.as_str())];
        queries::record_page(&self.query("QueryFaceRecord", &query).await?)
    }

    /// QueryFaceGroup: whether the group exists.
    pub async fn query_face_group(&self, _permit: Permit<Query>, group: &FaceGroupCode) -> Result<bool, CallError> {
        let query = [("CurrentPage", "1"), ("GroupCode", group.as_str()), ("PageSize", "10")];
        queries::has_group(&self.query("QueryFaceGroup", &query).await?, group.as_str())
    }

    /// DeleteFaceRecord: deletes exactly this record. DeleteFaceRecordV2 is never called: it takes an id, and without a
    /// group it deletes that id from every group.
    pub async fn delete_face_record(
        &self,
        _permit: Permit<DeleteFaceRecord>,
        intent: Committed<DeleteIntent>,
    ) -> Result<(), CallError> {
        let body = format!("Id={}", intent.get().record);
        queries::parse_deletion(&self.exchange(self.call("DeleteFaceRecord"), "", body.into()).await?)
    }

    /// A read-only call with all parameters in the query string.
    async fn query(&self, action: &'static str, parameters: &[(&str, &str)]) -> Result<RawResponse, CallError> {
        self.query_as(self.call(action), parameters).await
    }

    pub(super) async fn query_as(&self, call: Call<'_>, parameters: &[(&str, &str)]) -> Result<RawResponse, CallError> {
        self.exchange(call, &canonical_query(parameters), Bytes::new()).await
    }

    /// Sends a call other than AddFaceRecord. A wrong clock is corrected for the next call, and an expired key is replaced.
    ///
    /// The run effect of a foreign response is dropped: such a call leaves no row in doubt, and its caller repeats it until
    /// `--give-up-after` or puts it off. The next AddFaceRecord stops the run, if what answers is still there.
    async fn exchange(&self, call: Call<'_>, query: &str, body: Bytes) -> Result<RawResponse, CallError> {
        let sha256 = sha256_hex(&body);
        let exchange = self.send(call, query, (body, &sha256)).await?;
        if let Some(service) = exchange.response.server_date() {
            let ahead = service.duration_since(Timestamp::now());
            self.observed_offset_ms.store(ahead.as_millis() as i64, Ordering::Relaxed);
        }
        match self.classify(&exchange).await.0 {
            Err(not_executed @ CallError::NotExecuted(_)) => Err(not_executed),
            // The caller interprets the response.
            Ok(_)
            | Err(
                CallError::Rejected(_)
                | CallError::Throttled { .. }
                | CallError::MaybeExecuted(_)
                | CallError::Fatal(_),
            ) => Ok(exchange.response),
        }
    }

    async fn send(&self, call: Call<'_>, query: &str, body: (Bytes, &str)) -> Result<Exchange, TransportError> {
        // Get the key before the date, so that waiting for a key does not make the date stale.
        let key = self.credentials.current().await?;
        let signed_at = self.service_time();
        let request = sign(call, query, body, (&key, signed_at));
        let response = self.transport.exchange(request).await?;
        Ok(Exchange { response, key, signed_at })
    }

    /// Classifies a response, for its item and for the run. Corrects the clock and renews the key for the next call.
    async fn classify(&self, exchange: &Exchange) -> (Result<EnrollmentReceipt, CallError>, Option<RunEffect>) {
        let result = match classify(&exchange.response) {
            Classification::Foreign(failure, effect) => return (Err(CallError::MaybeExecuted(failure)), effect),
            Classification::WrongClock(rejection) => {
                Err(self.correct_clock_skew(&exchange.response, exchange.signed_at, rejection))
            }
            Classification::Response(Err(CallError::Fatal(fatal @ FatalError::Credentials { .. }))) => {
                match self.credentials.replace_rejected(&exchange.key).await {
                    Ok(true) => Err(CallError::NotExecuted(key_renewed())),
                    Ok(false) => Err(CallError::Fatal(fatal)),
                    Err(error) => Err(error.into()),
                }
            }
            Classification::Response(result) => result,
        };
        (result, None)
    }

    /// How far the service's clock is ahead of ours, to the second, from the last query response.
    pub fn clock_offset(&self) -> Option<SignedDuration> {
        let ahead = self.observed_offset_ms.load(Ordering::Relaxed);
        (ahead != i64::MIN).then(|| SignedDuration::from_millis(ahead))
    }

    /// Current time of the service: our clock plus the last correction.
    pub fn service_time(&self) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.clock_correction_ms.load(Ordering::Relaxed));
        Timestamp::now().checked_add(ahead).unwrap_or_else(|_| Timestamp::now())
    }

    /// The service rejected our date without executing the call: adopt the time of its `Date` for the next signature.
    fn correct_clock_skew(&self, response: &RawResponse, signed_at: Timestamp, rejection: ApiRejection) -> CallError {
        let ApiRejection { code, message, request_id } = rejection;
        let Some(service) = response.server_date() else {
            return CallError::Fatal(FatalError::Clock { code, message });
        };
        let ahead = service.duration_since(Timestamp::now());
        let was_right = service.duration_since(signed_at).unsigned_abs() <= MAX_CLOCK_SKEW;
        if was_right || ahead.unsigned_abs() > MAX_CLOCK_CORRECTION {
            return CallError::Fatal(FatalError::Clock { code, message });
        }
        self.clock_correction_ms.store(ahead.as_millis() as i64, Ordering::Relaxed);
        tracing::warn!(seconds = ahead.as_secs(), "local clock is off by this many seconds; corrected for this run");
        CallError::NotExecuted(CallFailure { kind: FailureKind::ClockCorrected, message, request_id })
    }
}

/// Signs a call with a new nonce and the given time.
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
    // Not signed, as in the official TypeScript SDK: an intermediary may rewrite it.
    headers.push(("accept", "application/json".to_owned()));
    headers.push(("authorization", authorization));
    SignedRequest { method: call.method, to: call.to.clone(), query: query.to_owned(), headers, body }
}
