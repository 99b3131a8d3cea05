//! What every checkpoint store must hold. Each function is one promise of `Store`; `for_store!` runs all of them.

use std::{collections::BTreeSet, path::Path};

use face_enroll::{
    checkpoint::{
        Batch, Change, CheckpointState, Claimed, ExportRow, Ingested, NewIntent, OutcomeRecord, PhotoChange,
        PhotoCheck, Reply, RunStart, RunSummaryRow, SourceId, Store, StoreError, StoredPhoto,
    },
    domain::{
        Bottleneck, ConfirmedBy, Counts, DeleteIntent, Digest, FaceGroupCode, FileStamp, Item, ItemId, ItemState,
        MerchantUserId, Outcome, PhotoSource, RawFields, RejectedBy, RowError, RowErrorKind, RunId, RunTotals,
        Supersedes,
    },
};
use proptest::prelude::*;

/// A checkpoint under test.
pub trait Subject {
    /// The store of one process.
    type Store: Store;

    /// A checkpoint that does not exist yet.
    fn fresh() -> Self;
    /// Opens it, as the next process does once this one is gone.
    fn open(&self) -> Self::Store;
    /// Every row, as a reader of the checkpoint sees it.
    fn rows(&self) -> Vec<ExportRow>;
    /// The runs, as a reader sees them.
    fn runs(&self) -> Vec<RunSummaryRow>;
    /// Removes a person.
    fn purge(&self, user: &str);
    /// Marks it as restored from an older copy.
    fn mark_incomplete(&self);
}

/// Runs the suite on a [`Subject`].
macro_rules! for_store {
    ($subject:ty) => {
        $crate::checkpoint::conformance::for_store!($subject:
            same_rows_again_change_nothing,
            renamed_reordered_and_grown_manifest_resumes,
            duplicate_id_names_the_first_row,
            corrected_row_is_no_longer_rejected,
            vanished_row_is_kept_and_not_sent,
            unnamed_row_is_not_claimed_during_ingest,
            leftovers_of_another_manifest_are_sent,
            items_of_a_source_are_counted,
            claims_follow_the_given_id_in_order,
            failed_group_changes_nothing,
            replies_have_the_order_of_the_changes,
            later_change_of_a_group_sees_the_earlier,
            change_from_an_unexpected_state_is_refused,
            uncounted_attempt_is_given_back,
            intent_without_outcome_is_in_doubt_after_crash,
            in_doubt_item_keeps_its_photo_under_another_root,
            ended_run_leaves_no_item_sending,
            epoch_grows_with_every_start_and_end,
            learned_rate_reaches_the_next_run,
            totals_reach_readers,
            purged_and_restored_checkpoints_say_so,
            other_photo_rules_reopen_local_rejections,
            only_rejected_and_failed_items_are_reopened,
            rejected_row_with_another_photo_is_pending_again,
            local_rejection_records_the_file_that_it_found,
            photo_checks_count_and_clear_changes,
            replacement_deletes_only_what_it_supersedes,
            item_taken_back_is_in_doubt_then_pending,
            released_removal_is_enrolled_again,
            counts_equal_the_rows_after_any_history,
        );
    };
    ($subject:ty: $($promise:ident),+ $(,)?) => {
        $(#[test]
        fn $promise() {
            $crate::checkpoint::conformance::$promise(&<$subject as $crate::checkpoint::conformance::Subject>::fresh());
        })+
    };
}
pub(super) use for_store;

const GROUP: &str = "sgl0001uc";
const STAMP: FileStamp = FileStamp { size: 7, mark: 8 };
const EVERYTHING: usize = 1_000;

pub fn new_run() -> RunStart {
    RunStart {
        id: RunId(format!("run-{}", fastrand::u64(..))),
        access_key: "LTAI****".to_owned(),
        rules: Some("rules of the page".to_owned()),
        quota: Some(50.0),
    }
}

pub fn item(row: u64, user: &str, path: &str) -> Item {
    Item {
        row,
        group: FaceGroupCode::parse(GROUP).unwrap(),
        user: MerchantUserId::parse(user).unwrap(),
        picture: PhotoSource::Path(Path::new("/photos").join(path)),
        extra: vec![("department".into(), "R&D".into())],
        origin: None,
    }
}

fn people(users: &[&str]) -> Vec<Result<Item, RowError>> {
    users.iter().enumerate().map(|(at, user)| Ok(item(at as u64 + 2, user, &format!("{user}.jpg")))).collect()
}

