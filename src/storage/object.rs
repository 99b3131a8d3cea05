//! Photos and manifests in object storage.
//!
//! Requests are made by a thread of its own, so that any thread may wait for one, with or without a runtime. The thread and
//! the credentials are set up by the first request. A photo is requested once, because its reader retries; a listing and the
//! head of a manifest are retried here.

use std::{
    fmt,
    io::{self, Read},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::{
    runtime::{Builder, Handle},
    sync::{OnceCell, oneshot},
};

use super::{ReadError, Reading, Stored, Unavailable, marks::Marks};
use crate::{
    api::oss::{ListRequest, ListedObject, ObjectBody, ObjectClient, ObjectError, ObjectPage},
    domain::{FatalError, FileStamp, ObjectRef, PhotoUrl},
};

/// Tries of a listing's page, or of a manifest's head.
const MAX_TRIES: u32 = 8;
/// Wait after the first failed try; doubled after each.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(15);
/// Most tries of a photo by a reader that does not come back to it.
const MAX_PATIENT_TRIES: u32 = 4;

/// Makes the client at the first request.
pub type Connect = Box<dyn Fn() -> BoxFuture<'static, Result<ObjectClient, FatalError>> + Send + Sync>;

/// Answer to a request that was started.
type Answer<R> = Receiver<Result<R, ObjectError>>;

/// Object storage. Cheap to clone.
#[derive(Clone)]
pub struct Objects(Arc<Inner>);

struct Inner {
    connect: Option<Arc<Connect>>,
    client: Arc<OnceCell<Arc<ObjectClient>>>,
    thread: OnceLock<Result<RuntimeThread, String>>,
    /// Whether any photo was opened.
    has_read: AtomicBool,
    marks: Mutex<Marks>,
}

/// The thread ends when this is dropped.
struct RuntimeThread {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("is_configured", &self.0.connect.is_some()).finish()
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self::of(None)
    }
}

impl Objects {
    /// Object storage that `connect` makes a client for.
    pub fn new(connect: Connect) -> Self {
        Self::of(Some(Arc::new(connect)))
    }

    fn of(connect: Option<Arc<Connect>>) -> Self {
        Self(Arc::new(Inner {
            connect,
            client: Arc::default(),
            thread: OnceLock::new(),
            has_read: AtomicBool::new(false),
            marks: Mutex::default(),
        }))
    }

