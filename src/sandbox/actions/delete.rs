//! DeleteFaceRecord by number, and DeleteFaceRecordV2 by user: the latter without a group deletes in every group, as
//! documented.

use serde_json::json;

use super::{Done, Room, check_group, not_stored};
use crate::sandbox::{Groups, answer::Refusal, form::Params};

#[derive(Debug)]
pub(in crate::sandbox) struct ById(i64);

impl ById {
    pub(super) fn read(params: &Params<'_>) -> Result<Self, Refusal> {
        params.number("Id").map(Self)
    }

    /// `Data` is the number of records deleted.
    pub(super) fn act(self, room: &mut Room<'_>) -> Result<Done, Refusal> {
        let was_there = room.ledger.delete(self.0).map_err(|error| not_stored(&error))?;
        Ok(Done { fields: vec![("Data", json!(i64::from(was_there)))], ..Done::default() })
    }
}

#[derive(Debug)]
pub(in crate::sandbox) struct OfUser {
    user: String,
    group: Option<String>,
}

impl OfUser {
    pub(super) fn read(params: &Params<'_>, groups: &Groups) -> Result<Self, Refusal> {
        let (user, group) = (params.required("MerchantUserId")?, params.text("FaceGroupCode")?);
        if let Some(group) = &group {
            check_group(groups, group)?;
        }
        Ok(Self { user, group })
    }

    pub(super) fn act(self, room: &mut Room<'_>) -> Result<Done, Refusal> {
        let records = room.ledger.of_user(&self.user, self.group.as_deref());
        let ids: Vec<i64> = records.iter().map(|record| record.id).collect();
        let mut groups: Vec<String> = records.iter().map(|record| record.group.clone()).collect();
        for id in &ids {
            room.ledger.delete(*id).map_err(|error| not_stored(&error))?;
        }
        groups.sort();
        groups.dedup();
        let deleted = if ids.is_empty() { "N" } else { "Y" };
        let result = json!({"Deleted": deleted, "DeletedGroupCodes": groups.join(",")});
        Ok(Done { fields: vec![("Result", result)], ..Done::default() })
    }
}
