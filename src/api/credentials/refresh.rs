//! Refreshes a key before it expires, while callers keep using the valid one.
//!
//! Only one fetch runs at a time. Before expiry it runs in the background and nobody waits, because a waiting caller would
//! use its gate permit too late. After expiry the key is not used: all callers wait for the same fetch, and their calls
//! count as not sent, so that each gets a new permit.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{sync::OwnedMutexGuard, time::Instant};

use super::{error::FetchError, temporary::TemporaryCredentials};
use crate::{
    api::TransportError,
    domain::{CallFailure, FailureKind},
    secret::AccessKey,
};

/// Refresh this long before expiry (PY-CRED, refreshable.py STALE_TIME): a quarter of STS' hour.
const REFRESH_BEFORE_EXPIRY: Duration = Duration::from_secs(15 * 60);
/// Refresh a short-lived key at 1/4 of its lifetime before expiry.
const REFRESH_FRACTION: u32 = 4;
/// Do not use a key that expires within this, because the request may arrive later. Twice our connect timeout.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);
/// Do not use a short-lived key in the last 1/10 of its lifetime.
const EXPIRY_MARGIN_FRACTION: u32 = 10;
/// Pause after a failed fetch while the key is still valid (PY-CRED, refreshable.py: initially 10 s).
const RETRY_PAUSE: Duration = Duration::from_secs(10);

/// Fetches a new key.
pub(super) type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<TemporaryCredentials, FetchError>> + Send + Sync>;

/// A key and the means to refresh it.
pub(super) struct RefreshingCredentials {
    /// `None` for a static key.
    fetch: Option<Fetch>,
    state: Mutex<State>,
    /// Held during a fetch.
    refresh_lock: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    key: AccessKey,
    expiry: Option<Expiry>,
    /// Whether the key replaced one that the service rejected.
    follows_rejection: bool,
    /// Number of completed fetches.
    fetches: u64,
    /// Error of the last fetch, if it failed.
    failure: Option<FetchError>,
}

/// Deadlines of a key that expires.
#[derive(Debug, Clone, Copy)]
struct Expiry {
    refresh_at: Instant,
    /// The key is not used any more.
    expires_at: Instant,
    /// The key is not valid any more.
    ends_at: Instant,
    /// Shorter for a short-lived key.
    retry_pause: Duration,
}

impl Expiry {
    fn of(credentials: &TemporaryCredentials) -> Option<Self> {
        let ttl = credentials.ttl?;
        let at = |before_end: Duration| ttl.from + ttl.length.saturating_sub(before_end);
        let ahead = REFRESH_BEFORE_EXPIRY.min(ttl.length / REFRESH_FRACTION);
        let margin = EXPIRY_MARGIN.min(ttl.length / EXPIRY_MARGIN_FRACTION);
        Some(Self {
            refresh_at: at(ahead),
            expires_at: at(margin),
            ends_at: at(Duration::ZERO),
            retry_pause: RETRY_PAUSE.min(ahead / REFRESH_FRACTION),
        })
    }
}

/// Whether the key can be used.
enum CacheState {
    Fresh(AccessKey),
    RefreshDue(AccessKey),
    Expired,
}

impl State {
    /// The key and the rest of its life.
    fn rest(&self) -> (AccessKey, Option<Duration>) {
        let left = self.expiry.map(|expiry| expiry.ends_at.saturating_duration_since(Instant::now()));
        (self.key.clone(), left)
    }

    fn cache_state(&self, now: Instant) -> CacheState {
        match self.expiry {
            Some(expiry) if now >= expiry.expires_at => CacheState::Expired,
            Some(expiry) if now >= expiry.refresh_at => CacheState::RefreshDue(self.key.clone()),
            Some(_) | None => CacheState::Fresh(self.key.clone()),
        }
    }
}

