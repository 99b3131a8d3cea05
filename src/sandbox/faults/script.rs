//! Parser of fault scripts.

use std::{fs, io, path::Path, time::Duration};

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{Action, Condition, Fault, Rule};
use crate::domain::decode_text;

/// Rules in the order in which they are tried. The syntax is described in [the module](super).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Script(pub Vec<Rule>);

/// Why a script is invalid. Rules are numbered from 1.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ScriptError {
    #[error("cannot read the fault script")]
    Read(#[source] io::Error),
    #[error("rule {rule} is invalid")]
    Syntax { rule: usize, source: serde_json::Error },
    #[error("rule {rule}: '{key}' does not apply to this fault")]
    UnexpectedKey { rule: usize, key: &'static str },
    #[error("rule {rule}: '{key}' is required for this fault")]
    MissingKey { rule: usize, key: &'static str },
    #[error("rule {rule}: '{key}' must be {allowed}")]
    OutOfRange { rule: usize, key: &'static str, allowed: &'static str },
}

impl Script {
    /// Reads and parses a file.
    pub fn read(path: &Path) -> Result<Self, ScriptError> {
        Self::parse(&fs::read(path).and_then(|bytes| Ok(decode_text(bytes)?)).map_err(ScriptError::Read)?)
    }

    /// Parses an array of rules, or one rule after the other.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        let mut rules = Vec::new();
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            let values = match value.map_err(|source| ScriptError::Syntax { rule: rules.len() + 1, source })? {
                Value::Array(values) => values,
                one => vec![one],
            };
            for value in values {
                let rule = rules.len() + 1;
                let raw: RawRule =
                    serde_json::from_value(value).map_err(|source| ScriptError::Syntax { rule, source })?;
                rules.push(raw.validate(rule)?);
            }
        }
        Ok(Self(rules))
    }
}

/// A rule before validation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    action: Option<Action>,
    calls: Option<Vec<u64>>,
    from: Option<u64>,
    to: Option<u64>,
    chance: Option<f64>,
    user: Option<String>,
    times: Option<u64>,
    fault: FaultKind,
    executed: Option<bool>,
    retry_after_ms: Option<u64>,
    retry_after_s: Option<u64>,
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    for_ms: Option<u64>,
    delay_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FaultKind {
    Throttle,
    InternalError,
    Unavailable,
    Html,
    ResetBefore,
    ResetAfter,
    Stall,
    Truncated,
    Unreadable,
    NotPassed,
    Permission,
    Code,
    Slow,
    Late,
    QueryLag,
}

impl FaultKind {
    /// Keys that apply to this fault.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Throttle => &["retry_after_ms"],
            Self::InternalError | Self::Unavailable | Self::Stall => &["executed"],
            Self::Html => &["executed", "status", "retry_after_s"],
            Self::Code => &["status", "code", "message", "retry_after_ms"],
            Self::Slow | Self::Late => &["delay_ms"],
            Self::QueryLag => &["for_ms"],
            Self::ResetBefore
            | Self::ResetAfter
            | Self::Truncated
            | Self::Unreadable
            | Self::NotPassed
            | Self::Permission => &[],
        }
    }

    /// The only action to which this fault applies, if there is just one.
    fn only_action(self) -> Option<Action> {
        match self {
            Self::NotPassed => Some(Action::AddFaceRecord),
            Self::QueryLag => Some(Action::QueryFaceRecord),
            Self::Throttle
            | Self::InternalError
            | Self::Unavailable
            | Self::Html
            | Self::ResetBefore
            | Self::ResetAfter
            | Self::Stall
            | Self::Truncated
            | Self::Unreadable
            | Self::Permission
            | Self::Code
            | Self::Slow
            | Self::Late => None,
        }
    }
}

