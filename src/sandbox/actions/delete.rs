//! DeleteFaceRecord by id and DeleteFaceRecordV2 by user. Without a group the latter deletes in every group, as documented.

use serde_json::json;

use super::{ActionContext, ActionResult, Body, check_group, storage_error};
use crate::sandbox::{Groups, form::Params, response::ApiError};

#[derive(Debug)]
pub(in crate::sandbox) struct ById(i64);

impl ById {
    pub(super) fn parse(params: &Params<'_>) -> Result<Self, ApiError> {
        params.number("Id").map(Self)
    }

    /// `Data` is the number of records deleted.
    pub(super) fn execute(self, context: &mut ActionContext<'_>) -> Result<ActionResult, ApiError> {
        let existed = context.records.delete(self.0).map_err(|error| storage_error(&error))?;
        Ok(ActionResult::new(Body::Coded(vec![("Data", json!(i64::from(existed)))])))
    }
}

#[derive(Debug)]
pub(in crate::sandbox) struct ByUser {
    user: String,
    group: Option<String>,
}

impl ByUser {
    pub(super) fn parse(params: &Params<'_>, groups: &Groups) -> Result<Self, ApiError> {
        let (user, group) = (params.required("MerchantUserId")?, params.text("FaceGroupCode")?);
        if let Some(group) = &group {
            check_group(groups, group)?;
        }
        Ok(Self { user, group })
    }

    pub(super) fn execute(self, context: &mut ActionContext<'_>) -> Result<ActionResult, ApiError> {
        let records = context.records.find_by_user(&self.user, self.group.as_deref());
        let ids: Vec<i64> = records.iter().map(|record| record.id).collect();
        let mut groups: Vec<String> = records.iter().map(|record| record.group.clone()).collect();
        for id in &ids {
            context.records.delete(*id).map_err(|error| storage_error(&error))?;
        }
        groups.sort();
        groups.dedup();
        let deleted = if ids.is_empty() { "N" } else { "Y" };
        let result = json!({"Deleted": deleted, "DeletedGroupCodes": groups.join(",")});
        Ok(ActionResult::new(Body::Coded(vec![("Result", result)])))
    }
}
