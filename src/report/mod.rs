//! Shows a run: progress while it lasts, the summary at its end, exports and the HTML report afterwards.
//!
//! Counts always come from the checkpoint and are never added up here, so everything shown is on disk.

mod check;
mod export;
mod format;
mod html;
mod json;
mod last_run;
mod metrics;
mod progress;
mod summary;

pub use check::{CheckReport, CheckSummary, check_lines};
pub use export::{ExportError, Exporter};
pub use format::{bytes, duration, group_digits, plural, plural_is};
pub use html::{HtmlReport, Ids, TITLE};
pub use json::{Status, Summary};
pub use last_run::last_run;
pub use metrics::metrics;
pub use progress::{Progress, Snapshot, View, json_line, print, print_json, stdout_failure};
pub use summary::{quiet_summary, run_summary, skipped, table};
