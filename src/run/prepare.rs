//! Reads, checks, fits and encodes a photo on a blocking thread, within the memory budgets.

use std::sync::Arc;

use tokio::{sync::Semaphore, time::Instant};

use super::{
    budget::{ByteBudget, DecodeLimiter, MAX_PREPARING},
    guards::Guards,
    settings::{SendMode, Settings},
    task::{Delivery, PhotoFile, PrepareError, Prepared, Task},
};
use crate::{
    api::{FaceQualityCheck, FormFields, Payload},
    domain::{FileStamp, ObjectRef, PhotoSource},
    picture::{Defect, LoadError, Original, Plan, Rules},
    storage::{Place, Reading, Storage},
};

/// Prepares photos for sending.
pub(super) struct Preparer {
    storage: Arc<Storage>,
    rules: Rules,
    send: SendMode,
    quality_check: Option<FaceQualityCheck>,
    threads: Semaphore,
    bytes: Arc<ByteBudget>,
    decode_limiter: Arc<DecodeLimiter>,
    guards: Arc<Guards>,
}

impl Preparer {
    pub(super) fn new(settings: &Settings, guards: Arc<Guards>) -> Self {
        Self {
            storage: Arc::clone(&settings.storage),
            rules: settings.photo,
            send: settings.send,
            quality_check: settings.quality_check,
            threads: Semaphore::new(MAX_PREPARING),
            bytes: Arc::default(),
            decode_limiter: Arc::default(),
            guards,
        }
    }

    /// Reads, checks and encodes the photo on a blocking thread, once the byte budget has room.
    pub(super) async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareError> {
        let claimed = &task.claimed;
        let fields = FormFields { group: &claimed.group, user: &claimed.user, quality_check: self.quality_check };
        if let Some(uploaded) = task.uploaded.as_ref().filter(|uploaded| uploaded.is_fresh(Instant::now())) {
            let payload = Payload::with_file(fields, &uploaded.address);
            return Ok(Prepared {
                load: Delivery::Inline(payload),
                file: uploaded.file,
                warnings: Vec::new(),
                _bytes: None,
            });
        }
        let place = match Place::of(&claimed.picture) {
            Ok(place) => place,
            Err(url) => {
                let payload = Payload::with_url(fields, url);
                return Ok(Prepared {
                    load: Delivery::Inline(payload),
                    file: PhotoFile::default(),
                    warnings: Vec::new(),
                    _bytes: None,
                });
            }
        };
        let (budget, decode_limiter, rules) = (Arc::clone(&self.bytes), Arc::clone(&self.decode_limiter), self.rules);
        let (storage, root) = (Arc::clone(&self.storage), claimed.root.clone());
        if let (SendMode::Link, Place::Object(object, _)) = (self.send, &place) {
            return self.prepare_link(task, object.clone(), place).await;
        }
        let (always_upload, quality_check) = (self.send == SendMode::Upload, self.quality_check);
        let (group, user) = (claimed.group.clone(), claimed.user.clone());
        let runtime = tokio::runtime::Handle::current();
        let prepare = move || {
            let limit = rules.readable_bytes();
            let mut stamp = storage.file_stamp(&place, &root);
            let acquire = |size: u64| runtime.block_on(budget.acquire(size));
            let mut bytes = place.object().is_none().then(|| acquire(stamp.map_or(0, |stamp| stamp.size)));
            let mut opened = |found: FileStamp| {
                stamp = Some(found);
                bytes = (found.size <= limit).then(|| acquire(found.size));
            };
            let stored = storage.read_stepwise(&place, &root, Reading { limit, opened: &mut opened });
            let not_ready = |defect: Defect| {
                let stamp = stamp.filter(|_| !defect.may_pass_unchanged());
                PrepareError::Defect(defect, stamp)
            };
            let original =
                stored.map_err(LoadError::from).and_then(|stored| Ok(Original::from_stored(stored, &rules)?));
            let original = original.map_err(|error| match error {
                LoadError::Defect(defect) => not_ready(defect),
                LoadError::Fatal(fatal) => PrepareError::Fatal(fatal),
                LoadError::Io(error) => PrepareError::Machine(error),
            })?;
            let explain = |defect| {
                let _looking = runtime.block_on(decode_limiter.acquire(original.cost(&Plan::Passthrough, &rules)));
                original.explain(defect, &rules)
            };
            let plan = original.plan(&rules).map_err(explain).map_err(not_ready)?;
            let cost = original.cost(&plan, &rules);
            let _decoding = (cost > 0).then(|| runtime.block_on(decode_limiter.acquire(cost)));
            let picture = original.render(&plan, &rules).map_err(not_ready)?;
            let size = picture.bytes.len() as u64;
            bytes.iter_mut().for_each(|bytes| bytes.shrink(size));
            let file = PhotoFile {
                digest: Some(picture.digest),
                sent: Some(picture.sent).filter(|sent| *sent != picture.digest),
                stamp: Some(picture.stamp),
            };
            let load = if always_upload || size > rules.limits.inline_bytes {
                Delivery::Upload(picture.bytes)
            } else {
                let fields = FormFields { group: &group, user: &user, quality_check };
                Delivery::Inline(Payload::with_picture(fields, &picture.bytes))
            };
            Ok(Prepared { load, file, warnings: picture.warnings, _bytes: bytes })
        };
        // At most as many as there are threads: photos queued for one would delay DNS lookups, which use the same pool.
        let _thread = self.threads.acquire().await.expect("the semaphore is never closed");
        match tokio::task::spawn_blocking(prepare).await {
            Ok(prepared) => {
                if !matches!(prepared, Err(PrepareError::Machine(_))) {
                    self.guards.unread.reset();
                }
                prepared
            }
            // A panic is a bug that this photo triggers; every retry would hit it again.
            Err(stopped) if stopped.is_panic() => {
                let why = "internal error while reading the photo; please report this".to_owned();
                Err(PrepareError::Defect(Defect::Undecodable { why }, None))
            }
            Err(stopped) => Err(PrepareError::Machine(std::io::Error::other(stopped))),
        }
    }

