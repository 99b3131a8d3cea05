//! The `--include` and `--exclude` flags for directories.

use std::{path::Path, str::FromStr};

use globset::{Glob, GlobMatcher};

/// A glob of `--include` or `--exclude`, such as `*.jpg` or `2024/**`, for paths relative to the directory.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

impl FromStr for Pattern {
    type Err = globset::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Glob::new(text).map(|glob| Self(glob.compile_matcher()))
    }
}

/// Files of a directory to read.
#[derive(Debug, Clone, Default)]
pub struct FileFilter {
    /// Files to include; if empty, extensions and content decide.
    pub include: Vec<Pattern>,
    /// Files and directories to exclude.
    pub exclude: Vec<Pattern>,
}

impl FileFilter {
    /// Whether `--include` matches; `None` if it was not given.
    pub(super) fn is_included(&self, path: &Path) -> Option<bool> {
        (!self.include.is_empty()).then(|| self.include.iter().any(|pattern| pattern.matches(path)))
    }

    pub(super) fn is_excluded(&self, path: &Path) -> bool {
        self.exclude.iter().any(|pattern| pattern.matches(path))
    }
}

impl Pattern {
    /// Matches a pattern without a slash in every directory, like `.gitignore`.
    fn matches(&self, path: &Path) -> bool {
        let has_folder = self.0.glob().glob().contains('/');
        self.0.is_match(path) || (!has_folder && path.file_name().is_some_and(|name| self.0.is_match(name)))
    }
}
