//! Pipeline stages one by one: `cargo bench --bench stages`. The time of a commit depends on the disk.

#![allow(unreachable_pub, missing_docs, dead_code)]

#[path = "common/camera.rs"]
mod camera;
#[path = "common/photos.rs"]
mod photos;

use std::{fs, hint::black_box, path::Path, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use face_enroll::{
    api::{CanonicalRequest, FormFields, Payload, RawResponse, authorization, classify},
    checkpoint::{Batch, Change, Claimed, NewIntent, OutcomeRecord, RunStart, SqliteStore, Store},
    domain::{FaceGroupCode, Item, ItemId, ItemState, MerchantUserId, Outcome, PhotoSource, RunId},
    picture::{self, Original, Rules},
};

const PHOTO_BYTES: usize = 80_000;
/// Rows that the engine claims at once.
const CLAIM_ROWS: usize = 256;

fn group() -> FaceGroupCode {
    FaceGroupCode::parse("sgl0001uc").expect("valid group code")
}

fn user(n: usize) -> MerchantUserId {
    MerchantUserId::parse(format!("employee-{n:08}")).expect("valid user id")
}

fn photo() -> Vec<u8> {
    let portrait = fs::read(photos::PORTRAIT).expect("the samples are in the repository");
    photos::photo(&portrait, 1, PHOTO_BYTES)
}

fn wire(bench: &mut Criterion) {
    let (photo, group, user) = (photo(), group(), user(1));
    let fields = FormFields { group: &group, user: &user, quality_check: None };
    let mut stage = bench.benchmark_group("80 KB");
    stage.throughput(Throughput::Bytes(PHOTO_BYTES as u64));
    stage.bench_function("body, hashed", |b| b.iter(|| Payload::with_picture(fields, black_box(&photo))));
    stage.bench_function("header", |b| b.iter(|| picture::probe(black_box(&photo))));
    let rules = Rules::default();
    let prepare = |bytes| {
        let original = Original::from_bytes(bytes, &rules).expect("valid photo");
        let plan = original.plan(&rules).expect("photo meets the rules");
        original.render(&plan, &rules)
    };
    stage.bench_function("header, plan, digest", |b| b.iter_batched(|| photo.clone(), prepare, BatchSize::SmallInput));
    stage.finish();

    let payload = Payload::with_picture(fields, &photo);
    let headers = [
        ("host", "cloudauth-intl.ap-southeast-1.aliyuncs.com"),
        ("x-acs-action", "AddFaceRecord"),
        ("x-acs-version", "2022-08-09"),
        ("x-acs-date", "2026-01-01T00:00:00Z"),
        ("x-acs-signature-nonce", "5f5b3a3f1d5e4c6a9e0d6d3b8a7c1e42"),
        ("x-acs-content-sha256", payload.sha256()),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    let call =
        CanonicalRequest { method: "POST", path: "/", query: "", headers: &headers, body_sha256: payload.sha256() };
    bench.bench_function("signature", |b| b.iter(|| authorization(black_box(call), "LTAIkey", "secret")));

    let body = br#"{"RequestId":"7F1C","Code":"Success","Message":"success","Result":{"Passed":"Y","ExtFaceInfo":"{\"faceQuality\":\"HIGH\"}"}}"#;
    let response = RawResponse { status: 200, body: Some(body.as_slice().into()), ..RawResponse::default() };
    bench.bench_function("classification", |b| b.iter(|| classify(black_box(&response))));
}

/// A checkpoint with `rows` pending rows.
fn checkpoint(folder: &Path, rows: usize) -> SqliteStore {
    let mut store =
        SqliteStore::open(&folder.join(format!("{rows}.sqlite")), "bench").expect("checkpoint can be created");
    let mut all = || {
        store.start_run(&RunStart { id: RunId("r".into()), access_key: String::new(), rules: None, quota: None })?;
        let source = store.open_source("m.csv", Path::new("/photos"))?;
        for from in (0..rows).step_by(10_000) {
            let item = |n: usize| Item {
                row: n as u64 + 2,
                group: group(),
                user: user(n),
                picture: PhotoSource::Path(format!("/photos/{n}.jpg").into()),
                extra: Vec::new(),
                origin: None,
            };
            store.ingest(&Batch { source, rows: (from..rows.min(from + 10_000)).map(item).map(Ok).collect() })?;
        }
        store.finish_ingest()
    };
    all().expect("the disk has room");
    store
}

/// Records an intent and puts the item back: two changes per row.
fn intend_and_retry(store: &mut SqliteStore, claimed: &[Claimed]) {
    let mut write = |change: &dyn Fn(&Claimed) -> Change| {
        let changes: Vec<Change> = claimed.iter().map(change).collect();
        store.write(&changes).expect("no other writer, and the disk has room");
    };
    write(&|claimed| {
        let Claimed { item, group, user, .. } = claimed.clone();
        Change::Intend(NewIntent { item, group, user, digest: None, sent: None, stamp: None, at_ms: 0 })
    });
    write(&|claimed| {
        let outcome = Outcome::Retry { counts: false };
        Change::Settle(OutcomeRecord::new(claimed.item, ItemState::Sending, outcome))
    });
}

fn store(bench: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    for rows in [100_000, 1_000_000] {
        let mut store = checkpoint(folder.path(), rows);
        let mut claim =
            |after: usize, limit: usize| store.claim(ItemId(after as i64), limit).expect("checkpoint is readable");
        let name = format!("claim of {CLAIM_ROWS} of {rows} rows");
        bench.bench_function(&name, |b| b.iter(|| assert_eq!(claim(rows / 2, CLAIM_ROWS).len(), CLAIM_ROWS)));
        if rows == 100_000 {
            let claimed = claim(0, 50);
            let mut stage = bench.benchmark_group("intent and outcome");
            for size in [1, 50] {
                stage.throughput(Throughput::Elements(size as u64));
                let name = format!("in groups of {size}");
                stage.bench_function(&name, |b| b.iter(|| intend_and_retry(&mut store, &claimed[..size])));
            }
            stage.finish();
        }
    }
}

fn fit(bench: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let photo = camera::photo(folder.path(), 0, false);
    let mut stage = bench.benchmark_group("12 megapixels");
    stage.sample_size(20);
    stage.bench_function("fit", |b| b.iter(|| picture::load(&photo, &Rules::default()).expect("photo can be fitted")));
    stage.finish();
}

fn quick() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group!(name = stages; config = quick(); targets = wire, store, fit);
criterion_main!(stages);
