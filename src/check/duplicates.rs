//! Ids that come twice in one group, in 16 bytes a row.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use crate::domain::Item;

/// First row of each (group, id), by hash: of a million ids, two are taken for one in once in 37 million cases.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    first: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Duplicates {
    /// The row that had this id first, if it was another one.
    pub(super) fn first(&mut self, item: &Item) -> Option<u64> {
        match self.first.entry(self.hasher.hash_one((&item.group, &item.user))) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(free) => {
                free.insert(item.row);
                None
            }
        }
    }
}
