//! The official SDKs' chain of credentials: each place against a stand-in of whoever gives keys there, by the real binary,
//! and beside the official Python package.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use face_enroll::{
    api::Credentials,
    sandbox::{Action, Settings},
};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::{
    support::{Archive, Ended, Enroll, Service, python_with_sdk},
    tls::{Tls, VALID},
};

const ROLE: &str = "acs:ram::1234567890:role/enroll";
/// What the sandbox takes, and what the stand-ins give.
const KEY: [&str; 3] = ["STS.NTESTSTANDIN0001", "planted-secret-4711", "planted-token-0815"];

/// A request, as a stand-in heard it.
#[derive(Debug, Clone)]
struct Asked {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
}

impl Asked {
    fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// STS' older signature, worked out anew from the specification: the query sorted and encoded, then all of it again.
    fn is_signed_with(&self, secret: &str) -> bool {
        let encode = |text: &str| {
            text.bytes().fold(String::new(), |encoded, byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    encoded + &char::from(byte).to_string()
                }
                byte => encoded + &format!("%{byte:02X}"),
            })
        };
        let pairs = self.query.iter().filter(|(name, _)| *name != "Signature");
        let pairs: Vec<String> = pairs.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let text = format!("{}&{}&{}", self.method, encode("/"), encode(&pairs.join("&")));
        let mut mac = Hmac::<Sha1>::new_from_slice(format!("{secret}&").as_bytes()).unwrap();
        mac.update(text.as_bytes());
        self.parameter("Signature") == STANDARD.encode(mac.finalize().into_bytes())
    }
}

/// Somebody who gives keys: a server on a thread of its own.
struct StandIn {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl StandIn {
    fn new(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::with_clock(jiff::Timestamp::now, answer)
    }

