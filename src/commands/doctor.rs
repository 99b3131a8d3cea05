//! `face-enroll doctor`: checks everything that a run needs, in the order in which the run needs it, and says how to fix
//! it. Creates no record and writes nothing.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::time::Instant;

use super::{
    CliError, checkpoint_path, objects, sources,
    target::{self, Target},
};
use crate::{
    api::HttpTransport,
    caller::Caller,
    check::NO_GROUP,
    checkpoint::{Reader, StoreError},
    cli::{CheckpointArgs, DoctorArgs},
    domain::{CallError, CallFailure, FaceGroupCode, FailureKind, FatalError, ObjectRef},
    exit::Exit,
    manifest,
    pace::{Gate, Qps, QuotaUse},
    picture::face_detector_works,
    report,
    storage::{ObjectError, Objects},
};

/// The gateway rejects dates that are further off (protocol.md); a run corrects up to a day by itself.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(15 * 60);
/// Free space for a million rows: 135 MB of checkpoint, and a WAL of up to 64 MB (reliability.md 3.5, 4.9).
const MIN_FREE_BYTES: u64 = 256 * 1024 * 1024;

/// Rows of the source to read before giving up.
const MAX_PROBED_ROWS: usize = 1_000;

/// Checks of the service in order; each needs the one before it.
const SERVICE_CHECKS: [&str; 6] = ["network", "clock", "signature", "group", "records", "upload"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum CheckStatus {
    Ok,
    Warn,
    Fail,
    Skipped,
}

#[derive(Debug, Serialize)]
struct Check {
    r#type: &'static str,
    check: &'static str,
    #[serde(rename = "verdict")]
    status: CheckStatus,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    /// Exit code if this were the only check.
    #[serde(skip)]
    exit: Exit,
}

#[derive(Debug, Serialize)]
struct CheckCounts {
    r#type: &'static str,
    ok: usize,
    warn: usize,
    fail: usize,
    skipped: usize,
    exit_code: u8,
}

/// The checks so far; each is printed when it is added.
struct Findings {
    checks: Vec<Check>,
    is_json: bool,
}

impl Findings {
    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, CheckStatus::Ok, detail.into(), None, Exit::Success);
    }

    fn warn(&mut self, check: &'static str, detail: impl Into<String>, remedy: &str) {
        self.add(check, CheckStatus::Warn, detail.into(), Some(remedy.to_owned()), Exit::Success);
    }

    fn skip(&mut self, check: &'static str, detail: impl Into<String>) {
        self.add(check, CheckStatus::Skipped, detail.into(), None, Exit::Success);
    }

    /// Skips this check of the service and all later ones.
    fn skip_from(&mut self, first: &str, detail: &str) {
        for check in SERVICE_CHECKS.into_iter().skip_while(|check| *check != first) {
            self.skip(check, detail);
        }
    }

    fn fail(&mut self, check: &'static str, failure: &CliError) {
        self.add(check, CheckStatus::Fail, failure.message(), failure.hint().map(str::to_owned), failure.exit());
    }

    fn add(&mut self, check: &'static str, status: CheckStatus, detail: String, remedy: Option<String>, exit: Exit) {
        let check = Check { r#type: "check", check, status, detail, remedy, exit };
        if self.is_json {
            report::print_json(&check);
        } else {
            let sign = match check.status {
                CheckStatus::Ok => "ok  ",
                CheckStatus::Warn => "WARN",
                CheckStatus::Fail => "FAIL",
                CheckStatus::Skipped => "-   ",
            };
            report::print(&format!("{sign}  {:<12} {}", check.check, check.detail));
            if let Some(remedy) = &check.remedy {
                report::print(&format!("      {:<12} {remedy}", ""));
            }
        }
        self.checks.push(check);
    }

    fn count(&self, status: CheckStatus) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    fn end(self) -> Exit {
        let exit = Exit::most_severe(self.checks.iter().map(|check| check.exit));
        let (ok, warn) = (self.count(CheckStatus::Ok), self.count(CheckStatus::Warn));
        let (fail, skipped) = (self.count(CheckStatus::Fail), self.count(CheckStatus::Skipped));
        if self.is_json {
            let counts = CheckCounts { r#type: "doctor", ok, warn, fail, skipped, exit_code: exit.code() };
            report::print_json(&counts);
        } else {
            let warnings = report::plural(warn as u64, "warning");
            report::print(&format!("{ok} ok, {warnings}, {fail} failed, {skipped} skipped"));
        }
        exit
    }
}

pub(super) async fn doctor(args: &DoctorArgs) -> Result<Exit, CliError> {
    let mut findings = Findings { checks: Vec::new(), is_json: args.json };
    let path = match (&args.source, &args.checkpoint) {
        (None, None) => None,
        (source, checkpoint) => {
            let which = CheckpointArgs { source: source.clone(), checkpoint: checkpoint.clone(), sandbox: false };
            Some(checkpoint_path::existing(&which)?)
        }
    };
    let reader = path.as_deref().map(Reader::open);
    let binding = match &reader {
        Some(Ok(reader)) => reader.binding()?,
        Some(Err(_)) | None => None,
    };
    match target::service(&args.service, binding.as_deref()).await {
        Ok(target) => {
            findings
                .ok("credentials", format!("{}, from {}", target.credentials.masked_id(), target.credentials.origin()));
            findings.ok("endpoint", target.endpoint.host_header());
            match target::transport(&args.service, 1, None) {
                Ok(transport) => check_service(args, &target, transport, &mut findings).await,
                Err(failure) => findings.fail("network", &failure),
            }
            check_quota(args, &target, &mut findings).await;
        }
        Err(failure) => {
            let is_key = failure.exit() != Exit::Usage;
            findings.fail(if is_key { "credentials" } else { "endpoint" }, &failure);
            findings.skip_from("network", "an earlier check failed");
        }
    }
    if let Some(place) = args.source.as_deref().and_then(Path::to_str).filter(|text| ObjectRef::is_object(text)) {
        check_objects(place, args, &mut findings);
    }
    match objects::for_service(&args.service) {
        Ok(objects) => check_source(args, &objects, &mut findings),
        Err(failure) => findings.fail("source", &failure),
    }
    match (&path, reader) {
        (Some(path), Some(reader)) => check_files(path, reader, args, &mut findings),
        _ => {
            findings.skip("checkpoint", "no checkpoint given: give the manifest, or --checkpoint FILE");
            findings.skip("disk", "no checkpoint given");
        }
    }
    if face_detector_works() {
        findings.ok("faces", "the face detector gives its known scores");
    } else {
        let failure = CliError::new(Exit::Internal, "the face detector gives wrong scores in this build".to_owned());
        findings.fail("faces", &failure.with_hint("build again, for another processor; until then give no --faces"));
    }
    Ok(findings.end())
}

/// Checks the permissions for a source in object storage: lists one key of a prefix and opens that object, or opens a manifest.
fn check_objects(place: &str, args: &DoctorArgs, findings: &mut Findings) {
    let place: ObjectRef = match place.parse() {
        Ok(place) => place,
        Err(error) => return findings.fail("listing", &CliError::new(Exit::Usage, format!("{place} {error}"))),
    };
    let objects = match objects::for_service(&args.service) {
        Ok(objects) => objects,
        Err(failure) => return findings.fail("listing", &failure),
    };
    match objects.first(&place.folder()) {
        Ok(first) => {
            findings.ok("listing", format!("{}; oss:ListObjects is allowed", place.folder()));
            let object = if place.is_prefix() { first } else { Some(place.clone()) };
            match object.map(|object| objects.probe(&object)) {
                None => findings.warn("object", format!("no object under {place}"), "check the prefix"),
                Some(Ok(())) => findings.ok("object", "read; oss:GetObject is allowed"),
                Some(Err(error)) => findings.fail("object", &object_failure(error)),
            }
        }
        Err(error) => {
            findings.fail("listing", &object_failure(error));
            findings.skip("object", "needs the listing");
        }
    }
}

fn object_failure(error: ObjectError) -> CliError {
    match error {
        ObjectError::Fatal(fatal) => fatal.into(),
        ObjectError::NotFound | ObjectError::NotRestored | ObjectError::Denied { .. } => {
            CliError::new(Exit::Source, error.to_string())
        }
        ObjectError::Changed | ObjectError::SignAgain | ObjectError::Failed(_) => {
            CliError::new(Exit::TimeUp, error.to_string()).with_hint("try again later")
        }
    }
}

/// Checks the service with calls that change nothing.
async fn check_service(args: &DoctorArgs, target: &Target, transport: HttpTransport, findings: &mut Findings) {
    let caller = Caller::new(target.client(transport));
    let client = &caller.client;
    let rate = Qps::new(5.0).expect("5 is a valid rate");
    let gate = Gate::new(rate, QuotaUse::Dedicated, None, Instant::now());
    let authorize_gate = Gate::new(rate, QuotaUse::Dedicated, None, Instant::now());
    // Skip the rest instead of waiting when the service asks for a pause.
    macro_rules! permit {
        ($gate:expr) => {
            match caller.permit(&$gate).await {
                Ok(permit) => permit,
                Err(_) => return findings.skip("service", "the service asks for a pause: try again later"),
            }
        };
    }
    // Any group will do to test the permission.
    let group = args.reading.group.clone();
    let asked = group.clone().unwrap_or_else(|| FaceGroupCode::parse("doctor").expect("a valid code"));
    let mut answer = client.query_face_group(permit!(gate), &asked).await;
    if let Err(CallError::NotExecuted(fault)) = &answer
        && matches!(fault.kind, FailureKind::ClockCorrected | FailureKind::KeyRenewed)
    {
        // Retry once with the corrected clock or the refreshed key, as a run does.
        answer = client.query_face_group(permit!(gate), &asked).await;
    }
    if let Err(CallError::Fatal(fatal @ FatalError::Proxy { .. })) = &answer {
        findings.fail("network", &CliError::from(fatal.clone()));
        findings.skip_from("clock", "needs the network");
        return;
    }
    if let Err(CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault)) = &answer
        && is_network(fault)
    {
        let remedy = match fault.kind {
            FailureKind::CertificateRefused => "behind a proxy that inspects TLS, give its certificate with --ca-file",
            FailureKind::ProxyFailed => "check HTTPS_PROXY (or ALL_PROXY) and NO_PROXY, and the proxy itself",
            _ => "check the network, HTTPS_PROXY, and --region, --network and --endpoint",
        };
        findings.fail("network", &CliError::new(Exit::Fatal, fault.message.clone()).with_hint(remedy));
        findings.skip_from("clock", "needs the network");
        return;
    }
    findings.ok("network", "reached over a trusted connection");
    match client.clock_offset() {
        Some(off) if off.unsigned_abs() > CLOCK_TOLERANCE => {
            let detail = format!("this machine's clock is off by {} s", off.as_secs());
            findings.warn("clock", detail, "set this machine's clock (a run corrects up to a day by itself)");
        }
        Some(off) => findings.ok("clock", format!("off by {} s", off.as_secs())),
        None => findings.skip("clock", "the service did not send its time"),
    }
    let try_later = |message: String| CliError::new(Exit::TimeUp, message).with_hint("try again later");
    match &answer {
        Err(CallError::Fatal(fatal)) => {
            findings.fail("signature", &CliError::from(fatal.clone()));
            findings.skip_from("group", "an earlier check failed");
            return;
        }
        Err(CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault)) => {
            return findings.fail("signature", &try_later(fault.message.clone()));
        }
        Err(CallError::Rejected(rejection)) => {
            return findings.fail("signature", &try_later(format!("{}: {}", rejection.code, rejection.message)));
        }
        Err(CallError::Throttled { .. }) => {
            findings.warn("signature", "accepted, but throttled", "others use the quota")
        }
        Ok(_) => findings.ok("signature", "accepted; QueryFaceGroup is allowed"),
    }
    match (&group, &answer) {
        (None, _) => findings.skip("group", "no group given: give --group CODE"),
        (Some(group), Ok(true)) => findings.ok("group", group.to_string()),
        (Some(group), Ok(false)) => {
            findings.fail("group", &CliError::from(FatalError::UnknownGroup { group: group.clone() }));
        }
        (Some(_), Err(_)) => findings.skip("group", "the service was too busy to answer"),
    }
    match (&group, &answer) {
        (Some(group), Ok(true)) => match client.query_face_records(permit!(gate), group, 1).await {
            Ok(page) => {
                let total = page.total.map_or_else(|| "an unknown number of".to_owned(), report::group_digits);
                findings.ok("records", format!("{total} in the group; QueryFaceRecord is allowed"));
            }
            Err(CallError::Throttled { .. }) => findings.skip("records", "throttled"),
            Err(CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault)) => {
                findings.fail("records", &try_later(fault.message));
            }
            Err(CallError::Rejected(rejection)) => {
                findings.fail("records", &try_later(format!("{}: {}", rejection.code, rejection.message)));
            }
            Err(CallError::Fatal(fatal)) => findings.fail("records", &CliError::from(fatal)),
        },
        _ => findings.skip("records", "needs an existing group"),
    }
    let remedy = "needed only for photos above 1 MB with --fit never";
    match client.authorize_file_upload(permit!(authorize_gate)).await {
        Ok(_) => findings.ok("upload", "upload permitted (for photos above 1 MB)"),
        Err(CallError::Throttled { .. }) => findings.skip("upload", "throttled"),
        Err(CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault)) => {
            findings.warn("upload", fault.message, remedy);
        }
        Err(CallError::Rejected(refusal)) => {
            findings.warn("upload", format!("{}: {}", refusal.code, refusal.message), remedy);
        }
        Err(CallError::Fatal(fatal)) => findings.warn("upload", fatal.to_string(), remedy),
    }
    findings.skip("enrolling", "AddFaceRecord is not called, because it creates a record; try run --canary 1");
}

