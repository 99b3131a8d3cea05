//! `face-enroll check` and `run --dry-run`: reads and checks what a run would, and sends nothing.

use std::{
    io::{BufWriter, Write, stdout},
    ops::ControlFlow,
    path::Path,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{CliError, objects, shows_bar, sources, target};
use crate::{
    check::{CheckTotals, Finding, Forecast, NO_GROUP, Settings, Severity, check as check_sources},
    cli::{CheckArgs, PhotoArgs, ReportSink, RunArgs, SourceArgs, When},
    domain::FaceGroupCode,
    exit::Exit,
    files::{Audience, Output},
    pace::{BandwidthLimit, Qps},
    picture::{FacePolicy, QualityPolicy},
    report::{self, CheckReport, CheckSummary, ExportError, check_lines},
    storage::Objects,
};

/// Rows between two updates of the progress bar.
const REDRAW_ROWS: u64 = 64;

/// What to check, and how to report it.
struct Plan<'a> {
    read: &'a SourceArgs,
    photos: &'a PhotoArgs,
    group: Option<FaceGroupCode>,
    qps: Qps,
    bwlimit: Option<&'a BandwidthLimit>,
    headers_only: bool,
    default_faces: FacePolicy,
    report: ReportSink,
    json: bool,
    progress: When,
    objects: Objects,
}

pub(super) fn check(args: &CheckArgs, is_quiet: bool) -> Result<Exit, CliError> {
    let group = args.read.reading.group.clone().or_else(|| FaceGroupCode::parse(NO_GROUP).ok());
    let plan = Plan {
        read: &args.read,
        photos: &args.photos,
        group,
        qps: args.qps,
        bwlimit: None,
        headers_only: args.headers_only,
        default_faces: FacePolicy::Warn,
        report: args.report.clone(),
        json: args.json,
        progress: args.progress,
        objects: objects::for_check(args)?,
    };
    plan.run(is_quiet)
}

pub(super) fn dry_run(args: &RunArgs, is_quiet: bool) -> Result<Exit, CliError> {
    let plan = Plan {
        read: &args.read,
        photos: &args.photos,
        group: target::group(args),
        qps: args.sending.qps,
        bwlimit: args.sending.bwlimit.as_ref(),
        headers_only: false,
        default_faces: FacePolicy::Ignore,
        report: ReportSink::Text,
        json: args.show.json.is_some(),
        progress: args.show.progress,
        objects: objects::for_run(args)?,
    };
    plan.run(is_quiet)
}

impl Plan<'_> {
    fn run(&self, is_quiet: bool) -> Result<Exit, CliError> {
        let sources = sources::open(self.read, self.group.clone(), &self.objects)?;
        let sources = sources
            .into_iter()
            .map(|source| {
                let root = source.root().to_owned();
                (source, root)
            })
            .collect();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let settings = Settings {
            rules: sources::rules(self.photos, (QualityPolicy::Warn, self.default_faces)),
            headers_only: self.headers_only,
            storage: sources::storage(self.read, &self.objects),
            processors,
        };
        let mut output = self.create_output()?;
        let mut report = self.open_report(output.as_mut());
        let bar = self.bar(is_quiet);
        let mut failed = None;
        let totals = check_sources(sources, settings, &mut |findings, so_far| {
            for finding in findings {
                if let Err(error) = report.write(finding) {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
                let Finding { row, code, .. } = finding;
                match finding.severity {
                    Severity::Error => tracing::debug!(row, %code, "would be rejected"),
                    Severity::Warning => tracing::debug!(row, %code, "warning"),
                    Severity::Unread => tracing::debug!(row, %code, "could not be read now"),
                }
            }
            if let Some(bar) = bar.as_ref().filter(|_| so_far.rows.is_multiple_of(REDRAW_ROWS)) {
                bar.set_message(progress(so_far));
            }
            ControlFlow::Continue(())
        })?;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let finished = failed.map_or_else(|| report.finish(), Err);
        match finished.and_then(|()| Ok(output.map_or(Ok(()), Output::finish)?)) {
            Ok(()) => {}
            // A closed pipe is not an error.
            Err(error) if error.is_closed_pipe() => return Ok(Exit::Success),
            Err(error) => return Err(error.into()),
        }
        let exit = match (totals.rows, totals.parsed, totals.rejected()) {
            (1.., 0, _) => Exit::Source,
            (_, _, _) if totals.unread > 0 => Exit::TimeUp,
            (_, _, 0) => Exit::Success,
            (_, _, _) => Exit::Rejected,
        };
        if totals.faults.contains_key("NotFound") {
            sources::point_to_archive(self.read);
        }
        self.print_summary(&totals, processors, exit);
        Ok(exit)
    }

    fn print_summary(&self, totals: &CheckTotals, processors: usize, exit: Exit) {
        let bwlimit = self.bwlimit.and_then(|limit| limit.rate_at(jiff::Zoned::now().datetime()));
        let forecast = Forecast::new(totals, self.qps.get(), bwlimit, processors);
        if self.json {
            report::print_json(&CheckSummary::new(totals, &forecast, exit.code()));
        } else if self.report == ReportSink::Text {
            report::print(check_lines(totals, &forecast, self.qps.get()).trim_end());
        } else {
            crate::telemetry::eprint_plain(&check_lines(totals, &forecast, self.qps.get()));
        }
    }

    fn create_output(&self) -> Result<Option<Output>, CliError> {
        match &self.report {
            ReportSink::Text | ReportSink::Csv | ReportSink::JsonLines => Ok(None),
            ReportSink::File(path) => Ok(Some(
                Output::create(path, Audience::Owner).map_err(|error| CliError::from(ExportError::Write(error)))?,
            )),
        }
    }

    /// Reports to the output file, or to stdout without one.
    fn open_report<'o>(&self, output: Option<&'o mut Output>) -> CheckReport<Box<dyn Write + 'o>> {
        let to: Box<dyn Write> = match output {
            Some(output) => Box::new(BufWriter::new(output)),
            None => Box::new(BufWriter::new(stdout())),
        };
        let is_csv = |path: &Path| path.extension().is_some_and(|ending| ending == "csv");
        match &self.report {
            ReportSink::Text if !self.json => CheckReport::text(to),
            ReportSink::Csv => CheckReport::csv(to),
            ReportSink::File(path) if is_csv(path) => CheckReport::csv(to),
            ReportSink::Text | ReportSink::JsonLines | ReportSink::File(_) => CheckReport::json_lines(to),
        }
    }

    fn bar(&self, is_quiet: bool) -> Option<ProgressBar> {
        shows_bar(self.progress, is_quiet).then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}").expect("a valid template");
            ProgressBar::new_spinner().with_style(style)
        })
    }
}

fn progress(totals: &CheckTotals) -> String {
    format!(
        "{} · {} would be rejected · {} need fitting · {} read",
        report::plural(totals.rows, "row"),
        report::group_digits(totals.rejected()),
        report::group_digits(totals.fitted()),
        report::bytes(totals.read_bytes)
    )
}
