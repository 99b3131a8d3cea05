//! The API client on a real wire: what it sends, byte for byte, and what it makes of everything that can come back.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use face_enroll::{
    api::{
        AccessKey, CanonicalRequest, Client, Credentials, Endpoint, FormFields, HttpTransport, LookupPages, Payload,
        TransportSettings, UploadTarget, authorization, canonical_query,
    },
    checkpoint::{Batch, Checkpoint, NewIntent, RunStart, SqliteStore, Store},
    domain::{
        Answer, CallError, Committed, FaceGroupCode, FailureKind, FatalError, Intent, Item, ItemId, MerchantUserId,
        Permit, PhotoSource, RunEffect, RunId, action::AddFaceRecord,
    },
    pace::{Gate, Qps, QuotaUse},
    sandbox::{Action, Sandbox, Settings as SandboxSettings},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use crate::support::{ask_sdk, python_with_sdk};

const KEY_ID: &str = "LTAI5tPLANTEDKEY0001";
const SECRET: &str = "planted-secret-4711";
const TOKEN: &str = "planted-token-0815";
const STOP: &str = "maybe sent UnreadableAnswer, stop";
const SLOW_DOWN: &str = "maybe sent UnreadableAnswer, slow down";
const ENROLLED: &str = r#"{"RequestId":"R-1","Code":"Success","Message":"ok","Result":{"Passed":"Y"}}"#;

fn group() -> FaceGroupCode {
    FaceGroupCode::parse("sgl0001uc").unwrap()
}

fn user() -> MerchantUserId {
    MerchantUserId::parse("张三 +1").unwrap()
}

/// The right to call, as a run gets it: from a gate, and from a checkpoint on disk.
async fn tokens() -> (Permit<AddFaceRecord>, Committed<Intent>) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&dir.path().join("c.sqlite"), "test").unwrap();
    store.start_run(&RunStart { id: RunId("r".into()), access_key: String::new(), rules: None, quota: None }).unwrap();
    let source = store.open_source("m", Path::new("/")).unwrap();
    let picture = PhotoSource::Path("/p".into());
    let item = Item { row: 2, group: group(), user: user(), picture, extra: Vec::new(), origin: None };
    store.ingest(&Batch { source, rows: vec![Ok(item)] }).unwrap();
    let (checkpoint, _writer) = Checkpoint::start(store).unwrap();
    let intent =
        NewIntent { item: ItemId(1), group: group(), user: user(), digest: None, sent: None, stamp: None, at_ms: 0 };
    (permit().await, checkpoint.intend(intent).await.unwrap())
}

async fn permit<A>() -> Permit<A> {
    Gate::new(Qps::new(1_000.0).unwrap(), QuotaUse::Dedicated, None, Instant::now()).permit().await.unwrap()
}

/// Limits in the proportions of the real ones, forty times as fast.
fn limits() -> TransportSettings {
    TransportSettings {
        connect: Duration::from_millis(125),
        read: Duration::from_millis(250),
        total: Duration::from_millis(500),
        ..TransportSettings::default()
    }
}

fn client(endpoint: &str) -> Client<HttpTransport> {
    let endpoint = Endpoint::custom(endpoint).unwrap();
    let key = AccessKey::new(KEY_ID.into(), SECRET.into(), Some(TOKEN.into()));
    {
        let upload = UploadTarget { endpoint: endpoint.clone(), region: None };
        Client::new(HttpTransport::new(&limits()).unwrap(), endpoint, upload, Credentials::from_static(key))
    }
}

fn payload(photo: &[u8]) -> Payload {
    Payload::with_picture(FormFields { group: &group(), user: &user(), quality_check: None }, photo)
}

async fn send(client: &Client<HttpTransport>) -> Answer {
    let (permit, intent) = tokens().await;
    client.add_face_record(permit, intent, payload(&[0xFB; 50_000])).await
}

/// A server that plays `script` on each connection, and counts the requests that it has begun to read.
struct Server {
    endpoint: String,
    requests: Arc<AtomicUsize>,
}