fn bad_row(row: u64) -> Result<Item, RowError> {
    let fields = Box::new(RawFields { user: Some(String::new()), ..RawFields::default() });
    Err(RowError { row, defect: RowErrorKind::MissingPicture, message: "no photo".into(), fields })
}

pub fn new_intent(claimed: &Claimed) -> NewIntent {
    NewIntent {
        item: claimed.item,
        group: claimed.group.clone(),
        user: claimed.user.clone(),
        digest: Some(Digest([3; 32])),
        sent: None,
        stamp: Some(STAMP),
        at_ms: 0,
    }
}

fn enrolled() -> Outcome {
    let confirmed_by = ConfirmedBy::Response;
    Outcome::Enrolled { confirmed_by, quality: Some("HIGH".into()), code: None, message: None, request_id: None }
}

fn rejected(stage: RejectedBy) -> Outcome {
    Outcome::Rejected { stage, code: "NoFaceDetected".into(), message: "no face".into(), request_id: None }
}

fn failed() -> Outcome {
    Outcome::Failed { code: "Timeout".into(), message: "no answer".into(), request_id: None }
}

fn in_doubt() -> Outcome {
    Outcome::InDoubt { code: "Timeout".into(), message: "no answer".into(), request_id: None }
}

fn settlement(item: ItemId, before: ItemState, outcome: Outcome) -> Change {
    Change::Settle(OutcomeRecord::new(item, before, outcome))
}

/// One run on the checkpoint. Dropping it is a crash.
struct Run<'a, S: Subject> {
    subject: &'a S,
    store: S::Store,
    found: CheckpointState,
}

impl<'a, S: Subject> Run<'a, S> {
    fn start(subject: &'a S) -> Self {
        Self::start_as(subject, &new_run())
    }

    fn start_as(subject: &'a S, run: &RunStart) -> Self {
        let mut store = subject.open();
        let found = store.start_run(run).unwrap();
        Self { subject, store, found }
    }

    /// Starts a run that has read these people.
    fn with(subject: &'a S, users: &[&str]) -> Self {
        let mut run = Self::start(subject);
        run.read("/m.csv", people(users));
        run
    }

    fn ingest(&mut self, source: &str, rows: Vec<Result<Item, RowError>>) -> (SourceId, Ingested) {
        let source = self.store.open_source(source, Path::new("/photos")).unwrap();
        (source, self.store.ingest(&Batch { source, rows }).unwrap())
    }

    fn read(&mut self, source: &str, rows: Vec<Result<Item, RowError>>) -> Ingested {
        let (_, ingested) = self.ingest(source, rows);
        self.store.finish_ingest().unwrap();
        ingested
    }

    fn write(&mut self, change: Change) -> Reply {
        let mut replies = self.store.write(&[change]).unwrap();
        assert_eq!(replies.len(), 1);
        replies.remove(0)
    }

    fn claims(&mut self) -> Vec<Claimed> {
        self.store.claim(ItemId(0), EVERYTHING).unwrap()
    }

    fn pending(&mut self) -> Vec<String> {
        self.claims().iter().map(|claimed| claimed.user.to_string()).collect()
    }

    fn claim(&mut self, user: &str) -> Claimed {
        self.claims().into_iter().find(|claimed| claimed.user.as_str() == user).unwrap()
    }

    fn intend(&mut self, user: &str) -> ItemId {
        let claimed = self.claim(user);
        self.write(Change::Intend(new_intent(&claimed)));
        claimed.item
    }

    fn settle(&mut self, item: ItemId, before: ItemState, outcome: Outcome) {
        self.write(settlement(item, before, outcome));
    }

    fn send(&mut self, user: &str, outcome: Outcome) -> ItemId {
        let item = self.intend(user);
        self.settle(item, ItemState::Sending, outcome);
        item
    }

    /// Counts of the store, which must be those of the rows.
    fn counts(&mut self) -> Counts {
        let counts = self.store.counts().unwrap();
        assert!(counts.is_balanced(), "{counts:?}");
        let mut counted = Counts {
            vanished: counts.vanished,
            changed: counts.changed,
            to_remove: counts.to_remove,
            skipped: counts.skipped,
            ..Counts::default()
        };
        for row in self.subject.rows() {
            counted.total += 1;
            match row.state {
                ItemState::Pending | ItemState::Sending => counted.pending += 1,
                // A reader takes what is being sent for in doubt, because no run holds the lock here.
                ItemState::InDoubt if row.code.is_none() => counted.pending += 1,
                ItemState::InDoubt => counted.in_doubt += 1,
                ItemState::Enrolled => counted.enrolled += 1,
                ItemState::Rejected => counted.rejected += 1,
                ItemState::Failed => counted.failed += 1,
            }
            if let Some(code) = row.code {
                *counted.by_code.entry(code).or_default() += 1;
            }
        }
        assert_eq!(counts, counted, "the counts differ from the rows");
        counts
    }
}

