//! QueryFaceRecord: lists the records of a group, oldest first.

use serde_json::{Value, json};

use super::{Done, Room, check_group, page::Page};
use crate::sandbox::{
    Groups,
    answer::Refusal,
    form::Params,
    ledger::{Filter, Record},
};

/// How the records of this sandbox came to be, as the service calls it.
const REGISTRATION_TYPE: &str = "MANUAL";

#[derive(Debug)]
pub(in crate::sandbox) struct Query {
    page: Page,
    filter: Filter,
    /// Is anything left once `RegistrationType` is obeyed?
    has_any: bool,
}

impl Query {
    pub(super) fn read(params: &Params<'_>, groups: &Groups) -> Result<Self, Refusal> {
        let page = Page::read(params)?;
        let group = params.required("FaceGroupCode")?;
        check_group(groups, &group)?;
        let (user, face_id) = (params.text("MerchantUserId")?, params.text("FaceId")?);
        let has_any = params.text("RegistrationType")?.is_none_or(|kind| kind == REGISTRATION_TYPE);
        Ok(Self { page, filter: Filter { group, user, face_id, made_until: None }, has_any })
    }

    pub(super) fn act(self, room: &Room<'_>) -> Done {
        // Nothing is that young where the sandbox is younger than the lag: then only what it began with is seen.
        let filter = Filter { made_until: room.lag.map(|lag| room.at.saturating_sub(lag)), ..self.filter };
        let (records, total) = match self.has_any {
            true => room.ledger.find(&filter, self.page.offset(), self.page.size()),
            false => (Vec::new(), 0),
        };
        Done { fields: self.page.fields(records.into_iter().map(item).collect(), total), ..Done::default() }
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
