//! Opens, creates, checks and migrates the file.
//!
//! The order: the file is ours by its type and place, then by its application id, then by its schema version; only then
//! is anything written. Another program's database, and a newer version's, are left untouched.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use crate::{
    checkpoint::{StoreError, lock},
    files,
};

/// Marks the file as ours: "FENR" in ASCII.
const APPLICATION_ID: i64 = 0x4645_4E52;
/// SQLite before 3.51.3 can lose committed data in WAL mode (sqlite.org/wal.html, "the WAL-reset bug").
const LEAST_SQLITE: i32 = 3_051_003;
/// How long another reader or writer of the file is waited for.
const BUSY: Duration = Duration::from_secs(5);
/// Statements that are kept prepared.
const STATEMENTS: usize = 64;

const SCHEMA: &[M<'static>] = &[
    M::up(include_str!("../../../migrations/0001_checkpoint.sql")),
    M::up(include_str!("../../../migrations/0002_changed_photos.sql")),
    M::up(include_str!("../../../migrations/0003_what_runs_did.sql")),
    M::up(include_str!("../../../migrations/0004_recognised_manifests.sql")),
    M::up(include_str!("../../../migrations/0005_mended_rows.sql")),
    M::up(include_str!("../../../migrations/0006_skipped_files.sql")),
];
const MIGRATIONS: Migrations<'static> = Migrations::from_slice(SCHEMA);

/// An open checkpoint. The order of the fields matters: closing any descriptor of a file takes away the locks that SQLite
/// has on it (sqlite.org/howtocorrupt.html, 2.2), so our own is closed last.
pub(super) struct Opened {
    pub(super) db: Connection,
    /// Holds the lock that outlives the removal of the lock file.
    pub(super) file: File,
}

