//! A real PostgreSQL for the tests: a child of the test in a temporary folder, as an unprivileged user.

use std::{
    fs,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tokio::runtime::Runtime;

use crate::support::{skip, wait_until};

pub struct Postgres {
    dir: tempfile::TempDir,
    programs: PathBuf,
    owner: Option<(u32, u32)>,
    port: u16,
    server: Option<Child>,
    runtime: Runtime,
}

impl Postgres {
    /// Starts a server with a database `jobs` and a superuser `enroll`, who needs no password. `None` without PostgreSQL.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            skip("PostgreSQL (Debian's package postgresql, or FACE_ENROLL_POSTGRES_BIN)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        // PostgreSQL refuses to run as root.
        let owner = rustix::process::geteuid().is_root().then(|| user("postgres").or_else(|| user("nobody")).unwrap());
        if let Some((uid, gid)) = owner {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
            chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut postgres = Self { dir, programs, owner, port, server: None, runtime };
        let made = postgres
            .program("initdb")
            .args(["--auth=trust", "--username=enroll", "--no-sync", "-D"])
            .arg(postgres.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:#?}");
        postgres.up();
        postgres.execute("postgres", "CREATE DATABASE jobs");
        Some(postgres)
    }

    /// Address of the database `jobs` for a user.
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@127.0.0.1:{}/jobs", self.port)
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Writes a file that the server may read.
    pub fn write(&self, path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = self.owner {
            chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// Starts the server and waits until it answers.
    pub fn up(&mut self) {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path()).args(["-p", &self.port.to_string()]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        let mut server = command.spawn().unwrap();
        // After a kill, the first tries may find the processes of the last server.
        wait_until("PostgreSQL does not answer", || {
            if server.try_wait().unwrap().is_some() {
                server = command.spawn().unwrap();
            }
            self.try_query("postgres", "SELECT 1").is_some()
        });
        self.server = Some(server);
    }

    /// Kills the server, as a crash of its processes would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    pub fn execute(&self, database: &str, sql: &str) {
        self.try_query(database, sql).unwrap_or_else(|| panic!("failed: {sql}"));
    }

    /// First column of the first row, as text.
    pub fn value(&self, sql: &str) -> String {
        self.try_query("jobs", sql).flatten().unwrap_or_else(|| panic!("no value: {sql}"))
    }

    fn try_query(&self, database: &str, sql: &str) -> Option<Option<String>> {
        let config = format!("host=127.0.0.1 port={} user=enroll dbname={database} sslmode=disable", self.port);
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls).await.ok()?;
            tokio::spawn(connection);
            let answers = client.simple_query(sql).await.ok()?;
            Some(answers.into_iter().find_map(|answer| match answer {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            }))
        })
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("LC_ALL", "C");
        if let Some((uid, gid)) = self.owner {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Folder of the server's programs.
fn programs() -> Option<PathBuf> {
    let given = std::env::var_os("FACE_ENROLL_POSTGRES_BIN").map(PathBuf::from);
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
    let path = std::env::var_os("PATH").unwrap_or_default();
    given
        .into_iter()
        .chain(debian.map(|version| version.path().join("bin")))
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("postgres").exists() && folder.join("initdb").exists())
}

fn user(name: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let fields: Vec<&str> = users.lines().find(|line| line.starts_with(&format!("{name}:")))?.split(':').collect();
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}