    fn with_clock(
        clock: impl Fn() -> jiff::Timestamp + Send + 'static,
        answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let heard = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = serve(stream.unwrap(), clock(), &heard, &answer);
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(
    stream: TcpStream,
    now: jiff::Timestamp,
    heard: &Mutex<Vec<Asked>>,
    answer: impl Fn(&Asked) -> (u16, String),
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let asked = Asked { method: method.to_owned(), path: path.to_owned(), query, headers };
    heard.lock().unwrap().push(asked.clone());
    let (status, body) = answer(&asked);
    let length = body.len();
    let date = httpdate::fmt_http_date(now.into());
    let head = format!("HTTP/1.1 {status} x\r\ndate: {date}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    (&stream).write_all((head + &body).as_bytes())
}

/// A key as STS, the metadata service and a URI spell it.
fn told(token: &str, seconds: i64) -> Value {
    let ends = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap();
    json!({"Code": "Success", "AccessKeyId": KEY[0], "AccessKeySecret": KEY[1], "SecurityToken": token,
        "Expiration": ends.to_string()})
}

fn by_sts(token: &str, seconds: i64) -> (u16, String) {
    (200, json!({"RequestId": "R", "Credentials": told(token, seconds)}).to_string())
}

fn refusal(status: u16, code: &str, message: &str) -> (u16, String) {
    (status, json!({"RequestId": "R", "HostId": "h", "Code": code, "Message": message}).to_string())
}

/// A sandbox that takes the stand-ins' key alone.
fn service() -> Service {
    let [id, secret, token] = KEY.map(str::to_owned);
    let credentials =
        face_enroll::sandbox::Credentials { access_key_id: id, access_key_secret: secret, security_token: Some(token) };
    Service::with(Settings { credentials, ..Settings::default() })
}

/// With no key in the environment.
fn keyless(mut enroll: Enroll) -> Enroll {
    enroll.command().env_remove("ALIBABA_CLOUD_ACCESS_KEY_ID").env_remove("ALIBABA_CLOUD_ACCESS_KEY_SECRET");
    enroll
}

fn doctor(service: &Service) -> Enroll {
    let mut enroll = Enroll::new("doctor");
    let endpoint = service.sandbox.endpoint();
    enroll.args(["--endpoint", &endpoint, "--upload-endpoint", &endpoint, "--json", "-vv"]).env("RUST_LOG", "trace");
    enroll
}

/// The verdict on the credentials, and what was said of them. No secret is in anything that was said.
fn verdict(ended: &Ended) -> (String, String) {
    for output in [&ended.stdout, &ended.stderr] {
        assert!(!output.contains("planted") && !output.contains("Signature="), "{output}");
    }
    let lines = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<Value> = lines.filter(|line| line["check"] == "credentials").collect();
    let [check] = &found[..] else { panic!("{ended:#?}") };
    (check["verdict"].as_str().unwrap().to_owned(), check["detail"].as_str().unwrap().to_owned())
}

/// A key was found, by `origin`, and the service takes it.
fn is_taken(ended: &Ended, origin: &str) {
    let (verdict, detail) = verdict(ended);
    assert_eq!((verdict.as_str(), ended.code), ("ok", Some(0)), "{ended:#?}");
    assert!(detail.starts_with("STS.****0001, from ") && detail.contains(origin), "{detail}");
}

/// None was found, and each of these words is said.
fn is_refused(ended: &Ended, code: i32, words: &[&str]) {
    let (verdict, detail) = verdict(ended);
    assert_eq!((verdict.as_str(), ended.code), ("fail", Some(code)), "{ended:#?}");
    for word in words {
        assert!(detail.contains(word), "{word} in {detail}");
    }
}

fn write(file: &Path, text: impl AsRef<[u8]>) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, text).unwrap();
}

/// A home with a profile of the CLI that is the current one, and others.
fn home_with(profiles: Value) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let config = json!({"current": profiles[0]["name"], "profiles": profiles});
    write(&home.path().join(".aliyun/config.json"), config.to_string());
    home
}

fn ram_role(name: &str) -> Value {
    json!({"name": name, "mode": "RamRoleArn", "access_key_id": "LTAI5tTHEBANKSKEY001",
        "access_key_secret": "planted-bank-secret", "ram_role_arn": ROLE, "ram_session_name": "nightly.run@x",
        "external_id": "e*1~", "expired_seconds": 1800})
}

#[test]
fn oidc_role_gives_a_key_for_an_unsigned_question() {
    let service = service();
    let sts = StandIn::new(|_| by_sts(KEY[2], 3_600));
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    write(&token, "planted.oidc.token\n");
    let ended = doctor(&service)
        .env("FACE_ENROLL_STS_ENDPOINT", sts.url())
        .env("ALIBABA_CLOUD_ROLE_ARN", ROLE)
        .env("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1234567890:oidc-provider/ack")
        .env("ALIBABA_CLOUD_OIDC_TOKEN_FILE", &token)
        .env("HTTPS_PROXY", "http://127.0.0.1:9")
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .end();
    is_taken(&ended, &format!("OIDC role {ROLE}, by the OIDC variables of the environment"));
    let [asked] = &sts.asked()[..] else { panic!("{:#?}", sts.asked()) };
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/"));
    for (name, value) in [
        ("Action", "AssumeRoleWithOIDC"),
        ("Version", "2015-04-01"),
        ("Format", "JSON"),
        ("DurationSeconds", "3600"),
        ("RoleArn", ROLE),
        ("OIDCProviderArn", "acs:ram::1234567890:oidc-provider/ack"),
        ("OIDCToken", "planted.oidc.token"),
        ("Signature", ""),
    ] {
        assert_eq!(asked.parameter(name), value, "{name}");
    }
}

#[test]
fn ram_roles_are_assumed_and_chained() {
    let service = service();
    // The first role's key is another one than that of the second.
    let sts = StandIn::new(|asked| {
        let is_first = asked.parameter("AccessKeyId") == "LTAI5tTHEBANKSKEY001";
        let secret = if is_first { "planted-bank-secret" } else { "planted-first-secret" };
        match asked.is_signed_with(secret) {
            false => refusal(400, "SignatureDoesNotMatch", "server string to sign is:GET&%2F&planted"),
            true if is_first && asked.parameter("RoleArn") == "acs:ram::1:role/first" => {
                let mut key = told("planted-first-token", 3_600);
                key["AccessKeyId"] = "STS.NTESTFIRSTROLE01".into();
                key["AccessKeySecret"] = "planted-first-secret".into();
                (200, json!({"Credentials": key}).to_string())
            }
            true => by_sts(KEY[2], 3_600),
        }
    });
    let mut first = ram_role("first");
    first["ram_role_arn"] = "acs:ram::1:role/first".into();
    let chained =
        json!({"name": "chained", "mode": "ChainableRamRoleArn", "source_profile": "first", "ram_role_arn": ROLE});
    let mut wrong = ram_role("wrong");
    wrong["access_key_secret"] = "planted-wrong".into();
    let home = home_with(json!([ram_role("bank"), chained, first, wrong]));
    let with = |profile: &str| {
        let mut enroll = doctor(&service);
        enroll.env("FACE_ENROLL_STS_ENDPOINT", sts.url()).env("HOME", home.path());
        enroll.env("ALIBABA_CLOUD_PROFILE", profile).end()
    };
    is_taken(&with(""), &format!("RAM role {ROLE}, by profile bank of"));
    let asked = sts.asked();
    for (name, value) in [
        ("Action", "AssumeRole"),
        ("RoleSessionName", "nightly.run@x"),
        ("ExternalId", "e*1~"),
        ("DurationSeconds", "1800"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
    ] {
        assert_eq!(asked[0].parameter(name), value, "{name}");
    }
    is_taken(&with("chained"), &format!("RAM role {ROLE}, by profile chained of"));
    let asked = sts.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[2].parameter("SecurityToken"), "planted-first-token");
    is_refused(&with("wrong"), 7, &["SignatureDoesNotMatch", "does not belong to its id", "config.json"]);
}

/// Two hours behind: a key of their hour would have ended by our clock before it was given.
fn their_clock() -> jiff::Timestamp {
    jiff::Timestamp::now() - jiff::SignedDuration::from_hours(2)
}

#[test]
fn wrong_clock_costs_one_retry_and_expiry_uses_issuer_clock() {
    let clock_offset = jiff::SignedDuration::from_hours(-2);
    let [id, secret, token] = KEY.map(str::to_owned);
    let credentials =
        face_enroll::sandbox::Credentials { access_key_id: id, access_key_secret: secret, security_token: Some(token) };
    let service = Service::with(Settings { credentials, clock_offset, ..Settings::default() });
    let sts = StandIn::with_clock(their_clock, |asked| {
        let date: jiff::Timestamp = asked.parameter("Timestamp").parse().unwrap();
        match date.duration_since(their_clock()).abs() < jiff::SignedDuration::from_mins(15) {
            true => by_sts(KEY[2], 3_600 - 7_200),
            false => refusal(400, "InvalidTimeStamp.Expired", "your clock"),
        }
    });
    let home = home_with(json!([ram_role("bank")]));
    let ended = doctor(&service).env("FACE_ENROLL_STS_ENDPOINT", sts.url()).env("HOME", home.path()).end();
    is_taken(&ended, "profile bank of");
    assert_eq!(sts.asked().len(), 2);
    assert!(sts.asked().iter().all(|asked| asked.is_signed_with("planted-bank-secret")));
}

#[test]
fn sts_uses_given_certificate_authority() {
    let service = service();
    let sts = StandIn::new(|_| by_sts(KEY[2], 3_600));
    let tls = Tls::before_address(sts.address, "127.0.0.1", VALID);
    let home = home_with(json!([ram_role("bank")]));
    let with = |args: &[&str]| {
        let mut enroll = doctor(&service);
        enroll.args(args).env("FACE_ENROLL_STS_ENDPOINT", format!("https://{}", tls.address));
        enroll.env("HOME", home.path()).end()
    };
    is_refused(&with(&[]), 7, &["UnknownIssuer"]);
    assert_eq!(sts.asked().len(), 0);
    is_taken(&with(&["--ca-file", tls.authority.to_str().unwrap()]), "profile bank of");
}

/// The metadata service of an instance: with a token, and as far as it is let without one.
fn metadata(gives_token: bool, takes_token: bool, answers_without: bool) -> StandIn {
    StandIn::new(move |asked| {
        let token = asked.headers.get("x-aliyun-ecs-metadata-token").map(String::as_str);
        let is_let = match token {
            Some(token) => takes_token && token == "planted-metadata-token",
            None => answers_without,
        };
        match (asked.method.as_str(), asked.path.as_str()) {
            ("PUT", "/latest/api/token") if gives_token => {
                assert_eq!(asked.headers["x-aliyun-ecs-metadata-token-ttl-seconds"], "21600");
                (200, "planted-metadata-token".to_owned())
            }
            ("GET", "/latest/meta-data/ram/security-credentials/") if is_let => (200, "web-servers".to_owned()),
            ("GET", "/latest/meta-data/ram/security-credentials/web-servers") if is_let => {
                (200, told(KEY[2], 21_600).to_string())
            }
            (_, _) => (if is_let { 404 } else { 403 }, "<html>".to_owned()),
        }
    })
}

#[test]
fn ecs_role_is_fetched_with_and_without_token() {
    let service = service();
    let with = |metadata: &StandIn, variables: &[(&str, &str)]| {
        let mut enroll = doctor(&service);
        enroll
            .env("FACE_ENROLL_METADATA_ENDPOINT", metadata.url())
            .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "false")
            .env("HTTP_PROXY", "http://127.0.0.1:9");
        for (name, value) in variables {
            enroll.env(name, value);
        }
        enroll.end()
    };
    let origin = "ECS RAM role web-servers, by the metadata service of ECS";
    let v2 = metadata(true, true, false);
    is_taken(&with(&v2, &[("ALIBABA_CLOUD_IMDSV1_DISABLED", "true")]), origin);
    assert_eq!(v2.asked().len(), 3, "{:#?}", v2.asked());
    is_taken(&with(&v2, &[("ALIBABA_CLOUD_ECS_METADATA", "web-servers")]), origin);
    assert_eq!(v2.asked().len(), 5, "the role's name was asked for");

