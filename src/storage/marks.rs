//! Stamps of objects from pages of listings, to tell unchanged photos without a request for each.
//!
//! A page begins right before the object that is looked for and shows the next thousand as well. A manifest in the order of
//! the keys costs one request per thousand rows; one in any order soon has all of its keys covered; a short one in a large
//! bucket costs at most one request per row.

use std::{
    collections::{BTreeMap, HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    ops::Bound::{Excluded, Unbounded},
};

use super::object::stamp;
use crate::{
    api::oss::{ListRequest, ObjectPage},
    domain::{FileStamp, ObjectRef},
};

/// Most stamps that are remembered: 32 bytes each.
const MAX_STAMPS: usize = 400_000;

/// Ranges of keys that were listed, and the stamps found in them.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// End of each range of listed keys by its start: the start excluded, the end included; `None` is the end of the bucket.
    ranges: BTreeMap<ObjectRef, Option<String>>,
    /// Stamps by the hash of the object; an object of the same hash would pass for another once in 2^64.
    stamps: HashMap<u64, FileStamp>,
}

impl Marks {
    /// Whether a page has shown the place of the object.
    pub(super) fn covers(&self, object: &ObjectRef) -> bool {
        let before = self.ranges.range((Unbounded, Excluded(object))).next_back();
        before.is_some_and(|(start, end)| {
            start.bucket == object.bucket && end.as_ref().is_none_or(|end| *end >= object.key)
        })
    }

    pub(super) fn find(&self, object: &ObjectRef) -> Option<FileStamp> {
        self.stamps.get(&hash(&object.bucket, &object.key)).copied()
    }

    /// Key behind which a listing of this prefix begins that shows the object.
    pub(super) fn start_before(&self, object: &ObjectRef, prefix: &str) -> String {
        let start = predecessor(&object.key).max(prefix.to_owned());
        let (mut range, mut from) = (ObjectRef { bucket: object.bucket.clone(), key: start.clone() }, start);
        // Pages that begin right before the object and do not reach it are followed by the next one.
        while let Some(Some(end)) = self.ranges.get(&range) {
            from.clone_from(end);
            range.key.clone_from(end);
        }
        from
    }

    /// Remembers a page of the listing.
    pub(super) fn add(&mut self, bucket: &str, listed: &ListRequest, page: &ObjectPage) {
        if self.stamps.len() + page.objects.len() > MAX_STAMPS {
            self.ranges.clear();
            self.stamps.clear();
        }
        let last = || page.objects.last().map(|object| object.key.clone());
        let end = match (&page.next, listed.prefix.as_str()) {
            (Some(_), _) => last(),
            (None, "") => None,
            // No key with the prefix comes after this.
            (None, prefix) => Some(format!("{prefix}{}", char::MAX)),
        };
        self.ranges.insert(ObjectRef { bucket: bucket.to_owned(), key: listed.start_after.clone() }, end);
        for object in &page.objects {
            self.stamps.insert(hash(bucket, &object.key), stamp(object.size, &object.etag));
        }
    }
}

fn hash(bucket: &str, key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (bucket, key).hash(&mut hasher);
    hasher.finish()
}

/// A text that sorts before the key, with few other keys in between.
fn predecessor(key: &str) -> String {
    let Some(last) = key.chars().next_back() else { return String::new() };
    let stem = &key[..key.len() - last.len_utf8()];
    match (0..u32::from(last)).rev().find_map(char::from_u32).filter(|before| *before > ' ') {
        Some(before) => format!("{stem}{before}~"),
        None => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::oss::ListedObject;

    /// What a bucket with these keys answers, two keys a page.
    fn page(keys: &[String], start: &str) -> ObjectPage {
        let behind: Vec<&String> = keys.iter().filter(|key| key.as_str() > start).collect();
        let object = |key: &&String| ListedObject { key: (*key).clone(), size: 1, etag: format!("\"{key}\"") };
        let objects: Vec<ListedObject> = behind.iter().take(2).map(object).collect();
        let next = (behind.len() > 2).then(|| "t".to_owned());
        ObjectPage { objects, next }
    }

    proptest! {
        #[test]
        fn every_stamp_is_found_whatever_the_order(
            mut keys in prop::collection::vec("[a-c~é张]{1,4}", 0..40),
            asked in prop::collection::vec("[a-c~é张]{1,4}", 0..40),
        ) {
            keys.sort();
            keys.dedup();
            let mut marks = Marks::default();
            for key in asked.iter().chain(&keys) {
                let object = ObjectRef { bucket: "faces".into(), key: key.clone() };
                let mut pages = 0;
                while !marks.covers(&object) {
                    let start = marks.start_before(&object, "");
                    prop_assert!(start < *key, "{} {}", start, key);
                    let page = page(&keys, &start);
                    marks.add("faces", &ListRequest { start_after: start, ..ListRequest::default() }, &page);
                    pages += 1;
                    prop_assert!(pages < 50);
                }
                prop_assert_eq!(marks.find(&object).is_some(), keys.contains(key), "{}", key);
            }
        }
    }

    #[test]
    fn keys_in_order_cost_one_page_each_thousand() {
        let keys: Vec<String> = (0..100).map(|n| format!("photos/{n:04}.jpg")).collect();
        let mut marks = Marks::default();
        let mut pages = 0;
        for key in &keys {
            let object = ObjectRef { bucket: "faces".into(), key: key.clone() };
            while !marks.covers(&object) {
                let start = marks.start_before(&object, "photos/");
                let page = page(&keys, &start);
                marks.add("faces", &ListRequest { start_after: start, ..ListRequest::default() }, &page);
                pages += 1;
            }
        }
        assert_eq!(pages, 50, "two keys a page");
    }
}
