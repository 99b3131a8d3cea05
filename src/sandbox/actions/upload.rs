//! File upload: AuthorizeFileUpload of the open platform and PostObject of the object store.

use serde_json::json;

use super::{ActionContext, ActionResult, Body};
use crate::sandbox::{
    form::{Params, invalid},
    multipart::Form,
    object_store::UploadGrant,
    response::ApiError,
};

/// Product whose files may be uploaded (official SDK, `add_face_record_advance`).
const PRODUCT: &str = "Cloudauth-intl";

/// A request to authorize an upload.
#[derive(Debug)]
pub(in crate::sandbox) struct UploadAuthorization;

impl UploadAuthorization {
    pub(super) fn parse(params: &Params<'_>) -> Result<Self, ApiError> {
        if params.required("Product")? != PRODUCT {
            return Err(invalid("Product", "must be Cloudauth-intl"));
        }
        Ok(Self)
    }

    /// The open platform responds with top-level fields and without `Code`.
    pub(super) fn execute(self, context: &mut ActionContext<'_>) -> ActionResult {
        let UploadGrant { key, policy, signature } = context.objects.authorize(context.now);
        let fields = vec![
            ("AccessKeyId", json!(UploadGrant::ACCESS_KEY_ID)),
            ("Bucket", json!(UploadGrant::BUCKET)),
            ("EncodedPolicy", json!(policy)),
            ("Endpoint", json!(UploadGrant::ENDPOINT)),
            ("ObjectKey", json!(key)),
            ("Signature", json!(signature)),
            ("UseAccelerate", json!(false)),
        ];
        ActionResult::new(Body::Bare(fields))
    }
}

/// An uploaded form with its file.
#[derive(Debug)]
pub(in crate::sandbox) struct File {
    body: bytes::Bytes,
    content_type: String,
}

impl File {
    pub(in crate::sandbox) fn new(content_type: String, body: bytes::Bytes) -> Self {
        Self { body, content_type }
    }

    pub(super) fn execute(self, context: &mut ActionContext<'_>) -> Result<ActionResult, ApiError> {
        let form = Form::parse(&self.content_type, &self.body)?;
        let object = context.objects.put(&form, context.now)?;
        let key = form.field("key").unwrap_or_default();
        let created = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Bucket>{bucket}</Bucket>\
             <Location>http://{bucket}.{endpoint}/{key}</Location><Key>{key}</Key><ETag>\"{tag}\"</ETag></PostResponse>",
            bucket = UploadGrant::BUCKET,
            endpoint = UploadGrant::ENDPOINT,
            tag = object.digest,
        );
        // Any other status, or none, gives 204 without a body.
        let is_created = form.field("success_action_status") == Some("201");
        let body = if is_created { Body::Xml(201, created) } else { Body::Xml(204, String::new()) };
        Ok(ActionResult { picture: Some(object.digest), ..ActionResult::new(body) })
    }
}