pub fn same_rows_again_change_nothing(subject: &impl Subject) {
    let mut first = Run::with(subject, &["a", "b", "c"]);
    first.send("a", enrolled());
    let before = first.counts();
    drop(first);
    let mut second = Run::with(subject, &["a", "b", "c"]);
    assert!(second.found.is_resumed);
    assert_eq!(second.counts(), before);
    assert_eq!(second.pending(), ["b", "c"]);
}

pub fn renamed_reordered_and_grown_manifest_resumes(subject: &impl Subject) {
    let mut first = Run::start(subject);
    first.read("/old.csv", people(&["a", "b", "c"]));
    first.send("b", enrolled());
    drop(first);
    let mut second = Run::start(subject);
    second.read("/new.csv", people(&["d", "c", "b", "a"]));
    assert_eq!(second.pending(), ["a", "c", "d"]);
    let counts = second.counts();
    assert_eq!((counts.total, counts.enrolled, counts.pending, counts.vanished), (4, 1, 3, 0));
}

pub fn duplicate_id_names_the_first_row(subject: &impl Subject) {
    for _reading in 0..2 {
        let mut run = Run::start(subject);
        run.read("/m.csv", vec![Ok(item(2, "a", "1.jpg")), Ok(item(3, "b", "2.jpg")), Ok(item(4, "a", "3.jpg"))]);
        let counts = run.counts();
        assert_eq!((counts.total, counts.pending, counts.rejected), (3, 2, 1));
    }
    let rejected: Vec<ExportRow> = subject.rows().into_iter().filter(|row| row.state == ItemState::Rejected).collect();
    let [row] = &rejected[..] else { panic!("{rejected:?}") };
    assert_eq!((row.row, row.code.as_deref()), (4, Some("DuplicateUserId")));
    assert!(row.message.as_ref().unwrap().contains("row 2 "), "{row:?}");
    assert_eq!((row.path.as_deref(), row.extra.len()), (Some(Path::new("/photos/3.jpg")), 1));
}

pub fn corrected_row_is_no_longer_rejected(subject: &impl Subject) {
    let mut first = Run::start(subject);
    first.read("/m.csv", vec![Ok(item(2, "a", "a.jpg")), bad_row(3)]);
    assert_eq!(first.counts().rejected, 1);
    drop(first);
    let counts = Run::with(subject, &["a", "b"]).counts();
    assert_eq!((counts.total, counts.rejected, counts.pending), (2, 0, 2));
}

pub fn vanished_row_is_kept_and_not_sent(subject: &impl Subject) {
    let mut first = Run::with(subject, &["a", "b", "c"]);
    first.send("a", enrolled());
    drop(first);
    let mut second = Run::with(subject, &["c"]);
    let counts = second.counts();
    assert_eq!((counts.total, counts.enrolled, counts.pending, counts.vanished), (3, 1, 2, 2));
    assert_eq!(second.pending(), ["c"]);
    drop(second);
    let mut third = Run::with(subject, &["a", "b", "c"]);
    assert_eq!((third.counts().vanished, third.pending()), (0, vec!["b".to_owned(), "c".to_owned()]));
}

pub fn unnamed_row_is_not_claimed_during_ingest(subject: &impl Subject) {
    drop(Run::with(subject, &["a", "b"]));
    let mut run = Run::start(subject);
    assert_eq!(run.pending(), ["a", "b"], "no source is open");
    run.ingest("/m.csv", people(&["a"]));
    assert_eq!(run.pending(), ["a"]);
}

pub fn leftovers_of_another_manifest_are_sent(subject: &impl Subject) {
    let mut monday = Run::start(subject);
    monday.read("/monday.csv", people(&["a", "b"]));
    monday.send("a", enrolled());
    drop(monday);
    let mut tuesday = Run::start(subject);
    tuesday.read("/tuesday.csv", people(&["c"]));
    assert_eq!(tuesday.pending(), ["b", "c"]);
}

