//! Cost of a photo in counts rather than time: allocations, bytes copied, commits.
//!
//! It is a separate test binary because its allocator counts the allocations of the whole process.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)]

mod decoding;
mod slow_store;
#[path = "../it/support.rs"]
#[allow(dead_code)]
mod support;

use std::{
    alloc::System,
    num::NonZeroUsize,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use face_enroll::{
    api::{
        AccessKey, Client, Credentials, Endpoint, RawResponse, SignedRequest, Transport, TransportError, UploadTarget,
    },
    checkpoint::{Batch, Checkpoint, RunStart, SqliteStore, Store},
    domain::{FaceGroupCode, Item, MerchantUserId, PhotoSource, RunId},
    pace::{Gate, InDoubtPolicy, Qps, QuotaUse, RetryRules},
    picture::Rules,
    run::{Deps, Engine, Gates, IngestProgress, Limits, Precheck, SendMode, Settings, Stop},
};
use slow_store::SlowStore;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{Archive, GROUP};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

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
/// Sync time of the simulated disk; a group commit takes all changes that queue up meanwhile.
const SYNC_TIME: Duration = Duration::from_millis(5);
/// Limit relative to one commit per intent and per outcome. An idle machine needs 0.05; a busy one queues fewer changes.
const MAX_COMMIT_SHARE: f64 = 0.25;

/// A service that enrols everyone immediately.
struct AlwaysEnrolled;

impl Transport for AlwaysEnrolled {
    async fn exchange(&self, _: SignedRequest) -> Result<RawResponse, TransportError> {
        let body = br#"{"Code":"Success","Message":"ok","RequestId":"r","Result":{"Passed":"Y"}}"#;
        Ok(RawResponse { status: 200, body: Some(body.as_slice().into()), ..RawResponse::default() })
    }
}

fn engine(checkpoint: Checkpoint<SlowStore>) -> Engine<AlwaysEnrolled, SlowStore> {
    let endpoint = Endpoint::custom("http://127.0.0.1:1").unwrap();
    let upload = UploadTarget { endpoint: endpoint.clone(), region: None };
    let key = AccessKey::new("k".into(), "s".into(), None);
    let quota = Qps::new(100_000.0).unwrap();
    let deps = Deps {
        client: Client::new(AlwaysEnrolled, endpoint, upload, Credentials::from_static(key)),
        checkpoint,
        gates: Gates {
            add: gate(quota),
            query: gate(quota),
            delete: gate(quota),
            authorize: gate(quota),
            post: gate(quota),
        },
        events: mpsc::channel(1).0,
        stop: Stop::default(),
    };
    let settings = Settings {
        quota,
        concurrency: NonZeroUsize::new(64).unwrap(),
        rules: RetryRules { attempts: 3 },
        in_doubt: InDoubtPolicy::Reconcile,
        settle: Duration::from_secs(30),
        limits: Limits::default(),
        give_up_after: Duration::from_secs(60),
        keep_going: false,
        photo: Rules::default(),
        precheck: Precheck::Off,
        send: SendMode::Auto,
        storage: Arc::default(),
        window: None,
        bandwidth: None,
        quality_check: None,
    };
    Engine::new(deps, settings)
}

#[tokio::test]
async fn photo_costs_few_allocations_and_no_copy() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let archive = Archive::of(PHOTOS, PHOTO_BYTES);
    let store = SqliteStore::open(&archive.checkpoint(), "cost").unwrap();
    let mut store = SlowStore { store, sync: SYNC_TIME, commits: Arc::default() };
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
    let (checkpoint, writer) = Checkpoint::start(store).unwrap();
    let (state, feed) = watch::channel(IngestProgress::default());
    state
        .send(IngestProgress { rows: PHOTOS as u64, parsed: PHOTOS as u64, is_done: true, ..IngestProgress::default() })
        .unwrap();

    let engine = engine(checkpoint.clone());
    let before = commits.load(Relaxed);
    let region = Region::new(ALLOCATOR);
    engine.run(feed).await.unwrap();
    let stats = region.change();
    let commits = commits.load(Relaxed) - before;

    assert_eq!(engine.totals().newly_enrolled, PHOTOS as u64);
    drop((engine, checkpoint));
    writer.join().unwrap();
    let allocations = (stats.allocations + stats.reallocations) / PHOTOS;
    let sizes = stats.bytes_allocated as f64 / (PHOTOS * PHOTO_BYTES) as f64;
    let share = commits as f64 / (2 * PHOTOS) as f64;
    println!("per photo {allocations} allocations and {sizes:.2} times its size; {commits} commits, share {share:.3}");
    assert!(allocations <= MAX_ALLOCATIONS_PER_PHOTO, "{allocations} allocations per photo");
    assert!(sizes <= MAX_PHOTO_SIZES_ALLOCATED, "{sizes:.2} times the photo size is allocated per photo");
    assert!(share <= MAX_COMMIT_SHARE, "{commits} commits for {PHOTOS} intents and {PHOTOS} outcomes");
}

fn gate<A>(quota: Qps) -> Gate<A> {
    Gate::new(quota, QuotaUse::Dedicated, None, Instant::now())
}
