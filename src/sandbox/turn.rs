//! One call that was let through: what it does, and what a fault makes of that.
//!
//! The record is made where the fault says so and nowhere else; the order is always latency, then `late`, then the ledger.

use std::time::Duration;

use super::{
    Fault,
    actions::{Ask, Room, verdict},
    answer::{Caller, Refusal, Reply},
    service::{Effect, Service, lock},
};
use crate::domain::ErrorCode;

/// A call that was let through.
pub(super) struct Turn<'a> {
    pub(super) service: &'a Service,
    pub(super) seq: u64,
    pub(super) addressee: Caller,
    pub(super) asked: Result<Ask, Refusal>,
}

impl Turn<'_> {
    pub(super) async fn play(self, fault: Option<Fault>) -> Effect {
        let service = self.service;
        let picture = self.asked.as_ref().ok().and_then(Ask::picture);
        lock(&service.journal).amend(self.seq, |arrival| {
            arrival.admitted = true;
            arrival.picture = picture;
        });
        service.wait(service.draw(service.latency, 0.5..1.5)).await;
        let to = self.addressee.clone();
        let Some(fault) = fault else { return Effect::Answer(self.execute(None).await) };
        match fault {
            Fault::Throttle { retry_after } => Effect::Answer(to.refuse(&Refusal::throttled(retry_after))),
            Fault::InternalError { executed } => {
                self.execute_if(executed).await;
                Effect::Answer(to.refuse(&Refusal::internal_error()))
            }
            Fault::Unavailable { executed } => {
                self.execute_if(executed).await;
                let message = "The service is unavailable. Contact technical support for assistance.";
                Effect::Answer(to.refuse(&Refusal::new(503, "ServiceUnavailable", message)))
            }
            Fault::Html { executed, status, retry_after } => {
                self.execute_if(executed).await;
                Effect::Answer(to.foreign_page(status, retry_after))
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
            Fault::Truncated => Effect::Cut(self.execute(None).await),
            Fault::Unreadable => {
                self.execute(None).await;
                Effect::Answer(to.garbage())
            }
            Fault::NotPassed => {
                let mut reply = to.succeed(vec![("Result", verdict("N", "LOW"))]);
                // A reader of the journal must not take it for a success.
                reply.code = ErrorCode::NOT_PASSED.to_owned();
                Effect::Answer(reply)
            }
            Fault::Permission => {
                let message = "The RAM user lacks the required permissions.";
                Effect::Answer(to.refuse(&Refusal::new(403, "Forbidden.RAMUserAccessDenied", message)))
            }
            Fault::Code { status, code, message, retry_after } => {
                Effect::Answer(to.refuse(&Refusal { retry_after, ..Refusal::new(status, code, message) }))
            }
            Fault::Slow { delay } => {
                let reply = self.execute(None).await;
                service.wait(delay).await;
                Effect::Answer(reply)
            }
            Fault::Late { delay } => {
                service.wait(delay).await;
                Effect::Answer(self.execute(None).await)
            }
            Fault::QueryLag { age } => Effect::Answer(self.execute(Some(age)).await),
        }
    }

    async fn execute_if(self, executed: bool) {
        if executed {
            self.execute(None).await;
        }
    }

    /// Does what was asked for, if it can be done at all.
    async fn execute(self, lag: Option<Duration>) -> Reply {
        let service = self.service;
        let ask = match self.asked {
            Ok(ask) => ask,
            Err(refusal) => return self.addressee.refuse(&refusal),
        };
        if let Ask::AddFaceRecord(_) = ask {
            service.wait(service.draw(service.late, 0.0..1.0)).await;
        }
        let groups = service.groups();
        let done = {
            let (mut ledger, mut objects) = (lock(&service.ledger), lock(&service.objects));
            let (now, at) = (service.clock.now(), service.clock.elapsed());
            ask.act(&mut Room { ledger: &mut ledger, objects: &mut objects, groups: &groups, now, at, lag })
        };
        match done {
            Ok(done) => {
                lock(&service.journal).amend(self.seq, |arrival| {
                    arrival.record = done.record;
                    arrival.picture = done.picture.or(arrival.picture);
                });
                match done.page {
                    Some((status, xml)) => self.addressee.page(status, xml),
                    None if done.is_bare => self.addressee.give(done.fields),
                    None => self.addressee.succeed(done.fields),
                }
            }
            Err(refusal) => self.addressee.refuse(&refusal),
        }
    }
}
