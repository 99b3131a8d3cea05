//! The key of the RAM role of an ECS instance, from its metadata service (reference, protocol.md section 5).
//!
//! It is asked with a token of its own making (v2). Where it gives none, or answers no question with one, it is asked
//! without (v1), unless that is forbidden.

use reqwest::{Method, Url};
use tokio::time::Instant;

use super::{
    environment::Environment,
    error::FetchError,
    grant::{TemporaryCredentials, successful},
    wire::{Peer, Wire, unreadable},
};
use crate::{api::RawResponse, domain::FailureKind};

const TOKEN: &str = "latest/api/token";
const ROLES: &str = "latest/meta-data/ram/security-credentials/";
/// How long a token of its is to hold (PY-CRED). One is asked for each time.
const TOKEN_SECONDS: &str = "21600";
const WHO: &str = "the metadata service";

/// See the module.
pub(super) struct Metadata {
    at: Url,
    /// None: whichever it names.
    role: Option<String>,
    may_go_without_token: bool,
}

impl Metadata {
    /// None: it is not to be asked.
    pub(super) fn new(role: Option<String>, environment: &Environment) -> Option<Self> {
        Some(Self {
            at: environment.metadata.clone()?,
            role: role.filter(|role| !role.is_empty()).or_else(|| environment.metadata_role.clone()),
            may_go_without_token: environment.metadata_v1,
        })
    }

    pub(super) async fn fetch(&self, wire: &Wire) -> Result<TemporaryCredentials, FetchError> {
        let token = match self.token(wire).await {
            Ok(token) => Some(token),
            // Nobody is there; another question would take another second to say the same.
            Err(FetchError::Unavailable(fault)) if fault.kind == FailureKind::ConnectFailed => {
                return Err(FetchError::Unavailable(fault));
            }
            Err(_) if self.may_go_without_token => None,
            Err(error) => return Err(error),
        };
        match self.fetch_with(token.as_deref(), wire).await {
            Err(why) if token.is_some() && self.may_go_without_token => {
                self.fetch_with(None, wire).await.map_err(|_| why)
            }
            fetched => fetched,
        }
    }

    async fn token(&self, wire: &Wire) -> Result<String, FetchError> {
        let ttl = [("x-aliyun-ecs-metadata-token-ttl-seconds", TOKEN_SECONDS)];
        let answer = wire.ask(Peer::Metadata, Method::PUT, self.url(TOKEN), &ttl).await?;
        text(&answer).ok_or_else(|| unreadable(WHO, answer.status))
    }

    async fn fetch_with(&self, token: Option<&str>, wire: &Wire) -> Result<TemporaryCredentials, FetchError> {
        let from = Instant::now();
        let role = match &self.role {
            Some(role) => role.clone(),
            None => {
                let answer = self.ask(ROLES, token, wire).await?;
                text(&answer).ok_or_else(|| refused(&answer))?
            }
        };
        let answer = self.ask(&format!("{ROLES}{role}"), token, wire).await?;
        let body = answer.body.as_deref().filter(|_| answer.status == 200).ok_or_else(|| refused(&answer))?;
        let told = successful(body).ok_or_else(|| unreadable(WHO, answer.status))?;
        TemporaryCredentials::told(told, Some(format!("ECS RAM role {role}")), &answer, from)
    }

    async fn ask(&self, path: &str, token: Option<&str>, wire: &Wire) -> Result<RawResponse, FetchError> {
        let token: Vec<(&str, &str)> = token.map(|token| ("x-aliyun-ecs-metadata-token", token)).into_iter().collect();
        wire.ask(Peer::Metadata, Method::GET, self.url(path), &token).await
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.at.clone();
        url.set_path(path);
        url
    }
}

/// A body of one word, if that is what came.
fn text(answer: &RawResponse) -> Option<String> {
    let body = answer.body.as_deref().filter(|_| answer.status == 200)?;
    let text = std::str::from_utf8(body).ok()?.trim();
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

fn refused(answer: &RawResponse) -> FetchError {
    match answer.status {
        404 => FetchError::Unusable(format!("{WHO} knows of no such RAM role (HTTP 404)")),
        status => unreadable(WHO, status),
    }
}
