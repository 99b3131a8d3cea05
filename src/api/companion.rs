//! The answers to QueryFaceRecord, QueryFaceGroup and DeleteFaceRecord.
//!
//! A question changes nothing, so what can't be understood is simply no answer. Of a record only its id and its time are
//! read; the link to its photo never leaves the parser.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    NoAnswer, RawAnswer,
    classify::{CodeKind, code_kind, fatal, shown},
};
use crate::domain::{ApiCode, Fatal, Fault, FaultKind};

/// A record that the service has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaceRecord {
    /// The service's number of it.
    pub id: i64,
    /// When it was made, if that can be read.
    pub created: Option<Timestamp>,
}

/// Is there a record of this id in this group?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Yes.
    Present {
        /// At least one.
        records: Vec<FaceRecord>,
    },
    /// No.
    Absent,
    /// Asked too often.
    Throttled {
        /// How long to wait, if the service says so.
        retry_after: Option<Duration>,
    },
    /// No answer, or none that can be understood.
    Unanswered(Fault),
    /// Nothing will go better until a person acts.
    Fatal(Fatal),
}

/// A page of a group's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordPage {
    /// These, each with its id; none: there are no more.
    Records {
        /// In the service's order.
        records: Vec<(String, FaceRecord)>,
        /// Of the whole group, if the service says so.
        total: Option<u64>,
    },
    /// Asked too often.
    Throttled {
        /// How long to wait, if the service says so.
        retry_after: Option<Duration>,
    },
    /// No answer, or none that can be understood.
    Unanswered(Fault),
    /// Nothing will go better until a person acts.
    Fatal(Fatal),
}

/// Is there a group of this code?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupLookup {
    /// Yes.
    Exists,
    /// No.
    Missing,
    /// Asked too often.
    Throttled {
        /// How long to wait, if the service says so.
        retry_after: Option<Duration>,
    },
    /// No answer, or none that can be understood.
    Unanswered(Fault),
    /// Nothing will go better until a person acts.
    Fatal(Fatal),
}

/// Is a record removed?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// The service says so.
    Done,
    /// Asked too often.
    Throttled {
        /// How long to wait, if the service says so.
        retry_after: Option<Duration>,
    },
    /// It may be: what is there tells.
    Unanswered(Fault),
    /// Nothing will go better until a person acts.
    Fatal(Fatal),
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(rename = "Code", alias = "code")]
    code: String,
    #[serde(rename = "Message", alias = "message", default)]
    message: Option<String>,
    #[serde(rename = "Items", alias = "items", default)]
    items: Option<Vec<Entry>>,
    #[serde(rename = "TotalCount", alias = "totalCount", default)]
    total: Option<i64>,
}

/// A record or a group.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "Id", default)]
    id: i64,
    #[serde(rename = "GmtCreate", default)]
    created: Option<String>,
    #[serde(rename = "MerchantUserId", default)]
    user: Option<String>,
    #[serde(rename = "Code", default)]
    code: Option<String>,
}

impl Entry {
    fn record(&self) -> FaceRecord {
        FaceRecord { id: self.id, created: self.created.as_deref().and_then(|text| text.parse().ok()) }
    }
}

/// Why there is no page to read.
enum NoPage {
    Throttled(Option<Duration>),
    Unanswered(Fault),
    Fatal(Fatal),
}

/// What an answer to QueryFaceRecord says about this id.
pub(super) fn lookup(answer: Result<RawAnswer, NoAnswer>, user: &str) -> Lookup {
    let page = match page(answer) {
        Ok(page) => page,
        Err(NoPage::Throttled(retry_after)) => return Lookup::Throttled { retry_after },
        Err(NoPage::Unanswered(fault)) => return Lookup::Unanswered(fault),
        Err(NoPage::Fatal(fatal)) => return Lookup::Fatal(fatal),
    };
    let entries = page.items.unwrap_or_default();
    // The filter is the service's; whether it was applied is seen from the ids.
    let records: Vec<FaceRecord> =
        entries.iter().filter(|entry| entry.user.as_deref() == Some(user)).map(Entry::record).collect();
    if !records.is_empty() {
        Lookup::Present { records }
    } else if entries.is_empty() && page.total.unwrap_or(0) == 0 {
        Lookup::Absent
    } else {
        Lookup::Unanswered(unreadable(
            "the service answered with other people's records: its filter by id was not applied",
        ))
    }
}

