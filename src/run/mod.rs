//! The engine: takes rows in, sends what is pending, settles what is in doubt, and stops when it is told to.
//!
//! # One item's way
//!
//! claim → prepare (blocking threads, under the byte budget) → admission → intent on disk → gate → send → outcome on
//! disk → event. A unit (`unit.rs`) walks it once; whatever is to be tried again goes back to the queue with its time, and
//! its bytes and places are given back.
//!
//! # What must not be swapped
//!
//! The intent is committed before the gate, because the gate's permit is for *now*; admission comes before the intent,
//! so that few intents wait at the gate and a crash leaves few rows in doubt; the outcome is committed before anyone
//! hears of it.
//!
//! The engine's loop awaits nothing but its select: a unit that is woken is never kept waiting by a commit of another.

mod admission;
mod attempt;
mod budget;
mod changes;
mod control;
mod engine;
mod guards;
mod ingest;
mod prepare;
mod queue;
mod reconcile;
mod replace;
mod row_queue;
mod stages;
mod stats;
mod upload;
mod window;

pub use budget::MAX_PREPARING;
pub use control::{Limits, MaxErrors, Stop, is_ignored};
pub use engine::{Deps, Engine, Precheck, RunError, Settings};
pub use ingest::{Ingest, IngestError, IngestProgress};
pub use window::Window;