    let v1 = metadata(false, false, true);
    is_taken(&with(&v1, &[]), origin);
    let strict = [("ALIBABA_CLOUD_IMDSV1_DISABLED", "true")];
    is_refused(&with(&v1, &strict), 7, &["the metadata service of ECS: unreadable response (HTTP 404)"]);
    is_taken(&with(&metadata(true, false, true), &[]), origin);
    is_refused(&with(&v2, &[("ALIBABA_CLOUD_ECS_METADATA", "nobody")]), 7, &["no such RAM role"]);
    is_refused(&with(&v2, &[("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")]), 7, &["ECS: not configured"]);
}

#[test]
fn credentials_uri_and_a_program_give_keys_too() {
    let service = service();
    let giver = StandIn::new(|_| (200, told(KEY[2], 3_600).to_string()));
    let uri = format!("{}/key?of=planted", giver.url());
    let ended = doctor(&service).env("ALIBABA_CLOUD_CREDENTIALS_URI", &uri).end();
    is_taken(&ended, "by ALIBABA_CLOUD_CREDENTIALS_URI");
    assert_eq!((giver.asked()[0].path.as_str(), giver.asked()[0].parameter("of")), ("/key", "planted"));
    let ended = doctor(&service).env("ALIBABA_CLOUD_CREDENTIALS_URI", "http://keys.example/planted").end();
    is_refused(&ended, 7, &["use https://"]);

    let output = json!({"mode": "StsToken", "access_key_id": KEY[0], "access_key_secret": KEY[1], "sts_token": KEY[2]});
    let home = home_with(json!([
        {"name": "program", "mode": "External", "process_command": format!("echo '{output}'")},
        {"name": "uri", "mode": "CredentialsURI", "credentials_uri": uri},
    ]));
    for profile in ["program", "uri"] {
        let ended = doctor(&service).env("HOME", home.path()).env("ALIBABA_CLOUD_PROFILE", profile).end();
        is_taken(&ended, &format!("profile {profile} of"));
    }
}

