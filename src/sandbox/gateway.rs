//! Checks of the gateway before the service sees a call.
//!
//! The order is key, token, date, signature, nonce, API. Only a call with a valid signature consumes its nonce, so that
//! nobody can consume the nonce of another caller.

use hyper::{HeaderMap, Method, Uri};

use super::{
    Action, Credentials,
    clock::Clock,
    form::missing,
    nonces::Nonces,
    response::ApiError,
    signature::{Authorization, Request, header},
};

/// A completely received request.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: bytes::Bytes,
}

impl Call {
    /// Value of a header as sent.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        header(&self.headers, name).map(std::borrow::Cow::into_owned)
    }

    pub(super) fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// Encoded parameters from the place where this action expects them.
    pub(super) fn encoded_params(&self, action: Action) -> &[u8] {
        if !action.reads_form() {
            return self.query().as_bytes();
        }
        let kind = self.header("content-type").unwrap_or_default();
        let is_form = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded");
        if is_form { &self.body } else { &[] }
    }

    /// Checks key, token, date and signature.
    pub(super) fn authenticate(&self, credentials: &Credentials, clock: &Clock) -> Result<(), ApiError> {
        let authorization = Authorization::parse(&self.headers)?;
        if authorization.key != credentials.access_key_id {
            return Err(ApiError::new(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."));
        }
        self.check_token(credentials)?;
        let date = self.header("x-acs-date").ok_or_else(|| missing("x-acs-date"))?;
        clock.check_date(&date)?;
        let request = Request {
            method: self.method.as_str(),
            path: self.uri.path(),
            query: self.query(),
            headers: &self.headers,
            body: &self.body,
        };
        authorization.verify(&request, &credentials.access_key_secret)
    }

    /// Consumes the nonce. Call this only after the signature has been verified.
    pub(super) fn consume_nonce(&self, nonces: &mut Nonces, clock: &Clock) -> Result<(), ApiError> {
        let nonce = self.header("x-acs-signature-nonce").filter(|nonce| !nonce.is_empty());
        nonces.consume(&nonce.ok_or_else(|| missing("x-acs-signature-nonce"))?, clock.elapsed())
    }

    /// Action that is called; checks path, version and method.
    pub(super) fn action(&self) -> Result<Action, ApiError> {
        let name = self.header("x-acs-action").ok_or_else(|| missing("x-acs-action"))?;
        let action = Action::from_name(&name).filter(|_| self.uri.path() == "/").ok_or_else(|| {
            ApiError::new(404, "InvalidApi.NotFound", "Specified api is not found, please check your url and method.")
        })?;
        if self.header("x-acs-version").as_deref() != Some(action.version()) {
            return Err(ApiError::new(400, "InvalidVersion", "Specified parameter Version is not valid."));
        }
        if self.method != Method::POST && !(self.method == Method::GET && action.allows_get()) {
            return Err(ApiError::new(400, "UnsupportedHTTPMethod", "This http method is not supported."));
        }
        Ok(action)
    }

    fn check_token(&self, credentials: &Credentials) -> Result<(), ApiError> {
        match (&credentials.security_token, self.header("x-acs-security-token")) {
            (None, None) => Ok(()),
            (Some(_), None) => {
                Err(ApiError::new(400, "MissingSecurityToken", "SecurityToken is mandatory for this action."))
            }
            (Some(token), Some(given)) if *token == given => Ok(()),
            (Some(_) | None, Some(_)) => Err(ApiError::new(
                400,
                "InvalidSecurityToken.MismatchWithAccessKey",
                "Specified SecurityToken mismatch with the AccessKey.",
            )),
        }
    }
}