impl Server {
    async fn start<F, R>(script: F) -> Self
    where
        F: Fn(TcpStream, Arc<AtomicUsize>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(script(stream, Arc::clone(&counter)));
            }
        });
        Self { endpoint, requests }
    }

    /// Reads one request whole, writes this, and closes.
    async fn answering(response: impl Into<Vec<u8>>) -> Self {
        let response: Arc<Vec<u8>> = Arc::new(response.into());
        Self::start(move |mut stream, counter| {
            let response = Arc::clone(&response);
            async move {
                read_request(&mut stream, &counter).await;
                let _ = stream.write_all(&response).await;
            }
        })
        .await
    }
}

/// Head and body of one request.
async fn read_request(stream: &mut TcpStream, counter: &AtomicUsize) -> (String, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let n = stream.read(&mut chunk).await.unwrap_or(0);
        if bytes.is_empty() && n > 0 {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        bytes.extend_from_slice(&chunk[..n]);
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            if n == 0 {
                return (String::new(), Vec::new());
            }
            continue;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= end + 4 + length || n == 0 {
            return (head, bytes[end + 4..].to_vec());
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn kind(answer: &Answer) -> String {
    let effect = match &answer.run_effect {
        None => "",
        Some(RunEffect::Stop(_)) => ", stop",
        Some(RunEffect::SlowDown) => ", slow down",
    };
    let result = match &answer.result {
        Ok(_) => "enrolled".into(),
        Err(CallError::Rejected(refusal)) => format!("refused {}", refusal.code),
        Err(CallError::Throttled { .. }) => "throttled".into(),
        Err(CallError::NotExecuted(fault)) => format!("not sent {:?}", fault.kind),
        Err(CallError::MaybeExecuted(fault)) => format!("maybe sent {:?}", fault.kind),
        Err(CallError::Fatal(_)) => "fatal".into(),
    };
    result + effect
}

#[tokio::test]
async fn wire_request_matches_official_sdks() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |mut stream, counter| {
        let tell = tell.clone();
        async move {
            tell.send(read_request(&mut stream, &counter).await).unwrap();
            stream.write_all(ok(ENROLLED).as_bytes()).await.unwrap();
        }
    })
    .await;
    let client = client(&server.endpoint);
    let mut nonces = Vec::new();
    for _attempt in 0..2 {
        assert_eq!(kind(&send(&client).await), "enrolled");
        let (head, body) = told.recv().await.unwrap();
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
        let find = |name: &str| header(&head, name).unwrap_or_else(|| panic!("{name} in {head}"));
        assert_eq!(find("host"), server.endpoint.strip_prefix("http://").unwrap());
        assert_eq!(find("content-type"), "application/x-www-form-urlencoded");
        assert_eq!(find("accept"), "application/json");
        assert_eq!((find("x-acs-action"), find("x-acs-version")), ("AddFaceRecord", "2022-08-09"));
        assert_eq!((find("x-acs-accesskey-id"), find("x-acs-security-token")), (KEY_ID, TOKEN));
        assert!(find("user-agent").starts_with("face-enroll/"));
        assert_eq!(find("x-acs-content-sha256"), hex::encode(Sha256::digest(&body)));
        let age = jiff::Timestamp::now().duration_since(find("x-acs-date").parse().unwrap());
        assert!(age.as_secs().abs() <= 5, "{age}");
        let nonce = find("x-acs-signature-nonce").to_owned();
        assert!(nonce.len() == 32 && !nonces.contains(&nonce), "{nonce}");
        nonces.push(nonce);

        // The signature again, by hand.
        let sent = find("authorization");
        let names = sent.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
        let expected = "content-type;host;x-acs-accesskey-id;x-acs-action;x-acs-content-sha256;x-acs-date;\
                        x-acs-security-token;x-acs-signature-nonce;x-acs-version";
        assert_eq!(names, expected);
        let lines: String = names.split(';').map(|name| format!("{name}:{}\n", find(name))).collect();
        let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", find("x-acs-content-sha256"));
        let to_sign = format!("ACS3-HMAC-SHA256\n{}", hex::encode(Sha256::digest(canonical)));
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(to_sign.as_bytes());
        assert!(sent.ends_with(&format!("Signature={}", hex::encode(mac.finalize().into_bytes()))), "{sent}");
    }
}

#[tokio::test]
async fn closed_port_is_known_not_to_have_been_reached() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(kind(&send(&client(&endpoint)).await), "not sent ConnectFailed");
}

