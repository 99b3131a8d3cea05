//! How fast everything but the service is: photos a second against a stub that answers at once, the quota lifted.
//!
//! ```sh
//! cargo bench --bench pipeline                    # -- --photos 5000 --rounds 5 --only face-enroll
//! ```
//!
//! The whole pipeline (durable intents and outcomes, retries, events) beside bare loops that have none of it, and beside
//! the official SDKs where they are at hand: `FACE_ENROLL_SDK_PYTHON` or python3 with `tests/sdk/requirements.txt`; node
//! with `NODE_PATH` to a folder that has `@alicloud/openapi-core`. Rounds are interleaved, figures are medians; the stub
//! shares the processors. Ours and the bare loops are counted from the start of the process to its end, the SDKs from
//! their first call on.

#![allow(unreachable_pub, missing_docs, dead_code)]

mod bare;
#[path = "../common/child.rs"]
mod child;
#[path = "../common/ours.rs"]
mod ours;
#[path = "../common/photos.rs"]
mod photos;
#[path = "../common/stub.rs"]
mod stub;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
};

use bare::Task;
use child::{Usage, measure, median};
use ours::{GROUP, KEY, SECRET};
use stub::Stub;

const IN_FLIGHT: usize = 64;
/// Of each photo.
const BYTES: usize = 80_000;
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/pipeline/");

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Ours,
    Reqwest,
    /// With the photo's digest, which an export has to name.
    Hashing,
    Hyper,
    OursTls,
    ReqwestTls,
    Node,
    Python,
}

const CLIENTS: [Client; 8] = {
    use Client::{Hashing, Hyper, Node, Ours, OursTls, Python, Reqwest, ReqwestTls};
    [Ours, Reqwest, Hashing, Hyper, OursTls, ReqwestTls, Node, Python]
};

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "face-enroll run",
            Self::Reqwest => "bare loop, reqwest",
            Self::Hashing => "bare loop, reqwest, and the photo's SHA-256",
            Self::Hyper => "bare loop, hyper",
            Self::OursTls => "face-enroll run, TLS",
            Self::ReqwestTls => "bare loop, reqwest, TLS",
            Self::Node => "official Node core, 32 in flight",
            Self::Python => "official Python SDK, 32 threads",
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::OursTls | Self::ReqwestTls)
    }

    fn is_sdk(self) -> bool {
        matches!(self, Self::Node | Self::Python)
    }

    /// The SDKs are slow: a part of the set is enough for them.
    fn photos(self, all: usize) -> usize {
        match self {
            Self::Ours | Self::Reqwest | Self::Hashing | Self::Hyper | Self::OursTls | Self::ReqwestTls => all,
            Self::Node => all / 3,
            Self::Python => all / 10,
        }
    }
}

