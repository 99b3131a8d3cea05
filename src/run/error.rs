//! Errors that end a run.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

use crate::checkpoint::StoreError;

/// Error that ends a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The checkpoint failed: nothing more may be sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A step for an item panicked (a bug); the item may be in doubt.
    #[error("internal error while processing an item: {0}")]
    Panic(String),
}

/// Runs a step for an item. A panic in it ends the run in an orderly way.
pub(super) async fn catch<R>(step: impl Future<Output = Result<R, StoreError>>) -> Result<R, RunError> {
    match AssertUnwindSafe(step).catch_unwind().await {
        Ok(result) => result.map_err(RunError::from),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            Err(RunError::Panic(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()))
        }
    }
}
