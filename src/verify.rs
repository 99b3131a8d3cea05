//! Compares the checkpoint with what the service has, by QueryFaceRecord alone. Writes nothing, here or there.
//!
//! Pages shift while others write, and a record may be seen twice or not at all. So what the pages seem to show of
//! someone who is enrolled here is asked about by id before it is told.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{
    api::{Client, Lookup, LookupPages, RecordPage, Transport},
    checkpoint::{Reader, StoreError},
    domain::{CallFailure, FaceGroupCode, FailureKind, FatalError, ItemId, ItemState, MerchantUserId, Permit},
    pace::{Backoff, Gate},
};

/// Enrolled items read at once.
const BATCH: usize = 1_000;
/// A proxy that has not led to the service for so long, and never before, is set up wrongly.
const PROXY_PATIENCE: Duration = Duration::from_secs(10);

/// Where the checkpoint and the service differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Enrolled here; the service has no record.
    OnlyHere,
    /// The service has a record; here it stands so, or is not known at all.
    OnlyThere(Option<ItemState>),
    /// The service has several records of someone who is enrolled here.
    Several(usize),
}

/// What a comparison has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Enrolled here, and one record there.
    pub in_both: u64,
    /// See [`Difference::OnlyHere`].
    pub only_here: u64,
    /// See [`Difference::OnlyThere`]: records.
    pub only_there: u64,
    /// See [`Difference::Several`].
    pub several: u64,
    /// Questions asked.
    pub queries: u64,
}

impl AuditReport {
    /// Is there any?
    pub fn has_differences(&self) -> bool {
        self.only_here + self.only_there + self.several > 0
    }
}

/// Why a comparison came to no end.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The checkpoint can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A person must act first.
    #[error("{0}")]
    Fatal(FatalError),
    /// The service stayed away too long.
    #[error("the service gave no answer for too long: {}", .0.message)]
    Unanswered(CallFailure),
    /// An id in the checkpoint is none: it was not written by us.
    #[error("the checkpoint holds an id that is none: {0}")]
    NoId(String),
}

/// What a question brought.
enum Heard<R> {
    Answer(R),
    Throttled(Option<Duration>),
    Unanswered(CallFailure),
    Fatal(FatalError),
}

/// See the module.
pub struct Audit<T> {
    /// Asks.
    pub client: Client<T>,
    /// QueryFaceRecord's.
    pub gate: Gate,
    /// What is known here.
    pub reader: Reader,
    /// How long the service may stay away.
    pub give_up_after: Duration,
    /// What it has shown so far.
    pub compared: AuditReport,
    /// Has the service answered yet?
    pub was_answered: bool,
}

impl<T: Transport> Audit<T> {
    /// Everything that the group holds against everyone who is enrolled here.
    pub async fn whole(
        &mut self,
        group: &FaceGroupCode,
        tell: &mut dyn FnMut(&str, Difference),
    ) -> Result<(), AuditError> {
        let mut seen = Items::default();
        let mut seen_again = BTreeSet::new();
        let mut received = 0;
        for page in 1.. {
            let (records, total) = self.page(group, page).await?;
            if records.is_empty() {
                break;
            }
            received += records.len() as u64;
            for user in records {
                match self.reader.find(group.as_str(), &user)? {
                    Some((item, ItemState::Enrolled)) if !seen.add(item) => drop(seen_again.insert(item)),
                    Some((_, ItemState::Enrolled)) => {}
                    other => {
                        self.compared.only_there += 1;
                        tell(&user, Difference::OnlyThere(other.map(|(_, state)| state)));
                    }
                }
            }
            // The service may give fewer at once than it was asked for.
            if total.is_some_and(|total| received >= total) {
                break;
            }
        }
        let mut after = ItemId(0);
        loop {
            let enrolled = self.reader.enrolled(group.as_str(), after, BATCH)?;
            let Some((last, _)) = enrolled.last() else { return Ok(()) };
            after = *last;
            for (item, user) in enrolled {
                if seen.has(item) && !seen_again.contains(&item) {
                    self.compared.in_both += 1;
                } else {
                    self.one(group, &user, tell).await?;
                }
            }
        }
    }

    /// So many people who are enrolled here, drawn by lot and asked about one by one.
    pub async fn sample(
        &mut self,
        group: &FaceGroupCode,
        size: usize,
        tell: &mut dyn FnMut(&str, Difference),
    ) -> Result<(), AuditError> {
        for (_, user) in self.reader.sample(group.as_str(), size)? {
            self.one(group, &user, tell).await?;
        }
        Ok(())
    }

