//! From what was typed to what is read: manifests, directories, and the rules for their photos.

use super::CliError;
use crate::{
    cli::{PhotoArgs, Send, SourceArgs},
    domain::FaceGroupCode,
    manifest::{self, FileFilter, Source},
    picture::{QualityPolicy, Rules},
};

/// Opens every source. `group` is that of rows that name none.
pub(super) fn open(args: &SourceArgs, group: Option<FaceGroupCode>) -> Result<Vec<Source>, CliError> {
    let settings = manifest::Settings {
        group,
        root: args.root.clone(),
        allow_outside_root: args.allow_outside_root,
        format: args.input_format,
        delimiter: args.delimiter,
        encoding: args.encoding,
        allow_odd_ids: args.allow_odd_ids,
        columns: args.column.clone(),
        id_from: args.id_from,
        files: FileFilter { include: args.include.clone(), exclude: args.exclude.clone() },
    };
    args.sources.iter().map(|source| Ok(manifest::open(source, &settings)?)).collect()
}

/// The rules for photos. `poor` is what becomes of poor ones where they are not to be rejected.
pub(super) fn rules(args: &PhotoArgs, poor: QualityPolicy) -> Rules {
    Rules {
        fit: args.fit,
        landscape: args.landscape,
        quality: if args.reject_poor { QualityPolicy::Reject } else { poor },
        allows_upload: args.send != Send::Inline,
        ..Rules::default()
    }
}
