//! Errors as the user sees them: what failed, why, and what to do next.

use std::{borrow::Cow, error::Error, fmt};

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

/// An error that ends the program, with its exit code.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    cause: Box<dyn Error + Send + Sync>,
    hint: Option<Cow<'static, str>>,
}

impl CliError {
    /// An error with an exit code and no hint.
    pub fn new(exit: Exit, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { exit, cause: cause.into(), hint: None }
    }

    /// Adds what to do next.
    pub fn with_hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What failed, and why.
    pub(super) fn message(&self) -> String {
        let mut message = self.cause.to_string();
        let mut last = message.clone();
        let mut source = self.cause.source();
        while let Some(cause) = source {
            let next = cause.to_string();
            // Skip a cause that its wrapper already repeats.
            if !last.ends_with(&next) {
                message = format!("{message}: {next}");
            }
            last = next;
            source = cause.source();
        }
        message
    }

    /// What to do next.
    pub(super) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        self.hint().map_or(Ok(()), |hint| write!(f, "\n  {hint}"))
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let (exit, hint) = match &error {
            StoreError::Locked { .. } => {
                (Exit::Locked, Some("wait until that run has ended; run itself can wait: --wait-lock 10m"))
            }
            StoreError::InUse { .. } => (
                Exit::Checkpoint,
                Some("close what reads it (a database browser, an export, a backup), then run this again"),
            ),
            StoreError::Stale { .. } | StoreError::Copied { .. } => (
                Exit::Checkpoint,
                Some(
                    "put the newer file back, with its .lock, or give --after-restore to check the service before every send",
                ),
            ),
            StoreError::TargetMismatch { .. } => {
                (Exit::Usage, Some("give the region or endpoint of this checkpoint, or another --checkpoint"))
            }
            StoreError::Missing { .. } => {
                (Exit::Usage, Some("give the manifest of an earlier run, or --checkpoint FILE"))
            }
            StoreError::InvalidTransition { .. } => (Exit::Internal, Some("please report this with the log")),
            StoreError::SchemaTooNew { .. } => {
                (Exit::Checkpoint, Some("upgrade face-enroll to that version or a newer one"))
            }
            StoreError::NotACheckpoint { .. } => (Exit::Checkpoint, Some("give another --checkpoint")),
            StoreError::File(FileError::OtherOwner { .. }) => {
                (Exit::Checkpoint, Some("run as that user (sudo -u USER), or give another --checkpoint"))
            }
            StoreError::File(_) => (
                Exit::Checkpoint,
                Some("find out where the file comes from and move it away, or give another --checkpoint"),
            ),
            StoreError::NetworkFileSystem { .. } => (Exit::Checkpoint, Some("give a --checkpoint on a local disk")),
            StoreError::Corrupt { detail } if detail.contains("not a database") => (
                Exit::Checkpoint,
                Some(
                    "if it is not a checkpoint, give another --checkpoint; otherwise keep the file and its -wal unchanged; nothing was sent",
                ),
            ),
            StoreError::Corrupt { .. } | StoreError::Unreadable { .. } => {
                (Exit::Checkpoint, Some("keep the file and its -wal unchanged; nothing more was sent"))
            }
            StoreError::Failed { .. } | StoreError::Open { .. } | StoreError::Stopped => {
                (Exit::Checkpoint, Some("check the disk (space, permissions, health), then run again"))
            }
        };
        Self { exit, cause: error.into(), hint: hint.map(Cow::Borrowed) }
    }
}

impl From<SourceError> for CliError {
    fn from(error: SourceError) -> Self {
        let (exit, hint) = match &error {
            SourceError::ObjectStorage { fatal, .. } => {
                let is_unset = matches!(fatal, FatalError::ObjectStorage { code, .. } if code.0 == "NoEndpoint");
                (if is_unset { Exit::Usage } else { Exit::Fatal }, Some(hint(fatal)))
            }
            error if error.is_usage() => (Exit::Usage, None),
            _ => (Exit::Source, None),
        };
        Self { hint: hint.map(Cow::Borrowed), ..Self::new(exit, error) }
    }
}

impl From<IngestError> for CliError {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Source(error) => error.into(),
            IngestError::Store(error) => error.into(),
            IngestError::Panicked => Self::new(Exit::Internal, error),
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
                .with_hint("the credential source is unreachable: check the network, or run again later"),
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
            ExportError::Write(cause) if is_bad_path(&cause) => {
                Self::new(Exit::Usage, ExportError::Write(cause)).with_hint("give a path that can be written")
            }
            ExportError::Write(_) => Self::new(Exit::Internal, error),
        }
    }
}

/// The exit after writing an output; a closed pipe is not an error.
pub(super) fn exit_after_writing(written: Result<(), ExportError>) -> Result<Exit, CliError> {
    match written {
        Ok(()) => Ok(Exit::Success),
        Err(error) if error.is_closed_pipe() => Ok(Exit::Success),
        Err(error) => Err(error.into()),
    }
}

/// Whether the output path itself is wrong, as opposed to a failed write.
fn is_bad_path(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), IsADirectory | NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
}

/// What to do after a fatal error.
pub(super) fn hint(fatal: &FatalError) -> &'static str {
    match fatal {
        FatalError::Credentials { .. } => {
            "check ALIBABA_CLOUD_ACCESS_KEY_ID, _SECRET and _SECURITY_TOKEN, or the profile, then run again"
        }
        FatalError::Signature { .. } => "check ALIBABA_CLOUD_ACCESS_KEY_SECRET, then run again",
        FatalError::Permission { .. } => {
            "grant the RAM user AliyunAntCloudAuthFullAccess, or AddFaceRecord, QueryFaceRecord, QueryFaceGroup and (for --on-change replace and undo) DeleteFaceRecord, then run again"
        }
        FatalError::ObjectStorage { code, .. } if code.0 == "NoEndpoint" => {
            "give --region for a bucket of Alibaba Cloud, --oss-endpoint URL for one of `face-enroll sandbox` (the URL that it prints), or --sandbox-bucket NAME=DIR with --sandbox"
        }
        FatalError::ObjectStorage { .. } => {
            "grant the RAM user oss:ListObjects and oss:GetObject on the bucket, check --region and --oss-endpoint, then run again"
        }
        FatalError::Account { .. } => "activate ID Verification and settle overdue payments, then run again",
        FatalError::Endpoint { .. } => "check --region, --network and --endpoint, then run again",
        FatalError::Intercepted { .. } => {
            "let this host reach the endpoint, then run again: the next run first checks the rows in doubt"
        }
        FatalError::Certificate { .. } => {
            "check the endpoint's name, this machine's clock and its root certificates, then run again"
        }
        FatalError::Proxy { .. } => {
            "check HTTPS_PROXY (or ALL_PROXY) and NO_PROXY, and the proxy itself, then run again"
        }
        FatalError::Quota { .. } => {
            "check --quota-at and the password (~/.pgpass, PGPASSWORD or FACE_ENROLL_DATABASE_PASSWORD_FILE); the role needs GRANT CREATE ON DATABASE once; then run again"
        }
        FatalError::Clock { .. } => "set this machine's clock, then run again",
        FatalError::UnknownGroup { .. } => {
            "check --group and --region, or create the group in the console, then run again"
        }
        FatalError::SameRefusal { .. } => {
            "these rows are pending again: fix the cause and run again, or give --keep-going to reject them"
        }
    }
}

impl From<FatalError> for CliError {
    fn from(fatal: FatalError) -> Self {
        Self::new(Exit::Fatal, fatal.to_string()).with_hint(hint(&fatal))
    }
}
