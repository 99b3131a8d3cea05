//! Parses responses to QueryFaceRecord, QueryFaceGroup and DeleteFaceRecord.
//!
//! A query changes nothing, so a response that is unreadable or not from the service (see [`classify`](mod@super::classify))
//! counts as no response. A deletion without a clear response is decided only by querying the records. Only the id and
//! the creation time of a record are read; the link to its photo never leaves the parser.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    CallError, RawResponse,
    classify::{CodeClass, classify_code, fatal, is_from_service, is_success, sanitize},
};
use crate::domain::{CallFailure, ErrorCode, FailureKind, FatalError};

/// Page size for looking up one id.
pub(super) const LOOKUP_PAGE_SIZE: u64 = 10;

/// A record of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaceRecord {
    /// Record number assigned by the service.
    pub id: i64,
    /// Creation time; `None` if unreadable.
    pub created: Option<Timestamp>,
}

/// Result of looking up an id in a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Records exist.
    Present {
        /// Records, at least one.
        records: Vec<FaceRecord>,
    },
    /// No record exists.
    Absent,
    /// Too many calls.
    Throttled {
        /// Wait that the service asks for, if any.
        retry_after: Option<Duration>,
    },
    /// No response, or an unreadable one.
    Unanswered(CallFailure),
    /// No call will succeed until a person acts.
    Fatal(FatalError),
}

/// One page of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupPage {
    /// Result of this page alone.
    lookup: Lookup,
    /// Total number of records of this id, if the service gives it.
    total: Option<u64>,
    /// Whether the page is full and holds only records of this id.
    is_full: bool,
}

/// Combines the pages of a lookup; someone with many records has several pages.
#[derive(Debug, Default)]
pub struct LookupPages {
    records: Vec<FaceRecord>,
    pages: u64,
}

impl LookupPages {
    /// Number of the next page to query, starting at 1.
    pub fn next_page(&self) -> u64 {
        self.pages + 1
    }

    /// Adds that page. Returns the combined result after the last page.
    pub fn add(&mut self, page: LookupPage) -> Option<Lookup> {
        let LookupPage { lookup, total, is_full } = page;
        let before = self.records.len();
        let is_last = match lookup {
            Lookup::Present { records } => {
                let is_new = |record: &FaceRecord| !self.records.iter().any(|known| known.id == record.id);
                let new: Vec<FaceRecord> = records.into_iter().filter(is_new).collect();
                self.records.extend(new);
                // A page without new records is the last one, even if the service claims more; otherwise this might never end.
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

/// One page of a group's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordPage {
    /// Records; empty after the last page.
    Records {
        /// Ids and records, in the service's order.
        records: Vec<(String, FaceRecord)>,
        /// Total number of records of the group, if the service gives it.
        total: Option<u64>,
    },
    /// Too many calls.
    Throttled {
        /// Wait that the service asks for, if any.
        retry_after: Option<Duration>,
    },
    /// No response, or an unreadable one.
    Unanswered(CallFailure),
    /// No call will succeed until a person acts.
    Fatal(FatalError),
}

/// Result of looking up a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupLookup {
    /// The group exists.
    Exists,
    /// The group does not exist.
    Missing,
    /// Too many calls.
    Throttled {
        /// Wait that the service asks for, if any.
        retry_after: Option<Duration>,
    },
    /// No response, or an unreadable one.
    Unanswered(CallFailure),
    /// No call will succeed until a person acts.
    Fatal(FatalError),
}

/// Result of deleting a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// The service confirmed the deletion.
    Done,
    /// Too many calls.
    Throttled {
        /// Wait that the service asks for, if any.
        retry_after: Option<Duration>,
    },
    /// The record may be deleted; query it to find out.
    Unanswered(CallFailure),
    /// No call will succeed until a person acts.
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
    /// Whether the page states that there are no results. Without `Items` and `TotalCount` it states nothing.
    fn says_empty(&self) -> bool {
        let is_empty = self.items.as_ref().is_none_or(Vec::is_empty);
        is_empty && self.total.map_or(self.items.is_some(), |total| total == 0)
    }
}

/// A record or a group in a page.
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

/// Why there is no page.
enum PageError {
    Throttled(Option<Duration>),
    Unanswered(CallFailure),
    Fatal(FatalError),
}

impl From<CallError> for PageError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(failure) | CallError::MaybeSent(failure) => Self::Unanswered(failure),
            CallError::Fatal(fatal) => Self::Fatal(fatal),
        }
    }
}

