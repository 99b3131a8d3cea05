//! One call from its arrival to what its sender gets. Knows nothing of sockets: a reset is only ordered here.

use std::{
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Action, CallEnd, CallRecord, Credentials, Fault, Groups, SandboxError, Script, Settings,
    actions::{Ask, File},
    answer::{Caller, ErrorFormat, Refusal, Reply},
    clock::Clock,
    form::Params,
    gateway::Call,
    journal::Journal,
    ledger::Ledger,
    nonces::Nonces,
    objects::Objects,
    quota::Quota,
    turn::Turn,
    turnstile::ActionLimiter,
};

/// What is to happen on the connection.
#[derive(Debug)]
pub(super) enum Effect {
    /// The answer.
    Answer(Reply),
    /// Half of it, and the end of the connection.
    Cut(Reply),
    /// A reset.
    Reset,
    /// Nothing.
    Stall,
}

/// The service behind the sockets. Locks are taken one at a time (the ledger and the objects together, in this
/// order) and never across a wait.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) clock: Clock,
    credentials: RwLock<Credentials>,
    groups: RwLock<Groups>,
    nonces: Mutex<Nonces>,
    turnstile: Mutex<ActionLimiter>,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) objects: Mutex<Objects>,
    pub(super) journal: Mutex<Journal>,
    random: Mutex<fastrand::Rng>,
    pub(super) latency: Duration,
    pub(super) late: Duration,
    /// The sandbox is closing: nobody waits any more.
    closing: CancellationToken,
}

/// A call that gateway and turnstile let through.
struct Admitted {
    /// What it asks for, as far as it can be read: a fault may come before anybody tries.
    asked: Result<Ask, Refusal>,
    fault: Option<Fault>,
}

/// A guard of what a panicking test thread may have left behind: every lock here guards something that is whole between
/// two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    pub(super) fn open(settings: Settings, closing: CancellationToken) -> Result<Self, SandboxError> {
        let quota = Quota::new(settings.qps, settings.window);
        Ok(Self {
            clock: Clock::start(settings.clock_offset),
            credentials: RwLock::new(settings.credentials),
            groups: RwLock::new(settings.groups),
            nonces: Mutex::default(),
            turnstile: Mutex::new(ActionLimiter::new(quota, settings.retry_after, settings.faults, settings.seed)),
            ledger: Mutex::new(Ledger::open(settings.records.as_deref())?),
            objects: Mutex::new(Objects::new(settings.policy_life)),
            journal: Mutex::new(Journal::open(settings.journal.as_deref())?),
            random: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
            latency: settings.latency,
            late: settings.late,
            closing,
        })
    }

    pub(super) fn credentials(&self) -> Credentials {
        self.credentials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.write().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    pub(super) fn groups(&self) -> Groups {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_groups(&self, groups: Groups) {
        *self.groups.write().unwrap_or_else(PoisonError::into_inner) = groups;
    }

    pub(super) fn set_faults(&self, script: Script) {
        lock(&self.turnstile).set_faults(script);
    }

    pub(super) fn set_qps(&self, qps: Option<NonZeroU32>) {
        lock(&self.turnstile).set_qps(qps);
    }

    /// Plays one call to its end, whether or not anyone waits for it.
    pub(super) async fn play(&self, call: Call, at: Duration) -> Effect {
        let host = call.header("host").unwrap_or_default();
        let is_file = Objects::is_host(&host);
        let dialect = if is_file { ErrorFormat::ObjectStore } else { ErrorFormat::Gateway };
        let addressee = Caller::new(host, dialect);
        let (seq, admitted) = if is_file { self.admit_file(&call, at) } else { self.admit(&call, at) };
        // The body is most of what a call holds, and waiting calls are many.
        drop(call);
        let effect = match admitted {
            Err(refusal) => Effect::Answer(addressee.refuse(&refusal)),
            Ok(Admitted { asked, fault }) => Turn { service: self, seq, addressee, asked }.play(fault).await,
        };
        lock(&self.journal).end(seq, ending(&effect));
        effect
    }

    /// Journal, gateway and turnstile; then what is asked for, as far as it can be read.
    fn admit(&self, call: &Call, at: Duration) -> (u64, Result<Admitted, Refusal>) {
        let named = call.header("x-acs-action").as_deref().and_then(Action::named);
        let params = named.map_or_else(|| Ok(Params::default()), |action| Params::parse(call.encoded_params(action)));
        let said = |name| params.as_ref().ok().and_then(|params| params.text(name).ok().flatten());
        let arrival = CallRecord {
            action: call.header("x-acs-action"),
            user: said("MerchantUserId"),
            group: said("FaceGroupCode"),
            nonce: call.header("x-acs-signature-nonce"),
            ..self.arrival(at)
        };
        let user = arrival.user.clone();
        let seq = lock(&self.journal).note(arrival);
        let passed = self.authenticate(call).and_then(|action| {
            let fault = lock(&self.turnstile).pass(action, user.as_deref(), at)?;
            Ok(Admitted { asked: params.and_then(|params| Ask::read(action, &params, &self.groups())), fault })
        });
        (seq, passed)
    }

    /// A file for the object store: its policy is its signature, and is looked at with the file.
    fn admit_file(&self, call: &Call, at: Duration) -> (u64, Result<Admitted, Refusal>) {
        let action = Action::PostObject;
        let seq = lock(&self.journal).note(CallRecord { action: Some(action.name().to_owned()), ..self.arrival(at) });
        let fault = lock(&self.turnstile).pass(action, None, at);
        let file = File::new(call.header("content-type").unwrap_or_default(), call.body.clone());
        let is_post = call.method == hyper::Method::POST && call.uri.path() == "/";
        let asked = match is_post {
            true => Ok(Ask::PostObject(file)),
            false => Err(Refusal::new(405, "MethodNotAllowed", "The specified method is not allowed.")),
        };
        (seq, fault.map(|fault| Admitted { asked, fault }))
    }

    /// Of which nothing is known but its time.
    fn arrival(&self, at: Duration) -> CallRecord {
        CallRecord {
            seq: 0,
            at,
            wall: self.clock.now(),
            action: None,
            user: None,
            group: None,
            nonce: None,
            picture: None,
            admitted: false,
            record: None,
            ending: CallEnd::Pending,
        }
    }

    fn authenticate(&self, call: &Call) -> Result<Action, Refusal> {
        call.authenticate(&self.credentials(), &self.clock)?;
        call.consume_nonce(&mut lock(&self.nonces), &self.clock)?;
        call.action()
    }

    /// Waits, unless the sandbox is closing: what was let through is then executed at once.
    pub(super) async fn wait(&self, time: Duration) {
        if !time.is_zero() {
            let _ = self.closing.run_until_cancelled(tokio::time::sleep(time)).await;
        }
    }

    /// This share of a time, drawn from the seed.
    pub(super) fn draw(&self, time: Duration, share: std::ops::Range<f64>) -> Duration {
        if time.is_zero() {
            return time;
        }
        let drawn = lock(&self.random).f64();
        time.mul_f64(share.start + drawn * (share.end - share.start))
    }
}

fn ending(effect: &Effect) -> CallEnd {
    match effect {
        Effect::Answer(reply) => CallEnd::Answered { status: reply.status, code: reply.code.clone() },
        Effect::Cut(_) => CallEnd::Cut,
        Effect::Reset => CallEnd::Reset,
        Effect::Stall => CallEnd::Stalled,
    }
}
