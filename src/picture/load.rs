//! Loads a photo in three blocking steps: [`read`] reads it once from where it lies, [`Original::plan`]
//! decides from the header alone, [`Original::render`] does the work and computes the digest of what was read. The
//! caller can wait for memory or a processor between the steps.

use std::{io, path::Path};

use sha2::Digest as _;

use super::{
    Defect, FaceBox, FacePolicy, FaceProblem, Geometry, ImageInfo, Kind, Plan, QualityPolicy, Rules, Structure,
    Warning,
    decode::{self, Pixels},
    face::{self, FaceReport},
    fit, jpeg,
    orientation::apply_orientation,
    plan, quality,
};
use crate::{
    domain::{Digest, FatalError, FileStamp},
    storage::{self, Place, ReadError, Storage, Stored},
};

/// Least size in pixels to which a photo that is sent unchanged is decoded: 1/8 scale of a large one is enough.
const PREVIEW_SIZE: (u32, u32) = (240, 240);
/// Memory in bytes that the search for a face takes.
const FACE_COST: u64 = 4_000_000;

/// Photo as read from its file.
#[derive(Debug)]
pub struct Original {
    bytes: Vec<u8>,
    kind: Kind,
    info: ImageInfo,
    /// Stamp of the file when it was opened.
    pub stamp: FileStamp,
}

/// Photo that is ready to send.
#[derive(Debug)]
pub struct Picture {
    /// JPEG to send.
    pub bytes: Vec<u8>,
    /// Digest of the original file.
    pub digest: Digest,
    /// Digest of `bytes`; equals `digest` if the photo is unchanged.
    pub sent: Digest,
    /// Stamp of the file when it was opened.
    pub stamp: FileStamp,
    /// Quality problems of the photo.
    pub warnings: Vec<Warning>,
    /// Where the largest face is, if one was looked for and found.
    pub face: Option<FaceBox>,
}

/// Failure to load a photo.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The photo can't be enrolled as it is.
    #[error(transparent)]
    Defect(#[from] Defect),
    /// No photo in object storage can be read until a person acts.
    #[error(transparent)]
    Fatal(FatalError),
    /// A failure of this machine, such as no free file descriptor or a failing disk or file server; a retry may help.
    #[error("cannot read the photo: this machine failed, the photo may be fine")]
    Io(#[from] io::Error),
}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(unavailable) => Self::Defect(unavailable.into()),
            ReadError::Fatal(fatal) => Self::Fatal(fatal),
            ReadError::Io(error) => Self::Io(error),
        }
    }
}

