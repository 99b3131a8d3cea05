//! What the service can be asked to do: each action reads its parameters first, all of them, and acts afterwards.

mod add;
mod delete;
mod groups;
mod page;
mod records;
mod upload;

pub(super) use add::{JPEG_MAGIC, verdict};
pub(super) use upload::File;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Groups,
    answer::Refusal,
    form::{Params, invalid},
    ledger::Ledger,
    objects::Objects,
};
use crate::domain::Digest;

/// An action of the API that the sandbox plays. Its names are those of `x-acs-action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Makes a face record.
    AddFaceRecord,
    /// Lists the records of a group.
    QueryFaceRecord,
    /// Lists groups.
    QueryFaceGroup,
    /// Deletes a record by its number.
    DeleteFaceRecord,
    /// Deletes the records of a user, in one group or in all.
    DeleteFaceRecordV2,
    /// Gives leave to upload a file (open platform, 2019-12-19).
    AuthorizeFileUpload,
    /// Takes a file (object store; not signed, and not named by `x-acs-action`).
    PostObject,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 7] = [
        Self::AddFaceRecord,
        Self::QueryFaceRecord,
        Self::QueryFaceGroup,
        Self::DeleteFaceRecord,
        Self::DeleteFaceRecordV2,
        Self::AuthorizeFileUpload,
        Self::PostObject,
    ];

    /// As in `x-acs-action`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AddFaceRecord => "AddFaceRecord",
            Self::QueryFaceRecord => "QueryFaceRecord",
            Self::QueryFaceGroup => "QueryFaceGroup",
            Self::DeleteFaceRecord => "DeleteFaceRecord",
            Self::DeleteFaceRecordV2 => "DeleteFaceRecordV2",
            Self::AuthorizeFileUpload => "AuthorizeFileUpload",
            Self::PostObject => "PostObject",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|&action| action.name() == name && action != Self::PostObject)
    }

    /// `x-acs-version`
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::AddFaceRecord
            | Self::QueryFaceRecord
            | Self::QueryFaceGroup
            | Self::DeleteFaceRecord
            | Self::DeleteFaceRecordV2 => "2022-08-09",
            Self::AuthorizeFileUpload => "2019-12-19",
            Self::PostObject => "",
        }
    }

    /// Does this action read its parameters from the form in the body, and not from the query string?
    pub(super) fn reads_form(self) -> bool {
        match self {
            Self::AddFaceRecord | Self::DeleteFaceRecord | Self::PostObject => true,
            Self::QueryFaceRecord | Self::QueryFaceGroup | Self::DeleteFaceRecordV2 | Self::AuthorizeFileUpload => {
                false
            }
        }
    }

    /// May it be called by GET too? The documents allow it for the queries alone.
    pub(super) fn allows_get(self) -> bool {
        match self {
            Self::QueryFaceRecord | Self::QueryFaceGroup | Self::AuthorizeFileUpload => true,
            Self::AddFaceRecord | Self::DeleteFaceRecord | Self::DeleteFaceRecordV2 | Self::PostObject => false,
        }
    }
}

/// An action with its parameters, read and found good.
#[derive(Debug)]
pub(super) enum Ask {
    AddFaceRecord(add::Face),
    QueryFaceRecord(records::Query),
    QueryFaceGroup(groups::Query),
    DeleteFaceRecord(delete::ById),
    DeleteFaceRecordV2(delete::OfUser),
    AuthorizeFileUpload(upload::UploadAuthorization),
    PostObject(upload::File),
}

impl Ask {
    pub(super) fn read(action: Action, params: &Params<'_>, groups: &Groups) -> Result<Self, Refusal> {
        match action {
            Action::AddFaceRecord => add::Face::read(params, groups).map(Self::AddFaceRecord),
            Action::QueryFaceRecord => records::Query::read(params, groups).map(Self::QueryFaceRecord),
            Action::QueryFaceGroup => groups::Query::read(params).map(Self::QueryFaceGroup),
            Action::DeleteFaceRecord => delete::ById::read(params).map(Self::DeleteFaceRecord),
            Action::DeleteFaceRecordV2 => delete::OfUser::read(params, groups).map(Self::DeleteFaceRecordV2),
            Action::AuthorizeFileUpload => upload::UploadAuthorization::read(params).map(Self::AuthorizeFileUpload),
            Action::PostObject => Err(invalid("x-acs-action", "a file is not sent to the gateway")),
        }
    }

    /// The picture that came with it.
    pub(super) fn picture(&self) -> Option<Digest> {
        match self {
            Self::AddFaceRecord(face) => face.picture,
            Self::QueryFaceRecord(_)
            | Self::QueryFaceGroup(_)
            | Self::DeleteFaceRecord(_)
            | Self::DeleteFaceRecordV2(_)
            | Self::AuthorizeFileUpload(_)
            | Self::PostObject(_) => None,
        }
    }

    pub(super) fn act(self, room: &mut Room<'_>) -> Result<Done, Refusal> {
        match self {
            Self::AddFaceRecord(face) => face.act(room),
            Self::QueryFaceRecord(query) => Ok(query.act(room)),
            Self::QueryFaceGroup(query) => Ok(query.act(room)),
            Self::DeleteFaceRecord(by_id) => by_id.act(room),
            Self::DeleteFaceRecordV2(of_user) => of_user.act(room),
            Self::AuthorizeFileUpload(leave) => Ok(leave.act(room)),
            Self::PostObject(file) => file.act(room),
        }
    }
}

/// What an action acts upon.
#[derive(Debug)]
pub(super) struct Room<'a> {
    pub(super) ledger: &'a mut Ledger,
    pub(super) objects: &'a mut Objects,
    pub(super) groups: &'a Groups,
    /// By the sandbox's clock on the wall.
    pub(super) now: Timestamp,
    /// Since the sandbox opened.
    pub(super) at: Duration,
    /// How far a query is behind.
    pub(super) lag: Option<Duration>,
}

/// What an action did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The fields of its answer beside RequestId, Code and Message.
    pub(super) fields: Vec<(&'static str, Value)>,
    /// Are these all its fields, but for the RequestId?
    pub(super) is_bare: bool,
    /// Instead of fields: a status and XML.
    pub(super) page: Option<(u16, String)>,
    /// The record that it made.
    pub(super) record: Option<i64>,
    /// The picture that it took.
    pub(super) picture: Option<Digest>,
}

fn check_group(groups: &Groups, code: &str) -> Result<(), Refusal> {
    if groups.contains(code) { Ok(()) } else { Err(invalid("FaceGroupCode", "there is no such face group")) }
}

/// The ledger's file can't be written: nothing was done.
fn not_stored(error: &std::io::Error) -> Refusal {
    tracing::error!(%error, "the sandbox's records can't be written");
    Refusal::internal_error()
}
