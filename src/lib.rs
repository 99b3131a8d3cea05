//! Moves an archive of face photos into Alibaba Cloud ID Verification face groups, resumably and at the quota.

pub mod api;
pub mod checkpoint;
mod crash;
pub mod domain;
pub mod manifest;
pub mod pace;
pub mod picture;
pub mod sandbox;
