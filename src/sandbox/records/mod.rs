//! Face records of the sandbox. Tests count them to see whether anything was lost or duplicated.
//!
//! The log is written before a change is applied, so that a record that is not in the file does not exist.

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
use super::{SandboxError, serde_text};
use crate::domain::Digest;

/// First `Id`, far from row numbers so that the two are not confused.
const FIRST_ID: i64 = 1_000_001;

/// One face record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Id of the record, as used by DeleteFaceRecord.
    pub id: i64,
    /// `FaceId` of the record.
    pub face_id: String,
    /// Face group.
    pub group: String,
    /// `MerchantUserId` of the record.
    pub user: String,
    /// Time of creation by the sandbox's wall clock.
    #[serde(with = "serde_text::timestamp")]
    pub created: Timestamp,
    /// SHA-256 of the photo; `None` for a URL.
    #[serde(with = "serde_text::digest")]
    pub picture: Option<Digest>,
    /// Size of the photo in bytes; `None` for a URL.
    pub picture_bytes: Option<u64>,
    /// Time of creation since the sandbox started; `None` if no call of this process created it.
    #[serde(skip)]
    pub created_after: Option<Duration>,
}

/// A record to create.
#[derive(Debug, Clone)]
pub(super) struct NewRecord {
    pub(super) group: String,
    pub(super) user: String,
    pub(super) created: Timestamp,
    pub(super) picture: Option<Digest>,
    pub(super) picture_bytes: Option<u64>,
    pub(super) created_after: Option<Duration>,
}

/// Filter of a query.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) group: String,
    pub(super) user: Option<String>,
    pub(super) face_id: Option<String>,
    /// Hides records created after this time since the start.
    pub(super) created_until: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct RecordStore {
    records: BTreeMap<i64, Record>,
    by_group: HashMap<String, GroupIndex>,
    last_id: i64,
    log: Option<Log>,
}

/// Ids in order of creation.
#[derive(Debug, Default)]
struct GroupIndex {
    all: Vec<i64>,
    by_user: HashMap<String, Vec<i64>>,
}

impl RecordStore {
    /// Loads the records of the file, if one is given, and keeps it up to date.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, SandboxError> {
        let mut store = Self { last_id: FIRST_ID - 1, ..Self::default() };
        let Some(path) = path else { return Ok(store) };
        let (log, entries) = Log::open(path)?;
        for entry in entries {
            match entry {
                Entry::Add(record) => store.insert(record),
                Entry::Delete(id) => store.remove(id),
            }
        }
        store.log = Some(log);
        Ok(store)
    }

    /// Creates a record and returns its id. After an error no record exists.
    pub(super) fn add(&mut self, new: NewRecord) -> io::Result<i64> {
        let id = self.last_id + 1;
        let NewRecord { group, user, created, picture, picture_bytes, created_after } = new;
        let face_id = format!("face{id:012}");
        let record = Record { id, face_id, group, user, created, picture, picture_bytes, created_after };
        if let Some(log) = &mut self.log {
            log.append(&Entry::Add(record.clone()))?;
        }
        self.insert(record);
        Ok(id)
    }

    /// Deletes a record; returns whether it existed.
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

    /// One page of the matching records, and the number of matches on all pages.
    pub(super) fn find(&self, filter: &Filter, offset: usize, limit: usize) -> (Vec<&Record>, usize) {
        let ids = self.by_group.get(&filter.group).map_or(&[][..], |group| match &filter.user {
            None => &group.all,
            Some(user) => group.by_user.get(user).map_or(&[][..], Vec::as_slice),
        });
        let get = |id: &i64| self.records.get(id);
        if filter.face_id.is_none() && filter.created_until.is_none() {
            // An audit pages through a million records, so a page must cost no more than its own size.
            return (ids.iter().skip(offset).take(limit).filter_map(get).collect(), ids.len());
        }
        let is_visible = |record: &&Record| {
            filter.face_id.as_ref().is_none_or(|face_id| *face_id == record.face_id)
                && filter.created_until.is_none_or(|until| record.created_after.is_none_or(|at| at <= until))
        };
        let found: Vec<&Record> = ids.iter().filter_map(get).filter(is_visible).collect();
        let total = found.len();
        (found.into_iter().skip(offset).take(limit).collect(), total)
    }

    /// Records of a user in this group, or in all groups.
    pub(super) fn find_by_user(&self, user: &str, group: Option<&str>) -> Vec<&Record> {
        let is_in_group = |record: &&Record| group.is_none_or(|group| group == record.group);
        let ids = self.by_group.values().filter_map(|index| index.by_user.get(user)).flatten();
        ids.filter_map(|id| self.records.get(id)).filter(is_in_group).collect()
    }

    /// Groups that have or had a record, sorted.
    pub(super) fn groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = self.by_group.keys().cloned().collect();
        groups.sort();
        groups
    }

    /// All records in order of creation.
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