macro_rules! from_page_error {
    ($($result:ident),+) => {
        $(impl From<PageError> for $result {
            fn from(error: PageError) -> Self {
                match error {
                    PageError::Throttled(retry_after) => Self::Throttled { retry_after },
                    PageError::Unanswered(failure) => Self::Unanswered(failure),
                    PageError::Fatal(fatal) => Self::Fatal(fatal),
                }
            }
        })+
    };
}
from_page_error!(Lookup, RecordPage, GroupLookup, Removed);

/// Parses page `number` of a lookup of this id.
pub(super) fn lookup_page(response: Result<RawResponse, CallError>, user: &str, number: u64) -> LookupPage {
    let only = |lookup| LookupPage { lookup, total: None, is_full: false };
    let page = match parse_page(response) {
        Ok(page) => page,
        Err(error) => return only(error.into()),
    };
    let says_empty = page.says_empty();
    let total = page.total.and_then(|total| u64::try_from(total).ok());
    let entries = page.items.unwrap_or_default();
    // The service filters by id; check that it did.
    let records: Vec<FaceRecord> =
        entries.iter().filter(|entry| entry.user.as_deref() == Some(user)).map(Entry::record).collect();
    let is_filtered = records.len() == entries.len();
    if !records.is_empty() {
        let is_full = is_filtered && records.len() as u64 >= LOOKUP_PAGE_SIZE;
        // Without the filter, the total is that of the whole group.
        LookupPage { lookup: Lookup::Present { records }, total: total.filter(|_| is_filtered), is_full }
    } else if says_empty || (number > 1 && is_filtered) {
        only(Lookup::Absent)
    } else if is_filtered {
        only(Lookup::Unanswered(unreadable("response has no records, but does not say that there are none")))
    } else {
        only(Lookup::Unanswered(unreadable("response has records of other ids: the service ignored the filter")))
    }
}

/// Parses a page of a group's records.
pub(super) fn record_page(response: Result<RawResponse, CallError>) -> RecordPage {
    match parse_page(response) {
        Ok(page) => {
            let entries = page.items.unwrap_or_default();
            let records =
                entries.iter().map(|entry| (entry.user.clone().unwrap_or_default(), entry.record())).collect();
            RecordPage::Records { records, total: page.total.and_then(|total| u64::try_from(total).ok()) }
        }
        Err(error) => error.into(),
    }
}

/// Parses a response to QueryFaceGroup for this group.
pub(super) fn group_lookup(response: Result<RawResponse, CallError>, group: &str) -> GroupLookup {
    match parse_page(response) {
        Ok(page) => {
            let says_empty = page.says_empty();
            let entries = page.items.unwrap_or_default();
            if entries.iter().any(|entry| entry.code.as_deref() == Some(group)) {
                GroupLookup::Exists
            } else if says_empty {
                GroupLookup::Missing
            } else {
                GroupLookup::Unanswered(unreadable("response has only other groups"))
            }
        }
        Err(error) => error.into(),
    }
}

/// Parses a response to DeleteFaceRecord.
pub(super) fn parse_deletion(response: Result<RawResponse, CallError>) -> Removed {
    match parse_page(response) {
        Ok(_) => Removed::Done,
        Err(error) => error.into(),
    }
}

