//! Builds the body of AddFaceRecord in one pass.
//!
//! The photo is encoded in blocks, so that no copy of it is made. The body is hashed here, once, on the thread that prepares
//! the photo, so that signing is cheap when it is sent.

use std::{fmt, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use percent_encoding::utf8_percent_encode;

use super::{
    ObjectUrl, buffer,
    sign::{UNRESERVED, sha256_hex},
};
use crate::domain::{FaceGroupCode, MerchantUserId, PhotoUrl};

/// Groups of three bytes of a photo that are encoded at a time.
const BLOCK: usize = 256;

/// Value of the parameter `FaceQualityCheck`, which the AddFaceRecord page calls reserved and not supported yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum FaceQualityCheck {
    /// `Y`
    #[value(name = "Y")]
    Yes,
    /// `N`
    #[value(name = "N")]
    No,
}

impl FaceQualityCheck {
    /// Value on the wire.
    pub fn value(self) -> &'static str {
        match self {
            Self::Yes => "Y",
            Self::No => "N",
        }
    }
}

/// Parameters of AddFaceRecord other than the photo.
#[derive(Debug, Clone, Copy)]
pub struct FormFields<'a> {
    /// `FaceGroupCode`
    pub group: &'a FaceGroupCode,
    /// `MerchantUserId`
    pub user: &'a MerchantUserId,
    /// `FaceQualityCheck`; not sent if `None`.
    pub quality_check: Option<FaceQualityCheck>,
}

/// A body that is ready to sign and send. Its `Debug` shows nothing of the photo.
#[derive(Clone)]
pub struct Payload {
    pub(super) body: Bytes,
    pub(super) sha256: String,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.body.len())
    }
}

impl Payload {
    /// Body with the photo itself, as `FacePicture`.
    pub fn with_picture(fields: FormFields<'_>, picture: &[u8]) -> Self {
        // 4/3 for Base64, plus 1/8 as room for one three-byte character in sixteen: most photos need no second
        // allocation.
        let estimate = picture.len() * 3 / 2 + 512;
        Self::new(fields, estimate, |form| {
            form.extend_from_slice(b"FacePicture=");
            push_base64(form, picture);
        })
    }

    /// Body with a link to the photo, as `FacePictureUrl`.
    pub fn with_url(fields: FormFields<'_>, url: &PhotoUrl) -> Self {
        Self::with_text(fields, "FacePictureUrl=", &url.0)
    }

    /// Body with the address of an uploaded file, as `FacePictureFile`.
    pub fn with_file(fields: FormFields<'_>, file: &ObjectUrl) -> Self {
        Self::with_text(fields, "FacePictureFile=", &file.0)
    }

    fn with_text(fields: FormFields<'_>, name: &str, text: &str) -> Self {
        Self::new(fields, text.len() * 3 + 512, |form| {
            form.extend_from_slice(name.as_bytes());
            push_text(form, text);
        })
    }

    /// Bytes of the body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// SHA-256 of the body in hexadecimal, which the signature covers.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Parameters are sorted by name, as in the official SDKs.
    fn new(fields: FormFields<'_>, capacity: usize, picture: impl FnOnce(&mut Vec<u8>)) -> Self {
        let FormFields { group, user, quality_check } = fields;
        let mut form = buffer::get(capacity);
        form.extend_from_slice(b"FaceGroupCode=");
        push_text(&mut form, group.as_str());
        form.push(b'&');
        picture(&mut form);
        if let Some(check) = quality_check {
            form.extend_from_slice(b"&FaceQualityCheck=");
            form.extend_from_slice(check.value().as_bytes());
        }
        form.extend_from_slice(b"&MerchantUserId=");
        push_text(&mut form, user.as_str());
        form.extend_from_slice(b"&ProductCode=FACE_ENROLL");
        let sha256 = sha256_hex(&form);
        Self { body: buffer::into_bytes(form), sha256 }
    }
}

fn push_text(form: &mut Vec<u8>, text: &str) {
    form.extend(utf8_percent_encode(text, UNRESERVED).flat_map(str::bytes));
}

/// Two Base64 characters as they stand in a form, padded to eight bytes, and their length, for each 12 bits of a photo.
static PAIRS: LazyLock<Vec<([u8; 8], u8)>> = LazyLock::new(|| {
    let pair = |bits: u32| {
        let base64 = STANDARD.encode(&(bits << 12).to_be_bytes()[1..]);
        let encoded: String = utf8_percent_encode(&base64[..2], UNRESERVED).collect();
        let mut text = [0; 8];
        text[..encoded.len()].copy_from_slice(encoded.as_bytes());
        (text, encoded.len() as u8)
    };
    (0..4096).map(pair).collect()
});

