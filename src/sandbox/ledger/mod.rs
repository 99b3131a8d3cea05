//! The face records that there are: what a test counts to see whether anything was lost or made twice.
//!
//! Pure apart from its log, which is written before a change is made: what is not on disk does not exist.

mod log;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use self::log::{Entry, Log};
use super::{SandboxError, text};
use crate::domain::Digest;

/// The first `Id`: far from row numbers, so that nobody takes one for the other.
const FIRST_ID: i64 = 1_000_001;

/// One face record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The service's number: what DeleteFaceRecord takes.
    pub id: i64,
    /// The service's name of the face.
    pub face_id: String,
    /// Its group.
    pub group: String,
    /// Its `MerchantUserId`.
    pub user: String,
    /// When it was made, by the sandbox's clock.
    #[serde(with = "text::timestamp")]
    pub created: Timestamp,
    /// SHA-256 of the picture that came; none for a link.
    #[serde(with = "text::digest")]
    pub picture: Option<Digest>,
    /// Bytes of the picture that came; none for a link.
    pub picture_bytes: Option<u64>,
    /// When it was made, since the sandbox opened; none if it was there before.
    #[serde(skip)]
    pub made_at: Option<Duration>,
}

/// A record that is about to be made.
#[derive(Debug, Clone)]
pub(super) struct NewRecord {
    pub(super) group: String,
    pub(super) user: String,
    pub(super) created: Timestamp,
    pub(super) picture: Option<Digest>,
    pub(super) picture_bytes: Option<u64>,
    pub(super) made_at: Option<Duration>,
}

/// What a query wants to see.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) group: String,
    pub(super) user: Option<String>,
    pub(super) face_id: Option<String>,
    /// Records made after this are not to be seen yet.
    pub(super) made_until: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    records: BTreeMap<i64, Record>,
    by_group: HashMap<String, GroupIndex>,
    last_id: i64,
    log: Option<Log>,
}

/// Ids in the order in which they were made.
#[derive(Debug, Default)]
struct GroupIndex {
    all: Vec<i64>,
    by_user: HashMap<String, Vec<i64>>,
}

impl Ledger {
    /// Begins with what the file holds, and keeps it up to date.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, SandboxError> {
        let mut ledger = Self { last_id: FIRST_ID - 1, ..Self::default() };
        let Some(path) = path else { return Ok(ledger) };
        let (log, entries) = Log::open(path)?;
        for entry in entries {
            match entry {
                Entry::Add(record) => ledger.insert(record),
                Entry::Delete(id) => ledger.remove(id),
            }
        }
        ledger.log = Some(log);
        Ok(ledger)
    }

    /// Makes a record. An error means that there is none.
    pub(super) fn add(&mut self, new: NewRecord) -> io::Result<i64> {
        let id = self.last_id + 1;
        let NewRecord { group, user, created, picture, picture_bytes, made_at } = new;
        let face_id = format!("face{id:012}");
        let record = Record { id, face_id, group, user, created, picture, picture_bytes, made_at };
        if let Some(log) = &mut self.log {
            log.append(&Entry::Add(record.clone()))?;
        }
        self.insert(record);
        Ok(id)
    }

    /// Deletes a record. Was there one?
    pub(super) fn delete(&mut self, id: i64) -> io::Result<bool> {
        if !self.records.contains_key(&id) {
            return Ok(false);
        }
        if let Some(log) = &mut self.log {
            log.append(&Entry::Delete(id))?;
        }
        self.remove(id);
        Ok(true)
    }

    /// The page of the records asked for, and how many there are of them on all pages.
    pub(super) fn find(&self, filter: &Filter, offset: usize, limit: usize) -> (Vec<&Record>, usize) {
        let ids = self.by_group.get(&filter.group).map_or(&[][..], |group| match &filter.user {
            None => &group.all,
            Some(user) => group.by_user.get(user).map_or(&[][..], Vec::as_slice),
        });
        let read = |id: &i64| self.records.get(id);
        if filter.face_id.is_none() && filter.made_until.is_none() {
            // An audit pages through a million records: no page may cost more than itself.
            return (ids.iter().skip(offset).take(limit).filter_map(read).collect(), ids.len());
        }
        let seen = |record: &&Record| {
            filter.face_id.as_ref().is_none_or(|face_id| *face_id == record.face_id)
                && filter.made_until.is_none_or(|until| record.made_at.is_none_or(|at| at <= until))
        };
        let found: Vec<&Record> = ids.iter().filter_map(read).filter(seen).collect();
        let total = found.len();
        (found.into_iter().skip(offset).take(limit).collect(), total)
    }

    /// Every record of a user, in this group or in all.
    pub(super) fn of_user(&self, user: &str, group: Option<&str>) -> Vec<&Record> {
        let is_meant = |record: &&Record| group.is_none_or(|group| group == record.group);
        let ids = self.by_group.values().filter_map(|index| index.by_user.get(user)).flatten();
        ids.filter_map(|id| self.records.get(id)).filter(is_meant).collect()
    }

    /// The groups that have, or have had, a record.
    pub(super) fn groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = self.by_group.keys().cloned().collect();
        groups.sort();
        groups
    }

    /// Every record, in the order in which they were made.
    pub(super) fn all(&self) -> Vec<Record> {
        self.records.values().cloned().collect()
    }

    fn insert(&mut self, record: Record) {
        let index = self.by_group.entry(record.group.clone()).or_default();
        index.all.push(record.id);
        index.by_user.entry(record.user.clone()).or_default().push(record.id);
        self.last_id = self.last_id.max(record.id);
        self.records.insert(record.id, record);
    }

    fn remove(&mut self, id: i64) {
        let Some(record) = self.records.remove(&id) else { return };
        if let Some(index) = self.by_group.get_mut(&record.group) {
            index.all.retain(|&other| other != id);
            if let Some(ids) = index.by_user.get_mut(&record.user) {
                ids.retain(|&other| other != id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
