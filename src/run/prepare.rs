//! A photo from its file to what is sent: read, checked, fitted and encoded on a blocking thread, under the budgets.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    attempt::{Next, Task},
    budget::BytePermit,
    engine::Engine,
};
use crate::{
    api::{Payload, Transport},
    checkpoint::Store,
    domain::{Digest, DrainReason, FileStamp, PhotoSource},
    picture::{self, Defect, LoadError, Warning},
};

/// A photo, ready to go.
pub(super) struct Prepared {
    pub(super) load: Delivery,
    pub(super) file: PhotoFile,
    pub(super) warnings: Vec<Warning>,
    /// Of the budget; given back with the bytes.
    pub(super) _bytes: Option<BytePermit>,
}

/// What goes.
pub(super) enum Delivery {
    /// The call.
    Inline(Payload),
    /// The photo, which is to be uploaded first.
    Upload(Vec<u8>),
}

/// The file that a photo came from; nothing, for a link.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PhotoFile {
    /// Of its bytes.
    pub(super) digest: Option<Digest>,
    /// Of what is sent, where that is something else.
    pub(super) sent: Option<Digest>,
    pub(super) stamp: Option<FileStamp>,
}

/// Why a photo is not ready.
pub(super) enum PrepareError {
    /// It will never pass as it is.
    Defect(Defect, Option<FileStamp>),
    /// The machine's trouble, not the photo's.
    Machine(std::io::Error),
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// Reads, checks and encodes, on a blocking thread, once the byte budget has room.
    pub(super) async fn prepare(&self, work: &Task) -> Result<Prepared, PrepareError> {
        let claimed = &work.claimed;
        if let Some(uploaded) = work.uploaded.as_ref().filter(|uploaded| uploaded.is_fresh(Instant::now())) {
            let payload = Payload::with_file(&claimed.group, &claimed.user, &uploaded.address);
            return Ok(Prepared {
                load: Delivery::Inline(payload),
                file: uploaded.file,
                warnings: Vec::new(),
                _bytes: None,
            });
        }
        let (group, user) = (claimed.group.clone(), claimed.user.clone());
        let path = match &claimed.picture {
            PhotoSource::Path(path) => path.clone(),
            PhotoSource::Url(url) => {
                let payload = Payload::with_url(&group, &user, url);
                return Ok(Prepared {
                    load: Delivery::Inline(payload),
                    file: PhotoFile::default(),
                    warnings: Vec::new(),
                    _bytes: None,
                });
            }
        };
        let (budget, workbench, rules) = (Arc::clone(&self.bytes), Arc::clone(&self.workbench), self.settings.photo);
        let root = (!self.settings.allow_outside_root).then(|| claimed.root.clone());
        let always_upload = self.settings.always_upload;
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let stamp = picture::stamp(&path, root.as_deref()).ok();
            let not_ready = |defect| PrepareError::Defect(defect, stamp);
            let mut bytes = runtime.block_on(budget.acquire(stamp.map_or(0, |stamp| stamp.size)));
            let original = picture::read(&path, root.as_deref(), &rules).map_err(|error| match error {
                LoadError::Defect(defect) => not_ready(defect),
                LoadError::Io(error) => PrepareError::Machine(error),
            })?;
            let plan = original.plan(&rules).map_err(not_ready)?;
            let cost = original.cost(&plan, &rules);
            let _at_work = (cost > 0).then(|| runtime.block_on(workbench.acquire(cost)));
            let picture = original.render(&plan, &rules).map_err(not_ready)?;
            let size = picture.bytes.len() as u64;
            bytes.shrink(size);
            let file = PhotoFile {
                digest: Some(picture.digest),
                sent: Some(picture.sent).filter(|sent| *sent != picture.digest),
                stamp: Some(picture.stamp),
            };
            let load = if always_upload || size > rules.limits.inline_bytes {
                Delivery::Upload(picture.bytes)
            } else {
                Delivery::Inline(Payload::with_picture(&group, &user, &picture.bytes))
            };
            Ok(Prepared { load, file, warnings: picture.warnings, _bytes: Some(bytes) })
        };
        // Not more than have a thread: those that wait for one would wait in front of whoever looks up the service's name.
        let _thread = self.preparing.acquire().await.expect("the semaphore is never closed");
        match tokio::task::spawn_blocking(work).await {
            Ok(prepared) => {
                if !matches!(prepared, Err(PrepareError::Machine(_))) {
                    self.unread.broken();
                }
                prepared
            }
            // A bug, and at this photo: it would come again with each try.
            Err(stopped) if stopped.is_panic() => {
                let why = "reading it failed with an internal error; please report this".to_owned();
                Err(PrepareError::Defect(Defect::Undecodable { why }, None))
            }
            Err(stopped) => Err(PrepareError::Machine(std::io::Error::other(stopped))),
        }
    }

    /// The machine could not read the file now. It is tried again, then left pending: the photo is not to blame.
    pub(super) fn retry_read(&self, mut work: Task, error: &std::io::Error) -> Next {
        let (row, is_first) = (work.claimed.row, work.read_faults == 0);
        work.read_faults += 1;
        if work.read_faults < self.settings.rules.attempts {
            if is_first {
                tracing::warn!(row, %error, "this machine can't read a photo now: trying again");
            }
            let wait = work.backoff.next(fastrand::f64());
            return Next::Requeue(work, Instant::now() + wait);
        }
        tracing::warn!(row, %error, tries = work.read_faults, "this machine could not read a photo: it stays pending");
        if self.unread.set_aside(error) {
            self.drain_unread();
        }
        Next::SetAside
    }

    /// Photos that the machine could not read are left to the next run.
    pub(super) fn drain_unread(&self) {
        if let Some((photos, error)) = self.unread.so_far() {
            self.drain(DrainReason::Unread { photos, error });
        }
    }
}
