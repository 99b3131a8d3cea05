//! `face-enroll sandbox`.

use std::num::NonZeroU32;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::CliError;
use crate::{
    cli::{SandboxArgs, WindowKind},
    exit::Exit,
    report,
    sandbox::{Groups, Sandbox, Script, Settings, Window},
};

pub(super) async fn sandbox(args: SandboxArgs) -> Result<Exit, CliError> {
    let faults = match &args.faults {
        Some(path) => Script::read(path).map_err(|error| CliError::new(Exit::Usage, error))?,
        None => Script::default(),
    };
    let settings = Settings {
        listen: args.listen,
        groups: if args.group.is_empty() {
            Groups::Any
        } else {
            Groups::only(args.group.iter().map(ToString::to_string))
        },
        qps: NonZeroU32::new(args.qps),
        window: match args.window {
            WindowKind::Fixed => Window::Fixed,
            WindowKind::Sliding => Window::Sliding,
        },
        latency: args.latency,
        late: args.late,
        buckets: args.bucket.into_iter().map(|(name, folder)| (name, Some(folder))).collect(),
        records: args.records,
        journal: args.journal,
        faults,
        seed: args.seed,
        ..Settings::default()
    };
    let internal = |error: std::io::Error| CliError::new(Exit::Internal, error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(internal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(internal)?;
    let sandbox = Sandbox::start(settings).await.map_err(|error| CliError::new(Exit::Usage, error))?;
    if args.json {
        report::print_json(&json!({
            "type": "sandbox",
            "endpoint": sandbox.endpoint(),
            "access_key_id": sandbox.access_key_id(),
            "access_key_secret": sandbox.access_key_secret(),
        }));
    } else {
        report::print(&format!(
            "The sandbox is listening. In another terminal:\n\n  \
             export ALIBABA_CLOUD_ACCESS_KEY_ID={} ALIBABA_CLOUD_ACCESS_KEY_SECRET={}\n  \
             face-enroll run MANIFEST --group CODE --endpoint {}\n",
            sandbox.access_key_id(),
            sandbox.access_key_secret(),
            sandbox.endpoint(),
        ));
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    sandbox.shutdown().await;
    Ok(Exit::Success)
}
