//! In which order rows are taken in: as they come, or, where a long manifest has its ids in no order, by their ids.
//!
//! The checkpoint finds a person by an index of ids. Ids in no order touch another page of it with each row, and most of
//! the time goes into writing these pages; in their order they touch one page after the other. So a manifest is looked at
//! for its first [`LOOK`] rows, which go as they come and are mostly work for minutes; if these are in no order, the
//! rest is put into one (`spill.rs`) before it goes. Only files are: what comes from a pipe, or from a slow folder, may come
//! slower than it can be sent.

use std::path::PathBuf;

use super::{
    FeedError,
    spill::{Merged, Spill},
};
use crate::{
    domain::{Item, RowError},
    manifest::{self, SourceError},
};

/// Rows that a manifest is judged by; at 50 a second they are work for five minutes.
const LOOK: usize = 16_384;
/// Of 4 rows, so many have a greater id than the one before where there is any order. By chance it is 2.
const ORDERLY: usize = 3;

/// See the module.
pub(super) struct InOrder<'a> {
    source: &'a mut manifest::Source,
    folder: PathBuf,
    look: usize,
    state: State,
    /// Has it begun to put rows into order, and not been asked about it yet?
    has_just_begun: bool,
}

enum State {
    /// Rows go as they come, and are looked at.
    Looking { rows: usize, ascending: usize, last: String },
    /// Rows go as they come.
    Straight,
    /// Rows are taken in to be put into order; those that are no items go.
    Spilling(Spill),
    /// Items go in their order, then what ended the reading, if it was no end.
    Merging(Merged, Option<SourceError>),
}

impl<'a> InOrder<'a> {
    /// The rows of a source. What is to be put into order is kept in `folder` meanwhile.
    pub(super) fn new(source: &'a mut manifest::Source, folder: PathBuf) -> Self {
        let state = if source.is_file() {
            State::Looking { rows: 0, ascending: 0, last: String::new() }
        } else {
            State::Straight
        };
        Self { source, folder, look: LOOK, state, has_just_begun: false }
    }

    /// True once, before the next row is long in coming: what has come is better taken in first.
    pub(super) fn has_just_begun(&mut self) -> bool {
        std::mem::take(&mut self.has_just_begun)
    }

    fn look_at(&mut self, item: &Item) {
        let State::Looking { rows, ascending, last } = &mut self.state else { return };
        *rows += 1;
        *ascending += usize::from(item.user.as_str() > last.as_str());
        item.user.as_str().clone_into(last);
        if *rows == self.look {
            self.state = if *ascending * 4 >= *rows * ORDERLY {
                State::Straight
            } else {
                tracing::debug!("the ids are in no order: the rest of the rows is put into one");
                self.has_just_begun = true;
                State::Spilling(Spill::new(self.folder.clone()))
            };
        }
    }
}

impl Iterator for InOrder<'_> {
    type Item = Result<Result<Item, RowError>, FeedError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match &mut self.state {
                State::Looking { .. } | State::Straight => {
                    let row = self.source.next()?;
                    if let Ok(Ok(item)) = &row {
                        self.look_at(item);
                    }
                    return Some(row.map_err(FeedError::from));
                }
                State::Spilling(spill) => {
                    let broken = match self.source.next() {
                        Some(Ok(Ok(item))) => match spill.push(&item) {
                            Ok(()) => continue,
                            Err(error) => return Some(Err(FeedError::Order(error))),
                        },
                        Some(Ok(Err(fault))) => return Some(Ok(Err(fault))),
                        Some(Err(broken)) => Some(broken),
                        None => None,
                    };
                    let State::Spilling(spill) = std::mem::replace(&mut self.state, State::Straight) else { continue };
                    match spill.merge() {
                        Ok(merged) => self.state = State::Merging(merged, broken),
                        Err(error) => return Some(Err(FeedError::Order(error))),
                    }
                }
                State::Merging(merged, broken) => {
                    return match merged.next() {
                        Some(item) => Some(item.map(Ok).map_err(FeedError::Order)),
                        None => broken.take().map(|broken| Err(broken.into())),
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::FaceGroupCode,
        manifest::{InputFormat, Settings, from_bytes, open},
    };

    fn manifest(users: &[&str]) -> manifest::Source {
        let text = users.iter().fold(String::from("path,id\n"), |text, user| text + "a.jpg," + user + "\n");
        let settings = Settings { group: FaceGroupCode::parse("g").ok(), ..Settings::default() };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        std::fs::write(&path, &text).unwrap();
        open(&path, &settings).unwrap()
    }

    #[test]
    fn what_may_come_slowly_goes_as_it_comes() {
        let settings = Settings { group: FaceGroupCode::parse("g").ok(), ..Settings::default() };
        let format = InputFormat::of_name("m.csv").unwrap();
        let text = b"path,id\nx.jpg,c\nx.jpg,b\nx.jpg,d\nx.jpg,a\n".to_vec();
        let mut piped = from_bytes(text, format, std::path::Path::new("/"), &settings).unwrap();
        let rows = InOrder { look: 2, ..InOrder::new(&mut piped, std::env::temp_dir()) };
        let users: Vec<String> = rows.map(|row| row.unwrap().unwrap().user.to_string()).collect();
        assert_eq!(users, ["c", "b", "d", "a"]);
    }

    /// The rows of a manifest, as they are given: the id of each, or `!` and its number.
    fn given(users: &[&str], look: usize) -> Vec<String> {
        let mut source = manifest(users);
        let rows = InOrder { look, ..InOrder::new(&mut source, std::env::temp_dir()) };
        rows.map(|row| match row.unwrap() {
            Ok(item) => format!("{}{}", item.user, item.row),
            Err(error) => format!("!{}", error.row),
        })
        .collect()
    }

    #[test]
    fn what_is_in_no_order_is_put_into_one_behind_the_first_rows_and_faults_go_at_once() {
        let users = ["e", "b", "d", "a", "c", "b", " faulty", "a", "c", "b"];
        assert_eq!(given(&users, 4), ["e2", "b3", "d4", "a5", "!8", "a9", "b7", "b11", "c6", "c10"]);
    }

    #[test]
    fn disk_that_can_t_take_them_ends_the_reading() {
        let mut source = manifest(&["c", "b", "a", "d"]);
        let rows: Vec<_> = InOrder { look: 2, ..InOrder::new(&mut source, "/nonexistent".into()) }.collect();
        assert!(rows[..2].iter().all(Result::is_ok), "{rows:?}");
        assert!(matches!(rows[2..], [Err(FeedError::Order(_))]), "{rows:?}");
    }

    #[test]
    fn what_is_in_order_by_and_large_goes_as_it_comes() {
        let users = ["a", "b", "c", "b", "d", "z", "y", "x"];
        assert_eq!(given(&users, 4), ["a2", "b3", "c4", "b5", "d6", "z7", "y8", "x9"]);
        // A short one too.
        assert_eq!(given(&["z", "y", "x"], 4), ["z2", "y3", "x4"]);
    }
}
