//! Enrols an archive of face photos into Alibaba Cloud ID Verification face groups, through AddFaceRecord. Every photo
//! ends with a known outcome, nobody is enrolled twice and nobody is lost, whatever crashes, and a run uses the tenant's
//! full quota without exceeding it.
//!
//! # Rooms
//!
//! ```text
//! main, cli      the binary; the flags, one file per command
//! commands       one file per subcommand; the only place that wires rooms together. Only main imports it
//! settings       settings file -> flags, inserted before the typed ones
//! telemetry      the log on stderr and in --log-file
//! exit           exit codes
//!
//! domain         data types and the rules between them: no I/O, no async, imports nothing
//! files          creates, replaces and opens files safely, also beneath a root
//! secret         access keys that no log can show
//! crash          failpoints for tests
//!
//! storage        where photo bytes lie: files beneath a root, members of ZIP archives, objects in buckets; opens, stamps
//!                and reads them
//! manifest       rows -> items: tables, JSON, directories, ZIP archives, buckets
//! picture        bytes -> what the API accepts, or a defect with its reason
//! api            the client: signs, sends once, classifies the answer; finds credentials; pings. Never retries or paces
//! pace           when the next call may leave, and whether to retry: gate, adaptive rate, backoff, circuit breaker
//! database       connections to PostgreSQL: addresses, passwords, TLS
//! quota          one quota for several processes: takes slots from a database
//! caller         one call: waits for the gate or a stop, calls once, tells the gate
//! checkpoint     durable truth: one SQLite file, one writer thread
//! run            the engine: steps that own what they need; run::engine is the loop that routes between them
//! check          reads, checks and fits like a run; sends nothing
//! verify         compares the checkpoint with the service; changes nothing
//! undo           removes from the service what a run put there, by record id
//! report         progress, summary, export, HTML, metrics
//! sandbox        a local server of the API with its own signature check
//! ```
//!
//! Imports go one way: `domain` <- `api` <- `storage` <- `manifest`, `picture`; `domain` <- `pace`, `checkpoint`;
//! `pace`, `database` <- `quota`; all of these <- `caller` <- `run`, `check`, `verify`, `undo` <- `report` <-
//! `commands` <- `main`. `sandbox` never imports `api`, because a shared signer would hide a shared mistake.
//! `tests/it/house.rs` reads the source and enforces this.
//!
//! # From row to outcome
//!
//! ```text
//! manifest::Source        Result<Item, RowError>    a bad row is stored with its reason; the run goes on
//! run::ingest             pending                   batches, written while the run sends
//! run::queue              the items that are due next
//! run::prepare            Payload, or rejected      read, plan, fit: on blocking threads, under a byte budget
//! run::upload             ObjectUrl                 only photos that do not go inline; before any intent
//! run::admission          a few at a time           one alone until the service has answered conclusively
//! pace::Bandwidth         bytes granted             with --bwlimit; before any intent
//! checkpoint: intend      Committed<Intent>         group commit, on disk BEFORE the call
//! pace::Gate<A>           Permit<A>                 one gate per API action
//! api::Client             Result<_, CallError>      signed now, one HTTP exchange
//!     Ok, Rejected        -> run::recorder: outcome on disk, then the event
//!     Throttled, NotExecuted -> back to the queue; slot and bytes are released
//!     MaybeExecuted       -> in doubt: run::reconcile asks QueryFaceRecord before anything is sent again
//!     Fatal               -> the item stays pending; the run drains and says what to do
//! report                  reads the checkpoint
//! ```
//!
//! A changed photo of an enrolled person (`run::replace`): write the old record ids to disk, enrol as above, wait until
//! the new record is visible, then delete the old records by id, each deletion on disk first. A new photo that is rejected
//! before it is sent leaves the person enrolled.
//!
//! A row that is not an item is kept with its reason. An exported row may name one; it removes that row error once it
//! parses as an item itself (`checkpoint::sqlite::corrections`).
//!
//! # Stale checkpoints
//!
//! Each run advances the checkpoint's epoch at its start and end. The lock file and an attribute of the checkpoint file
//! keep the last epoch, and the contents keep the identity of the file that they were written to. A checkpoint that is
//! behind, an unproven copy (`checkpoint::sqlite::identity`), recreated, or purged of people does not know who is at the
//! service. The run then asks about each person before it sends, which keeps invariant 4.
//!
//! # Invariants
//!
//! 1. No AddFaceRecord and no DeleteFaceRecord leaves without an intent on disk.
//! 2. No outcome is reported before it is on disk.
//! 3. Never more calls of one action leave in any second than the quota, retries and restarts included. Time lost is lost.
//!    This counts calls as they leave; the gate allows 14 ms for the network to bunch them. With `--quota-at` it holds for
//!    all runs that share the database ([`quota`]).
//! 4. A request that may have been executed is never sent again before the service has said that the record is absent.
//!    Only an answer of the service, with its `Code` and `RequestId`, proves that a request was not executed.
//! 5. Every row ends in exactly one state, and the states add up to the rows.
//! 6. No secret and no image byte in a log, a report or the checkpoint.
//! 7. Kill the process at any point, run again: the same outcomes, nobody enrolled twice.
//! 8. An older binary refuses a newer checkpoint; a newer one migrates an older, and loses nothing.
//!
//! # Style
//!
//! - Types are nouns of the domain; functions are verbs with an object; predicates are questions (`is_open`).
//! - A constant names what it limits and its unit or source: `DRAIN_TIMEOUT`. Units live in types (`Duration`, `Qps`).
//! - Docs of fields and variants are noun phrases ("Path of the photo."); of booleans, "Whether ...".
//! - A comment gives the reason, or the fact that the code relies on, never what the next line does.
//! - A module doc says what it is for, what it never does, and which order must not be swapped.
//! - Help is imperative and short, with default and unit: "Stop after D without an answer from the service".
//! - A message says what, where and what to do, in one clause each, and names the file or flag.
//! - Levels: error, someone must act; warn, recovered; info, a phase; debug, an attempt.
//! - A test name is subject and behavior, under ten words; a test waits for a condition, never for a time.

#![forbid(unsafe_code)]

pub mod api;
pub mod caller;
pub mod check;
pub mod checkpoint;
pub mod cli;
pub mod commands;
mod crash;
pub mod database;
pub mod domain;
pub mod exit;
pub mod files;
pub mod manifest;
pub mod pace;
pub mod picture;
pub mod quota;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod secret;
pub mod settings;
pub mod storage;
pub mod telemetry;
pub mod undo;
pub mod verify;
