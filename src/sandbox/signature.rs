//! Verification of ACS3-HMAC-SHA256 from the bytes received.
//!
//! It is written from the protocol and shares no code with the client's signer: two independent readings of the document
//! reveal a mistake that one reading would hide. The caller looks up the secret by [`Authorization::key`].

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sha2::{Digest as _, Sha256};

use super::{form, response::ApiError};

const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// Everything but the unreserved characters of RFC 3986 is escaped in a query value.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The parts of a request that the signature covers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// As sent, without the `?`.
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// A parsed `Authorization` header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Authorization<'a> {
    pub(super) key: &'a str,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    pub(super) fn parse(headers: &'a HeaderMap) -> Result<Self, ApiError> {
        let value = headers.get("authorization").ok_or_else(|| incomplete("Authorization is missing"))?;
        let value = value.to_str().map_err(|_| incomplete("Authorization is not readable"))?;
        let (algorithm, rest) = value.split_once(' ').ok_or_else(|| incomplete("Authorization has no parts"))?;
        if algorithm != ALGORITHM {
            return Err(ApiError::new(400, "InvalidSignatureMethod", "Specified signature method is not valid."));
        }
        let mut parts = rest.split(',');
        let mut part = |name: &'static str| {
            let value = parts.next().and_then(|part| part.strip_prefix(name)?.strip_prefix('='));
            value.filter(|value| !value.is_empty()).ok_or_else(|| incomplete(&format!("Authorization lacks {name}")))
        };
        let authorization =
            Self { key: part("Credential")?, signed: part("SignedHeaders")?, signature: part("Signature")? };
        if parts.next().is_some() {
            return Err(incomplete("Authorization has an extra part"));
        }
        Ok(authorization)
    }

    /// Checks that the signature covers the required headers and is valid.
    pub(super) fn verify(&self, request: &Request<'_>, secret: &str) -> Result<(), ApiError> {
        let body_hash = hex::encode(Sha256::digest(request.body));
        if header(request.headers, "x-acs-content-sha256").as_deref() != Some(&body_hash) {
            return Err(mismatch("x-acs-content-sha256 is not the hash of the body that arrived"));
        }
        let text = string_to_sign(&canonical_request(request, self.signed, &body_hash)?);
        // Only lower case is accepted: the official signers write nothing else.
        let given = if self.signature.bytes().any(|b| b.is_ascii_uppercase()) {
            None
        } else {
            hex::decode(self.signature).ok()
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(text.as_bytes());
        let is_valid = given.is_some_and(|given| mac.verify_slice(&given).is_ok());
        if is_valid { Ok(()) } else { Err(mismatch(&format!("server string to sign is:{text}"))) }
    }
}

fn canonical_request(request: &Request<'_>, signed: &str, body_hash: &str) -> Result<String, ApiError> {
    let names: Vec<&str> = signed.split(';').collect();
    if !names.is_sorted_by(|a, b| a < b) || signed.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(incomplete("SignedHeaders are not lower-case names in order"));
    }
    for name in request.headers.keys().map(hyper::header::HeaderName::as_str) {
        let is_required =
            name == "host" || name.starts_with("x-acs-") || (name == "content-type" && !request.body.is_empty());
        if is_required && !names.contains(&name) {
            return Err(incomplete(&format!("{name} is not signed")));
        }
    }
    let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, canonical_query(request.query)?);
    if let Some(name) = ["host", "x-acs-date", "x-acs-signature-nonce"].into_iter().find(|name| !names.contains(name)) {
        return Err(incomplete(&format!("{name} is missing")));
    }
    for name in &names {
        let value =
            header(request.headers, name).ok_or_else(|| incomplete(&format!("{name} is signed and missing")))?;
        canonical.extend([name, ":", &value, "\n"]);
    }
    canonical.extend(["\n", signed, "\n", body_hash]);
    Ok(canonical)
}

/// Decodes the query and encodes it again, because a client that sends `+` has signed `%20`. Names are not encoded, as in
/// both official signers.
fn canonical_query(raw: &str) -> Result<String, ApiError> {
    let unreadable = || mismatch("the encoding of the query string is invalid");
    let mut pairs = Vec::new();
    for (name, value) in form::split(raw) {
        let (name, value) = (form::decode(name).ok_or_else(unreadable)?, form::decode(value).ok_or_else(unreadable)?);
        pairs.push((String::from_utf8(name.into_owned()).map_err(|_| unreadable())?, value));
    }
    pairs.sort();
    let encoded: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name}={}", percent_encode(value, ESCAPED))).collect();
    Ok(encoded.join("&"))
}

fn string_to_sign(canonical: &str) -> String {
    format!("{ALGORITHM}\n{}", hex::encode(Sha256::digest(canonical.as_bytes())))
}

/// Trimmed value of a header; repeated headers are joined by commas.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes().trim_ascii()));
    let first = values.next()?;
    Some(values.fold(first, |list, value| Cow::Owned(format!("{list},{value}"))))
}

fn incomplete(why: &str) -> ApiError {
    let message = format!("The request signature does not conform to Alibaba Cloud standards: {why}.");
    ApiError::new(400, "IncompleteSignature", message)
}

fn mismatch(why: &str) -> ApiError {
    ApiError::new(400, "SignatureDoesNotMatch", format!("Specified signature does not match our calculation. {why}"))
}

#[cfg(test)]
mod tests;
