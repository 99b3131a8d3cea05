//! Handle of a running sandbox: start, inspect, reconfigure, shut down.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    Action, CallRecord, Credentials, Groups, Record, SandboxError, Script, Settings,
    buckets::StoredObject,
    connection::{Deps, serve},
    journal::max_in_any_second,
    records::NewRecord,
    service::{Service, lock},
};

/// Pause after a failed accept; the usual cause is that no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A running sandbox. Dropping it closes it; [`Sandbox::shutdown`] also waits for that.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    service: Arc<Service>,
    tasks: TaskTracker,
    closing: DropGuard,
}

impl Sandbox {
    /// Starts a sandbox on the current Tokio runtime.
    pub async fn start(settings: Settings) -> Result<Self, SandboxError> {
        let listen = settings.listen;
        if !listen.ip().is_loopback() {
            return Err(SandboxError::NotLoopback(listen));
        }
        let closing = CancellationToken::new();
        let service = Arc::new(Service::open(settings, closing.clone())?);
        let failed = |source| SandboxError::Listen { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tasks = TaskTracker::new();
        let deps = Deps { service: Arc::clone(&service), tasks: tasks.clone(), closing: closing.clone() };
        tasks.spawn(accept(listener, deps));
        Ok(Self { address, service, tasks, closing: closing.drop_guard() })
    }

    /// Base URL, `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Access key id that is accepted.
    pub fn access_key_id(&self) -> String {
        self.service.credentials().access_key_id
    }

    /// Secret of that access key.
    pub fn access_key_secret(&self) -> String {
        self.service.credentials().access_key_secret
    }

    /// Calls received so far, in order of arrival.
    pub fn journal(&self) -> Vec<CallRecord> {
        lock(&self.service.journal).calls().to_vec()
    }

    /// Current records, in order of creation.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.service.records).all()
    }

    /// Largest number of admitted calls of this action in any window of one second.
    pub fn max_accepted_in_any_second(&self, action: Action) -> usize {
        self.max_in_any_second(action, |call| call.admitted)
    }

    /// Largest number of calls of this action in any window of one second, rejected ones included.
    pub fn max_calls_in_any_second(&self, action: Action) -> usize {
        self.max_in_any_second(action, |_| true)
    }

    /// Replaces the fault script and restarts its call counts.
    pub fn set_faults(&self, script: Script) {
        self.service.set_faults(script);
    }

    /// Replaces the accepted credentials, as when a key is rotated or expires.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.service.set_credentials(credentials);
    }

    /// Replaces the face groups. Records of removed groups are kept.
    pub fn set_groups(&self, groups: Groups) {
        self.service.set_groups(groups);
    }

    /// Sets the quota of every action, in calls per second; `None` removes it.
    pub fn set_qps(&self, qps: Option<NonZeroU32>) {
        self.service.set_qps(qps);
    }

    /// Adds a record without a call, as another client would have; returns its `Id`.
    pub fn insert_record(&self, group: &str, user: &str, created: Timestamp) -> std::io::Result<i64> {
        let (group, user) = (group.to_owned(), user.to_owned());
        let new = NewRecord { group, user, created, picture: None, picture_bytes: None, created_after: None };
        lock(&self.service.records).add(new)
    }

    /// Stores an object in a bucket without a call; returns whether the bucket exists. `class` is its storage class.
    pub fn put_object(&self, bucket: &str, key: &str, bytes: Vec<u8>, class: Option<&str>) -> bool {
        let object = StoredObject::new(bytes.into(), class.map(str::to_owned), self.service.clock.now());
        lock(&self.service.objects).buckets().put(bucket, key, object).is_some()
    }

    /// Deletes a record without a call, as another client would have; returns whether it existed.
    pub fn delete_record(&self, id: i64) -> std::io::Result<bool> {
        lock(&self.service.records).delete(id)
    }

    /// Closes all connections, executes admitted calls without further delay, and returns when no task is left. The files
    /// can then be used by another sandbox.
    pub async fn shutdown(self) {
        let Self { address: _, service, tasks, closing } = self;
        drop(closing);
        tasks.close();
        tasks.wait().await;
        drop(service);
    }

    fn max_in_any_second(&self, action: Action, include: impl Fn(&CallRecord) -> bool) -> usize {
        let journal = lock(&self.service.journal);
        let is_included = |call: &&CallRecord| call.action.as_deref() == Some(action.name()) && include(call);
        max_in_any_second(journal.calls().iter().filter(is_included).map(|call| call.at))
    }
}

async fn accept(listener: TcpListener, deps: Deps) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = deps.closing.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                deps.tasks.spawn(serve(stream, deps.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "sandbox cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
