//! Finds members of an archive by name, in 16 bytes a member.
//!
//! It holds the hash of each name without case and Unicode normalisation, and the offset of its record, where the name is.

use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
};

use icu_normalizer::ComposingNormalizerBorrowed;

use super::{
    ReadError, Unavailable,
    archive::{Archive, Entry, MemberKind},
};
use crate::files::spelling;

/// Most members of an archive in which names are looked up: an index of 48 MB.
const MAX_MEMBERS: u64 = 3_000_000;
/// Most records that are compared for one name; an archive with more names of one hash is made for it.
const MAX_CANDIDATES: usize = 32;

/// Members by the hash of their names.
#[derive(Debug)]
pub(super) struct Index {
    hasher: RandomState,
    /// Hash and offset of the record, sorted.
    members: Vec<(u64, u64)>,
    /// The folder that all members lie in, if there is one.
    top: Option<String>,
}

/// Result of a lookup.
pub(super) enum Found {
    /// The member.
    One(Box<Entry>),
    /// Several members have this name.
    Several,
    /// None has it.
    None {
        /// Suggestion for the message; may be empty.
        advice: String,
    },
}

impl Index {
    /// Reads the archive's directory.
    pub(super) fn build(archive: &Archive) -> Result<Self, ReadError> {
        let plausible = archive.plausible_members();
        let too_many = || Unavailable::TooManyMembers { archive: archive.path().to_owned(), limit: MAX_MEMBERS };
        if plausible > MAX_MEMBERS {
            return Err(too_many().into());
        }
        let hasher = RandomState::new();
        let mut members = Vec::with_capacity(usize::try_from(plausible).unwrap_or(0));
        let mut top: Option<Option<String>> = None;
        let mut is_over = false;
        archive.survey(&mut |entry| {
            let Ok(name) = &entry.name else { return };
            is_over |= members.len() as u64 >= MAX_MEMBERS;
            if entry.kind != MemberKind::File || is_over {
                return;
            }
            members.push((hasher.hash_one(fold(name)), entry.at));
            let folder = name.split_once('/').map(|(folder, _)| folder);
            match &mut top {
                None => top = Some(folder.map(str::to_owned)),
                Some(top) if top.as_deref() != folder => *top = None,
                Some(_) => {}
            }
        })?;
        if is_over {
            return Err(too_many().into());
        }
        members.sort_unstable();
        Ok(Self { hasher, members, top: top.flatten() })
    }

    /// Finds a member as `files::spelling` finds a file: by its name as written, else by one that means the same to every
    /// reader. A name in another letter case is only suggested.
    pub(super) fn find(&self, archive: &Archive, name: &str) -> Result<Found, ReadError> {
        let mut suggested = None;
        for written in [name.to_owned(), plain(name)] {
            let (mut exact, mut similar) = (Vec::new(), Vec::new());
            let candidates = self.candidates(&written);
            if candidates.len() > MAX_CANDIDATES {
                return Ok(Found::Several);
            }
            for (_, at) in candidates {
                let Some(entry) = archive.entry_at(*at)? else { continue };
                match entry.name.as_deref() {
                    Ok(found) if found == written => exact.push(entry),
                    Ok(found) if nfc(found) == nfc(&written) => similar.push(entry),
                    Ok(found) if fold(found) == fold(&written) => suggested = Some(found.to_owned()),
                    Ok(_) | Err(_) => {}
                }
            }
            let mut found = if exact.is_empty() { similar } else { exact };
            match (found.pop(), found.is_empty()) {
                (Some(entry), true) => return Ok(Found::One(Box::new(entry))),
                (Some(_), false) => return Ok(Found::Several),
                (None, _) => {}
            }
        }
        Ok(Found::None { advice: self.advice(archive, name, suggested)? })
    }

    fn candidates(&self, name: &str) -> &[(u64, u64)] {
        let hash = self.hasher.hash_one(fold(name));
        let from = self.members.partition_point(|(other, _)| *other < hash);
        let count =
            self.members[from..].iter().take_while(|(other, _)| *other == hash).take(MAX_CANDIDATES + 1).count();
        &self.members[from..from + count]
    }

    fn advice(&self, archive: &Archive, name: &str, suggested: Option<String>) -> Result<String, ReadError> {
        if let Some(other) = suggested {
            return Ok(format!("; did you mean {other}?"));
        }
        let Some(top) = &self.top else { return Ok(String::new()) };
        let below = format!("{top}/{name}");
        let is_there = match self.candidates(&below) {
            [(_, at)] => archive.entry_at(*at)?.is_some_and(|entry| entry.name.as_deref() == Ok(below.as_str())),
            _ => false,
        };
        Ok(if is_there { format!("; the archive has it in {top}/") } else { String::new() })
    }
}

fn nfc(name: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(name)
}

/// A name without case and Unicode normalisation.
fn fold(name: &str) -> String {
    if name.is_ascii() { name.to_ascii_lowercase() } else { nfc(name).to_lowercase() }
}

/// A name without what people add by mistake: backslashes, spaces and invisible characters around its parts.
fn plain(name: &str) -> String {
    let parts = name.split(['/', '\\']).map(spelling::trimmed).filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}