/// What everyone sends, and where to.
struct Bench {
    folder: tempfile::TempDir,
    all: usize,
    stub: Stub,
    python: String,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [kind, to, authority, folder, photos] = args.as_slice()
        && kind.starts_with("as-")
    {
        return be(kind, to, authority, folder, photos);
    }
    let number = |name: &str, default| {
        let value = args.iter().skip_while(|arg| *arg != name).nth(1);
        value.map_or(default, |value| value.parse().expect("a number"))
    };
    let (all, rounds) = (number("--photos", 5_000), number("--rounds", 5));
    let bench = Bench::new(all);
    let only: Option<&String> = args.iter().skip_while(|arg| *arg != "--only").nth(1);
    // Ours is what the others are held against.
    let is_wanted = |client: &Client| {
        matches!(client, Client::Ours | Client::OursTls)
            || only.is_none_or(|only| client.name().contains(only.as_str()))
    };
    let here: Vec<Client> = CLIENTS.into_iter().filter(|client| is_wanted(client) && bench.has(*client)).collect();
    let mut taken = vec![Vec::new(); here.len()];
    for _ in 0..rounds {
        for (client, taken) in here.iter().zip(&mut taken) {
            taken.push(bench.take(*client));
        }
    }
    println!("{all} photos of {} KB, medians of {rounds} interleaved rounds, {} processors\n", BYTES / 1_000, cores());
    println!("| client | photos/s | CPU s per 1,000 | peak MiB | ours is |\n|---|---|---|---|---|");
    let rate =
        |at: usize| median(taken[at].iter().map(|usage| here[at].photos(all) as f64 / usage.elapsed.as_secs_f64()));
    for (at, client) in here.iter().enumerate() {
        let photos = client.photos(all) as f64;
        let cpu = median(taken[at].iter().map(|usage| usage.cpu.as_secs_f64() / photos * 1e3));
        let peak = median(taken[at].iter().map(|usage| usage.peak)) as f64 / (1 << 20) as f64;
        let ours = if client.is_tls() { Client::OursTls } else { Client::Ours };
        // The ratio of each round, and of these the middle one: what disturbs a round disturbs both.
        let mine = &taken[here.iter().position(|client| *client == ours).expect("ours is always here")];
        let ratio = median(mine.iter().zip(&taken[at]).map(|(mine, other)| {
            ours.photos(all) as f64 / mine.elapsed.as_secs_f64() / (photos / other.elapsed.as_secs_f64())
        }));
        println!("| {} | {:.0} | {cpu:.2} | {peak:.0} | {ratio:.2} x |", client.name(), rate(at));
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// One of the bare loops, in a process of its own.
fn be(kind: &str, to: &str, authority: &str, folder: &str, photos: &str) {
    let to: SocketAddr = to.parse().expect("an address");
    let authority = (kind == "as-reqwest-tls").then(|| PathBuf::from(authority));
    let photos = photos.parse().expect("a number");
    let mut work = Task::new(to, authority, folder.into(), photos);
    work.hashes = kind == "as-hashing";
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    match kind {
        "as-hyper" => runtime.block_on(bare::hyper(work)),
        _ => runtime.block_on(bare::reqwest(work)),
    }
}

impl Bench {
    fn new(all: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the photos");
        photos::write(&folder.path().join("photos"), all, BYTES);
        let rows = (0..all).map(|n| format!("photos/{},{n:06}\n", photos::name(n)));
        let manifest = std::iter::once("path,merchant_user_id\n".to_owned()).chain(rows).collect::<String>();
        std::fs::write(folder.path().join("manifest.csv"), manifest).expect("the folder can be written");
        let stub = Stub::start(&folder.path().join("authority.pem"));
        let python = std::env::var("FACE_ENROLL_SDK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        Self { folder, all, stub, python }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn has(&self, client: Client) -> bool {
        let imports = |command: &mut Command| {
            let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            ended.is_ok_and(|status| status.success())
        };
        match client {
            Client::Ours | Client::Reqwest | Client::Hashing | Client::Hyper | Client::OursTls | Client::ReqwestTls => {
                true
            }
            Client::Node => imports(Command::new("node").args(["-e", "require('@alicloud/openapi-core')"])),
            Client::Python => {
                imports(Command::new(&self.python).args(["-c", "import alibabacloud_cloudauth_intl20220809"]))
            }
        }
    }

    /// One round of one client.
    fn take(&self, client: Client) -> Usage {
        let photos = client.photos(self.all);
        let to = if client.is_tls() { self.stub.tls } else { self.stub.plain };
        let mut command = match client {
            Client::Ours | Client::OursTls => self.ours(to, client.is_tls()),
            Client::Reqwest => self.bare("as-reqwest", to),
            Client::Hashing => self.bare("as-hashing", to),
            Client::ReqwestTls => self.bare("as-reqwest-tls", to),
            Client::Hyper => self.bare("as-hyper", to),
            Client::Node => self.sdk("node", "sdk.cjs", photos),
            Client::Python => self.sdk(&self.python, "sdk.py", photos),
        };
        self.stub.take_answered();
        let usage = measure(&mut command, || client.is_sdk() && self.stub.was_called());
        assert_eq!(self.stub.take_answered(), photos, "{}", client.name());
        usage
    }

    fn ours(&self, to: SocketAddr, is_tls: bool) -> Command {
        let checkpoint = self.path("c.sqlite");
        ours::remove(&checkpoint);
        let scheme = if is_tls { "https" } else { "http" };
        let mut command = ours::run(&self.path("manifest.csv"), &checkpoint, &format!("{scheme}://{to}"));
        command.args(["--qps", "100000", "--concurrency", &IN_FLIGHT.to_string()]);
        command.arg("--ca-file").arg(self.path("authority.pem"));
        command
    }

    fn bare(&self, kind: &str, to: SocketAddr) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args([kind, &to.to_string()]).arg(self.path("authority.pem")).arg(self.path("photos"));
        command.arg(self.all.to_string());
        command
    }

    fn sdk(&self, program: &str, script: &str, photos: usize) -> Command {
        let mut command = Command::new(program);
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(proxy);
        }
        command.arg(format!("{SDK}{script}")).arg(self.stub.plain.to_string()).arg(self.path("photos"));
        command.args([&photos.to_string(), "32", KEY, SECRET, GROUP]);
        command
    }
}
