//! The answers to QueryFaceRecord, QueryFaceGroup and DeleteFaceRecord.
//!
//! A question changes nothing, so what can't be understood, or is not the service's (see [`classify`](super::classify)),
//! is simply no answer. A removal is never taken for done or for not done by anything else than the records that are
//! there. Of a record only its id and its time are read; the link to its photo never leaves the parser.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    NoAnswer, RawResponse,
    classify::{CodeKind, code_kind, fatal, is_from_service, is_success, shown},
};
use crate::domain::{CallFailure, ErrorCode, FailureKind, FatalError};

/// Records of one id asked for at once.
pub(super) const LOOKUP_PAGE_SIZE: u64 = 10;

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
    Unanswered(CallFailure),
    /// Nothing will go better until a person acts.
    Fatal(FatalError),
}

/// One page of the records of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupPage {
    /// What this page alone says.
    lookup: Lookup,
    /// Records of this id in all, if the service says so.
    total: Option<u64>,
    /// Is it as full as it may be, with records of this id alone?
    is_full: bool,
}

/// Puts the pages of a lookup together: a record of someone who has many may be on any of them.
#[derive(Debug, Default)]
pub struct LookupPages {
    records: Vec<FaceRecord>,
    pages: u64,
}

impl LookupPages {
    /// The page to ask for, the first being 1.
    pub fn next_page(&self) -> u64 {
        self.pages + 1
    }

    /// Takes in the answer to that. Some: there are no more pages, and this is what all of them say.
    pub fn add(&mut self, page: LookupPage) -> Option<Lookup> {
        let LookupPage { lookup, total, is_full } = page;
        let before = self.records.len();
        let is_last = match lookup {
            Lookup::Present { records } => {
                let is_new = |record: &FaceRecord| !self.records.iter().any(|known| known.id == record.id);
                let new: Vec<FaceRecord> = records.into_iter().filter(is_new).collect();
                self.records.extend(new);
                // A page without a new record is the last one, whatever the service says: otherwise this had no end.
                let has_more = total.map_or(is_full, |total| (self.records.len() as u64) < total);
                !has_more || self.records.len() == before
            }
            Lookup::Absent => true,
            other @ (Lookup::Throttled { .. } | Lookup::Unanswered(_) | Lookup::Fatal(_)) => return Some(other),
        };
        self.pages += 1;
        if !is_last {
            return None;
        }
        let records = std::mem::take(&mut self.records);
        Some(if records.is_empty() { Lookup::Absent } else { Lookup::Present { records } })
    }
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
    Unanswered(CallFailure),
    /// Nothing will go better until a person acts.
    Fatal(FatalError),
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
    Unanswered(CallFailure),
    /// Nothing will go better until a person acts.
    Fatal(FatalError),
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
    Unanswered(CallFailure),
    /// Nothing will go better until a person acts.
    Fatal(FatalError),
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(rename = "Code", alias = "code")]
    code: String,
    #[serde(rename = "Message", alias = "message", default)]
    message: Option<String>,
    #[serde(rename = "RequestId", alias = "requestId", alias = "requestid", default)]
    request_id: Option<String>,
    #[serde(rename = "Items", alias = "items", default)]
    items: Option<Vec<Entry>>,
    #[serde(rename = "TotalCount", alias = "totalCount", default)]
    total: Option<i64>,
}

impl Page {
    /// Does it say that there is nothing? An answer without `Items` and `TotalCount` says nothing at all.
    fn says_empty(&self) -> bool {
        let is_empty = self.items.as_ref().is_none_or(Vec::is_empty);
        is_empty && self.total.map_or(self.items.is_some(), |total| total == 0)
    }
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
    Unanswered(CallFailure),
    Fatal(FatalError),
}

/// What an answer to QueryFaceRecord, for this page, says about this id.
pub(super) fn lookup_page(answer: Result<RawResponse, NoAnswer>, user: &str, number: u64) -> LookupPage {
    let only = |lookup| LookupPage { lookup, total: None, is_full: false };
    let page = match page(answer) {
        Ok(page) => page,
        Err(NoPage::Throttled(retry_after)) => return only(Lookup::Throttled { retry_after }),
        Err(NoPage::Unanswered(fault)) => return only(Lookup::Unanswered(fault)),
        Err(NoPage::Fatal(fatal)) => return only(Lookup::Fatal(fatal)),
    };
    let says_empty = page.says_empty();
    let total = page.total.and_then(|total| u64::try_from(total).ok());
    let entries = page.items.unwrap_or_default();
    // The filter is the service's; whether it was applied is seen from the ids.
    let records: Vec<FaceRecord> =
        entries.iter().filter(|entry| entry.user.as_deref() == Some(user)).map(Entry::record).collect();
    let is_filtered = records.len() == entries.len();
    if !records.is_empty() {
        let is_full = is_filtered && records.len() as u64 >= LOOKUP_PAGE_SIZE;
        // Where the filter was not applied, the total is that of the whole group.
        LookupPage { lookup: Lookup::Present { records }, total: total.filter(|_| is_filtered), is_full }
    } else if says_empty || (number > 1 && is_filtered) {
        only(Lookup::Absent)
    } else if is_filtered {
        only(Lookup::Unanswered(unreadable(
            "the service answered without records, and does not say that there are none",
        )))
    } else {
        only(Lookup::Unanswered(unreadable(
            "the service answered with other people's records: its filter by id was not applied",
        )))
    }
}