impl RefreshingCredentials {
    /// Starts with a key that was just fetched.
    pub(super) fn new(first: &TemporaryCredentials, fetch: Option<Fetch>) -> Arc<Self> {
        let state = State {
            key: first.key.clone(),
            expiry: Expiry::of(first),
            follows_rejection: false,
            fetches: 0,
            failure: None,
        };
        Arc::new(Self { fetch, state: Mutex::new(state), refresh_lock: Arc::default() })
    }

    /// Key id, masked for display.
    pub(super) fn masked_id(&self) -> String {
        self.state().key.masked_id()
    }

    /// Current key. Returns at once unless the key has expired.
    pub(super) async fn current(self: &Arc<Self>) -> Result<AccessKey, TransportError> {
        let cache_state = self.state().cache_state(Instant::now());
        match cache_state {
            CacheState::Fresh(key) => Ok(key),
            CacheState::RefreshDue(key) => {
                if let Ok(lock) = self.refresh_lock.clone().try_lock_owned() {
                    let credentials = self.clone();
                    tokio::spawn(async move { credentials.refresh_ahead(lock).await });
                }
                Ok(key)
            }
            CacheState::Expired => {
                self.refresh(false).await?;
                Err(TransportError::NotSent(key_renewed()))
            }
        }
    }

    /// Current key and the rest of its life. One that lives shorter than `needed` is replaced first, if another can be had.
    pub(super) async fn lasting(
        self: &Arc<Self>,
        needed: Duration,
    ) -> Result<(AccessKey, Option<Duration>), TransportError> {
        self.current().await?;
        let (key, left) = self.state().rest();
        if self.fetch.is_none() || left.is_none_or(|left| left >= needed) {
            return Ok((key, left));
        }
        self.refresh(false).await?;
        Ok(self.state().rest())
    }

    /// Replaces a key that the service rejected, and returns whether there is another key now. A replacement that is
    /// rejected in turn is not replaced.
    pub(super) async fn replace_rejected(self: &Arc<Self>, key: &AccessKey) -> Result<bool, TransportError> {
        {
            let state = self.state();
            if !state.key.is_same(key) {
                return Ok(true);
            }
            if self.fetch.is_none() || state.follows_rejection {
                return Ok(false);
            }
        }
        self.refresh(true).await?;
        Ok(!self.state().key.is_same(key))
    }

    /// Waits for the running fetch, or starts one.
    async fn refresh(&self, after_rejection: bool) -> Result<(), FetchError> {
        let fetches_before = self.state().fetches;
        let lock = self.refresh_lock.clone().lock_owned().await;
        {
            let state = self.state();
            if state.fetches != fetches_before {
                return state.failure.clone().map_or(Ok(()), Err);
            }
        }
        self.fetch(&lock, after_rejection).await
    }

    /// Refreshes before expiry. A failure affects no caller yet.
    async fn refresh_ahead(&self, lock: OwnedMutexGuard<()>) {
        // Another caller may have refreshed it.
        if matches!(self.state().cache_state(Instant::now()), CacheState::Fresh(_)) {
            return;
        }
        if let Err(error) = self.fetch(&lock, false).await {
            tracing::warn!(%error, "could not refresh the access key; it is still valid, will retry");
            let mut state = self.state();
            if let Some(expiry) = &mut state.expiry {
                expiry.refresh_at = Instant::now() + expiry.retry_pause;
            }
        }
    }

