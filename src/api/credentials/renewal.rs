//! A key that is renewed before it ends, while everyone goes on with the one that still holds.
//!
//! One caller at a time fetches. Before the end it is done beside the calls: nobody waits, for whoever calls has a turn of
//! the gate that would be late. After the end the key is not used any more: callers wait for the next one together, and
//! their own call is taken as not sent, so that it has a new turn.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::{sync::OwnedMutexGuard, time::Instant};

use super::{error::FetchError, grant::TemporaryCredentials};
use crate::{
    api::NoAnswer,
    domain::{CallFailure, FailureKind},
    secret::AccessKey,
};

/// How long before its end a key is renewed (PY-CRED, refreshable.py STALE_TIME): a quarter of STS' hour.
const REFRESH_BEFORE_EXPIRY: Duration = Duration::from_secs(15 * 60);
/// Of a key of a short life, this part.
const REFRESH_FRACTION: u32 = 4;
/// A key that ends within this is not used: a request may be as long on its way. Twice our transport's limit to connect.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);
/// Of a key of a short life, this part.
const EXPIRY_MARGIN_FRACTION: u32 = 10;
/// From a fetch that has failed to the next one, while the key holds (PY-CRED, refreshable.py: 10 s to begin with).
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// What gives keys.
pub(super) type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<TemporaryCredentials, FetchError>> + Send + Sync>;

/// See the module.
pub(super) struct RefreshingCredentials {
    /// None: the key is the only one that there is.
    fetch: Option<Fetch>,
    state: Mutex<State>,
    /// Whoever fetches has it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    key: AccessKey,
    term: Option<Expiry>,
    /// Was it fetched because the service had refused the one before?
    follows_refused: bool,
    /// Fetches that have come to an end.
    fetches: u64,
    /// How the last of them failed.
    failure: Option<FetchError>,
}

/// The times of a key that has an end.
#[derive(Debug, Clone, Copy)]
struct Expiry {
    renew_at: Instant,
    ends_at: Instant,
    /// Shorter for a key of a short life.
    pause: Duration,
}

impl Expiry {
    fn of(grant: &TemporaryCredentials) -> Option<Self> {
        let life = grant.ends?;
        let at = |before_end: Duration| life.from + life.length.saturating_sub(before_end);
        let ahead = REFRESH_BEFORE_EXPIRY.min(life.length / REFRESH_FRACTION);
        let margin = EXPIRY_MARGIN.min(life.length / EXPIRY_MARGIN_FRACTION);
        Some(Self { renew_at: at(ahead), ends_at: at(margin), pause: RETRY_PAUSE.min(ahead / REFRESH_FRACTION) })
    }
}

/// What is to be done with the key.
enum CacheState {
    Holds(AccessKey),
    IsDue(AccessKey),
    HasEnded,
}

impl State {
    fn cache_state(&self, now: Instant) -> CacheState {
        match self.term {
            Some(term) if now >= term.ends_at => CacheState::HasEnded,
            Some(term) if now >= term.renew_at => CacheState::IsDue(self.key.clone()),
            Some(_) | None => CacheState::Holds(self.key.clone()),
        }
    }
}

impl RefreshingCredentials {
    /// Begins with a key that has been fetched.
    pub(super) fn new(first: &TemporaryCredentials, fetch: Option<Fetch>) -> Arc<Self> {
        let state = State {
            key: first.key.clone(),
            term: Expiry::of(first),
            follows_refused: false,
            fetches: 0,
            failure: None,
        };
        Arc::new(Self { fetch, state: Mutex::new(state), turn: Arc::default() })
    }

    /// The key as it is shown.
    pub(super) fn masked_id(&self) -> String {
        self.state().key.masked_id()
    }

    /// The key of the moment. Returns at once, unless it has ended.
    pub(super) async fn current(self: &Arc<Self>) -> Result<AccessKey, NoAnswer> {
        let cache_state = self.state().cache_state(Instant::now());
        match cache_state {
            CacheState::Holds(key) => Ok(key),
            CacheState::IsDue(key) => {
                if let Ok(turn) = self.turn.clone().try_lock_owned() {
                    let renewal = self.clone();
                    tokio::spawn(async move { renewal.refresh_ahead(turn).await });
                }
                Ok(key)
            }
            CacheState::HasEnded => {
                self.refresh(false).await?;
                Err(NoAnswer::NotSent(renewed()))
            }
        }
    }