/// Opens the file for a run, making it where there is none.
pub(super) fn read_write(path: &Path) -> Result<Opened, StoreError> {
    assert!(rusqlite::version_number() >= LEAST_SQLITE, "built with a SQLite that can lose committed data");
    let open = |source: io::Error| StoreError::Open { path: path.to_owned(), source: Arc::new(source) };
    let file = files::open_private(path, OpenOptions::new().read(true).write(true))?;
    for companion in sqlite_companions(path).iter().filter(|companion| companion.symlink_metadata().is_ok()) {
        files::check_private(companion)?;
    }
    check_file_system(path)?;
    lock::lock_checkpoint(&file, path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut db =
        Connection::open_with_flags(absolute(path).map_err(open)?, flags).map_err(StoreError::sqlite("opening it"))?;
    db.busy_timeout(BUSY).map_err(StoreError::sqlite("setting it up"))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    check_identity(&db, path, Access::Write)?;
    // Only now is it known to be ours. A file that was just made is for its owner alone already.
    restrict_permissions(path).map_err(open)?;
    backup_before_migration(&db, path)?;
    set_up(&db).map_err(StoreError::sqlite("setting it up"))?;
    MIGRATIONS.to_latest(&mut db).map_err(|failed| match failed {
        rusqlite_migration::Error::RusqliteError { err, .. } => StoreError::sqlite("migrating it")(err),
        other => StoreError::Unreadable { detail: other.to_string() },
    })?;
    Ok(Opened { db, file })
}

/// A file of an older shape is copied first, beside itself: `FILE.v1.bak`.
fn backup_before_migration(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let version: i64 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(StoreError::sqlite("reading its header"))?;
    if version == 0 || version == SCHEMA.len() as i64 {
        return Ok(());
    }
    let copy = beside(path, &format!(".v{version}{BACKUP}"));
    let failed = |source: io::Error| StoreError::Open { path: copy.clone(), source: Arc::new(source) };
    // SQLite writes into an empty file, and into no other.
    let partial = files::create_temp(&copy).map_err(failed)?;
    // SQLite takes names in UTF-8 alone here; under another one it would be found nowhere.
    let name = partial.path().to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    db.execute("VACUUM INTO ?1", [name]).map_err(StoreError::sqlite("copying it before migrating"))?;
    files::persist(partial, &copy).map_err(failed)?;
    tracing::info!(copy = %copy.display(), "the checkpoint is of an older version: copied, then migrated");
    Ok(())
}

/// Ends the name of a copy that was made before migrating.
const BACKUP: &str = ".bak";

/// Copies of a checkpoint that were made before migrating, and what a kill left of one.
pub(super) fn backups(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_backup = |file: &Path| {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let file = file.strip_prefix('.').unwrap_or(&file);
        let version = file.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix(".v"));
        let version = version.and_then(|rest| rest.split_once(BACKUP)).map(|(version, _)| version);
        version.is_some_and(|version| !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(files::folder_of(path)).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|file| is_backup(file)).collect();
    found.sort();
    found
}

/// What SQLite keeps beside the file while it is open.
pub(super) fn sqlite_companions(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", "-journal"].map(|suffix| beside(path, suffix))
}

/// Every file beside a checkpoint that belongs to it, whether it is there or not: of SQLite, the lock, the copies.
pub fn companions(path: &Path) -> Vec<PathBuf> {
    let mut all = sqlite_companions(path).to_vec();
    all.push(lock::lock_path(path));
    all.extend(backups(path));
    all
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Where a database's header has the application id (sqlite.org/fileformat2.html, 1.3), big-endian.
const APPLICATION_ID_AT: u64 = 68;

/// Is the file marked as ours? Told without opening it as a database, which another program's might not bear.
pub(super) fn has_application_id(path: &Path) -> bool {
    use std::os::unix::fs::FileExt;
    let mut found = [0; 4];
    let read = std::fs::File::open(path).and_then(|file| file.read_exact_at(&mut found, APPLICATION_ID_AT));
    read.is_ok() && i64::from(u32::from_be_bytes(found)) == APPLICATION_ID
}

/// Opens the file for looking, which must not disturb a live run.
pub(super) fn read_only(path: &Path) -> Result<Connection, StoreError> {
    if !path.try_exists().unwrap_or(false) {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let found = path
        .symlink_metadata()
        .map_err(|source| StoreError::Open { path: path.to_owned(), source: Arc::new(source) })?;
    // A second hard link would get a second -wal, and the two would tear the database apart (sqlite.org/howtocorrupt.html).
    files::check_regular(path, &found)?;
    // Read-write, because a reader of a WAL file takes part in its locks; `query_only` keeps it from writing. Where the
    // file can't be written, SQLite itself falls back to read-only.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(StoreError::sqlite("opening it"))?;
    db.busy_timeout(BUSY).map_err(StoreError::sqlite("opening it"))?;
    db.pragma_update(None, "query_only", true).map_err(StoreError::sqlite("opening it"))?;
    check_identity(&db, path, Access::Read)?;
    Ok(db)
}

/// SQLite's NOFOLLOW refuses links in any part of the path; ours concerns the file itself.
fn absolute(path: &Path) -> io::Result<std::path::PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize()?.join(path.file_name().unwrap_or_default()))
}

/// It names people: what others could read so far, they can't from here on.
fn restrict_permissions(path: &Path) -> io::Result<()> {
    let mut permissions = path.metadata()?.permissions();
    if permissions.mode() & 0o077 != 0 {
        tracing::warn!(checkpoint = %path.display(), "others could read or write the checkpoint: it is for its owner alone now");
        permissions.set_mode(0o600);
        std::fs::set_permissions(path, permissions)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn check_file_system(path: &Path) -> Result<(), StoreError> {
    // linux/magic.h: NFS, SMB, SMB2, CIFS, 9P, AFS, Ceph, FUSE is left out: it is local as often as not.
    const NETWORK: [u64; 7] = [0x6969, 0x517B, 0xFE53_4D42, 0xFF53_4D42, 0x0102_1997, 0x5346_414F, 0x00C3_6400];
    // The magic numbers have 32 bits; the field's type differs between platforms.
    let kind = rustix::fs::statfs(path).map(|found| found.f_type as u64 & 0xFFFF_FFFF);
    if kind.is_ok_and(|kind| NETWORK.contains(&kind)) {
        return Err(StoreError::NetworkFileSystem { path: path.to_owned() });
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn check_file_system(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

fn check_identity(db: &Connection, path: &Path, access: Access) -> Result<(), StoreError> {
    let number = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        let tables = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((number("application_id")?, number("user_version")?, tables))
    };
    let (application, version, tables) = read().map_err(StoreError::sqlite("reading its header"))?;
    // A run that was killed while it made the file leaves one with nothing in it, named as ours or not.
    let is_blank = version == 0 && tables == 0 && (application == 0 || application == APPLICATION_ID);
    if is_blank && access == Access::Read {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    if application != APPLICATION_ID && !is_blank {
        return Err(StoreError::NotACheckpoint { path: path.to_owned() });
    }
    let known = SCHEMA.len() as i64;
    if version > known {
        return Err(StoreError::SchemaTooNew { path: path.to_owned(), found: version, known });
    }
    Ok(())
}

fn set_up(db: &Connection) -> rusqlite::Result<()> {
    // FULL: a commit that has returned survives the loss of power. NORMAL would lose acknowledged intents.
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "secure_delete", true)?;
    db.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    db.pragma_update(None, "cache_size", -8 * 1024)?;
    db.pragma_update(None, "application_id", APPLICATION_ID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileError;

    #[test]
    fn migrations_are_well_formed() {
        MIGRATIONS.validate().unwrap();
    }

    #[test]
    fn schema_1_migrates_without_loss() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sqlite");
        let mut db = Connection::open(&path).unwrap();
        db.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        Migrations::from_slice(&SCHEMA[..1]).to_latest(&mut db).unwrap();
        db.execute_batch(
            "INSERT INTO sources (name, root) VALUES ('m.csv', '/');
             INSERT INTO face_groups (code) VALUES ('g');
             INSERT INTO items (user, group_id, source_id, row, path, state, enrolled_at, confirmed_by, sha256)
             VALUES ('u', 1, 1, 2, 'a.jpg', 3, 5, 0, zeroblob(32));",
        )
        .unwrap();
        drop(db);
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "theirs").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("c.sqlite.v1.bak")).unwrap();
        assert!(has_application_id(&path) && !has_application_id(dir.path()));
        let Opened { db, file: _file } = read_write(&path).unwrap();
        let (user, state, changed): (String, i64, i64) = db
            .query_row(
                "SELECT user, state, changed FROM items WHERE replaces IS NULL AND sent_sha256 IS NULL",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .unwrap();
        assert_eq!((user.as_str(), state, changed), ("u", 3, 0));
        let copy = dir.path().join("c.sqlite.v1.bak");
        assert_eq!(copy.symlink_metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read(victim).unwrap(), b"theirs");
        assert_eq!(backups(&path), [copy.as_path()]);
        let old = Connection::open(copy).unwrap();
        let version: i64 = old.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        let users: i64 = old.query_row("SELECT count(*) FROM items WHERE user = 'u'", [], |row| row.get(0)).unwrap();
        assert_eq!((version, users), (1, 1));
    }

    #[test]
    fn older_schema_is_read_without_migration() {
        let dir = tempfile::tempdir().unwrap();
        for shape in 1..SCHEMA.len() {
            let path = dir.path().join(format!("{shape}.sqlite"));
            let mut db = Connection::open(&path).unwrap();
            db.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            Migrations::from_slice(&SCHEMA[..shape]).to_latest(&mut db).unwrap();
            db.execute_batch(
                "INSERT INTO sources (name, root) VALUES ('m.csv', '/');
                 INSERT INTO face_groups (code) VALUES ('g');
                 INSERT INTO items (user, group_id, source_id, row, path, state, stage) VALUES ('u', 1, 1, 2, 'a.jpg', 4, 0);
                 INSERT INTO tally (state, code, n) VALUES (4, '', 1);",
            )
            .unwrap();
            let reader = super::super::Reader::open(&path).unwrap();
            assert!(reader.runs(1).unwrap().is_empty() && reader.slowest(1).unwrap().is_empty());
            assert_eq!((reader.not_enrolled(9).unwrap().len(), reader.counts().unwrap().rejected), (1, 1));
            let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            assert_eq!(version, shape as i64);
        }
    }

    #[test]
    fn new_checkpoint_and_wal_have_mode_0600() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sqlite");
        let Opened { db, file: _file } = read_write(&path).unwrap();
        db.execute("INSERT INTO settings VALUES ('a', 'b')", []).unwrap();
        for name in ["c.sqlite", "c.sqlite-wal", "c.sqlite-shm"] {
            let mode = dir.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn half_created_checkpoint_is_recreated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sqlite");
        for half in ["", "PRAGMA journal_mode = WAL", "PRAGMA journal_mode = WAL; PRAGMA application_id = 1178947154"] {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, "").unwrap();
            Connection::open(&path).unwrap().execute_batch(half).unwrap();
            assert!(matches!(read_only(&path), Err(StoreError::Missing { .. })), "{half}");
            drop(read_write(&path).unwrap());
            drop(read_only(&path).unwrap());
        }
    }

    #[test]
    fn checkpoint_that_others_could_read_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sqlite");
        drop(read_write(&path).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        drop(read_write(&path).unwrap());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn commits_are_synchronous_and_the_journal_is_a_wal() {
        let dir = tempfile::tempdir().unwrap();
        let Opened { db, file: _file } = read_write(&dir.path().join("c.sqlite")).unwrap();
        let text: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        let level: i64 = db.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!((text.as_str(), level), ("wal", 2));
    }

    #[test]
    fn foreign_newer_linked_and_broken_files_are_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let foreign = dir.path().join("foreign.sqlite");
        Connection::open(&foreign).unwrap().execute("CREATE TABLE theirs (a)", []).unwrap();
        let newer = dir.path().join("newer.sqlite");
        read_write(&newer).unwrap().db.pragma_update(None, "user_version", 99).unwrap();
        let junk = dir.path().join("junk.sqlite");
        std::fs::write(&junk, "this is no database, and it is long enough to be looked at as one\n".repeat(40))
            .unwrap();
        let link = dir.path().join("link.sqlite");
        std::os::unix::fs::symlink(&foreign, &link).unwrap();

        for (path, is_right) in [
            (&foreign, (|e| matches!(e, StoreError::NotACheckpoint { .. })) as fn(&StoreError) -> bool),
            (&newer, |e| matches!(e, StoreError::SchemaTooNew { found: 99, .. })),
            (&junk, |e| matches!(e, StoreError::Corrupt { .. })),
            (&link, |e| matches!(e, StoreError::File(FileError::SymbolicLink { .. }))),
        ] {
            let before = std::fs::read(path).unwrap();
            let Err(refused) = read_write(path) else { panic!("{path:?}") };
            assert!(is_right(&refused), "{path:?}: {refused:?}");
            assert!(is_right(&read_only(path).unwrap_err()), "{path:?}");
            assert_eq!(std::fs::read(path).unwrap(), before, "{path:?}");
        }
        assert!(matches!(read_only(&dir.path().join("none")), Err(StoreError::Missing { .. })));
    }
}
