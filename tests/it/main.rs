//! One integration binary, a file per theme.

mod api;
mod checkpoint;
mod manifest;
mod picture;
mod sandbox;
