//! `face-enroll run --dry-run`: the same reading and the same checks; nothing sent, nothing written.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
};

use super::{Failure, reading, target};
use crate::{
    cli::RunArgs,
    domain::{PictureRef, RowDefect},
    exit::Exit,
    picture::{self, LoadError},
    report,
    run::Reading,
};

/// See the module.
pub(super) fn dry_run(args: &RunArgs) -> Result<Exit, Failure> {
    let mut plan = Plan::default();
    for Reading { source, .. } in reading::open(&args.read, target::group(args))? {
        for row in source {
            match row? {
                Ok(item) => plan.item(&item),
                Err(error) => plan.fault(error.row, &error.defect.code().0, &error.message),
            }
        }
    }
    let Plan { rows, good, bytes, codes, .. } = &plan;
    let seconds = *good as f64 / args.sending.qps.get();
    let faults = rows - good;
    report::print(&format!(
        "{} rows: {} would be sent ({} MB, {} at {}/s), {} would be refused here",
        report::thousands(*rows),
        report::thousands(*good),
        bytes / 1_000_000,
        report::duration(std::time::Duration::from_secs_f64(seconds)),
        args.sending.qps,
        report::thousands(faults),
    ));
    for (code, n) in codes {
        report::print(&format!("  {code} {}", report::thousands(*n)));
    }
    Ok(if faults == 0 { Exit::Success } else { Exit::Rejected })
}

#[derive(Default)]
struct Plan {
    rows: u64,
    good: u64,
    bytes: u64,
    codes: BTreeMap<String, u64>,
    /// First row of each (group, id), by hash: 16 bytes a row, whatever the ids.
    first: HashMap<u64, u64>,
    hasher: RandomState,
}

impl Plan {
    fn item(&mut self, item: &crate::domain::Item) {
        match self.first.entry(self.hasher.hash_one((&item.group, &item.user))) {
            Entry::Occupied(first) => {
                let message = format!("row {} has the same id in the same group", first.get());
                return self.fault(item.row, &RowDefect::DuplicateUserId.code().0, &message);
            }
            Entry::Vacant(free) => free.insert(item.row),
        };
        let PictureRef::Path(path) = &item.picture else {
            return self.sent(0);
        };
        match picture::load(path, &picture::Rules::default()) {
            Ok(picture) => self.sent(picture.stamp.size),
            Err(LoadError::Defect(defect)) => self.fault(item.row, &defect.code().0, &defect.to_string()),
            Err(LoadError::Io(error)) => self.fault(item.row, "Unreadable", &error.to_string()),
        }
    }

    fn sent(&mut self, bytes: u64) {
        self.rows += 1;
        self.good += 1;
        self.bytes += bytes;
    }

    fn fault(&mut self, row: u64, code: &str, message: &str) {
        self.rows += 1;
        *self.codes.entry(code.to_owned()).or_default() += 1;
        report::print(&format!("row {row}: {code}: {message}"));
    }
}
