//! The endpoint that a run sends to, and its credentials.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{CliError, checkpoint_path::Kind};
use crate::{
    api::{AccessKey, Client, Credentials, Endpoint, HttpTransport, Proxy, Region, TransportSettings, UploadTarget},
    checkpoint::Reader,
    cli::{RunArgs, ServiceArgs, SharedQuotaArgs},
    database::Address,
    domain::{FaceGroupCode, unquoted},
    exit::Exit,
    pace::Qps,
    quota::SharedQuota,
    sandbox::{Sandbox, Settings as SandboxSettings},
};

/// Default group of a sandbox run.
const SANDBOX_GROUP: &str = "sandbox";
/// Target of a checkpoint made by `--sandbox`.
pub(super) const SANDBOX_BINDING: &str = "the sandbox";

/// Where to send, and with which credentials.
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    pub(super) upload: UploadTarget,
    pub(super) credentials: Credentials,
    /// Identity of the target; a checkpoint belongs to one.
    pub(super) binding: String,
    /// The sandbox of this process, kept alive for the run.
    pub(super) sandbox: Option<Sandbox>,
}

impl Target {
    pub(super) fn client(&self, transport: HttpTransport) -> Client<HttpTransport> {
        Client::new(transport, self.endpoint.clone(), self.upload.clone(), self.credentials.clone())
    }
}

/// The real service. Makes no call except to fetch credentials. The default region is that of the checkpoint.
pub(super) async fn service(args: &ServiceArgs, checkpoint_binding: Option<&str>) -> Result<Target, CliError> {
    let region = region(args.region)?.or_else(|| checkpoint_binding?.strip_prefix("region:")?.parse().ok());
    let endpoint = endpoint(args, region)?;
    let upload = Endpoint::custom(&args.upload_endpoint)?;
    // Check the proxy settings before the first call.
    Proxy::from_environment(|name| std::env::var_os(name)).map_err(|error| CliError::new(Exit::Usage, error))?;
    let credentials = Credentials::resolve(|name| std::env::var(name).ok(), &roots(args.ca_file.as_deref())?).await?;
    let binding = endpoint.target_id();
    Ok(Target {
        endpoint,
        upload: UploadTarget { endpoint: upload, region: region.map(Region::id) },
        credentials,
        binding,
        sandbox: None,
    })
}

/// Target of an existing checkpoint.
pub(super) async fn of_checkpoint(args: &ServiceArgs, qps: Qps, checkpoint: &Path) -> Result<Target, CliError> {
    let binding = Reader::open(checkpoint)?.binding()?;
    match binding.as_deref() {
        Some(SANDBOX_BINDING) => sandbox(args, qps, checkpoint, &[]).await,
        other => service(args, other).await,
    }
}

/// The HTTP transport with the trusted certificates. `settle` is `--settle`, for commands that send or reconcile.
pub(super) fn transport(
    args: &ServiceArgs,
    connections: usize,
    settle: Option<Duration>,
) -> Result<HttpTransport, CliError> {
    let default = TransportSettings::default();
    let unacknowledged = settle.map_or(default.unacknowledged, |settle| settle.min(default.unacknowledged));
    let settings =
        TransportSettings { connections, unacknowledged, extra_roots: roots(args.ca_file.as_deref())?, ..default };
    HttpTransport::new(&settings).map_err(|error| CliError::new(Exit::Usage, error))
}

/// Contents of `--ca-file`.
pub(super) fn roots(ca_file: Option<&Path>) -> Result<Vec<u8>, CliError> {
    let Some(file) = ca_file else { return Ok(Vec::new()) };
    std::fs::read(file)
        .map_err(|error| CliError::new(Exit::Usage, format!("--ca-file {} can't be read: {error}", file.display())))
}

/// The quota of `--quota-at`. Does not connect.
pub(super) fn shared_quota(
    args: &SharedQuotaArgs,
    service: &ServiceArgs,
    target: &Target,
) -> Result<Option<SharedQuota>, CliError> {
    let Some(url) = &args.quota_at else { return Ok(None) };
    let address = Address::parse(url, &|name| std::env::var(name).ok())
        .map_err(|error| CliError::new(Exit::Usage, format!("--quota-at: {error}")))?;
    let roots = roots(service.ca_file.as_deref())?;
    Ok(Some(SharedQuota::new(address, roots, args.tenant.clone(), target.binding.clone())))
}

/// Whether the run goes to the service or to the sandbox.
pub(super) fn kind(args: &RunArgs) -> Kind {
    if args.sandbox { Kind::Sandbox } else { Kind::Service }
}

/// Group of the rows that do not name one.
pub(super) fn group(args: &RunArgs) -> Option<FaceGroupCode> {
    args.read.reading.group.clone().or_else(|| FaceGroupCode::parse(SANDBOX_GROUP).ok().filter(|_| args.sandbox))
}

/// The region as given, or from the variable that the official SDKs use.
pub(super) fn region(given: Option<Region>) -> Result<Option<Region>, CliError> {
    let from_environment = || match std::env::var("ALIBABA_CLOUD_REGION_ID") {
        Ok(id) if !unquoted(&id).is_empty() => unquoted(&id).parse().map(Some).map_err(CliError::from),
        Ok(_) | Err(_) => Ok(None),
    };
    given.map_or_else(from_environment, |region| Ok(Some(region)))
}

fn endpoint(args: &ServiceArgs, region: Option<Region>) -> Result<Endpoint, CliError> {
    match (&args.endpoint, region) {
        (Some(url), _) => Ok(Endpoint::custom(url)?),
        (None, Some(region)) => Ok(Endpoint::for_region(region, args.network)),
        (None, None) => {
            Err(CliError::new(Exit::Usage, "no region given: data is separate per region, so there is no default")
                .with_hint(
                    "give --region ap-southeast-1 (or ap-southeast-5, cn-hongkong, ap-southeast-3), or rehearse with run --sandbox",
                ))
        }
    }
}

/// File of the sandbox's records, next to the checkpoint.
pub(super) fn sandbox_records(checkpoint: &Path) -> PathBuf {
    let mut name = checkpoint.as_os_str().to_owned();
    name.push(".records.jsonl");
    name.into()
}

/// Starts a sandbox that keeps its records in a file next to the checkpoint.
pub(super) async fn sandbox(
    args: &ServiceArgs,
    qps: Qps,
    checkpoint: &Path,
    buckets: &[(String, PathBuf)],
) -> Result<Target, CliError> {
    if args.endpoint.is_some() {
        return Err(CliError::new(Exit::Usage, "--sandbox has its own endpoint: remove --endpoint"));
    }
    let settings = SandboxSettings {
        qps: quota(qps),
        // For photos that the service fetches by a link.
        buckets: buckets.iter().map(|(name, folder)| (name.clone(), Some(folder.clone()))).collect(),
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

/// Quota of the sandbox: the `--qps` of the run.
fn quota(qps: Qps) -> Option<NonZeroU32> {
    NonZeroU32::new(qps.get().ceil() as u32)
}
