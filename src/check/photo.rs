//! Checks one row as a run would.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Settings, Task};
use crate::{
    domain::{ErrorCode, FatalError},
    picture::{self, Defect, FaceBox, LoadError, Plan, Warning},
    storage::Place,
};

/// Estimated bytes per pixel of a fitted JPEG, if it is not rendered: a face at quality 80.
const FITTED_BYTES_PER_PIXEL: f64 = 0.12;

/// A checked row.
#[derive(Debug)]
pub struct CheckedRow {
    /// Result of the check.
    pub result: RowResult,
    /// Bytes of the photo that were read.
    pub read_bytes: u64,
}

/// What a run would do with a row.
#[derive(Debug)]
pub enum RowResult {
    /// The row would be rejected.
    Rejected {
        /// Code of the rejection.
        code: ErrorCode,
        /// Reason for the user.
        message: String,
        /// Where the largest face is, if the photo is rejected for it.
        face: Option<FaceBox>,
    },
    /// No photo in object storage can be read until a person acts.
    Stopped(FatalError),
    /// This machine failed to read the photo, which may be fine.
    Unread {
        /// Reason for the user.
        message: String,
    },
    /// The row repeats an earlier one and would be skipped.
    Repeated {
        /// Number of the earlier row.
        first: u64,
    },
    /// The photo is a link, which would be sent unread.
    Link,
    /// The photo would be sent.
    Photo {
        /// Bytes that would be sent.
        sent_bytes: u64,
        /// Time that fitting took; `None` if the photo is sent unchanged.
        fitting: Option<Duration>,
        /// Quality problems of the photo.
        warnings: Vec<Warning>,
        /// Where the largest face is, if one was looked for and found.
        face: Option<FaceBox>,
    },
}

pub(super) fn check_row(task: &Task, root: &Path, settings: &Settings) -> CheckedRow {
    let item = match task {
        Task::Item(item, _) => item,
        Task::Repeated(_, first) => {
            return CheckedRow { result: RowResult::Repeated { first: *first }, read_bytes: 0 };
        }
        Task::Invalid(error) => {
            let result = RowResult::Rejected { code: error.defect.code(), message: error.message.clone(), face: None };
            return CheckedRow { result, read_bytes: 0 };
        }
    };
    let Ok(place) = Place::of(&item.picture) else {
        return CheckedRow { result: RowResult::Link, read_bytes: 0 };
    };
    let mut read_bytes = 0;
    let result = check_photo(&place, root, settings, &mut read_bytes).unwrap_or_else(|error| match error {
        LoadError::Defect(defect) => {
            let face = if let Defect::UnusableFace { face, .. } = &defect { *face } else { None };
            RowResult::Rejected { code: defect.code(), message: defect.to_string(), face }
        }
        LoadError::Fatal(fatal) => RowResult::Stopped(fatal),
        LoadError::Io(error) => RowResult::Unread {
            message: format!("cannot read photo ({error}): this machine failed, the photo may be fine"),
        },
    });
    CheckedRow { result, read_bytes }
}

fn check_photo(place: &Place, root: &Path, settings: &Settings, read_bytes: &mut u64) -> Result<RowResult, LoadError> {
    let rules = &settings.rules;
    let original = picture::read(&settings.storage, place, root, rules)?;
    *read_bytes = original.stamp.size;
    let explain = |defect| if settings.headers_only { defect } else { original.explain(defect, rules) };
    let plan = original.plan(rules).map_err(explain)?;
    if settings.headers_only {
        let warnings = original.warnings();
        return Ok(match plan {
            Plan::Passthrough => RowResult::Photo { sent_bytes: *read_bytes, fitting: None, warnings, face: None },
            Plan::Fit(geometry) => {
                let pixels = f64::from(geometry.canvas.0) * f64::from(geometry.canvas.1);
                let sent_bytes = (pixels * FITTED_BYTES_PER_PIXEL) as u64;
                RowResult::Photo { sent_bytes, fitting: Some(Duration::ZERO), warnings, face: None }
            }
        });
    }
    let started = Instant::now();
    let picture = original.render(&plan, rules)?;
    let fitting = matches!(plan, Plan::Fit(_)).then(|| started.elapsed());
    let sent_bytes = picture.bytes.len() as u64;
    Ok(RowResult::Photo { sent_bytes, fitting, warnings: picture.warnings, face: picture.face })
}
