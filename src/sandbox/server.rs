//! The sandbox as its owner holds it: opens, looks inside, changes what goes wrong, closes.

use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    Action, CallRecord, Credentials, Groups, Record, SandboxError, Script, Settings,
    connection::{Deps, serve},
    journal::max_accepted_in_any_second,
    ledger::NewRecord,
    service::{Service, lock},
};

/// How long to leave a listener alone that can't accept: usually there is no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A running sandbox. It closes when it is dropped; [`Sandbox::shutdown`] waits until it has.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    service: Arc<Service>,
    tasks: TaskTracker,
    closing: DropGuard,
}

impl Sandbox {
    /// Opens a sandbox on the runtime of the caller.
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

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The key that may call.
    pub fn access_key_id(&self) -> String {
        self.service.credentials().access_key_id
    }

    /// Its secret.
    pub fn access_key_secret(&self) -> String {
        self.service.credentials().access_key_secret
    }

    /// Everything that has arrived so far, in the order of arrival.
    pub fn journal(&self) -> Vec<CallRecord> {
        lock(&self.service.journal).arrivals().to_vec()
    }

    /// Every record that there is now, in the order in which they were made.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.service.ledger).all()
    }

    /// The most calls of this action that were let through in any one second, wherever it begins.
    pub fn max_accepted_in_any_second(&self, action: Action) -> usize {
        self.count_worst_second(action, |arrival| arrival.admitted)
    }

    /// The same of all calls that arrived, refused ones too.
    pub fn max_calls_in_any_second(&self, action: Action) -> usize {
        self.count_worst_second(action, |_| true)
    }

    /// From now on this goes wrong; calls are counted anew.
    pub fn set_faults(&self, script: Script) {
        self.service.set_faults(script);
    }

    /// From now on these may call: a key that was changed or has expired.
    pub fn set_credentials(&self, credentials: Credentials) {
        self.service.set_credentials(credentials);
    }

    /// From now on there are these groups; records of a group that is gone stay in the ledger.
    pub fn set_groups(&self, groups: Groups) {
        self.service.set_groups(groups);
    }

    /// From now on each action allows so many calls a second; none: no limit.
    pub fn set_qps(&self, qps: Option<NonZeroU32>) {
        self.service.set_qps(qps);
    }

    /// Puts a record there that nobody sent, as another tool would have; gives its `Id`.
    pub fn insert_record(&self, group: &str, user: &str, created: Timestamp) -> std::io::Result<i64> {
        let (group, user) = (group.to_owned(), user.to_owned());
        let new = NewRecord { group, user, created, picture: None, picture_bytes: None, made_at: None };
        lock(&self.service.ledger).add(new)
    }

    /// Takes a record away that nobody deleted by a call, as another tool would have. Was it there?
    pub fn delete_record(&self, id: i64) -> std::io::Result<bool> {
        lock(&self.service.ledger).delete(id)
    }

    /// Closes every connection, executes at once what was let through and still waits, and returns when nothing runs any
    /// more: the files are then free for another sandbox.
    pub async fn shutdown(self) {
        let Self { address: _, service, tasks, closing } = self;
        drop(closing);
        tasks.close();
        tasks.wait().await;
        drop(service);
    }

    fn count_worst_second(&self, action: Action, counts: impl Fn(&CallRecord) -> bool) -> usize {
        let journal = lock(&self.service.journal);
        let is_meant = |arrival: &&CallRecord| arrival.action.as_deref() == Some(action.name()) && counts(arrival);
        max_accepted_in_any_second(journal.arrivals().iter().filter(is_meant).map(|arrival| arrival.at))
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
                tracing::warn!(%error, "the sandbox can't accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
