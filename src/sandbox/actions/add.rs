//! AddFaceRecord: creates a record, also a second one for the same id.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::{ActionContext, ActionResult, Body, check_group, storage_error};
use crate::{
    domain::Digest,
    sandbox::{
        Groups,
        buckets::read_link,
        form::{Params, invalid, missing},
        records::NewRecord,
        response::ApiError,
    },
};

/// The only product that this action supports (AddFaceRecord page).
const PRODUCT_CODE: &str = "FACE_ENROLL";
/// Longest `MerchantUserId`, in characters (AddFaceRecord page).
const USER_ID_MAX_CHARS: usize = 32;
/// Largest inline photo: 1 MB (AddFaceRecord page), read generously.
const INLINE_MAX_BYTES: usize = 1 << 20;
/// Longest Base64 text that is decoded: 10 MB, the largest file (AddFaceRecord page), read generously.
const INLINE_MAX_ENCODED_BYTES: usize = 10 * (1 << 20) / 3 * 4 + 4;
/// First bytes of every JPEG: SOI, then the start of another marker.
pub(in crate::sandbox) const JPEG_MAGIC: [u8; 3] = [0xFF, 0xD8, 0xFF];

/// A face to enrol. Only the digest and the size of the photo are kept.
#[derive(Debug)]
pub(in crate::sandbox) struct Face {
    group: String,
    user: String,
    pub(super) picture: Option<Digest>,
    picture_bytes: Option<u64>,
    /// URL of a file that was uploaded before.
    file: Option<String>,
    /// Link to the photo.
    url: Option<String>,
}

impl Face {
    pub(super) fn parse(params: &Params<'_>, groups: &Groups) -> Result<Self, ApiError> {
        if params.required("ProductCode")? != PRODUCT_CODE {
            return Err(invalid("ProductCode", "must be FACE_ENROLL"));
        }
        let group = params.required("FaceGroupCode")?;
        // The page calls it optional, but an inline photo has no name to use instead.
        let user = params.required("MerchantUserId")?;
        if user.chars().count() > USER_ID_MAX_CHARS {
            return Err(invalid("MerchantUserId", "more than 32 characters"));
        }
        if params.text("FaceQualityCheck")?.is_some_and(|check| check != "Y" && check != "N") {
            return Err(invalid("FaceQualityCheck", "must be Y or N"));
        }
        check_group(groups, &group)?;
        let (file, url, inline) =
            (params.text("FacePictureFile")?, params.text("FacePictureUrl")?, params.bytes("FacePicture")?);
        // An uploaded file takes precedence (help: status codes returned by the server).
        match (file, url, inline) {
            (file @ Some(_), _, _) => Ok(Self { group, user, picture: None, picture_bytes: None, file, url: None }),
            (None, Some(_), Some(_)) => {
                Err(ApiError::new(401, "DataDuplication", "FacePicture and FacePictureUrl must not both be given."))
            }
            (None, None, None) => Err(missing("FacePicture, FacePictureUrl or FacePictureFile")),
            (None, Some(url), None) => {
                check_url(&url)?;
                Ok(Self { group, user, picture: None, picture_bytes: None, file: None, url: Some(url) })
            }
            (None, None, Some(base64)) => {
                let bytes = decode_photo(&base64)?;
                let digest = Digest(Sha256::digest(&bytes).into());
                let picture_bytes = Some(bytes.len() as u64);
                Ok(Self { group, user, picture: Some(digest), picture_bytes, file: None, url: None })
            }
        }
    }

    pub(super) fn execute(self, context: &mut ActionContext<'_>) -> Result<ActionResult, ApiError> {
        let Self { group, user, mut picture, mut picture_bytes, file, url } = self;
        if let Some(url) = file {
            let object =
                context.objects.find(&url).ok_or_else(|| invalid("FacePictureFile", "no such object was uploaded"))?;
            if !object.is_jpeg {
                return Err(not_a_jpeg());
            }
            (picture, picture_bytes) = (Some(object.digest), Some(object.bytes));
        }
        if let Some(bytes) = url.map(|url| download(&url, context)).transpose()?.flatten() {
            if !bytes.starts_with(&JPEG_MAGIC) {
                return Err(not_a_jpeg());
            }
            (picture, picture_bytes) = (Some(Digest(Sha256::digest(&bytes).into())), Some(bytes.len() as u64));
        }
        let new =
            NewRecord { group, user, created: context.now, picture, picture_bytes, created_after: Some(context.at) };
        let id = context.records.add(new).map_err(|error| storage_error(&error))?;
        let body = Body::Coded(vec![("Result", enrollment_result("Y", "HIGH"))]);
        Ok(ActionResult { body, record: Some(id), picture })
    }
}

/// `Result` of a response. `ExtFaceInfo` is a string that contains JSON.
pub(in crate::sandbox) fn enrollment_result(passed: &str, quality: &str) -> serde_json::Value {
    json!({"Passed": passed, "ExtFaceInfo": json!({"faceQuality": quality}).to_string()})
}

fn decode_photo(base64: &[u8]) -> Result<Vec<u8>, ApiError> {
    let too_large =
        || ApiError::new(401, "ToolargeImage", "The image is too large. Upload images over 1 MB by URL or file.");
    if base64.len() > INLINE_MAX_ENCODED_BYTES {
        return Err(too_large());
    }
    let bytes = STANDARD.decode(base64).map_err(|_| invalid("FacePicture", "not Base64"))?;
    if bytes.len() > INLINE_MAX_BYTES {
        return Err(too_large());
    }
    if !bytes.starts_with(&JPEG_MAGIC) {
        return Err(not_a_jpeg());
    }
    Ok(bytes)
}

fn not_a_jpeg() -> ApiError {
    ApiError::new(401, "UnqualifiedPhoto", "The photo is not a JPEG.")
}

/// Reads a photo from one of our own buckets as the service would, with nothing but the link. `None` for any other link: the
/// sandbox never fetches from the network.
fn download(url: &str, context: &mut ActionContext<'_>) -> Result<Option<bytes::Bytes>, ApiError> {
    let failed = || ApiError::new(401, "DownloadTimeout", "The image could not be downloaded from its URL.");
    let (credentials, now) = (context.credentials, context.now);
    let buckets = context.objects.buckets();
    let Some(link) = read_link(url, |name| buckets.contains(name), (credentials, now)) else { return Ok(None) };
    let (bucket, key) = link.map_err(|_| failed())?;
    let (object, bytes) = buckets.get(&bucket, &key).ok_or_else(failed)?;
    if object.is_archived() { Err(failed()) } else { Ok(Some(bytes)) }
}

/// Checks the form of a URL. The sandbox never fetches it.
fn check_url(url: &str) -> Result<(), ApiError> {
    let is_web = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if is_web { Ok(()) } else { Err(invalid("FacePictureUrl", "not an http or https URL")) }
}
