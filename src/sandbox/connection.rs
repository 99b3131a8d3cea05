//! One connection: reads requests, has the service handle them, and applies the effect to the socket.
//!
//! A completely received request is handled in its own task, so it is executed even if the client disconnects.

use std::{convert::Infallible, future::pending, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    gateway::Call,
    response::{ApiError, ErrorFormat, Responder},
    service::{Effect, Service},
    socket::SocketHandle,
};

/// Largest accepted body. A 10 MB photo in Base64 in a form takes 14 MB; the gateway's own limit is not documented.
const BODY_MAX_BYTES: usize = 32 << 20;

/// Shared state of all connections.
#[derive(Debug, Clone)]
pub(super) struct Deps {
    pub(super) service: Arc<Service>,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

/// Serves a connection until either side closes it.
pub(super) async fn serve(stream: TcpStream, deps: Deps) {
    let (Ok(()), Ok(socket)) = (stream.set_nodelay(true), SocketHandle::new(&stream)) else { return };
    let socket = Arc::new(socket);
    let service = service_fn(|request| handle(request, deps.clone(), Arc::clone(&socket)));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        result = connection => {
            if let Err(error) = result {
                tracing::debug!(%error, "connection to the sandbox failed");
            }
        }
        () = socket.closing.cancelled() => {}
        () = deps.closing.cancelled() => {}
    }
}

async fn handle(
    request: Request<Incoming>,
    deps: Deps,
    socket: Arc<SocketHandle>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_MAX_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => return Err(*error),
            Err(error) => return Ok(body_error(&deps, error.is::<LengthLimitError>())),
        },
    };
    let at = deps.service.clock.elapsed();
    let call = Call { method: head.method, uri: head.uri, headers: head.headers, body };
    let service = Arc::clone(&deps.service);
    let effect = deps.tasks.spawn(async move { service.handle(call, at).await }).await;
    let date = deps.service.clock.http_date();
    match effect {
        Ok(Effect::Respond(reply)) => Ok(reply.into_response(&date)),
        Ok(Effect::Truncate(reply)) => {
            socket.send_and_close(&reply.into_truncated_bytes(&date));
            Ok(never().await)
        }
        // The task panicked: to the client this looks like a crash of the service.
        Ok(Effect::Reset) | Err(_) => {
            socket.reset();
            Ok(never().await)
        }
        Ok(Effect::Stall) => Ok(never().await),
    }
}

fn body_error(deps: &Deps, is_too_long: bool) -> Response<Full<Bytes>> {
    let error = match is_too_long {
        true => ApiError::new(413, "RequestEntityTooLarge", "The request body is too large."),
        false => ApiError::new(400, "InvalidRequest", "The request body cannot be read."),
    };
    Responder::new(String::new(), ErrorFormat::Gateway).error(&error).into_response(&deps.service.clock.http_date())
}

/// Waits until the connection is dropped.
async fn never() -> Response<Full<Bytes>> {
    match pending::<Infallible>().await {}
}
