//! Object storage of a command. Nothing is connected, and no credentials are looked for, before the first object is needed.

use std::{error::Error, path::PathBuf, sync::Arc};

use futures_util::FutureExt;
use tokio::sync::OnceCell;

use super::{CliError, target};
use crate::{
    api::{
        AccessKey, Credentials, HttpTransport, Region, TransportSettings,
        oss::{ObjectClient, ObjectStore},
    },
    cli::{CheckArgs, RunArgs, ServiceArgs},
    domain::FatalError,
    run::MAX_PREPARING,
    sandbox::{Sandbox, Settings as SandboxSettings},
    storage::Objects,
};

/// Object storage of a run: the real one, or buckets of a sandbox.
pub(super) fn for_run(args: &RunArgs) -> Result<Objects, CliError> {
    if args.sandbox_bucket.is_empty() {
        for_service(&args.service)
    } else {
        Ok(in_sandbox(args.sandbox_bucket.clone()))
    }
}

/// Object storage beside the service.
pub(super) fn for_service(args: &ServiceArgs) -> Result<Objects, CliError> {
    let region = target::region(args.region)?;
    let store = store(args.oss_endpoint.as_deref(), region, |region| ObjectStore::for_region(region, args.network))?;
    Ok(connected(store, target::roots(args.ca_file.as_deref())?))
}

/// Object storage of a check.
pub(super) fn for_check(args: &CheckArgs) -> Result<Objects, CliError> {
    let args = &args.storage;
    let region = target::region(args.region)?;
    let store = store(args.oss_endpoint.as_deref(), region, |region| ObjectStore::for_region(region, args.network))?;
    Ok(connected(store, target::roots(args.ca_file.as_deref())?))
}

fn store(
    endpoint: Option<&str>,
    region: Option<Region>,
    of_region: impl Fn(Region) -> ObjectStore,
) -> Result<Option<ObjectStore>, CliError> {
    Ok(match endpoint {
        Some(url) => Some(ObjectStore::custom(url, region)?),
        None => region.map(of_region),
    })
}

/// Connects to a store with the credentials of the environment, at the first request.
fn connected(store: Option<ObjectStore>, extra_roots: Vec<u8>) -> Objects {
    Objects::new(Box::new(move || {
        let (store, extra_roots) = (store.clone(), extra_roots.clone());
        async move {
            let message = || "no endpoint is given".to_owned();
            let store = store.ok_or_else(|| refused("NoEndpoint", message()))?;
            let credentials = Credentials::resolve(|name| std::env::var(name).ok(), &extra_roots).await;
            let credentials = credentials.map_err(|error| refused("NoCredentials", error_chain(&error)))?;
            client(store, credentials, extra_roots)
        }
        .boxed()
    }))
}

/// Serves folders as buckets, at the first request.
fn in_sandbox(buckets: Vec<(String, PathBuf)>) -> Objects {
    // Lives as long as the objects.
    let sandbox: Arc<OnceCell<Sandbox>> = Arc::default();
    Objects::new(Box::new(move || {
        let (buckets, sandbox) = (buckets.clone(), Arc::clone(&sandbox));
        async move {
            let buckets = buckets.into_iter().map(|(name, folder)| (name, Some(folder))).collect();
            let start = || Sandbox::start(SandboxSettings { buckets, ..SandboxSettings::default() });
            let started = sandbox.get_or_try_init(start).await;
            let sandbox = started.map_err(|error| refused("NoSandbox", error_chain(&error)))?;
            let store = ObjectStore::custom(&sandbox.endpoint(), None)
                .map_err(|error| refused("NoSandbox", error_chain(&error)))?;
            let key = AccessKey::new(sandbox.access_key_id(), sandbox.access_key_secret().into(), None);
            client(store, Credentials::from_static(key), Vec::new())
        }
        .boxed()
    }))
}

fn client(store: ObjectStore, credentials: Credentials, extra_roots: Vec<u8>) -> Result<ObjectClient, FatalError> {
    let settings = TransportSettings { connections: MAX_PREPARING, extra_roots, ..TransportSettings::default() };
    let transport = HttpTransport::new(&settings).map_err(|error| refused("NoTransport", error_chain(&error)))?;
    Ok(ObjectClient::new(transport, store, credentials))
}

fn refused(code: &str, message: String) -> FatalError {
    FatalError::ObjectStorage { code: code.into(), message }
}

fn error_chain(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
}
