//! Parses responses to QueryFaceRecord, QueryFaceGroup and DeleteFaceRecord.
//!
//! A query changes nothing, so a response that is unreadable or not from the service (see [`classify`](mod@super::classify))
//! counts as no response; with the status 429 or 302 it also slows the queries down. A deletion without a clear response is
//! decided only by querying the records. Only the id and the creation time of a record are read; the link to its photo never
//! leaves the parser.

use jiff::Timestamp;
use serde::Deserialize;

use super::{
    RawResponse,
    classify::{CodeClass, classify_code, fatal, is_from_service, is_success, sanitize},
};
use crate::domain::{ApiRejection, CallError, CallFailure, ErrorCode, FailureKind, RequestId};

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

/// One page of the records of an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupPage {
    records: Vec<FaceRecord>,
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

    /// Adds that page. Returns all records after the last page; none if the service has no record of the id.
    pub fn add(&mut self, page: LookupPage) -> Option<Vec<FaceRecord>> {
        let LookupPage { records, total, is_full } = page;
        let before = self.records.len();
        let is_new = |record: &FaceRecord| !self.records.iter().any(|known| known.id == record.id);
        let new: Vec<FaceRecord> = records.into_iter().filter(is_new).collect();
        self.records.extend(new);
        self.pages += 1;
        // A page without new records is the last one, even if the service claims more; otherwise this might never end.
        let has_more = total.map_or(is_full, |total| (self.records.len() as u64) < total);
        let is_last = !has_more || self.records.len() == before;
        is_last.then(|| std::mem::take(&mut self.records))
    }
}

/// One page of a group's records; empty after the last page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPage {
    /// Ids and records, in the service's order.
    pub records: Vec<(String, FaceRecord)>,
    /// Total number of records of the group, if the service gives it.
    pub total: Option<u64>,
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

/// Parses page `number` of a lookup of this id.
pub(super) fn lookup_page(response: &RawResponse, user: &str, number: u64) -> Result<LookupPage, CallError> {
    let page = parse_page(response)?;
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
        Ok(LookupPage { records, total: total.filter(|_| is_filtered), is_full })
    } else if says_empty || (number > 1 && is_filtered) {
        Ok(LookupPage { records, total: None, is_full: false })
    } else if is_filtered {
        Err(unreadable("response has no records, but does not say that there are none"))
    } else {
        Err(unreadable("response has records of other ids: the service ignored the filter"))
    }
}

/// Parses a page of a group's records.
pub(super) fn record_page(response: &RawResponse) -> Result<RecordPage, CallError> {
    let page = parse_page(response)?;
    let entries = page.items.unwrap_or_default();
    let records = entries.iter().map(|entry| (entry.user.clone().unwrap_or_default(), entry.record())).collect();
    Ok(RecordPage { records, total: page.total.and_then(|total| u64::try_from(total).ok()) })
}

/// Parses a response to QueryFaceGroup: whether the group exists.
pub(super) fn has_group(response: &RawResponse, group: &str) -> Result<bool, CallError> {
    let page = parse_page(response)?;
    let says_empty = page.says_empty();
    if page.items.unwrap_or_default().iter().any(|entry| entry.code.as_deref() == Some(group)) {
        Ok(true)
    } else if says_empty {
        Ok(false)
    } else {
        Err(unreadable("response has only other groups"))
    }
}

/// Parses a response to DeleteFaceRecord. Only the service can say that it was not executed, whatever the status is.
pub(super) fn parse_deletion(response: &RawResponse) -> Result<(), CallError> {
    let page = page_of_service(response).ok_or_else(|| foreign(response.status))?;
    successful_page(response, page).map(drop)
}

fn parse_page(response: &RawResponse) -> Result<Page, CallError> {
    match (page_of_service(response), response.status) {
        (Some(page), _) => successful_page(response, page),
        // Asking again is safe.
        (None, 429 | 302) => Err(CallError::Throttled { retry_after: response.retry_after }),
        (None, status) => Err(foreign(status)),
    }
}

fn page_of_service(response: &RawResponse) -> Option<Page> {
    let page = response.body.as_deref().and_then(|body| serde_json::from_slice::<Page>(body).ok());
    page.filter(|page| is_from_service(&page.code, page.request_id.as_deref()))
}

fn successful_page(response: &RawResponse, page: Page) -> Result<Page, CallError> {
    let (status, retry_after) = (response.status, response.retry_after);
    if is_success(&page.code) && (200..300).contains(&status) {
        return Ok(page);
    }
    let (code, message) =
        (ErrorCode(sanitize(&page.code)), page.message.map(|text| sanitize(&text)).unwrap_or_default());
    Err(match classify_code(&code.0, status) {
        CodeClass::Throttled => CallError::Throttled { retry_after },
        CodeClass::Fatal(class) => CallError::Fatal(fatal(class, code, message)),
        CodeClass::Success
        | CodeClass::ServiceFault
        | CodeClass::DownloadTimeout
        | CodeClass::NonceUsed
        | CodeClass::WrongClock => unreadable(&format!("{code}: {message}")),
        CodeClass::Refused => CallError::Rejected(ApiRejection {
            code,
            message,
            request_id: page.request_id.map(|id| RequestId(sanitize(&id))),
        }),
    })
}

fn foreign(status: u16) -> CallError {
    unreadable(&format!("response (HTTP {status}) is not from the service"))
}

