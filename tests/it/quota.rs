//! `--quota-at`: real processes share a quota through a real PostgreSQL.

use std::{fs, os::unix::fs::PermissionsExt, process::Child, time::Duration};

use face_enroll::sandbox::Action;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::{
    postgres::Postgres,
    support::{self, Archive, Ended, Enroll, Service, wait_for_calls},
};

const LATENCY: Duration = Duration::from_millis(20);

fn run(service: &Service, archive: &Archive, url: &str) -> Enroll {
    let mut enroll = service.run(archive);
    enroll.args(["--qps", "50", "--quota-at", url]);
    enroll
}

/// One run for each archive, all at once.
fn start(service: &Service, archives: &[Archive], postgres: &Postgres) -> Vec<Child> {
    archives.iter().map(|archive| run(service, archive, &postgres.url("enroll")).spawn()).collect()
}

/// Archives of different people, so that runs with checkpoints of their own do not meet.
fn archives(people: usize) -> Vec<Archive> {
    ["a", "b", "c"]
        .map(|name| {
            let archive = Archive::of(people, 3_000);
            let manifest = fs::read_to_string(archive.manifest()).unwrap();
            archive.write(&manifest.replace(",u", &format!(",{name}")));
            archive
        })
        .into()
}

fn end(child: Child) -> Ended {
    child.wait_with_output().unwrap().into()
}

fn holds_each_once(service: &Service, people: usize) {
    let records = service.records();
    assert_eq!(records.len(), people);
    assert!(records.values().all(|&count| count == 1), "{records:?}");
}

fn worst_second(service: &Service) -> usize {
    service.sandbox.max_calls_in_any_second(Action::AddFaceRecord)
}

#[test]
fn three_runs_share_one_quota() {
    let Some(postgres) = Postgres::start() else { return };
    let service = Service::with_quota(50, LATENCY);
    let archives = archives(60);
    let runs = start(&service, &archives, &postgres);
    for child in runs {
        end(child).is(0, &[("enrolled", 60), ("throttled", 0)]);
    }
    holds_each_once(&service, 180);
    assert!(worst_second(&service) <= 50, "{} calls in a second", worst_second(&service));
    let slots: i64 =
        postgres.value("SELECT slots FROM face_enroll.quota WHERE action = 'AddFaceRecord'").parse().unwrap();
    assert!(slots >= 180, "{slots} slots for 180 calls");
}

#[test]
fn crash_of_the_database_stops_calls_until_it_is_back() {
    let Some(mut postgres) = Postgres::start() else { return };
    let service = Service::with_quota(50, LATENCY);
    let archives = archives(50);
    let runs = start(&service, &archives, &postgres);
    wait_for_calls(&service, 30);
    postgres.kill();
    // Slots in hand may still be used; they reach ahead by 100 ms for each run.
    std::thread::sleep(Duration::from_secs(1));
    let calls = service.calls(Action::AddFaceRecord);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(service.calls(Action::AddFaceRecord), calls, "calls without the database");
    postgres.up();
    for child in runs {
        let ended = end(child);
        ended.is(0, &[("enrolled", 50), ("in_doubt", 0)]);
        assert!(ended.stderr.contains("the database at 127.0.0.1"), "{}", ended.stderr);
    }
    holds_each_once(&service, 150);
    assert!(worst_second(&service) <= 50, "{} calls in a second", worst_second(&service));
}

#[test]
fn lost_connections_add_no_calls_to_a_second() {
    let Some(postgres) = Postgres::start() else { return };
    let service = Service::with_quota(50, LATENCY);
    let archives = archives(60);
    let runs = start(&service, &archives, &postgres);
    for calls in [30, 60, 90, 120] {
        wait_for_calls(&service, calls);
        postgres.execute(
            "postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'face-enroll'",
        );
    }
    for child in runs {
        end(child).is(0, &[("enrolled", 60)]);
    }
    holds_each_once(&service, 180);
    assert!(worst_second(&service) <= 50, "{} calls in a second", worst_second(&service));
}

