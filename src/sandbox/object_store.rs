//! In-memory object store for AuthorizeFileUpload: the grants issued and the files uploaded.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{buckets::Buckets, multipart::Form, response::ApiError};
use crate::domain::Digest;

const BUCKET: &str = "face-enroll-sandbox";
/// A host that does not exist, so that a client that leaves loopback cannot reach anyone.
const ENDPOINT: &str = "oss-sandbox.invalid";
const ACCESS_KEY_ID: &str = "SANDBOX-OSS-KEY";
const SECRET: &str = "sandbox-oss-secret-opens-nothing";
/// Largest file: 10 MB (AddFaceRecord page), read generously.
const MAX_BYTES: usize = 10 << 20;

/// An uploaded file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) is_jpeg: bool,
}

#[derive(Debug)]
pub(super) struct ObjectStore {
    policy_ttl: Duration,
    /// Issued policies, by object key.
    grants: HashMap<String, Policy>,
    stored: HashMap<String, Object>,
    buckets: Buckets,
}

#[derive(Debug)]
struct Policy {
    encoded: String,
    expires: Timestamp,
}

/// Permission to upload one file.
#[derive(Debug)]
pub(super) struct UploadGrant {
    pub(super) key: String,
    pub(super) policy: String,
    pub(super) signature: String,
}

impl UploadGrant {
    pub(super) const ACCESS_KEY_ID: &str = ACCESS_KEY_ID;
    pub(super) const BUCKET: &str = BUCKET;
    pub(super) const ENDPOINT: &str = ENDPOINT;
}

impl ObjectStore {
    pub(super) fn new(policy_ttl: Duration, buckets: Buckets) -> Self {
        Self { policy_ttl, grants: HashMap::new(), stored: HashMap::new(), buckets }
    }

    /// Buckets with photos to enrol.
    pub(super) fn buckets(&mut self) -> &mut Buckets {
        &mut self.buckets
    }

    /// Whether a `Host` header names the object store.
    pub(super) fn is_host(host: &str) -> bool {
        host.split(':').next() == Some(&host_name())
    }

    /// Permits one upload under a new key.
    pub(super) fn authorize(&mut self, now: Timestamp) -> UploadGrant {
        let key = format!("upload/{}.jpg", uuid::Uuid::new_v4().simple());
        let expires = now.checked_add(self.policy_ttl).unwrap_or(Timestamp::MAX);
        let policy = json!({
            "expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "conditions": [{"bucket": BUCKET}, ["eq", "$key", key], ["content-length-range", 1, MAX_BYTES]],
        });
        let encoded = STANDARD.encode(policy.to_string());
        let signature = sign(&encoded);
        self.grants.insert(key.clone(), Policy { encoded: encoded.clone(), expires });
        UploadGrant { key, policy: encoded, signature }
    }

    /// Executes PostObject; rejects what OSS rejects, in its order.
    pub(super) fn put(&mut self, form: &Form<'_>, now: Timestamp) -> Result<Object, ApiError> {
        let required = |name: &'static str| {
            form.field(name)
                .ok_or_else(|| ApiError::new(400, "InvalidArgument", format!("The field {name} is missing.")))
        };
        let (key, policy, signature) = (required("key")?, required("policy")?, required("Signature")?);
        if required("OSSAccessKeyId")? != ACCESS_KEY_ID {
            let message = "The OSS Access Key Id you provided does not exist in our records.";
            return Err(ApiError::new(403, "InvalidAccessKeyId", message));
        }
        if sign(policy) != signature {
            let message = "The request signature we calculated does not match the signature you provided.";
            return Err(ApiError::new(403, "SignatureDoesNotMatch", message));
        }
        let denied = |why: &str| ApiError::new(403, "AccessDenied", format!("Invalid according to Policy: {why}"));
        let grant = self.grants.get(key).filter(|grant| grant.encoded == policy);
        let grant = grant.ok_or_else(|| denied("Policy Condition failed: [\"eq\", \"$key\", ...]"))?;
        if now > grant.expires {
            return Err(denied("Policy expired."));
        }
        match form.file.len() {
            0 => return Err(ApiError::new(400, "EntityTooSmall", "Your proposed upload is smaller than allowed.")),
            size if size > MAX_BYTES => {
                return Err(ApiError::new(
                    400,
                    "EntityTooLarge",
                    "Your proposed upload exceeds the maximum allowed size.",
                ));
            }
            _ => {}
        }
        let object = Object {
            digest: Digest(Sha256::digest(form.file).into()),
            bytes: form.file.len() as u64,
            is_jpeg: form.file.starts_with(&super::actions::JPEG_MAGIC),
        };
        self.stored.insert(key.to_owned(), object);
        Ok(object)
    }

    /// File that a `FacePictureFile` URL refers to.
    pub(super) fn find(&self, url: &str) -> Option<Object> {
        let key = url.strip_prefix(&format!("http://{}/", host_name()))?;
        self.stored.get(key).copied()
    }
}

fn host_name() -> String {
    format!("{BUCKET}.{ENDPOINT}")
}

/// Signs a policy as OSS does: HMAC-SHA1 of the encoded policy, in Base64.
fn sign(policy: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(policy.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}