#[test]
fn failing_provider_is_skipped_and_transient_one_is_retried() {
    let service = service();
    let sts = StandIn::new(|_| refusal(403, "NoPermission", "not you"));
    let giver = StandIn::new(|_| (200, told(KEY[2], 3_600).to_string()));
    let home = home_with(json!([ram_role("bank")]));
    let with = |sts: &str, uri: &str| {
        let mut enroll = doctor(&service);
        enroll.env("FACE_ENROLL_STS_ENDPOINT", sts).env("HOME", home.path());
        enroll.env("ALIBABA_CLOUD_CREDENTIALS_URI", uri).end()
    };
    let ended = with(&sts.url(), &giver.url());
    is_taken(&ended, "by ALIBABA_CLOUD_CREDENTIALS_URI");
    assert!(ended.stderr.contains("rejected (NoPermission)"), "{}", ended.stderr);
    let places =
        ["OIDC variables", "profile bank of", "NoPermission", "credentials.ini: not configured", "CREDENTIALS_URI"];
    is_refused(&with(&sts.url(), ""), 7, &places);
    // Nobody listens there.
    is_refused(&with("http://127.0.0.1:9", ""), 10, &["no connection to 127.0.0.1"]);
    is_refused(&with("http://192.0.2.1", ""), 7, &["FACE_ENROLL_STS_ENDPOINT is for tests"]);
}

