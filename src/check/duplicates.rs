//! Finds equal and similar ids within a group, in 16 bytes a row.
//!
//! It stores hashes instead of ids. The key is the hash of the folded id (without case and Unicode normalisation); the
//! value holds the first row with that id and a few bits of the hash of the id as written. Only an id that differs from
//! the first one with the same folded form needs its own entry.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use unicode_normalization::UnicodeNormalization;

use crate::domain::{Item, MerchantUserId};

/// Bits of a value that hold the row number; the other 24 distinguish ids with the same folded form.
const ROW_BITS: u32 = 40;

/// How an id relates to the ids before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdMatch {
    /// No earlier id has the same folded form.
    New,
    /// This row has the same id.
    Duplicate(u64),
    /// This row has an id that differs only in case or Unicode normalisation.
    Similar(u64),
}

/// Ids of all groups by hash. Among a million ids, the chance of a false match is 1 in 37 million.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    /// Hash of the folded id -> first row, and bits of the hash of the id as written.
    first: HashMap<u64, u64>,
    /// Hash of the id as written -> row, for ids that are not the first of their folded form.
    others: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Duplicates {
    /// Compares an id with those before it.
    pub(super) fn compare(&mut self, item: &Item) -> IdMatch {
        let written = self.hasher.hash_one((&item.group, &item.user));
        let folded = self.hasher.hash_one((&item.group, fold(&item.user)));
        let row_mask = (1 << ROW_BITS) - 1;
        match self.first.entry(folded) {
            Entry::Vacant(free) => {
                free.insert((written & !row_mask) | (item.row & row_mask));
                IdMatch::New
            }
            Entry::Occupied(first) => {
                let first = *first.get();
                if (first ^ written) & !row_mask == 0 {
                    return IdMatch::Duplicate(first & row_mask);
                }
                match self.others.entry(written) {
                    Entry::Occupied(other) => IdMatch::Duplicate(*other.get()),
                    Entry::Vacant(free) => {
                        free.insert(item.row);
                        IdMatch::Similar(first & row_mask)
                    }
                }
            }
        }
    }
}

/// Removes what people overlook: case and Unicode normalisation.
fn fold(id: &MerchantUserId) -> String {
    let id = id.as_str();
    if id.is_ascii() {
        return id.to_ascii_lowercase();
    }
    // Upper case first, so that a sharp s equals SS and a final sigma equals other sigmas.
    id.nfc().collect::<String>().to_uppercase().to_lowercase().nfc().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Extra, FaceGroupCode, PhotoSource};

    fn item(row: u64, group: &str, user: &str) -> Item {
        Item {
            row,
            group: FaceGroupCode::parse(group).unwrap(),
            user: MerchantUserId::parse(user).unwrap(),
            picture: PhotoSource::Path("a.jpg".into()),
            extra: Extra::new(),
            origin: None,
        }
    }

    #[test]
    fn ids_that_differ_in_case_or_normalisation_are_similar() {
        let mut duplicates = Duplicates::default();
        for (row, (user, expected)) in (2..).zip([
            ("Müller", IdMatch::New),
            ("Mu\u{308}ller", IdMatch::Similar(2)),
            ("MÜLLER", IdMatch::Similar(2)),
            ("Mu\u{308}ller", IdMatch::Duplicate(3)),
            ("Müller", IdMatch::Duplicate(2)),
            ("Muller", IdMatch::New),
            ("e1", IdMatch::New),
            ("E1", IdMatch::Similar(8)),
            ("Strasse", IdMatch::New),
            ("Straße", IdMatch::Similar(10)),
        ]) {
            assert_eq!(duplicates.compare(&item(row, "g", user)), expected, "{user}");
        }
        assert_eq!(duplicates.compare(&item(99, "h", "Müller")), IdMatch::New, "another group");
    }

    proptest! {
        #[test]
        fn comparison_agrees_with_plain_list(users in prop::collection::vec("[aAbB]|é|e\u{301}|É|[a-c]{2}", 1..40)) {
            let mut duplicates = Duplicates::default();
            for (at, user) in users.iter().enumerate() {
                let folded = |user: &str| user.nfc().collect::<String>().to_lowercase();
                let row = |at: usize| at as u64 + 2;
                let same = users[..at].iter().position(|other| other == user).map(row);
                let similar = users[..at].iter().position(|other| folded(other) == folded(user)).map(row);
                let expected = match (same, similar) {
                    (Some(same), _) => IdMatch::Duplicate(same),
                    (None, Some(similar)) => IdMatch::Similar(similar),
                    (None, None) => IdMatch::New,
                };
                prop_assert_eq!(duplicates.compare(&item(row(at), "g", user)), expected);
            }
        }
    }
}
