//! Compares the checkpoint with the service's records, using QueryFaceRecord only. Writes nothing on either side.
//!
//! Pages shift while others write, so a record may appear twice or not at all. Every apparent difference of an enrolled
//! item is therefore confirmed by a query for its id before it is reported.

use std::collections::BTreeSet;

use crate::{
    api::{Client, RecordPage, Transport},
    caller::{Queries, QueryError},
    checkpoint::{ItemSet, Reader, StoreError},
    domain::{CallFailure, FaceGroupCode, FatalError, ItemId, ItemState, MerchantUserId},
};

/// Enrolled items per read of the checkpoint.
const PAGE_SIZE: usize = 1_000;

/// Difference between the checkpoint and the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The item is enrolled here; the service has no record.
    OnlyHere,
    /// The service has a record; here the item has this state, or `None` if it is unknown.
    OnlyThere(Option<ItemState>),
    /// The service has this number of records of one enrolled item.
    Several(usize),
}

/// Result of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Enrolled items with exactly one record.
    pub in_both: u64,
    /// Enrolled items without a record.
    pub only_here: u64,
    /// Records without an enrolled item.
    pub only_there: u64,
    /// Enrolled items with several records.
    pub several: u64,
}

impl AuditReport {
    /// Whether any difference was found.
    pub fn has_differences(&self) -> bool {
        self.only_here + self.only_there + self.several > 0
    }
}

/// Error that ended a comparison early.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The checkpoint could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user must act first.
    #[error("{0}")]
    Fatal(FatalError),
    /// The service did not respond for too long.
    #[error("the service did not respond for too long: {}", .0.message)]
    Unanswered(CallFailure),
    /// An id in the checkpoint is invalid, so this program did not write it.
    #[error("checkpoint holds an invalid id: {0}")]
    InvalidId(String),
}

impl From<QueryError> for AuditError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Fatal(fatal) => Self::Fatal(fatal),
            QueryError::Unanswered(fault) => Self::Unanswered(fault),
            QueryError::Stopped => unreachable!("a comparison is never stopped"),
        }
    }
}

/// Comparison in progress.
pub struct Audit<T> {
    /// Queries of the service.
    pub queries: Queries<T>,
    /// Reader of the checkpoint.
    pub reader: Reader,
    /// Result so far.
    pub compared: AuditReport,
}

impl<T: Transport> Audit<T> {
    /// Compares all records of the group with all enrolled items.
    pub async fn whole(
        &mut self,
        group: &FaceGroupCode,
        emit: &mut dyn FnMut(&str, Difference),
    ) -> Result<(), AuditError> {
        let mut seen = ItemSet::default();
        let mut duplicates = BTreeSet::new();
        let mut received = 0;
        for page in 1.. {
            let (records, total) = self.page(group, page).await?;
            if records.is_empty() {
                break;
            }
            received += records.len() as u64;
            for user in records {
                match self.reader.find(group.as_str(), &user)? {
                    Some((item, ItemState::Enrolled)) if !seen.insert(item) => drop(duplicates.insert(item)),
                    Some((_, ItemState::Enrolled)) => {}
                    other => {
                        self.compared.only_there += 1;
                        emit(&user, Difference::OnlyThere(other.map(|(_, state)| state)));
                    }
                }
            }
            // A page may hold fewer records than requested.
            if total.is_some_and(|total| received >= total) {
                break;
            }
        }
        let mut after = ItemId(0);
        loop {
            let enrolled = self.reader.enrolled(group.as_str(), after, PAGE_SIZE)?;
            let Some((last, _)) = enrolled.last() else { return Ok(()) };
            after = *last;
            for (item, user) in enrolled {
                if seen.contains(item) && !duplicates.contains(&item) {
                    self.compared.in_both += 1;
                } else {
                    self.check_one(group, &user, emit).await?;
                }
            }
        }
    }

    /// Checks a random sample of enrolled items one by one.
    pub async fn sample(
        &mut self,
        group: &FaceGroupCode,
        size: usize,
        emit: &mut dyn FnMut(&str, Difference),
    ) -> Result<(), AuditError> {
        for (_, user) in self.reader.sample(group.as_str(), size)? {
            self.check_one(group, &user, emit).await?;
        }
        Ok(())
    }

    /// Checks one enrolled item.
    async fn check_one(
        &mut self,
        group: &FaceGroupCode,
        user: &str,
        emit: &mut dyn FnMut(&str, Difference),
    ) -> Result<(), AuditError> {
        let id = MerchantUserId::parse_recorded(user).map_err(|_| AuditError::InvalidId(user.to_owned()))?;
        let records = self.queries.records(group, &id).await?.len();
        match records {
            0 => {
                self.compared.only_here += 1;
                emit(user, Difference::OnlyHere);
            }
            1 => self.compared.in_both += 1,
            several => {
                self.compared.several += 1;
                emit(user, Difference::Several(several));
            }
        }
        Ok(())
    }

    async fn page(&mut self, group: &FaceGroupCode, page: u64) -> Result<(Vec<String>, Option<u64>), AuditError> {
        let query = async |client: &Client<T>, permit| client.query_face_records(permit, group, page).await;
        let RecordPage { records, total } = self.queries.query(query).await?;
        Ok((records.into_iter().map(|(user, _)| user).collect(), total))
    }
}
