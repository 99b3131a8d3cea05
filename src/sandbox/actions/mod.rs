//! Actions of the API. Each action parses all of its parameters before it executes.

mod add;
mod delete;
mod groups;
mod page;
mod records;
mod upload;

pub(super) use add::{JPEG_MAGIC, enrollment_result};
pub(super) use upload::File;

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Credentials, Groups,
    buckets::ObjectCall,
    form::{Params, invalid},
    object_store::ObjectStore,
    records::RecordStore,
    response::{ApiError, Fields},
};
use crate::domain::Digest;

/// An action that the sandbox supports, named as in `x-acs-action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Creates a face record.
    AddFaceRecord,
    /// Lists the records of a group.
    QueryFaceRecord,
    /// Lists face groups.
    QueryFaceGroup,
    /// Deletes a record by its id.
    DeleteFaceRecord,
    /// Deletes the records of a user in one group or in all groups.
    DeleteFaceRecordV2,
    /// Authorizes a file upload (open platform, 2019-12-19).
    AuthorizeFileUpload,
    /// Uploads a file to the object store; has no signed headers and no `x-acs-action`.
    PostObject,
    /// Lists the keys of a bucket (ListObjectsV2).
    ListObjects,
    /// Reads an object of a bucket (GetObject, HeadObject).
    GetObject,
    /// Stores an object in a bucket.
    PutObject,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 10] = [
        Self::AddFaceRecord,
        Self::QueryFaceRecord,
        Self::QueryFaceGroup,
        Self::DeleteFaceRecord,
        Self::DeleteFaceRecordV2,
        Self::AuthorizeFileUpload,
        Self::PostObject,
        Self::ListObjects,
        Self::GetObject,
        Self::PutObject,
    ];

    /// Name in `x-acs-action`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AddFaceRecord => "AddFaceRecord",
            Self::QueryFaceRecord => "QueryFaceRecord",
            Self::QueryFaceGroup => "QueryFaceGroup",
            Self::DeleteFaceRecord => "DeleteFaceRecord",
            Self::DeleteFaceRecordV2 => "DeleteFaceRecordV2",
            Self::AuthorizeFileUpload => "AuthorizeFileUpload",
            Self::PostObject => "PostObject",
            Self::ListObjects => "ListObjects",
            Self::GetObject => "GetObject",
            Self::PutObject => "PutObject",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|&action| action.name() == name && !action.is_of_object_store())
    }

    /// Whether the object store executes the action, not the gateway.
    pub(super) fn is_of_object_store(self) -> bool {
        match self {
            Self::PostObject | Self::ListObjects | Self::GetObject | Self::PutObject => true,
            Self::AddFaceRecord
            | Self::QueryFaceRecord
            | Self::QueryFaceGroup
            | Self::DeleteFaceRecord
            | Self::DeleteFaceRecordV2
            | Self::AuthorizeFileUpload => false,
        }
    }

    /// Whether the quota counts the action. A bucket has none.
    pub(super) fn has_quota(self) -> bool {
        !self.is_of_object_store() || self == Self::PostObject
    }

    /// API version in `x-acs-version`.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::AddFaceRecord
            | Self::QueryFaceRecord
            | Self::QueryFaceGroup
            | Self::DeleteFaceRecord
            | Self::DeleteFaceRecordV2 => "2022-08-09",
            Self::AuthorizeFileUpload => "2019-12-19",
            Self::PostObject | Self::ListObjects | Self::GetObject | Self::PutObject => "",
        }
    }

    /// Whether the parameters are in the form body rather than in the query string.
    pub(super) fn reads_form(self) -> bool {
        match self {
            Self::AddFaceRecord | Self::DeleteFaceRecord | Self::PostObject => true,
            Self::QueryFaceRecord
            | Self::QueryFaceGroup
            | Self::DeleteFaceRecordV2
            | Self::AuthorizeFileUpload
            | Self::ListObjects
            | Self::GetObject
            | Self::PutObject => false,
        }
    }

    /// Whether GET is allowed too. The documents allow it for queries only.
    pub(super) fn allows_get(self) -> bool {
        match self {
            Self::QueryFaceRecord | Self::QueryFaceGroup | Self::AuthorizeFileUpload => true,
            Self::AddFaceRecord
            | Self::DeleteFaceRecord
            | Self::DeleteFaceRecordV2
            | Self::PostObject
            | Self::ListObjects
            | Self::GetObject
            | Self::PutObject => false,
        }
    }
}

