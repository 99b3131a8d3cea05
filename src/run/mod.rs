//! The engine: ingests rows, sends pending items, reconciles items in doubt, and stops on request.
//!
//! # Life of one item
//!
//! claim → prepare (blocking threads, under the byte budget) → admission → intent on disk → gate → send → outcome on
//! disk → event. One attempt (`attempt.rs`) takes these steps once. An item that needs a retry goes back to the queue
//! with a due time and releases its bytes and slots.
//!
//! # Order of steps
//!
//! The intent is committed before the gate, because the gate's permit is valid *now*. Admission comes before the
//! intent, so that few intents wait at the gate and a crash leaves few rows in doubt. The outcome is committed before
//! it is reported.
//!
//! The engine's loop awaits only its `select!`, so one task's commit never delays another task that is ready.

mod admission;
mod attempt;
mod budget;
mod changes;
mod control;
mod engine;
mod error;
mod guards;
mod ingest;
mod lookup;
mod precheck;
mod prepare;
mod queue;
mod reconcile;
mod recorder;
mod replace;
mod row_queue;
mod settings;
mod stages;
mod stats;
mod task;
mod upload;
mod window;

pub use budget::MAX_PREPARING;
pub use control::{Limits, MaxErrors, Stop, is_ignored};
pub use engine::{Deps, Engine, Gates};
pub use error::RunError;
pub use ingest::{Ingest, IngestError, IngestProgress};
pub use reconcile::{ReconcileSettings, Reconciler};
pub use settings::{Precheck, SendMode, Settings};
pub use window::Window;