fn unreadable(message: &str) -> CallError {
    CallError::MaybeExecuted(CallFailure {
        kind: FailureKind::UnreadableAnswer,
        message: message.to_owned(),
        request_id: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> RawResponse {
        RawResponse { status, body: Some(body.to_owned().into()), ..RawResponse::default() }
    }

    /// Result of a lookup with one page.
    fn lookup(response: RawResponse, user: &str) -> Result<Vec<FaceRecord>, CallError> {
        lookup_page(&response, user, 1).map(|page| page.records)
    }

    #[test]
    fn record_is_known_by_exactly_its_id() {
        let body = r#"{"RequestId":"R","Code":"200","TotalCount":1,"Items":[{"Id":7,"FaceId":"f","GmtCreate":"2025-01-15T02:20:28Z",
            "ImgOssUrl":"https://secret","MerchantUserId":"u1"}]}"#;
        let created = Some("2025-01-15T02:20:28Z".parse().unwrap());
        let records = vec![FaceRecord { id: 7, created }];
        assert_eq!(lookup(response(200, body), "u1"), Ok(records));
        assert!(
            matches!(lookup(response(200, body), "U1"), Err(CallError::MaybeExecuted(_))),
            "the filter was not applied"
        );
    }

    #[test]
    fn only_an_empty_page_means_absent() {
        assert_eq!(
            lookup(response(200, r#"{"RequestId":"R","Code":"Success","TotalCount":0,"Items":[]}"#), "u"),
            Ok(Vec::new())
        );
        assert_eq!(lookup(response(200, r#"{"RequestId":"R","Code":"ok","Items":[]}"#), "u"), Ok(Vec::new()));
        assert_eq!(lookup(response(200, r#"{"RequestId":"R","Code":"200","TotalCount":0}"#), "u"), Ok(Vec::new()));
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
        ] {
            assert!(
                matches!(lookup(response(no_answer.0, no_answer.1), "u"), Err(CallError::MaybeExecuted(_))),
                "{no_answer:?}"
            );
        }
    }

    #[test]
    fn rejected_query_does_not_mean_absent() {
        let rejected = lookup(response(400, r#"{"RequestId":"R","Code":"InvalidParameter"}"#), "u");
        assert!(matches!(rejected, Err(CallError::Rejected(_))), "{rejected:?}");
    }

    fn records_page(ids: std::ops::Range<i64>, total: Option<u64>, number: u64) -> LookupPage {
        let items = ids.map(|id| format!(r#"{{"Id":{id},"MerchantUserId":"u"}}"#)).collect::<Vec<_>>().join(",");
        let total = total.map(|total| format!(r#","TotalCount":{total}"#)).unwrap_or_default();
        lookup_page(
            &response(200, &format!(r#"{{"RequestId":"R","Code":"Success","Items":[{items}]{total}}}"#)),
            "u",
            number,
        )
        .unwrap()
    }

    fn ids(records: Option<Vec<FaceRecord>>) -> Vec<i64> {
        records.unwrap().iter().map(|record| record.id).collect()
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
        assert!(matches!(lookup_page(&response(502, "<html>"), "u", 2), Err(CallError::MaybeExecuted(_))));
    }

    #[test]
    fn only_the_service_confirms_a_deletion() {
        assert_eq!(parse_deletion(&response(200, r#"{"RequestId":"R","Code":"Success","Data":1}"#)), Ok(()));
        for foreign in
            [(200, "<html>"), (200, r#"{"code":"ok"}"#), (403, "<html>"), (204, ""), (200, r#"{"Code":"Success"}"#)]
        {
            assert!(
                matches!(parse_deletion(&response(foreign.0, foreign.1)), Err(CallError::MaybeExecuted(_))),
                "{foreign:?}"
            );
        }
    }

    #[test]
    fn unreadable_creation_time_is_unknown() {
        let body =
            r#"{"RequestId":"R","Code":"Success","Items":[{"Id":7,"GmtCreate":"yesterday","MerchantUserId":"u"}]}"#;
        let records = vec![FaceRecord { id: 7, created: None }];
        assert_eq!(lookup(response(200, body), "u"), Ok(records));
    }

    #[test]
    fn throttling_differs_from_missing_permission() {
        assert_eq!(
            lookup(response(403, r#"{"RequestId":"R","Code":"Throttling.Api"}"#), "u"),
            Err(CallError::Throttled { retry_after: None })
        );
        assert!(matches!(
            lookup(response(403, r#"{"RequestId":"R","Code":"Forbidden.RAMUserAccessDenied"}"#), "u"),
            Err(CallError::Fatal(_))
        ));
    }

    #[test]
    fn deletion_answered_by_a_stranger_may_be_executed() {
        for status in [429, 302, 200, 403] {
            for body in ["<html>", "{}", r#"{"Code":"Throttling"}"#] {
                let deleted = parse_deletion(&response(status, body));
                assert!(matches!(deleted, Err(CallError::MaybeExecuted(_))), "{status} {body}: {deleted:?}");
            }
        }
        let throttled = response(429, r#"{"RequestId":"R","Code":"Throttling.User"}"#);
        assert_eq!(parse_deletion(&throttled), Err(CallError::Throttled { retry_after: None }));
        assert_eq!(lookup(response(429, "<html>"), "u"), Err(CallError::Throttled { retry_after: None }));
    }

    #[test]
    fn only_an_explicit_answer_makes_a_group_missing() {
        let found = r#"{"RequestId":"R","Code":"200","TotalCount":1,"Items":[{"Id":1,"Name":"n","Code":"sgl1"}]}"#;
        assert_eq!(has_group(&response(200, found), "sgl1"), Ok(true));
        assert!(matches!(has_group(&response(200, found), "sgl2"), Err(CallError::MaybeExecuted(_))));
        assert_eq!(
            has_group(&response(200, r#"{"RequestId":"R","Code":"200","TotalCount":0,"Items":[]}"#), "sgl1"),
            Ok(false)
        );
        assert!(matches!(has_group(&response(500, ""), "sgl1"), Err(CallError::MaybeExecuted(_))));
    }
}
