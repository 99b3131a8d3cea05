//! Where a run sends to, and as whom.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{CliError, place::Kind};
use crate::{
    api::{AccessKey, Credentials, Endpoint, HttpTransport, Proxy, Region, TransportSettings, UploadTarget},
    cli::{RunArgs, ServiceArgs},
    domain::{FaceGroupCode, unquoted},
    exit::Exit,
    pace::Qps,
    sandbox::{Sandbox, Settings as SandboxSettings},
};

/// The group of a sandbox run that names none.
const SANDBOX_GROUP: &str = "sandbox";
/// What a checkpoint made by `--sandbox` belongs to.
pub(super) const SANDBOX_BINDING: &str = "the sandbox";

/// See the module.
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) upload: UploadTarget,
    pub(super) credentials: Credentials,
    /// What the checkpoint belongs to.
    pub(super) binding: String,
    /// Lives as long as the run.
    pub(super) sandbox: Option<Sandbox>,
}

/// The real thing; no call but for the key of a role, where one is set up. Where no region is given, it is the one that the checkpoint belongs to.
pub(super) async fn service(args: &ServiceArgs, belongs_to: Option<&str>) -> Result<Target, CliError> {
    let region = region(args)?.or_else(|| belongs_to?.strip_prefix("region:")?.parse().ok());
    let endpoint = endpoint(args, region)?;
    let upload = Endpoint::custom(&args.upload_endpoint)?;
    // Before anything is asked of anyone: what is set up wrongly is not to be found out halfway.
    Proxy::from_environment(|name| std::env::var_os(name)).map_err(|error| CliError::new(Exit::Usage, error))?;
    let credentials = Credentials::resolve(|name| std::env::var(name).ok(), &roots(args)?).await?;
    let binding = endpoint.target_id();
    Ok(Target {
        endpoint,
        upload: UploadTarget { endpoint: upload, region: region.map(Region::id) },
        credentials,
        binding,
        sandbox: None,
    })
}

/// The network, with the certificates that it is to trust. `settle`: `--settle`, where something is sent or settled.
pub(super) fn transport(
    args: &ServiceArgs,
    connections: usize,
    settle: Option<Duration>,
) -> Result<HttpTransport, CliError> {
    let default = TransportSettings::default();
    let unacknowledged = settle.map_or(default.unacknowledged, |settle| settle.min(default.unacknowledged));
    let settings = TransportSettings { connections, unacknowledged, extra_roots: roots(args)?, ..default };
    HttpTransport::new(&settings).map_err(|error| CliError::new(Exit::Usage, error))
}

/// `--ca-file`.
fn roots(args: &ServiceArgs) -> Result<Vec<u8>, CliError> {
    let Some(file) = &args.ca_file else { return Ok(Vec::new()) };
    std::fs::read(file)
        .map_err(|error| CliError::new(Exit::Usage, format!("--ca-file {} can't be read: {error}", file.display())))
}

/// Is it a rehearsal?
pub(super) fn kind(args: &RunArgs) -> Kind {
    if args.sandbox { Kind::Sandbox } else { Kind::Service }
}

/// The group of rows that name none.
pub(super) fn group(args: &RunArgs) -> Option<FaceGroupCode> {
    args.read.group.clone().or_else(|| FaceGroupCode::parse(SANDBOX_GROUP).ok().filter(|_| args.sandbox))
}

/// As given, or as the official SDKs take it from the environment.
fn region(args: &ServiceArgs) -> Result<Option<Region>, CliError> {
    let from_environment = || match std::env::var("ALIBABA_CLOUD_REGION_ID") {
        Ok(id) if !unquoted(&id).is_empty() => unquoted(&id).parse().map(Some).map_err(CliError::from),
        Ok(_) | Err(_) => Ok(None),
    };
    args.region.map_or_else(from_environment, |region| Ok(Some(region)))
}

fn endpoint(args: &ServiceArgs, region: Option<Region>) -> Result<Endpoint, CliError> {
    match (&args.endpoint, region) {
        (Some(url), _) => Ok(Endpoint::custom(url)?),
        (None, Some(region)) => Ok(Endpoint::for_region(region, args.network)),
        (None, None) => Err(CliError::new(Exit::Usage, "no region given: data is kept apart by region, so it is never guessed")
            .with_hint("give --region ap-southeast-1 (or ap-southeast-5, cn-hongkong, ap-southeast-3), or try it out with --sandbox")),
    }
}

/// Where a sandbox keeps its records: beside the checkpoint.
pub(super) fn sandbox_records(checkpoint: &Path) -> PathBuf {
    let mut name = checkpoint.as_os_str().to_owned();
    name.push(".records.jsonl");
    name.into()
}

/// A sandbox whose records outlive the process, in a file beside the checkpoint.
pub(super) async fn sandbox(args: &ServiceArgs, qps: Qps, checkpoint: &Path) -> Result<Target, CliError> {
    if args.endpoint.is_some() {
        return Err(CliError::new(Exit::Usage, "--sandbox has its own endpoint: leave --endpoint out"));
    }
    let settings = SandboxSettings {
        qps: quota(qps),
        latency: Duration::from_millis(40),
        records: Some(sandbox_records(checkpoint)),
        ..SandboxSettings::default()
    };
    let sandbox = Sandbox::start(settings).await.map_err(|error| CliError::new(Exit::Usage, error))?;
    let key = AccessKey::new(sandbox.access_key_id(), sandbox.access_key_secret().into(), None);
    let endpoint = Endpoint::custom(&sandbox.endpoint())?;
    Ok(Target {
        upload: UploadTarget { endpoint: endpoint.clone(), region: None },
        endpoint,
        credentials: Credentials::from_static(key),
        binding: SANDBOX_BINDING.to_owned(),
        sandbox: Some(sandbox),
    })
}

/// The sandbox allows what the run believes to be its quota.
fn quota(qps: Qps) -> Option<NonZeroU32> {
    NonZeroU32::new(qps.get().ceil() as u32)
}
