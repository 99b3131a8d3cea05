//! Files, whatever is in them: opening one without leaving its folder, and finding one under another spelling.

pub mod beneath;
pub mod spelling;
