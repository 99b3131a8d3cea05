//! `--ping-url`: tells a monitor when a run starts and how it ends, by the convention of healthchecks.io.
//!
//! A ping never changes the exit code of a run. The first one is sent beside the run; the last one delays the end of the
//! process by at most [`PING_TIMEOUT`].

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{CliError, signals, target};
use crate::{
    api::{Ping, PingUrl, Pinger},
    cli::RunArgs,
    exit::Exit,
    report,
};

/// Time for all tries of a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last ping waits for the first one, so that they arrive in order.
const START_GRACE: Duration = Duration::from_secs(2);
/// Tries of a ping. A monitor that takes a request and does not answer gets one.
const TRIES: u32 = 3;
/// Pause between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The pings of a run.
pub(super) struct Pings {
    pinger: Arc<Pinger>,
    start: AbortOnDropHandle<()>,
}

/// Body of the last ping of a run that ended without a summary.
#[derive(Serialize)]
struct ErrorBody {
    r#type: &'static str,
    exit_code: u8,
    exit_reason: String,
}

impl Pings {
    /// Sends the first ping in the background. `None` without `--ping-url`.
    pub(super) fn start(args: &RunArgs) -> Result<Option<Self>, CliError> {
        let Some(url) = &args.show.ping_url else { return Ok(None) };
        let url = PingUrl::parse(url).map_err(|error| CliError::new(Exit::Usage, error))?;
        let pinger = Pinger::new(url, target::roots(args.service.ca_file.as_deref())?)
            .map_err(|error| CliError::new(Exit::Usage, error))?;
        let pinger = Arc::new(pinger);
        let starting = Arc::clone(&pinger);
        let start = AbortOnDropHandle::new(tokio::spawn(async move { send(&starting, Ping::Start).await }));
        Ok(Some(Self { pinger, start }))
    }

    /// Sends the last ping: a success for exit 0, otherwise a failure. After a second signal there is none, and another
    /// signal ends it.
    pub(super) async fn finish(self, ended: &Result<Exit, CliError>, summary: Option<&String>) {
        let body = match (summary, ended) {
            (Some(summary), _) => summary.clone(),
            (None, Ok(_)) => return,
            (None, Err(error)) => report::json_line(&ErrorBody {
                r#type: "error",
                exit_code: error.exit().code(),
                exit_reason: error.to_string(),
            }),
        };
        let ping = if matches!(ended, Ok(Exit::Success)) { Ping::Success(&body) } else { Ping::Failure(&body) };
        let last = async {
            let _ = timeout(START_GRACE, self.start).await;
            send(&self.pinger, ping).await;
        };
        tokio::select! {
            ended = timeout(PING_TIMEOUT, last) => if ended.is_err() { warn_of_timeout() },
            () = signals::any() => tracing::warn!("quitting: the last ping may be missing"),
        }
    }
}

/// Tries until a ping is accepted. A failure only warns.
async fn send(pinger: &Pinger, ping: Ping<'_>) {
    let tries = async {
        for attempt in 1..=TRIES {
            match pinger.send(ping).await {
                Ok(()) => return,
                Err(error) if attempt == TRIES => tracing::warn!(%error, "cannot ping --ping-url"),
                Err(error) => {
                    tracing::debug!(%error, "cannot ping --ping-url; retrying");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    };
    if timeout(PING_TIMEOUT, tries).await.is_err() {
        warn_of_timeout();
    }
}

fn warn_of_timeout() {
    tracing::warn!(limit = ?PING_TIMEOUT, "cannot ping --ping-url: no answer in time");
}