/// Digest of a file that could be a photo, to detect changes of its content.
pub fn digest(storage: &Storage, place: &Place, root: &Path, rules: &Rules) -> Result<(Digest, FileStamp), LoadError> {
    let Stored { bytes, stamp } = storage.read(place, root, rules.readable_bytes())?;
    Ok((digest_of(&bytes), stamp))
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

/// Reads a photo and its header.
pub fn read(storage: &Storage, place: &Place, root: &Path, rules: &Rules) -> Result<Original, LoadError> {
    Ok(Original::from_stored(storage.read(place, root, rules.readable_bytes())?, rules)?)
}

impl Original {
    /// Takes a photo that was read.
    pub fn from_stored(Stored { bytes, stamp }: Stored, rules: &Rules) -> Result<Self, Defect> {
        Ok(Self { stamp, ..Self::from_bytes(bytes, rules)? })
    }

    /// Takes a photo that is already in memory.
    pub fn from_bytes(bytes: Vec<u8>, rules: &Rules) -> Result<Self, Defect> {
        // By content: the extension proves nothing.
        let kind = Kind::detect(&bytes);
        let info = match kind {
            Kind::Jpeg => jpeg::probe(&bytes)?,
            kind if rules.fit == super::Fit::Never => return Err(Defect::NotJpeg { kind }),
            kind => decode::probe(&bytes, kind)?,
        };
        let stamp = FileStamp { size: bytes.len() as u64, mark: 0 };
        Ok(Self { bytes, kind, info, stamp })
    }

    /// Decides how to prepare the photo.
    pub fn plan(&self, rules: &Rules) -> Result<Plan, Defect> {
        plan::plan(self.kind, &self.info, self.bytes.len() as u64, rules)
    }

    /// Says if a photo is not portrait because it lies on its side, where `--faces` looks. Costs as much memory as
    /// [`Plan::Passthrough`].
    pub fn explain(&self, defect: Defect, rules: &Rules) -> Defect {
        let Defect::NotPortrait { width, height, turned: None } = defect else { return defect };
        let is_small_enough = u64::from(width) * u64::from(height) <= rules.limits.original_pixels;
        if rules.faces == FacePolicy::Ignore || !is_small_enough {
            return defect;
        }
        let Ok(stored) = decode::decode(&self.bytes, self.kind, PREVIEW_SIZE) else { return defect };
        let seen = face::find(&apply_orientation(stored, self.info.orientation), height);
        Defect::NotPortrait { width, height, turned: seen.problems.into_iter().find(|problem| problem.is_lying()) }
    }

    /// Warnings from the header alone.
    pub fn warnings(&self) -> Vec<Warning> {
        quality::check_size(&self.info).into_iter().collect()
    }

    /// Estimated memory of the plan in bytes, without the file itself.
    pub fn cost(&self, plan: &Plan, rules: &Rules) -> u64 {
        // A JPEG is decoded from a normalised copy.
        let copy = if self.kind == Kind::Jpeg { self.bytes.len() as u64 } else { 0 };
        let face = if self.needs_face(plan, rules) { FACE_COST } else { 0 };
        match plan {
            Plan::Passthrough if self.is_always_decoded(rules) => copy + self.info.decoding_cost(PREVIEW_SIZE) + face,
            Plan::Passthrough => 0,
            Plan::Fit(geometry) if geometry.follows_face => {
                // The whole photo is turned upright in a copy.
                let (width, height) = fit::decode_size(&self.info, geometry);
                let upright = 12 * u64::from(width) * u64::from(height);
                copy + self.info.decoding_cost((width, height)) + upright + face
            }
            Plan::Fit(geometry) => copy + self.info.decoding_cost(geometry.scaled) + face,
        }
    }

    /// Whether the photo is decoded even if it is sent unchanged.
    fn is_always_decoded(&self, rules: &Rules) -> bool {
        rules.quality != QualityPolicy::Allow
            || rules.faces != FacePolicy::Ignore
            || self.info.structure != Structure::Standard
    }

    /// Whether a face is looked for.
    fn needs_face(&self, plan: &Plan, rules: &Rules) -> bool {
        let follows_face = match plan {
            Plan::Passthrough => false,
            Plan::Fit(geometry) => geometry.follows_face,
        };
        follows_face || rules.faces != FacePolicy::Ignore
    }

    /// Carries out the plan.
    pub fn render(self, plan: &Plan, rules: &Rules) -> Result<Picture, Defect> {
        let mut findings = Findings { rules, warnings: self.warnings(), face: None };
        let is_decoded = self.is_always_decoded(rules);
        let Self { bytes, kind, info, stamp } = self;
        let digest = digest_of(&bytes);
        let (bytes, sent) = match plan {
            Plan::Passthrough => {
                if is_decoded {
                    let preview = decode::decode(&bytes, kind, PREVIEW_SIZE)?;
                    findings.assess_quality(&preview)?;
                    findings.look_for_face(&preview, info.height)?;
                }
                (bytes, digest)
            }
            Plan::Fit(geometry) => {
                let pixels = if geometry.follows_face {
                    let whole = fit::decode_whole(&bytes, kind, &info, geometry)?;
                    drop(bytes);
                    let geometry = findings.crop_around_face(&whole, geometry, info.width)?;
                    fit::crop(whole, &info, &geometry)?
                } else {
                    let pixels = fit::fit(&bytes, kind, &info, geometry)?;
                    drop(bytes);
                    findings.look_for_face(&pixels, pixels.height)?;
                    fit::pad(pixels, geometry.canvas)
                };
                findings.assess_quality(&pixels)?;
                let bytes = fit::encode(&pixels, rules.limits.inline_bytes)?;
                let sent = digest_of(&bytes);
                (bytes, sent)
            }
        };
        Ok(Picture { bytes, digest, sent, stamp, warnings: findings.warnings, face: findings.face })
    }
}

/// What the pixels of a photo show.
struct Findings<'a> {
    rules: &'a Rules,
    warnings: Vec<Warning>,
    face: Option<FaceBox>,
}

impl Findings<'_> {
    fn assess_quality(&mut self, pixels: &Pixels) -> Result<(), Defect> {
        match (self.rules.quality, quality::assess(pixels)) {
            (QualityPolicy::Allow, _) | (QualityPolicy::Warn | QualityPolicy::Reject, None) => {}
            (QualityPolicy::Warn, Some(warning)) => self.warnings.push(warning),
            (QualityPolicy::Reject, Some(warning)) => return Err(Defect::PoorQuality { warning }),
        }
        Ok(())
    }

    /// Looks for the face if `--faces` asks for it. `sent_height` is the height in which these pixels are sent.
    fn look_for_face(&mut self, pixels: &Pixels, sent_height: u32) -> Result<(), Defect> {
        match self.rules.faces {
            FacePolicy::Ignore => Ok(()),
            FacePolicy::Warn | FacePolicy::Reject => self.add_face(face::find(pixels, sent_height)),
        }
    }

    /// Moves the crop to the face on the whole photo, and says so if there is none.
    fn crop_around_face(&mut self, whole: &Pixels, geometry: &Geometry, width: u32) -> Result<Geometry, Defect> {
        let mut report = face::find(whole, geometry.canvas.1);
        if self.rules.faces == FacePolicy::Ignore {
            report.problems.retain(|problem| *problem == FaceProblem::Missing);
        }
        let geometry = report.face.map_or(*geometry, |face| geometry.around(&face, width));
        self.add_face(report)?;
        Ok(geometry)
    }

    fn add_face(&mut self, FaceReport { face, problems }: FaceReport) -> Result<(), Defect> {
        let severe = problems.iter().copied().find(|problem| problem.is_severe());
        if let Some(problem) = severe.filter(|_| self.rules.faces == FacePolicy::Reject) {
            return Err(Defect::UnusableFace { problem, face });
        }
        self.face = face;
        self.warnings.extend(problems.into_iter().map(Warning::Face));
        Ok(())
    }
}

/// Reads, plans and renders a photo, wherever it lies.
pub fn load(path: &Path, rules: &Rules) -> Result<Picture, LoadError> {
    let storage = Storage::new(storage::Settings { allow_outside_root: true, names_in: None });
    let original = read(&storage, &Place::Path(path.to_owned()), Path::new("/"), rules)?;
    let plan = original.plan(rules)?;
    Ok(original.render(&plan, rules)?)
}

#[cfg(test)]
mod leniency_tests;
#[cfg(test)]
mod orientation_tests;
#[cfg(test)]
mod tests;
