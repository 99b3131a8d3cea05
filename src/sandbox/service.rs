//! Handles one call from receipt to response. Never touches sockets: [`Effect`] tells the connection what to do.

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Action, CallEnd, CallRecord, Credentials, Fault, Groups, SandboxError, Script, Settings,
    actions::{ActionRequest, File},
    buckets::{Buckets, ObjectCall},
    clock::Clock,
    form::Params,
    gateway::Call,
    handler::Handler,
    journal::Journal,
    limiter::ActionLimiter,
    nonces::Nonces,
    object_store::ObjectStore,
    quota::Quota,
    records::RecordStore,
    response::{ApiError, ErrorFormat, Reply, Responder},
};

/// What the connection does in response to a call.
#[derive(Debug)]
pub(super) enum Effect {
    /// Send the response.
    Respond(Reply),
    /// Send half of the response, then close the connection.
    Truncate(Reply),
    /// Reset the connection.
    Reset,
    /// Never respond.
    Stall,
}

/// State of the simulated service. Locks are taken one at a time (`records` and `objects` together, in this order) and
/// never held across an await.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) clock: Clock,
    credentials: Mutex<Credentials>,
    groups: Mutex<Groups>,
    nonces: Mutex<Nonces>,
    limiter: Mutex<ActionLimiter>,
    pub(super) records: Mutex<RecordStore>,
    pub(super) objects: Mutex<ObjectStore>,
    pub(super) journal: Mutex<Journal>,
    random: Mutex<fastrand::Rng>,
    pub(super) latency: Duration,
    pub(super) late: Duration,
    /// Cancelled when the sandbox shuts down; simulated delays then end at once.
    closing: CancellationToken,
}

/// A call that passed the gateway and the limiter.
struct Admitted {
    /// The parsed request, or the error to report unless a fault is injected first.
    request: Result<ActionRequest, ApiError>,
    fault: Option<Fault>,
}