    /// Starts a request on the thread.
    fn start<R, F>(&self, request: impl FnOnce(Arc<ObjectClient>) -> F + Send + 'static) -> Answer<R>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, ObjectError>> + Send,
    {
        let (answer, receiver) = sync_channel(1);
        let Some(connect) = self.0.connect.clone() else {
            let _ = answer.send(Err(ObjectError::Fatal(not_configured())));
            return receiver;
        };
        match self.0.thread.get_or_init(RuntimeThread::start) {
            Ok(thread) => {
                let client = Arc::clone(&self.0.client);
                thread.handle.spawn(async move {
                    let connect = || async { connect().await.map(Arc::new) };
                    let result = match client.get_or_try_init(connect).await {
                        Ok(client) => request(Arc::clone(client)).await,
                        Err(fatal) => Err(ObjectError::Fatal(fatal)),
                    };
                    // The receiver may have been given up; a channel of one never blocks its one sender.
                    let _ = answer.send(result);
                });
            }
            Err(error) => drop(answer.send(Err(failed(error.clone())))),
        }
        receiver
    }

    fn wait<R, F>(&self, request: impl FnOnce(Arc<ObjectClient>) -> F + Send + 'static) -> Result<R, ObjectError>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, ObjectError>> + Send,
    {
        receive(&self.start(request))
    }

    /// Reads an object of at most `limit` bytes, after [`Reading::opened`] was told its size.
    pub(super) fn read(&self, object: &ObjectRef, reading: &mut Reading<'_>) -> Result<Stored, ReadError> {
        let opened = self.open(object).map_err(|error| self.read_error(object, error))?;
        self.0.has_read.store(true, Relaxed);
        let size = opened.size.ok_or_else(|| failed("the store does not tell the object's size".to_owned()));
        let size = size.map_err(|error| self.read_error(object, error))?;
        let stamp = stamp(size, &opened.etag);
        (reading.opened)(stamp);
        match size {
            0 => return Err(Unavailable::Empty.into()),
            size if size > reading.limit => return Err(Unavailable::TooLarge { size, limit: reading.limit }.into()),
            _ => {}
        }
        let bytes = self.wait(move |_| read_body(opened, size)).map_err(|error| self.read_error(object, error))?;
        Ok(Stored { bytes, stamp })
    }

    /// Reads like [`Objects::read`], and tries a few times.
    pub(super) fn read_patiently(&self, object: &ObjectRef, limit: u64) -> Result<Stored, ReadError> {
        let mut tries = 1;
        loop {
            match self.read(object, &mut Reading { limit, opened: &mut |_| {} }) {
                Err(ReadError::Io(_)) if tries < MAX_PATIENT_TRIES => std::thread::sleep(wait_after(tries)),
                read => return read,
            }
            tries += 1;
        }
    }

    fn open(&self, object: &ObjectRef) -> Result<ObjectBody, ObjectError> {
        let place = object.clone();
        self.wait(|client| async move { client.get(&place).await })
    }

    /// A refusal before any object was read is a matter of permissions, not of the object.
    fn read_error(&self, object: &ObjectRef, error: ObjectError) -> ReadError {
        match error {
            ObjectError::NotFound => Unavailable::NotFound { path: object.to_string(), advice: String::new() }.into(),
            ObjectError::Denied { .. } if self.0.has_read.load(Relaxed) => Unavailable::PermissionDenied.into(),
            ObjectError::Denied { message } => ReadError::Fatal(denied(message)),
            ObjectError::NotRestored => Unavailable::NotRestored.into(),
            ObjectError::Fatal(fatal) => ReadError::Fatal(fatal),
            ObjectError::Changed | ObjectError::SignAgain | ObjectError::Failed(_) => {
                ReadError::Io(io::Error::other(error.to_string()))
            }
        }
    }

    /// A link by which the service reads the object itself. It is a secret: never store or log it.
    pub fn presign(&self, object: &ObjectRef) -> Result<PhotoUrl, ReadError> {
        let place = object.clone();
        let link = self.wait(|client| async move { client.presign(&place).await });
        link.map_err(|error| self.read_error(object, error))
    }

    /// Stamp of an object, from a listing that begins with it.
    pub(super) fn stamp(&self, object: &ObjectRef, root: Option<&ObjectRef>) -> Result<FileStamp, ReadError> {
        let mut marks = self.0.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = root.filter(|root| object.is_under(root)).map_or_else(String::new, |root| root.key.clone());
        while !marks.covers(object) {
            let request = ListRequest {
                prefix: prefix.clone(),
                start_after: marks.start_before(object, &prefix),
                ..ListRequest::default()
            };
            let page = self.list_page(&object.bucket, request.clone());
            let page = page.map_err(|error| self.read_error(object, error))?;
            marks.add(&object.bucket, &request, &page);
        }
        let found = marks.find(object);
        found.ok_or_else(|| Unavailable::NotFound { path: object.to_string(), advice: String::new() }.into())
    }

    fn list_page(&self, bucket: &str, request: ListRequest) -> Result<ObjectPage, ObjectError> {
        let bucket = bucket.to_owned();
        self.wait(|client| list_page(client, bucket, request))
    }

    /// Lists the objects under a prefix in the order of their keys. The first page is read at once.
    pub fn list(&self, place: &ObjectRef) -> Result<Listing, ObjectError> {
        let request = ListRequest { prefix: place.key.clone(), ..ListRequest::default() };
        let mut listing = Listing {
            objects: self.clone(),
            bucket: place.bucket.clone(),
            page: Vec::new().into_iter(),
            next: None,
            request,
        };
        let page = listing.objects.list_page(&listing.bucket, listing.request.clone()).map_err(listing_error)?;
        listing.turn_to(page);
        Ok(listing)
    }

    /// Whether objects under a prefix may be listed: asks for one key.
    pub fn first(&self, place: &ObjectRef) -> Result<Option<ObjectRef>, ObjectError> {
        let request = ListRequest { prefix: place.key.clone(), max_keys: Some(1), ..ListRequest::default() };
        let page = self.list_page(&place.bucket, request).map_err(listing_error)?;
        let key = page.objects.into_iter().next().map(|object| object.key);
        Ok(key.map(|key| ObjectRef { bucket: place.bucket.clone(), key }))
    }

    /// Whether an object may be read: asks for it, and does not read its body.
    pub fn probe(&self, object: &ObjectRef) -> Result<(), ObjectError> {
        self.open(object).map(drop).map_err(listing_error)
    }

    /// Opens an object as a stream.
    pub fn stream(&self, object: &ObjectRef) -> Result<ObjectStream, ObjectError> {
        let mut tries = 1;
        let body = loop {
            match self.open(object) {
                Err(ObjectError::Failed(_)) if tries < MAX_TRIES => std::thread::sleep(wait_after(tries)),
                opened => break opened.map_err(listing_error)?,
            }
            tries += 1;
        };
        Ok(ObjectStream {
            objects: self.clone(),
            object: object.clone(),
            etag: body.etag.clone(),
            body: Some(body),
            chunk: Bytes::new(),
            position: 0,
            is_over: false,
        })
    }
}

/// Stamp of an object: changes with its ETag.
pub fn stamp(size: u64, etag: &str) -> FileStamp {
    let digest = Sha256::digest(etag.as_bytes());
    let mark = i64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    FileStamp { size, mark }
}

fn failed(message: String) -> ObjectError {
    ObjectError::Failed(crate::domain::CallFailure {
        kind: crate::domain::FailureKind::Interrupted,
        message,
        request_id: None,
    })
}

fn denied(message: String) -> FatalError {
    FatalError::ObjectStorage { code: "AccessDenied".into(), message }
}

fn not_configured() -> FatalError {
    FatalError::ObjectStorage { code: "NoEndpoint".into(), message: "no endpoint is configured".to_owned() }
}

/// Nobody may list or stream at all where this is refused.
fn listing_error(error: ObjectError) -> ObjectError {
    match error {
        ObjectError::Denied { message } => ObjectError::Fatal(denied(message)),
        error => error,
    }
}

fn wait_after(tries: u32) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(1 << (tries - 1).min(8)).min(MAX_WAIT);
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn receive<R>(receiver: &Answer<R>) -> Result<R, ObjectError> {
    receiver.recv().unwrap_or_else(|_| Err(failed("the request was abandoned".to_owned())))
}

impl RuntimeThread {
    fn start() -> Result<Self, String> {
        let (stop, stopped) = oneshot::channel::<()>();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let handle = runtime.handle().clone();
        let run = move || drop(runtime.block_on(stopped));
        std::thread::Builder::new().name("objects".to_owned()).spawn(run).map_err(|error| error.to_string())?;
        Ok(Self { handle, _stop: stop })
    }
}

async fn read_body(mut body: ObjectBody, size: u64) -> Result<Vec<u8>, ObjectError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
    while let Some(chunk) = body.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(failed("the object's bytes broke off".to_owned())) }
}