#[test]
fn missing_or_silent_metadata_service_is_named() {
    let service = service();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    for (endpoint, word) in [("http://127.0.0.1:9", "no connection"), (silent.as_str(), "no answer in time")] {
        let ended = doctor(&service)
            .env("FACE_ENROLL_METADATA_ENDPOINT", endpoint)
            .env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "")
            .end();
        is_refused(
            &ended,
            7,
            &["the metadata service of ECS", word, "no credentials: set ALIBABA_CLOUD_ACCESS_KEY_ID"],
        );
    }
}

/// A run as the RAM role whose keys `sts` gives.
fn run(service: &Service, archive: &Archive, sts: &StandIn, args: &[&str]) -> Ended {
    let home = home_with(json!([ram_role("bank")]));
    let mut enroll = keyless(service.run(archive));
    enroll.args(args).env("HOME", home.path()).env("FACE_ENROLL_STS_ENDPOINT", sts.url()).end()
}

#[test]
fn key_is_renewed_while_a_run_goes_on() {
    let archive = Archive::of(60, 0);
    let service = service();
    let sts = StandIn::new(|_| by_sts(KEY[2], 4));
    let ended = run(&service, &archive, &sts, &["--qps", "10"]);
    ended.is(0, &[("enrolled", 60), ("calls", 60)]);
    service.holds_exactly(&archive);
    assert!(sts.asked().len() >= 2, "{}", sts.asked().len());
    assert!(ended.stderr.contains(&format!("RAM role {ROLE}, by profile bank of")), "{}", ended.stderr);
}

#[test]
fn rejected_key_is_refreshed_once() {
    let archive = Archive::of(30, 0);
    let service = service();
    let given = Mutex::new(0);
    let sts = StandIn::new(move |_| {
        let mut given = given.lock().unwrap();
        *given += 1;
        by_sts(if *given == 1 { "planted-old-token" } else { KEY[2] }, 3_600)
    });
    run(&service, &archive, &sts, &[]).is(0, &[("enrolled", 30), ("failed", 0)]);
    service.holds_exactly(&archive);
    assert_eq!(sts.asked().len(), 2);

    // One that stays wrong stops the run, after as little.
    let archive = Archive::of(30, 0);
    let sts = StandIn::new(|_| by_sts("planted-old-token", 3_600));
    let calls = service.calls(Action::AddFaceRecord);
    run(&service, &archive, &sts, &[]).is(7, &[("enrolled", 0), ("pending", 30)]);
    assert_eq!((sts.asked().len(), service.calls(Action::AddFaceRecord) - calls), (2, 1));
}

#[test]
fn sts_outage_is_waited_out_and_refusal_stops() {
    let archive = Archive::of(60, 0);
    let service = service();
    let given = Mutex::new(0);
    let sts = StandIn::new(move |_| {
        let mut given = given.lock().unwrap();
        *given += 1;
        match *given {
            1 => by_sts(KEY[2], 3),
            2..8 => refusal(503, "ServiceUnavailable", "busy"),
            _ => by_sts(KEY[2], 3_600),
        }
    });
    run(&service, &archive, &sts, &["--qps", "12"]).is(0, &[("enrolled", 60), ("failed", 0)]);
    service.holds_exactly(&archive);
    assert_eq!(sts.asked().len(), 8);

    let archive = Archive::of(60, 0);
    let given = Mutex::new(0);
    let sts = StandIn::new(move |_| {
        let mut given = given.lock().unwrap();
        *given += 1;
        if *given == 1 { by_sts(KEY[2], 3) } else { refusal(403, "NoPermission", "not you any more") }
    });
    let ended = run(&service, &archive, &sts, &["--qps", "12"]);
    let summary = ended.is(7, &[("failed", 0), ("in_doubt", 0)]);
    assert!(summary["pending"].as_u64().unwrap() > 0 && summary["enrolled"].as_u64().unwrap() > 0, "{summary:#}");
    assert!(ended.stderr.contains("NoPermission"), "{}", ended.stderr);
}

