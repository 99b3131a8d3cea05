//! Runs the real binary against a sandbox that outlives it, on generated archives.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use face_enroll::sandbox::{Action, Groups, Record, Sandbox, Script, Settings};
use rawzip::{CompressionMethod, ZipArchiveWriter};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub const GROUP: &str = "sgl0001uc";

/// A folder with a manifest and photos that all differ.
pub struct Archive {
    pub dir: tempfile::TempDir,
    pub users: Vec<String>,
    /// SHA-256 of each user's photo in hexadecimal.
    pub photos: BTreeMap<String, String>,
}

impl Archive {
    /// Creates an archive of `people` photos of about `bytes` bytes each.
    pub fn of(people: usize, bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("photos")).unwrap();
        let mut archive = Self { dir, users: Vec::new(), photos: BTreeMap::new() };
        let mut manifest = String::from("path,merchant_user_id\n");
        for n in 1..=people {
            let user = format!("u{n:05}");
            let photo = photo(&user, bytes);
            let name = format!("photos/{user}.jpg");
            archive.photos.insert(user.clone(), hex::encode(Sha256::digest(&photo)));
            fs::write(archive.dir.path().join(&name), photo).unwrap();
            writeln!(manifest, "{name},{user}").unwrap();
            archive.users.push(user);
        }
        archive.write(&manifest);
        archive
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn manifest(&self) -> PathBuf {
        self.path().join("manifest.csv")
    }

    pub fn write(&self, manifest: &str) {
        fs::write(self.manifest(), manifest).unwrap();
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.path().join("manifest.csv.enroll.sqlite")
    }
}

/// A real portrait, made unique and padded by comment segments that start with the user's id.
pub fn photo(user: &str, bytes: usize) -> Vec<u8> {
    let portrait = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/samples/photos/collins-01.jpg")).unwrap();
    let mut photo = portrait[..2].to_vec();
    let mut missing = bytes.saturating_sub(portrait.len());
    let mut comment = user.as_bytes().to_vec();
    loop {
        let filler = missing.min(60_000);
        comment.resize(comment.len() + filler, b'.');
        let length = u16::try_from(comment.len() + 2).unwrap().to_be_bytes();
        photo.extend_from_slice(&[0xFF, 0xFE, length[0], length[1]]);
        photo.append(&mut comment);
        missing -= filler;
        if missing == 0 {
            break;
        }
    }
    photo.extend_from_slice(&portrait[2..]);
    photo
}

/// A ZIP archive of these members, deflated.
pub fn zip<'a>(members: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<u8> {
    zip_of_pieces(members.into_iter().map(|(name, data)| (name, [data])))
}

/// A ZIP archive of members that are given in pieces, so that none has to fit into memory.
pub fn zip_of_pieces<'a, P: IntoIterator<Item: AsRef<[u8]>>>(
    members: impl IntoIterator<Item = (&'a str, P)>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (name, pieces) in members {
        let (mut entry, config) =
            archive.new_file(name).compression_method(CompressionMethod::DEFLATE).start().unwrap();
        let encoder = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast());
        let mut writer = config.wrap(encoder);
        pieces.into_iter().for_each(|piece| writer.write_all(piece.as_ref()).unwrap());
        let (encoder, descriptor) = writer.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

/// A sandbox with one group and no quota on its own runtime, so that it outlives the process under test.
pub struct Service {
    pub sandbox: Sandbox,
    _runtime: tokio::runtime::Runtime,
}

impl Service {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn failing(script: &str) -> Self {
        Self::with(Settings { faults: Script::parse(script).unwrap(), ..Settings::default() })
    }

    pub fn with_quota(qps: u32, latency: Duration) -> Self {
        Self::with(Settings { qps: NonZeroU32::new(qps), latency, ..Settings::default() })
    }

    pub fn with(settings: Settings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let settings = Settings { groups: Groups::only([GROUP]), ..settings };
        let sandbox = runtime.block_on(Sandbox::start(settings)).unwrap();
        Self { sandbox, _runtime: runtime }
    }

    /// Number of records of each user.
    pub fn records(&self) -> BTreeMap<String, usize> {
        let mut users = BTreeMap::new();
        for record in self.sandbox.records() {
            *users.entry(record.user).or_default() += 1;
        }
        users
    }

    /// Number of calls of an action, rejected ones included.
    pub fn calls(&self, action: Action) -> usize {
        self.sandbox.journal().iter().filter(|arrival| arrival.action.as_deref() == Some(action.name())).count()
    }

    /// Asserts that every user of the archive has exactly one record, that there are no others, and that each photo arrived
    /// byte for byte.
    pub fn holds_exactly(&self, archive: &Archive) {
        self.holds_exactly_but(archive, &[]);
    }

    /// Like [`Self::holds_exactly`], except that the users in `absent` have no record.
    pub fn holds_exactly_but(&self, archive: &Archive, absent: &[&str]) {
        let present = archive.users.iter().filter(|user| !absent.contains(&user.as_str()));
        let everyone: BTreeMap<String, usize> = present.map(|user| (user.clone(), 1)).collect();
        let records = self.records();
        let wrong: Vec<_> = everyone.iter().filter(|(user, _)| records.get(*user) != Some(&1)).collect();
        assert!(wrong.is_empty(), "not exactly once: {wrong:?} of {records:?}");
        assert_eq!(records.len(), everyone.len(), "strangers on record");
        for Record { user, picture, .. } in self.sandbox.records() {
            let picture = picture.map(|digest| digest.to_string());
            assert_eq!(picture.as_ref(), archive.photos.get(&user), "{user}: another photo arrived");
        }
    }

