//! QueryFaceRecord: lists the records of a group, oldest first.

use serde_json::{Value, json};

use super::{ActionContext, ActionResult, check_group, page::Page};
use crate::sandbox::{
    Groups,
    form::Params,
    records::{Filter, Record},
    response::ApiError,
};

/// `RegistrationType` of all records of the sandbox.
const REGISTRATION_TYPE: &str = "MANUAL";

#[derive(Debug)]
pub(in crate::sandbox) struct Query {
    page: Page,
    filter: Filter,
    /// Whether the `RegistrationType` filter matches any record.
    matches_type: bool,
}

impl Query {
    pub(super) fn parse(params: &Params<'_>, groups: &Groups) -> Result<Self, ApiError> {
        let page = Page::parse(params)?;
        let group = params.required("FaceGroupCode")?;
        check_group(groups, &group)?;
        let (user, face_id) = (params.text("MerchantUserId")?, params.text("FaceId")?);
        let matches_type = params.text("RegistrationType")?.is_none_or(|kind| kind == REGISTRATION_TYPE);
        Ok(Self { page, filter: Filter { group, user, face_id, created_until: None }, matches_type })
    }

    pub(super) fn execute(self, context: &ActionContext<'_>) -> ActionResult {
        // If the sandbox is younger than the lag, only the records that it started with are visible.
        let filter = Filter { created_until: context.lag.map(|lag| context.at.saturating_sub(lag)), ..self.filter };
        let (records, total) = match self.matches_type {
            true => context.records.find(&filter, self.page.offset(), self.page.size()),
            false => (Vec::new(), 0),
        };
        self.page.result(records.into_iter().map(item).collect(), total)
    }
}

fn item(record: &Record) -> Value {
    json!({
        "Id": record.id,
        "FaceId": record.face_id,
        "GmtCreate": record.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "RegistrationType": REGISTRATION_TYPE,
        "ImgOssUrl": format!("http://pictures.invalid/{}.jpg", record.face_id),
        "MerchantUserId": record.user,
    })
}
