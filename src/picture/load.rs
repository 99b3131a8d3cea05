//! A photo from a file, in three steps, so that each can be waited for: [`read`] (checked before it is read, read once),
//! [`Original::plan`] (from the header alone), [`Original::carry_out`] (the work, and the digest of what was read). All
//! block.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::io::Errno;
use sha2::Digest as _;

use super::{Defect, Facts, Kind, Plan, Poor, Rules, Warning, decode, fit, jpeg, plan, quality};
use crate::domain::{Digest, FileStamp};

/// Pixels across in which a photo that goes byte for byte is looked at: an eighth of a large one is enough.
const GLANCE: (u32, u32) = (240, 240);

/// A photo as it was read.
#[derive(Debug)]
pub struct Original {
    bytes: Vec<u8>,
    kind: Kind,
    facts: Facts,
    /// The file, as it was when it was opened.
    pub stamp: FileStamp,
}

/// A photo that the service may be asked to take.
#[derive(Debug)]
pub struct Picture {
    /// What is sent.
    pub bytes: Vec<u8>,
    /// Of the original file.
    pub digest: Digest,
    /// Of what is sent: the same, where it goes byte for byte.
    pub sent: Digest,
    /// The file, as it was when it was opened.
    pub stamp: FileStamp,
    /// What to know of it.
    pub warnings: Vec<Warning>,
}

/// Why there is no photo.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It will never pass as it is.
    #[error(transparent)]
    Defect(#[from] Defect),
    /// The machine's trouble: no file descriptor left, a disk or a file server that fails. Another try may help.
    #[error("the photo could not be read now; that is this machine's trouble, not the photo's")]
    Io(#[from] io::Error),
}

/// What tells, without reading it, whether a file is still the one that it was.
pub fn stamp(path: &Path) -> io::Result<FileStamp> {
    path.metadata().map(|found| stamp_of(&found))
}

/// The digest of a file, if it is one that could be a photo: for telling whether it is still the one that it was.
pub fn digest(path: &Path, rules: &Rules) -> Result<(Digest, FileStamp), LoadError> {
    let (bytes, stamp) = read_file(path, rules.readable_bytes())?;
    Ok((digest_of(&bytes), stamp))
}

fn stamp_of(found: &Metadata) -> FileStamp {
    let mtime_ns = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
    FileStamp { size: found.size(), mtime_ns }
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

/// Reads a photo and its header. Where a root is given, links must not lead out of it.
pub fn read(path: &Path, root: Option<&Path>, rules: &Rules) -> Result<Original, LoadError> {
    if root.is_some_and(|root| leads_out(path, root)) {
        return Err(Defect::OutsideRoot.into());
    }
    let (bytes, stamp) = read_file(path, rules.readable_bytes())?;
    Ok(Original { stamp, ..Original::of(bytes, rules)? })
}

impl Original {
    /// A photo that is in memory already.
    pub fn of(bytes: Vec<u8>, rules: &Rules) -> Result<Self, Defect> {
        // By content: a name says nothing.
        let kind = Kind::of(&bytes);
        let facts = match kind {
            Kind::Jpeg => jpeg::probe(&bytes)?,
            kind if rules.fit == super::Fit::Never => return Err(Defect::NotJpeg { kind }),
            kind => decode::probe(&bytes, kind)?,
        };
        let stamp = FileStamp { size: bytes.len() as u64, mtime_ns: 0 };
        Ok(Self { bytes, kind, facts, stamp })
    }

    /// What is to be done with it.
    pub fn plan(&self, rules: &Rules) -> Result<Plan, Defect> {
        plan::plan(self.kind, &self.facts, self.bytes.len() as u64, rules)
    }

    /// What its header gives to know.
    pub fn warnings(&self) -> Vec<Warning> {
        quality::small(&self.facts).into_iter().collect()
    }

    /// About how much memory the plan takes beside the file, in bytes.
    pub fn cost(&self, plan: &Plan, rules: &Rules) -> u64 {
        match plan {
            Plan::AsIs if rules.poor == Poor::Allow => 0,
            Plan::AsIs => self.facts.decoding_cost(GLANCE),
            Plan::Fit(geometry) => self.facts.decoding_cost(geometry.drawn),
        }
    }

    /// Does it.
    pub fn carry_out(self, plan: &Plan, rules: &Rules) -> Result<Picture, Defect> {
        let mut warnings = self.warnings();
        let Self { bytes, kind, facts, stamp } = self;
        let digest = digest_of(&bytes);
        let mut judge = |pixels: &decode::Pixels| match (rules.poor, quality::judge(pixels)) {
            (Poor::Allow, _) | (Poor::Warn | Poor::Reject, None) => Ok(()),
            (Poor::Warn, Some(warning)) => {
                warnings.push(warning);
                Ok(())
            }
            (Poor::Reject, Some(warning)) => Err(Defect::Poor { warning }),
        };
        match plan {
            Plan::AsIs => {
                if rules.poor != Poor::Allow {
                    judge(&decode::decode(&bytes, kind, GLANCE)?)?;
                }
                Ok(Picture { bytes, digest, sent: digest, stamp, warnings })
            }
            Plan::Fit(geometry) => {
                let pixels = fit::fit(&bytes, kind, &facts, geometry)?;
                drop(bytes);
                judge(&pixels)?;
                let bytes = fit::encode(&pixels, rules.limits.inline_bytes)?;
                let sent = digest_of(&bytes);
                Ok(Picture { bytes, digest, sent, stamp, warnings })
            }
        }
    }
}

/// Does a path that lies beneath the root by its name lie elsewhere by a link? Where it can't be told, reading it will
/// say why.
fn leads_out(path: &Path, root: &Path) -> bool {
    path.canonicalize().and_then(|path| root.canonicalize().map(|root| !path.starts_with(root))).unwrap_or(false)
}

/// All three steps.
pub fn load(path: &Path, rules: &Rules) -> Result<Picture, LoadError> {
    let original = read(path, None, rules)?;
    let plan = original.plan(rules)?;
    Ok(original.carry_out(&plan, rules)?)
}

/// A file that is one, and is no larger than it may be.
fn read_file(path: &Path, limit: u64) -> Result<(Vec<u8>, FileStamp), LoadError> {
    let file = open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(Defect::NotAFile.into());
    }
    let stamp = stamp_of(&found);
    match stamp.size {
        0 => return Err(Defect::Empty.into()),
        size if size > limit => return Err(Defect::TooLarge { size, limit }.into()),
        _ => {}
    }
    Ok((read_bytes(&file, stamp.size, limit)?, stamp))
}

/// A pipe must not block us, whoever may write to it.
fn open(path: &Path) -> Result<File, LoadError> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Defect::NotFound.into(),
        io::ErrorKind::PermissionDenied => Defect::PermissionDenied.into(),
        _ => match Errno::from_io_error(&error) {
            // A socket, or a device that is not there.
            Some(Errno::NXIO | Errno::NODEV) => Defect::NotAFile.into(),
            // Links in a circle; a name that no file can have.
            Some(Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ) => Defect::NotFound.into(),
            None if error.kind() == io::ErrorKind::InvalidInput => Defect::NotFound.into(),
            // EMFILE, ENFILE, EIO, ESTALE, ENOMEM, ETIMEDOUT, EHOSTDOWN and whatever else a machine may say: not the photo's.
            Some(_) | None => error.into(),
        },
    })
}

/// Never more than it may be, also if the file grows meanwhile.
fn read_bytes(file: &File, size: u64, limit: u64) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Defect::TooLarge { size: bytes.len() as u64, limit }.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