    /// The service has refused this key. True: there is another one now. One that is refused at once is not replaced
    /// again.
    pub(super) async fn refused(self: &Arc<Self>, key: &AccessKey) -> Result<bool, NoAnswer> {
        {
            let state = self.state();
            if !state.key.is_same(key) {
                return Ok(true);
            }
            if self.fetch.is_none() || state.follows_refused {
                return Ok(false);
            }
        }
        self.refresh(true).await?;
        Ok(!self.state().key.is_same(key))
    }

    /// Waits for the fetch that is going on, or makes one.
    async fn refresh(&self, is_refused: bool) -> Result<(), FetchError> {
        let seen = self.state().fetches;
        let turn = self.turn.clone().lock_owned().await;
        {
            let state = self.state();
            if state.fetches != seen {
                return state.failure.clone().map_or(Ok(()), Err);
            }
        }
        self.fetch(&turn, is_refused).await
    }

    /// Before the end. That it failed concerns nobody yet.
    async fn refresh_ahead(&self, turn: OwnedMutexGuard<()>) {
        // Someone may have been faster.
        if matches!(self.state().cache_state(Instant::now()), CacheState::Holds(_)) {
            return;
        }
        if let Err(error) = self.fetch(&turn, false).await {
            tracing::warn!(%error, "the access key could not be renewed; it still holds, and is tried again");
            let mut state = self.state();
            if let Some(term) = &mut state.term {
                term.renew_at = Instant::now() + term.pause;
            }
        }
    }

