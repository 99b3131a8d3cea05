//! A photo from its file to what is sent: read, checked, fitted and encoded on a blocking thread, under the budgets.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    budget::Budgeted,
    engine::Engine,
    unit::{End, Work},
};
use crate::{
    api::{Payload, Transport},
    checkpoint::Store,
    domain::{Digest, DrainReason, FileStamp, PictureRef},
    picture::{self, Defect, LoadError, Warning},
};

/// A photo, ready to go.
pub(super) struct Prepared {
    pub(super) load: Load,
    pub(super) file: PhotoFile,
    pub(super) warnings: Vec<Warning>,
    /// Of the budget; given back with the bytes.
    pub(super) _bytes: Option<Budgeted>,
}

/// What goes.
pub(super) enum Load {
    /// The call.
    Call(Payload),
    /// The photo, which is to be uploaded first.
    Photo(Vec<u8>),
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
pub(super) enum NotReady {
    /// It will never pass as it is.
    Defect(Defect, Option<FileStamp>),
    /// The machine's trouble, not the photo's.
    Machine(std::io::Error),
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// Reads, checks and encodes, on a blocking thread, once the byte budget has room.
    pub(super) async fn prepare(&self, work: &Work) -> Result<Prepared, NotReady> {
        let claimed = &work.claimed;
        if let Some(uploaded) = work.uploaded.as_ref().filter(|uploaded| uploaded.is_fresh(Instant::now())) {
            let payload = Payload::with_file(&claimed.group, &claimed.user, &uploaded.address);
            return Ok(Prepared { load: Load::Call(payload), file: uploaded.file, warnings: Vec::new(), _bytes: None });
        }
        let (group, user) = (claimed.group.clone(), claimed.user.clone());
        let path = match &claimed.picture {
            PictureRef::Path(path) => path.clone(),
            PictureRef::Url(url) => {
                let payload = Payload::with_url(&group, &user, url);
                return Ok(Prepared {
                    load: Load::Call(payload),
                    file: PhotoFile::default(),
                    warnings: Vec::new(),
                    _bytes: None,
                });
            }
        };
        let (budget, workbench, rules) = (Arc::clone(&self.bytes), Arc::clone(&self.workbench), self.settings.photo);
        let root = (!self.settings.allow_outside_root).then(|| claimed.root.clone());
        let uploads_all = self.settings.uploads_all;
        let runtime = tokio::runtime::Handle::current();
        let work = move || {
            let stamp = picture::stamp(&path, root.as_deref()).ok();
            let not_ready = |defect| NotReady::Defect(defect, stamp);
            let mut bytes = runtime.block_on(budget.acquire(stamp.map_or(0, |stamp| stamp.size)));
            let original = picture::read(&path, root.as_deref(), &rules).map_err(|error| match error {
                LoadError::Defect(defect) => not_ready(defect),
                LoadError::Io(error) => NotReady::Machine(error),
            })?;
            let plan = original.plan(&rules).map_err(not_ready)?;
            let cost = original.cost(&plan, &rules);
            let _at_work = (cost > 0).then(|| runtime.block_on(workbench.acquire(cost)));
            let picture = original.carry_out(&plan, &rules).map_err(not_ready)?;
            let size = picture.bytes.len() as u64;
            bytes.shrink(size);
            let file = PhotoFile {
                digest: Some(picture.digest),
                sent: Some(picture.sent).filter(|sent| *sent != picture.digest),
                stamp: Some(picture.stamp),
            };
            let load = if uploads_all || size > rules.limits.inline_bytes {
                Load::Photo(picture.bytes)
            } else {
                Load::Call(Payload::with_picture(&group, &user, &picture.bytes))
            };
            Ok(Prepared { load, file, warnings: picture.warnings, _bytes: Some(bytes) })
        };
        // Not more than have a thread: those that wait for one would wait in front of whoever looks up the service's name.
        let _thread = self.preparing.acquire().await.expect("the semaphore is never closed");
        match tokio::task::spawn_blocking(work).await {
            Ok(prepared) => {
                if !matches!(prepared, Err(NotReady::Machine(_))) {
                    self.unread.broken();
                }
                prepared
            }
            // A bug, and at this photo: it would come again with each try.
            Err(stopped) if stopped.is_panic() => {
                let why = "reading it failed with an internal error; please report this".to_owned();
                Err(NotReady::Defect(Defect::Undecodable { why }, None))
            }
            Err(stopped) => Err(NotReady::Machine(std::io::Error::other(stopped))),
        }
    }

    /// The machine could not read the file now. It is tried again, then left pending: the photo is not to blame.
    pub(super) fn read_again(&self, mut work: Work, error: &std::io::Error) -> End {
        let (row, is_first) = (work.claimed.row, work.read_faults == 0);
        work.read_faults += 1;
        if work.read_faults < self.settings.rules.attempts {
            if is_first {
                tracing::warn!(row, %error, "this machine can't read a photo now: trying again");
            }
            let wait = work.backoff.next(fastrand::f64());
            return End::Again(work, Instant::now() + wait);
        }
        tracing::warn!(row, %error, tries = work.read_faults, "this machine could not read a photo: it stays pending");
        if self.unread.set_aside(error) {
            self.drain_unread();
        }
        End::SetAside
    }

    /// Photos that the machine could not read are left to the next run.
    pub(super) fn drain_unread(&self) {
        if let Some((photos, error)) = self.unread.so_far() {
            self.drain(DrainReason::Unread { photos, error });
        }
    }
}
