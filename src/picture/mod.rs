//! Bytes become what the API accepts, or a refusal with its reason.