fn parse_page(response: Result<RawResponse, CallError>) -> Result<Page, PageError> {
    let response = response?;
    let body = response.body.as_deref().and_then(|body| serde_json::from_slice::<Page>(body).ok());
    let Some(page) = body.filter(|page| is_from_service(&page.code, page.request_id.as_deref())) else {
        return Err(match response.status {
            429 | 302 => PageError::Throttled(response.retry_after),
            status => PageError::Unanswered(unreadable(&format!("response (HTTP {status}) is not from the service"))),
        });
    };
    if is_success(&page.code) && (200..300).contains(&response.status) {
        return Ok(page);
    }
    let (code, message) =
        (ErrorCode(sanitize(&page.code)), page.message.map(|text| sanitize(&text)).unwrap_or_default());
    Err(match classify_code(&code.0, response.status) {
        CodeClass::Throttled => PageError::Throttled(response.retry_after),
        CodeClass::Fatal(class) => PageError::Fatal(fatal(class, code, message)),
        CodeClass::Success
        | CodeClass::ServiceFault
        | CodeClass::DownloadTimeout
        | CodeClass::NonceUsed
        | CodeClass::WrongClock
        | CodeClass::Refused => PageError::Unanswered(unreadable(&format!("{code}: {message}"))),
    })
}

fn unreadable(message: &str) -> CallFailure {
    CallFailure { kind: FailureKind::UnreadableAnswer, message: message.to_owned(), request_id: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Result<RawResponse, CallError> {
        Ok(RawResponse { status, body: Some(body.to_owned().into()), ..RawResponse::default() })
    }

    /// Result of a lookup with one page.
    fn lookup(response: Result<RawResponse, CallError>, user: &str) -> Lookup {
        lookup_page(response, user, 1).lookup
    }

    #[test]
    fn record_is_known_by_exactly_its_id() {
        let body = r#"{"RequestId":"R","Code":"200","TotalCount":1,"Items":[{"Id":7,"FaceId":"f","GmtCreate":"2025-01-15T02:20:28Z",
            "ImgOssUrl":"https://secret","MerchantUserId":"u1"}]}"#;
        let created = Some("2025-01-15T02:20:28Z".parse().unwrap());
        let records = vec![FaceRecord { id: 7, created }];
        assert_eq!(lookup(response(200, body), "u1"), Lookup::Present { records });
        assert!(matches!(lookup(response(200, body), "U1"), Lookup::Unanswered(_)), "the filter was not applied");
    }

    #[test]
    fn only_an_empty_page_means_absent() {
        assert_eq!(
            lookup(response(200, r#"{"RequestId":"R","Code":"Success","TotalCount":0,"Items":[]}"#), "u"),
            Lookup::Absent
        );
        assert_eq!(lookup(response(200, r#"{"RequestId":"R","Code":"ok","Items":[]}"#), "u"), Lookup::Absent);
        assert_eq!(lookup(response(200, r#"{"RequestId":"R","Code":"200","TotalCount":0}"#), "u"), Lookup::Absent);
        for no_answer in [
            (200, ""),
            (200, "{}"),
            // Has neither records nor a count.
            (200, r#"{"RequestId":"R","Code":"ok"}"#),
            // A sign-in page may send this.
            (200, r#"{"code":"200","message":"sign in first","items":[]}"#),
            (200, r#"{"RequestId":"R","Code":"Success","TotalCount":3,"Items":[]}"#),
            (500, r#"{"RequestId":"R","Code":"Success","Items":[]}"#),
            (503, r#"{"RequestId":"R","Code":"ServiceUnavailable"}"#),
            (404, "<html>"),
            (400, r#"{"RequestId":"R","Code":"InvalidParameter"}"#),
        ] {
            assert!(matches!(lookup(response(no_answer.0, no_answer.1), "u"), Lookup::Unanswered(_)), "{no_answer:?}");
        }
    }

    fn records_page(ids: std::ops::Range<i64>, total: Option<u64>, number: u64) -> LookupPage {
        let items = ids.map(|id| format!(r#"{{"Id":{id},"MerchantUserId":"u"}}"#)).collect::<Vec<_>>().join(",");
        let total = total.map(|total| format!(r#","TotalCount":{total}"#)).unwrap_or_default();
        lookup_page(
            response(200, &format!(r#"{{"RequestId":"R","Code":"Success","Items":[{items}]{total}}}"#)),
            "u",
            number,
        )
    }

    fn ids(lookup: Option<Lookup>) -> Vec<i64> {
        let Some(Lookup::Present { records }) = lookup else { panic!("{lookup:?}") };
        records.iter().map(|record| record.id).collect()
    }

    #[test]
    fn lookup_pages_until_all_records_are_seen() {
        for total in [Some(23), None] {
            let mut pages = LookupPages::default();
            assert_eq!(pages.add(records_page(0..10, total, 1)), None);
            assert_eq!((pages.next_page(), pages.add(records_page(10..20, total, 2))), (2, None));
            assert_eq!(ids(pages.add(records_page(20..23, total, 3))), (0..23).collect::<Vec<_>>());
        }
        // The service returns fewer than requested.
        let mut pages = LookupPages::default();
        assert_eq!(pages.add(records_page(0..5, Some(8), 1)), None);
        assert_eq!(ids(pages.add(records_page(5..8, Some(8), 2))).len(), 8);
        // The last page is full, and there is no total.
        let mut pages = LookupPages::default();
        assert_eq!(pages.add(records_page(0..10, None, 1)), None);
        assert_eq!(ids(pages.add(records_page(0..0, None, 2))).len(), 10);
    }

    #[test]
    fn repeated_page_ends_the_lookup() {
        let mut pages = LookupPages::default();
        assert_eq!(pages.add(records_page(0..10, Some(99), 1)), None);
        assert_eq!(ids(pages.add(records_page(0..10, Some(99), 2))).len(), 10);
    }

    #[test]
    fn unanswered_page_fails_the_lookup() {
        let mut pages = LookupPages::default();
        assert_eq!(pages.add(records_page(0..10, Some(13), 1)), None);
        assert!(matches!(pages.add(lookup_page(response(502, "<html>"), "u", 2)), Some(Lookup::Unanswered(_))));
    }

    #[test]
    fn only_the_service_confirms_a_deletion() {
        assert_eq!(parse_deletion(response(200, r#"{"RequestId":"R","Code":"Success","Data":1}"#)), Removed::Done);
        for foreign in
            [(200, "<html>"), (200, r#"{"code":"ok"}"#), (403, "<html>"), (204, ""), (200, r#"{"Code":"Success"}"#)]
        {
            assert!(matches!(parse_deletion(response(foreign.0, foreign.1)), Removed::Unanswered(_)), "{foreign:?}");
        }
    }

    #[test]
    fn unreadable_creation_time_is_unknown() {
        let body =
            r#"{"RequestId":"R","Code":"Success","Items":[{"Id":7,"GmtCreate":"yesterday","MerchantUserId":"u"}]}"#;
        let records = vec![FaceRecord { id: 7, created: None }];
        assert_eq!(lookup(response(200, body), "u"), Lookup::Present { records });
    }

    #[test]
    fn throttling_differs_from_missing_permission() {
        assert_eq!(
            lookup(response(403, r#"{"RequestId":"R","Code":"Throttling.Api"}"#), "u"),
            Lookup::Throttled { retry_after: None }
        );
        assert!(matches!(
            lookup(response(403, r#"{"RequestId":"R","Code":"Forbidden.RAMUserAccessDenied"}"#), "u"),
            Lookup::Fatal(_)
        ));
    }

    #[test]
    fn only_an_explicit_answer_makes_a_group_missing() {
        let found = r#"{"RequestId":"R","Code":"200","TotalCount":1,"Items":[{"Id":1,"Name":"n","Code":"sgl1"}]}"#;
        assert_eq!(group_lookup(response(200, found), "sgl1"), GroupLookup::Exists);
        assert!(matches!(group_lookup(response(200, found), "sgl2"), GroupLookup::Unanswered(_)));
        assert_eq!(
            group_lookup(response(200, r#"{"RequestId":"R","Code":"200","TotalCount":0,"Items":[]}"#), "sgl1"),
            GroupLookup::Missing
        );
        assert!(matches!(group_lookup(response(500, ""), "sgl1"), GroupLookup::Unanswered(_)));
    }
}
