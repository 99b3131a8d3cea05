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

use super::{error::FetchError, grant::Grant};
use crate::{
    api::NoAnswer,
    domain::{Fault, FaultKind},
    secret::AccessKey,
};

/// How long before its end a key is renewed (PY-CRED, refreshable.py STALE_TIME): a quarter of STS' hour.
const AHEAD: Duration = Duration::from_secs(15 * 60);
/// Of a key of a short life, this part.
const AHEAD_PART: u32 = 4;
/// A key that ends within this is not used: a request may be as long on its way. Twice our transport's limit to connect.
const MARGIN: Duration = Duration::from_secs(10);
/// Of a key of a short life, this part.
const MARGIN_PART: u32 = 10;
/// From a fetch that has failed to the next one, while the key holds (PY-CRED, refreshable.py: 10 s to begin with).
const PAUSE: Duration = Duration::from_secs(10);

/// What gives keys.
pub(super) type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<Grant, FetchError>> + Send + Sync>;

/// See the module.
pub(super) struct Renewal {
    /// None: the key is the only one that there is.
    fetch: Option<Fetch>,
    state: Mutex<State>,
    /// Whoever fetches has it.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    key: AccessKey,
    term: Option<Term>,
    /// Was it fetched because the service had refused the one before?
    follows_refused: bool,
    /// Fetches that have come to an end.
    fetches: u64,
    /// How the last of them failed.
    failure: Option<FetchError>,
}

/// The times of a key that has an end.
#[derive(Debug, Clone, Copy)]
struct Term {
    renew_at: Instant,
    ends_at: Instant,
    /// Shorter for a key of a short life.
    pause: Duration,
}

impl Term {
    fn of(grant: &Grant) -> Option<Self> {
        let life = grant.ends?;
        let at = |before_end: Duration| life.from + life.length.saturating_sub(before_end);
        let ahead = AHEAD.min(life.length / AHEAD_PART);
        let margin = MARGIN.min(life.length / MARGIN_PART);
        Some(Self { renew_at: at(ahead), ends_at: at(margin), pause: PAUSE.min(ahead / AHEAD_PART) })
    }
}

/// What is to be done with the key.
enum Standing {
    Holds(AccessKey),
    IsDue(AccessKey),
    HasEnded,
}

impl State {
    fn standing(&self, now: Instant) -> Standing {
        match self.term {
            Some(term) if now >= term.ends_at => Standing::HasEnded,
            Some(term) if now >= term.renew_at => Standing::IsDue(self.key.clone()),
            Some(_) | None => Standing::Holds(self.key.clone()),
        }
    }
}

impl Renewal {
    /// Begins with a key that has been fetched.
    pub(super) fn new(first: &Grant, fetch: Option<Fetch>) -> Arc<Self> {
        let state =
            State { key: first.key.clone(), term: Term::of(first), follows_refused: false, fetches: 0, failure: None };
        Arc::new(Self { fetch, state: Mutex::new(state), turn: Arc::default() })
    }

    /// The key as it is shown.
    pub(super) fn masked_id(&self) -> String {
        self.state().key.masked_id()
    }

    /// The key of the moment. Returns at once, unless it has ended.
    pub(super) async fn current(self: &Arc<Self>) -> Result<AccessKey, NoAnswer> {
        let standing = self.state().standing(Instant::now());
        match standing {
            Standing::Holds(key) => Ok(key),
            Standing::IsDue(key) => {
                if let Ok(turn) = self.turn.clone().try_lock_owned() {
                    let renewal = self.clone();
                    tokio::spawn(async move { renewal.renew_early(turn).await });
                }
                Ok(key)
            }
            Standing::HasEnded => {
                self.renew(false).await?;
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
        self.renew(true).await?;
        Ok(!self.state().key.is_same(key))
    }

    /// Waits for the fetch that is going on, or makes one.
    async fn renew(&self, is_refused: bool) -> Result<(), FetchError> {
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
    async fn renew_early(&self, turn: OwnedMutexGuard<()>) {
        // Someone may have been faster.
        if matches!(self.state().standing(Instant::now()), Standing::Holds(_)) {
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
                state.term = Term::of(&grant);
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
pub(in crate::api) fn renewed() -> Fault {
    let message = "the access key had ended; there is another one now".to_owned();
    Fault { kind: FaultKind::KeyRenewed, message, request_id: None }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::{super::grant::Life, *};
    use crate::domain::ApiCode;

    /// Gives keys K1, K2, ... of this life, each after this long; first of all what stands in `errors`.
    struct Giver {
        life: Duration,
        takes: Duration,
        errors: Mutex<VecDeque<FetchError>>,
        fetches: AtomicUsize,
    }

    fn grant(n: usize, life: Duration) -> Grant {
        let key = AccessKey::new(format!("K{n}"), "s".into(), Some("t".into()));
        Grant { key, ends: Some(Life { from: Instant::now(), length: life }), role: None }
    }

    fn giver(life: u64, takes: u64, errors: &[FetchError]) -> (Arc<Giver>, Arc<Renewal>) {
        let giver = Arc::new(Giver {
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
        let renewal = Renewal::new(&grant(0, giver.life), Some(fetch));
        (giver, renewal)
    }

    fn away() -> FetchError {
        FetchError::Away(Fault { kind: FaultKind::ConnectFailed, message: "away".into(), request_id: None })
    }

    fn refused() -> FetchError {
        FetchError::Refused { code: ApiCode("NoPermission".into()), message: "no".into() }
    }

    async fn current(renewal: &Arc<Renewal>) -> String {
        renewal.current().await.unwrap().id().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn one_caller_renews_before_the_end_and_nobody_waits_or_has_a_key_that_has_ended() {
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
    async fn renewal_that_fails_early_keeps_the_old_key_and_is_tried_again_after_a_pause() {
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
    async fn after_the_end_all_wait_for_one_fetch_and_what_it_says_goes_for_all() {
        let (giver, renewal) = giver(900, 7, &[away(), refused()]);
        tokio::time::sleep(Duration::from_secs(891)).await;
        let mut heard = Vec::new();
        for n in 1..=3 {
            let all = futures::future::join_all((0..64).map(|_| renewal.current())).await;
            assert_eq!(giver.fetches.load(Ordering::Relaxed), n);
            assert!(all.iter().all(|one| format!("{one:?}") == format!("{:?}", all[0])), "{all:?}");
            heard.push(all.into_iter().next().unwrap().unwrap_err());
        }
        assert!(matches!(&heard[0], NoAnswer::NotSent(fault) if fault.kind == FaultKind::ConnectFailed), "{heard:?}");
        assert!(matches!(&heard[1], NoAnswer::Fatal(_)), "{heard:?}");
        // It has taken its time: the call has to wait for another turn.
        assert!(matches!(&heard[2], NoAnswer::NotSent(fault) if fault.kind == FaultKind::KeyRenewed), "{heard:?}");
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
    async fn key_that_stands_somewhere_has_no_end_and_no_successor() {
        let lasting = Grant { ends: None, ..grant(0, Duration::ZERO) };
        let renewal = Renewal::new(&lasting, None);
        tokio::time::sleep(Duration::from_secs(1_000_000)).await;
        assert_eq!(current(&renewal).await, "K0");
        assert_eq!(renewal.refused(&lasting.key).await, Ok(false));
    }
}