#[tokio::test]
async fn failure_after_first_byte_is_maybe_executed() {
    let reset_within_the_body = Server::start(|mut stream, counter| async move {
        let mut some = [0; 1_000];
        let _ = stream.read(&mut some).await;
        counter.fetch_add(1, Ordering::Relaxed);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let reset_before_the_answer = Server::start(|mut stream, counter| async move {
        read_request(&mut stream, &counter).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let end_before_the_answer = Server::answering("").await;
    let half_a_head = Server::answering("HTTP/1.1 200 OK\r\nContent-").await;
    let garbage = Server::answering("SSH-2.0-OpenSSH\r\n\r\n").await;
    let silent = Server::start(|mut stream, counter| async move {
        read_request(&mut stream, &counter).await;
        std::future::pending::<()>().await;
    })
    .await;
    let stalled_body = Server::start(|mut stream, counter| async move {
        read_request(&mut stream, &counter).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let cut_off_body = Server::answering(ok(ENROLLED).replace("Content-Length: ", "Content-Length: 9")).await;
    let no_content = Server::answering("HTTP/1.1 204 X\r\n\r\n").await;
    let other_protocol = "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let other_protocol = Server::answering(other_protocol).await;
    let sign_in = "<html>sign in</html>";
    let status = |status: u16| format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{sign_in}", sign_in.len());
    let (unauthorized, proxy_login) = (Server::answering(status(401)).await, Server::answering(status(407)).await);
    let too_large = Server::answering(status(413)).await;
    let endless = Server::start(|mut stream, counter| async move {
        read_request(&mut stream, &counter).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let chunk = format!("4000\r\n{}\r\n", " ".repeat(0x4000));
        while stream.write_all(chunk.as_bytes()).await.is_ok() {}
    })
    .await;
    let drip = Server::start(|mut stream, counter| async move {
        read_request(&mut stream, &counter).await;
        for byte in ok(ENROLLED).bytes() {
            if stream.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    for (name, server, expected) in [
        ("reset within the body", reset_within_the_body, "maybe sent ConnectionLost"),
        ("reset before the answer", reset_before_the_answer, "maybe sent ConnectionLost"),
        ("end before the answer", end_before_the_answer, "maybe sent ConnectionLost"),
        ("half a head", half_a_head, "maybe sent ConnectionLost"),
        ("garbage", garbage, "maybe sent ConnectionLost"),
        ("silent", silent, "maybe sent Timeout"),
        ("stalled body", stalled_body, "maybe sent UnreadableAnswer"),
        ("cut-off body", cut_off_body, "maybe sent UnreadableAnswer"),
        ("204", no_content, "maybe sent UnreadableAnswer"),
        ("101", other_protocol, "maybe sent UnreadableAnswer"),
        ("401", unauthorized, STOP),
        ("407", proxy_login, STOP),
        ("413", too_large, "maybe sent UnreadableAnswer"),
        ("endless body", endless, "maybe sent UnreadableAnswer"),
        ("a byte at a time", drip, "maybe sent Timeout"),
    ] {
        // Far longer than the limits: it only tells a hang from a failure.
        let sending = tokio::time::timeout(Duration::from_secs(60), send(&client(&server.endpoint))).await;
        let answer = sending.unwrap_or_else(|_| panic!("{name}: no end"));
        assert_eq!(kind(&answer), expected, "{name}: {answer:?}");
        assert_eq!(server.requests.load(Ordering::Relaxed), 1, "{name}: it was sent again");
        for canary in [KEY_ID, SECRET, TOKEN, "Signature=", "%2B%2F", "MerchantUserId"] {
            assert!(!format!("{answer:?}").contains(canary), "{name}: {canary} in {answer:?}");
        }
    }
}

/// What has not been acknowledged for so long is not delivered any more, though the time for an answer is not up.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn connection_that_acknowledges_nothing_is_broken_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Little room, and nobody reads: the window closes within the request.
    socket2::SockRef::from(&listener).set_recv_buffer_size(4_096).unwrap();
    let limits = TransportSettings {
        unacknowledged: Duration::from_millis(300),
        read: Duration::from_secs(3_600),
        total: Duration::from_secs(3_600),
        total_cap: Duration::from_secs(3_600),
        ..limits()
    };
    let endpoint = Endpoint::custom(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let key = AccessKey::new(KEY_ID.into(), SECRET.into(), None);
    let upload = UploadTarget { endpoint: endpoint.clone(), region: None };
    let client = Client::new(HttpTransport::new(&limits).unwrap(), endpoint, upload, Credentials::from_static(key));
    let (permit, intent) = tokens().await;
    let photo = vec![0xFB; 4_000_000];
    let sending = client.add_face_record(permit, intent, payload(&photo));
    let (answer, accepted) = tokio::join!(tokio::time::timeout(Duration::from_secs(60), sending), listener.accept());
    let answer = answer.expect("nothing but the kernel gives up within an hour");
    assert!(kind(&answer).starts_with("maybe sent"), "{answer:?}");
    let mut received = Vec::new();
    let end = accepted.unwrap().0.read_to_end(&mut received).await;
    assert!(end.is_err(), "an end as if all had been sent");
    assert!(received.len() < photo.len() / 2, "{} bytes", received.len());
}

#[tokio::test]
async fn closed_idle_connection_causes_no_hidden_resend() {
    // Answers one request on each connection, and closes it when the second one has been read.
    let server = Server::start(|mut stream, counter| async move {
        read_request(&mut stream, &counter).await;
        stream.write_all(ok(ENROLLED).as_bytes()).await.unwrap();
        read_request(&mut stream, &counter).await;
    })
    .await;
    let client = client(&server.endpoint);
    assert_eq!(kind(&send(&client).await), "enrolled");
    assert_eq!(kind(&send(&client).await), "maybe sent ConnectionLost");
    assert_eq!(server.requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn redirect_is_never_followed() {
    let elsewhere = Server::answering(ok(ENROLLED)).await;
    for (status, expected) in [(301, STOP), (302, SLOW_DOWN), (307, STOP), (308, STOP)] {
        let response = format!("HTTP/1.1 {status} X\r\nLocation: {}/\r\nContent-Length: 0\r\n\r\n", elsewhere.endpoint);
        let server = Server::answering(response).await;
        assert_eq!(kind(&send(&client(&server.endpoint)).await), expected, "{status}");
    }
    assert_eq!(elsewhere.requests.load(Ordering::Relaxed), 0, "a photo went elsewhere");
}

#[tokio::test]
async fn retry_after_comes_with_any_verdict() {
    let body = r#"{"RequestId":"R","Code":"Throttling.Api","Message":"m"}"#;
    let response = format!("HTTP/1.1 403 X\r\nx-acs-retry-after: 1500\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = send(&client(&Server::answering(response).await.endpoint)).await;
    assert_eq!((kind(&answer).as_str(), answer.retry_after), ("throttled", Some(Duration::from_millis(1_500))));
}

#[tokio::test]
async fn wrong_clock_is_corrected_from_the_services_own() {
    let credentials = face_enroll::sandbox::Credentials {
        access_key_id: KEY_ID.into(),
        access_key_secret: SECRET.into(),
        security_token: Some(TOKEN.into()),
    };
    for (hours, first, second) in [(2, "not sent ClockCorrected", "refused UnqualifiedPhoto"), (-30, "fatal", "fatal")]
    {
        let clock_offset = jiff::SignedDuration::from_hours(hours);
        let settings = SandboxSettings { clock_offset, credentials: credentials.clone(), ..SandboxSettings::default() };
        let sandbox = Sandbox::start(settings).await.unwrap();
        let client = client(&sandbox.endpoint());
        assert_eq!(kind(&send(&client).await), first);
        let answer = send(&client).await;
        assert_eq!(kind(&answer), second, "what we send is no JPEG");
        if let Err(CallError::Fatal(fatal)) = answer.result {
            assert!(matches!(fatal, FatalError::Clock { .. }), "{fatal:?}");
        }
    }
}

#[tokio::test]
async fn question_about_one_id_finds_that_id_alone() {
    let credentials = face_enroll::sandbox::Credentials {
        access_key_id: KEY_ID.into(),
        access_key_secret: SECRET.into(),
        security_token: Some(TOKEN.into()),
    };
    let sandbox = Sandbox::start(SandboxSettings { credentials, ..SandboxSettings::default() }).await.unwrap();
    let client = client(&sandbox.endpoint());
    let ask = async || {
        let page = client.query_face_record(permit().await, (&group(), &user()), 1).await.unwrap();
        LookupPages::default().add(page).unwrap()
    };
    assert_eq!(ask().await, []);
    let now = jiff::Timestamp::now();
    sandbox.insert_record(group().as_str(), "张三", now).unwrap();
    assert_eq!(ask().await, []);
    let id = sandbox.insert_record(group().as_str(), user().as_str(), now).unwrap();
    assert_eq!(ask().await.iter().map(|record| record.id).collect::<Vec<_>>(), [id]);
    assert_eq!(
        sandbox
            .journal()
            .iter()
            .filter(|arrival| arrival.action.as_deref() == Some(Action::QueryFaceRecord.name()))
            .count(),
        3
    );
}

#[tokio::test]
async fn server_that_nobody_vouches_for_gets_nothing() {
    // A plain port that is spoken to in TLS: no certificate at all, let alone a good one.
    let server = Server::answering(ok(ENROLLED)).await;
    let https = server.endpoint.replace("http://", "https://");
    let answer = send(&client(&https)).await;
    let Err(CallError::NotExecuted(fault)) = &answer.result else { panic!("{answer:?}") };
    assert!(matches!(fault.kind, FailureKind::ConnectFailed | FailureKind::CertificateRefused), "{fault:?}");
}

/// Random requests, signed by us and by the official SDK's own function.
#[test]
fn official_sdk_signs_what_we_sign() {
    let Some(python) = python_with_sdk() else { return };
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = |max: usize| -> String {
        let alphabet: Vec<char> = "aZ09-_.~ +/=*!'()&%$#@:;,?[]\"\\<>张é🙂".chars().collect();
        (0..random.usize(1..=max)).map(|_| random.choice(&alphabet).copied().unwrap()).collect()
    };
    let mut cases = Vec::new();
    let mut ours = Vec::new();
    for n in 0..300 {
        let query: Vec<(String, String)> = (0..n % 5).map(|k| (format!("Name{k}"), text(24))).collect();
        let pairs: Vec<(&str, &str)> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let body_sha256 = hex::encode(Sha256::digest(text(50)));
        // Header values as headers can carry them, with white space at their ends to be trimmed.
        let headers: Vec<(String, String)> = ["host", "x-acs-date", "content-type", "x-acs-z", "accept"]
            .iter()
            .map(|name| {
                ((*name).to_owned(), format!(" {} ", text(12).chars().filter(char::is_ascii).collect::<String>()))
            })
            .collect();
        let signed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (key_id, secret) = (text(20), text(40));
        let request = CanonicalRequest {
            method: "POST",
            path: "/",
            query: &canonical_query(&pairs),
            headers: &signed,
            body_sha256: &body_sha256,
        };
        ours.push(authorization(request, &key_id, &secret));
        let object = |pairs: &[(String, String)]| {
            pairs.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect::<serde_json::Map<_, _>>()
        };
        cases.push(serde_json::json!({"method": "POST", "query": object(&query), "headers": object(&headers),
            "body_sha256": body_sha256, "key_id": key_id, "secret": secret}));
    }
    let theirs = ask_sdk(&python, "signing_with_official_sdk.py", &cases);
    for ((case, ours), theirs) in cases.iter().zip(&ours).zip(&theirs) {
        assert_eq!(ours, theirs, "{case:#}");
    }
}
