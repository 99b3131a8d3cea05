//! Buckets of the sandbox: the official SDK on them, our signer against the official one, and what is refused.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use face_enroll::{
    api::{
        AccessKey,
        oss::{ObjectRequest, SigningScope, encode_key, encode_query, presigned_query, signed_headers},
    },
    sandbox::{Credentials, Sandbox, Settings},
};
use jiff::{SignedDuration, Timestamp};

use super::client::{Response, exchange};
use crate::support::{ask_sdk, python_with_sdk, skip};

const BUCKET: &str = "faces";

async fn sandbox(settings: Settings) -> Sandbox {
    Sandbox::start(Settings { buckets: [(BUCKET.to_owned(), None)].into(), ..settings }).await.unwrap()
}

/// The Python interpreter, if it has the OSS SDK.
fn python_with_oss_sdk() -> Option<String> {
    let python = python_with_sdk()?;
    let mut probe = Command::new(&python);
    probe.args(["-c", "import alibabacloud_oss_v2"]).stdout(Stdio::null()).stderr(Stdio::null());
    let found = probe.status().is_ok_and(|status| status.success());
    if !found {
        skip("alibabacloud-oss-v2 beside the official SDK");
    }
    found.then_some(python)
}

#[tokio::test]
async fn official_oss_sdk_reads_writes_and_lists_a_bucket() {
    let Some(python) = python_with_oss_sdk() else { return };
    for (style, token) in [("path", None), ("host", None), ("path", Some("planted+token/=="))] {
        let credentials = Credentials { security_token: token.map(str::to_owned), ..Credentials::default() };
        let sandbox = sandbox(Settings { credentials, ..Settings::default() }).await;
        let output = tokio::process::Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/buckets_with_official_sdk.py"))
            .args([&sandbox.endpoint(), &sandbox.access_key_id(), &sandbox.access_key_secret(), BUCKET, style])
            .args(token)
            .output()
            .await
            .unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{style}: {stdout}\n{stderr}");
        assert!(stdout.trim_end().ends_with(" passed, 0 failed"), "{stdout}");
    }
}