    async fn fetch(&self, _lock: &OwnedMutexGuard<()>, after_rejection: bool) -> Result<(), FetchError> {
        let Some(fetch) = &self.fetch else { return Ok(()) };
        let fetched = fetch().await;
        let mut state = self.state();
        state.fetches += 1;
        match fetched {
            Ok(credentials) => {
                tracing::info!(key = credentials.key.masked_id(), "refreshed the access key");
                state.expiry = Expiry::of(&credentials);
                state.follows_rejection = after_rejection;
                state.key = credentials.key;
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

/// Failure of a call whose key had expired or was rejected, and has been replaced.
pub(in crate::api) fn key_renewed() -> CallFailure {
    let message = "the access key had expired or was rejected, and was replaced".to_owned();
    CallFailure { kind: FailureKind::KeyRenewed, message, request_id: None }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::{super::temporary::Ttl, *};
    use crate::domain::ErrorCode;

    /// Provides keys K1, K2, ... of this lifetime, each after `delay`; returns the `errors` first.
    struct CountingProvider {
        life: Duration,
        delay: Duration,
        errors: Mutex<VecDeque<FetchError>>,
        fetches: AtomicUsize,
    }

    fn grant(n: usize, life: Duration) -> TemporaryCredentials {
        let key = AccessKey::new(format!("K{n}"), "s".into(), Some("t".into()));
        TemporaryCredentials { key, ttl: Some(Ttl { from: Instant::now(), length: life }), role: None }
    }

    fn provider(life: u64, delay: u64, errors: &[FetchError]) -> (Arc<CountingProvider>, Arc<RefreshingCredentials>) {
        let provider = Arc::new(CountingProvider {
            life: Duration::from_secs(life),
            delay: Duration::from_secs(delay),
            errors: Mutex::new(errors.iter().cloned().collect()),
            fetches: AtomicUsize::new(0),
        });
        let shared = provider.clone();
        let fetch: Fetch = Box::new(move || {
            let provider = shared.clone();
            Box::pin(async move {
                let n = provider.fetches.fetch_add(1, Ordering::Relaxed) + 1;
                let grant = grant(n, provider.life);
                tokio::time::sleep(provider.delay).await;
                let error = provider.errors.lock().unwrap().pop_front();
                error.map_or(Ok(grant), Err)
            })
        });
        let credentials = RefreshingCredentials::new(&grant(0, provider.life), Some(fetch));
        (provider, credentials)
    }

    fn unavailable() -> FetchError {
        FetchError::Unavailable(CallFailure {
            kind: FailureKind::ConnectFailed,
            message: "unavailable".into(),
            request_id: None,
        })
    }

    fn rejected() -> FetchError {
        FetchError::Rejected { code: ErrorCode("NoPermission".into()), message: "no".into() }
    }

    async fn current(credentials: &Arc<RefreshingCredentials>) -> String {
        credentials.current().await.unwrap().id().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn refresh_ahead_is_single_flight_and_never_blocks() {
        let (provider, credentials) = provider(3_600, 5, &[]);
        let start = Instant::now();
        let callers = (0..50).map(|n| {
            let credentials = credentials.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                // Half a day, with a call every ten seconds.
                for _ in 0..4_320 {
                    tokio::time::sleep(Duration::from_millis(10_000 + n)).await;
                    let called_at = Instant::now();
                    let id = current(&credentials).await;
                    assert_eq!(called_at.elapsed(), Duration::ZERO, "the caller waited");
                    let number: u32 = id[1..].parse().unwrap();
                    // K0 is there from the start; each next key is fetched 15 minutes before the previous one expires.
                    let expires_at = start + Duration::from_secs(3_600) + Duration::from_secs(2_711) * number;
                    assert!(called_at < expires_at, "{id} has expired");
                    ids.push(number);
                }
                ids
            })
        });
        for caller in futures_util::future::join_all(callers).await {
            let ids = caller.unwrap();
            assert!(ids.is_sorted() && *ids.last().unwrap() >= 15, "{:?}", ids.last());
        }
        assert_eq!(provider.fetches.load(Ordering::Relaxed), 16, "one per 45 minutes");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_early_refresh_keeps_key_and_retries() {
        let (provider, credentials) = provider(3_600, 0, &[unavailable(), rejected()]);
        tokio::time::sleep(Duration::from_secs(2_701)).await;
        for _ in 0..20 {
            assert_eq!(current(&credentials).await, "K0");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(provider.fetches.load(Ordering::Relaxed), 1, "no retry during the pause");
        for _ in 0..30 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            current(&credentials).await;
        }
        assert_eq!((provider.fetches.load(Ordering::Relaxed), current(&credentials).await.as_str()), (3, "K3"));
    }

    #[tokio::test(start_paused = true)]
    async fn expired_credentials_are_fetched_once_for_all_waiters() {
        let (provider, credentials) = provider(900, 7, &[unavailable(), rejected()]);
        tokio::time::sleep(Duration::from_secs(891)).await;
        let mut errors = Vec::new();
        for n in 1..=3 {
            let all = futures_util::future::join_all((0..64).map(|_| credentials.current())).await;
            assert_eq!(provider.fetches.load(Ordering::Relaxed), n);
            assert!(all.iter().all(|one| format!("{one:?}") == format!("{:?}", all[0])), "{all:?}");
            errors.push(all.into_iter().next().unwrap().unwrap_err());
        }
        assert!(
            matches!(&errors[0], TransportError::NotSent(failure) if failure.kind == FailureKind::ConnectFailed),
            "{errors:?}"
        );
        assert!(matches!(&errors[1], TransportError::Fatal(_)), "{errors:?}");
        // The fetch took time: the call needs a new permit.
        assert!(
            matches!(&errors[2], TransportError::NotSent(failure) if failure.kind == FailureKind::KeyRenewed),
            "{errors:?}"
        );
        assert_eq!(current(&credentials).await, "K3");
    }

    #[tokio::test(start_paused = true)]
    async fn rejected_key_is_replaced_once() {
        let (provider, credentials) = provider(3_600, 1, &[]);
        let old = credentials.current().await.unwrap();
        let all = futures_util::future::join_all((0..64).map(|_| credentials.replace_rejected(&old))).await;
        assert!(all.iter().all(|one| *one == Ok(true)), "{all:?}");
        assert_eq!((provider.fetches.load(Ordering::Relaxed), current(&credentials).await.as_str()), (1, "K1"));
        // A caller rejected with the old key arrives late.
        assert_eq!(credentials.replace_rejected(&old).await, Ok(true));
        let new = credentials.current().await.unwrap();
        assert_eq!(credentials.replace_rejected(&new).await, Ok(false), "a replacement is not replaced again");
        assert_eq!(provider.fetches.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn key_that_must_last_is_replaced_in_time() {
        let (provider, credentials) = provider(900, 1, &[unavailable(), unavailable()]);
        let needed = Duration::from_secs(300);
        let lasting = async || {
            let (key, left) = credentials.lasting(needed).await?;
            Ok::<_, TransportError>((key.id().to_owned(), left.map(|left| left.as_secs())))
        };
        tokio::time::sleep(Duration::from_secs(599)).await;
        assert_eq!(lasting().await, Ok(("K0".into(), Some(301))));
        tokio::time::sleep(Duration::from_secs(2)).await;
        // K0 is good for a call, but not for a link, while no other key can be had.
        assert!(matches!(lasting().await, Err(TransportError::NotSent(_))));
        assert_eq!(current(&credentials).await, "K0");
        assert!(lasting().await.is_err());
        assert_eq!(lasting().await, Ok(("K3".into(), Some(899))));
        assert_eq!(provider.fetches.load(Ordering::Relaxed), 3);
        // A key that never lives that long is handed out with what it has.
        let (_, credentials) = self::provider(60, 0, &[]);
        assert_eq!(credentials.lasting(needed).await.unwrap().1, Some(Duration::from_secs(60)));
    }

    #[tokio::test(start_paused = true)]
    async fn static_credentials_never_expire() {
        let lasting = TemporaryCredentials { ttl: None, ..grant(0, Duration::ZERO) };
        let credentials = RefreshingCredentials::new(&lasting, None);
        tokio::time::sleep(Duration::from_secs(1_000_000)).await;
        assert_eq!(current(&credentials).await, "K0");
        assert_eq!(credentials.replace_rejected(&lasting.key).await, Ok(false));
    }
}
