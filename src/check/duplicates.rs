//! Ids that come twice in one group, or nearly so, in 16 bytes a row.
//!
//! Held are hashes, not ids: of the id as people read it (case and Unicode normalisation left out), with the row that had it
//! first and a few bits of the hash of the id as it was written. Only ids that differ from the first one of their kind
//! need an entry of their own.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use unicode_normalization::UnicodeNormalization;

use crate::domain::{Item, MerchantUserId};

/// Bits of a row's number that are kept; the rest of 64 tell ids of one kind apart.
const ROW_BITS: u32 = 40;

/// What an id is among those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kinship {
    /// The first of its kind.
    New,
    /// Row so-and-so has this very id.
    Duplicate(u64),
    /// Row so-and-so has an id that differs only in case or in Unicode normalisation.
    Similar(u64),
}

/// The ids of each group, by hash: of a million ids, two are taken for one in once in 37 million cases.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    /// By the folded id: the row, and bits of the hash of the id as written.
    first: HashMap<u64, u64>,
    /// By the id as written, where it is not the first of its kind.
    others: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Duplicates {
    /// Compares an id with those before it.
    pub(super) fn compare(&mut self, item: &Item) -> Kinship {
        let written = self.hasher.hash_one((&item.group, &item.user));
        let folded = self.hasher.hash_one((&item.group, fold(&item.user)));
        let row_mask = (1 << ROW_BITS) - 1;
        match self.first.entry(folded) {
            Entry::Vacant(free) => {
                free.insert((written & !row_mask) | (item.row & row_mask));
                Kinship::New
            }
            Entry::Occupied(first) => {
                let first = *first.get();
                if (first ^ written) & !row_mask == 0 {
                    return Kinship::Duplicate(first & row_mask);
                }
                match self.others.entry(written) {
                    Entry::Occupied(other) => Kinship::Duplicate(*other.get()),
                    Entry::Vacant(free) => {
                        free.insert(item.row);
                        Kinship::Similar(first & row_mask)
                    }
                }
            }
        }
    }
}

/// An id without what people don't see: its case and its normalisation.
fn fold(id: &MerchantUserId) -> String {
    let id = id.as_str();
    if id.is_ascii() {
        return id.to_ascii_lowercase();
    }
    // Upper case first: of a sharp s and a final sigma it makes what their capitals make.
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
            ("Müller", Kinship::New),
            ("Mu\u{308}ller", Kinship::Similar(2)),
            ("MÜLLER", Kinship::Similar(2)),
            ("Mu\u{308}ller", Kinship::Duplicate(3)),
            ("Müller", Kinship::Duplicate(2)),
            ("Muller", Kinship::New),
            ("e1", Kinship::New),
            ("E1", Kinship::Similar(8)),
            ("Strasse", Kinship::New),
            ("Straße", Kinship::Similar(10)),
        ]) {
            assert_eq!(duplicates.compare(&item(row, "g", user)), expected, "{user}");
        }
        assert_eq!(duplicates.compare(&item(99, "h", "Müller")), Kinship::New, "another group");
    }

    proptest! {
        #[test]
        fn any_ids_are_compared_as_a_list_of_them_would(users in prop::collection::vec("[aAbB]|é|e\u{301}|É|[a-c]{2}", 1..40)) {
            let mut duplicates = Duplicates::default();
            for (at, user) in users.iter().enumerate() {
                let kind = |user: &str| user.nfc().collect::<String>().to_lowercase();
                let row = |at: usize| at as u64 + 2;
                let same = users[..at].iter().position(|other| other == user).map(row);
                let alike = users[..at].iter().position(|other| kind(other) == kind(user)).map(row);
                let expected = match (same, alike) {
                    (Some(same), _) => Kinship::Duplicate(same),
                    (None, Some(alike)) => Kinship::Similar(alike),
                    (None, None) => Kinship::New,
                };
                prop_assert_eq!(duplicates.compare(&item(row(at), "g", user)), expected);
            }
        }
    }
}