#[test]
fn throttling_of_one_run_slows_down_all() {
    let Some(postgres) = Postgres::start() else { return };
    // The true quota is a fifth of what the runs were told.
    let service = Service::with_quota(10, LATENCY);
    let archives = archives(60);
    let runs = start(&service, &archives, &postgres);
    for child in runs {
        end(child).is(0, &[("enrolled", 60)]);
    }
    holds_each_once(&service, 180);
    let rate: f64 =
        postgres.value("SELECT rate FROM face_enroll.quota WHERE action = 'AddFaceRecord'").parse().unwrap();
    assert!(rate < 20.0, "the rate of all is {rate}");
    // The next run begins at the rate that the others found.
    let before = service.calls(Action::AddFaceRecord);
    let archive = Archive::of(20, 3_000);
    let summary = run(&service, &archive, &postgres.url("enroll")).end().is(0, &[("enrolled", 20)]);
    let calls = service.calls(Action::AddFaceRecord) - before;
    assert!(calls < 40, "{calls} calls for 20 photos: {summary:#}");
}

#[test]
fn database_that_stays_away_ends_the_run_with_10() {
    let Some(mut postgres) = Postgres::start() else { return };
    postgres.kill();
    let service = Service::new();
    let archive = Archive::of(2, 3_000);
    let ended = run(&service, &archive, &postgres.url("enroll")).args(["--give-up-after", "1s"]).end();
    ended.is(10, &[("pending", 2), ("calls", 0)]);
    assert!(ended.stderr.contains("--quota-at could not be used"), "{}", ended.stderr);
}

#[test]
fn wrong_password_ends_the_run_with_7() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.execute("jobs", "CREATE ROLE night LOGIN PASSWORD 'secret-7'");
    postgres.execute("jobs", "GRANT CREATE ON DATABASE jobs TO night");
    postgres
        .write(&postgres.data().join("pg_hba.conf"), "host all enroll all trust\nhost all night all scram-sha-256\n");
    postgres.execute("jobs", "SELECT pg_reload_conf()");
    let service = Service::new();
    let archive = Archive::of(2, 3_000);
    let passfile = archive.path().join("pgpass");
    fs::write(&passfile, "*:*:*:night:secret-8\n").unwrap();
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
    let log = archive.path().join("log");
    let night = || {
        let mut enroll = run(&service, &archive, &postgres.url("night"));
        enroll.env("PGPASSFILE", &passfile).arg("-v").arg("--log-file").arg(&log);
        enroll
    };
    let refused = night().end();
    refused.is(7, &[("pending", 2), ("calls", 0)]);
    assert!(refused.stderr.contains("password authentication failed"), "{}", refused.stderr);
    fs::write(&passfile, "*:*:*:night:secret-7\n").unwrap();
    let ended = night().end();
    ended.is(0, &[("enrolled", 2)]);
    for text in [fs::read_to_string(&log).unwrap(), refused.stderr, refused.stdout, ended.stderr, ended.stdout] {
        assert!(!text.contains("secret-7") && !text.contains("secret-8"), "{text}");
    }
}

#[test]
fn certificate_and_name_of_the_server_are_verified() {
    let Some(mut postgres) = Postgres::start() else { return };
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    postgres.write(&postgres.data().join("server.crt"), &certificate.pem());
    postgres.write(&postgres.data().join("server.key"), &key.serialize_pem());
    postgres.execute("jobs", "ALTER SYSTEM SET ssl = on");
    postgres.execute("jobs", "SELECT pg_reload_conf()");
    postgres.kill();
    postgres.up();
    let service = Service::new();
    let archive = Archive::of(2, 3_000);
    let file = archive.path().join("authority.pem");
    fs::write(&file, authority.pem()).unwrap();
    let trusted = format!("?sslmode=verify-full&sslrootcert={}", file.display());
    let by_ip = postgres.url("enroll");
    let by_name = by_ip.replace("127.0.0.1", "localhost");
    for (url, reason) in [
        (format!("{by_ip}{trusted}"), "not valid for name"),
        (format!("{by_name}?sslmode=verify-full"), "UnknownIssuer"),
    ] {
        let ended = run(&service, &archive, &url).end();
        ended.is(7, &[("calls", 0)]);
        assert!(ended.stderr.contains(reason), "{}", ended.stderr);
    }
    run(&service, &archive, &format!("{by_name}{trusted}")).end().is(0, &[("enrolled", 2)]);
}

