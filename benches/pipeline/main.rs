//! Throughput of everything but the service: photos per second against a stub that responds at once, without quota.
//!
//! ```sh
//! cargo bench --bench pipeline                    # -- --photos 5000 --rounds 5 --only face-enroll
//! ```
//!
//! It compares the whole pipeline (durable intents and outcomes, retries, events) with bare loops that have none of it, and
//! with the official SDKs if they are installed: `FACE_ENROLL_SDK_PYTHON` or python3 with `tests/sdk/requirements.txt`;
//! node with `NODE_PATH` set to a folder with `@alicloud/openapi-core`. Rounds are interleaved, figures are medians, and the
//! stub shares the processors. face-enroll and the bare loops are measured from process start to exit, the SDKs from their
//! first call.

#![allow(unreachable_pub, missing_docs, dead_code)]

mod bare;
#[path = "../common/child.rs"]
mod child;
#[path = "../common/cli.rs"]
mod cli;
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
use cli::{GROUP, KEY, SECRET};
use stub::Stub;

const IN_FLIGHT: usize = 64;
const PHOTO_BYTES: usize = 80_000;
const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/pipeline/");

/// A client to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    FaceEnroll,
    Reqwest,
    /// Also computes the photo's digest, which an export contains.
    Hashing,
    Hyper,
    FaceEnrollTls,
    ReqwestTls,
    Node,
    Python,
}

const CLIENTS: [Client; 8] = {
    use Client::{FaceEnroll, FaceEnrollTls, Hashing, Hyper, Node, Python, Reqwest, ReqwestTls};
    [FaceEnroll, Reqwest, Hashing, Hyper, FaceEnrollTls, ReqwestTls, Node, Python]
};

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::FaceEnroll => "face-enroll run",
            Self::Reqwest => "bare loop, reqwest",
            Self::Hashing => "bare loop, reqwest, with SHA-256 of the photo",
            Self::Hyper => "bare loop, hyper",
            Self::FaceEnrollTls => "face-enroll run, TLS",
            Self::ReqwestTls => "bare loop, reqwest, TLS",
            Self::Node => "official Node core, 32 in flight",
            Self::Python => "official Python SDK, 32 threads",
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::FaceEnrollTls | Self::ReqwestTls)
    }

    fn is_sdk(self) -> bool {
        matches!(self, Self::Node | Self::Python)
    }

    /// Number of photos to send; the SDKs are slow and send only a part.
    fn photos(self, all: usize) -> usize {
        match self {
            Self::FaceEnroll | Self::Reqwest | Self::Hashing | Self::Hyper | Self::FaceEnrollTls | Self::ReqwestTls => {
                all
            }
            Self::Node => all / 3,
            Self::Python => all / 10,
        }
    }
}