/// An action with its validated parameters.
#[derive(Debug)]
pub(super) enum ActionRequest {
    AddFaceRecord(add::Face),
    QueryFaceRecord(records::Query),
    QueryFaceGroup(groups::Query),
    DeleteFaceRecord(delete::ById),
    DeleteFaceRecordV2(delete::ByUser),
    AuthorizeFileUpload(upload::UploadAuthorization),
    PostObject(upload::File),
    Object(ObjectCall),
}

impl ActionRequest {
    pub(super) fn parse(action: Action, params: &Params<'_>, groups: &Groups) -> Result<Self, ApiError> {
        match action {
            Action::AddFaceRecord => add::Face::parse(params, groups).map(Self::AddFaceRecord),
            Action::QueryFaceRecord => records::Query::parse(params, groups).map(Self::QueryFaceRecord),
            Action::QueryFaceGroup => groups::Query::parse(params).map(Self::QueryFaceGroup),
            Action::DeleteFaceRecord => delete::ById::parse(params).map(Self::DeleteFaceRecord),
            Action::DeleteFaceRecordV2 => delete::ByUser::parse(params, groups).map(Self::DeleteFaceRecordV2),
            Action::AuthorizeFileUpload => upload::UploadAuthorization::parse(params).map(Self::AuthorizeFileUpload),
            Action::PostObject | Action::ListObjects | Action::GetObject | Action::PutObject => {
                Err(invalid("x-acs-action", "files are in the object store, not at the gateway"))
            }
        }
    }

    /// Digest of the photo in the request.
    pub(super) fn picture(&self) -> Option<Digest> {
        match self {
            Self::AddFaceRecord(face) => face.picture,
            Self::QueryFaceRecord(_)
            | Self::QueryFaceGroup(_)
            | Self::DeleteFaceRecord(_)
            | Self::DeleteFaceRecordV2(_)
            | Self::AuthorizeFileUpload(_)
            | Self::PostObject(_)
            | Self::Object(_) => None,
        }
    }

    pub(super) fn execute(self, context: &mut ActionContext<'_>) -> Result<ActionResult, ApiError> {
        match self {
            Self::AddFaceRecord(face) => face.execute(context),
            Self::QueryFaceRecord(query) => Ok(query.execute(context)),
            Self::QueryFaceGroup(query) => Ok(query.execute(context)),
            Self::DeleteFaceRecord(by_id) => by_id.execute(context),
            Self::DeleteFaceRecordV2(by_user) => by_user.execute(context),
            Self::AuthorizeFileUpload(authorization) => Ok(authorization.execute(context)),
            Self::PostObject(file) => file.execute(context),
            Self::Object(call) => call.execute(context.objects.buckets(), context.now),
        }
    }
}

/// State that an action works on.
#[derive(Debug)]
pub(super) struct ActionContext<'a> {
    pub(super) records: &'a mut RecordStore,
    pub(super) objects: &'a mut ObjectStore,
    pub(super) groups: &'a Groups,
    pub(super) credentials: &'a Credentials,
    /// Wall-clock time of the sandbox.
    pub(super) now: Timestamp,
    /// Time since the sandbox started.
    pub(super) at: Duration,
    /// Age below which a query does not see records yet.
    pub(super) lag: Option<Duration>,
}

/// Body of a successful response.
#[derive(Debug)]
pub(super) enum Body {
    /// JSON with RequestId, Code, Message and these fields.
    Coded(Fields),
    /// JSON with RequestId and these fields.
    Bare(Fields),
    /// Status and XML.
    Xml(u16, String),
    /// An object, or what describes it.
    Object { headers: Vec<(&'static str, String)>, bytes: Bytes, kind: &'static str },
}

/// Result of an action.
#[derive(Debug)]
pub(super) struct ActionResult {
    pub(super) body: Body,
    /// Id of the record that was created.
    pub(super) record: Option<i64>,
    /// Digest of the photo that was stored.
    pub(super) picture: Option<Digest>,
}

impl ActionResult {
    /// A result that created no record and stored no photo.
    pub(super) fn new(body: Body) -> Self {
        Self { body, record: None, picture: None }
    }
}

fn check_group(groups: &Groups, code: &str) -> Result<(), ApiError> {
    if groups.contains(code) { Ok(()) } else { Err(invalid("FaceGroupCode", "no such face group")) }
}

/// Reports that the records file cannot be written and that nothing was done.
fn storage_error(error: &std::io::Error) -> ApiError {
    tracing::error!(%error, "cannot write the records of the sandbox");
    ApiError::internal_error()
}
