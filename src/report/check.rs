//! What `check` has found: a line, a record or an object for each finding, and the sum of it.

use std::{collections::BTreeMap, fmt::Write as _, io::Write};

use serde::Serialize;

use super::{
    ExportError,
    figures::{bytes, duration, plural, thousands},
    progress::json_line,
    summary::skipped,
};
use crate::{
    check::{CheckTotals, Finding, Forecast, Severity},
    domain::printable,
};

/// Writes findings as they come.
pub struct CheckReport<W: Write>(Form<W>);

enum Form<W: Write> {
    Text(W),
    Csv(Box<csv::Writer<W>>),
    JsonLines(W),
}

/// A finding, as it is written.
#[derive(Serialize)]
struct Line<'a> {
    row: u64,
    source: &'a str,
    path: Option<&'a str>,
    url: Option<&'a str>,
    merchant_user_id: Option<&'a str>,
    face_group_code: Option<&'a str>,
    gravity: &'static str,
    code: &'a str,
    message: &'a str,
}

/// The same among other objects.
#[derive(Serialize)]
struct Object<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    line: Line<'a>,
}

impl<W: Write> CheckReport<W> {
    /// For people.
    pub fn text(to: W) -> Self {
        Self(Form::Text(to))
    }

    /// With a header.
    pub fn csv(to: W) -> Self {
        Self(Form::Csv(Box::new(csv::Writer::from_writer(to))))
    }

    /// An object a line.
    pub fn json_lines(to: W) -> Self {
        Self(Form::JsonLines(to))
    }

    /// One finding.
    pub fn write(&mut self, finding: &Finding) -> Result<(), ExportError> {
        let line = Line {
            row: finding.row,
            source: &finding.source,
            path: finding.fields.path.as_deref(),
            url: finding.fields.url.as_deref(),
            merchant_user_id: finding.fields.user.as_deref(),
            face_group_code: finding.fields.group.as_deref(),
            gravity: gravity(finding.severity),
            code: &finding.code.0,
            message: &printable(&finding.message),
        };
        match &mut self.0 {
            Form::Text(to) => {
                let word = match finding.severity {
                    Severity::Error => "",
                    Severity::Unread => "not known: ",
                    Severity::Warning => "warning: ",
                };
                let file = finding.file.as_deref().map(|file| format!(" ({file})")).unwrap_or_default();
                writeln!(to, "row {}{file}: {word}{}: {}", line.row, line.code, line.message)?;
            }
            Form::Csv(to) => to.serialize(line)?,
            Form::JsonLines(to) => {
                let object = Object { r#type: "finding", line };
                writeln!(to, "{}", json_line(&object))?;
            }
        }
        Ok(())
    }

    /// Everything is where it was to go.
    pub fn finish(self) -> Result<(), ExportError> {
        match self.0 {
            Form::Text(mut to) | Form::JsonLines(mut to) => to.flush()?,
            Form::Csv(mut to) => to.flush()?,
        }
        Ok(())
    }
}

fn gravity(gravity: Severity) -> &'static str {
    match gravity {
        Severity::Error => "fault",
        Severity::Unread => "unread",
        Severity::Warning => "warning",
    }
}

/// The sum, as one object.
#[derive(Debug, Serialize)]
pub struct CheckSummary<'a> {
    r#type: &'static str,
    total: u64,
    skipped: u64,
    good: u64,
    rejected: u64,
    fitted: u64,
    links: u64,
    unread: u64,
    by_code: &'a BTreeMap<String, u64>,
    warnings: &'a BTreeMap<String, u64>,
    read_bytes: u64,
    photo_bytes: u64,
    calls: u64,
    call_bytes: u64,
    seconds_at_quota: f64,
    mbit_per_second: f64,
    fits_per_second: Option<f64>,
    exit_code: u8,
}

impl<'a> CheckSummary<'a> {
    /// Of these.
    pub fn new(survey: &'a CheckTotals, forecast: &Forecast, exit_code: u8) -> Self {
        Self {
            r#type: "check",
            total: survey.rows,
            skipped: survey.skipped,
            good: survey.good,
            rejected: survey.rejected(),
            fitted: survey.fitted(),
            links: survey.links,
            unread: survey.unread,
            by_code: &survey.faults,
            warnings: &survey.warnings,
            read_bytes: survey.read_bytes,
            photo_bytes: survey.sent_bytes,
            calls: forecast.calls,
            call_bytes: forecast.bytes,
            seconds_at_quota: tenths(forecast.at_quota.as_secs_f64()),
            mbit_per_second: tenths(forecast.bits_per_second / 1e6),
            fits_per_second: forecast.fits_per_second.map(tenths),
            exit_code,
        }
    }
}

fn tenths(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

/// The sum, for people.
pub fn lines(survey: &CheckTotals, forecast: &Forecast, qps: f64) -> String {
    let mut text = format!(
        "{} rows: {} would be sent, {} would be rejected\n",
        thousands(survey.rows),
        thousands(survey.good),
        thousands(survey.rejected())
    );
    if survey.skipped > 0 {
        let _ = writeln!(text, "{} (-v names them)", skipped(survey.skipped));
    }
    if survey.unread > 0 {
        let _ = writeln!(
            text,
            "{} could not be read now by this machine: check again, they may be fine",
            plural(survey.unread, "photo")
        );
    }
    for (what, codes) in [("rejected", &survey.faults), ("warnings", &survey.warnings)] {
        let mut codes: Vec<(&String, &u64)> = codes.iter().collect();
        codes.sort_by_key(|(code, n)| (std::cmp::Reverse(**n), *code));
        for (code, n) in codes {
            let _ = writeln!(text, "  {what:<8} {:>9} {code}", thousands(*n));
        }
    }
    if survey.good > 0 {
        let _ = writeln!(
            text,
            "{} as they are, {} to be fitted, {} links: {} of photos in {} calls of {} in all",
            thousands(survey.unchanged),
            thousands(survey.fitted()),
            thousands(survey.links),
            bytes(survey.sent_bytes),
            thousands(forecast.calls),
            bytes(forecast.bytes)
        );
        let _ = writeln!(
            text,
            "at {qps} calls a second: {}, and {:.0} Mbit/s on the line",
            duration(forecast.at_quota),
            forecast.bits_per_second / 1e6
        );
        if let Some(rate) = forecast.fits_per_second {
            let word = if rate < qps { " - fewer than the quota: processors are what this run waits for" } else { "" };
            let _ = writeln!(text, "this machine fits about {rate:.0} photos a second{word}");
        }
    }
    text
}
