//! Turns arguments into sources to read and rules for their photos.

use super::CliError;
use crate::{
    cli::{PhotoArgs, Send, SourceArgs},
    domain::FaceGroupCode,
    manifest::{self, FileFilter, Source},
    picture::{QualityPolicy, Rules},
    storage::{self, Objects, Storage},
};

/// Opens every source. `group` is for rows that do not name one.
pub(super) fn open(
    args: &SourceArgs,
    group: Option<FaceGroupCode>,
    objects: &Objects,
) -> Result<Vec<Source>, CliError> {
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
        objects: objects.clone(),
        files: FileFilter { include: args.include.clone(), exclude: args.exclude.clone() },
    };
    args.sources.iter().map(|source| Ok(manifest::open(source, &settings)?)).collect()
}

/// Reader of the sources' photos.
pub(super) fn storage(args: &SourceArgs, objects: &Objects) -> Storage {
    Storage::new(storage::Settings { allow_outside_root: args.allow_outside_root }).with_objects(objects.clone())
}

/// Rules for photos. `default_policy` applies to poor photos without `--reject-poor`.
pub(super) fn rules(args: &PhotoArgs, default_policy: QualityPolicy) -> Rules {
    Rules {
        fit: args.fit,
        landscape: args.landscape,
        quality: if args.reject_poor { QualityPolicy::Reject } else { default_policy },
        allows_upload: args.send != Send::Inline,
        ..Rules::default()
    }
}
