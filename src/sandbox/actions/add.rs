//! AddFaceRecord: makes a record, and a second one for a second call of the same id.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{Done, Room, check_group, not_stored};
use crate::{
    domain::Digest,
    sandbox::{
        Groups,
        answer::Refusal,
        form::{Params, invalid, missing},
        ledger::NewRecord,
    },
};

/// The only product that this action serves (AddFaceRecord page).
const PRODUCT_CODE: &str = "FACE_ENROLL";
/// Longest `MerchantUserId`, in characters (AddFaceRecord page).
const USER_ID_MAX_CHARS: usize = 32;
/// Most bytes of an inline picture: 1 MB (AddFaceRecord page), read generously.
const INLINE_MAX_BYTES: usize = 1 << 20;
/// Base64 of more than 10 MB (AddFaceRecord page: the largest file), read generously: not worth decoding.
const INLINE_MAX_ENCODED_BYTES: usize = 10 * (1 << 20) / 3 * 4 + 4;
/// How every JPEG begins: SOI, then another marker.
pub(in crate::sandbox) const JPEG_MAGIC: [u8; 3] = [0xFF, 0xD8, 0xFF];

/// A face to enrol. The picture itself is not kept.
#[derive(Debug)]
pub(in crate::sandbox) struct Face {
    group: String,
    user: String,
    pub(super) picture: Option<Digest>,
    picture_bytes: Option<u64>,
    /// Of a file that was uploaded before.
    file: Option<String>,
}

impl Face {
    pub(super) fn read(params: &Params<'_>, groups: &Groups) -> Result<Self, Refusal> {
        if params.required("ProductCode")? != PRODUCT_CODE {
            return Err(invalid("ProductCode", "it must be FACE_ENROLL"));
        }
        let group = params.required("FaceGroupCode")?;
        // The page calls it optional; with inline pictures there is no name that could stand in for it.
        let user = params.required("MerchantUserId")?;
        if user.chars().count() > USER_ID_MAX_CHARS {
            return Err(invalid("MerchantUserId", "it has more than 32 characters"));
        }
        check_group(groups, &group)?;
        let (file, url, inline) =
            (params.text("FacePictureFile")?, params.text("FacePictureUrl")?, params.bytes("FacePicture")?);
        // A file that was uploaded wins over the others (help: status codes returned by the server).
        match (file, url, inline) {
            (file @ Some(_), _, _) => Ok(Self { group, user, picture: None, picture_bytes: None, file }),
            (None, Some(_), Some(_)) => {
                Err(Refusal::new(401, "DataDuplication", "FacePicture and FacePictureUrl must not both be given."))
            }
            (None, None, None) => Err(missing("FacePicture, FacePictureUrl or FacePictureFile")),
            (None, Some(url), None) => {
                check_url(&url)?;
                Ok(Self { group, user, picture: None, picture_bytes: None, file: None })
            }
            (None, None, Some(base64)) => {
                let bytes = decode(&base64)?;
                let digest = Digest(Sha256::digest(&bytes).into());
                Ok(Self { group, user, picture: Some(digest), picture_bytes: Some(bytes.len() as u64), file: None })
            }
        }
    }

    pub(super) fn act(self, room: &mut Room<'_>) -> Result<Done, Refusal> {
        let Self { group, user, mut picture, mut picture_bytes, file } = self;
        if let Some(url) = file {
            let object =
                room.objects.find(&url).ok_or_else(|| invalid("FacePictureFile", "no such object was uploaded"))?;
            if !object.is_jpeg {
                return Err(not_a_jpeg());
            }
            (picture, picture_bytes) = (Some(object.digest), Some(object.bytes));
        }
        let new = NewRecord { group, user, created: room.now, picture, picture_bytes, made_at: Some(room.at) };
        let id = room.ledger.add(new).map_err(|error| not_stored(&error))?;
        Ok(Done { fields: vec![("Result", verdict("Y", "HIGH"))], record: Some(id), picture, ..Done::default() })
    }
}

/// `Result` of an answer. `ExtFaceInfo` is a text with JSON in it.
pub(in crate::sandbox) fn verdict(passed: &str, quality: &str) -> serde_json::Value {
    json!({"Passed": passed, "ExtFaceInfo": json!({"faceQuality": quality}).to_string()})
}

fn decode(base64: &[u8]) -> Result<Vec<u8>, Refusal> {
    let too_large =
        || Refusal::new(401, "ToolargeImage", "The image is too large. Upload images over 1 MB by URL or file.");
    if base64.len() > INLINE_MAX_ENCODED_BYTES {
        return Err(too_large());
    }
    let bytes = STANDARD.decode(base64).map_err(|_| invalid("FacePicture", "it is not Base64"))?;
    if bytes.len() > INLINE_MAX_BYTES {
        return Err(too_large());
    }
    if !bytes.starts_with(&JPEG_MAGIC) {
        return Err(not_a_jpeg());
    }
    Ok(bytes)
}

fn not_a_jpeg() -> Refusal {
    Refusal::new(401, "UnqualifiedPhoto", "The photo is not a JPEG.")
}

/// The sandbox reads no links: it only looks at them.
fn check_url(url: &str) -> Result<(), Refusal> {
    let is_web = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if is_web { Ok(()) } else { Err(invalid("FacePictureUrl", "it is not an http or https address")) }
}