pub fn items_of_a_source_are_counted(subject: &impl Subject) {
    let mut run = Run::start(subject);
    let (first, _) = run.ingest("/m.csv", people(&["a", "b", "c"]));
    // Another source that names the same person takes the item over.
    let (second, _) = run.ingest("/n.csv", people(&["d"]));
    run.write(Change::RecordSkipped(second, 4));
    assert_eq!((run.store.count_items(first).unwrap(), run.store.count_items(second).unwrap()), (3, 1));
    run.store.finish_ingest().unwrap();
    assert_eq!(run.counts().skipped, 4);
    drop(run);
    let mut next = Run::start(subject);
    let (second, _) = next.ingest("/n.csv", people(&["a", "d"]));
    assert_eq!(next.store.count_items(second).unwrap(), 2);
}

pub fn claims_follow_the_given_id_in_order(subject: &impl Subject) {
    let mut run = Run::with(subject, &["a", "b", "c", "d", "e"]);
    run.send("c", enrolled());
    let all: Vec<ItemId> = run.claims().iter().map(|claimed| claimed.item).collect();
    assert!(all.is_sorted() && all.len() == 4, "{all:?}");
    let two: Vec<ItemId> = run.store.claim(all[0], 2).unwrap().iter().map(|claimed| claimed.item).collect();
    assert_eq!(two, all[1..3]);
    assert!(run.store.claim(all[3], 2).unwrap().is_empty());
}

pub fn failed_group_changes_nothing(subject: &impl Subject) {
    let mut run = Run::with(subject, &["a", "b"]);
    let (a, b) = (run.claim("a"), run.claim("b"));
    let refused = run.store.write(&[
        Change::SaveRate(Some(9.5)),
        Change::Intend(new_intent(&a)),
        settlement(b.item, ItemState::Sending, enrolled()),
    ]);
    assert!(matches!(refused, Err(StoreError::InvalidTransition { item, .. }) if item == b.item), "{refused:?}");
    drop(run);
    let mut next = Run::with(subject, &["a", "b"]);
    assert_eq!((next.pending().len(), next.found.learned_rate), (2, None));
    assert_eq!(next.counts().in_doubt, 0);
}

pub fn replies_have_the_order_of_the_changes(subject: &impl Subject) {
    let mut run = Run::with(subject, &["a", "b", "c"]);
    let c = run.intend("c");
    let (a, b) = (run.claim("a"), run.claim("b"));
    let replies = run.store.write(&[
        Change::Intend(new_intent(&b)),
        Change::Reopen(Vec::new()),
        settlement(c, ItemState::Sending, failed()),
        Change::Intend(new_intent(&a)),
    ]);
    let replies = replies.unwrap();
    let [Reply::Intent(first), Reply::Done, Reply::Settled(update), Reply::Intent(last)] = &replies[..] else {
        panic!("{replies:?}");
    };
    assert_eq!((first.item, last.item, first.user.as_str()), (b.item, a.item, "b"));
    assert_eq!((first.attempt, first.digest), (1, Some(Digest([3; 32]))));
    assert_eq!((update.item, update.row, update.attempts), (c, 4, 1));
    assert_eq!((update.before, update.outcome.state()), (ItemState::Sending, ItemState::Failed));
}

pub fn later_change_of_a_group_sees_the_earlier(subject: &impl Subject) {
    let mut run = Run::with(subject, &["a"]);
    let a = run.claim("a");
    let group = [Change::Intend(new_intent(&a)), settlement(a.item, ItemState::Sending, enrolled())];
    assert_eq!(run.store.write(&group).unwrap().len(), 2);
    assert_eq!(run.counts().enrolled, 1);
    assert!(run.store.write(&[]).unwrap().is_empty());
}

pub fn change_from_an_unexpected_state_is_refused(subject: &impl Subject) {
    for (before, outcome) in [
        (ItemState::Sending, enrolled()),
        (ItemState::Pending, enrolled()),
        (ItemState::InDoubt, Outcome::Retry { counts: true }),
    ] {
        let mut run = Run::with(subject, &["a"]);
        let item = run.claim("a").item;
        let refused = run.store.write(&[settlement(item, before, outcome)]);
        assert!(matches!(refused, Err(StoreError::InvalidTransition { .. })), "{refused:?}");
    }
    let mut run = Run::with(subject, &["a"]);
    let claimed = run.claim("a");
    run.intend("a");
    let refused = run.store.write(&[Change::Intend(new_intent(&claimed))]);
    assert!(matches!(refused, Err(StoreError::InvalidTransition { .. })), "sent twice: {refused:?}");
}

