//! A script of faults as it is written, read into rules.

use std::{fs, io, path::Path, time::Duration};

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{Action, Fault, Rule, When};
use crate::domain::decode_text;

/// The rules, in the order in which they are tried. How they are written: [the module](super).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Script(pub Vec<Rule>);

/// Why a script is not one. Rules are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file can't be read.
    #[error("can't read the script")]
    Read(#[source] io::Error),
    /// Not JSON, or a key that no rule has.
    #[error("rule {rule} can't be read")]
    Syntax {
        /// Which.
        rule: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A key that its fault does not take.
    #[error("rule {rule}: '{key}' means nothing for this fault")]
    ForeignKey {
        /// Which.
        rule: usize,
        /// The key.
        key: &'static str,
    },
    /// A key that its fault can't do without.
    #[error("rule {rule}: this fault needs '{key}'")]
    MissingKey {
        /// Which.
        rule: usize,
        /// The key.
        key: &'static str,
    },
    /// A value out of its bounds.
    #[error("rule {rule}: '{key}' must be {wanted}")]
    OutOfBounds {
        /// Which.
        rule: usize,
        /// The key.
        key: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
}

impl Script {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, ScriptError> {
        Self::parse(&fs::read(path).and_then(|bytes| Ok(decode_text(bytes)?)).map_err(ScriptError::Read)?)
    }

    /// Reads an array of rules, or rules one after the other.
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
                rules.push(raw.check(rule)?);
            }
        }
        Ok(Self(rules))
    }
}

/// A rule as written.
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
    fault: Kind,
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
enum Kind {
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

impl Kind {
    /// The keys that belong to this fault.
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

    /// The one action that can fail so, where there is only one.
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
    fn check(self, rule: usize) -> Result<Rule, ScriptError> {
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
        let belongs = self.fault.keys();
        if let Some((key, _)) = given.into_iter().find(|(key, is_given)| *is_given && !belongs.contains(key)) {
            return Err(ScriptError::ForeignKey { rule, key });
        }
        let out_of_bounds = |key, wanted| Err(ScriptError::OutOfBounds { rule, key, wanted });
        let only = self.fault.only_action();
        if only.is_some() && self.action.is_some() && self.action != only {
            return out_of_bounds("action", "the one that can fail so");
        }
        if self.chance.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
            return out_of_bounds("chance", "0 to 1");
        }
        if self.from == Some(0) || self.to == Some(0) || self.calls.iter().flatten().any(|&call| call == 0) {
            return out_of_bounds("calls, from, to", "1 or more: the first call is 1");
        }
        let action = self.action.or(only).unwrap_or(Action::AddFaceRecord);
        let times = self.times;
        let fault = self.fault(rule)?;
        let when = When { calls: self.calls, from: self.from, to: self.to, chance: self.chance, user: self.user };
        Ok(Rule { action, when, times, fault })
    }

    fn fault(&self, rule: usize) -> Result<Fault, ScriptError> {
        let executed = self.executed.unwrap_or(false);
        let retry_after = self.retry_after_ms.map(Duration::from_millis);
        let needed =
            |key, millis: Option<u64>| millis.map(Duration::from_millis).ok_or(ScriptError::MissingKey { rule, key });
        let text = |key, text: &Option<String>| text.clone().ok_or(ScriptError::MissingKey { rule, key });
        Ok(match self.fault {
            Kind::Throttle => Fault::Throttle { retry_after },
            Kind::InternalError => Fault::InternalError { executed },
            Kind::Unavailable => Fault::Unavailable { executed },
            Kind::Html => {
                let retry_after = self.retry_after_s.map(Duration::from_secs);
                Fault::Html { executed, status: final_status(self.status.unwrap_or(502), rule)?, retry_after }
            }
            Kind::ResetBefore => Fault::ResetBefore,
            Kind::ResetAfter => Fault::ResetAfter,
            Kind::Stall => Fault::Stall { executed },
            Kind::Truncated => Fault::Truncated,
            Kind::Unreadable => Fault::Unreadable,
            Kind::NotPassed => Fault::NotPassed,
            Kind::Permission => Fault::Permission,
            Kind::Code => {
                let status = final_status(self.status.ok_or(ScriptError::MissingKey { rule, key: "status" })?, rule)?;
                let (code, message) = (text("code", &self.code)?, text("message", &self.message)?);
                Fault::Code { status, code, message, retry_after }
            }
            Kind::Slow => Fault::Slow { delay: needed("delay_ms", self.delay_ms)? },
            Kind::Late => Fault::Late { delay: needed("delay_ms", self.delay_ms)? },
            Kind::QueryLag => Fault::QueryLag { age: needed("for_ms", self.for_ms)? },
        })
    }
}

/// An interim answer (1xx) is none: the caller would go on waiting.
fn final_status(status: u16, rule: usize) -> Result<u16, ScriptError> {
    let is_final = status >= 200 && StatusCode::from_u16(status).is_ok();
    is_final.then_some(status).ok_or(ScriptError::OutOfBounds { rule, key: "status", wanted: "200 to 999" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_and_lines_are_the_same_script() {
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
    fn contradictory_fault_rule_is_an_error() {
        let table = [
            (r#"{"fault":"stall","chanse":1}"#, "rule 1 can't be read"),
            (r#"{"fault":"explode"}"#, "rule 1 can't be read"),
            (r#"{"calls":[1]}"#, "rule 1 can't be read"),
            (r#"{"fault":"stall"} {"fault":"#, "rule 2 can't be read"),
            (r#"{"fault":"reset_before","executed":true}"#, "rule 1: 'executed' means nothing for this fault"),
            (r#"{"fault":"slow"}"#, "rule 1: this fault needs 'delay_ms'"),
            (r#"{"fault":"code","status":400,"code":"X"}"#, "rule 1: this fault needs 'message'"),
            (r#"{"fault":"code","status":99,"code":"X","message":"m"}"#, "rule 1: 'status' must be 200 to 999"),
            (r#"{"fault":"html","status":100}"#, "rule 1: 'status' must be 200 to 999"),
            (r#"{"fault":"stall","chance":1.5}"#, "rule 1: 'chance' must be 0 to 1"),
            (r#"{"fault":"stall","calls":[0]}"#, "rule 1: 'calls, from, to' must be 1 or more: the first call is 1"),
            (
                r#"{"fault":"query_lag","for_ms":1,"action":"AddFaceRecord"}"#,
                "rule 1: 'action' must be the one that can fail so",
            ),
        ];
        for (text, message) in table {
            assert_eq!(Script::parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn every_rule_in_the_documentation_is_one() {
        let doc = include_str!("mod.rs");
        let example = doc.split("```json").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        assert_eq!(Script::parse(&example.replace("//!", "")).unwrap().0.len(), 6);
    }
}
