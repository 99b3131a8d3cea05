//! An error on its way to a person: what failed, why, and what to do next.

use std::{error::Error, fmt};

use crate::{
    api::{CredentialsError, EndpointError},
    checkpoint::StoreError,
    domain::FatalError,
    exit::Exit,
    files::FileError,
    manifest::SourceError,
    report::ExportError,
    run::{IngestError, RunError},
};

/// See the module.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    cause: Box<dyn Error + Send + Sync>,
    advice: Option<&'static str>,
}

impl CliError {
    /// A failure that ends the program with this code.
    pub fn new(exit: Exit, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit, cause: cause.into(), advice: None }
    }

    /// With a word on what to do.
    pub fn with_hint(self, advice: &'static str) -> Self {
        Self { advice: Some(advice), ..self }
    }

    /// What failed, and why.
    pub(super) fn words(&self) -> String {
        let mut words = self.cause.to_string();
        let mut said = words.clone();
        let mut source = self.cause.source();
        while let Some(cause) = source {
            let more = cause.to_string();
            // A wrapper that repeats its cause adds nothing.
            if !said.ends_with(&more) {
                words = format!("{words}: {more}");
            }
            said = more;
            source = cause.source();
        }
        words
    }

    /// What to do, where there is something.
    pub(super) fn advice(&self) -> Option<&'static str> {
        self.advice
    }

    /// How the program ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())?;
        self.advice.map_or(Ok(()), |advice| write!(f, "\n  {advice}"))
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let (exit, advice) = match &error {
            StoreError::Locked { .. } => (Exit::Locked, Some("wait for it, or give --wait-lock 10m")),
            StoreError::Stale { .. } | StoreError::Copied { .. } => (
                Exit::Checkpoint,
                Some(
                    "put the newer file back, with its .lock, or give --after-restore: everyone who is not enrolled in it is asked about before being sent",
                ),
            ),
            StoreError::TargetMismatch { .. } => {
                (Exit::Usage, Some("give the region or endpoint that it was made for, or another --checkpoint"))
            }
            StoreError::Missing { .. } => (Exit::Usage, Some("give the manifest that was run, or --checkpoint FILE")),
            StoreError::InvalidTransition { .. } | StoreError::IllegalRemoval { .. } => {
                (Exit::Internal, Some("please report this with the log"))
            }
            StoreError::SchemaTooNew { .. } => {
                (Exit::Checkpoint, Some("use that version of face-enroll, or a newer one"))
            }
            StoreError::NotACheckpoint { .. } => (Exit::Checkpoint, Some("give another --checkpoint")),
            StoreError::File(FileError::OtherOwner { .. }) => {
                (Exit::Checkpoint, Some("run as that user (sudo -u USER), or give another --checkpoint"))
            }
            StoreError::File(_) => {
                (Exit::Checkpoint, Some("see who put it there and move it away, or give another --checkpoint"))
            }
            StoreError::NetworkFileSystem { .. } => (Exit::Checkpoint, Some("give a --checkpoint on a local disk")),
            StoreError::Corrupt { detail } if detail.contains("not a database") => (
                Exit::Checkpoint,
                Some(
                    "if it never was one, give another --checkpoint; else keep it and its -wal as they are; nothing was sent",
                ),
            ),
            StoreError::Corrupt { .. } | StoreError::Unreadable { .. } => {
                (Exit::Checkpoint, Some("keep the file and its -wal as they are; nothing more was sent"))
            }
            StoreError::Sqlite { .. } | StoreError::Open { .. } | StoreError::Stopped => {
                (Exit::Checkpoint, Some("see to the disk (space, permissions, health), then run again"))
            }
        };
        Self { exit, cause: error.into(), advice }
    }
}

impl From<SourceError> for CliError {
    fn from(error: SourceError) -> Self {
        let exit = if error.is_usage() { Exit::Usage } else { Exit::Source };
        Self::new(exit, error)
    }
}

impl From<IngestError> for CliError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Source(error) => error.into(),
            IngestError::Store(error) => error.into(),
        }
    }
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Store(error) => error.into(),
            RunError::Panic(_) => Self::new(Exit::Internal, error).with_hint("please report this with the log"),
        }
    }
}

impl From<EndpointError> for CliError {
    fn from(error: EndpointError) -> Self {
        Self::new(Exit::Usage, error)
    }
}

impl From<CredentialsError> for CliError {
    fn from(error: CredentialsError) -> Self {
        match &error {
            CredentialsError::Setup(_) => Self::new(Exit::Usage, error),
            CredentialsError::None(_) if error.is_transient() => Self::new(Exit::TimeUp, error)
                .with_hint("whoever gives the key can't be reached: see to the network, or run again later"),
            CredentialsError::None(_)
            | CredentialsError::IncompleteKey(_)
            | CredentialsError::Malformed(_)
            | CredentialsError::NotLoopback(_) => Self::new(Exit::Fatal, error),
        }
    }
}

impl From<ExportError> for CliError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => error.into(),
            ExportError::Write(cause) if is_misplaced(&cause) => {
                Self::new(Exit::Usage, ExportError::Write(cause)).with_hint("give a file that can be written")
            }
            ExportError::Write(_) => Self::new(Exit::Internal, error),
        }
    }
}

/// Is there something wrong with the place, and not with the writing?
fn is_misplaced(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), IsADirectory | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
}

/// What a person is to do.
pub(super) fn advice(fatal: &FatalError) -> &'static str {
    match fatal {
        FatalError::Credentials { .. } => {
            "check ALIBABA_CLOUD_ACCESS_KEY_ID, _SECRET and _SECURITY_TOKEN, or the profile, then run again"
        }
        FatalError::Signature { .. } => "check ALIBABA_CLOUD_ACCESS_KEY_SECRET, then run again",
        FatalError::Permission { .. } => {
            "grant the RAM user AliyunAntCloudAuthFullAccess, or AddFaceRecord, QueryFaceRecord and QueryFaceGroup, then run again"
        }
        FatalError::Account { .. } => "activate ID Verification and settle overdue payments, then run again",
        FatalError::Endpoint { .. } => "check --region, --network and --endpoint, then run again",
        FatalError::Intercepted { .. } => {
            "let this host reach the endpoint, then run again: what was sent is in doubt and is asked about first"
        }
        FatalError::Certificate { .. } => {
            "check the endpoint's name, this machine's clock and its root certificates, then run again"
        }
        FatalError::Proxy { .. } => {
            "check HTTPS_PROXY (or ALL_PROXY) and NO_PROXY, and the proxy itself, then run again"
        }
        FatalError::Clock { .. } => "set this machine's clock, then run again",
        FatalError::UnknownGroup { .. } => {
            "check --group and --region, or make the group in the console, then run again"
        }
        FatalError::SameRefusal { .. } => {
            "these rows are pending again: mend the cause and run again, or let them be rejected with --keep-going"
        }
    }
}

impl From<FatalError> for CliError {
    fn from(fatal: FatalError) -> Self {
        Self::new(Exit::Fatal, fatal.to_string()).with_hint(advice(&fatal))
    }
}