/// What an answer to QueryFaceRecord without an id says.
pub(super) fn record_page(answer: Result<RawAnswer, NoAnswer>) -> RecordPage {
    match page(answer) {
        Ok(page) => {
            let entries = page.items.unwrap_or_default();
            let records =
                entries.iter().map(|entry| (entry.user.clone().unwrap_or_default(), entry.record())).collect();
            RecordPage::Records { records, total: page.total.and_then(|total| u64::try_from(total).ok()) }
        }
        Err(NoPage::Throttled(retry_after)) => RecordPage::Throttled { retry_after },
        Err(NoPage::Unanswered(fault)) => RecordPage::Unanswered(fault),
        Err(NoPage::Fatal(fatal)) => RecordPage::Fatal(fatal),
    }
}

/// What an answer to QueryFaceGroup says about this group.
pub(super) fn group_lookup(answer: Result<RawAnswer, NoAnswer>, group: &str) -> GroupLookup {
    match page(answer) {
        Ok(page) => {
            let entries = page.items.unwrap_or_default();
            if entries.iter().any(|entry| entry.code.as_deref() == Some(group)) {
                GroupLookup::Exists
            } else if entries.is_empty() && page.total.unwrap_or(0) == 0 {
                GroupLookup::Missing
            } else {
                GroupLookup::Unanswered(unreadable("the service answered with other groups"))
            }
        }
        Err(NoPage::Throttled(retry_after)) => GroupLookup::Throttled { retry_after },
        Err(NoPage::Unanswered(fault)) => GroupLookup::Unanswered(fault),
        Err(NoPage::Fatal(fatal)) => GroupLookup::Fatal(fatal),
    }
}

/// What an answer to DeleteFaceRecord says.
pub(super) fn removed(answer: Result<RawAnswer, NoAnswer>) -> Removed {
    match page(answer) {
        Ok(_) => Removed::Done,
        Err(NoPage::Throttled(retry_after)) => Removed::Throttled { retry_after },
        Err(NoPage::Unanswered(fault)) => Removed::Unanswered(fault),
        Err(NoPage::Fatal(fatal)) => Removed::Fatal(fatal),
    }
}

fn page(answer: Result<RawAnswer, NoAnswer>) -> Result<Page, NoPage> {
    let answer = answer.map_err(|error| match error {
        NoAnswer::NotSent(fault) | NoAnswer::MaybeSent(fault) => NoPage::Unanswered(fault),
        NoAnswer::Fatal(fatal) => NoPage::Fatal(fatal),
    })?;
    let body = answer.body.as_deref().and_then(|body| serde_json::from_slice::<Page>(body).ok());
    let Some(page) = body else {
        return Err(match answer.status {
            429 | 302 => NoPage::Throttled(answer.retry_after),
            status => NoPage::Unanswered(unreadable(&format!("HTTP {status} that can't be understood"))),
        });
    };
    // The documents have both (reference, protocol.md section 3).
    let is_success = ["success", "200", "ok"].contains(&page.code.to_ascii_lowercase().as_str());
    if is_success && (200..300).contains(&answer.status) {
        return Ok(page);
    }
    let (code, message) = (ApiCode(shown(&page.code)), page.message.map(|text| shown(&text)).unwrap_or_default());
    Err(match code_kind(&code.0, answer.status) {
        CodeKind::Throttled => NoPage::Throttled(answer.retry_after),
        kind @ (CodeKind::Credentials
        | CodeKind::Signature
        | CodeKind::Permission
        | CodeKind::Account
        | CodeKind::Endpoint) => NoPage::Fatal(fatal(kind, code, message)),
        CodeKind::Success
        | CodeKind::ServiceFault
        | CodeKind::DownloadTimeout
        | CodeKind::NonceUsed
        | CodeKind::WrongClock
        | CodeKind::Refused => NoPage::Unanswered(unreadable(&format!("{code}: {message}"))),
    })
}

