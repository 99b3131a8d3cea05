//! Rows become items.
