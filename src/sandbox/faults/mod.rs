//! What goes wrong, and when: the ways in which a network or a service fails, played on demand.
//!
//! A script is a JSON array of rules, or the rules one after the other (JSON Lines). The first rule that matches a call is
//! played; a rule without conditions matches every call of its action, and where several conditions are given, all must
//! hold. Calls that the gateway or the quota refuses are not counted and meet no fault. An unknown key, a key that does not
//! belong to its fault, and one that is missing are errors.
//!
//! ```json
//! {"calls": [3, 7], "fault": "reset_after"}
//! {"from": 10, "to": 20, "fault": "throttle", "retry_after_ms": 500}
//! {"chance": 0.05, "fault": "internal_error", "executed": true}
//! {"user": "u1", "times": 1, "fault": "stall"}
//! {"action": "QueryFaceRecord", "calls": [1], "fault": "unavailable"}
//! {"fault": "query_lag", "for_ms": 2000}
//! ```
//!
//! | condition | holds for |
//! |---|---|
//! | `action` | calls of this action; AddFaceRecord where none is given, QueryFaceRecord for `query_lag` |
//! | `calls` | the k-th calls of the action since the script was set, the first being 1 |
//! | `from`, `to` | the calls from the k-th to the k-th, both included; either may be left out |
//! | `chance` | each call with this probability (0 to 1), drawn from the sandbox's seed |
//! | `user` | calls with this `MerchantUserId` |
//! | `times` | the first so many calls that meet the rest |
//!
//! | `fault` | what the caller meets | is the action executed? |
//! |---|---|---|
//! | `throttle` | 403 `Throttling.Api`, with `x-acs-retry-after` if `retry_after_ms` is given | no; it takes nothing of the quota |
//! | `internal_error` | 500 `InternalError` | `executed` (default false) |
//! | `unavailable` | 503 `ServiceUnavailable` | `executed` (default false) |
//! | `html` | an HTML page with `status` (default 502), as a proxy on the way answers in the service's place; with `Retry-After` if `retry_after_s` is given | `executed` (default false) |
//! | `reset_before`, `reset_after` | the connection is reset (RST) | no; yes, before the reset |
//! | `stall` | no answer, ever | `executed` (default false) |
//! | `truncated` | 200, half of the body that `Content-Length` promises, end of connection | yes |
//! | `unreadable` | 200 and a body that is no JSON | yes |
//! | `not_passed` | 200 `Success`, `Passed: N` (AddFaceRecord only) | no |
//! | `permission` | 403 `Forbidden.RAMUserAccessDenied` | no |
//! | `code` | `status`, `code`, `message` (all required) as the gateway writes them, and `retry_after_ms`; `status` may be 200 | no |
//! | `slow` | the answer, `delay_ms` late | yes, before the delay |
//! | `late` | the answer, `delay_ms` late | yes, after the delay, even if the caller is gone |
//! | `query_lag` | an answer without the records of the last `for_ms` (QueryFaceRecord only) | yes |

mod player;
mod script;

use std::time::Duration;

pub(super) use player::FaultPlayer;
pub use script::{Script, ScriptError};

use super::Action;

/// When something goes wrong, and what. Of the conditions, those that are given must all hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Calls of this action.
    pub action: Action,
    /// Which of them.
    pub when: When,
    /// At most so often.
    pub times: Option<u64>,
    /// What goes wrong.
    pub fault: Fault,
}

/// Which calls of an action.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct When {
    /// The k-th ones, the first being 1.
    pub calls: Option<Vec<u64>>,
    /// From the k-th on.
    pub from: Option<u64>,
    /// Up to the k-th.
    pub to: Option<u64>,
    /// Each with this probability.
    pub chance: Option<f64>,
    /// Those with this `MerchantUserId`.
    pub user: Option<String>,
}

/// What goes wrong. `executed` says whether the action is executed all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 403 `Throttling.Api`; it takes nothing of the quota.
    Throttle {
        /// `x-acs-retry-after`.
        retry_after: Option<Duration>,
    },
    /// 500 `InternalError`.
    InternalError {
        /// Is the record made all the same?
        executed: bool,
    },
    /// 503 `ServiceUnavailable`.
    Unavailable {
        /// Is the record made all the same?
        executed: bool,
    },
    /// An HTML page, from a proxy on the way.
    Html {
        /// Is the record made all the same?
        executed: bool,
        /// HTTP status.
        status: u16,
        /// `Retry-After`, in whole seconds.
        retry_after: Option<Duration>,
    },
    /// The connection is reset, and nothing was done.
    ResetBefore,
    /// The connection is reset once the action is done.
    ResetAfter,
    /// No answer, ever.
    Stall {
        /// Is the record made all the same?
        executed: bool,
    },
    /// Done, but the answer breaks off.
    Truncated,
    /// Done, but the answer is no JSON.
    Unreadable,
    /// `Success`, but `Passed: N`.
    NotPassed,
    /// 403 `Forbidden.RAMUserAccessDenied`.
    Permission,
    /// Any answer with a `Code`.
    Code {
        /// HTTP status.
        status: u16,
        /// `Code`.
        code: String,
        /// `Message`.
        message: String,
        /// `x-acs-retry-after`: the official SDKs obey it beside any code.
        retry_after: Option<Duration>,
    },
    /// Done at once, answered late.
    Slow {
        /// How late.
        delay: Duration,
    },
    /// Done late, and answered then.
    Late {
        /// How late.
        delay: Duration,
    },
    /// A query that does not see the youngest records.
    QueryLag {
        /// How old a record has to be.
        age: Duration,
    },
}
