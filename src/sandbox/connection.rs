//! One connection: reads requests, has them played, and does to the socket what was ordered.
//!
//! A request that has been read to its end is played in a task of its own: it is executed even if the client leaves.

use std::{convert::Infallible, future::pending, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    answer::{Caller, ErrorFormat, Refusal},
    gateway::Call,
    service::{Effect, Service},
    wire::Wire,
};

/// Longest body that is read at all: a 10 MB picture in Base64 in a form has 14. The gateway's own bound is not documented.
const BODY_MAX_BYTES: usize = 32 << 20;

/// What every connection works with.
#[derive(Debug, Clone)]
pub(super) struct Deps {
    pub(super) service: Arc<Service>,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

/// Serves a connection until either side closes it.
pub(super) async fn serve(stream: TcpStream, deps: Deps) {
    let (Ok(()), Ok(wire)) = (stream.set_nodelay(true), Wire::of(&stream)) else { return };
    let wire = Arc::new(wire);
    let service = service_fn(|request| handle(request, deps.clone(), Arc::clone(&wire)));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        result = connection => {
            if let Err(error) = result {
                tracing::debug!(%error, "a connection to the sandbox ended badly");
            }
        }
        () = wire.broken.cancelled() => {}
        () = deps.closing.cancelled() => {}
    }
}

async fn handle(
    request: Request<Incoming>,
    deps: Deps,
    wire: Arc<Wire>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => return Err(*error),
            Err(error) => return Ok(refuse_body(&deps, error.is::<LengthLimitError>())),
        },
    };
    let at = deps.service.clock.elapsed();
    let call = Call { method: head.method, uri: head.uri, headers: head.headers, body };
    let service = Arc::clone(&deps.service);
    let played = deps.tasks.spawn(async move { service.play(call, at).await }).await;
    let date = deps.service.clock.http_date();
    match played {
        Ok(Effect::Answer(reply)) => Ok(reply.into_response(&date)),
        Ok(Effect::Cut(reply)) => {
            wire.cut(&reply.into_cut_bytes(&date));
            Ok(never().await)
        }
        // A task ends early only by a panic, which the service knows as little as a client does.
        Ok(Effect::Reset) | Err(_) => {
            wire.reset();
            Ok(never().await)
        }
        Ok(Effect::Stall) => Ok(never().await),
    }
}

fn refuse_body(deps: &Deps, is_too_long: bool) -> Response<Full<Bytes>> {
    let refusal = match is_too_long {
        true => Refusal::new(413, "RequestEntityTooLarge", "The request body is too large."),
        false => Refusal::new(400, "InvalidRequest", "The request body can't be read."),
    };
    Caller::new(String::new(), ErrorFormat::Gateway).refuse(&refusal).into_response(&deps.service.clock.http_date())
}

/// Until the connection is dropped.
async fn never() -> Response<Full<Bytes>> {
    match pending::<Infallible>().await {}
}