pub fn uncounted_attempt_is_given_back(subject: &impl Subject) {
    let mut run = Run::with(subject, &["a"]);
    for (counts, expected) in [(false, 0), (true, 1), (false, 1), (true, 2)] {
        run.send("a", Outcome::Retry { counts });
        assert_eq!(run.claim("a").attempts, expected);
    }
}

pub fn intent_without_outcome_is_in_doubt_after_crash(subject: &impl Subject) {
    let mut first = Run::with(subject, &["a", "b", "c"]);
    first.intend("a");
    first.send("c", in_doubt());
    assert_eq!((first.counts().pending, first.counts().in_doubt), (2, 1), "pending while the run is live");
    drop(first);
    let mut second = Run::with(subject, &["a", "b", "c"]);
    assert!(second.found.was_killed && second.found.counts.in_doubt == 2, "{:?}", second.found);
    assert_eq!(second.pending(), ["b"]);
    let doubts = second.store.in_doubt_items(ItemId(0), EVERYTHING).unwrap();
    let users: Vec<&str> = doubts.iter().map(|row| row.claimed.user.as_str()).collect();
    assert_eq!((&users[..], doubts[0].claimed.attempts), (&["a", "c"][..], 1));
    assert_eq!((doubts[0].code.0.as_str(), doubts[1].code.0.as_str()), ("Interrupted", "Timeout"));
    let rest = second.store.in_doubt_items(doubts[0].claimed.item, EVERYTHING).unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(second.store.in_doubt_items(ItemId(0), 1).unwrap().len(), 1);
    assert_eq!(second.counts().by_code.get("Interrupted"), Some(&1));
}

pub fn in_doubt_item_keeps_its_photo_under_another_root(subject: &impl Subject) {
    let mut first = Run::with(subject, &["a"]);
    first.intend("a");
    drop(first);
    let mut second = Run::start(subject);
    // Another source names the same person, with another photo in another folder.
    let source = second.store.open_source("/batch2/m.csv", Path::new("/batch2")).unwrap();
    let other = Item { picture: PhotoSource::Path("/batch2/b.jpg".into()), ..item(2, "a", "b.jpg") };
    second.store.ingest(&Batch { source, rows: vec![Ok(other)] }).unwrap();
    second.store.finish_ingest().unwrap();
    let doubts = second.store.in_doubt_items(ItemId(0), EVERYTHING).unwrap();
    let PhotoSource::Path(photo) = &doubts[0].claimed.picture else { panic!("{doubts:#?}") };
    assert_eq!(photo, Path::new("/photos/a.jpg"), "resending must not take the photo of another person");
    assert_eq!(second.counts().total, 1);
}

pub fn ended_run_leaves_no_item_sending(subject: &impl Subject) {
    let mut first = Run::with(subject, &["a"]);
    first.intend("a");
    first.store.end_run(12, "in doubt").unwrap();
    assert_eq!(first.counts().in_doubt, 1);
    let runs = subject.runs();
    assert_eq!((runs[0].exit_code, runs[0].exit_reason.as_deref()), (Some(12), Some("in doubt")));
    drop(first);
    assert!(!Run::start(subject).found.was_killed);
}

pub fn epoch_grows_with_every_start_and_end(subject: &impl Subject) {
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let mut run = Run::start(subject);
        epochs.push(run.found.epoch);
        epochs.push(run.store.end_run(0, "done").unwrap());
    }
    assert!(epochs[0] > 0 && epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
}

pub fn learned_rate_reaches_the_next_run(subject: &impl Subject) {
    let mut first = Run::start(subject);
    assert_eq!((first.found.is_resumed, first.found.learned_rate), (false, None));
    first.write(Change::SaveRate(Some(9.5)));
    drop(first);
    let mut second = Run::start(subject);
    assert_eq!(second.found.learned_rate, Some(9.5));
    second.write(Change::SaveRate(None));
    drop(second);
    assert_eq!(Run::start(subject).found.learned_rate, None);
}

