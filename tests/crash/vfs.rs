//! A SQLite VFS that distinguishes synced from unsynced writes.
//!
//! It wraps the default VFS and forwards every call. For files in a watched folder it tracks what would survive a power loss:
//! the synced bytes for certain, and the later writes possibly, in any order and torn at any sector. It can also fail a
//! write or a sync.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{CStr, c_int, c_void},
    mem::size_of,
    path::{Path, PathBuf},
    ptr,
    sync::{Arc, LazyLock, Mutex, Once},
};

use rusqlite::ffi::{
    SQLITE_FULL, SQLITE_IOERR_FSYNC, SQLITE_OK, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_io_methods,
    sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

const SECTOR: usize = 512;

/// Content of each file, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// An unsynced change.
#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { to: usize },
}

/// Content of the disk: what is durable, and what is only written.
#[derive(Debug, Clone, Default)]
pub struct DiskState {
    durable: Files,
    unsynced: Vec<(String, Change)>,
}

/// Which unsynced changes a power loss destroys.
#[derive(Debug, Clone, Copy)]
pub enum Loss {
    /// All of them.
    Everything,
    /// None of them.
    Nothing,
    /// All after a random point.
    Tail,
    /// A random part of them, in any order, torn at sectors.
    Torn,
}

impl DiskState {
    /// Files that are found when the power is back.
    pub fn after_loss(&self, loss: Loss, random: &mut fastrand::Rng) -> Files {
        let mut files = self.durable.clone();
        match loss {
            Loss::Everything => {}
            Loss::Nothing => self.unsynced.iter().for_each(|change| apply(&mut files, change)),
            Loss::Tail => {
                let kept = random.usize(..=self.unsynced.len());
                self.unsynced[..kept].iter().for_each(|change| apply(&mut files, change));
            }
            Loss::Torn => {
                let mut pieces: Vec<(String, Change)> = self.unsynced.iter().flat_map(sectors).collect();
                pieces.retain(|_| random.bool());
                random.shuffle(&mut pieces);
                pieces.iter().for_each(|change| apply(&mut files, change));
            }
        }
        files
    }
}

fn apply(files: &mut Files, (name, change): &(String, Change)) {
    let file = files.entry(name.clone()).or_default();
    match change {
        Change::Write { at, bytes } => {
            let end = at + bytes.len();
            if file.len() < end {
                file.resize(end, 0);
            }
            file[*at..end].copy_from_slice(bytes);
        }
        Change::Truncate { to } => file.truncate(*to),
    }
}

/// Splits a write at sector boundaries.
fn sectors((name, change): &(String, Change)) -> Vec<(String, Change)> {
    let Change::Write { at, bytes } = change else { return vec![(name.clone(), change.clone())] };
    let mut pieces = Vec::new();
    let (mut at, mut rest) = (*at, bytes.as_slice());
    while !rest.is_empty() {
        let (piece, tail) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
        pieces.push((name.clone(), Change::Write { at, bytes: piece.to_vec() }));
        (at, rest) = (at + piece.len(), tail);
    }
    pieces
}

/// A failure to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFailure {
    /// A write fails with `SQLITE_FULL`.
    Full,
    /// A sync fails.
    Sync,
}

/// State of a watched folder.
#[derive(Default)]
pub struct Disk {
    now: DiskState,
    /// State before each sync.
    sync_points: Vec<DiskState>,
    /// A sync reports success without syncing.
    ignores_syncs: bool,
    /// Failure to inject, and the number of writes or syncs that succeed before it. It happens once.
    failure: Option<(DiskFailure, u32)>,
}

impl Disk {
    /// Current state.
    pub fn now(&self) -> DiskState {
        self.now.clone()
    }

    /// States before each sync since the last call.
    pub fn take_sync_points(&mut self) -> Vec<DiskState> {
        std::mem::take(&mut self.sync_points)
    }

    pub fn ignore_syncs(&mut self) {
        self.ignores_syncs = true;
    }

