//! The file upload: AuthorizeFileUpload of the open platform, and PostObject of the object store.

use serde_json::json;

use super::{Done, Room};
use crate::sandbox::{
    answer::Refusal,
    form::{Params, invalid},
    multipart::Form,
    objects::Authorisation,
};

/// The product whose files may be uploaded (official SDK, `add_face_record_advance`).
const PRODUCT: &str = "Cloudauth-intl";

/// A request for leave to upload.
#[derive(Debug)]
pub(in crate::sandbox) struct UploadAuthorization;

impl UploadAuthorization {
    pub(super) fn read(params: &Params<'_>) -> Result<Self, Refusal> {
        if params.required("Product")? != PRODUCT {
            return Err(invalid("Product", "it must be Cloudauth-intl"));
        }
        Ok(Self)
    }

    /// At the top level, and without `Code`: so the open platform answers.
    pub(super) fn act(self, room: &mut Room<'_>) -> Done {
        let Authorisation { key, policy, signature } = room.objects.authorise(room.now);
        let fields = vec![
            ("AccessKeyId", json!(Authorisation::ACCESS_KEY_ID)),
            ("Bucket", json!(Authorisation::BUCKET)),
            ("EncodedPolicy", json!(policy)),
            ("Endpoint", json!(Authorisation::ENDPOINT)),
            ("ObjectKey", json!(key)),
            ("Signature", json!(signature)),
            ("UseAccelerate", json!(false)),
        ];
        Done { fields, is_bare: true, ..Done::default() }
    }
}

/// A file.
#[derive(Debug)]
pub(in crate::sandbox) struct File {
    body: bytes::Bytes,
    content_type: String,
}

impl File {
    pub(in crate::sandbox) fn new(content_type: String, body: bytes::Bytes) -> Self {
        Self { body, content_type }
    }

    pub(super) fn act(self, room: &mut Room<'_>) -> Result<Done, Refusal> {
        let form = Form::parse(&self.content_type, &self.body)?;
        let object = room.objects.put(&form, room.now)?;
        let key = form.field("key").unwrap_or_default();
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Bucket>{bucket}</Bucket>\
             <Location>http://{bucket}.{endpoint}/{key}</Location><Key>{key}</Key><ETag>\"{tag}\"</ETag></PostResponse>",
            bucket = Authorisation::BUCKET,
            endpoint = Authorisation::ENDPOINT,
            tag = object.digest,
        );
        // What else is asked for, or nothing, is 204 without a body.
        let is_created = form.field("success_action_status") == Some("201");
        let page = if is_created { (201, xml) } else { (204, String::new()) };
        Ok(Done { page: Some(page), picture: Some(object.digest), ..Done::default() })
    }
}