pub fn totals_reach_readers(subject: &impl Subject) {
    let mut run = Run::start(subject);
    let totals = RunTotals { newly_enrolled: 2, calls: 5, throttled: 1, ..RunTotals::default() };
    run.write(Change::RecordTotals(totals, Bottleneck::Quota));
    let runs = subject.runs();
    let [row] = &runs[..] else { panic!("{runs:?}") };
    assert_eq!((row.totals.newly_enrolled, row.totals.calls, row.totals.throttled), (2, 5, 1));
    assert_eq!((row.quota, row.limited_by.clone()), (Some(50.0), Some(Bottleneck::Quota.to_string())));
}

pub fn purged_and_restored_checkpoints_say_so<S: Subject>(subject: &S) {
    let mut first = Run::with(subject, &["a", "b"]);
    first.send("a", enrolled());
    drop(first);
    subject.purge("b");
    assert!(!Run::start(subject).found.was_purged, "the service never had a record of b");
    subject.purge("a");
    let mut next = Run::start(subject);
    assert!(next.found.was_purged);
    assert_eq!(next.counts().total, 0);
    drop(next);
    let restored = S::fresh();
    drop(Run::start(&restored));
    restored.mark_incomplete();
    assert!(Run::start(&restored).found.was_purged);
}

pub fn other_photo_rules_reopen_local_rejections(subject: &impl Subject) {
    let mut first = Run::with(subject, &["a", "b"]);
    let a = first.claim("a").item;
    first.settle(a, ItemState::Pending, rejected(RejectedBy::Local));
    first.send("b", rejected(RejectedBy::Service));
    drop(first);
    assert_eq!(Run::start(subject).found.counts.rejected, 2, "the same rules");
    assert_eq!(Run::start_as(subject, &RunStart { rules: None, ..new_run() }).found.counts.rejected, 2);
    let mut next = Run::start_as(subject, &RunStart { rules: Some("other rules".into()), ..new_run() });
    assert_eq!(next.found.counts.rejected, 1);
    assert_eq!(next.pending(), ["a"]);
    next.counts();
}

pub fn only_rejected_and_failed_items_are_reopened(subject: &impl Subject) {
    let mut run = Run::with(subject, &["a", "b", "c", "d", "e"]);
    let a = run.send("a", enrolled());
    let b = run.send("b", failed());
    let c = run.send("c", rejected(RejectedBy::Service));
    let d = run.send("d", in_doubt());
    let e = run.claim("e").item;
    run.write(Change::Reopen(vec![a, b, c, d, e]));
    assert_eq!(run.pending(), ["b", "c", "e"]);
    assert_eq!(run.claim("b").attempts, 0);
    let counts = run.counts();
    assert_eq!((counts.enrolled, counts.in_doubt), (1, 1));
}

pub fn rejected_row_with_another_photo_is_pending_again(subject: &impl Subject) {
    let mut first = Run::with(subject, &["a", "b"]);
    for user in ["a", "b"] {
        let item = first.claim(user).item;
        first.settle(item, ItemState::Pending, rejected(RejectedBy::Local));
    }
    drop(first);
    let mut second = Run::start(subject);
    let ingested = second.read("/m.csv", vec![Ok(item(2, "a", "a-new.jpg")), Ok(item(3, "b", "b.jpg"))]);
    assert_eq!(second.pending(), ["a"]);
    let [same_path] = &ingested.rejected_items[..] else { panic!("{ingested:?}") };
    assert_eq!(same_path.photo.path(), Some(Path::new("/photos/b.jpg")));
    second.write(Change::Reopen(vec![same_path.item]));
    assert_eq!(second.pending(), ["a", "b"]);
    assert_eq!(second.counts().rejected, 0);
}

/// Else a missing photo is not tried again when the same file is back, and a deleted one is tried in every run.
pub fn local_rejection_records_the_file_that_it_found(subject: &impl Subject) {
    let stamp = |ingested: &Ingested| ingested.rejected_items[0].stamp;
    let mut first = Run::with(subject, &["a"]);
    let item = first.send("a", rejected(RejectedBy::Service));
    drop(first);
    let mut second = Run::start(subject);
    assert_eq!(stamp(&second.read("/m.csv", people(&["a"]))), Some(STAMP), "the service saw this file");
    for found in [None, Some(FileStamp { size: 9, ..STAMP }), None] {
        second.write(Change::Reopen(vec![item]));
        let refusal = OutcomeRecord::new(item, ItemState::Pending, rejected(RejectedBy::Local));
        second.write(Change::Settle(OutcomeRecord { stamp: found, ..refusal }));
        drop(second);
        second = Run::start(subject);
        assert_eq!(stamp(&second.read("/m.csv", people(&["a"]))), found);
    }
}

