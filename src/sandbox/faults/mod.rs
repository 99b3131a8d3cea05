//! Fault injection: the ways in which a network or a service fails, on demand.
//!
//! A script is a JSON array of rules, or one rule after the other (JSON Lines). The first rule that matches a call applies.
//! All conditions of a rule must hold; a rule without conditions matches every call of its action. Calls rejected by the
//! gateway or the quota are not counted and get no fault. An unknown key, a key that does not belong to its fault, and a
//! missing key are errors.
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
//! | condition | matches |
//! |---|---|
//! | `action` | calls of this action; the default is AddFaceRecord, or QueryFaceRecord for `query_lag` |
//! | `calls` | the k-th calls of the action since the script was set, starting at 1 |
//! | `from`, `to` | a range of calls, both ends included; either may be omitted |
//! | `chance` | each call with this probability (0 to 1), by the sandbox's seed |
//! | `user` | calls with this `MerchantUserId` |
//! | `times` | at most this many calls that match the rest |
//!
//! | `fault` | what the client gets | whether the action is executed |
//! |---|---|---|
//! | `throttle` | 403 `Throttling.Api`, with `x-acs-retry-after` if `retry_after_ms` is given | no; it does not count against the quota |
//! | `internal_error` | 500 `InternalError` | `executed` (default false) |
//! | `unavailable` | 503 `ServiceUnavailable` | `executed` (default false) |
//! | `html` | an HTML page with `status` (default 502), as from a proxy; with `Retry-After` if `retry_after_s` is given | `executed` (default false) |
//! | `reset_before`, `reset_after` | the connection is reset (RST) | no; yes, before the reset |
//! | `stall` | no response, ever | `executed` (default false) |
//! | `truncated` | 200, half of the body that `Content-Length` announces, end of connection | yes |
//! | `unreadable` | 200 and a body that is not JSON | yes |
//! | `not_passed` | 200 `Success`, `Passed: N` (AddFaceRecord only) | no |
//! | `permission` | 403 `Forbidden.RAMUserAccessDenied` | no |
//! | `code` | `status`, `code`, `message` (all required) in the format of the gateway, and `retry_after_ms`; `status` may be 200 | no |
//! | `slow` | the response, `delay_ms` late | yes, before the delay |
//! | `late` | the response, `delay_ms` late | yes, after the delay, even if the client has disconnected |
//! | `query_lag` | a response without the records of the last `for_ms` (QueryFaceRecord only) | yes |

mod player;
mod script;

use std::time::Duration;

pub(super) use player::FaultPlayer;
pub use script::{Script, ScriptError};

use super::Action;

/// A fault and the calls that get it. All given conditions must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Action whose calls match.
    pub action: Action,
    /// Calls of the action that match.
    pub condition: Condition,
    /// Largest number of times that the rule applies.
    pub times: Option<u64>,
    /// Fault to inject.
    pub fault: Fault,
}

/// Condition on the calls of an action.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Condition {
    /// Numbers of the calls, starting at 1.
    pub calls: Option<Vec<u64>>,
    /// First call that matches.
    pub from: Option<u64>,
    /// Last call that matches.
    pub to: Option<u64>,
    /// Probability of each call.
    pub chance: Option<f64>,
    /// `MerchantUserId` of the call.
    pub user: Option<String>,
}

/// A fault. `executed` says whether the action is executed despite the fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 403 `Throttling.Api`; does not count against the quota.
    Throttle {
        /// `x-acs-retry-after`.
        retry_after: Option<Duration>,
    },
    /// 500 `InternalError`.
    InternalError {
        /// Whether the action is executed despite the fault.
        executed: bool,
    },
    /// 503 `ServiceUnavailable`.
    Unavailable {
        /// Whether the action is executed despite the fault.
        executed: bool,
    },
    /// HTML page of a proxy.
    Html {
        /// Whether the action is executed despite the fault.
        executed: bool,
        /// HTTP status.
        status: u16,
        /// `Retry-After`, in whole seconds.
        retry_after: Option<Duration>,
    },
    /// Connection reset; the action is not executed.
    ResetBefore,
    /// Connection reset after the action was executed.
    ResetAfter,
    /// No response, ever.
    Stall {
        /// Whether the action is executed despite the fault.
        executed: bool,
    },
    /// The action is executed, but the response is truncated.
    Truncated,
    /// The action is executed, but the response is not JSON.
    Unreadable,
    /// `Success` with `Passed: N`.
    NotPassed,
    /// 403 `Forbidden.RAMUserAccessDenied`.
    Permission,
    /// Any response with a `Code`.
    Code {
        /// HTTP status.
        status: u16,
        /// `Code`.
        code: String,
        /// `Message`.
        message: String,
        /// `x-acs-retry-after`, which the official SDKs obey for any code.
        retry_after: Option<Duration>,
    },
    /// The action is executed at once, but the response is late.
    Slow {
        /// Length of the delay.
        delay: Duration,
    },
    /// The action is executed late, and the response follows.
    Late {
        /// Length of the delay.
        delay: Duration,
    },
    /// A query that does not see the newest records.
    QueryLag {
        /// Smallest age of a record that the query sees.
        age: Duration,
    },
}
