//! The object store behind AuthorizeFileUpload: who may put what where, and what has been put there. In memory alone.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::{answer::Refusal, multipart::Form};
use crate::domain::Digest;

const BUCKET: &str = "face-enroll-sandbox";
/// No such host exists: a client that did not keep to loopback would find nobody.
const ENDPOINT: &str = "oss-sandbox.invalid";
const ACCESS_KEY_ID: &str = "SANDBOX-OSS-KEY";
const SECRET: &str = "sandbox-oss-secret-opens-nothing";
/// The largest file (AddFaceRecord page: 10 MB), read generously.
const MAX_BYTES: usize = 10 << 20;

/// A file that was put there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) is_jpeg: bool,
}

#[derive(Debug)]
pub(super) struct Objects {
    /// How long an authorisation holds.
    life: Duration,
    /// By key: the policy that was given out for it.
    authorised: HashMap<String, Policy>,
    stored: HashMap<String, Object>,
}

#[derive(Debug)]
struct Policy {
    encoded: String,
    expires: Timestamp,
}

/// What a client needs to put one file there.
#[derive(Debug)]
pub(super) struct Authorisation {
    pub(super) key: String,
    pub(super) policy: String,
    pub(super) signature: String,
}

impl Authorisation {
    pub(super) const ACCESS_KEY_ID: &str = ACCESS_KEY_ID;
    pub(super) const BUCKET: &str = BUCKET;
    pub(super) const ENDPOINT: &str = ENDPOINT;
}

impl Objects {
    pub(super) fn new(life: Duration) -> Self {
        Self { life, authorised: HashMap::new(), stored: HashMap::new() }
    }

    /// Is a request for the object store, by its `Host`?
    pub(super) fn is_host(host: &str) -> bool {
        host.split(':').next() == Some(&host_name())
    }

    /// One file may be put under a new key.
    pub(super) fn authorise(&mut self, now: Timestamp) -> Authorisation {
        let key = format!("upload/{}.jpg", uuid::Uuid::new_v4().simple());
        let expires = now.checked_add(self.life).unwrap_or(Timestamp::MAX);
        let policy = json!({
            "expiration": expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "conditions": [{"bucket": BUCKET}, ["eq", "$key", key], ["content-length-range", 1, MAX_BYTES]],
        });
        let encoded = STANDARD.encode(policy.to_string());
        let signature = sign(&encoded);
        self.authorised.insert(key.clone(), Policy { encoded: encoded.clone(), expires });
        Authorisation { key, policy: encoded, signature }
    }

    /// PostObject: refuses what OSS refuses, in its order.
    pub(super) fn put(&mut self, form: &Form<'_>, now: Timestamp) -> Result<Object, Refusal> {
        let required = |name: &'static str| {
            form.field(name)
                .ok_or_else(|| Refusal::new(400, "InvalidArgument", format!("The field {name} is missing.")))
        };
        let (key, policy, signature) = (required("key")?, required("policy")?, required("Signature")?);
        if required("OSSAccessKeyId")? != ACCESS_KEY_ID {
            let message = "The OSS Access Key Id you provided does not exist in our records.";
            return Err(Refusal::new(403, "InvalidAccessKeyId", message));
        }
        if sign(policy) != signature {
            let message = "The request signature we calculated does not match the signature you provided.";
            return Err(Refusal::new(403, "SignatureDoesNotMatch", message));
        }
        let denied = |why: &str| Refusal::new(403, "AccessDenied", format!("Invalid according to Policy: {why}"));
        let known = self.authorised.get(key).filter(|known| known.encoded == policy);
        let known = known.ok_or_else(|| denied("Policy Condition failed: [\"eq\", \"$key\", ...]"))?;
        if now > known.expires {
            return Err(denied("Policy expired."));
        }
        match form.file.len() {
            0 => return Err(Refusal::new(400, "EntityTooSmall", "Your proposed upload is smaller than allowed.")),
            size if size > MAX_BYTES => {
                return Err(Refusal::new(
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

    /// The file behind a `FacePictureFile`.
    pub(super) fn find(&self, url: &str) -> Option<Object> {
        let key = url.strip_prefix(&format!("http://{}/", host_name()))?;
        self.stored.get(key).copied()
    }
}

fn host_name() -> String {
    format!("{BUCKET}.{ENDPOINT}")
}

/// As OSS signs policies: HMAC-SHA1 of the encoded policy, in Base64.
fn sign(policy: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(policy.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}
