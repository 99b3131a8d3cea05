//! Executes one admitted call and applies its fault.
//!
//! The action runs only if the fault allows it. The order is always latency, then `late`, then the record store.

use std::time::Duration;

use super::{
    Fault,
    actions::{ActionContext, ActionRequest, Body, enrollment_result},
    response::{ApiError, Reply, Responder},
    service::{Effect, Service, lock},
};
use crate::domain::ErrorCode;

/// An admitted call.
pub(super) struct Handler<'a> {
    pub(super) service: &'a Service,
    pub(super) seq: u64,
    pub(super) responder: Responder,
    pub(super) request: Result<ActionRequest, ApiError>,
}

impl Handler<'_> {
    pub(super) async fn run(self, fault: Option<Fault>) -> Effect {
        let service = self.service;
        let picture = self.request.as_ref().ok().and_then(ActionRequest::picture);
        lock(&service.journal).update(self.seq, |call| {
            call.admitted = true;
            call.picture = picture;
        });
        service.wait(service.random_fraction(service.latency, 0.5..1.5)).await;
        let responder = self.responder.clone();
        let Some(fault) = fault else { return Effect::Respond(self.execute(None).await) };
        match fault {
            Fault::Throttle { retry_after } => Effect::Respond(responder.error(&ApiError::throttled(retry_after))),
            Fault::InternalError { executed } => {
                self.execute_if(executed).await;
                Effect::Respond(responder.error(&ApiError::internal_error()))
            }
            Fault::Unavailable { executed } => {
                self.execute_if(executed).await;
                let message = "The service is unavailable. Contact technical support for assistance.";
                Effect::Respond(responder.error(&ApiError::new(503, "ServiceUnavailable", message)))
            }
            Fault::Html { executed, status, retry_after } => {
                self.execute_if(executed).await;
                Effect::Respond(responder.proxy_page(status, retry_after))
            }
            Fault::ResetBefore => Effect::Reset,
            Fault::ResetAfter => {
                self.execute(None).await;
                Effect::Reset
            }
            Fault::Stall { executed } => {
                self.execute_if(executed).await;
                Effect::Stall
            }
            Fault::Truncated => Effect::Truncate(self.execute(None).await),
            Fault::Unreadable => {
                self.execute(None).await;
                Effect::Respond(responder.unreadable())
            }
            Fault::NotPassed => {
                let mut reply = responder.success(vec![("Result", enrollment_result("N", "LOW"))]);
                // The journal must not show it as a success.
                reply.code = ErrorCode::NOT_PASSED.to_owned();
                Effect::Respond(reply)
            }
            Fault::Permission => {
                let message = "The RAM user lacks the required permissions.";
                Effect::Respond(responder.error(&ApiError::new(403, "Forbidden.RAMUserAccessDenied", message)))
            }
            Fault::Code { status, code, message, retry_after } => {
                Effect::Respond(responder.error(&ApiError { retry_after, ..ApiError::new(status, code, message) }))
            }
            Fault::Slow { delay } => {
                let reply = self.execute(None).await;
                service.wait(delay).await;
                Effect::Respond(reply)
            }
            Fault::Late { delay } => {
                service.wait(delay).await;
                Effect::Respond(self.execute(None).await)
            }
            Fault::QueryLag { age } => Effect::Respond(self.execute(Some(age)).await),
        }
    }

    async fn execute_if(self, executed: bool) {
        if executed {
            self.execute(None).await;
        }
    }

    /// Executes the action, or returns the error of a request that could not be parsed.
    async fn execute(self, lag: Option<Duration>) -> Reply {
        let service = self.service;
        let request = match self.request {
            Ok(request) => request,
            Err(error) => return self.responder.error(&error),
        };
        if let ActionRequest::AddFaceRecord(_) = request {
            service.wait(service.random_fraction(service.late, 0.0..1.0)).await;
        }
        let (groups, credentials) = (service.groups(), service.credentials());
        let result = {
            let (mut records, mut objects) = (lock(&service.records), lock(&service.objects));
            let (now, at) = (service.clock.now(), service.clock.elapsed());
            request.execute(&mut ActionContext {
                records: &mut records,
                objects: &mut objects,
                groups: &groups,
                credentials: &credentials,
                now,
                at,
                lag,
            })
        };
        match result {
            Ok(result) => {
                lock(&service.journal).update(self.seq, |call| {
                    call.record = result.record;
                    call.picture = result.picture.or(call.picture);
                });
                match result.body {
                    Body::Coded(fields) => self.responder.success(fields),
                    Body::Bare(fields) => self.responder.bare(fields),
                    Body::Xml(status, xml) => self.responder.xml(status, xml),
                    Body::Object { headers, bytes, kind } => self.responder.object(headers, bytes, kind),
                }
            }
            Err(error) => self.responder.error(&error),
        }
    }
}
