//! Real proxies, for CONNECT and SOCKS5, on the way to a server behind TLS: what is used, what is named, what stops a run.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use face_enroll::sandbox::Action;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use crate::{
    support::{Archive, Ended, Enroll, Service},
    tls::{Tls, VALID},
};

/// A name that no resolver knows: only by a proxy can it be reached.
const HOST: &str = "https://cloudauth.test";
/// Every character that has a meaning in a URL.
const PASSWORD: &str = "p#a@s/s?w:o r%d";

/// How a proxy for CONNECT answers.
#[derive(Debug, Clone)]
enum Manner {
    /// It leads to this address, whatever it is asked for; with this user and password, if any.
    Leads(SocketAddr, Option<String>),
    /// With this status.
    Refuses(u16),
    /// It closes the connection.
    HangsUp,
    /// It leads there once, then refuses with 502.
    LeadsOnce(SocketAddr),
}

/// A proxy, and the lines that it was asked with.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Proxy {
    fn connect(manner: Manner) -> Self {
        Self::listen(move |mut stream, asked| {
            let manner = manner.clone();
            async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.ok()?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let nth = {
                    let mut asked = asked.lock().unwrap();
                    asked.push(head.lines().next().unwrap_or_default().to_owned());
                    asked.len()
                };
                let (leads_to, refusal) = match manner {
                    Manner::Leads(to, None) => (Some(to), 0),
                    Manner::Leads(to, Some(user)) => {
                        let given = head.lines().filter_map(|line| line.split_once(": "));
                        let expected = format!("Basic {}", STANDARD.encode(user));
                        let mut given = given.filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"));
                        if given.any(|(_, value)| value == expected) { (Some(to), 0) } else { (None, 407) }
                    }
                    Manner::Refuses(status) => (None, status),
                    Manner::HangsUp => return None,
                    Manner::LeadsOnce(to) => {
                        if nth == 1 {
                            (Some(to), 0)
                        } else {
                            (None, 502)
                        }
                    }
                };
                let Some(leads_to) = leads_to else {
                    let page = "<html>no</html>";
                    let length = page.len();
                    let answer = format!("HTTP/1.1 {refusal} No\r\ncontent-length: {length}\r\n\r\n{page}");
                    return stream.write_all(answer.as_bytes()).await.ok();
                };
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
                let mut target = TcpStream::connect(leads_to).await.ok()?;
                copy_bidirectional(&mut stream, &mut target).await.ok().map(drop)
            }
        })
    }

    /// SOCKS5 (RFC 1928, RFC 1929) that leads to one address; with this user and password, if any.
    fn socks(leads_to: SocketAddr, user: Option<(&'static str, &'static str)>) -> Self {
        async fn bytes(stream: &mut (impl AsyncRead + Unpin), count: u8) -> Option<Vec<u8>> {
            let mut bytes = vec![0; usize::from(count)];
            stream.read_exact(&mut bytes).await.ok()?;
            Some(bytes)
        }
        Self::listen(move |mut stream, asked| async move {
            let [_, methods] = bytes(&mut stream, 2).await?.try_into().ok()?;
            let methods = bytes(&mut stream, methods).await?;
            let wanted = if user.is_some() { 2 } else { 0 };
            if !methods.contains(&wanted) {
                asked.lock().unwrap().push("refused".to_owned());
                return stream.write_all(&[5, 0xFF]).await.ok();
            }
            stream.write_all(&[5, wanted]).await.ok()?;
            if let Some((user, password)) = user {
                let [_, length] = bytes(&mut stream, 2).await?.try_into().ok()?;
                let given_user = bytes(&mut stream, length).await?;
                let length = stream.read_u8().await.ok()?;
                let given_password = bytes(&mut stream, length).await?;
                let is_right = given_user == user.as_bytes() && given_password == password.as_bytes();
                stream.write_all(&[1, u8::from(!is_right)]).await.ok()?;
                if !is_right {
                    asked.lock().unwrap().push("refused".to_owned());
                    return None;
                }
            }
            let [_, _, _, kind] = bytes(&mut stream, 4).await?.try_into().ok()?;
            let host = match kind {
                3 => {
                    let length = stream.read_u8().await.ok()?;
                    String::from_utf8(bytes(&mut stream, length).await?).ok()?
                }
                1 => format!("{:?}", bytes(&mut stream, 4).await?),
                _ => format!("{:?}", bytes(&mut stream, 16).await?),
            };
            let port = stream.read_u16().await.ok()?;
            asked.lock().unwrap().push(format!("{host}:{port}"));
            stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0]).await.ok()?;
            let mut target = TcpStream::connect(leads_to).await.ok()?;
            copy_bidirectional(&mut stream, &mut target).await.ok().map(drop)
        })
    }

    fn listen<F>(serve: impl Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let hear = asked.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, hear.clone()));
            }
        });
        Self { address, asked, _runtime: runtime }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn name(&self) -> String {
        format!("the proxy {}", self.address)
    }
}

