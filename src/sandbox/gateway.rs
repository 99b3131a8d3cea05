//! Who calls, and whether it is allowed to speak: everything that the gateway settles before the service sees a call.
//!
//! In this order: the key, its token, the date, the signature, the nonce, the API. A nonce is spent only by a call whose
//! signature fits, so that nobody can spend another's.

use hyper::{HeaderMap, Method, Uri};

use super::{
    Action, Credentials,
    answer::Refusal,
    clock::Clock,
    form::missing,
    nonces::Nonces,
    signature::{Authorization, Request, header},
};

/// A request that was read to its end.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: bytes::Bytes,
}

impl Call {
    /// A header as sent, for checks and for the journal.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        header(&self.headers, name).map(std::borrow::Cow::into_owned)
    }

    pub(super) fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// The encoded parameters, from where this action reads them.
    pub(super) fn encoded_params(&self, action: Action) -> &[u8] {
        if !action.reads_form() {
            return self.query().as_bytes();
        }
        let kind = self.header("content-type").unwrap_or_default();
        let is_form = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded");
        if is_form { &self.body } else { &[] }
    }

    /// Is it from who it says, untouched and of now?
    pub(super) fn authenticate(&self, credentials: &Credentials, clock: &Clock) -> Result<(), Refusal> {
        let authorization = Authorization::of(&self.headers)?;
        if authorization.key != credentials.access_key_id {
            return Err(Refusal::new(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found."));
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

    /// Spends the nonce; the signature has to fit by now.
    pub(super) fn consume_nonce(&self, nonces: &mut Nonces, clock: &Clock) -> Result<(), Refusal> {
        let nonce = self.header("x-acs-signature-nonce").filter(|nonce| !nonce.is_empty());
        nonces.consume(&nonce.ok_or_else(|| missing("x-acs-signature-nonce"))?, clock.elapsed())
    }

    /// Is it a call of this API?
    pub(super) fn action(&self) -> Result<Action, Refusal> {
        let name = self.header("x-acs-action").ok_or_else(|| missing("x-acs-action"))?;
        let action = Action::named(&name).filter(|_| self.uri.path() == "/").ok_or_else(|| {
            Refusal::new(404, "InvalidApi.NotFound", "Specified api is not found, please check your url and method.")
        })?;
        if self.header("x-acs-version").as_deref() != Some(action.version()) {
            return Err(Refusal::new(400, "InvalidVersion", "Specified parameter Version is not valid."));
        }
        if self.method != Method::POST && !(self.method == Method::GET && action.allows_get()) {
            return Err(Refusal::new(400, "UnsupportedHTTPMethod", "This http method is not supported."));
        }
        Ok(action)
    }

    fn check_token(&self, credentials: &Credentials) -> Result<(), Refusal> {
        match (&credentials.security_token, self.header("x-acs-security-token")) {
            (None, None) => Ok(()),
            (Some(_), None) => {
                Err(Refusal::new(400, "MissingSecurityToken", "SecurityToken is mandatory for this action."))
            }
            (Some(token), Some(given)) if *token == given => Ok(()),
            (Some(_) | None, Some(_)) => Err(Refusal::new(
                400,
                "InvalidSecurityToken.MismatchWithAccessKey",
                "Specified SecurityToken mismatch with the AccessKey.",
            )),
        }
    }
}
