//! Credentials of a RAM role from STS (2015-04-01): AssumeRole, signed by another key with the older V1 signature
//! (HMAC-SHA1), and AssumeRoleWithOIDC, which is not signed (reference, protocol.md section 5).

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;
use reqwest::{Method, Url};
use serde::Deserialize;
use sha1::Sha1;
use tokio::time::Instant;

use super::{
    environment::Environment,
    error::FetchError,
    http::{CredentialsHttp, route_to, unreadable},
    temporary::{GrantResponse, TemporaryCredentials},
};
use crate::{
    api::{
        RawResponse,
        classify::{CodeClass, FatalClass, classify_code, sanitize},
        sign::{UNRESERVED, canonical_query},
    },
    domain::{CallFailure, ErrorCode, FailureKind, decode_text},
    secret::AccessKey,
};

const VERSION: &str = "2015-04-01";
/// Default lifetime of a key, in seconds; that of STS and the official SDKs.
const DEFAULT_DURATION_SECONDS: u64 = 3_600;
/// Shortest lifetime that STS accepts, in seconds.
const MIN_DURATION_SECONDS: u64 = 900;

/// A role as configured in a file.
#[derive(Debug, Clone, Default)]
pub(super) struct RoleFields {
    pub(super) arn: Option<String>,
    pub(super) session: Option<String>,
    pub(super) seconds: Option<u64>,
    pub(super) policy: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) sts_region: Option<String>,
    pub(super) is_in_vpc: Option<bool>,
}

/// A role to assume, and the STS endpoint.
pub(super) struct Role {
    arn: String,
    session: String,
    seconds: u64,
    policy: Option<String>,
    external_id: Option<String>,
    sts: Url,
}

impl Role {
    /// Fields that the file omits come from the environment.
    pub(super) fn new(fields: RoleFields, environment: &Environment) -> Result<Self, String> {
        let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
        let or_environment = |text: Option<String>, other: &Option<String>| non_empty(text).or_else(|| other.clone());
        let RoleFields { arn, session, seconds, policy, external_id, sts_region, is_in_vpc } = fields;
        let arn = or_environment(arn, &environment.role_arn).ok_or("no role is set")?;
        let now_seconds = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let seconds = seconds.filter(|&seconds| seconds > 0).unwrap_or(DEFAULT_DURATION_SECONDS);
        if seconds < MIN_DURATION_SECONDS {
            return Err(format!("the key lifetime is {seconds} s; STS requires at least {MIN_DURATION_SECONDS} s"));
        }
        let sts = match &environment.sts_override {
            Some(url) => url.clone(),
            None => sts_url(
                or_environment(sts_region, &environment.sts_region),
                is_in_vpc.unwrap_or(environment.sts_in_vpc),
            )?,
        };
        Ok(Self {
            arn,
            session: or_environment(session, &environment.role_session)
                .unwrap_or_else(|| format!("face-enroll-{}", now_seconds())),
            seconds,
            policy: non_empty(policy),
            external_id: non_empty(external_id),
            sts,
        })
    }

    fn parameters(&self, action: &str, now: Timestamp) -> Vec<(&'static str, String)> {
        let mut parameters = vec![
            ("Action", action.to_owned()),
            ("Format", "JSON".to_owned()),
            ("Version", VERSION.to_owned()),
            ("DurationSeconds", self.seconds.to_string()),
            ("RoleArn", self.arn.clone()),
            ("RoleSessionName", self.session.clone()),
            ("Timestamp", now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ];
        parameters.extend(self.policy.clone().map(|policy| ("Policy", policy)));
        parameters
    }

    async fn get(&self, query: String, http: &CredentialsHttp) -> Result<RawResponse, FetchError> {
        let mut url = self.sts.clone();
        url.set_query(Some(&query));
        http.send(route_to(&url), Method::GET, url, &[]).await
    }
}

/// URL of STS: `sts.aliyuncs.com`, or the region's endpoint. As in the official SDKs, a VPC endpoint needs a region.
fn sts_url(region: Option<String>, is_in_vpc: bool) -> Result<Url, String> {
    let host = match region {
        None => "sts.aliyuncs.com".to_owned(),
        Some(region) if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            return Err("invalid STS region".to_owned());
        }
        Some(region) => format!("{}.{region}.aliyuncs.com", if is_in_vpc { "sts-vpc" } else { "sts" }),
    };
    Url::parse(&format!("https://{host}/")).map_err(|_| "invalid STS region".to_owned())
}

