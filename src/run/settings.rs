//! Settings of a run.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use super::{control::Limits, window::Window};
use crate::{
    api::FaceQualityCheck,
    pace::{BandwidthLimit, InDoubtPolicy, Qps, RetryRules},
    picture::Rules,
    storage::Storage,
};

/// Items that are looked up at the service before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precheck {
    /// None.
    Off,
    /// Items never sent by this checkpoint: another tool may have sent them.
    FirstSends,
    /// All: the checkpoint has lost some of its history.
    EverySend,
}

/// How photos are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendMode {
    /// In the call where they fit, else by upload.
    Auto,
    /// By upload, also photos that fit in the call.
    Upload,
    /// By a link where they are in object storage, else as with `Auto`.
    Link,
}

/// How a run behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--qps`.
    pub quota: Qps,
    /// `--concurrency`.
    pub concurrency: NonZeroUsize,
    /// `--retries`.
    pub rules: RetryRules,
    /// `--in-doubt`.
    pub in_doubt: InDoubtPolicy,
    /// `--settle`.
    pub settle: Duration,
    /// `--max-…`.
    pub limits: Limits,
    /// `--give-up-after`: longest outage of the service.
    pub give_up_after: Duration,
    /// `--keep-going`: do not stop for repeated rejections.
    pub keep_going: bool,
    /// Requirements on photos and permitted conversions.
    pub photo: Rules,
    /// `--precheck`.
    pub precheck: Precheck,
    /// `--send`.
    pub send: SendMode,
    /// `--face-quality-check`
    pub quality_check: Option<FaceQualityCheck>,
    /// `--bwlimit`
    pub bandwidth: Option<BandwidthLimit>,
    /// Reader of photos.
    pub storage: Arc<Storage>,
    /// `--window`: hours in which photos are sent.
    pub window: Option<Window>,
}
