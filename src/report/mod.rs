//! What a run looks like from outside: progress while it lasts, the summary at its end, exports afterwards.
//!
//! Counts are always asked of the checkpoint, never added up here: what is shown is on disk.

mod check;
mod export;
mod figures;
mod html;
mod json;
mod last_run;
mod metrics;
mod progress;
mod summary;

pub use check::{CheckReport, CheckSummary, lines as check_lines};
pub use export::{ExportError, Exporter};
pub use figures::{bytes, duration, plural, thousands};
pub use html::{Ids, Page};
pub use json::{Status, Summary};
pub use last_run::last_run;
pub use metrics::metrics;
pub use progress::{Progress, Snapshot, View, json_line, print, print_json, stdout_failure};
pub use summary::{lines, skipped, table, verdict};