    /// Someone who is enrolled here.
    async fn one(
        &mut self,
        group: &FaceGroupCode,
        user: &str,
        tell: &mut dyn FnMut(&str, Difference),
    ) -> Result<(), AuditError> {
        let id = MerchantUserId::parse_recorded(user).map_err(|_| AuditError::NoId(user.to_owned()))?;
        let pages = &RefCell::new(LookupPages::default());
        let records = loop {
            let records = self
                .ask(async |client, permit| {
                    let number = pages.borrow().next_page();
                    let page = client.query_face_record(permit, (group, &id), number).await;
                    match pages.borrow_mut().add(page) {
                        None => Heard::Answer(None),
                        Some(Lookup::Present { records }) => Heard::Answer(Some(records.len())),
                        Some(Lookup::Absent) => Heard::Answer(Some(0)),
                        Some(Lookup::Throttled { retry_after }) => Heard::Throttled(retry_after),
                        Some(Lookup::Unanswered(fault)) => Heard::Unanswered(fault),
                        Some(Lookup::Fatal(fatal)) => Heard::Fatal(fatal),
                    }
                })
                .await?;
            if let Some(records) = records {
                break records;
            }
        };
        match records {
            0 => {
                self.compared.only_here += 1;
                tell(user, Difference::OnlyHere);
            }
            1 => self.compared.in_both += 1,
            several => {
                self.compared.several += 1;
                tell(user, Difference::Several(several));
            }
        }
        Ok(())
    }

    async fn page(&mut self, group: &FaceGroupCode, page: u64) -> Result<(Vec<String>, Option<u64>), AuditError> {
        self.ask(async |client, permit| match client.query_face_records(permit, group, page).await {
            RecordPage::Records { records, total } => {
                Heard::Answer((records.into_iter().map(|(user, _)| user).collect(), total))
            }
            RecordPage::Throttled { retry_after } => Heard::Throttled(retry_after),
            RecordPage::Unanswered(fault) => Heard::Unanswered(fault),
            RecordPage::Fatal(fatal) => Heard::Fatal(fatal),
        })
        .await
    }

    /// Until there is an answer.
    async fn ask<R>(&mut self, question: impl AsyncFn(&Client<T>, Permit) -> Heard<R>) -> Result<R, AuditError> {
        let mut backoff = Backoff::default();
        let mut away_since = None;
        loop {
            let permit = match self.gate.permit().await {
                Ok(permit) => permit,
                Err(deferred) => {
                    tokio::time::sleep_until(deferred.until).await;
                    continue;
                }
            };
            self.compared.queries += 1;
            let heard = question(&self.client, permit).await;
            let now = Instant::now();
            match heard {
                Heard::Answer(answer) => {
                    self.gate.observe(false, now);
                    self.was_answered = true;
                    return Ok(answer);
                }
                Heard::Throttled(pause) => {
                    self.gate.observe(true, now);
                    self.gate.pause(pause.unwrap_or_default(), now);
                }
                Heard::Unanswered(fault) => {
                    let away = now.saturating_duration_since(*away_since.get_or_insert(now));
                    if fault.kind == FailureKind::ProxyFailed && !self.was_answered && away > PROXY_PATIENCE {
                        return Err(AuditError::Fatal(FatalError::Proxy { message: fault.message }));
                    }
                    if away > self.give_up_after {
                        return Err(AuditError::Unanswered(fault));
                    }
                    tracing::warn!(fault = fault.message, "a query was not answered: asking again");
                    tokio::time::sleep(backoff.next(fastrand::f64())).await;
                }
                Heard::Fatal(fatal) => return Err(AuditError::Fatal(fatal)),
            }
        }
    }
}

/// A set of items, a bit each.
#[derive(Default)]
struct Items(Vec<u64>);

impl Items {
    /// False: it was there already.
    fn add(&mut self, item: ItemId) -> bool {
        let (word, bit) = Self::place(item);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    fn has(&self, item: ItemId) -> bool {
        let (word, bit) = Self::place(item);
        self.0.get(word).is_some_and(|found| found & bit != 0)
    }

    fn place(item: ItemId) -> (usize, u64) {
        let n = usize::try_from(item.0).unwrap_or(0);
        (n / 64, 1 << (n % 64))
    }
}
