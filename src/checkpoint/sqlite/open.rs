//! Opens, creates, checks and migrates the file.
//!
//! The order must not change: the file's type and location, then its application id, then its schema version are checked
//! before anything is written. Databases of other programs and of newer versions are never changed.

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

/// Application id of a checkpoint: "FENR" in ASCII.
const APPLICATION_ID: i64 = 0x4645_4E52;
/// SQLite before 3.51.3 can lose committed data in WAL mode (sqlite.org/wal.html, "the WAL-reset bug").
const MIN_SQLITE_VERSION: i32 = 3_051_003;
/// Wait this long for another reader or writer of the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Capacity of the prepared-statement cache.
const STATEMENT_CACHE_SIZE: usize = 64;

const SCHEMA: &[M<'static>] = &[
    M::up(include_str!("../../../migrations/0001_checkpoint.sql")),
    M::up(include_str!("../../../migrations/0002_changed_photos.sql")),
    M::up(include_str!("../../../migrations/0003_what_runs_did.sql")),
    M::up(include_str!("../../../migrations/0004_recognised_manifests.sql")),
    M::up(include_str!("../../../migrations/0005_mended_rows.sql")),
    M::up(include_str!("../../../migrations/0006_skipped_files.sql")),
    M::up(include_str!("../../../migrations/0007_members_of_archives.sql")),
    M::up(include_str!("../../../migrations/0008_runs_that_sent_items.sql")),
];
const MIGRATIONS: Migrations<'static> = Migrations::from_slice(SCHEMA);

/// An open checkpoint. The order of the fields matters: closing any descriptor of a file drops SQLite's locks on it
/// (sqlite.org/howtocorrupt.html, 2.2), so `file` is dropped last.
pub(super) struct Opened {
    pub(super) db: Connection,
    /// Holds the lock that survives the removal of the lock file.
    pub(super) file: File,
}