pub fn photo_checks_count_and_clear_changes(subject: &impl Subject) {
    let mut first = Run::with(subject, &["a"]);
    let item = first.send("a", enrolled());
    drop(first);
    let mut run = Run::start(subject);
    let ingested = run.read("/m.csv", people(&["a"]));
    let [known] = &ingested.enrolled_items[..] else { panic!("{ingested:?}") };
    let StoredPhoto::File { photo, stamp, digest, .. } = &known.photo else { panic!("{known:?}") };
    assert_eq!((photo.path(), *stamp, *digest), (Some(Path::new("/photos/a.jpg")), Some(STAMP), Some(Digest([3; 32]))));
    run.write(Change::RecordPhotoChecks(vec![PhotoCheck { item, seen: PhotoChange::Other }]));
    assert_eq!((run.counts().changed, run.counts().enrolled), (1, 1));
    let touched = FileStamp { size: 7, mark: 9 };
    run.write(Change::RecordPhotoChecks(vec![PhotoCheck { item, seen: PhotoChange::Same(touched) }]));
    assert_eq!(run.counts().changed, 0);
    drop(run);
    let ingested = Run::start(subject).read("/m.csv", people(&["a"]));
    let StoredPhoto::File { stamp, .. } = &ingested.enrolled_items[0].photo else { panic!("{ingested:?}") };
    assert_eq!(*stamp, Some(touched));
}

pub fn replacement_deletes_only_what_it_supersedes(subject: &impl Subject) {
    let delete = |item, record| Change::IntendDelete(DeleteIntent { item, record });
    let start = || {
        let mut run = Run::with(subject, &["a"]);
        let found = run.store.pending_deletes(ItemId(0), EVERYTHING).unwrap();
        (run, found)
    };
    let mut run = Run::with(subject, &["a"]);
    let item = run.send("a", enrolled());
    run.write(Change::RecordPhotoChecks(vec![PhotoCheck { item, seen: PhotoChange::Replacement }]));
    assert_eq!(run.claim("a").replaces, Some(Supersedes::Unknown));
    run.write(Change::RecordSuperseded(item, vec![41, 42]));
    assert_eq!(run.claim("a").replaces, Some(Supersedes::Records(vec![41, 42])));
    let refused = run.store.write(&[delete(item, 41)]).unwrap();
    assert!(matches!(refused[..], [Reply::Refused]), "the new photo is not enrolled: {refused:?}");
    drop(run);

    let (mut run, none) = start();
    assert!(none.is_empty(), "{none:?}");
    run.send("a", enrolled());
    assert_eq!(run.counts().to_remove, 1);
    drop(run);
    let (mut run, left) = start();
    assert_eq!((left[0].item, &left[0].replaces), (item, &Some(Supersedes::Records(vec![41, 42]))));
    assert!(run.store.pending_deletes(item, EVERYTHING).unwrap().is_empty());
    let refused = run.store.write(&[delete(item, 43)]).unwrap();
    assert!(matches!(refused[..], [Reply::Refused]), "43 was not superseded: {refused:?}");
    drop(run);
    let (mut run, _) = start();
    run.write(delete(item, 41));
    run.write(Change::ReleaseDelete(DeleteIntent { item, record: 41 }));
    assert_eq!(run.store.pending_deletes(ItemId(0), EVERYTHING).unwrap().len(), 1);
    run.write(delete(item, 41));
    run.write(delete(item, 42));
    run.write(Change::FinishDelete(item));
    assert!(run.store.pending_deletes(ItemId(0), EVERYTHING).unwrap().is_empty());
    assert_eq!((run.counts().to_remove, run.counts().enrolled), (0, 1));
}

