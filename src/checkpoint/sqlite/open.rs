//! Opens, creates, checks and migrates the file.
//!
//! The order: the file is ours by its type and place, then by its application id, then by its schema version; only then
//! is anything written. Another program's database, and a newer version's, are left untouched.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use crate::checkpoint::StoreError;

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
];
const MIGRATIONS: Migrations<'static> = Migrations::from_slice(SCHEMA);

/// Opens the file for a run, making it where there is none.
pub(super) fn read_write(path: &Path) -> Result<Connection, StoreError> {
    assert!(rusqlite::version_number() >= LEAST_SQLITE, "built with a SQLite that can lose committed data");
    let open = |source: io::Error| StoreError::Open { path: path.to_owned(), source: Arc::new(source) };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_made) => {}
        Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => check_file(path)?,
        Err(other) => return Err(open(other)),
    }
    check_file_system(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut db =
        Connection::open_with_flags(absolute(path).map_err(open)?, flags).map_err(StoreError::sqlite("opening it"))?;
    db.busy_timeout(BUSY).map_err(StoreError::sqlite("setting it up"))?;
    db.set_prepared_statement_cache_capacity(STATEMENTS);
    check_identity(&db, path, Access::Write)?;
    // Only now is it known to be ours. A file that was just made is for its owner alone already.
    close_to_others(path).map_err(open)?;
    keep_what_is_migrated(&db, path)?;
    set_up(&db).map_err(StoreError::sqlite("setting it up"))?;
    MIGRATIONS.to_latest(&mut db).map_err(|failed| match failed {
        rusqlite_migration::Error::RusqliteError { err, .. } => StoreError::sqlite("migrating it")(err),
        other => StoreError::Unreadable { detail: other.to_string() },
    })?;
    Ok(db)
}

/// A file of an older shape is copied first, beside itself: `FILE.v1.bak`.
fn keep_what_is_migrated(db: &Connection, path: &Path) -> Result<(), StoreError> {
    let version: i64 = db
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(StoreError::sqlite("reading its header"))?;
    if version == 0 || version == SCHEMA.len() as i64 {
        return Ok(());
    }
    let mut copy = path.as_os_str().to_owned();
    copy.push(format!(".v{version}.bak"));
    // For the owner alone, from its first byte; SQLite writes into an empty file, and into no other.
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&copy);
    made.map_err(|source| StoreError::Open { path: copy.clone().into(), source: Arc::new(source) })?;
    db.execute("VACUUM INTO ?1", [copy.to_string_lossy()])
        .map_err(StoreError::sqlite("copying it before migrating"))?;
    tracing::info!(copy = %Path::new(&copy).display(), "the checkpoint is of an older version: copied, then migrated");
    Ok(())
}

/// Where a database's header has the application id (sqlite.org/fileformat2.html, 1.3), big-endian.
const APPLICATION_ID_AT: u64 = 68;

/// Is the file marked as ours? Told without opening it as a database, which another program's might not bear.
pub(super) fn is_marked(path: &Path) -> bool {
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
    check_file(path)?;
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

fn check_file(path: &Path) -> Result<(), StoreError> {
    let found = path
        .symlink_metadata()
        .map_err(|source| StoreError::Open { path: path.to_owned(), source: Arc::new(source) })?;
    // A second hard link would get a second -wal, and the two would tear the database apart (sqlite.org/howtocorrupt.html).
    if found.is_file() && found.nlink() == 1 { Ok(()) } else { Err(StoreError::NotAFile { path: path.to_owned() }) }
}

/// It names people: what others could read so far, they can't from here on.
fn close_to_others(path: &Path) -> io::Result<()> {
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
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let known = SCHEMA.len() as i64;
    if version > known {
        return Err(StoreError::Newer { path: path.to_owned(), found: version, known });
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

    #[test]
    fn migrations_are_well_formed() {
        MIGRATIONS.validate().unwrap();
    }

    #[test]
    fn checkpoint_of_the_first_shape_is_migrated_and_loses_nothing() {
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
        assert!(is_marked(&path) && !is_marked(dir.path()));
        let db = read_write(&path).unwrap();
        let (user, state, changed): (String, i64, i64) = db
            .query_row(
                "SELECT user, state, changed FROM items WHERE replaces IS NULL AND sent_sha256 IS NULL",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .unwrap();
        assert_eq!((user.as_str(), state, changed), ("u", 3, 0));
        let copy = dir.path().join("c.sqlite.v1.bak");
        assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let old = Connection::open(copy).unwrap();
        let version: i64 = old.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        let users: i64 = old.query_row("SELECT count(*) FROM items WHERE user = 'u'", [], |row| row.get(0)).unwrap();
        assert_eq!((version, users), (1, 1));
    }

    #[test]
    fn checkpoint_of_an_older_shape_is_looked_into_as_it_is() {
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
    fn new_checkpoint_and_its_wal_are_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sqlite");
        let db = read_write(&path).unwrap();
        db.execute("INSERT INTO settings VALUES ('a', 'b')", []).unwrap();
        for name in ["c.sqlite", "c.sqlite-wal", "c.sqlite-shm"] {
            let mode = dir.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn file_that_was_being_made_when_its_run_was_killed_is_made_anew() {
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
        let db = read_write(&dir.path().join("c.sqlite")).unwrap();
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
        read_write(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let junk = dir.path().join("junk.sqlite");
        std::fs::write(&junk, "this is no database, and it is long enough to be looked at as one\n".repeat(40))
            .unwrap();
        let link = dir.path().join("link.sqlite");
        std::os::unix::fs::symlink(&foreign, &link).unwrap();

        for (path, is_right) in [
            (&foreign, (|e| matches!(e, StoreError::Foreign { .. })) as fn(&StoreError) -> bool),
            (&newer, |e| matches!(e, StoreError::Newer { found: 99, .. })),
            (&junk, |e| matches!(e, StoreError::Corrupt { .. })),
            (&link, |e| matches!(e, StoreError::NotAFile { .. })),
        ] {
            let before = std::fs::read(path).unwrap();
            let refused = read_write(path).unwrap_err();
            assert!(is_right(&refused), "{path:?}: {refused:?}");
            assert!(is_right(&read_only(path).unwrap_err()), "{path:?}");
            assert_eq!(std::fs::read(path).unwrap(), before, "{path:?}");
        }
        assert!(matches!(read_only(&dir.path().join("none")), Err(StoreError::Missing { .. })));
    }
}
