//! One row, looked at as a run would.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Settings, Task};
use crate::{
    domain::{ErrorCode, PhotoSource},
    picture::{self, LoadError, Plan, Warning},
};

/// Bytes of a fitted JPEG for each pixel, where it is not made: quality 80 of a face.
const BYTES_PER_PIXEL: f64 = 0.12;

/// What was seen of a row.
#[derive(Debug)]
pub struct Found {
    /// What.
    pub look: Look,
    /// Bytes of its photo that were read.
    pub read_bytes: u64,
}

/// See [`Found`].
#[derive(Debug)]
pub enum Look {
    /// It would be rejected.
    CallFailure {
        /// Why.
        code: ErrorCode,
        /// Why, for a person.
        message: String,
    },
    /// The machine could not read it: nothing is known of it.
    Unread {
        /// Why.
        message: String,
    },
    /// A link: passed through unread.
    Link,
    /// A photo that would be sent.
    Photo {
        /// Bytes of it that would be sent.
        sent_bytes: u64,
        /// How long it took to fit; none: it goes as it is.
        fitting: Option<Duration>,
        /// What to know of it.
        warnings: Vec<Warning>,
    },
}

pub(super) fn look(task: &Task, root: &Path, settings: &Settings) -> Found {
    let item = match task {
        Task::Item(item, _) => item,
        Task::CallFailure(error) => {
            let look = Look::CallFailure { code: error.defect.code(), message: error.message.clone() };
            return Found { look, read_bytes: 0 };
        }
    };
    let PhotoSource::Path(path) = &item.picture else { return Found { look: Look::Link, read_bytes: 0 } };
    let mut read_bytes = 0;
    let look = photo(path, root, settings, &mut read_bytes).unwrap_or_else(|error| match error {
        LoadError::Defect(defect) => Look::CallFailure { code: defect.code(), message: defect.to_string() },
        LoadError::Io(error) => Look::Unread {
            message: format!("it could not be read now ({error}): that is this machine's trouble, not the photo's"),
        },
    });
    Found { look, read_bytes }
}

fn photo(path: &Path, root: &Path, settings: &Settings, read_bytes: &mut u64) -> Result<Look, LoadError> {
    let rules = &settings.rules;
    let original = picture::read(path, (!settings.allow_outside_root).then_some(root), rules)?;
    *read_bytes = original.stamp.size;
    let plan = original.plan(rules)?;
    if settings.headers_only {
        let warnings = original.warnings();
        return Ok(match plan {
            Plan::Passthrough => Look::Photo { sent_bytes: *read_bytes, fitting: None, warnings },
            Plan::Fit(geometry) => {
                let pixels = f64::from(geometry.canvas.0) * f64::from(geometry.canvas.1);
                let sent_bytes = (pixels * BYTES_PER_PIXEL) as u64;
                Look::Photo { sent_bytes, fitting: Some(Duration::ZERO), warnings }
            }
        });
    }
    let started = Instant::now();
    let picture = original.render(&plan, rules)?;
    let fitting = matches!(plan, Plan::Fit(_)).then(|| started.elapsed());
    Ok(Look::Photo { sent_bytes: picture.bytes.len() as u64, fitting, warnings: picture.warnings })
}
