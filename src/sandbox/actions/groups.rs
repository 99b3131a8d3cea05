//! QueryFaceGroup: lists face groups. If every code is a group, it lists the groups with records and the one asked for.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{ActionContext, ActionResult, page::Page};
use crate::sandbox::{Groups, form::Params, response::ApiError};

#[derive(Debug)]
pub(in crate::sandbox) struct Query {
    page: Page,
    code: Option<String>,
    name: Option<String>,
}

impl Query {
    pub(super) fn parse(params: &Params<'_>) -> Result<Self, ApiError> {
        Ok(Self { page: Page::parse(params)?, code: params.text("GroupCode")?, name: params.text("Name")? })
    }

    pub(super) fn execute(self, context: &ActionContext<'_>) -> ActionResult {
        let mut codes: Vec<String> = match (context.groups, &self.code) {
            (Groups::Only(codes), _) => codes.iter().cloned().collect(),
            (Groups::Any, Some(code)) => vec![code.clone()],
            (Groups::Any, None) => context.records.groups(),
        };
        codes.retain(|code| {
            self.code.as_ref().is_none_or(|wanted| wanted == code) && self.name.as_ref().is_none_or(|name| name == code)
        });
        let page = codes.iter().skip(self.page.offset()).take(self.page.size());
        self.page.result(page.map(|code| item(code)).collect(), codes.len())
    }
}

/// The name of a group is its code, and its id is derived from the code, so that both are stable.
fn item(code: &str) -> Value {
    let hash = Sha256::digest(code.as_bytes());
    let id = hash.iter().take(4).fold(0_i64, |id, &byte| id << 8 | i64::from(byte));
    json!({"Id": id, "Name": code, "Code": code, "Description": "A group of the sandbox"})
}
