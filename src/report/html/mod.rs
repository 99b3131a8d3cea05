//! HTML report to hand on: one page without network access or scripts, for screen (light and dark) and print.
//!
//! Ids are masked by default; the paths of the photos are left out, because they often contain ids.

mod advice;
mod charts;

use std::{borrow::Cow, path::Path};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::advice::recommended_action;
use super::format::{duration, group_digits, plural, utc};
use crate::{
    checkpoint::{ExportRow, Reader, RunSummaryRow, StoreError},
    domain::{Counts, ItemState, Latencies, printable_lines},
};

const STYLE: &str = include_str!("style.css");
/// Start of the page's title, by which a report is recognised.
pub const TITLE: &str = "Face enrolment: ";
/// Latest runs to show.
const MAX_RUNS: usize = 60;
/// Rows to list; the rest is in the export.
const MAX_ROWS: usize = 50;
/// Slowest responses to list.
const MAX_SLOWEST: usize = 10;

/// Whether the report shows ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// `u*****07`
    Masked,
    /// Unchanged.
    Shown,
}

/// Data of the report, as read from the checkpoint.
pub struct HtmlReport {
    checkpoint: String,
    binding: Option<String>,
    groups: Vec<String>,
    is_live: bool,
    counts: Counts,
    reasons: Vec<(ItemState, String, u64)>,
    qualities: Vec<(String, u64)>,
    runs: Vec<RunSummaryRow>,
    not_enrolled: Vec<ExportRow>,
    slowest: Vec<ExportRow>,
    ids: Ids,
}

impl HtmlReport {
    /// Reads the data from the checkpoint.
    pub fn read(reader: &Reader, checkpoint: &Path, ids: Ids) -> Result<Self, StoreError> {
        Ok(Self {
            checkpoint: checkpoint.display().to_string(),
            binding: reader.binding()?,
            groups: reader.groups()?,
            is_live: reader.is_live(),
            counts: reader.counts()?,
            reasons: reader.reasons()?,
            qualities: reader.qualities()?,
            runs: reader.runs(MAX_RUNS)?,
            not_enrolled: reader.not_enrolled(MAX_ROWS)?,
            slowest: reader.slowest(MAX_SLOWEST)?,
            ids,
        })
    }