    /// Whether this photo is sent by a link.
    pub(super) fn sends_link(&self, photo: &PhotoSource) -> bool {
        self.send == SendMode::Link && matches!(photo, PhotoSource::Object(..))
    }

    /// Signs a link to an object, which is valid for this attempt. Its bytes are never read, so the photo's digest is unknown.
    async fn prepare_link(&self, task: &Task, object: ObjectRef, place: Place) -> Result<Prepared, PrepareError> {
        let (storage, root) = (Arc::clone(&self.storage), task.claimed.root.clone());
        let sign = move || {
            let stamp = storage.stamp(&place, &root).ok();
            storage.objects().presign(&object).map(|link| (link, stamp)).map_err(LoadError::from)
        };
        let _thread = self.threads.acquire().await.expect("the semaphore is never closed");
        let signed = tokio::task::spawn_blocking(sign).await;
        let signed = signed.map_err(|stopped| PrepareError::Machine(std::io::Error::other(stopped)))?;
        let (link, stamp) = signed.map_err(|error| match error {
            LoadError::Defect(defect) => PrepareError::Defect(defect, None),
            LoadError::Fatal(fatal) => PrepareError::Fatal(fatal),
            LoadError::Io(error) => PrepareError::Machine(error),
        })?;
        let (group, user) = (&task.claimed.group, &task.claimed.user);
        let payload = Payload::with_url(FormFields { group, user, quality_check: self.quality_check }, &link);
        let file = PhotoFile { stamp, ..PhotoFile::default() };
        Ok(Prepared { load: Delivery::Inline(payload), file, warnings: Vec::new(), _bytes: None })
    }
}