pub fn item_taken_back_is_in_doubt_then_pending(subject: &impl Subject) {
    let undo = |item, record| Change::IntendUndo(DeleteIntent { item, record });
    let mut run = Run::with(subject, &["a", "b", "c"]);
    let (a, b) = (run.send("a", enrolled()), run.send("b", in_doubt()));
    for item in [b, run.claim("c").item] {
        let refused = run.store.write(&[undo(item, 7)]).unwrap();
        assert!(matches!(refused[..], [Reply::Refused]), "{refused:?}");
        run.write(Change::FinishUndo(item));
    }
    assert_eq!((run.counts().in_doubt, run.pending()), (1, vec!["c".to_owned()]));
    run.write(undo(a, 7));
    drop(run);

    // The next process asks the service about it, as if it had just been sent for the first time.
    let mut run = Run::with(subject, &["a", "b", "c"]);
    let left = run.store.in_doubt_items(ItemId(0), 1).unwrap();
    assert_eq!((left[0].claimed.item, left[0].claimed.attempts, left[0].code.0.as_str()), (a, 0, "Undoing"));
    assert!(left[0].claimed.intent_ms.is_some());
    run.write(undo(a, 7));
    run.write(Change::FinishUndo(a));
    assert_eq!(run.counts().by_code.get("Undone"), Some(&1));
    assert_eq!(run.claim("a").intent_ms, None);
    run.send("a", enrolled());
    assert_eq!((run.counts().enrolled, run.counts().by_code.get("Undone")), (1, None));
}

pub fn released_removal_is_enrolled_again(subject: &impl Subject) {
    let [seven, eight] = [7, 8].map(|record| move |item| DeleteIntent { item, record });
    let mut run = Run::with(subject, &["a"]);
    let item = run.send("a", enrolled());
    run.write(Change::IntendUndo(seven(item)));
    run.write(Change::ReleaseDelete(eight(item)));
    assert_eq!((run.counts().in_doubt, run.counts().enrolled), (1, 0), "another deletion");
    run.write(Change::ReleaseDelete(seven(item)));
    assert_eq!((run.counts().in_doubt, run.counts().enrolled), (0, 1));
    assert_eq!(run.counts().by_code.get("Undoing"), None);
    let row = &subject.rows()[0];
    assert_eq!((row.confirmed_by, row.enrolled_ms.is_some()), (Some(ConfirmedBy::Query), true));
    run.write(Change::ReleaseDelete(seven(item)));
    assert_eq!(run.counts().enrolled, 1);
}

/// One step of a history: a user and what happens to it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Intend,
    Settle(u8),
    Reopen,
    Replace,
    IntendUndo,
    ReleaseUndo,
    FinishUndo,
    Crash,
}

pub fn counts_equal_the_rows_after_any_history<S: Subject>(_: &S) {
    let step = prop_oneof![
        4 => Just(Step::Intend),
        4 => (0..6_u8).prop_map(Step::Settle),
        1 => Just(Step::Reopen),
        1 => Just(Step::Replace),
        1 => Just(Step::IntendUndo),
        1 => Just(Step::ReleaseUndo),
        1 => Just(Step::FinishUndo),
        1 => Just(Step::Crash),
    ];
    let users = ["a", "b", "c"];
    proptest!(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() }, |(
        steps in proptest::collection::vec((0..users.len(), step), 1..30)
    )| {
        let subject = S::fresh();
        let mut run = Run::with(&subject, &users);
        let items: Vec<ItemId> = users.iter().map(|user| run.claim(user).item).collect();
        let mut sending = BTreeSet::new();
        for (user, step) in steps {
            let item = items[user];
            match step {
                Step::Intend => if let Some(claimed) = run.claims().into_iter().find(|claimed| claimed.item == item) {
                    run.write(Change::Intend(new_intent(&claimed)));
                    sending.insert(item);
                },
                Step::Settle(outcome) => if sending.remove(&item) {
                    let outcome = match outcome {
                        0 => enrolled(),
                        1 => rejected(RejectedBy::Service),
                        2 => failed(),
                        3 => in_doubt(),
                        more => Outcome::Retry { counts: more == 4 },
                    };
                    run.settle(item, ItemState::Sending, outcome);
                },
                Step::Reopen => drop(run.write(Change::Reopen(vec![item]))),
                Step::Replace => if subject.rows().iter().any(|row| {
                    row.user.as_deref() == Some(users[user]) && row.state == ItemState::Enrolled
                }) {
                    run.write(Change::RecordPhotoChecks(vec![PhotoCheck { item, seen: PhotoChange::Replacement }]));
                },
                Step::IntendUndo => drop(run.store.write(&[Change::IntendUndo(DeleteIntent { item, record: 7 })]).unwrap()),
                Step::ReleaseUndo => drop(run.write(Change::ReleaseDelete(DeleteIntent { item, record: 7 }))),
                Step::FinishUndo => drop(run.write(Change::FinishUndo(item))),
                Step::Crash => {
                    drop(run);
                    sending.clear();
                    run = Run::with(&subject, &users);
                }
            }
            prop_assert_eq!(run.counts().total, 3);
        }
    });
}
