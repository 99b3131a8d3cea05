//! Reads, checks, fits and encodes a photo on a blocking thread, within the memory budgets.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    engine::{Engine, SendMode},
    task::{Delivery, Next, PhotoFile, PrepareError, Prepared, Task},
};
use crate::{
    api::{FormFields, Payload, Transport},
    checkpoint::Store,
    domain::{DrainReason, FileStamp, ObjectRef},
    picture::{Defect, LoadError, Original},
    storage::{Place, Reading},
};

impl<T: Transport, S: Store> Engine<T, S> {
    /// Reads, checks and encodes the photo on a blocking thread, once the byte budget has room.
    pub(super) async fn prepare(&self, task: &Task) -> Result<Prepared, PrepareError> {
        let claimed = &task.claimed;
        if let Some(uploaded) = task.uploaded.as_ref().filter(|uploaded| uploaded.is_fresh(Instant::now())) {
            let payload = Payload::with_file(self.settings.form_fields(claimed), &uploaded.address);
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
                let payload = Payload::with_url(self.settings.form_fields(claimed), url);
                return Ok(Prepared {
                    load: Delivery::Inline(payload),
                    file: PhotoFile::default(),
                    warnings: Vec::new(),
                    _bytes: None,
                });
            }
        };
        let (budget, decode_limiter, rules) =
            (Arc::clone(&self.bytes), Arc::clone(&self.decode_limiter), self.settings.photo);
        let (storage, root) = (Arc::clone(&self.settings.storage), claimed.root.clone());
        if let (SendMode::Link, Place::Object(object, _)) = (self.settings.send, &place) {
            return self.prepare_link(task, object.clone(), place).await;
        }
        let always_upload = self.settings.send == SendMode::Upload;
        let (group, user) = (claimed.group.clone(), claimed.user.clone());
        let quality_check = self.settings.quality_check;
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
            let plan = original.plan(&rules).map_err(not_ready)?;
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
        let _thread = self.preparing.acquire().await.expect("the semaphore is never closed");
        match tokio::task::spawn_blocking(prepare).await {
            Ok(prepared) => {
                if !matches!(prepared, Err(PrepareError::Machine(_))) {
                    self.unread.reset();
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

    /// Signs a link to an object, which is valid for this attempt. Its bytes are never read, so the photo's digest is unknown.
    async fn prepare_link(&self, task: &Task, object: ObjectRef, place: Place) -> Result<Prepared, PrepareError> {
        let (storage, root) = (Arc::clone(&self.settings.storage), task.claimed.root.clone());
        let sign = move || {
            let stamp = storage.stamp(&place, &root).ok();
            storage.objects().presign(&object).map(|link| (link, stamp)).map_err(LoadError::from)
        };
        let _thread = self.preparing.acquire().await.expect("the semaphore is never closed");
        let signed = tokio::task::spawn_blocking(sign).await;
        let signed = signed.map_err(|stopped| PrepareError::Machine(std::io::Error::other(stopped)))?;
        let (link, stamp) = signed.map_err(|error| match error {
            LoadError::Defect(defect) => PrepareError::Defect(defect, None),
            LoadError::Fatal(fatal) => PrepareError::Fatal(fatal),
            LoadError::Io(error) => PrepareError::Machine(error),
        })?;
        let payload = Payload::with_url(self.settings.form_fields(&task.claimed), &link);
        let file = PhotoFile { stamp, ..PhotoFile::default() };
        Ok(Prepared { load: Delivery::Inline(payload), file, warnings: Vec::new(), _bytes: None })
    }

    /// Retries a file that the machine could not read, then leaves it pending: the photo is not at fault.
    pub(super) fn retry_read(&self, mut task: Task, error: &std::io::Error) -> Next {
        let (row, is_first) = (task.claimed.row, task.read_faults == 0);
        task.read_faults += 1;
        if task.read_faults < self.settings.rules.attempts {
            if is_first {
                tracing::warn!(row, %error, "cannot read a photo on this machine; retrying");
            }
            let wait = task.backoff.next(fastrand::f64());
            return Next::Requeue(task, Instant::now() + wait);
        }
        tracing::warn!(row, %error, tries = task.read_faults, "cannot read a photo on this machine; it stays pending");
        if self.unread.set_aside(error) {
            self.drain_unread();
        }
        Next::SetAside
    }

    /// Drains if there are photos that the machine could not read; the next run tries them.
    pub(super) fn drain_unread(&self) {
        if let Some((photos, error)) = self.unread.so_far() {
            self.drain(DrainReason::Unread { photos, error });
        }
    }
}