/// An address at which nobody listens.
fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn through<'a>(run: &'a mut Enroll, tls: &Tls, proxy: &str) -> &'a mut Enroll {
    run.args(["--endpoint", HOST, "--ca-file", tls.authority.to_str().unwrap()]).env("HTTPS_PROXY", proxy)
}

/// Stopped by the proxy, which is named, and nobody is the worse for it.
fn stopped_by_proxy(ended: &Ended, proxy: &str, people: u64) {
    let summary = ended.is(7, &[("pending", people), ("in_doubt", 0), ("failed", 0)]);
    let reason = summary["exit_reason"].as_str().unwrap();
    assert!(reason.contains(proxy) && reason.contains("HTTPS_PROXY"), "{summary:#}");
}

#[test]
fn proxy_is_used_except_for_this_machine() {
    let archive = Archive::of(8, 0);
    let service = Service::new();
    let tls = Tls::before(&service, "cloudauth.test", VALID);
    let proxy = Proxy::connect(Manner::Leads(tls.address, None));
    let mut run = service.run(&archive);
    through(&mut run, &tls, &format!("http://{}", proxy.address)).end().is(0, &[("enrolled", 8)]);
    service.holds_exactly(&archive);
    assert!(!proxy.asked().is_empty());
    assert!(proxy.asked().iter().all(|line| line == "CONNECT cloudauth.test:443 HTTP/1.1"), "{:?}", proxy.asked());

    let archive = Archive::of(3, 0);
    let unused = Proxy::connect(Manner::Refuses(407));
    let mut run = service.run(&archive);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        run.env(name, format!("http://{}", unused.address));
    }
    run.end().is(0, &[("enrolled", 3)]);
    assert_eq!(unused.asked(), [""; 0]);
}

#[test]
fn no_proxy_excepts_the_service() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    let tls = Tls::before(&service, "cloudauth.test", VALID);
    let proxy = Proxy::connect(Manner::Leads(tls.address, None));
    let mut run = service.run(&archive);
    run.env("NO_PROXY", "example.com, .test").args(["--give-up-after", "1s"]);
    let ended = through(&mut run, &tls, &format!("http://{}", proxy.address)).end();
    // Nor is the proxy blamed for what it has no part in.
    ended.is(10, &[("pending", 2)]);
    assert!(proxy.asked().is_empty() && !ended.stderr.contains("the proxy"), "{ended:#?}");
}

#[test]
fn proxy_password_may_be_anything_and_is_never_shown() {
    let service = Service::new();
    let tls = Tls::before(&service, "cloudauth.test", VALID);
    let archive = Archive::of(4, 0);
    let proxy = Proxy::connect(Manner::Leads(tls.address, Some(format!("someone:{PASSWORD}"))));
    let mut run = service.run(&archive);
    through(&mut run, &tls, &format!("http://someone:{PASSWORD}@{}", proxy.address)).end().is(0, &[("enrolled", 4)]);

    let archive = Archive::of(4, 0);
    let mut run = service.run(&archive);
    let ended = through(&mut run, &tls, &format!("http://someone:planted@{}", proxy.address)).arg("-vv").end();
    stopped_by_proxy(&ended, &proxy.name(), 4);
    assert!(!format!("{ended:?}").contains("planted"), "{ended:#?}");
}