/// Photos and stub shared by all clients.
struct Bench {
    folder: tempfile::TempDir,
    photos: usize,
    stub: Stub,
    python: String,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [kind, to, ca_file, folder, photos] = args.as_slice()
        && kind.starts_with("as-")
    {
        return run_bare(kind, to, ca_file, folder, photos);
    }
    let number = |name: &str, default| {
        let value = args.iter().skip_while(|arg| *arg != name).nth(1);
        value.map_or(default, |value| value.parse().expect("number"))
    };
    let (all, rounds) = (number("--photos", 5_000), number("--rounds", 5));
    let bench = Bench::new(all);
    let only: Option<&String> = args.iter().skip_while(|arg| *arg != "--only").nth(1);
    // face-enroll itself always runs, as the baseline.
    let is_wanted = |client: &Client| {
        matches!(client, Client::FaceEnroll | Client::FaceEnrollTls)
            || only.is_none_or(|only| client.name().contains(only.as_str()))
    };
    let clients: Vec<Client> =
        CLIENTS.into_iter().filter(|client| is_wanted(client) && bench.is_available(*client)).collect();
    let mut usages = vec![Vec::new(); clients.len()];
    for _ in 0..rounds {
        for (client, usages) in clients.iter().zip(&mut usages) {
            usages.push(bench.measure(*client));
        }
    }
    println!(
        "{all} photos of {} KB, medians of {rounds} interleaved rounds, {} processors\n",
        PHOTO_BYTES / 1_000,
        cores()
    );
    println!("| client | photos/s | CPU s per 1,000 | peak MiB | face-enroll is |\n|---|---|---|---|---|");
    let rate =
        |at: usize| median(usages[at].iter().map(|usage| clients[at].photos(all) as f64 / usage.elapsed.as_secs_f64()));
    for (at, client) in clients.iter().enumerate() {
        let photos = client.photos(all) as f64;
        let cpu = median(usages[at].iter().map(|usage| usage.cpu.as_secs_f64() / photos * 1e3));
        let peak = median(usages[at].iter().map(|usage| usage.peak)) as f64 / (1 << 20) as f64;
        let baseline = if client.is_tls() { Client::FaceEnrollTls } else { Client::FaceEnroll };
        // Median of the ratios per round, because a disturbance affects both clients of a round.
        let baseline_usages =
            &usages[clients.iter().position(|client| *client == baseline).expect("the baseline always runs")];
        let ratio = median(baseline_usages.iter().zip(&usages[at]).map(|(base, other)| {
            baseline.photos(all) as f64 / base.elapsed.as_secs_f64() / (photos / other.elapsed.as_secs_f64())
        }));
        println!("| {} | {:.0} | {cpu:.2} | {peak:.0} | {ratio:.2} x |", client.name(), rate(at));
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs a bare loop; each has its own process.
fn run_bare(kind: &str, to: &str, ca_file: &str, folder: &str, photos: &str) {
    let to: SocketAddr = to.parse().expect("an address");
    let ca_file = (kind == "as-reqwest-tls").then(|| PathBuf::from(ca_file));
    let photos = photos.parse().expect("number");
    let mut task = Task::new(to, ca_file, folder.into(), photos);
    task.hashes = kind == "as-hashing";
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be started");
    match kind {
        "as-hyper" => runtime.block_on(bare::hyper(task)),
        _ => runtime.block_on(bare::reqwest(task)),
    }
}

impl Bench {
    fn new(all: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the photos");
        photos::write(&folder.path().join("photos"), all, PHOTO_BYTES);
        let rows = (0..all).map(|n| format!("photos/{},{n:06}\n", photos::name(n)));
        let manifest = std::iter::once("path,merchant_user_id\n".to_owned()).chain(rows).collect::<String>();
        std::fs::write(folder.path().join("manifest.csv"), manifest).expect("folder is writable");
        let stub = Stub::start(&folder.path().join("ca.pem"));
        let python = std::env::var("FACE_ENROLL_SDK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        Self { folder, photos: all, stub, python }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn is_available(&self, client: Client) -> bool {
        let imports = |command: &mut Command| {
            let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            ended.is_ok_and(|status| status.success())
        };
        match client {
            Client::FaceEnroll
            | Client::Reqwest
            | Client::Hashing
            | Client::Hyper
            | Client::FaceEnrollTls
            | Client::ReqwestTls => true,
            Client::Node => imports(Command::new("node").args(["-e", "require('@alicloud/openapi-core')"])),
            Client::Python => {
                imports(Command::new(&self.python).args(["-c", "import alibabacloud_cloudauth_intl20220809"]))
            }
        }
    }

    /// Measures one round of one client.
    fn measure(&self, client: Client) -> Usage {
        let photos = client.photos(self.photos);
        let to = if client.is_tls() { self.stub.tls } else { self.stub.plain };
        let mut command = match client {
            Client::FaceEnroll | Client::FaceEnrollTls => self.face_enroll(to, client.is_tls()),
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

    fn face_enroll(&self, to: SocketAddr, is_tls: bool) -> Command {
        let checkpoint = self.path("c.sqlite");
        cli::remove(&checkpoint);
        let scheme = if is_tls { "https" } else { "http" };
        let mut command = cli::run(&self.path("manifest.csv"), &checkpoint, &format!("{scheme}://{to}"));
        command.args(["--qps", "100000", "--concurrency", &IN_FLIGHT.to_string()]);
        command.arg("--ca-file").arg(self.path("ca.pem"));
        command
    }

    fn bare(&self, kind: &str, to: SocketAddr) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args([kind, &to.to_string()]).arg(self.path("ca.pem")).arg(self.path("photos"));
        command.arg(self.photos.to_string());
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
