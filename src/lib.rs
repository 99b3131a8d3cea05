//! Moves an archive of face photos into Alibaba Cloud ID Verification face groups, through AddFaceRecord: every photo
//! ends with a known outcome, nobody is enrolled twice and nobody is lost, whatever crashes, and the run uses the
//! tenant's quota to the full without stepping over it.
//!
//! # The house
//!
//! ```text
//! domain       the words as types, and the rules between them: no I/O, no async
//! files        a file is opened beneath its folder, or found under another spelling
//! manifest     rows become items
//! picture      bytes become what the API accepts, or a refusal with its reason
//! api          one client: signs, sends once, classifies the answer
//! pace         when the next call may go, and whether there is one
//! checkpoint   durable truth: one SQLite file, one writer
//! run          the engine
//! check        the same reading, rules and fitting, and nothing sent
//! verify       the checkpoint held against the service; writes nothing
//! report       progress, summary, exports, the page of HTML
//! sandbox      a local server of the API; it checks signatures by code of its own
//! settings     a file of flags, in front of those that were typed
//! files        the one way to create, replace and open files for writing
//! commands     one file per subcommand; the only place where things are wired together
//! ```
//!
//! Imports go one way: `domain` and `files` import nothing; `manifest`, `picture`, `api`, `pace` and `checkpoint` import
//! these and not one another; `run` imports them, `check` the first two of them, `verify` the last three; `report` imports `domain`, `checkpoint` and
//! `check`; `sandbox` imports `domain` and never `api`, for a shared signer would hide a shared mistake. A test reads the
//! source and holds this.
//!
//! # How a row becomes an outcome
//!
//! ```text
//! manifest::Source        Result<Item, RowError>    a bad row is stored with its reason, the run goes on
//! checkpoint: ingest      pending                   in batches, beside the sending
//! checkpoint: claim       the next few items
//! picture + api::Payload  prepared, or refused      read, plan, fit: on blocking threads, under budgets
//! run::upload             ObjectUrl               only what does not go inline; before any intent
//! run::admission          few at a time             one alone until the service has answered conclusively
//! checkpoint: intend      Committed<Intent>         group commit, on disk BEFORE the wire
//! pace::Gate              Permit                    one gate per API action
//! api::Client             Verdict                   signed now, one HTTP exchange
//!     Enrolled, Refused   -> outcome on disk, then the event
//!     Throttled, NotSent  -> back to the queue with its time; place and bytes are given back
//!     MaybeSent           -> in doubt: settled by QueryFaceRecord before anything is sent again
//!     FatalError               -> the item stays pending, the run drains and says what to do
//! report                  the checkpoint, asked
//! ```
//!
//! Another photo of someone who is enrolled (`run::replace`): the numbers of the old records on disk, then the way above,
//! then the new record seen, then the old ones removed by their numbers, each removal on disk first.
//!
//! A row that could not become an item is kept with its reason. A row of an export may name one: it removes the refused row
//! once it can be an item itself (`checkpoint::sqlite::corrections`).
//!
//! # What an old checkpoint does not know
//!
//! Each run that begins or ends takes the checkpoint an epoch further; its lock file and an attribute of its file remember
//! the last one, and its contents remember which file they were written to. A checkpoint that is behind, that is a copy
//! without proof (`checkpoint::sqlite::identity`), that was made anew or made to forget people does not know who is at the
//! service: then everyone is asked about before being sent, which keeps invariant 4 for what nobody here remembers.
//!
//! # Invariants
//!
//! 1. No AddFaceRecord and no DeleteFaceRecord leaves without an intent on disk.
//! 2. No outcome is reported before it is on disk.
//! 3. Never more calls of one action leave in any second than the quota, retries and restarts included. Time lost is lost.
//!    As sent: how the way there bunches them is not ours to say, and the pace leaves 14 ms for it.
//! 4. A request that may have been executed is never sent again before the service has said that the record is absent. Only
//!    an answer of the service, with its `Code` and `RequestId`, proves that a request was not executed.
//! 5. Every row ends in exactly one state, and the states add up to the rows.
//! 6. No secret and no image byte in a log, a report or the checkpoint.
//! 7. Kill the process at any point, run again: the same outcomes, nobody enrolled twice.
//! 8. An older binary refuses a newer checkpoint; a newer one migrates an older, and loses nothing.

#![forbid(unsafe_code)]

pub mod api;
pub mod check;
pub mod checkpoint;
pub mod cli;
pub mod commands;
mod crash;
pub mod domain;
pub mod exit;
pub mod files;
pub mod manifest;
pub mod pace;
pub mod picture;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod secret;
pub mod settings;
pub mod telemetry;
pub mod verify;