    /// A `run` command with the endpoint and credentials of this sandbox, a high rate and a short settle time.
    pub fn run(&self, archive: &Archive) -> Enroll {
        self.run_source(&archive.manifest())
    }

    pub fn run_source(&self, source: &Path) -> Enroll {
        let mut enroll = Enroll::new("run");
        enroll
            .arg(source)
            .args(["--group", GROUP, "--endpoint", &self.sandbox.endpoint()])
            .args(["--upload-endpoint", &self.sandbox.endpoint()])
            .args(["--qps", "2000", "--query-qps", "2000", "--settle", "60ms", "--json", "--progress", "never"])
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", self.sandbox.access_key_id())
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", self.sandbox.access_key_secret());
        enroll
    }
}

/// A command that runs the binary without environment variables that could change its behaviour.
pub struct Enroll(Command);

impl Enroll {
    pub fn new(subcommand: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_face-enroll"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if ["FACE_ENROLL_", "ALIBABA_CLOUD_", "PG", "HTTP", "http", "XDG_", "ALL_P", "all_p", "NO_P", "no_p"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        // Ignore the user's credential profiles and the role of the machine too.
        command.env("HOME", "/nonexistent").env("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true");
        command.arg(subcommand).stdin(Stdio::null());
        Self(command)
    }

    pub fn arg(&mut self, arg: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.0.arg(arg);
        self
    }

    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> &mut Self {
        self.0.args(args);
        self
    }

    pub fn env(&mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.0.env(name, value);
        self
    }

    pub fn command(&mut self) -> &mut Command {
        &mut self.0
    }

    /// The same command in a shell that sets something first, such as a limit.
    pub fn under(&mut self, shell: &str) -> Command {
        let mut command = Command::new("bash");
        command.arg("-c").arg(format!("{shell}; exec \"$0\" \"$@\""));
        command.arg(self.0.get_program()).args(self.0.get_args()).stdin(Stdio::null());
        for (name, value) in self.0.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Runs to completion.
    pub fn end(&mut self) -> Ended {
        Ended::from(self.0.output().unwrap())
    }

    /// Starts the process with stdout and stderr piped.
    pub fn spawn(&mut self) -> std::process::Child {
        self.0.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Exit code and output of a finished process.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// Summary in the last line of stdout; asserts that its counts add up.
    pub fn summary(&self) -> Value {
        let last = self.stdout.lines().last().unwrap_or_else(|| panic!("no summary: {self:#?}"));
        let summary: Value = serde_json::from_str(last).unwrap();
        assert_eq!(summary["type"], "summary", "{last}");
        let n = |name: &str| summary[name].as_u64().unwrap();
        let states = n("enrolled") + n("rejected") + n("failed") + n("in_doubt") + n("pending");
        assert_eq!(n("total"), states, "{last}");
        assert_eq!(summary["exit_code"].as_i64().unwrap(), i64::from(self.code.unwrap()), "{last}");
        summary
    }

    /// Asserts the exit code and these numbers of the summary.
    pub fn is(&self, code: i32, numbers: &[(&str, u64)]) -> Value {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let summary = self.summary();
        for (name, expected) in numbers {
            assert_eq!(summary[name].as_u64(), Some(*expected), "{name} in {summary:#}");
        }
        summary
    }
}

/// Waits for a condition, for far longer than any machine needs.
pub fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_true() {
        assert!(Instant::now() < deadline, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the sandbox has seen this many enrolment calls.
pub fn wait_for_calls(service: &Service, calls: usize) {
    wait_until("the calls did not come", || service.calls(Action::AddFaceRecord) >= calls);
}

/// Rows of an export in JSON Lines.
pub fn export(checkpoint: &Path, args: &[&str]) -> Vec<Value> {
    let ended = Enroll::new("export").arg("--checkpoint").arg(checkpoint).args(["--format", "jsonl"]).args(args).end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Distinct error codes of an export.
pub fn codes(rows: &[Value]) -> BTreeSet<&str> {
    rows.iter().filter_map(|row| row["code"].as_str()).collect()
}

/// Python interpreter with the official SDK: `FACE_ENROLL_SDK_PYTHON`, or else the system's.
pub fn python_with_sdk() -> Option<String> {
    if let Ok(python) = std::env::var("FACE_ENROLL_SDK_PYTHON") {
        return Some(python);
    }
    let mut probe = Command::new("python3");
    probe.args(["-c", "import alibabacloud_cloudauth_intl20220809"]).stdout(Stdio::null()).stderr(Stdio::null());
    let found = probe.status().is_ok_and(|status| status.success());
    if !found {
        skip("python3 with alibabacloud_cloudauth_intl20220809 (set FACE_ENROLL_SDK_PYTHON)");
    }
    found.then(|| "python3".to_owned())
}

/// Gives a script of `tests/sdk` the cases as JSON Lines, and returns its lines.
pub fn ask_sdk(python: &str, script: &str, cases: &[Value]) -> Vec<String> {
    let mut child = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success());
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), cases.len());
    lines
}

/// Reports that a test was skipped because a tool is missing; in CI a missing tool is a failure.
pub fn skip(missing: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI this test must not be skipped: no {missing}");
    eprintln!("skipped: no {missing}");
}