/// One look-up for 12 bits instead of Base64 first and percent-encoding second: that took 8 % more processor time of a
/// whole run (`benches/pipeline`).
fn push_base64(form: &mut Vec<u8>, bytes: &[u8]) {
    let pairs: &[([u8; 8], u8); 4096] = PAIRS.as_slice().try_into().expect("there is one for each 12 bits");
    let (threes, rest) = bytes.as_chunks::<3>();
    // Eight bytes are written for each pair, of which two to six count.
    let mut buffer = [0; BLOCK * 12 + 8];
    for block in threes.chunks(BLOCK) {
        let mut at = 0;
        for &[a, b, c] in block {
            let bits = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            for (text, length) in [&pairs[bits >> 12], &pairs[bits & 0xFFF]] {
                buffer[at..at + 8].copy_from_slice(text);
                at += usize::from(*length);
            }
        }
        form.extend_from_slice(&buffer[..at]);
    }
    push_text(form, &STANDARD.encode(rest));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids() -> (FaceGroupCode, MerchantUserId) {
        (FaceGroupCode::parse("sgl 0001/uc").unwrap(), MerchantUserId::parse("张三 é~*-_.!'()&=%").unwrap())
    }

    #[test]
    fn body_matches_official_vector() {
        let (group, user) = (FaceGroupCode::parse("sgl0001uc").unwrap(), MerchantUserId::parse("u1").unwrap());
        let payload = Payload::with_picture(FormFields { group: &group, user: &user, quality_check: None }, b"hello");
        assert_eq!(
            payload.body(),
            "FaceGroupCode=sgl0001uc&FacePicture=aGVsbG8%3D&MerchantUserId=u1&ProductCode=FACE_ENROLL"
        );
        assert_eq!(payload.sha256, "e2b4766a27a17e9fe20be78ae8cacf5285e0573f69659ad1c1f589be26737c8a");
    }

    #[test]
    fn quality_check_is_sent_as_by_the_official_sdk() {
        let vectors: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../tests/vectors/min_vectors.json")).unwrap();
        let body = vectors.iter().filter_map(|vector| vector["body"].as_str());
        let theirs = body.filter(|body| body.contains("FaceQualityCheck")).collect::<Vec<_>>();
        let [theirs] = theirs[..] else { panic!("{theirs:?}") };
        // Their picture is no Base64, so compare what is around it.
        let (before, after) = theirs.split_once("FacePicture=").unwrap();
        let (_, after) = after.split_once('&').unwrap();
        let (group, user) = (FaceGroupCode::parse("sgl0001uc").unwrap(), MerchantUserId::parse("张三 é~*-_.!'()&=%"));
        let quality_check = Some(FaceQualityCheck::No);
        let payload = Payload::with_picture(FormFields { group: &group, user: &user.unwrap(), quality_check }, b"");
        // A space may be written either way in a form.
        let ours = str::from_utf8(payload.body()).unwrap().replace("%20", "+");
        assert_eq!(ours, format!("{before}FacePicture=&{after}"));
    }

    #[test]
    fn form_round_trips_url_and_ids() {
        let (group, user) = ids();
        let url = "https://b.example/张 三.jpg?Expires=1&Signature=a%2Bb+c";
        let fields = FormFields { group: &group, user: &user, quality_check: None };
        let payload = Payload::with_url(fields, &PhotoUrl(url.into()));
        let fields: Vec<_> = form_urlencoded::parse(payload.body()).into_owned().collect();
        let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(field("FacePictureUrl"), Some(url));
        assert_eq!(field("FaceGroupCode"), Some(group.as_str()));
        assert_eq!(field("MerchantUserId"), Some(user.as_str()));
        assert_eq!(fields.len(), 4);
    }

    #[test]
    fn debug_output_hides_the_photo() {
        let (group, user) = ids();
        let fields = FormFields { group: &group, user: &user, quality_check: None };
        assert_eq!(format!("{:?}", Payload::with_picture(fields, b"face")).find("ZmFjZQ"), None);
    }

    proptest! {
        #[test]
        fn block_encoding_matches_base64_and_form(bytes in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            let (group, user) = ids();
            let payload = Payload::with_picture(FormFields { group: &group, user: &user, quality_check: None }, &bytes);
            let base64 = STANDARD.encode(&bytes);
            let expected = format!(
                "FaceGroupCode={}&FacePicture={}&MerchantUserId={}&ProductCode=FACE_ENROLL",
                utf8_percent_encode(group.as_str(), UNRESERVED),
                utf8_percent_encode(&base64, UNRESERVED),
                utf8_percent_encode(user.as_str(), UNRESERVED),
            );
            prop_assert_eq!(payload.body(), &expected);
        }
    }
}