    async fn fetch(&self, _turn: &OwnedMutexGuard<()>, is_refused: bool) -> Result<(), FetchError> {
        let Some(fetch) = &self.fetch else { return Ok(()) };
        let fetched = fetch().await;
        let mut state = self.state();
        state.fetches += 1;
        match fetched {
            Ok(grant) => {
                tracing::info!(key = grant.key.masked_id(), "the access key is renewed");
                state.term = Expiry::of(&grant);
                state.follows_refused = is_refused;
                state.key = grant.key;
                state.failure = None;
                Ok(())
            }
            Err(error) => {
                state.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not sent for its own good.
pub(in crate::api) fn renewed() -> CallFailure {
    let message = "the access key had ended; there is another one now".to_owned();
    CallFailure { kind: FailureKind::KeyRenewed, message, request_id: None }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::{super::grant::Ttl, *};
    use crate::domain::ErrorCode;

    /// Gives keys K1, K2, ... of this life, each after this long; first of all what stands in `errors`.
    struct CountingProvider {
        life: Duration,
        takes: Duration,
        errors: Mutex<VecDeque<FetchError>>,
        fetches: AtomicUsize,
    }

    fn grant(n: usize, life: Duration) -> TemporaryCredentials {
        let key = AccessKey::new(format!("K{n}"), "s".into(), Some("t".into()));
        TemporaryCredentials { key, ends: Some(Ttl { from: Instant::now(), length: life }), role: None }
    }

    fn giver(life: u64, takes: u64, errors: &[FetchError]) -> (Arc<CountingProvider>, Arc<RefreshingCredentials>) {
        let giver = Arc::new(CountingProvider {
            life: Duration::from_secs(life),
            takes: Duration::from_secs(takes),
            errors: Mutex::new(errors.iter().cloned().collect()),
            fetches: AtomicUsize::new(0),
        });
        let ours = giver.clone();
        let fetch: Fetch = Box::new(move || {
            let giver = ours.clone();
            Box::pin(async move {
                let n = giver.fetches.fetch_add(1, Ordering::Relaxed) + 1;
                let grant = grant(n, giver.life);
                tokio::time::sleep(giver.takes).await;
                let error = giver.errors.lock().unwrap().pop_front();
                error.map_or(Ok(grant), Err)
            })
        });
        let renewal = RefreshingCredentials::new(&grant(0, giver.life), Some(fetch));
        (giver, renewal)
    }

    fn away() -> FetchError {
        FetchError::Unavailable(CallFailure {
            kind: FailureKind::ConnectFailed,
            message: "away".into(),
            request_id: None,
        })
    }

    fn refused() -> FetchError {
        FetchError::Refused { code: ErrorCode("NoPermission".into()), message: "no".into() }
    }

    async fn current(renewal: &Arc<RefreshingCredentials>) -> String {
        renewal.current().await.unwrap().id().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn refresh_ahead_is_single_flight_and_never_blocks() {
        let (giver, renewal) = giver(3_600, 5, &[]);
        let begun = Instant::now();
        let callers = (0..50).map(|n| {
            let renewal = renewal.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                // Half a day, a call every ten seconds each.
                for _ in 0..4_320 {
                    tokio::time::sleep(Duration::from_millis(10_000 + n)).await;
                    let asked = Instant::now();
                    let id = current(&renewal).await;
                    assert_eq!(asked.elapsed(), Duration::ZERO, "it waited");
                    let number: u32 = id[1..].parse().unwrap();
                    // K0 is of the beginning; each next one is fetched 15 minutes before the end of the one before.
                    let its_end = begun + Duration::from_secs(3_600) + Duration::from_secs(2_711) * number;
                    assert!(asked < its_end, "{id} has ended");
                    ids.push(number);
                }
                ids
            })
        });
        for caller in futures::future::join_all(callers).await {
            let ids = caller.unwrap();
            assert!(ids.is_sorted() && *ids.last().unwrap() >= 15, "{:?}", ids.last());
        }
        assert_eq!(giver.fetches.load(Ordering::Relaxed), 16, "one for each three quarters of an hour");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_early_refresh_keeps_key_and_retries() {
        let (giver, renewal) = giver(3_600, 0, &[away(), refused()]);
        tokio::time::sleep(Duration::from_secs(2_701)).await;
        for _ in 0..20 {
            assert_eq!(current(&renewal).await, "K0");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(giver.fetches.load(Ordering::Relaxed), 1, "it pauses");
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            current(&renewal).await;
        }
        assert_eq!((giver.fetches.load(Ordering::Relaxed), current(&renewal).await.as_str()), (3, "K3"));
    }

    #[tokio::test(start_paused = true)]
    async fn expired_credentials_are_fetched_once_for_all_waiters() {
        let (giver, renewal) = giver(900, 7, &[away(), refused()]);
        tokio::time::sleep(Duration::from_secs(891)).await;
        let mut heard = Vec::new();
        for n in 1..=3 {
            let all = futures::future::join_all((0..64).map(|_| renewal.current())).await;
            assert_eq!(giver.fetches.load(Ordering::Relaxed), n);
            assert!(all.iter().all(|one| format!("{one:?}") == format!("{:?}", all[0])), "{all:?}");
            heard.push(all.into_iter().next().unwrap().unwrap_err());
        }
        assert!(matches!(&heard[0], NoAnswer::NotSent(fault) if fault.kind == FailureKind::ConnectFailed), "{heard:?}");
        assert!(matches!(&heard[1], NoAnswer::Fatal(_)), "{heard:?}");
        // It has taken its time: the call has to wait for another turn.
        assert!(matches!(&heard[2], NoAnswer::NotSent(fault) if fault.kind == FailureKind::KeyRenewed), "{heard:?}");
        assert_eq!(current(&renewal).await, "K3");
    }

    #[tokio::test(start_paused = true)]
    async fn key_that_the_service_refuses_is_replaced_once() {
        let (giver, renewal) = giver(3_600, 1, &[]);
        let old = renewal.current().await.unwrap();
        let all = futures::future::join_all((0..64).map(|_| renewal.refused(&old))).await;
        assert!(all.iter().all(|one| *one == Ok(true)), "{all:?}");
        assert_eq!((giver.fetches.load(Ordering::Relaxed), current(&renewal).await.as_str()), (1, "K1"));
        // Who was refused with the old one comes late.
        assert_eq!(renewal.refused(&old).await, Ok(true));
        let new = renewal.current().await.unwrap();
        assert_eq!(renewal.refused(&new).await, Ok(false), "the next one would be refused too");
        assert_eq!(giver.fetches.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn static_credentials_never_expire() {
        let lasting = TemporaryCredentials { ends: None, ..grant(0, Duration::ZERO) };
        let renewal = RefreshingCredentials::new(&lasting, None);
        tokio::time::sleep(Duration::from_secs(1_000_000)).await;
        assert_eq!(current(&renewal).await, "K0");
        assert_eq!(renewal.refused(&lasting.key).await, Ok(false));
    }
}