/// What an answer to QueryFaceRecord without an id says.
pub(super) fn record_page(answer: Result<RawResponse, NoAnswer>) -> RecordPage {
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
pub(super) fn group_lookup(answer: Result<RawResponse, NoAnswer>, group: &str) -> GroupLookup {
    match page(answer) {
        Ok(page) => {
            let says_empty = page.says_empty();
            let entries = page.items.unwrap_or_default();
            if entries.iter().any(|entry| entry.code.as_deref() == Some(group)) {
                GroupLookup::Exists
            } else if says_empty {
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
pub(super) fn removed(answer: Result<RawResponse, NoAnswer>) -> Removed {
    match page(answer) {
        Ok(_) => Removed::Done,
        Err(NoPage::Throttled(retry_after)) => Removed::Throttled { retry_after },
        Err(NoPage::Unanswered(fault)) => Removed::Unanswered(fault),
        Err(NoPage::Fatal(fatal)) => Removed::Fatal(fatal),
    }
}

fn page(answer: Result<RawResponse, NoAnswer>) -> Result<Page, NoPage> {
    let answer = answer.map_err(|error| match error {
        NoAnswer::NotSent(fault) | NoAnswer::MaybeSent(fault) => NoPage::Unanswered(fault),
        NoAnswer::Fatal(fatal) => NoPage::Fatal(fatal),
    })?;
    let body = answer.body.as_deref().and_then(|body| serde_json::from_slice::<Page>(body).ok());
    let Some(page) = body.filter(|page| is_from_service(&page.code, page.request_id.as_deref())) else {
        return Err(match answer.status {
            429 | 302 => NoPage::Throttled(answer.retry_after),
            status => NoPage::Unanswered(unreadable(&format!("HTTP {status} that is not the service's"))),
        });
    };
    if is_success(&page.code) && (200..300).contains(&answer.status) {
        return Ok(page);
    }
    let (code, message) = (ErrorCode(shown(&page.code)), page.message.map(|text| shown(&text)).unwrap_or_default());
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

fn unreadable(message: &str) -> CallFailure {
    CallFailure { kind: FailureKind::UnreadableAnswer, message: message.to_owned(), request_id: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Result<RawResponse, NoAnswer> {
        Ok(RawResponse { status, body: Some(body.to_owned().into()), ..RawResponse::default() })
    }

    /// What a lookup of one page says.
    fn lookup(answer: Result<RawResponse, NoAnswer>, user: &str) -> Lookup {
        lookup_page(answer, user, 1).lookup
    }

    #[test]
    fn record_is_known_by_exactly_its_id() {
        let body = r#"{"RequestId":"R","Code":"200","TotalCount":1,"Items":[{"Id":7,"FaceId":"f","GmtCreate":"2025-01-15T02:20:28Z",
            "ImgOssUrl":"https://secret","MerchantUserId":"u1"}]}"#;
        let created = Some("2025-01-15T02:20:28Z".parse().unwrap());
        let records = vec![FaceRecord { id: 7, created }];
        assert_eq!(lookup(answer(200, body), "u1"), Lookup::Present { records });
        assert!(matches!(lookup(answer(200, body), "U1"), Lookup::Unanswered(_)), "the filter was not applied");
    }

    #[test]
    fn absent_is_said_by_an_empty_page_alone() {
        assert_eq!(
            lookup(answer(200, r#"{"RequestId":"R","Code":"Success","TotalCount":0,"Items":[]}"#), "u"),
            Lookup::Absent
        );
        assert_eq!(lookup(answer(200, r#"{"RequestId":"R","Code":"ok","Items":[]}"#), "u"), Lookup::Absent);
        assert_eq!(lookup(answer(200, r#"{"RequestId":"R","Code":"200","TotalCount":0}"#), "u"), Lookup::Absent);
        for no_answer in [
            (200, ""),
            (200, "{}"),
            // Says nothing of records.
            (200, r#"{"RequestId":"R","Code":"ok"}"#),
            // What a sign-in page for programs may say.
            (200, r#"{"code":"200","message":"sign in first","items":[]}"#),
            (200, r#"{"RequestId":"R","Code":"Success","TotalCount":3,"Items":[]}"#),
            (500, r#"{"RequestId":"R","Code":"Success","Items":[]}"#),
            (503, r#"{"RequestId":"R","Code":"ServiceUnavailable"}"#),
            (404, "<html>"),
            (400, r#"{"RequestId":"R","Code":"InvalidParameter"}"#),
        ] {
            assert!(matches!(lookup(answer(no_answer.0, no_answer.1), "u"), Lookup::Unanswered(_)), "{no_answer:?}");
        }
    }

    fn records_page(ids: std::ops::Range<i64>, total: Option<u64>, number: u64) -> LookupPage {
        let items = ids.map(|id| format!(r#"{{"Id":{id},"MerchantUserId":"u"}}"#)).collect::<Vec<_>>().join(",");
        let total = total.map(|total| format!(r#","TotalCount":{total}"#)).unwrap_or_default();
        lookup_page(
            answer(200, &format!(r#"{{"RequestId":"R","Code":"Success","Items":[{items}]{total}}}"#)),
            "u",
            number,
        )
    }

    fn ids(lookup: Option<Lookup>) -> Vec<i64> {
        let Some(Lookup::Present { records }) = lookup else { panic!("{lookup:?}") };
        records.iter().map(|record| record.id).collect()
    }

    #[test]
    fn pages_are_asked_for_until_all_records_are_seen() {
        for total in [Some(23), None] {
            let mut pages = LookupPages::default();
            assert_eq!(pages.add(records_page(0..10, total, 1)), None);
            assert_eq!((pages.next_page(), pages.add(records_page(10..20, total, 2))), (2, None));
            assert_eq!(ids(pages.add(records_page(20..23, total, 3))), (0..23).collect::<Vec<_>>());
        }
        // The service gives fewer than it was asked for.
        let mut pages = LookupPages::default();
        assert_eq!(pages.add(records_page(0..5, Some(8), 1)), None);
        assert_eq!(ids(pages.add(records_page(5..8, Some(8), 2))).len(), 8);
        // An exact number of pages, and no total.
        let mut pages = LookupPages::default();
        assert_eq!(pages.add(records_page(0..10, None, 1)), None);
        assert_eq!(ids(pages.add(records_page(0..0, None, 2))).len(), 10);
    }

    #[test]
    fn service_that_repeats_a_page_is_not_asked_for_ever() {
        let mut pages = LookupPages::default();
        assert_eq!(pages.add(records_page(0..10, Some(99), 1)), None);
        assert_eq!(ids(pages.add(records_page(0..10, Some(99), 2))).len(), 10);
    }

    #[test]
    fn page_that_is_not_answered_is_no_answer_to_the_whole() {
        let mut pages = LookupPages::default();
        assert_eq!(pages.add(records_page(0..10, Some(13), 1)), None);
        assert!(matches!(pages.add(lookup_page(answer(502, "<html>"), "u", 2)), Some(Lookup::Unanswered(_))));
    }

    #[test]
    fn removal_is_done_by_the_services_own_word_alone() {
        assert_eq!(removed(answer(200, r#"{"RequestId":"R","Code":"Success","Data":1}"#)), Removed::Done);
        for foreign in
            [(200, "<html>"), (200, r#"{"code":"ok"}"#), (403, "<html>"), (204, ""), (200, r#"{"Code":"Success"}"#)]
        {
            assert!(matches!(removed(answer(foreign.0, foreign.1)), Removed::Unanswered(_)), "{foreign:?}");
        }
    }

    #[test]
    fn time_that_can_t_be_read_is_unknown() {
        let body =
            r#"{"RequestId":"R","Code":"Success","Items":[{"Id":7,"GmtCreate":"yesterday","MerchantUserId":"u"}]}"#;
        let records = vec![FaceRecord { id: 7, created: None }];
        assert_eq!(lookup(answer(200, body), "u"), Lookup::Present { records });
    }

    #[test]
    fn throttles_and_missing_permissions_are_told_apart() {
        assert_eq!(
            lookup(answer(403, r#"{"RequestId":"R","Code":"Throttling.Api"}"#), "u"),
            Lookup::Throttled { retry_after: None }
        );
        assert!(matches!(
            lookup(answer(403, r#"{"RequestId":"R","Code":"Forbidden.RAMUserAccessDenied"}"#), "u"),
            Lookup::Fatal(_)
        ));
    }

    #[test]
    fn group_is_missing_only_when_service_says_so() {
        let found = r#"{"RequestId":"R","Code":"200","TotalCount":1,"Items":[{"Id":1,"Name":"n","Code":"sgl1"}]}"#;
        assert_eq!(group_lookup(answer(200, found), "sgl1"), GroupLookup::Exists);
        assert!(matches!(group_lookup(answer(200, found), "sgl2"), GroupLookup::Unanswered(_)));
        assert_eq!(
            group_lookup(answer(200, r#"{"RequestId":"R","Code":"200","TotalCount":0,"Items":[]}"#), "sgl1"),
            GroupLookup::Missing
        );
        assert!(matches!(group_lookup(answer(500, ""), "sgl1"), GroupLookup::Unanswered(_)));
    }
}