/// AssumeRole, signed by `key`.
pub(super) async fn assume(
    role: &Role,
    key: &AccessKey,
    http: &CredentialsHttp,
) -> Result<TemporaryCredentials, FetchError> {
    let from = Instant::now();
    let mut response = role.get(signed_query(role, key, Timestamp::now()), http).await?;
    // Our clock may be wrong: retry once with the server's time.
    if let (Some(now), Some(CodeClass::WrongClock)) =
        (response.server_date(), parse_error(&response).map(|(class, ..)| class))
    {
        response = role.get(signed_query(role, key, now), http).await?;
    }
    parse_response("AssumeRole", format!("RAM role {}", role.arn), &response, from)
}

/// AssumeRoleWithOIDC. The token file is read each time, because its owner rotates the token.
pub(super) async fn assume_with_oidc(
    role: &Role,
    provider_arn: &str,
    token_file: &str,
    http: &CredentialsHttp,
) -> Result<TemporaryCredentials, FetchError> {
    let from = Instant::now();
    let token = std::fs::read(token_file)
        .and_then(|bytes| Ok(decode_text(bytes)?))
        .map_err(|error| FetchError::Unusable(format!("cannot read OIDC token file {token_file}: {error}")))?;
    let mut parameters = role.parameters("AssumeRoleWithOIDC", Timestamp::now());
    parameters.extend([("OIDCProviderArn", provider_arn.to_owned()), ("OIDCToken", token.trim().to_owned())]);
    let response = role.get(query(&parameters), http).await?;
    parse_response("AssumeRoleWithOIDC", format!("OIDC role {}", role.arn), &response, from)
}

fn query(parameters: &[(&str, String)]) -> String {
    let pairs: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    canonical_query(&pairs)
}

/// Query with its V1 signature. The HMAC key is the secret followed by `&`.
fn signed_query(role: &Role, key: &AccessKey, now: Timestamp) -> String {
    let mut parameters = role.parameters("AssumeRole", now);
    parameters.extend([
        ("AccessKeyId", key.id().to_owned()),
        ("SignatureMethod", "HMAC-SHA1".to_owned()),
        ("SignatureNonce", uuid::Uuid::new_v4().simple().to_string()),
        ("SignatureVersion", "1.0".to_owned()),
    ]);
    parameters.extend(role.external_id.clone().map(|id| ("ExternalId", id)));
    parameters.extend(key.token().map(|token| ("SecurityToken", token.to_owned())));
    let query = query(&parameters);
    let signature = signature(&query, key.secret());
    format!("{query}&Signature={}", utf8_percent_encode(&signature, UNRESERVED))
}