    pub fn ignores_syncs(&self) -> bool {
        self.ignores_syncs
    }

    pub fn fail(&mut self, failure: DiskFailure, after: u32) {
        self.failure = Some((failure, after));
    }

    /// Whether the failure has been injected.
    pub fn has_failed(&self) -> bool {
        self.failure.is_none()
    }

    fn must_fail(&mut self, operation: DiskFailure) -> bool {
        match &mut self.failure {
            Some((failure, 0)) if *failure == operation => {
                self.failure = None;
                true
            }
            Some((failure, left)) if *failure == operation => {
                *left -= 1;
                false
            }
            Some(_) | None => false,
        }
    }
}

type Watched = Arc<Mutex<Disk>>;

static DISKS: LazyLock<Mutex<HashMap<PathBuf, Watched>>> = LazyLock::new(Mutex::default);

/// Starts to watch a folder.
pub fn watch(folder: &Path) -> Watched {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(register);
    let disk = Watched::default();
    DISKS.lock().unwrap().insert(folder.canonicalize().unwrap(), disk.clone());
    disk
}

/// Disk and name of a file, if its folder is watched.
fn find_watched(path: *const std::ffi::c_char) -> Option<Box<(Watched, String)>> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite passes names as C strings that are valid during the call.
    let path = Path::new(unsafe { CStr::from_ptr(path) }.to_str().ok()?);
    let disk = DISKS.lock().unwrap().get(path.parent()?)?.clone();
    Some(Box::new((disk, path.file_name()?.to_str()?.to_owned())))
}

/// An open file; the real one follows it in the same allocation.
#[repr(C)]
struct File {
    base: sqlite3_file,
    real: *mut sqlite3_file,
    /// Owned; null if the file is not watched.
    watched: *mut (Watched, String),
}

fn real_vfs() -> *mut sqlite3_vfs {
    struct Real(*mut sqlite3_vfs);
    // SAFETY: it belongs to SQLite, has a static lifetime, and is never changed.
    unsafe impl Send for Real {}
    unsafe impl Sync for Real {}
    // Initialised before our VFS is registered.
    static REAL: LazyLock<Real> = LazyLock::new(|| Real(unsafe { sqlite3_vfs_find(ptr::null()) }));
    REAL.0
}