/// Lists a page, with retries.
async fn list_page(client: Arc<ObjectClient>, bucket: String, request: ListRequest) -> Result<ObjectPage, ObjectError> {
    let mut tries = 1;
    loop {
        match client.list(&bucket, &request).await {
            Err(ObjectError::Failed(failure)) if tries < MAX_TRIES => {
                tracing::debug!(error = failure.message, tries, "a listing failed; retrying");
                tokio::time::sleep(wait_after(tries)).await;
            }
            listed => return listed,
        }
        tries += 1;
    }
}

/// Objects under a prefix. One page is held, and one is fetched ahead.
#[derive(Debug)]
pub struct Listing {
    objects: Objects,
    bucket: String,
    page: std::vec::IntoIter<ListedObject>,
    next: Option<Answer<ObjectPage>>,
    request: ListRequest,
}

impl Listing {
    /// Whether nothing is listed, or nothing more.
    pub fn is_empty(&self) -> bool {
        self.page.as_slice().is_empty() && self.next.is_none()
    }

    fn turn_to(&mut self, page: ObjectPage) {
        self.next = page.next.map(|token| {
            let request = ListRequest { token: Some(token), ..self.request.clone() };
            let bucket = self.bucket.clone();
            self.objects.start(|client| list_page(client, bucket, request))
        });
        self.page = page.objects.into_iter();
    }
}

impl Iterator for Listing {
    type Item = Result<ListedObject, ObjectError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(object) = self.page.next() {
                return Some(Ok(object));
            }
            match receive(&self.next.take()?) {
                Ok(page) => self.turn_to(page),
                Err(error) => return Some(Err(listing_error(error))),
            }
        }
    }
}

/// An object as a stream of bytes. One that breaks off goes on where it was, so that hours of reading are not lost.
#[derive(Debug)]
pub struct ObjectStream {
    objects: Objects,
    object: ObjectRef,
    etag: String,
    /// `None` after a failure.
    body: Option<ObjectBody>,
    chunk: Bytes,
    /// Bytes received.
    position: u64,
    is_over: bool,
}

impl ObjectStream {
    /// Receives the next bytes; none at the end.
    fn next_chunk(&mut self) -> Result<(), ObjectError> {
        let (object, position, etag) = (self.object.clone(), self.position, self.etag.clone());
        let body = self.body.take();
        let next = move |client: Arc<ObjectClient>| async move {
            let mut body = match body {
                Some(body) => body,
                None => client.get_rest(&object, position, &etag).await?,
            };
            let chunk = body.chunk().await?;
            Ok((body, chunk))
        };
        let (body, chunk) = self.objects.wait(next)?;
        self.is_over = chunk.is_none();
        self.body = Some(body);
        self.chunk = chunk.unwrap_or_default();
        self.position += self.chunk.len() as u64;
        Ok(())
    }
}

impl Read for ObjectStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut tries = 1;
        while self.chunk.is_empty() && !self.is_over {
            match self.next_chunk() {
                Ok(()) => {}
                Err(ObjectError::Failed(failure)) if tries < MAX_TRIES => {
                    tracing::debug!(object = %self.object, error = failure.message, tries, "reading broke off; going on");
                    std::thread::sleep(wait_after(tries));
                    tries += 1;
                }
                Err(error) => {
                    self.is_over = true;
                    return Err(io::Error::other(error.to_string()));
                }
            }
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
