use std::{num::NonZeroUsize, time::Duration};

use clap::{ArgAction, Args, builder::BoolishValueParser};

use super::parse::duration;
use crate::{
    api::FaceQualityCheck,
    domain::OnChange,
    pace::{BandwidthLimit, InDoubtPolicy, Qps, QuotaUse},
};

/// Sending flags: rate, retries, and what to do in doubt.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sending")]
pub struct RateArgs {
    /// The tenant's AddFaceRecord quota, in calls per second; never exceeded
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// Whether other traffic uses the quota too
    #[arg(long, env = "FACE_ENROLL_QUOTA", default_value = "dedicated", value_name = "dedicated|shared")]
    pub quota: QuotaUse,
    /// Quota shared with other runs.
    #[command(flatten)]
    pub shared: SharedQuotaArgs,
    /// Queries per second, and deletions per second
    #[arg(long, env = "FACE_ENROLL_QUERY_QPS", default_value = "10", value_name = "N")]
    pub query_qps: Qps,
    /// Limit the bytes sent per second, such as 10M, or by a timetable
    ///
    /// For the bodies of requests and uploads; k, M and G are powers of 1024. "08:00,2M 19:00,off" is a timetable in local
    /// time; a time may begin with a day, as in Sat-08:00,off.
    #[arg(long, env = "FACE_ENROLL_BWLIMIT", value_name = "RATE|TABLE")]
    pub bwlimit: Option<BandwidthLimit>,
    /// Maximum number of requests in flight
    #[arg(long, env = "FACE_ENROLL_CONCURRENCY", default_value = "64", value_name = "N")]
    pub concurrency: NonZeroUsize,
    /// Attempts per item before it is failed; throttled attempts do not count
    #[arg(long, env = "FACE_ENROLL_RETRIES", default_value = "8", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub retries: u32,
    /// What to do when a request may have been executed
    #[arg(long, env = "FACE_ENROLL_IN_DOUBT", default_value = "reconcile", value_name = "reconcile|retry|hold")]
    pub in_doubt: InDoubtPolicy,
    /// Ask the service before each first send, and adopt records that exist
    #[arg(long, env = "FACE_ENROLL_PRECHECK", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub precheck: bool,
    /// What to do when the photo of an enrolled id has changed
    #[arg(long, env = "FACE_ENROLL_ON_CHANGE", default_value = "keep", value_name = "keep|replace")]
    pub on_change: OnChange,
    /// Send the API's reserved parameter FaceQualityCheck [default: not sent]
    #[arg(long, env = "FACE_ENROLL_FACE_QUALITY_CHECK", value_name = "Y|N")]
    pub face_quality_check: Option<FaceQualityCheck>,
    /// Wait D before asking about a request in doubt; two such answers confirm absence [default: 30s; 1s with
    /// --sandbox]
    #[arg(long, env = "FACE_ENROLL_SETTLE", value_name = "D", value_parser = duration)]
    pub settle: Option<Duration>,
}

/// Flags of a quota that several runs share.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sending")]
pub struct SharedQuotaArgs {
    /// Share the quota with other runs, on this or other machines, through a PostgreSQL database
    ///
    /// postgres://USER@HOST/DATABASE; the password comes from ~/.pgpass, a service file, PGPASSWORD or the file that
    /// FACE_ENROLL_DATABASE_PASSWORD_FILE names. Every run of the tenant needs it and the same --region or --endpoint, each
    /// with its own checkpoint. verify and undo keep to their own --query-qps.
    #[arg(long, env = "FACE_ENROLL_QUOTA_AT", value_name = "URL", hide_env_values = true)]
    pub quota_at: Option<String>,
    /// Name of the account whose quota is shared, if a database serves several
    #[arg(long, env = "FACE_ENROLL_TENANT", value_name = "NAME", default_value = "default")]
    pub tenant: String,
}