impl RawRule {
    fn validate(self, rule: usize) -> Result<Rule, ScriptError> {
        let given = [
            ("executed", self.executed.is_some()),
            ("retry_after_ms", self.retry_after_ms.is_some()),
            ("retry_after_s", self.retry_after_s.is_some()),
            ("status", self.status.is_some()),
            ("code", self.code.is_some()),
            ("message", self.message.is_some()),
            ("for_ms", self.for_ms.is_some()),
            ("delay_ms", self.delay_ms.is_some()),
        ];
        let keys = self.fault.keys();
        if let Some((key, _)) = given.into_iter().find(|(key, is_given)| *is_given && !keys.contains(key)) {
            return Err(ScriptError::UnexpectedKey { rule, key });
        }
        let out_of_range = |key, allowed| Err(ScriptError::OutOfRange { rule, key, allowed });
        let only = self.fault.only_action();
        if only.is_some() && self.action.is_some() && self.action != only {
            return out_of_range("action", "the action that this fault applies to");
        }
        if self.chance.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
            return out_of_range("chance", "0 to 1");
        }
        if self.from == Some(0) || self.to == Some(0) || self.calls.iter().flatten().any(|&call| call == 0) {
            return out_of_range("calls, from, to", "1 or more");
        }
        let action = self.action.or(only).unwrap_or(Action::AddFaceRecord);
        let times = self.times;
        let fault = self.fault(rule)?;
        let condition =
            Condition { calls: self.calls, from: self.from, to: self.to, chance: self.chance, user: self.user };
        Ok(Rule { action, condition, times, fault })
    }

    fn fault(&self, rule: usize) -> Result<Fault, ScriptError> {
        let executed = self.executed.unwrap_or(false);
        let retry_after = self.retry_after_ms.map(Duration::from_millis);
        let required =
            |key, millis: Option<u64>| millis.map(Duration::from_millis).ok_or(ScriptError::MissingKey { rule, key });
        let text = |key, text: &Option<String>| text.clone().ok_or(ScriptError::MissingKey { rule, key });
        Ok(match self.fault {
            FaultKind::Throttle => Fault::Throttle { retry_after },
            FaultKind::InternalError => Fault::InternalError { executed },
            FaultKind::Unavailable => Fault::Unavailable { executed },
            FaultKind::Html => {
                let retry_after = self.retry_after_s.map(Duration::from_secs);
                Fault::Html { executed, status: final_status(self.status.unwrap_or(502), rule)?, retry_after }
            }
            FaultKind::ResetBefore => Fault::ResetBefore,
            FaultKind::ResetAfter => Fault::ResetAfter,
            FaultKind::Stall => Fault::Stall { executed },
            FaultKind::Truncated => Fault::Truncated,
            FaultKind::Unreadable => Fault::Unreadable,
            FaultKind::NotPassed => Fault::NotPassed,
            FaultKind::Permission => Fault::Permission,
            FaultKind::Code => {
                let status = final_status(self.status.ok_or(ScriptError::MissingKey { rule, key: "status" })?, rule)?;
                let (code, message) = (text("code", &self.code)?, text("message", &self.message)?);
                Fault::Code { status, code, message, retry_after }
            }
            FaultKind::Slow => Fault::Slow { delay: required("delay_ms", self.delay_ms)? },
            FaultKind::Late => Fault::Late { delay: required("delay_ms", self.delay_ms)? },
            FaultKind::QueryLag => Fault::QueryLag { age: required("for_ms", self.for_ms)? },
        })
    }
}

/// Rejects interim statuses (1xx): the client would keep waiting for the response.
fn final_status(status: u16, rule: usize) -> Result<u16, ScriptError> {
    let is_final = status >= 200 && StatusCode::from_u16(status).is_ok();
    is_final.then_some(status).ok_or(ScriptError::OutOfRange { rule, key: "status", allowed: "200 to 999" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_and_json_lines_parse_alike() {
        let rules = [r#"{"calls":[3],"fault":"reset_after"}"#, r#"{"fault":"query_lag","for_ms":5}"#];
        let lines = Script::parse(&rules.join("\n")).unwrap();
        assert_eq!(lines, Script::parse(&format!("[{}]", rules.join(","))).unwrap());
        assert_eq!(lines.0[0].action, Action::AddFaceRecord);
        assert_eq!(
            (lines.0[1].action, &lines.0[1].fault),
            (Action::QueryFaceRecord, &Fault::QueryLag { age: Duration::from_millis(5) })
        );
        assert_eq!(Script::parse("").unwrap(), Script::default());
    }

    #[test]
    fn invalid_rule_is_rejected_with_reason() {
        let table = [
            (r#"{"fault":"stall","chanse":1}"#, "rule 1 is invalid"),
            (r#"{"fault":"explode"}"#, "rule 1 is invalid"),
            (r#"{"calls":[1]}"#, "rule 1 is invalid"),
            (r#"{"fault":"stall"} {"fault":"#, "rule 2 is invalid"),
            (r#"{"fault":"reset_before","executed":true}"#, "rule 1: 'executed' does not apply to this fault"),
            (r#"{"fault":"slow"}"#, "rule 1: 'delay_ms' is required for this fault"),
            (r#"{"fault":"code","status":400,"code":"X"}"#, "rule 1: 'message' is required for this fault"),
            (r#"{"fault":"code","status":99,"code":"X","message":"m"}"#, "rule 1: 'status' must be 200 to 999"),
            (r#"{"fault":"html","status":100}"#, "rule 1: 'status' must be 200 to 999"),
            (r#"{"fault":"stall","chance":1.5}"#, "rule 1: 'chance' must be 0 to 1"),
            (r#"{"fault":"stall","calls":[0]}"#, "rule 1: 'calls, from, to' must be 1 or more"),
            (
                r#"{"fault":"query_lag","for_ms":1,"action":"AddFaceRecord"}"#,
                "rule 1: 'action' must be the action that this fault applies to",
            ),
        ];
        for (text, message) in table {
            assert_eq!(Script::parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn documented_example_parses() {
        let doc = include_str!("mod.rs");
        let example = doc.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_eq!(Script::parse(&example.replace("//!", "")).unwrap().0.len(), 6);
    }
}