#[test]
fn socks5_leads_to_the_service_with_and_without_a_password() {
    let service = Service::new();
    let tls = Tls::before(&service, "cloudauth.test", VALID);
    for user in [None, Some(("someone", PASSWORD))] {
        let archive = Archive::of(4, 0);
        let proxy = Proxy::socks(tls.address, user);
        let given = user.map(|(user, password)| format!("{user}:{password}@")).unwrap_or_default();
        let mut run = service.run(&archive);
        through(&mut run, &tls, &format!("socks5h://{given}{}", proxy.address)).end().is(0, &[("enrolled", 4)]);
        assert!(proxy.asked().iter().all(|asked| asked == "cloudauth.test:443"), "{:?}", proxy.asked());
    }
    for given in ["", "someone:planted@"] {
        let archive = Archive::of(4, 0);
        let proxy = Proxy::socks(tls.address, Some(("someone", PASSWORD)));
        let mut run = service.run(&archive);
        let ended = through(&mut run, &tls, &format!("socks5h://{given}{}", proxy.address)).end();
        stopped_by_proxy(&ended, &proxy.name(), 4);
        assert!(proxy.asked() == ["refused"] && !ended.stderr.contains("planted"), "{ended:#?}");
    }
}

#[test]
fn proxy_that_wants_a_password_stops_the_run_at_once() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    let tls = Tls::before(&service, "cloudauth.test", VALID);
    let proxy = Proxy::connect(Manner::Refuses(407));
    let mut run = service.run(&archive);
    stopped_by_proxy(&through(&mut run, &tls, &format!("http://{}", proxy.address)).end(), &proxy.name(), 4);
    assert_eq!(proxy.asked().len(), 1);
    assert_eq!(service.calls(Action::AddFaceRecord), 0);
}

#[test]
fn proxy_that_never_leads_to_the_service_stops_the_run() {
    let service = Service::new();
    let tls = Tls::before(&service, "cloudauth.test", VALID);
    let (refuses, hangs_up) = (Proxy::connect(Manner::Refuses(502)), Proxy::connect(Manner::HangsUp));
    let addresses = [
        format!("http://{}", refuses.address),
        format!("http://{}", hangs_up.address),
        format!("http://{}", nobody()),
        format!("socks5://someone:planted@{}", nobody()),
        "http://nowhere.invalid:3128".to_owned(),
    ];
    // Beside one another: each takes its 15 seconds.
    std::thread::scope(|scope| {
        for address in &addresses {
            let (service, tls) = (&service, &tls);
            scope.spawn(move || {
                let archive = Archive::of(4, 0);
                let mut run = service.run(&archive);
                run.args(["--give-up-after", "1h"]);
                let ended = through(&mut run, tls, address).end();
                let host = address.rsplit(['/', '@']).next().unwrap();
                stopped_by_proxy(&ended, &format!("the proxy {host}"), 4);
                assert!(!ended.stderr.contains("planted"), "{ended:#?}");
            });
        }
    });
}

#[test]
fn proxy_that_led_to_the_service_before_is_an_outage() {
    let archive = Archive::of(30, 0);
    // Each answer closes its connection: each call needs the proxy anew.
    let service = Service::failing(r#"{"from": 2, "fault": "reset_before"}"#);
    let tls = Tls::before(&service, "cloudauth.test", VALID);
    let proxy = Proxy::connect(Manner::LeadsOnce(tls.address));
    let mut run = service.run(&archive);
    run.args(["--give-up-after", "12s", "--concurrency", "1"]);
    let ended = through(&mut run, &tls, &format!("http://{}", proxy.address)).end();
    assert_eq!(ended.code, Some(10), "{ended:#?}");
    assert!(ended.stderr.contains(&proxy.name()), "{ended:#?}");
}

#[test]
fn unreadable_proxy_is_a_usage_error_in_every_command() {
    let archive = Archive::of(1, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 1)]);
    for (name, value) in [
        ("HTTPS_PROXY", "http://someone:12#planted"),
        ("https_proxy", "quic://someone:planted@127.0.0.1:1"),
        ("ALL_PROXY", "http://someone:planted@127.0.0.1:99999"),
    ] {
        for command in ["run", "verify", "doctor"] {
            let mut enroll = if command == "run" { service.run(&archive) } else { Enroll::new(command) };
            if command != "run" {
                enroll.args(["--endpoint", &service.sandbox.endpoint()]);
                enroll.arg("--checkpoint").arg(archive.checkpoint());
                enroll.env("ALIBABA_CLOUD_ACCESS_KEY_ID", service.sandbox.access_key_id());
                enroll.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", service.sandbox.access_key_secret());
            }
            let ended = enroll.env(name, value).end();
            assert_eq!(ended.code, Some(2), "{command} {value}: {ended:#?}");
            let said = ended.stdout + &ended.stderr;
            assert!(said.contains(&format!("invalid proxy in {name}")) && !said.contains("planted"), "{said}");
        }
    }
}
