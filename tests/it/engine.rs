//! Engines in the process of the test, over a transport of its own.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use face_enroll::{
    api::{AccessKey, Client, Credentials, Endpoint, Transport, UploadTarget},
    checkpoint::{Checkpoint, Store},
    pace::{Gate, InDoubtPolicy, Qps, QuotaUse, RetryRules},
    picture::Rules,
    run::{Deps, Gates, Limits, Precheck, SendMode, Settings, Stop},
};
use tokio::{sync::mpsc, time::Instant};

pub fn client<T: Transport>(transport: T) -> Client<T> {
    let endpoint = Endpoint::custom("http://127.0.0.1:1").unwrap();
    let upload = UploadTarget { endpoint: endpoint.clone(), region: None };
    let key = AccessKey::new("k".into(), "s".into(), None);
    Client::new(transport, endpoint, upload, Credentials::from_static(key))
}

pub fn gate<A>(quota: Qps) -> Gate<A> {
    Gate::new(quota, QuotaUse::Dedicated, None, Instant::now())
}

/// What an engine is made of; `quotas` are those of its queries and of everything else.
pub fn deps<T: Transport, S: Store>(
    transport: T,
    checkpoint: Checkpoint<S>,
    stop: Stop,
    (query, quota): (Qps, Qps),
) -> Deps<T, S> {
    let gates =
        Gates { add: gate(quota), query: gate(query), delete: gate(quota), authorize: gate(quota), post: gate(quota) };
    Deps { client: client(transport), checkpoint, gates, events: mpsc::channel(1).0, stop }
}

pub fn settings(quota: Qps) -> Settings {
    Settings {
        quota,
        concurrency: NonZeroUsize::new(64).unwrap(),
        rules: RetryRules { attempts: 3 },
        in_doubt: InDoubtPolicy::Reconcile,
        settle: Duration::from_secs(30),
        limits: Limits::default(),
        give_up_after: Duration::from_secs(60),
        keep_going: true,
        photo: Rules::default(),
        precheck: Precheck::Off,
        send: SendMode::Auto,
        quality_check: None,
        bandwidth: None,
        storage: Arc::default(),
        window: None,
    }
}