fn unreadable(message: &str) -> Fault {
    Fault { kind: FaultKind::UnreadableAnswer, message: message.to_owned(), request_id: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<RawAnswer, NoAnswer> {
        Ok(RawAnswer { status, body: Some(body.to_owned().into()), ..RawAnswer::default() })
    }

    #[test]
    fn record_is_known_by_exactly_its_id() {
        let body = r#"{"Code":"200","TotalCount":1,"Items":[{"Id":7,"FaceId":"f","GmtCreate":"2025-01-15T02:20:28Z",
            "ImgOssUrl":"https://secret","MerchantUserId":"u1"}]}"#;
        let created = Some("2025-01-15T02:20:28Z".parse().unwrap());
        let records = vec![FaceRecord { id: 7, created }];
        assert_eq!(lookup(answer(200, body), "u1"), Lookup::Present { records });
        assert!(matches!(lookup(answer(200, body), "U1"), Lookup::Unanswered(_)), "the filter was not applied");
    }

    #[test]
    fn absent_is_said_by_an_empty_page_alone() {
        assert_eq!(lookup(answer(200, r#"{"Code":"Success","TotalCount":0,"Items":[]}"#), "u"), Lookup::Absent);
        assert_eq!(lookup(answer(200, r#"{"Code":"ok"}"#), "u"), Lookup::Absent);
        for no_answer in [
            (200, ""),
            (200, "{}"),
            (200, r#"{"Code":"Success","TotalCount":3,"Items":[]}"#),
            (500, r#"{"Code":"Success","Items":[]}"#),
            (503, r#"{"Code":"ServiceUnavailable"}"#),
            (404, "<html>"),
            (400, r#"{"Code":"InvalidParameter"}"#),
        ] {
            assert!(matches!(lookup(answer(no_answer.0, no_answer.1), "u"), Lookup::Unanswered(_)), "{no_answer:?}");
        }
    }

    #[test]
    fn time_that_can_t_be_read_is_unknown() {
        let body = r#"{"Code":"Success","Items":[{"Id":7,"GmtCreate":"yesterday","MerchantUserId":"u"}]}"#;
        let records = vec![FaceRecord { id: 7, created: None }];
        assert_eq!(lookup(answer(200, body), "u"), Lookup::Present { records });
    }

    #[test]
    fn throttles_and_missing_permissions_are_told_apart() {
        assert_eq!(lookup(answer(403, r#"{"Code":"Throttling.Api"}"#), "u"), Lookup::Throttled { retry_after: None });
        assert!(matches!(lookup(answer(403, r#"{"Code":"Forbidden.RAMUserAccessDenied"}"#), "u"), Lookup::Fatal(_)));
    }

    #[test]
    fn group_is_missing_when_the_service_says_so_and_not_otherwise() {
        let found = r#"{"Code":"200","TotalCount":1,"Items":[{"Id":1,"Name":"n","Code":"sgl1"}]}"#;
        assert_eq!(group_lookup(answer(200, found), "sgl1"), GroupLookup::Exists);
        assert!(matches!(group_lookup(answer(200, found), "sgl2"), GroupLookup::Unanswered(_)));
        assert_eq!(
            group_lookup(answer(200, r#"{"Code":"200","TotalCount":0,"Items":[]}"#), "sgl1"),
            GroupLookup::Missing
        );
        assert!(matches!(group_lookup(answer(500, ""), "sgl1"), GroupLookup::Unanswered(_)));
    }
}