fn register() {
    let real = real_vfs();
    // SAFETY: `real` is valid and the copy is leaked. The copied methods do not read the structure that they are called
    // with; the two replaced ones pass the real one on.
    unsafe {
        let mut ours = *real;
        ours.szOsFile = (size_of::<File>() + usize::try_from(ours.szOsFile).unwrap()) as c_int;
        ours.zName = c"power".as_ptr();
        ours.pNext = ptr::null_mut();
        ours.xOpen = Some(open);
        ours.xDelete = Some(delete);
        assert_eq!(sqlite3_vfs_register(Box::leak(Box::new(ours)), 1), SQLITE_OK);
    }
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn open(
    _vfs: *mut sqlite3_vfs,
    name: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite allocates szOsFile bytes, enough for our file and the real one.
    unsafe {
        let ours = file.cast::<File>();
        (*ours).base.pMethods = ptr::null();
        (*ours).real = ours.add(1).cast();
        (*ours).watched = ptr::null_mut();
        let vfs = real_vfs();
        let code = (*vfs).xOpen.unwrap()(vfs, name, (*ours).real, flags, out);
        if !(*(*ours).real).pMethods.is_null() {
            (*ours).base.pMethods = &raw const METHODS;
            (*ours).watched = find_watched(name).map_or(ptr::null_mut(), Box::into_raw);
        }
        code
    }
}

unsafe extern "C" fn delete(_vfs: *mut sqlite3_vfs, name: *const std::ffi::c_char, sync: c_int) -> c_int {
    // SAFETY: the arguments are those of SQLite.
    let code = unsafe { (*real_vfs()).xDelete.unwrap()(real_vfs(), name, sync) };
    if let Some(watched) = find_watched(name)
        && code == SQLITE_OK
    {
        let (disk, name) = *watched;
        let mut disk = disk.lock().unwrap();
        // A deletion counts as durable: SQLite syncs the folder where it matters.
        disk.now.durable.remove(&name);
        disk.now.unsynced.retain(|change| change.0 != name);
    }
    code
}

/// Calls a method of the real file.
macro_rules! real {
    ($file:ident . $method:ident ($($argument:expr),*)) => {{
        let real = (*$file.cast::<File>()).real;
        (*(*real).pMethods).$method.unwrap()(real $(, $argument)*)
    }};
}

/// Disk and name of an open file, if it is watched.
unsafe fn watched<'a>(file: *mut sqlite3_file) -> Option<&'a (Watched, String)> {
    // SAFETY: null, or a box created by `open` and freed by `close`.
    unsafe { (*file.cast::<File>()).watched.as_ref() }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    unsafe {
        let code = real!(file.xClose());
        let watched = (*file.cast::<File>()).watched;
        if !watched.is_null() {
            drop(Box::from_raw(watched));
        }
        code
    }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, bytes: *const c_void, n: c_int, at: sqlite3_int64) -> c_int {
    unsafe {
        if let Some((disk, _)) = watched(file)
            && disk.lock().unwrap().must_fail(DiskFailure::Full)
        {
            return SQLITE_FULL;
        }
        let code = real!(file.xWrite(bytes, n, at));
        if let Some((disk, name)) = watched(file)
            && code == SQLITE_OK
        {
            let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), n as usize).to_vec();
            disk.lock().unwrap().now.unsynced.push((name.clone(), Change::Write { at: at as usize, bytes }));
        }
        code
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, to: sqlite3_int64) -> c_int {
    unsafe {
        let code = real!(file.xTruncate(to));
        if let Some((disk, name)) = watched(file) {
            disk.lock().unwrap().now.unsynced.push((name.clone(), Change::Truncate { to: to as usize }));
        }
        code
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, flags: c_int) -> c_int {
    unsafe {
        if let Some((disk, name)) = watched(file) {
            let mut disk = disk.lock().unwrap();
            let state = disk.now.clone();
            disk.sync_points.push(state);
            if disk.must_fail(DiskFailure::Sync) {
                return SQLITE_IOERR_FSYNC;
            }
            if !disk.ignores_syncs {
                let DiskState { durable, unsynced } = &mut disk.now;
                unsynced.retain(|change| {
                    let is_this_file = change.0 == *name;
                    if is_this_file {
                        apply(durable, change);
                    }
                    !is_this_file
                });
            }
        }
        real!(file.xSync(flags))
    }
}

unsafe extern "C" fn read(file: *mut sqlite3_file, into: *mut c_void, n: c_int, at: sqlite3_int64) -> c_int {
    unsafe { real!(file.xRead(into, n, at)) }
}
unsafe extern "C" fn file_size(file: *mut sqlite3_file, out: *mut sqlite3_int64) -> c_int {
    unsafe { real!(file.xFileSize(out)) }
}
unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    unsafe { real!(file.xLock(level)) }
}
unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    unsafe { real!(file.xUnlock(level)) }
}
unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    unsafe { real!(file.xCheckReservedLock(out)) }
}
unsafe extern "C" fn file_control(file: *mut sqlite3_file, what: c_int, argument: *mut c_void) -> c_int {
    unsafe { real!(file.xFileControl(what, argument)) }
}
unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    unsafe { real!(file.xSectorSize()) }
}
unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    unsafe { real!(file.xDeviceCharacteristics()) }
}
unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    unsafe { real!(file.xShmMap(page, size, extend, out)) }
}
unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, offset: c_int, n: c_int, flags: c_int) -> c_int {
    unsafe { real!(file.xShmLock(offset, n, flags)) }
}
unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    unsafe { real!(file.xShmBarrier()) }
}
unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, delete: c_int) -> c_int {
    unsafe { real!(file.xShmUnmap(delete)) }
}