/// Opens the file for writing, or creates it.
pub(super) fn read_write(path: &Path) -> Result<Opened, StoreError> {
    assert!(rusqlite::version_number() >= MIN_SQLITE_VERSION, "built with a SQLite that can lose committed data");
    let open = |source: io::Error| StoreError::Open { path: path.to_owned(), source: Arc::new(source) };
    let file = files::open_private(path, OpenOptions::new().read(true).write(true))?;
    for companion in sqlite_companions(path).iter().filter(|companion| companion.symlink_metadata().is_ok()) {
        files::check_private(companion)?;
    }
    check_file_system(path)?;
    lock::lock_checkpoint(&file, path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut db = Connection::open_with_flags(absolute(path).map_err(open)?, flags)
        .map_err(StoreError::sqlite("opening the file"))?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(StoreError::sqlite("setting it up"))?;
    db.set_prepared_statement_cache_capacity(STATEMENT_CACHE_SIZE);
    check_identity(&db, path, Access::Write)?;
    // Only now is the file known to be a checkpoint. A new file already has mode 0600.
    restrict_permissions(path).map_err(open)?;
    backup_before_migration(&db, path)?;
    set_up(&db).map_err(StoreError::sqlite("setting it up"))?;
    MIGRATIONS.to_latest(&mut db).map_err(|failed| match failed {
        rusqlite_migration::Error::RusqliteError { err, .. } => StoreError::sqlite("migrating it")(err),
        other => StoreError::Unreadable { detail: other.to_string() },
    })?;
    Ok(Opened { db, file })
}

/// Copies a file with an older schema to `FILE.v1.bak` before it is migrated.
fn backup_before_migration(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let version: i64 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(StoreError::sqlite("reading its header"))?;
    if version == 0 || version == SCHEMA.len() as i64 {
        return Ok(());
    }
    let copy = beside(path, &format!(".v{version}{BACKUP_SUFFIX}"));
    let failed = |source: io::Error| StoreError::Open { path: copy.clone(), source: Arc::new(source) };
    // VACUUM INTO accepts only an empty or a missing file.
    let partial = files::create_temp(&copy).map_err(failed)?;
    // VACUUM INTO takes only UTF-8 names.
    let name = partial.path().to_str().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    db.execute("VACUUM INTO ?1", [name]).map_err(StoreError::sqlite("copying it before migrating"))?;
    files::persist(partial, &copy).map_err(failed)?;
    tracing::info!(copy = %copy.display(), "copied checkpoint before migrating it to the current schema");
    Ok(())
}

/// Suffix of a copy made before a migration.
const BACKUP_SUFFIX: &str = ".bak";

/// Copies of a checkpoint made before migrations, including unfinished ones of a killed process.
pub(super) fn backups(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_backup = |file: &Path| {
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        let file = file.strip_prefix('.').unwrap_or(&file);
        let version = file.strip_prefix(name.as_str()).and_then(|rest| rest.strip_prefix(".v"));
        let version = version.and_then(|rest| rest.split_once(BACKUP_SUFFIX)).map(|(version, _)| version);
        version.is_some_and(|version| !version.is_empty() && version.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let entries = std::fs::read_dir(files::folder_of(path)).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|file| is_backup(file)).collect();
    found.sort();
    found
}

/// Files that SQLite creates beside an open database.
pub(super) fn sqlite_companions(path: &Path) -> [PathBuf; 3] {
    ["-wal", "-shm", "-journal"].map(|suffix| beside(path, suffix))
}

/// Paths of all files that belong to a checkpoint, existing or not: those of SQLite, the lock file and the backups.
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

/// Offset of the big-endian application id in a database's header (sqlite.org/fileformat2.html, 1.3).
const APPLICATION_ID_OFFSET: u64 = 68;

/// Whether the file has our application id. It is read without opening a database, which could disturb another program.
pub(super) fn has_application_id(path: &Path) -> bool {
    use std::os::unix::fs::FileExt;
    let mut found = [0; 4];
    let read = std::fs::File::open(path).and_then(|file| file.read_exact_at(&mut found, APPLICATION_ID_OFFSET));
    read.is_ok() && i64::from(u32::from_be_bytes(found)) == APPLICATION_ID
}

/// Opens the file for reading without disturbing a live run.
pub(super) fn read_only(path: &Path) -> Result<Connection, StoreError> {
    if !path.try_exists().unwrap_or(false) {
        return Err(StoreError::Missing { path: path.to_owned() });
    }
    let found = path
        .symlink_metadata()
        .map_err(|source| StoreError::Open { path: path.to_owned(), source: Arc::new(source) })?;
    // A second hard link would get its own -wal, and the two would corrupt the database (sqlite.org/howtocorrupt.html).
    files::check_regular(path, &found)?;
    // Read-write, because a reader of a WAL file takes part in its locks; `query_only` prevents writes. If the file is not
    // writable, SQLite falls back to read-only.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(StoreError::sqlite("opening the file"))?;
    db.busy_timeout(BUSY_TIMEOUT).map_err(StoreError::sqlite("opening the file"))?;
    db.pragma_update(None, "query_only", true).map_err(StoreError::sqlite("opening the file"))?;
    check_identity(&db, path, Access::Read)?;
    Ok(db)
}

/// Resolves links in the directory: SQLite's NOFOLLOW refuses links in any part of the path, but only the file itself
/// must not be a link.
fn absolute(path: &Path) -> io::Result<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(folder.canonicalize()?.join(path.file_name().unwrap_or_default()))
}

/// Restricts the file to its owner, because it contains personal data.
fn restrict_permissions(path: &Path) -> io::Result<()> {
    let mut permissions = path.metadata()?.permissions();
    if permissions.mode() & 0o077 != 0 {
        tracing::warn!(checkpoint = %path.display(), "tightened checkpoint permissions to 0600");
        permissions.set_mode(0o600);
        std::fs::set_permissions(path, permissions)?;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn check_file_system(path: &Path) -> Result<(), StoreError> {
    // linux/magic.h: NFS, SMB, SMB2, CIFS, 9P, AFS, Ceph. FUSE is not listed, because it is often local.
    const NETWORK: [u64; 7] = [0x6969, 0x517B, 0xFE53_4D42, 0xFF53_4D42, 0x0102_1997, 0x5346_414F, 0x00C3_6400];
    // The magic numbers have 32 bits; the type of the field differs between platforms.
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
    // A run that was killed while it created the file leaves an empty database, with or without our application id.
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
    // FULL: a returned commit survives a power loss. NORMAL could lose acknowledged intents.
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
        for version in 1..SCHEMA.len() {
            let path = dir.path().join(format!("{version}.sqlite"));
            let mut db = Connection::open(&path).unwrap();
            db.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            Migrations::from_slice(&SCHEMA[..version]).to_latest(&mut db).unwrap();
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
            let stored: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
            assert_eq!(stored, version as i64);
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
    fn permissions_of_readable_checkpoint_are_tightened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sqlite");
        drop(read_write(&path).unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o664)).unwrap();
        drop(read_write(&path).unwrap());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn journal_is_a_synchronous_wal() {
        let dir = tempfile::tempdir().unwrap();
        let Opened { db, file: _file } = read_write(&dir.path().join("c.sqlite")).unwrap();
        let text: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        let level: i64 = db.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!((text.as_str(), level), ("wal", 2));
    }

    #[test]
    fn foreign_newer_linked_and_broken_files_stay_untouched() {
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
