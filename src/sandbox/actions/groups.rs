//! QueryFaceGroup: lists the face groups. Where every code names a group, those are listed that have records, and the one
//! that was asked for.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Done, Room, page::Page};
use crate::sandbox::{Groups, answer::Refusal, form::Params};

#[derive(Debug)]
pub(in crate::sandbox) struct Query {
    page: Page,
    code: Option<String>,
    name: Option<String>,
}

impl Query {
    pub(super) fn read(params: &Params<'_>) -> Result<Self, Refusal> {
        Ok(Self { page: Page::read(params)?, code: params.text("GroupCode")?, name: params.text("Name")? })
    }

    pub(super) fn act(self, room: &Room<'_>) -> Done {
        let mut codes: Vec<String> = match (room.groups, &self.code) {
            (Groups::Only(codes), _) => codes.iter().cloned().collect(),
            (Groups::Any, Some(code)) => vec![code.clone()],
            (Groups::Any, None) => room.ledger.groups(),
        };
        codes.retain(|code| {
            self.code.as_ref().is_none_or(|wanted| wanted == code) && self.name.as_ref().is_none_or(|name| name == code)
        });
        let page = codes.iter().skip(self.page.offset()).take(self.page.size());
        Done { fields: self.page.fields(page.map(|code| item(code)).collect(), codes.len()), ..Done::default() }
    }
}

/// A group's name is its code here; its number comes from the code, so that it stays the same.
fn item(code: &str) -> Value {
    let hash = Sha256::digest(code.as_bytes());
    let id = hash.iter().take(4).fold(0_i64, |id, &byte| id << 8 | i64::from(byte));
    json!({"Id": id, "Name": code, "Code": code, "Description": "A group of the sandbox"})
}