/// Locks and ignores poisoning by a panicked test thread: the data behind every lock here is consistent between statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub(super) fn open(settings: Settings, closing: CancellationToken) -> Result<Self, SandboxError> {
        let quota = Quota::new(settings.qps, settings.window);
        Ok(Self {
            clock: Clock::start(settings.clock_offset),
            credentials: Mutex::new(settings.credentials),
            groups: Mutex::new(settings.groups),
            nonces: Mutex::default(),
            limiter: Mutex::new(ActionLimiter::new(quota, settings.retry_after, settings.faults, settings.seed)),
            records: Mutex::new(RecordStore::open(settings.records.as_deref())?),
            objects: Mutex::new(ObjectStore::new(settings.policy_ttl, Buckets::new(&settings.buckets))),
            journal: Mutex::new(Journal::open(settings.journal.as_deref())?),
            random: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
            latency: settings.latency,
            late: settings.late,
            closing,
        })
    }

    pub(super) fn credentials(&self) -> Credentials {
        lock(&self.credentials).clone()
    }

    pub(super) fn set_credentials(&self, credentials: Credentials) {
        *lock(&self.credentials) = credentials;
    }

    pub(super) fn groups(&self) -> Groups {
        lock(&self.groups).clone()
    }

    pub(super) fn set_groups(&self, groups: Groups) {
        *lock(&self.groups) = groups;
    }

    pub(super) fn set_faults(&self, script: Script) {
        lock(&self.limiter).set_faults(script);
    }

    pub(super) fn set_qps(&self, qps: Option<NonZeroU32>) {
        lock(&self.limiter).set_qps(qps);
    }

    /// Handles one call to completion, even if its client has disconnected.
    pub(super) async fn handle(&self, call: Call, at: Duration) -> Effect {
        let host = call.header("host").unwrap_or_default();
        let is_upload = ObjectStore::is_host(&host);
        let is_for_bucket = !is_upload && ObjectCall::is_for_bucket(&call, lock(&self.objects).buckets());
        let format = if is_upload || is_for_bucket { ErrorFormat::ObjectStore } else { ErrorFormat::Gateway };
        let responder = Responder::new(host, format);
        let (seq, admitted) = if is_upload {
            self.admit_upload(&call, at)
        } else if is_for_bucket {
            self.admit_object(&call, at)
        } else {
            self.admit(&call, at)
        };
        // The body is most of the memory of a call, and many calls may be waiting.
        drop(call);
        let effect = match admitted {
            Err(error) => Effect::Respond(responder.error(&error)),
            Ok(Admitted { request, fault }) => Handler { service: self, seq, responder, request }.run(fault).await,
        };
        lock(&self.journal).finish(seq, call_end(&effect));
        effect
    }

    /// Records the call, then runs gateway and limiter, then parses the request.
    fn admit(&self, call: &Call, at: Duration) -> (u64, Result<Admitted, ApiError>) {
        let action = call.header("x-acs-action").as_deref().and_then(Action::from_name);
        let params = action.map_or_else(|| Ok(Params::default()), |action| Params::parse(call.encoded_params(action)));
        let text = |name| params.as_ref().ok().and_then(|params| params.text(name).ok().flatten());
        let record = CallRecord {
            bytes: call.body.len() as u64,
            action: call.header("x-acs-action"),
            user: text("MerchantUserId"),
            group: text("FaceGroupCode"),
            quality_check: text("FaceQualityCheck"),
            nonce: call.header("x-acs-signature-nonce"),
            ..self.new_call_record(at)
        };
        let user = record.user.clone();
        let seq = lock(&self.journal).append(record);
        let admitted = self.authenticate(call).and_then(|action| {
            let fault = lock(&self.limiter).admit(action, user.as_deref(), at)?;
            let request = params.and_then(|params| ActionRequest::parse(action, &params, &self.groups()));
            Ok(Admitted { request, fault })
        });
        (seq, admitted)
    }

    /// Admits an upload to the object store. Its signed policy is in the form, and is checked together with the file.
    fn admit_upload(&self, call: &Call, at: Duration) -> (u64, Result<Admitted, ApiError>) {
        let action = Action::PostObject;
        let seq = lock(&self.journal).append(CallRecord {
            bytes: call.body.len() as u64,
            action: Some(action.name().to_owned()),
            ..self.new_call_record(at)
        });
        let fault = lock(&self.limiter).admit(action, None, at);
        let file = File::new(call.header("content-type").unwrap_or_default(), call.body.clone());
        let is_post = call.method == hyper::Method::POST && call.uri.path() == "/";
        let request = match is_post {
            true => Ok(ActionRequest::PostObject(file)),
            false => Err(ApiError::new(405, "MethodNotAllowed", "The specified method is not allowed.")),
        };
        (seq, fault.map(|fault| Admitted { request, fault }))
    }

    /// Admits a request to a bucket.
    fn admit_object(&self, call: &Call, at: Duration) -> (u64, Result<Admitted, ApiError>) {
        let now = self.clock.now();
        let object = ObjectCall::authenticate(call, lock(&self.objects).buckets(), (&self.credentials(), now));
        let action = object.as_ref().ok().map(|object| object.action().name().to_owned());
        let seq = lock(&self.journal).append(CallRecord { action, ..self.new_call_record(at) });
        let admitted = object.and_then(|object| {
            let fault = lock(&self.limiter).admit(object.action(), None, at)?;
            Ok(Admitted { request: Ok(ActionRequest::Object(object)), fault })
        });
        (seq, admitted)
    }

    /// A journal entry with the time of arrival only.
    fn new_call_record(&self, at: Duration) -> CallRecord {
        CallRecord {
            seq: 0,
            at,
            wall: self.clock.now(),
            bytes: 0,
            action: None,
            user: None,
            group: None,
            quality_check: None,
            nonce: None,
            picture: None,
            admitted: false,
            record: None,
            ending: CallEnd::Pending,
        }
    }

    fn authenticate(&self, call: &Call) -> Result<Action, ApiError> {
        call.authenticate(&self.credentials(), &self.clock)?;
        call.consume_nonce(&mut lock(&self.nonces), &self.clock)?;
        call.action()
    }

    /// Sleeps unless the sandbox is shutting down, when admitted calls are executed at once.
    pub(super) async fn wait(&self, time: Duration) {
        if !time.is_zero() {
            let _ = self.closing.run_until_cancelled(tokio::time::sleep(time)).await;
        }
    }

    /// A random part of a duration, uniform in the given range of fractions.
    pub(super) fn random_fraction(&self, time: Duration, range: std::ops::Range<f64>) -> Duration {
        if time.is_zero() {
            return time;
        }
        let random = lock(&self.random).f64();
        time.mul_f64(range.start + random * (range.end - range.start))
    }
}

fn call_end(effect: &Effect) -> CallEnd {
    match effect {
        Effect::Respond(reply) => CallEnd::Answered { status: reply.status, code: reply.code.clone() },
        Effect::Truncate(_) => CallEnd::Cut,
        Effect::Reset => CallEnd::Reset,
        Effect::Stall => CallEnd::Stalled,
    }
}
