//! Summary of a run, and the table of `status`, as text.

use std::{fmt::Write, path::Path, time::Duration};

use super::format::{duration, group_digits, plural, plural_is};
use crate::domain::{Counts, RunId, RunSummary};

/// Codes to show; the rest is in the export.
const MAX_CODES: usize = 8;

/// The rows by state, and by error code.
pub fn table(counts: &Counts) -> String {
    let mut text = String::new();
    let rows = [
        ("enrolled", counts.enrolled),
        ("rejected", counts.rejected),
        ("failed", counts.failed),
        ("in doubt", counts.in_doubt),
        ("pending", counts.pending),
    ];
    let width = group_digits(counts.total).len();
    for (name, n) in rows {
        let _ = writeln!(text, "  {name:<9} {:>width$}", group_digits(n));
    }
    let balance = if counts.is_balanced() { "" } else { "   DOES NOT ADD UP: please report this" };
    let _ = writeln!(text, "  {:<9} {:>width$}{balance}", "rows", group_digits(counts.total));
    if counts.changed > 0 {
        let _ = writeln!(
            text,
            "  {} enrolled with another photo than the manifest's (--on-change replace sends it)",
            group_digits(counts.changed)
        );
    }
    if counts.vanished > 0 {
        let _ = writeln!(text, "  {} no longer in their manifest (kept, not sent)", group_digits(counts.vanished));
    }
    if counts.skipped > 0 {
        let _ = writeln!(text, "  {} (-v names them)", skipped(counts.skipped));
    }
    let mut codes: Vec<(&String, &u64)> = counts.by_code.iter().collect();
    codes.sort_by_key(|(code, n)| (std::cmp::Reverse(**n), *code));
    if !codes.is_empty() {
        let shown: Vec<String> =
            codes.iter().take(MAX_CODES).map(|(code, n)| format!("{code} {}", group_digits(**n))).collect();
        let more = codes.len().saturating_sub(MAX_CODES);
        let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
        let _ = writeln!(text, "  by code   {}{rest}", shown.join(", "));
    }
    text
}

/// Says how many files of a directory, an archive or a bucket were left out.
pub fn skipped(files: u64) -> String {
    let were = if files == 1 { "file was" } else { "files were" };
    format!("{} {were} left out", group_digits(files))
}

/// The rows by state, what the run did, why it ended, and where to look next.
pub fn run_summary(run_id: &RunId, counts: &Counts, run: &RunSummary, checkpoint: &Path) -> String {
    let mut text = format!("{}  run id    {run_id}\n", table(counts));
    let totals = &run.totals;
    let elapsed = duration(Duration::try_from_secs_f64(totals.elapsed_s).unwrap_or_default());
    if totals.calls == 0 && totals.newly_enrolled == 0 && counts.pending == 0 && counts.in_doubt == 0 {
        let _ =
            writeln!(text, "nothing to do: {} already enrolled, 0 calls ({elapsed}).", group_digits(counts.enrolled));
    } else {
        let latencies = &totals.latencies;
        let answers = match (latencies.quantile(0.5), latencies.quantile(0.99)) {
            (Some(half), Some(most)) => format!("; half of the answers within {half} ms, 99 % within {most} ms"),
            (None, _) | (_, None) => String::new(),
        };
        let _ = writeln!(
            text,
            "{} enrolled in {elapsed}: {} at {:.1}/s, {} throttled, {}{answers}.",
            group_digits(totals.newly_enrolled),
            plural(totals.calls, "call"),
            totals.rate,
            group_digits(totals.throttled),
            plural(totals.queries, "query"),
        );
    }
    if totals.small > 0 {
        let _ = writeln!(
            text,
            "{} smaller than the recommended 480x640 pixels: face-enroll check names them.",
            plural_is(totals.small, "photo")
        );
    }
    text + &quiet_summary(counts, run, checkpoint)
}

/// Why the run ended, and where to look next.
pub fn quiet_summary(counts: &Counts, run: &RunSummary, checkpoint: &Path) -> String {
    let mut text = format!("{} (exit {}).\n", run.exit_reason, run.exit_code);
    let checkpoint = checkpoint.display();
    if counts.rejected > 0 {
        let _ = writeln!(
            text,
            "  what was rejected, and why:  face-enroll export --status rejected --checkpoint {checkpoint}"
        );
    }
    if counts.failed > 0 {
        let _ = writeln!(
            text,
            "  what failed, and why:        face-enroll export --status failed --checkpoint {checkpoint}"
        );
    }
    if counts.in_doubt > 0 {
        let _ = writeln!(text, "  rows in doubt are checked again by the next run");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RunTotals;

    #[test]
    fn summary_adds_up_and_says_where_to_look_next() {
        let counts = Counts {
            total: 1_212,
            enrolled: 1_200,
            rejected: 9,
            failed: 2,
            in_doubt: 1,
            by_code: [("Landscape".to_owned(), 8), ("Passed=N".to_owned(), 1), ("Timeout".to_owned(), 3)].into(),
            ..Counts::default()
        };
        let totals = RunTotals {
            newly_enrolled: 1_200,
            calls: 1_203,
            elapsed_s: 24.4,
            rate: 49.5,
            queries: 4,
            ..RunTotals::default()
        };
        let run = RunSummary { totals, exit_code: 12, exit_reason: "1 row is still in doubt".into() };
        let id = RunId("20261123T020015Z-7f3a".into());
        insta::assert_snapshot!(run_summary(&id, &counts, &run, Path::new("m.csv.enroll.sqlite")), @"
          enrolled  1,200
          rejected      9
          failed        2
          in doubt      1
          pending       0
          rows      1,212
          by code   Landscape 8, Timeout 3, Passed=N 1
          run id    20261123T020015Z-7f3a
        1,200 enrolled in 24.4s: 1,203 calls at 49.5/s, 0 throttled, 4 queries.
        1 row is still in doubt (exit 12).
          what was rejected, and why:  face-enroll export --status rejected --checkpoint m.csv.enroll.sqlite
          what failed, and why:        face-enroll export --status failed --checkpoint m.csv.enroll.sqlite
          rows in doubt are checked again by the next run
        ");
    }

    #[test]
    fn one_call_is_singular() {
        let totals = RunTotals { newly_enrolled: 1, calls: 1, queries: 1, ..RunTotals::default() };
        let run = RunSummary { totals, exit_code: 0, exit_reason: "Every row is enrolled".into() };
        let counts = Counts { total: 1, enrolled: 1, ..Counts::default() };
        let text = run_summary(&RunId("r".into()), &counts, &run, Path::new("m.sqlite"));
        assert!(text.contains("1 enrolled in 0.0s: 1 call at 0.0/s, 0 throttled, 1 query."), "{text}");
    }

    #[test]
    fn unbalanced_counts_are_reported() {
        let counts = Counts { total: 2, enrolled: 1, ..Counts::default() };
        assert!(table(&counts).contains("DOES NOT ADD UP"));
    }
}
