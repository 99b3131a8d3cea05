//! A photo from a file, in three steps, so that each can be waited for: [`read`] (checked before it is read, read once),
//! [`Original::plan`] (from the header alone), [`Original::render`] (the work, and the digest of what was read). All
//! block.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::io::Errno;
use sha2::Digest as _;

use super::{Defect, Facts, Kind, Plan, QualityPolicy, Rules, Structure, Warning, decode, fit, jpeg, plan, quality};
use crate::{
    domain::{Digest, FileStamp},
    files::{beneath, spelling},
};

/// Pixels across in which a photo that goes byte for byte is looked at: an eighth of a large one is enough.
const PREVIEW_SIZE: (u32, u32) = (240, 240);

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
pub fn stamp(path: &Path, root: Option<&Path>) -> io::Result<FileStamp> {
    let found = path.metadata().or_else(|error| match spelling::find(path, root).filter(|_| is_absent(&error)) {
        Some(other) => other.metadata(),
        None => Err(error),
    });
    found.map(|found| stamp_of(&found))
}

/// The digest of a file, if it is one that could be a photo: for telling whether it is still the one that it was.
pub fn digest(path: &Path, root: Option<&Path>, rules: &Rules) -> Result<(Digest, FileStamp), LoadError> {
    let (bytes, stamp) = read_file(path, root, rules.readable_bytes())?;
    Ok((digest_of(&bytes), stamp))
}

fn stamp_of(found: &Metadata) -> FileStamp {
    let mtime_ns = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
    FileStamp { size: found.size(), mtime_ns }
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

/// Reads a photo and its header. Where a root is given, nothing outside it is read.
pub fn read(path: &Path, root: Option<&Path>, rules: &Rules) -> Result<Original, LoadError> {
    let (bytes, stamp) = read_file(path, root, rules.readable_bytes())?;
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
        quality::too_small(&self.facts).into_iter().collect()
    }

    /// About how much memory the plan takes beside the file, in bytes.
    pub fn cost(&self, plan: &Plan, rules: &Rules) -> u64 {
        // A JPEG is decoded from a copy.
        let copy = if self.kind == Kind::Jpeg { self.bytes.len() as u64 } else { 0 };
        match plan {
            Plan::Passthrough if self.is_decoded_to_be_sent(rules) => copy + self.facts.decoding_cost(PREVIEW_SIZE),
            Plan::Passthrough => 0,
            Plan::Fit(geometry) => copy + self.facts.decoding_cost(geometry.drawn),
        }
    }

    /// Is it decoded, although it goes byte for byte?
    fn is_decoded_to_be_sent(&self, rules: &Rules) -> bool {
        rules.poor != QualityPolicy::Allow || self.facts.structure != Structure::Standard
    }

    /// Does it.
    pub fn render(self, plan: &Plan, rules: &Rules) -> Result<Picture, Defect> {
        let mut warnings = self.warnings();
        let is_decoded = self.is_decoded_to_be_sent(rules);
        let Self { bytes, kind, facts, stamp } = self;
        let digest = digest_of(&bytes);
        let mut assess = |pixels: &decode::Pixels| match (rules.poor, quality::assess(pixels)) {
            (QualityPolicy::Allow, _) | (QualityPolicy::Warn | QualityPolicy::Reject, None) => Ok(()),
            (QualityPolicy::Warn, Some(warning)) => {
                warnings.push(warning);
                Ok(())
            }
            (QualityPolicy::Reject, Some(warning)) => Err(Defect::QualityPolicy { warning }),
        };
        match plan {
            Plan::Passthrough => {
                if is_decoded {
                    assess(&decode::decode(&bytes, kind, PREVIEW_SIZE)?)?;
                }
                Ok(Picture { bytes, digest, sent: digest, stamp, warnings })
            }
            Plan::Fit(geometry) => {
                let pixels = fit::fit(&bytes, kind, &facts, geometry)?;
                drop(bytes);
                assess(&pixels)?;
                let bytes = fit::encode(&pixels, rules.limits.inline_bytes)?;
                let sent = digest_of(&bytes);
                Ok(Picture { bytes, digest, sent, stamp, warnings })
            }
        }
    }
}

/// All three steps.
pub fn load(path: &Path, rules: &Rules) -> Result<Picture, LoadError> {
    let original = read(path, None, rules)?;
    let plan = original.plan(rules)?;
    Ok(original.render(&plan, rules)?)
}

/// A file that is one, and is no larger than it may be.
fn read_file(path: &Path, root: Option<&Path>, limit: u64) -> Result<(Vec<u8>, FileStamp), LoadError> {
    let file = open(path, root)?;
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

/// As it is written; where that is not found, under another spelling.
fn open(path: &Path, root: Option<&Path>) -> Result<File, LoadError> {
    match beneath::open(path, root) {
        Ok(file) => Ok(file),
        Err(error) if is_absent(&error) => match spelling::find(path, root) {
            Some(other) => beneath::open(&other, root)
                .map_err(|error| if is_absent(&error) { not_found(path, root).into() } else { refusal(error) }),
            None => Err(not_found(path, root).into()),
        },
        Err(error) => Err(refusal(error)),
    }
}

/// Is there no such file: nothing of that name, links in a circle, a name that no file can have?
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput)
        || matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ))
}

/// Whether it is the photo or the machine that is to blame for a file that is there and can't be opened.
fn refusal(error: io::Error) -> LoadError {
    match Errno::from_io_error(&error) {
        Some(Errno::ACCESS | Errno::PERM) => Defect::PermissionDenied.into(),
        _ if beneath::escapes_root(&error) => Defect::OutsideRoot.into(),
        // A socket, or a device that is not there.
        Some(Errno::NXIO | Errno::NODEV) => Defect::NotAFile.into(),
        // EMFILE, EIO, ESTALE, ENOMEM and the like: the machine's fault, not the photo's.
        Some(_) | None => error.into(),
    }
}

fn not_found(path: &Path, root: Option<&Path>) -> Defect {
    let shown = |path: &Path| path.to_string_lossy().replace(char::is_control, "\u{fffd}");
    let written = shown(root.and_then(|root| path.strip_prefix(root).ok()).unwrap_or(path));
    let advice = match spelling::suggest(path, root) {
        Some(other) => format!("; did you mean {}?", shown(&other)),
        None if spelling::has_drive(&written) => {
            "; a drive letter means nothing here: write paths relative to the manifest's folder, or to --root DIR"
                .into()
        }
        None => String::new(),
    };
    Defect::NotFound { path: written, advice }
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
mod leniency_tests;
#[cfg(test)]
mod orientation_tests;
#[cfg(test)]
mod tests;