/// What is found, and where: the key's id as it may be shown, and the official package's name of the provider.
struct Case {
    variables: Vec<(&'static str, String)>,
    expected: &'static str,
}

/// The official package and ours, beside one another: the same key from the same environment and the same files, and the
/// same question to whoever gives keys.
#[tokio::test(flavor = "multi_thread")]
async fn credential_chain_matches_official_package() {
    let Some(python) = python_with_sdk() else { return };
    let giver = StandIn::new(|asked| match asked.path.as_str() {
        "/latest/api/token" => (200, "planted-metadata-token".to_owned()),
        "/latest/meta-data/ram/security-credentials/" => (200, "web-servers".to_owned()),
        "/" => by_sts(KEY[2], 3_600),
        _ => (200, told(KEY[2], 3_600).to_string()),
    });
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    write(&token, "planted.oidc.token");
    let token = token.to_str().unwrap();
    let chained =
        json!({"name": "chained", "mode": "ChainableRamRoleArn", "source_profile": "bank", "ram_role_arn": "r2"});
    let config = json!({"current": "plain", "profiles": [
        {"name": "plain", "mode": "AK", "access_key_id": "LTAI5tPLAINPROFILE01", "access_key_secret": "s"},
        {"name": "temporary", "mode": "StsToken", "access_key_id": "STS.NTEMPORARY000002", "access_key_secret": "s", "sts_token": "t"},
        ram_role("bank"), chained,
        {"name": "oidc", "mode": "OIDC", "ram_role_arn": ROLE, "oidc_provider_arn": "p", "oidc_token_file": token},
        {"name": "ecs", "mode": "EcsRamRole", "ram_role_name": "db"},
        {"name": "program", "mode": "External", "process_command": r#"echo '{"mode": "AK", "access_key_id": "LTAI5tPROGRAM0000003", "access_key_secret": "s", "expiration": "2199-01-01T00:00:00Z"}'"#},
        {"name": "half", "mode": "AK", "access_key_id": "LTAI5tHALF0000000004", "access_key_secret": ""},
    ]});
    write(&home.path().join(".aliyun/config.json"), config.to_string());
    let ini = format!(
        "[default]\ntype = access_key\naccess_key_id = LTAI5tSECTION0000005 # ours\naccess_key_secret = s;s\n\
         [half]\ntype = access_key\naccess_key_id = LTAI5tINIHALF0000006\naccess_key_secret: s\n\
         [sdk-role]\ntype = ram_role_arn\naccess_key_id = LTAI5tTHEBANKSKEY001\naccess_key_secret = s\nrole_arn = {ROLE}\nrole_session_name = x\n\
         [sdk-oidc]\ntype = oidc_role_arn\nrole_arn = {ROLE}\noidc_provider_arn = p\noidc_token_file_path = {token}\n\
         [sdk-ecs]\ntype = ecs_ram_role\nrole_name = db\n"
    );
    write(&home.path().join(".alibabacloud/credentials.ini"), ini);
    let case = |variables: &[(&'static str, &str)], expected| Case {
        variables: variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        expected,
    };
    let profile = |name: &str, expected| case(&[("ALIBABA_CLOUD_PROFILE", name)], expected);
    let no_cli = ("ALIBABA_CLOUD_CLI_PROFILE_DISABLED", "true");
    let key = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI5tENVIRONMENT007"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "s")];
    let oidc = [
        ("ALIBABA_CLOUD_ROLE_ARN", ROLE),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "p"),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", token),
    ];
    let uri = format!("{}/key", giver.url());
    let nowhere = ("HOME", "/nonexistent");
    let cases = [
        case(&key, "LTAI****T007 default/env"),
        case(&[key[0], key[1], ("ALIBABA_CLOUD_SECURITY_TOKEN", "t")], "LTAI****T007 default/env"),
        case(&[key[0], key[1], oidc[0], oidc[1], oidc[2]], "LTAI****T007 default/env"),
        case(&oidc, "STS.****0001 default/oidc_role_arn"),
        case(&oidc[..2], "LTAI****LE01 default/cli_profile/static_ak"),
        case(&[], "LTAI****LE01 default/cli_profile/static_ak"),
        profile("temporary", "STS.****0002 default/cli_profile/static_sts"),
        profile("bank", "STS.****0001 default/cli_profile/ram_role_arn/static_ak"),
        profile("chained", "STS.****0001 default/cli_profile/ram_role_arn/ram_role_arn/static_ak"),
        profile("oidc", "STS.****0001 default/cli_profile/oidc_role_arn"),
        profile("ecs", "STS.****0001 default/cli_profile/ecs_ram_role"),
        profile("program", "LTAI****0003 default/cli_profile/external"),
        profile("half", "LTAI****0006 default/profile/static_ak"),
        case(&[no_cli], "LTAI****0005 default/profile/static_ak"),
        profile("sdk-role", "STS.****0001 default/profile/ram_role_arn/static_ak"),
        profile("sdk-oidc", "STS.****0001 default/profile/oidc_role_arn"),
        profile("sdk-ecs", "STS.****0001 default/profile/ecs_ram_role"),
        profile("nobody", "STS.****0001 default/ecs_ram_role"),
        case(&[nowhere, ("ALIBABA_CLOUD_ECS_METADATA", "db")], "STS.****0001 default/ecs_ram_role"),
        case(
            &[nowhere, ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"), ("ALIBABA_CLOUD_CREDENTIALS_URI", &uri)],
            "STS.****0001 default/credential_uri",
        ),
        case(&[nowhere, ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")], "none"),
    ];
    let mut cases_of_both = Vec::new();
    for Case { mut variables, expected } in cases {
        if !variables.iter().any(|(name, _)| *name == "HOME") {
            variables.push(("HOME", home.path().to_str().unwrap().to_owned()));
        }
        let begun = giver.asked().len();
        let output = Command::new(&python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk/credentials_with_official_sdk.py"))
            .arg(giver.address.to_string())
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let theirs = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let theirs_asked = questions(&giver.asked()[begun..]);
        let begun = giver.asked().len();
        variables.push(("FACE_ENROLL_STS_ENDPOINT", giver.url()));
        variables.push(("FACE_ENROLL_METADATA_ENDPOINT", giver.url()));
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        let ours = Credentials::resolve(variable, &[]).await;
        let ours_asked = questions(&giver.asked()[begun..]);
        let (id, provider) = theirs.split_once(' ').unwrap_or((&theirs, ""));
        let masked = face_enroll::api::AccessKey::new(id.to_owned(), "s".into(), None).masked_id();
        let shown = if theirs == "none" { theirs.clone() } else { format!("{masked} {provider}") };
        assert_eq!(shown, expected, "the package: {}", String::from_utf8_lossy(&output.stderr));
        let ours = ours.map_or("none".to_owned(), |ours| ours.masked_id());
        assert_eq!(ours, expected.split(' ').next().unwrap(), "{variables:?}");
        assert_eq!(ours_asked, theirs_asked, "{expected}");
        cases_of_both.push(expected);
    }
    assert_eq!(cases_of_both.len(), 21);
}

/// Without what is of the moment. That the metadata service is asked for a token once more is of no importance.
fn questions(asked: &[Asked]) -> Vec<String> {
    let of_the_moment = ["Timestamp", "SignatureNonce", "Signature", "RoleSessionName"];
    let told = asked.iter().filter(|asked| asked.method != "PUT").map(|asked| {
        if asked.parameter("Action") == "AssumeRole" {
            let secret = match asked.parameter("AccessKeyId") {
                "LTAI5tTHEBANKSKEY001" if asked.parameter("RoleSessionName") == "x" => "s",
                "LTAI5tTHEBANKSKEY001" => "planted-bank-secret",
                _ => KEY[1],
            };
            assert!(asked.is_signed_with(secret), "{asked:#?}");
        }
        let query: Vec<_> = asked.query.iter().filter(|(name, _)| !of_the_moment.contains(&name.as_str())).collect();
        let token = asked.headers.get("x-aliyun-ecs-metadata-token");
        format!("{} {} {query:?} {token:?}", asked.method, asked.path)
    });
    told.collect()
}