    /// Renders the page. `now_ms` is in milliseconds since 1970.
    pub fn render(&self, now_ms: i64) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (TITLE) (group_digits(self.counts.enrolled)) " of " (group_digits(self.counts.total)) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    (self.head(now_ms))
                    (self.outcome())
                    (self.reasons())
                    (self.pace())
                    (self.responses())
                    (self.quality())
                    (self.runs())
                    (self.rows())
                }
            }
        };
        // Escape control and bidirectional characters in names and in the service's messages.
        let page = page.into_string();
        match printable_lines(&page) {
            Cow::Borrowed(_) => page,
            Cow::Owned(escaped) => escaped,
        }
    }

    fn head(&self, now_ms: i64) -> Markup {
        html! {
            h1 { "Face enrolment" }
            p.soft {
                "As of " (utc(now_ms)) @if self.is_live { ", while a run is in progress" } ". "
                @if self.groups.len() == 1 { "Face group " } @else { "Face groups " }
                (self.groups.join(", "))
                @if let Some(binding) = &self.binding { " at " (binding.trim_start_matches("region:").trim_start_matches("endpoint:")) }
                ". Checkpoint " code { (self.checkpoint) } "."
            }
        }
    }

    fn outcome(&self) -> Markup {
        let counts = &self.counts;
        let states = [
            (ItemState::Enrolled, counts.enrolled, "the service has the record"),
            (ItemState::Rejected, counts.rejected, "this photo or row must be fixed"),
            (ItemState::Failed, counts.failed, "all attempts failed; a retry may help"),
            (ItemState::InDoubt, counts.in_doubt, "sent; the result is not known yet"),
            (ItemState::Pending, counts.pending, "not attempted yet"),
        ];
        let share = |n: u64| if counts.total == 0 { 0.0 } else { n as f64 * 100.0 / counts.total as f64 };
        html! {
            h2 { "Outcome" }
            div.bar role="img" aria-label="Rows by state" {
                @for (state, n, _) in states.iter().filter(|(_, n, _)| *n > 0) {
                    span class=(state.name()) style=(format!("width:{:.3}%", share(*n))) {}
                }
            }
            table {
                @for (state, n, what) in states {
                    tr {
                        td { span class={ "dot " (state.name()) } {} (state.name().replace('_', " ")) }
                        td.n { (group_digits(n)) }
                        td.n.soft { (format!("{:.1} %", share(n))) }
                        td.soft { (what) }
                    }
                }
                tr {
                    th { "rows" }
                    th.n { (group_digits(counts.total)) }
                    th {}
                    th { @if !counts.is_balanced() { "does not add up: please report this" } }
                }
            }
            @if counts.changed > 0 {
                p { (group_digits(counts.changed)) " have a newer photo in the manifest than the enrolled one." }
            }
            @if counts.vanished > 0 {
                p { (group_digits(counts.vanished)) " are no longer in any manifest; they are kept and not sent." }
            }
        }
    }

    fn reasons(&self) -> Markup {
        let reasons: Vec<_> =
            self.reasons.iter().filter(|(state, code, _)| recommended_action(*state, code).is_some()).collect();
        html! {
            @if !reasons.is_empty() {
                h2 { "Why, and what to do" }
                div.scroll { table {
                    tr { th { "state" } th { "reason" } th.n { "rows" } th { "what to do" } }
                    @for (state, code, n) in reasons {
                        tr {
                            td { span class={ "dot " (state.name()) } {} (state.name().replace('_', " ")) }
                            td { (code) }
                            td.n { (group_digits(*n)) }
                            td { (recommended_action(*state, code).unwrap_or_default()) }
                        }
                    }
                } }
                @if self.counts.rejected + self.counts.failed > 0 {
                    p.soft {
                        "All such rows, as a manifest to fix and run again: "
                        code { "face-enroll export --status rejected,failed --checkpoint " (self.checkpoint) " -o fix.csv" }
                    }
                }
            }
        }
    }

    fn pace(&self) -> Markup {
        let calls: u64 = self.runs.iter().map(|run| run.totals.calls).sum();
        let throttled: u64 = self.runs.iter().map(|run| run.totals.throttled).sum();
        let drawing = charts::pace(&self.runs);
        html! {
            @if let Some(drawing) = drawing {
                h2 { "Rate" }
                p.soft {
                    (group_digits(calls)) " calls in " (plural(self.runs.len() as u64, "run")) ", "
                    (group_digits(throttled)) " of them throttled (red). The line is the quota."
                }
                div.scroll { (drawing) }
            }
        }
    }

    fn responses(&self) -> Markup {
        let all = Latencies::sum(self.runs.iter().map(|run| &run.latencies));
        let within = |share: f64| all.quantile(share).unwrap_or_default();
        html! {
            @if let Some(drawing) = charts::latencies(&all) {
                h2 { "Response times" }
                p.soft {
                    "Half of " (group_digits(all.answers())) " answers came within " (within(0.5)) " ms, 90 % within "
                    (within(0.9)) " ms, 99 % within " (within(0.99)) " ms."
                }
                div.scroll { (drawing) }
            }
            @if !self.slowest.is_empty() {
                p.soft { "The slowest:" }
                div.scroll { table {
                    tr { th.n { "row" } th { "manifest" } th { "id" } th.n { "time" } th { "state" } th { "request" } }
                    @for row in &self.slowest {
                        tr {
                            td.n { (row.row) }
                            td { (file_name(&row.source)) }
                            td { (self.id(row)) }
                            td.n { (group_digits(row.latency_ms.unwrap_or_default())) " ms" }
                            td { (row.state.name().replace('_', " ")) }
                            td { code { (row.request_id.as_deref().unwrap_or_default()) } }
                        }
                    }
                } }
            }
        }
    }

    fn quality(&self) -> Markup {
        html! {
            @if self.qualities.iter().any(|(quality, _)| !quality.is_empty()) {
                h2 { "Photo quality reported by the service" }
                table.few {
                    @for (quality, n) in &self.qualities {
                        tr {
                            td { @if quality.is_empty() { span.soft { "unknown" } } @else { (quality) } }
                            td.n { (group_digits(*n)) }
                            td.n.soft { (format!("{:.1} %", *n as f64 * 100.0 / self.counts.enrolled.max(1) as f64)) }
                        }
                    }
                }
            }
        }
    }

    fn runs(&self) -> Markup {
        html! {
            @if let Some(drawing) = charts::timeline(&self.runs) {
                h2 { "Runs" }
                div.scroll { (drawing) }
                div.scroll { table {
                    tr { th { "started (UTC)" } th { "run id" } th.n { "duration" } th.n { "enrolled" } th.n { "calls" } th.n { "throttled" } th { "ended" } }
                    @for run in &self.runs {
                        tr {
                            td { (utc(run.started_ms).replace('T', " ").trim_end_matches('Z')) }
                            td { code { (run.run_id) } }
                            td.n { (duration(std::time::Duration::from_millis((run.last_ms() - run.started_ms).unsigned_abs()))) }
                            td.n { (group_digits(run.totals.newly_enrolled)) }
                            td.n { (group_digits(run.totals.calls)) }
                            td.n { (group_digits(run.totals.throttled)) }
                            td { (Self::exit_text(run)) }
                        }
                    }
                } }
            }
        }
    }

    fn exit_text(run: &RunSummaryRow) -> String {
        match (&run.exit_reason, run.exit_code) {
            (_, _) if run.is_live => "in progress".to_owned(),
            (Some(reason), Some(code)) => format!("{reason} (exit {code})"),
            (_, _) => "ended without recording a result (killed?); the next run continued".to_owned(),
        }
    }

    fn rows(&self) -> Markup {
        let listed = self.not_enrolled.len() as u64;
        let all = self.counts.rejected + self.counts.failed + self.counts.in_doubt;
        html! {
            @if listed > 0 {
                h2 { "Rows that are not enrolled" }
                @if all > listed { p.soft { "The first " (listed) " of " (group_digits(all)) "; the rest is in the export." } }
                div.scroll { table {
                    tr { th.n { "row" } th { "manifest" } th { "id" } th { "state" } th { "reason" } th { "message" } }
                    @for row in &self.not_enrolled {
                        tr {
                            td.n { (row.row) }
                            td { (file_name(&row.source)) }
                            td { (self.id(row)) }
                            td { span class={ "dot " (row.state.name()) } {} (row.state.name().replace('_', " ")) }
                            td { (row.code.as_deref().unwrap_or_default()) }
                            td { (self.message(row)) }
                        }
                    }
                } }
            }
        }
    }

    /// The message, without the name of a missing photo when ids are masked: the name is often the id.
    fn message<'r>(&self, row: &'r ExportRow) -> &'r str {
        let message = row.message.as_deref().unwrap_or_default();
        match self.ids {
            Ids::Masked if row.code.as_deref() == Some("NotFound") => {
                message.split_once(':').map_or(message, |(text, _)| text)
            }
            Ids::Shown | Ids::Masked => message,
        }
    }

    fn id(&self, row: &ExportRow) -> String {
        let id = row.user.as_deref().unwrap_or_default();
        match self.ids {
            Ids::Shown => id.to_owned(),
            Ids::Masked => masked(id),
        }
    }
}

/// Masks an id, leaving enough to recognise it next to its row.
fn masked(id: &str) -> String {
    /// Shorter ids would be recognisable from the characters that are left.
    const MIN_CHARS: usize = 6;
    let chars: Vec<char> = id.chars().collect();
    match chars.as_slice() {
        [] => String::new(),
        [first, middle @ .., before, last] if chars.len() >= MIN_CHARS => {
            format!("{first}{}{before}{last}", "*".repeat(middle.len()))
        }
        all => "*".repeat(all.len()),
    }
}

fn file_name(source: &str) -> &str {
    Path::new(source).file_name().and_then(|name| name.to_str()).unwrap_or(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_ids_keep_their_length_and_little_else() {
        assert_eq!(["", "u1", "user07", "\u{5f20}\u{4e09}"].map(masked), ["", "**", "u***07", "**"]);
    }
}
