//! Cost of a photo in counts rather than time: allocations, bytes copied, commits.
//!
//! It is a separate test binary because its allocator counts the allocations of the whole process.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)]

mod counting_store;
mod decoding;
#[path = "../it/engine.rs"]
mod engine;
#[path = "../it/support.rs"]
#[allow(dead_code)]
mod support;

use std::{
    alloc::System,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use counting_store::CountingStore;
use face_enroll::{
    api::{RawResponse, SignedRequest, Transport, TransportError},
    checkpoint::{Batch, Checkpoint, RunStart, SqliteStore, Store},
    domain::{FaceGroupCode, Item, MerchantUserId, PhotoSource, RunId},
    pace::Qps,
    run::{Engine, IngestProgress, Stop},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{Archive, GROUP};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Held by each test, because the allocator counts for the whole process.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const PHOTOS: usize = 640;
const PHOTO_BYTES: usize = 80_000;
/// Measured: 80. The margin tolerates a few more allocations in one place, but not a clone of every header.
const MAX_ALLOCATIONS_PER_PHOTO: usize = 100;
/// Measured: 1.5 times the photo size: the photo, a share of the pooled body buffers, and small things. A copy of the photo
/// or of the body exceeds the limit.
const MAX_PHOTO_SIZES_ALLOCATED: f64 = 2.0;
/// Sync time of the disk on the simulated clock; a group commit takes all changes that queue up meanwhile.
const SYNC_TIME: Duration = Duration::from_millis(5);
/// Limit relative to one commit per intent and per outcome. Measured: 0.017.
const MAX_COMMIT_SHARE: f64 = 0.05;

/// A service that enrols everyone immediately.
struct AlwaysEnrolled;

impl Transport for AlwaysEnrolled {
    async fn exchange(&self, _: SignedRequest) -> Result<RawResponse, TransportError> {
        let body = br#"{"Code":"Success","Message":"ok","RequestId":"r","Result":{"Passed":"Y"}}"#;
        Ok(RawResponse { status: 200, body: Some(body.as_slice().into()), ..RawResponse::default() })
    }
}

#[tokio::test(start_paused = true)]
async fn photo_costs_few_allocations_and_no_copy() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let archive = Archive::of(PHOTOS, PHOTO_BYTES);
    let store = SqliteStore::open(&archive.checkpoint(), "cost").unwrap();
    let mut store = CountingStore { store, commits: Arc::default() };
    let commits = store.commits.clone();
    store.start_run(&RunStart { id: RunId("r".into()), access_key: String::new(), rules: None, quota: None }).unwrap();
    let item = |(n, user): (usize, &String)| Item {
        row: n as u64 + 2,
        group: FaceGroupCode::parse(GROUP).unwrap(),
        user: MerchantUserId::parse(user).unwrap(),
        picture: PhotoSource::Path(archive.path().join(format!("photos/{user}.jpg"))),
        extra: Vec::new(),
        origin: None,
    };
    let rows = archive.users.iter().enumerate().map(item).map(Ok).collect();
    let source = store.open_source("m", archive.path()).unwrap();
    store.ingest(&Batch { source, rows }).unwrap();
    store.finish_ingest().unwrap();
    let (checkpoint, writer) = Checkpoint::inline(store, || SYNC_TIME);
    let writer = tokio::spawn(writer);
    let (state, feed) = watch::channel(IngestProgress::default());
    state
        .send(IngestProgress { rows: PHOTOS as u64, parsed: PHOTOS as u64, is_done: true, ..IngestProgress::default() })
        .unwrap();

    let quota = Qps::new(100_000.0).unwrap();
    let deps = engine::deps(AlwaysEnrolled, checkpoint.clone(), Stop::default(), (quota, quota));
    let engine = Engine::new(deps, engine::settings(quota));
    let before = commits.load(Relaxed);
    let region = Region::new(ALLOCATOR);
    engine.run(feed).await.unwrap();
    let stats = region.change();
    let commits = commits.load(Relaxed) - before;

    assert_eq!(engine.totals().newly_enrolled, PHOTOS as u64);
    drop((engine, checkpoint));
    writer.await.unwrap();
    let allocations = (stats.allocations + stats.reallocations) / PHOTOS;
    let sizes = stats.bytes_allocated as f64 / (PHOTOS * PHOTO_BYTES) as f64;
    let share = commits as f64 / (2 * PHOTOS) as f64;
    println!("per photo {allocations} allocations and {sizes:.2} times its size; {commits} commits, share {share:.3}");
    assert!(allocations <= MAX_ALLOCATIONS_PER_PHOTO, "{allocations} allocations per photo");
    assert!(sizes <= MAX_PHOTO_SIZES_ALLOCATED, "{sizes:.2} times the photo size is allocated per photo");
    assert!(share <= MAX_COMMIT_SHARE, "{commits} commits for {PHOTOS} intents and {PHOTOS} outcomes");
}
