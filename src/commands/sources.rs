//! Turns arguments into sources to read and rules for their photos.

use super::CliError;
use crate::{
    cli::{PhotoArgs, ReadingArgs, Send, SourceArgs},
    domain::FaceGroupCode,
    manifest::{self, FileFilter, Source},
    picture::{FacePolicy, QualityPolicy, Rules},
    storage::{self, Objects, Storage},
};

/// Opens every source. `group` is for rows that do not name one.
pub(super) fn open(
    args: &SourceArgs,
    group: Option<FaceGroupCode>,
    objects: &Objects,
) -> Result<Vec<Source>, CliError> {
    let settings = settings(&args.reading, group, objects);
    args.sources.iter().map(|source| Ok(manifest::open(source, &settings)?)).collect()
}

/// How to read a source. `group` is for rows that do not name one.
pub(super) fn settings(args: &ReadingArgs, group: Option<FaceGroupCode>, objects: &Objects) -> manifest::Settings {
    manifest::Settings {
        group,
        root: args.root.clone(),
        allow_outside_root: args.allow_outside_root,
        format: args.input_format,
        delimiter: args.delimiter,
        encoding: args.encoding,
        names_in: args.names_in,
        allow_odd_ids: args.allow_odd_ids,
        sheet: args.sheet.clone(),
        columns: args.column.clone(),
        id_from: args.id_from,
        objects: objects.clone(),
        files: FileFilter { include: args.include.clone(), exclude: args.exclude.clone() },
    }
}

/// Reader of the sources' photos.
pub(super) fn storage(args: &SourceArgs, objects: &Objects) -> Storage {
    let settings =
        storage::Settings { allow_outside_root: args.reading.allow_outside_root, names_in: args.reading.names_in };
    Storage::new(settings).with_objects(objects.clone())
}

/// Rules for photos. `defaults` apply to poor photos without `--reject-poor`, and to faces without `--faces`.
pub(super) fn rules(args: &PhotoArgs, defaults: (QualityPolicy, FacePolicy)) -> Rules {
    Rules {
        fit: args.fit,
        landscape: args.landscape,
        quality: if args.reject_poor { QualityPolicy::Reject } else { defaults.0 },
        faces: args.faces.unwrap_or(defaults.1),
        allows_upload: args.send != Send::Inline,
        ..Rules::default()
    }
}