#[test]
fn doctor_tries_the_database_and_changes_nothing() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.execute("jobs", "CREATE ROLE reader LOGIN");
    let service = Service::new();
    let doctor = |user: &str| {
        let mut enroll = Enroll::new("doctor");
        enroll
            .args(["--group", support::GROUP, "--endpoint", &service.sandbox.endpoint(), "--json"])
            .args(["--upload-endpoint", &service.sandbox.endpoint(), "--quota-at", &postgres.url(user)])
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", service.sandbox.access_key_id())
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", service.sandbox.access_key_secret());
        let ended = enroll.end();
        let checks = ended.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let quota =
            checks.into_iter().find(|check| check["check"] == "database").unwrap_or_else(|| panic!("{ended:#?}"));
        (quota["verdict"].as_str().unwrap().to_owned(), quota["detail"].as_str().unwrap().to_owned())
    };
    let (status, detail) = doctor("enroll");
    assert_eq!((status.as_str(), detail.contains("answers in")), ("ok", true), "{detail}");
    let (status, detail) = doctor("reader");
    assert_eq!((status.as_str(), detail.contains("may not CREATE")), ("fail", true), "{detail}");
    assert_eq!(postgres.value("SELECT count(*) FROM pg_namespace WHERE nspname = 'face_enroll'"), "0");
}

#[test]
fn wrong_addresses_are_refused_before_anything_is_written() {
    let service = Service::new();
    let archive = Archive::of(1, 3_000);
    for (url, reason) in [
        ("postgres://u:secret-7@127.0.0.1/jobs", "holds a password"),
        ("postgres://u@db.internal/jobs?sslmode=require", "does not verify who answers at db.internal"),
        ("redis://127.0.0.1", "postgres://USER@HOST/DATABASE"),
    ] {
        let ended = run(&service, &archive, url).end();
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains(reason) && !ended.stderr.contains("secret-7"), "{}", ended.stderr);
    }
}

#[test]
fn last_run_sets_the_limit_for_all() {
    let Some(postgres) = Postgres::start() else { return };
    let service = Service::new();
    let archives = archives(1);
    let (first, last) = (&archives[0], &archives[1]);
    run(&service, first, &postgres.url("enroll")).end().is(0, &[("enrolled", 1)]);
    let ended = run(&service, last, &postgres.url("enroll")).args(["--qps", "20"]).end();
    ended.is(0, &[("enrolled", 1)]);
    assert!(ended.stderr.contains("holds from now on for all runs"), "{}", ended.stderr);
    assert_eq!(postgres.value("SELECT quota FROM face_enroll.quota WHERE action = 'AddFaceRecord'"), "20");
}

#[test]
fn limits_of_two_live_runs_do_not_mix() {
    let Some(postgres) = Postgres::start() else { return };
    let service = Service::new();
    let archives = archives(40);
    let url = postgres.url("enroll");
    let first = run(&service, &archives[0], &url).args(["--qps", "20"]).spawn();
    wait_for_calls(&service, 5);
    run(&service, &archives[1], &url).end().is(0, &[("enrolled", 40)]);
    let first = end(first);
    first.is(0, &[("enrolled", 40)]);
    assert!(first.stderr.contains("a run that started later set another limit"), "{}", first.stderr);
    let value = |column: &str| {
        let sql = format!("SELECT {column} FROM face_enroll.quota WHERE action = 'AddFaceRecord'");
        postgres.value(&sql).parse::<f64>().unwrap()
    };
    assert_eq!(value("quota"), 50.0, "the run that started last sets the limit");
    run(&service, &archives[2], &url).args(["--qps", "20"]).end().is(0, &[("enrolled", 40)]);
    assert!(value("rate") <= 20.0, "{} calls a second of 20", value("rate"));
}

#[test]
fn silent_database_does_not_hold_up_a_run_for_ever() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let service = Service::new();
    let archive = Archive::of(1, 3_000);
    let url = format!("postgres://u@{}/d", silent.local_addr().unwrap());
    let ended = run(&service, &archive, &url).args(["--give-up-after", "1s"]).end();
    ended.is(10, &[("calls", 0)]);
    assert!(ended.stderr.contains("no connection within 5 s"), "{}", ended.stderr);
}

#[test]
fn newer_tables_are_refused() {
    let Some(postgres) = Postgres::start() else { return };
    let service = Service::new();
    let archive = Archive::of(1, 3_000);
    postgres.execute("jobs", "CREATE SCHEMA face_enroll; CREATE TABLE face_enroll.schema AS SELECT 99 AS version");
    let ended = run(&service, &archive, &postgres.url("enroll")).end();
    ended.is(7, &[("calls", 0)]);
    assert!(ended.stderr.contains("version 99"), "{}", ended.stderr);
}
