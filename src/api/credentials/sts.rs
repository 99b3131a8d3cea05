//! The key of a RAM role, from STS (2015-04-01): AssumeRole, signed by another key with STS' older signature (V1,
//! HMAC-SHA1), and AssumeRoleWithOIDC, which is not signed (reference, protocol.md section 5).

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
    grant::{GrantResponse, TemporaryCredentials},
    wire::{self, Wire},
};
use crate::{
    api::{
        RawResponse,
        classify::{CodeKind, code_kind, shown},
        sign::{UNRESERVED, canonical_query},
    },
    domain::{CallFailure, ErrorCode, FailureKind, decode_text},
    secret::AccessKey,
};

const VERSION: &str = "2015-04-01";
/// How long a key is to hold where nobody says; STS' own default, and the official SDKs'.
const DURATION: u64 = 3_600;
/// The shortest that STS gives.
const SHORTEST: u64 = 900;

/// A role, as it stands in a file or in the environment.
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

/// A role that is to be assumed, and where.
pub(super) struct Role {
    arn: String,
    session: String,
    seconds: u64,
    policy: Option<String>,
    external_id: Option<String>,
    sts: Url,
}

impl Role {
    /// What a file leaves open, the environment says.
    pub(super) fn new(fields: RoleFields, environment: &Environment) -> Result<Self, String> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let or = |text: Option<String>, other: &Option<String>| given(text).or_else(|| other.clone());
        let RoleFields { arn, session, seconds, policy, external_id, sts_region, is_in_vpc } = fields;
        let arn = or(arn, &environment.role_arn).ok_or("it names no role")?;
        let begun = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let seconds = seconds.filter(|&seconds| seconds > 0).unwrap_or(DURATION);
        if seconds < SHORTEST {
            return Err(format!("it wants keys of {seconds} s: {SHORTEST} s is the shortest"));
        }
        let sts = match &environment.sts_stand_in {
            Some(stand_in) => stand_in.clone(),
            None => sts(or(sts_region, &environment.sts_region), is_in_vpc.unwrap_or(environment.sts_in_vpc))?,
        };
        Ok(Self {
            arn,
            session: or(session, &environment.role_session).unwrap_or_else(|| format!("face-enroll-{}", begun())),
            seconds,
            policy: given(policy),
            external_id: given(external_id),
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

    async fn ask(&self, query: String, wire: &Wire) -> Result<RawResponse, FetchError> {
        let mut url = self.sts.clone();
        url.set_query(Some(&query));
        wire.ask(wire::peer(&url), Method::GET, url, &[]).await
    }
}

/// `sts.aliyuncs.com`, or a region's own. Without a region there is none in a VPC, as in the official SDKs.
fn sts(region: Option<String>, is_in_vpc: bool) -> Result<Url, String> {
    let host = match region {
        None => "sts.aliyuncs.com".to_owned(),
        Some(region) if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            return Err("its STS region is none".to_owned());
        }
        Some(region) => format!("{}.{region}.aliyuncs.com", if is_in_vpc { "sts-vpc" } else { "sts" }),
    };
    Url::parse(&format!("https://{host}/")).map_err(|_| "its STS region is none".to_owned())
}

/// AssumeRole, signed by `key`.
pub(super) async fn assume(role: &Role, key: &AccessKey, wire: &Wire) -> Result<TemporaryCredentials, FetchError> {
    let from = Instant::now();
    let mut answer = role.ask(signed(role, key, Timestamp::now()), wire).await?;
    // Our clock may be wrong: then theirs is used, once.
    if let (Some(now), Some(CodeKind::WrongClock)) = (answer.server_date(), refusal(&answer).map(|(kind, ..)| kind)) {
        answer = role.ask(signed(role, key, now), wire).await?;
    }
    granted("AssumeRole", format!("RAM role {}", role.arn), &answer, from)
}

/// AssumeRoleWithOIDC. The token is read anew each time: whoever writes it renews it.
pub(super) async fn assume_with_oidc(
    role: &Role,
    provider_arn: &str,
    token_file: &str,
    wire: &Wire,
) -> Result<TemporaryCredentials, FetchError> {
    let from = Instant::now();
    let token = std::fs::read(token_file)
        .and_then(|bytes| Ok(decode_text(bytes)?))
        .map_err(|error| FetchError::Unusable(format!("the OIDC token's file {token_file} can't be read: {error}")))?;
    let mut parameters = role.parameters("AssumeRoleWithOIDC", Timestamp::now());
    parameters.extend([("OIDCProviderArn", provider_arn.to_owned()), ("OIDCToken", token.trim().to_owned())]);
    let answer = role.ask(query(&parameters), wire).await?;
    granted("AssumeRoleWithOIDC", format!("OIDC role {}", role.arn), &answer, from)
}

fn query(parameters: &[(&str, String)]) -> String {
    let pairs: Vec<(&str, &str)> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    canonical_query(&pairs)
}

/// The V1 signature: of the sorted query, with the secret and an `&` behind it.
fn signed(role: &Role, key: &AccessKey, now: Timestamp) -> String {
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

fn granted(
    action: &str,
    role: String,
    answer: &RawResponse,
    from: Instant,
) -> Result<TemporaryCredentials, FetchError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Granted {
        credentials: GrantResponse,
    }
    if let Some((kind, code, message)) = refusal(answer) {
        let message = match kind {
            // It quotes what was signed.
            CodeKind::Signature => format!("{action} for {role}: the access key secret does not belong to its id"),
            CodeKind::Success
            | CodeKind::Throttled
            | CodeKind::ServiceFault
            | CodeKind::DownloadTimeout
            | CodeKind::NonceUsed
            | CodeKind::WrongClock
            | CodeKind::Credentials
            | CodeKind::Permission
            | CodeKind::Account
            | CodeKind::Endpoint
            | CodeKind::Refused => format!("{action} for {role}: {message}"),
        };
        return Err(match kind {
            CodeKind::Throttled | CodeKind::ServiceFault | CodeKind::NonceUsed => {
                let message = format!("{code}: {message}");
                FetchError::Unavailable(CallFailure { kind: FailureKind::Service(code), message, request_id: None })
            }
            CodeKind::Success
            | CodeKind::DownloadTimeout
            | CodeKind::WrongClock
            | CodeKind::Credentials
            | CodeKind::Signature
            | CodeKind::Permission
            | CodeKind::Account
            | CodeKind::Endpoint
            | CodeKind::Refused => FetchError::Refused { code, message },
        });
    }
    let told = answer.body.as_deref().and_then(|body| serde_json::from_slice::<Granted>(body).ok());
    match told {
        Some(Granted { credentials }) if answer.status == 200 => {
            TemporaryCredentials::told(credentials, Some(role), answer, from)
        }
        Some(_) | None => Err(wire::unreadable("STS", answer.status)),
    }
}

/// What STS refuses, it gives a `Code` for.
fn refusal(answer: &RawResponse) -> Option<(CodeKind, ErrorCode, String)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Refusal {
        code: String,
        #[serde(default)]
        message: String,
    }
    let Refusal { code, message } = serde_json::from_slice(answer.body.as_deref()?).ok()?;
    (answer.status != 200).then(|| (code_kind(&code, answer.status), ErrorCode(shown(&code)), shown(&message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Alibaba Cloud's page on the V1 signature: DescribeRegions, with `testid` and `testsecret`.
    #[test]
    fn v1_signature_is_that_of_the_documented_example() {
        let query = "AccessKeyId=testid&Action=DescribeRegions&Format=XML&SignatureMethod=HMAC-SHA1\
                     &SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf&SignatureVersion=1.0\
                     &Timestamp=2016-02-23T12%3A46%3A24Z&Version=2014-05-26";
        assert_eq!(signature(query, "testsecret"), "OLeaidS1JvxuMvnyHOwuJ+uX5qY=");
    }

    #[test]
    fn sts_host_follows_region_and_network() {
        let host = |region: Option<&str>, vpc| sts(region.map(str::to_owned), vpc).map(|url| url.to_string());
        assert_eq!(host(None, false).unwrap(), "https://sts.aliyuncs.com/");
        assert_eq!(host(None, true).unwrap(), "https://sts.aliyuncs.com/");
        assert_eq!(host(Some("ap-southeast-1"), false).unwrap(), "https://sts.ap-southeast-1.aliyuncs.com/");
        assert_eq!(host(Some("ap-southeast-1"), true).unwrap(), "https://sts-vpc.ap-southeast-1.aliyuncs.com/");
        assert!(host(Some("evil.example/"), false).is_err());
    }

    #[test]
    fn sts_refusal_differs_from_outage() {
        let answer =
            |status, body: &str| RawResponse { status, body: Some(body.to_owned().into()), ..RawResponse::default() };
        let told = |status, body: &str| {
            granted("AssumeRole", "RAM role r".to_owned(), &answer(status, body), Instant::now()).unwrap_err()
        };
        let refused = told(403, r#"{"Code":"NoPermission","Message":"not you"}"#);
        assert_eq!(refused.to_string(), "refused (NoPermission): AssumeRole for RAM role r: not you");
        let refused = told(400, r#"{"Code":"SignatureDoesNotMatch","Message":"string to sign is:GET&planted"}"#);
        assert!(matches!(&refused, FetchError::Refused { .. }) && !refused.to_string().contains("planted"));
        for (status, body) in [
            (400, r#"{"Code":"Throttling.User","Message":""}"#),
            (503, r#"{"Code":"ServiceUnavailable"}"#),
            (502, "<html>"),
            (200, "{}"),
        ] {
            assert!(matches!(told(status, body), FetchError::Unavailable(_)), "{status} {body}");
        }
    }
}