/// Only with `--quota-at`.
async fn check_quota(args: &DoctorArgs, target: &Target, findings: &mut Findings) {
    match target::shared_quota(&args.shared, &args.service, target) {
        Ok(None) => {}
        Ok(Some(quota)) => match quota.probe().await {
            Ok(round_trip) => {
                findings.ok("database", format!("the database answers in {} ms", round_trip.as_millis().max(1)))
            }
            Err(error) => {
                findings.fail("database", &FatalError::Quota { message: error.to_string() }.into());
            }
        },
        Err(failure) => findings.fail("database", &failure),
    }
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

/// Opens the source and looks for a row that parses. Photos are not read; `check` does that.
fn check_source(args: &DoctorArgs, objects: &Objects, findings: &mut Findings) {
    let source = match &args.source {
        Some(source) if source != Path::new("-") => source,
        Some(_) | None => return findings.skip("source", "no source given, or stdin"),
    };
    // The group is tested at the service.
    let group = args.reading.group.clone().or_else(|| FaceGroupCode::parse(NO_GROUP).ok());
    let first = manifest::open(source, &sources::settings(&args.reading, group, objects)).and_then(|mut rows| {
        let mut first_error = None;
        for row in rows.by_ref().take(MAX_PROBED_ROWS) {
            match row? {
                Ok(item) => return Ok(Some(Ok(item.row))),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Ok(first_error.map(Err))
    });
    match first {
        Err(error) => findings.fail("source", &error.into()),
        Ok(None) => findings.warn("source", format!("{} has no rows", source.display()), "nothing would be enrolled"),
        Ok(Some(Ok(row))) => findings.ok("source", format!("{}: row {row} parses", source.display())),
        Ok(Some(Err(error))) => {
            let message = format!("no row parses; row {}: {}: {}", error.row, error.defect.code(), error.message);
            let hint = "name its columns with --column FIELD=NAME; face-enroll check lists every fault";
            findings.fail("source", &CliError::new(Exit::Source, message).with_hint(hint));
        }
    }
}

/// Checks the checkpoint and its disk.
fn check_files(path: &Path, reader: Result<Reader, StoreError>, args: &DoctorArgs, findings: &mut Findings) {
    let state = reader.and_then(|reader| {
        reader.integrity_check()?;
        Ok((reader.counts()?, reader.is_live(), reader.learned_rate()?))
    });
    match state {
        Ok((counts, is_live, learned)) => {
            let live = if is_live { ", a run is in progress" } else { "" };
            let rows = report::plural(counts.total, "row");
            findings.ok("checkpoint", format!("{}: {rows}, integrity check passed{live}", path.display()));
            match learned {
                Some(rate) => findings.warn(
                    "quota",
                    format!("--qps {}; throttling reduced the last run to {rate:.1} a second", args.qps),
                    "the next run starts at that rate; the quota is used by others or lower than --qps",
                ),
                None => findings.ok("quota", format!("--qps {}; no run was throttled below it", args.qps)),
            }
        }
        Err(StoreError::Missing { .. }) => findings.ok("checkpoint", "none yet: the first run creates it"),
        Err(error) => findings.fail("checkpoint", &CliError::from(error)),
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A run makes the folders that are missing.
    let folder = folder.ancestors().find(|folder| folder.exists()).unwrap_or(folder);
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail * disk.f_frsize;
            let detail = format!("{} free in {}", report::bytes(free), folder.display());
            if free < MIN_FREE_BYTES {
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