#[test]
fn oss_signatures_match_official_sdk() {
    let Some(python) = python_with_oss_sdk() else { return };
    let mut random = fastrand::Rng::with_seed(7);
    let alphabet: Vec<char> = "abzAZ019-_.~ /%+&=?#:;,@!$'()*\"<>[]\\^`{|}张é🙂".chars().collect();
    let mut text = |longest: usize| -> String {
        let length = random.usize(1..=longest);
        (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
    };
    let mut cases = Vec::new();
    for n in 0..200 {
        let key = text(20);
        let value = text(10);
        let expires = (n % 2 == 1).then_some(n);
        // A header value has no spaces at its ends.
        let token = (n % 3 == 0).then(|| format!("t{}t", text(30)));
        cases.push(serde_json::json!({"method": "GET", "bucket": BUCKET, "region": "cn-hongkong",
            "at": "2026-11-23T04:05:06Z", "key_id": "LTAI5tPLANTEDKEY0001", "secret": text(30), "key": key,
            "query": {"prefix": value, "list-type": "2"}, "token": token, "expires": expires}));
    }
    let theirs = ask_sdk(&python, "oss_signing_with_official_sdk.py", &cases);
    for (case, line) in cases.iter().zip(&theirs) {
        let signed: serde_json::Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| case[name].as_str().unwrap();
        let token = case["token"].as_str().map(|token| token.to_owned().into());
        let key = AccessKey::new(field("key_id").to_owned(), field("secret").to_owned().into(), token);
        let query = [("prefix", case["query"]["prefix"].as_str().unwrap()), ("list-type", "2")];
        let request = ObjectRequest { method: "GET", bucket: BUCKET, key: field("key"), query: &query };
        let scope = SigningScope { region: "cn-hongkong", at: field("at").parse().unwrap() };
        match case["expires"].as_u64() {
            None => {
                let headers = signed_headers(&request, scope, &key);
                let ours = &headers.iter().find(|(name, _)| *name == "authorization").unwrap().1;
                assert_eq!(ours, signed["authorization"].as_str().unwrap(), "{case}");
            }
            Some(expires) => {
                let ours = presigned_query(&request, scope, &key, Duration::from_secs(expires));
                let (path, theirs) = signed["url"].as_str().unwrap().split_once('?').unwrap();
                assert!(path.ends_with(&format!(".aliyuncs.com/{}", encode_key(field("key")))), "{path}");
                let sorted = |query: &str| {
                    let mut pairs: Vec<String> = query.split('&').map(str::to_owned).collect();
                    pairs.sort();
                    pairs
                };
                assert_eq!(sorted(&ours), sorted(theirs), "{case}");
            }
        }
    }
}

/// A GET of `key` with these headers.
async fn get(sandbox: &Sandbox, path: &str, headers: &[(&'static str, String)]) -> Response {
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", sandbox.address());
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    exchange(sandbox.address(), format!("{head}\r\n").as_bytes()).await.unwrap()
}

fn error(response: &Response) -> (u16, String) {
    let xml = String::from_utf8(response.body.clone()).unwrap();
    let code = xml.split("<Code>").nth(1).and_then(|rest| rest.split('<').next());
    (response.status, code.unwrap_or_default().to_owned())
}

#[tokio::test]
async fn invalid_signatures_are_refused() {
    let sandbox = sandbox(Settings::default()).await;
    sandbox.put_object(BUCKET, "a.jpg", b"photo".to_vec(), None);
    sandbox.put_object(BUCKET, "cold.jpg", b"photo".to_vec(), Some("Archive"));
    let key = AccessKey::new(sandbox.access_key_id(), sandbox.access_key_secret().into(), None);
    let request = |key| ObjectRequest { method: "GET", bucket: BUCKET, key, query: &[] };
    let now = Timestamp::now();
    let scope = |at| SigningScope { region: "cn-hongkong", at };
    let signed = |key_of: &AccessKey, at| signed_headers(&request("a.jpg"), scope(at), key_of);
    let path = format!("/{BUCKET}/a.jpg");
    assert_eq!(get(&sandbox, &path, &signed(&key, now)).await.body, b"photo");
    for (ahead, status) in [(14, 200), (16, 403), (-14, 200), (-16, 403)] {
        let at = now.checked_add(SignedDuration::from_mins(ahead)).unwrap();
        assert_eq!(get(&sandbox, &path, &signed(&key, at)).await.status, status, "{ahead} minutes");
    }
    let skewed = now.checked_add(SignedDuration::from_hours(1)).unwrap();
    let with_token = AccessKey::new(key.id().to_owned(), sandbox.access_key_secret().into(), Some("t".into()));
    let with = |secret: &str, id: &str| AccessKey::new(id.to_owned(), secret.to_owned().into(), None);
    for (headers, expected) in [
        (signed(&key, skewed), (403, "RequestTimeTooSkewed")),
        (signed(&with("wrong", key.id()), now), (403, "SignatureDoesNotMatch")),
        (signed(&with("x", "LTAI5tSTRANGER"), now), (403, "InvalidAccessKeyId")),
        (signed(&with_token, now), (403, "InvalidSecurityToken")),
        (Vec::new(), (403, "AccessDenied")),
        (vec![("authorization", "OSS id:signature".to_owned())], (400, "InvalidArgument")),
    ] {
        let response = get(&sandbox, &path, &headers).await;
        assert_eq!(error(&response), (expected.0, expected.1.to_owned()), "{headers:?}");
    }
    let other_path = format!("/{BUCKET}/b.jpg");
    assert_eq!(error(&get(&sandbox, &other_path, &signed(&key, now)).await).1, "SignatureDoesNotMatch");
    let cold = signed_headers(&request("cold.jpg"), scope(now), &key);
    assert_eq!(error(&get(&sandbox, &format!("/{BUCKET}/cold.jpg"), &cold).await).1, "InvalidObjectState");

    let link = |at: Timestamp, seconds| {
        let query = presigned_query(&request("a.jpg"), scope(at), &key, Duration::from_secs(seconds));
        format!("{path}?{query}")
    };
    let ago = |minutes| now.checked_sub(SignedDuration::from_mins(minutes)).unwrap();
    assert_eq!(get(&sandbox, &link(now, 900), &[]).await.status, 200);
    assert_eq!(get(&sandbox, &link(ago(60), 7_200), &[]).await.status, 200, "its life counts, not its age");
    for bad in [
        link(ago(16), 900),
        link(now, 0),
        link(now, 604_801),
        link(skewed, 900),
        link(now, 900).replace("x-oss-expires=900", "x-oss-expires=901"),
        link(now, 900).replace("a.jpg", "cold.jpg"),
    ] {
        assert_eq!(get(&sandbox, &bad, &[]).await.status, 403, "{bad}");
    }
    let query = encode_query(&[("list-type", "2")]);
    let wrong_bucket = ObjectRequest { method: "GET", bucket: "other", key: "", query: &[("list-type", "2")] };
    let headers = signed_headers(&wrong_bucket, scope(now), &key);
    assert_eq!(error(&get(&sandbox, &format!("/other/?{query}"), &headers).await), (404, "NoSuchBucket".to_owned()));
}
