//! Finds equal and similar ids within a group, in 24 bytes a row.
//!
//! It stores hashes instead of ids. The key is the hash of the folded id (without case and Unicode normalisation); the
//! value holds the first row with that id, a few bits of the hash of the id as written, and a hash of the photo. Only an id
//! that differs from the first one with the same folded form needs its own entry.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use icu_normalizer::ComposingNormalizerBorrowed;

use crate::domain::{Item, MerchantUserId, PhotoSource};

/// Bits of a value that hold the row number; the other 24 distinguish ids with the same folded form.
const ROW_BITS: u32 = 40;
const ROW_MASK: u64 = (1 << ROW_BITS) - 1;

/// How an id relates to the ids before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdMatch {
    /// No earlier id has the same folded form.
    New,
    /// This row has the same id and another photo.
    Duplicate(u64),
    /// This row has the same id and names the same photo.
    Repeated(u64),
    /// This row has an id that differs only in case or Unicode normalisation.
    Similar(u64),
}

/// Ids of all groups by hash. Among a million ids, the chance of a false match is 1 in 37 million.
#[derive(Debug, Default)]
pub(super) struct Duplicates {
    /// Hash of the folded id -> first row, and bits of the hash of the id as written.
    first: HashMap<u64, FirstRow>,
    /// Hash of the id as written -> row, for ids that are not the first of their folded form.
    others: HashMap<u64, FirstRow>,
    hasher: RandomState,
}

/// The first row with an id.
#[derive(Debug, Clone, Copy)]
struct FirstRow {
    row_and_id: u64,
    /// Hash of the photo's path or link.
    photo: u32,
}

impl FirstRow {
    fn same_id(self, photo: u32) -> IdMatch {
        let row = self.row_and_id & ROW_MASK;
        if self.photo == photo { IdMatch::Repeated(row) } else { IdMatch::Duplicate(row) }
    }
}

impl Duplicates {
    /// Compares an id with those before it.
    pub(super) fn compare(&mut self, item: &Item) -> IdMatch {
        let written = self.hasher.hash_one((&item.group, &item.user));
        let folded = self.hasher.hash_one((&item.group, fold(&item.user)));
        let link = match &item.picture {
            PhotoSource::Object(object, _) => Some(object.to_string()),
            PhotoSource::Url(url) => Some(url.0.clone()),
            PhotoSource::Path(_) | PhotoSource::Member(_) => None,
        };
        // Two members of an archive may have the same name.
        let at = if let PhotoSource::Member(member) = &item.picture { Some(member.at) } else { None };
        let photo = self.hasher.hash_one((item.picture.path(), at, link)) as u32;
        let row = FirstRow { row_and_id: (written & !ROW_MASK) | (item.row & ROW_MASK), photo };
        match self.first.entry(folded) {
            Entry::Vacant(free) => {
                free.insert(row);
                IdMatch::New
            }
            Entry::Occupied(first) => {
                let first = *first.get();
                if (first.row_and_id ^ written) & !ROW_MASK == 0 {
                    return first.same_id(photo);
                }
                match self.others.entry(written) {
                    Entry::Occupied(other) => other.get().same_id(photo),
                    Entry::Vacant(free) => {
                        free.insert(row);
                        IdMatch::Similar(first.row_and_id & ROW_MASK)
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
    let nfc = ComposingNormalizerBorrowed::new_nfc();
    nfc.normalize(&nfc.normalize(id).to_uppercase().to_lowercase()).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Extra, FaceGroupCode};

    fn item(row: u64, group: &str, user: &str) -> Item {
        Item {
            row,
            group: FaceGroupCode::parse(group).unwrap(),
            user: MerchantUserId::parse(user).unwrap(),
            picture: PhotoSource::Path(format!("{row}.jpg").into()),
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

    #[test]
    fn repeated_row_is_told_from_duplicate_id() {
        let mut duplicates = Duplicates::default();
        for (at, (user, photo, expected)) in (2..).zip([
            ("a", "1.jpg", IdMatch::New),
            ("a", "1.jpg", IdMatch::Repeated(2)),
            ("a", "2.jpg", IdMatch::Duplicate(2)),
            ("a", "1.jpg", IdMatch::Repeated(2)),
            ("A", "1.jpg", IdMatch::Similar(2)),
            ("A", "1.jpg", IdMatch::Repeated(6)),
            ("A", "2.jpg", IdMatch::Duplicate(6)),
        ]) {
            let item = Item { picture: PhotoSource::Path(photo.into()), ..item(at, "g", user) };
            assert_eq!(duplicates.compare(&item), expected, "row {at}");
        }
    }

    proptest! {
        #[test]
        fn comparison_agrees_with_plain_list(users in prop::collection::vec("[aAbB]|é|e\u{301}|É|[a-c]{2}", 1..40)) {
            let mut duplicates = Duplicates::default();
            for (at, user) in users.iter().enumerate() {
                let nfc = ComposingNormalizerBorrowed::new_nfc();
                let folded = |user: &str| nfc.normalize(user).to_lowercase();
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
