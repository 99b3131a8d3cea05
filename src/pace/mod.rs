//! When the next call may go, and whether there is one.
