//! One integration binary, a file per theme.

mod api;
mod manifest;
mod picture;
mod sandbox;