fn signature(query: &str, secret: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(format!("{secret}&").as_bytes()).expect("HMAC takes keys of any length");
    mac.update(format!("GET&%2F&{}", utf8_percent_encode(query, UNRESERVED)).as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn parse_response(
    action: &str,
    role: String,
    response: &RawResponse,
    from: Instant,
) -> Result<TemporaryCredentials, FetchError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct AssumeRoleResponse {
        credentials: GrantResponse,
    }
    if let Some((class, code, message)) = parse_error(response) {
        return Err(match class {
            CodeClass::Throttled | CodeClass::ServiceFault | CodeClass::NonceUsed => {
                let message = format!("{code}: {action} for {role}: {message}");
                FetchError::Unavailable(CallFailure { kind: FailureKind::Service(code), message, request_id: None })
            }
            // Drop the message, because it quotes the signed string.
            CodeClass::Fatal(FatalClass::Signature) => {
                let message = format!("{action} for {role}: the access key secret does not belong to its id");
                FetchError::Rejected { code, message }
            }
            CodeClass::Success
            | CodeClass::DownloadTimeout
            | CodeClass::WrongClock
            | CodeClass::Fatal(
                FatalClass::Credentials | FatalClass::Permission | FatalClass::Account | FatalClass::Endpoint,
            )
            | CodeClass::Refused => FetchError::Rejected { code, message: format!("{action} for {role}: {message}") },
        });
    }
    let granted = response.body.as_deref().and_then(|body| serde_json::from_slice::<AssumeRoleResponse>(body).ok());
    match granted {
        Some(AssumeRoleResponse { credentials }) if response.status == 200 => {
            TemporaryCredentials::from_response(credentials, Some(role), response, from)
        }
        Some(_) | None => Err(unreadable("STS", response.status)),
    }
}

/// Error of STS, which has a `Code`.
fn parse_error(response: &RawResponse) -> Option<(CodeClass, ErrorCode, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct ErrorResponse {
        code: String,
        #[serde(default)]
        message: String,
    }
    let ErrorResponse { code, message } = serde_json::from_slice(response.body.as_deref()?).ok()?;
    (response.status != 200)
        .then(|| (classify_code(&code, response.status), ErrorCode(sanitize(&code)), sanitize(&message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Alibaba Cloud's page on the V1 signature: DescribeRegions, with `testid` and `testsecret`.
    #[test]
    fn v1_signature_matches_the_documented_example() {
        let query = "AccessKeyId=testid&Action=DescribeRegions&Format=XML&SignatureMethod=HMAC-SHA1\
                     &SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf&SignatureVersion=1.0\
                     &Timestamp=2016-02-23T12%3A46%3A24Z&Version=2014-05-26";
        assert_eq!(signature(query, "testsecret"), "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }

    #[test]
    fn sts_host_follows_region_and_network() {
        let host = |region: Option<&str>, vpc| sts_url(region.map(str::to_owned), vpc).map(|url| url.to_string());
        assert_eq!(host(None, false).unwrap(), "https://sts.aliyuncs.com/");
        assert_eq!(host(None, true).unwrap(), "https://sts.aliyuncs.com/");
        assert_eq!(host(Some("ap-southeast-1"), false).unwrap(), "https://sts.ap-southeast-1.aliyuncs.com/");
        assert_eq!(host(Some("ap-southeast-1"), true).unwrap(), "https://sts-vpc.ap-southeast-1.aliyuncs.com/");
        assert!(host(Some("evil.example/"), false).is_err());
    }

    #[test]
    fn sts_rejection_differs_from_outage() {
        let response =
            |status, body: &str| RawResponse { status, body: Some(body.to_owned().into()), ..RawResponse::default() };
        let error = |status, body: &str| {
            parse_response("AssumeRole", "RAM role r".to_owned(), &response(status, body), Instant::now()).unwrap_err()
        };
        let rejected = error(403, r#"{"Code":"NoPermission","Message":"not you"}"#);
        assert_eq!(rejected.to_string(), "rejected (NoPermission): AssumeRole for RAM role r: not you");
        let rejected = error(400, r#"{"Code":"SignatureDoesNotMatch","Message":"string to sign is:GET&planted"}"#);
        assert!(matches!(&rejected, FetchError::Rejected { .. }) && !rejected.to_string().contains("planted"));
        for (status, body) in [
            (400, r#"{"Code":"Throttling.User","Message":""}"#),
            (503, r#"{"Code":"ServiceUnavailable"}"#),
            (502, "<html>"),
            (200, "{}"),
        ] {
            assert!(matches!(error(status, body), FetchError::Unavailable(_)), "{status} {body}");
        }
    }
}
