//! `face-enroll doctor`: everything that a run needs, looked at in the order in which it needs it, each with its verdict
//! and what to do. No record is made, and nothing is written.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    CliError, place,
    target::{self, Target},
};
use crate::{
    api::{Client, GroupLookup, HttpTransport, RecordPage, UploadError},
    checkpoint::{Reader, StoreError},
    cli::{CheckpointArgs, DoctorArgs},
    domain::{CallFailure, FaceGroupCode, FailureKind, FatalError},
    exit::Exit,
    pace::{Gate, Qps, QuotaUse},
    report,
};

/// The gateway refuses dates that are further off (protocol.md); a run corrects what is below a day by itself.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(15 * 60);
/// A checkpoint of a million rows takes 135 MB, and its WAL up to 64 MB (reliability.md 3.5, 4.9).
const ROOM: u64 = 256 * 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
    Skipped,
}

#[derive(Debug, Serialize)]
struct Check {
    r#type: &'static str,
    check: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// What it makes of the exit code.
    #[serde(skip)]
    exit: Exit,
}

#[derive(Debug, Serialize)]
struct Verdicts {
    r#type: &'static str,
    ok: usize,
    warn: usize,
    fail: usize,
    skipped: usize,
    exit_code: u8,
}

/// What has been found so far. Told as it comes.
struct Findings {
    checks: Vec<Check>,
    is_json: bool,
}

