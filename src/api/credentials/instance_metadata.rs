//! Credentials of an ECS instance's RAM role, from its metadata service (reference, protocol.md section 5).
//!
//! Queries carry a token that the service issues (v2). If it issues none, or rejects queries with it, they are repeated
//! without a token (v1), unless that is disabled.

use reqwest::{Method, Url};
use tokio::time::Instant;

use super::{
    environment::Environment,
    error::FetchError,
    http::{CredentialsHttp, Route, unreadable},
    temporary::{TemporaryCredentials, parse_success},
};
use crate::{api::RawResponse, domain::FailureKind};

const TOKEN_PATH: &str = "latest/api/token";
const ROLES_PATH: &str = "latest/meta-data/ram/security-credentials/";
/// Lifetime requested for the token, in seconds (PY-CRED). Each fetch requests a new one.
const TOKEN_SECONDS: &str = "21600";
const SERVICE: &str = "the metadata service";

/// The metadata service and the role to fetch.
pub(super) struct InstanceMetadata {
    base_url: Url,
    /// `None` for the role that the service names.
    role: Option<String>,
    allow_v1: bool,
}

impl InstanceMetadata {
    /// `None` if the metadata service is disabled.
    pub(super) fn new(role: Option<String>, environment: &Environment) -> Option<Self> {
        Some(Self {
            base_url: environment.metadata.clone()?,
            role: role.filter(|role| !role.is_empty()).or_else(|| environment.metadata_role.clone()),
            allow_v1: environment.allow_metadata_v1,
        })
    }

    pub(super) async fn fetch(&self, http: &CredentialsHttp) -> Result<TemporaryCredentials, FetchError> {
        let token = match self.token(http).await {
            Ok(token) => Some(token),
            // Nothing listens there; a second attempt would only take another second.
            Err(FetchError::Unavailable(failure)) if failure.kind == FailureKind::ConnectFailed => {
                return Err(FetchError::Unavailable(failure));
            }
            Err(_) if self.allow_v1 => None,
            Err(error) => return Err(error),
        };
        match self.fetch_with(token.as_deref(), http).await {
            Err(error) if token.is_some() && self.allow_v1 => self.fetch_with(None, http).await.map_err(|_| error),
            fetched => fetched,
        }
    }

    async fn token(&self, http: &CredentialsHttp) -> Result<String, FetchError> {
        let ttl = [("x-aliyun-ecs-metadata-token-ttl-seconds", TOKEN_SECONDS)];
        let response = http.send(Route::Metadata, Method::PUT, self.url(TOKEN_PATH), &ttl).await?;
        text(&response).ok_or_else(|| unreadable(SERVICE, response.status))
    }

    async fn fetch_with(
        &self,
        token: Option<&str>,
        http: &CredentialsHttp,
    ) -> Result<TemporaryCredentials, FetchError> {
        let from = Instant::now();
        let role = match &self.role {
            Some(role) => role.clone(),
            None => {
                let response = self.get(ROLES_PATH, token, http).await?;
                text(&response).ok_or_else(|| status_error(&response))?
            }
        };
        let response = self.get(&format!("{ROLES_PATH}{role}"), token, http).await?;
        let body =
            response.body.as_deref().filter(|_| response.status == 200).ok_or_else(|| status_error(&response))?;
        let granted = parse_success(body).ok_or_else(|| unreadable(SERVICE, response.status))?;
        TemporaryCredentials::from_response(granted, Some(format!("ECS RAM role {role}")), &response, from)
    }

    async fn get(&self, path: &str, token: Option<&str>, http: &CredentialsHttp) -> Result<RawResponse, FetchError> {
        let token: Vec<(&str, &str)> = token.map(|token| ("x-aliyun-ecs-metadata-token", token)).into_iter().collect();
        http.send(Route::Metadata, Method::GET, self.url(path), &token).await
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base_url.clone();
        url.set_path(path);
        url
    }
}

/// The body, if it is a single word.
fn text(response: &RawResponse) -> Option<String> {
    let body = response.body.as_deref().filter(|_| response.status == 200)?;
    let text = std::str::from_utf8(body).ok()?.trim();
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

fn status_error(response: &RawResponse) -> FetchError {
    match response.status {
        404 => FetchError::Unusable(format!("{SERVICE} has no such RAM role (HTTP 404)")),
        status => unreadable(SERVICE, status),
    }
}
