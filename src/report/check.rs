//! Output of `check`: one line, CSV record or JSON object for each finding, and a summary.

use std::{collections::BTreeMap, fmt::Write as _, io::Write};

use serde::Serialize;

use super::{
    ExportError,
    format::{bytes, duration, group_digits, one_decimal, plural},
    progress::json_line,
    summary::skipped,
};
use crate::{
    check::{CheckTotals, FaceCounts, Finding, Forecast, Severity},
    domain::printable,
};

/// Writes findings as text, CSV or JSON Lines.
pub struct CheckReport<W: Write>(Format<W>);

enum Format<W: Write> {
    Text(W),
    Csv(Box<csv::Writer<W>>),
    JsonLines(W),
}

/// A finding as a CSV record.
#[derive(Serialize)]
struct FindingRecord<'a> {
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

/// A finding as a JSON object.
#[derive(Serialize)]
struct FindingObject<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    record: FindingRecord<'a>,
    /// Left, top, width and height in parts of the photo, and the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    face: Option<[f64; 5]>,
}

impl<W: Write> CheckReport<W> {
    /// Text for people.
    pub fn text(to: W) -> Self {
        Self(Format::Text(to))
    }

    /// CSV with a header line.
    pub fn csv(to: W) -> Self {
        Self(Format::Csv(Box::new(csv::Writer::from_writer(to))))
    }

    /// One JSON object per line.
    pub fn json_lines(to: W) -> Self {
        Self(Format::JsonLines(to))
    }

    /// Writes a finding.
    pub fn write(&mut self, finding: &Finding) -> Result<(), ExportError> {
        let record = FindingRecord {
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
            Format::Text(to) => {
                let prefix = match finding.severity {
                    Severity::Error => "",
                    Severity::Unread => "unreadable now: ",
                    Severity::Warning => "warning: ",
                };
                let file = finding.file.as_deref().map(|file| format!(" ({file})")).unwrap_or_default();
                writeln!(to, "row {}{file}: {prefix}{}: {}", record.row, record.code, record.message)?;
            }
            Format::Csv(to) => to.serialize(record)?,
            Format::JsonLines(to) => {
                let face = finding.face.map(|face| {
                    [face.x, face.y, face.width, face.height, face.score]
                        .map(|part| (f64::from(part) * 10_000.0).round() / 10_000.0)
                });
                let object = FindingObject { r#type: "finding", record, face };
                writeln!(to, "{}", json_line(&object))?;
            }
        }
        Ok(())
    }

    /// Flushes the output.
    pub fn finish(self) -> Result<(), ExportError> {
        match self.0 {
            Format::Text(mut to) | Format::JsonLines(mut to) => to.flush()?,
            Format::Csv(mut to) => to.flush()?,
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

/// Summary of a check as a JSON object.
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
    faces: Option<FaceCounts>,
    read_bytes: u64,
    photo_bytes: u64,
    calls: u64,
    calls_saved: Option<u64>,
    call_bytes: u64,
    seconds_at_quota: f64,
    seconds_at_bwlimit: Option<f64>,
    mbit_per_second: f64,
    fits_per_second: Option<f64>,
    exit_code: u8,
}

impl<'a> CheckSummary<'a> {
    /// The summary of these totals.
    pub fn new(totals: &'a CheckTotals, forecast: &Forecast, exit_code: u8) -> Self {
        Self {
            r#type: "check",
            total: totals.rows,
            skipped: totals.skipped,
            good: totals.good,
            rejected: totals.rejected(),
            fitted: totals.fitted(),
            links: totals.links,
            unread: totals.unread,
            by_code: &totals.faults,
            warnings: &totals.warnings,
            faces: totals.faces,
            read_bytes: totals.read_bytes,
            photo_bytes: totals.sent_bytes,
            calls: forecast.calls,
            calls_saved: totals.faces.map(|faces| faces.calls_saved()),
            call_bytes: forecast.bytes,
            seconds_at_quota: one_decimal(forecast.at_quota.as_secs_f64()),
            seconds_at_bwlimit: forecast.at_bwlimit.map(|at| one_decimal(at.as_secs_f64())),
            mbit_per_second: one_decimal(forecast.bits_per_second / 1e6),
            fits_per_second: forecast.fits_per_second.map(one_decimal),
            exit_code,
        }
    }
}

/// Summary of a check as text.
pub fn check_lines(totals: &CheckTotals, forecast: &Forecast, qps: f64) -> String {
    let mut text = format!(
        "{}: {} would be sent, {} would be rejected\n",
        plural(totals.rows, "row"),
        group_digits(totals.good),
        group_digits(totals.rejected())
    );
    if totals.skipped > 0 {
        let _ = writeln!(text, "{} (-v names them)", skipped(totals.skipped));
    }
    if totals.unread > 0 {
        let _ = writeln!(
            text,
            "{} could not be read by this machine just now: check again later",
            plural(totals.unread, "photo")
        );
    }
    for (what, codes) in [("rejected", &totals.faults), ("warnings", &totals.warnings)] {
        let mut codes: Vec<(&String, &u64)> = codes.iter().collect();
        codes.sort_by_key(|(code, n)| (std::cmp::Reverse(**n), *code));
        for (code, n) in codes {
            let _ = writeln!(text, "  {what:<8} {:>9} {code}", group_digits(*n));
        }
    }
    if let Some(faces) = totals.faces {
        write_faces(&mut text, totals, &faces);
    }
    if totals.good > 0 {
        let _ = writeln!(
            text,
            "{} sent unchanged, {} fitted, {}: {} of photos in {} of {} in all",
            group_digits(totals.unchanged),
            group_digits(totals.fitted()),
            plural(totals.links, "link"),
            bytes(totals.sent_bytes),
            plural(forecast.calls, "call"),
            bytes(forecast.bytes)
        );
        let _ = writeln!(
            text,
            "at {qps} calls a second: {}, using {:.0} Mbit/s",
            duration(forecast.at_quota),
            forecast.bits_per_second / 1e6
        );
        if let Some(at_bwlimit) = forecast.at_bwlimit {
            let warning = if at_bwlimit > forecast.at_quota { " - the bandwidth limits this run" } else { "" };
            let _ = writeln!(text, "at the --bwlimit of this hour: {}{warning}", duration(at_bwlimit));
        }
        if let Some(rate) = forecast.fits_per_second {
            let warning = if rate < qps { " - fewer than the quota: the processors limit this run" } else { "" };
            let _ = writeln!(text, "this machine fits about {rate:.0} photos a second{warning}");
        }
    }
    text
}

/// Says what photos without a face, or with several, cost, and how to leave them out.
fn write_faces(text: &mut String, totals: &CheckTotals, faces: &FaceCounts) {
    let saved = faces.calls_saved();
    if saved == 0 {
        return;
    }
    let rejected: u64 = ["NoFace", "SeveralFaces"].iter().filter_map(|code| totals.faults.get(*code)).sum();
    if rejected > 0 {
        let _ = writeln!(text, "--faces reject saves {}", plural(saved, "call"));
        return;
    }
    let (none, several) = (plural(faces.none, "photo"), plural(faces.several, "photo"));
    if faces.none > 0 {
        let _ = writeln!(text, "{none} without a face: the service would refuse each call, or enrol nobody of use");
    }
    if faces.several > 0 {
        let _ = writeln!(text, "{several} with several faces: the service takes the largest, perhaps of somebody else");
    }
    let _ = writeln!(text, "--faces reject leaves them out and saves {}", plural(saved, "call"));
}
