//! Uploads photos that do not go inline, before any intent: an upload enrolls nobody, so a failed one leaves the item
//! pending, and the next attempt starts with a new authorization.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    api::{ObjectUrl, Transport},
    caller::Caller,
    domain::{
        CallError,
        action::{AuthorizeFileUpload, PostObject},
    },
    pace::Gate,
};

/// Uploads photos.
pub(super) struct Uploader<T> {
    pub(super) caller: Arc<Caller<T>>,
    pub(super) authorize_gate: Gate<AuthorizeFileUpload>,
    pub(super) post_gate: Gate<PostObject>,
}

impl<T: Transport> Uploader<T> {
    /// Gets an authorization, then uploads the photo. `None` if the run is draining.
    pub(super) async fn upload(&self, photo: &[u8]) -> Option<Result<ObjectUrl, CallError>> {
        let Self { caller, authorize_gate, post_gate } = self;
        let (authorization, permit) = loop {
            let authorized =
                caller.call(authorize_gate, async |client, permit| client.authorize_file_upload(permit).await);
            let authorization = match authorized.await? {
                Ok(authorization) => authorization,
                Err(error) => return Some(Err(error)),
            };
            let issued_at = Instant::now();
            let permit = caller.patient_permit(post_gate).await?;
            // The authorization may have expired while the file waited at the gate.
            if issued_at.elapsed() < authorization.life {
                break (authorization, permit);
            }
        };
        crate::crash::point("upload.before");
        let stored = caller.client.post_object(permit, &authorization, photo).await;
        crate::crash::point("upload.after");
        post_gate.record(&stored, Instant::now());
        Some(stored)
    }
}
