//! Turns arguments into sources to read and rules for their photos.

use std::path::{Path, PathBuf};

use super::CliError;
use crate::{
    cli::{PhotoArgs, ReadingArgs, Send, SourceArgs},
    domain::FaceGroupCode,
    manifest::{self, FileFilter, Source},
    picture::{FacePolicy, QualityPolicy, Rules},
    storage::{self, Objects, Storage},
};

/// Most files of a manifest's folder that are looked at.
const MAX_NEIGHBOURS: usize = 10_000;

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

/// Says that a ZIP archive lies beside a manifest whose photos were not found: they may be in it.
pub(super) fn point_to_archive(args: &SourceArgs) {
    let manifests = args.sources.iter().filter(|source| args.reading.root.is_none() && source.is_file());
    let beside = |manifest: &PathBuf| {
        let folder = manifest.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let names = folder.read_dir().ok()?.take(MAX_NEIGHBOURS).filter_map(Result::ok).map(|entry| entry.file_name());
        names.filter(|name| storage::is_archive(&folder.join(name))).min().map(|name| folder.join(name))
    };
    if let Some(archive) = manifests.filter(|manifest| !storage::is_archive(manifest)).find_map(beside) {
        let archive = archive.display();
        tracing::warn!("photos were not found: if they are in {archive}, give --root {archive}");
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