impl Findings {
    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Verdict::Ok, detail.into(), None, Exit::Success);
    }

    fn warn(&mut self, check: &'static str, detail: impl Into<String>, remedy: &str) {
        self.add(check, Verdict::Warn, detail.into(), Some(remedy.to_owned()), Exit::Success);
    }

    fn skip(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, Verdict::Skipped, detail.into(), None, Exit::Success);
    }

    fn fail(&mut self, check: &'static str, failure: &CliError) {
        self.add(check, Verdict::Fail, failure.words(), failure.advice().map(str::to_owned), failure.exit());
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, detail: String, remedy: Option<String>, exit: Exit) {
        let check = Check { r#type: "check", check, verdict, detail, remedy, exit };
        if self.is_json {
            report::print_json(&check);
        } else {
            let sign = match check.verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warn => "WARN",
                Verdict::Fail => "FAIL",
                Verdict::Skipped => "-   ",
            };
            report::print(&format!("{sign}  {:<12} {}", check.check, check.detail));
            if let Some(remedy) = &check.remedy {
                report::print(&format!("      {:<12} {remedy}", ""));
            }
        }
        self.checks.push(check);
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    fn end(self) -> Exit {
        let exit = Exit::most_severe(self.checks.iter().map(|check| check.exit));
        let (ok, warn) = (self.count(Verdict::Ok), self.count(Verdict::Warn));
        let (fail, skipped) = (self.count(Verdict::Fail), self.count(Verdict::Skipped));
        if self.is_json {
            let verdicts = Verdicts { r#type: "doctor", ok, warn, fail, skipped, exit_code: exit.code() };
            report::print_json(&verdicts);
        } else {
            report::print(&format!("{ok} ok, {warn} warnings, {fail} failed, {skipped} not looked at"));
        }
        exit
    }
}

/// See the module.
pub(super) async fn doctor(args: &DoctorArgs) -> Result<Exit, CliError> {
    let mut findings = Findings { checks: Vec::new(), is_json: args.json };
    let path = match (&args.source, &args.checkpoint) {
        (None, None) => None,
        (source, checkpoint) => {
            let which = CheckpointArgs { source: source.clone(), checkpoint: checkpoint.clone(), sandbox: false };
            Some(place::to_look_into(&which)?)
        }
    };
    let reader = path.as_deref().map(Reader::open);
    let belongs_to = match &reader {
        Some(Ok(reader)) => reader.binding()?,
        Some(Err(_)) | None => None,
    };
    match target::service(&args.service, belongs_to.as_deref()).await {
        Ok(target) => {
            findings
                .ok("credentials", format!("{}, from {}", target.credentials.masked_id(), target.credentials.origin()));
            findings.ok("endpoint", target.endpoint.host_header());
            match target::transport(&args.service, 1, None) {
                Ok(transport) => ask(args, &target, transport, &mut findings).await,
                Err(failure) => findings.fail("network", &failure),
            }
        }
        Err(failure) => {
            let is_key = failure.exit() != Exit::Usage;
            findings.fail(if is_key { "credentials" } else { "endpoint" }, &failure);
            for check in ["network", "clock", "signature", "group", "records", "upload"] {
                findings.skip(check, "needs what failed before it");
            }
        }
    }
    match (&path, reader) {
        (Some(path), Some(reader)) => look(path, reader, args, &mut findings),
        _ => {
            findings.skip("checkpoint", "none is named: give the manifest, or --checkpoint FILE");
            findings.skip("disk", "the checkpoint's");
        }
    }
    Ok(findings.end())
}

/// The service, by questions that change nothing.
async fn ask(args: &DoctorArgs, target: &Target, transport: HttpTransport, findings: &mut Findings) {
    let client = Client::new(transport, target.endpoint.clone(), target.upload.clone(), target.credentials.clone());
    let rate = Qps::new(5.0).expect("five a second is a rate");
    let gate = Gate::new(rate, QuotaUse::Dedicated, None, Instant::now());
    // A pause that the service asks for is not waited out here.
    macro_rules! permit {
        () => {
            match gate.permit().await {
                Ok(permit) => permit,
                Err(_) => return findings.skip("service", "it asks for a pause: try again later"),
            }
        };
    }
    // Any group: whether there is one of this name is another question than whether the question is allowed.
    let group = args.group.clone();
    let asked = group.clone().unwrap_or_else(|| FaceGroupCode::parse("doctor").expect("a valid code"));
    let mut answer = client.query_face_group(permit!(), &asked).await;
    if matches!(&answer, GroupLookup::Unanswered(fault) if matches!(fault.kind, FailureKind::ClockCorrected | FailureKind::KeyRenewed))
    {
        // Signed with the service's own time, or with another key, it may be understood, as in a run.
        answer = client.query_face_group(permit!(), &asked).await;
    }
    if let GroupLookup::Fatal(fatal @ FatalError::Proxy { .. }) = &answer {
        findings.fail("network", &CliError::from(fatal.clone()));
        for check in ["clock", "signature", "group", "records", "upload"] {
            findings.skip(check, "needs the network");
        }
        return;
    }
    let is_reached = !matches!(&answer, GroupLookup::Unanswered(fault) if is_network(fault));
    if let GroupLookup::Unanswered(fault) = &answer
        && !is_reached
    {
        let remedy = match fault.kind {
            FailureKind::CertificateRefused => "a proxy that looks into TLS needs --ca-file with its certificate",
            FailureKind::ProxyFailed => "check HTTPS_PROXY (or ALL_PROXY) and NO_PROXY, and the proxy itself",
            _ => "check the network, HTTPS_PROXY, and --region, --network and --endpoint",
        };
        findings.fail("network", &CliError::new(Exit::Fatal, fault.message.clone()).with_hint(remedy));
        for check in ["clock", "signature", "group", "records", "upload"] {
            findings.skip(check, "needs the network");
        }
        return;
    }
    findings.ok("network", "reached, over a trusted connection");
    match client.clock_offset() {
        Some(off) if off.unsigned_abs() > CLOCK_TOLERANCE => {
            let detail = format!("this machine is off by {} s", off.as_secs());
            findings.warn("clock", detail, "set this machine's clock (a run corrects up to a day by itself)");
        }
        Some(off) => findings.ok("clock", format!("off by {} s", off.as_secs())),
        None => findings.skip("clock", "the service did not tell its time"),
    }
    match &answer {
        GroupLookup::Fatal(fatal) => {
            findings.fail("signature", &CliError::from(fatal.clone()));
            for check in ["group", "records", "upload"] {
                findings.skip(check, "needs what failed before it");
            }
            return;
        }
        GroupLookup::Unanswered(fault) => {
            findings
                .fail("signature", &CliError::new(Exit::TimeUp, fault.message.clone()).with_hint("try again later"));
            return;
        }
        GroupLookup::Throttled { .. } => findings.warn("signature", "accepted, and throttled", "others use the quota"),
        GroupLookup::Exists | GroupLookup::Missing => findings.ok("signature", "accepted; QueryFaceGroup is allowed"),
    }
    match (&group, &answer) {
        (None, _) => findings.skip("group", "none is named: give --group CODE"),
        (Some(group), GroupLookup::Exists) => findings.ok("group", group.to_string()),
        (Some(group), GroupLookup::Missing) => {
            findings.fail("group", &CliError::from(FatalError::UnknownGroup { group: group.clone() }));
        }
        (Some(_), GroupLookup::Throttled { .. } | GroupLookup::Unanswered(_) | GroupLookup::Fatal(_)) => {
            findings.skip("group", "the service was too busy to tell");
        }
    }
    match (&group, &answer) {
        (Some(group), GroupLookup::Exists) => match client.query_face_records(permit!(), group, 1).await {
            RecordPage::Records { total, .. } => {
                let total = total.map_or_else(|| "an unknown number of".to_owned(), report::thousands);
                findings.ok("records", format!("{total} in the group; QueryFaceRecord is allowed"));
            }
            RecordPage::Throttled { .. } => findings.skip("records", "throttled"),
            RecordPage::Unanswered(fault) => {
                findings.fail("records", &CliError::new(Exit::TimeUp, fault.message).with_hint("try again later"));
            }
            RecordPage::Fatal(fatal) => findings.fail("records", &CliError::from(fatal)),
        },
        _ => findings.skip("records", "needs a group that is there"),
    }
    match client.authorize_file_upload(permit!()).await {
        Ok(_) => findings.ok("upload", "leave is given (for photos above 1 MB)"),
        Err(UploadError::Throttled { .. }) => findings.skip("upload", "throttled"),
        Err(UploadError::CallFailure(fault)) => {
            findings.warn("upload", fault.message, "only photos above 1 MB with --fit never need it");
        }
        Err(UploadError::Refused(refusal)) => {
            let detail = format!("{}: {}", refusal.code, refusal.message);
            findings.warn("upload", detail, "only photos above 1 MB with --fit never need it");
        }
        Err(UploadError::Fatal(fatal)) => {
            findings.warn("upload", fatal.to_string(), "only photos above 1 MB with --fit never need it");
        }
    }
    findings.skip("enrolling", "AddFaceRecord is not tried: it would make a record; try run --canary 1");
}

fn is_network(fault: &CallFailure) -> bool {
    match fault.kind {
        FailureKind::ConnectFailed
        | FailureKind::ProxyFailed
        | FailureKind::CertificateRefused
        | FailureKind::Timeout
        | FailureKind::ConnectionLost => true,
        FailureKind::UnreadableAnswer
        | FailureKind::Service(_)
        | FailureKind::Interrupted
        | FailureKind::ClockCorrected
        | FailureKind::KeyRenewed
        | FailureKind::NonceUsed
        | FailureKind::DownloadTimeout
        | FailureKind::UploadFailed => false,
    }
}

/// The checkpoint, and the disk that it is on.
fn look(path: &Path, reader: Result<Reader, StoreError>, args: &DoctorArgs, findings: &mut Findings) {
    let found = reader.and_then(|reader| {
        reader.integrity_check()?;
        Ok((reader.counts()?, reader.is_live(), reader.learned_rate()?))
    });
    match found {
        Ok((counts, is_live, learned)) => {
            let live = if is_live { ", a run is going on" } else { "" };
            let rows = report::thousands(counts.total);
            findings.ok("checkpoint", format!("{}: {rows} rows, every page is whole{live}", path.display()));
            match learned {
                Some(rate) => findings.warn(
                    "quota",
                    format!("--qps {}; the last run was brought down to {rate:.1} a second", args.qps),
                    "the next run begins there; others use the quota, or it is lower than --qps",
                ),
                None => findings.ok("quota", format!("--qps {}; no run was brought below it", args.qps)),
            }
        }
        Err(StoreError::Missing { .. }) => findings.ok("checkpoint", "none yet: the first run makes it"),
        Err(error) => findings.fail("checkpoint", &CliError::from(error)),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail * disk.f_frsize;
            let detail = format!("{} free in {}", report::bytes(free), folder.display());
            if free < ROOM {
                findings.warn("disk", detail, "a million rows take 200 MB");
            } else {
                findings.ok("disk", detail);
            }
        }
        Err(error) => {
            let error = std::io::Error::from(error);
            findings.fail("disk", &CliError::new(Exit::Checkpoint, format!("{}: {error}", folder.display())));
        }
    }
}
