//! The row of a quota: SQL and nothing else. Statements are unnamed, so a pooler in transaction mode does no harm.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use tokio_postgres::{
    Client, Error, Row,
    types::{ToSql, Type},
};

use super::clock::Sample;

/// Version of the tables that this program knows.
pub(super) const SCHEMA_VERSION: i32 = 1;
const SCHEMA: &str = include_str!("../../migrations/postgres/0001_quota.sql");
/// Key of the advisory lock under which tables are made: "face-enr" in ASCII.
const SCHEMA_LOCK: i64 = 0x6661_6365_2d65_6e72;

/// Which quota.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) tenant: String,
    pub(super) target: String,
    pub(super) action: &'static str,
}

/// Slots that were handed out, in the database's time since 1970.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) first: Duration,
    pub(super) gap: Duration,
    pub(super) count: u32,
    pub(super) quota: f64,
    pub(super) rate: f64,
    /// Difference of clocks that the gap allows for.
    pub(super) margin: Duration,
}

/// Slots, or the time when there will be some again.
#[derive(Debug)]
pub(super) enum Taken {
    Block(Block),
    PausedUntil(Duration),
}

/// The decider of the rate, as found.
#[derive(Debug)]
pub(super) struct Decider {
    pub(super) json: String,
    pub(super) version: i64,
    pub(super) quota: f64,
    pub(super) rate: f64,
    /// Now and the time of the last decision, since 1970.
    pub(super) now: Duration,
    pub(super) decided_at: Duration,
}

/// A change of the decider.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) json: String,
    pub(super) rate: f64,
    pub(super) quota: f64,
    pub(super) pause: Option<Duration>,
    /// The version that it was made from.
    pub(super) version: i64,
}

/// The tables, as found.
#[derive(Debug)]
pub(super) enum Tables {
    Version(i32),
    /// Absent; this role may make them.
    CanBeMade,
    /// Absent; this role may not make them.
    Forbidden,
}

/// Looks at the tables and changes nothing.
pub(super) async fn inspect(client: &Client) -> Result<Tables, Error> {
    let found = client
        .query_typed_one(
            "SELECT to_regclass('face_enroll.schema') IS NOT NULL, has_database_privilege(current_database(), 'CREATE')",
            &[],
        )
        .await?;
    Ok(match (found.try_get(0)?, found.try_get(1)?) {
        (true, _) => Tables::Version(version(client).await?),
        (false, true) => Tables::CanBeMade,
        (false, false) => Tables::Forbidden,
    })
}

async fn version(client: &Client) -> Result<i32, Error> {
    client.query_typed_one("SELECT version FROM face_enroll.schema", &[]).await?.try_get(0)
}

/// Version of the tables; makes them if they are absent.
pub(super) async fn prepare(client: &Client) -> Result<i32, Error> {
    // A role without CREATE may use tables that exist.
    let exists = client.query_typed_one("SELECT to_regclass('face_enroll.schema') IS NOT NULL", &[]).await?;
    if !exists.try_get::<_, bool>(0)? {
        let script = format!("BEGIN; SELECT pg_advisory_xact_lock({SCHEMA_LOCK}); {SCHEMA} COMMIT");
        client.batch_execute(&script).await?;
    }
    version(client).await
}

/// The database's time. Waits for no lock and no disk, so its round trip is that of the network.
pub(super) async fn read_clock(client: &Client) -> Result<Sample, Error> {
    let sent = Instant::now();
    let row = client.query_typed_one("SELECT clock_timestamp()", &[]).await?;
    Ok(Sample { sent, received: Instant::now(), server: since_1970(row.try_get(0)?) })
}

/// Makes the row if it is absent, and raises its margin. A quota that nobody has used for a minute forgets its margin; who
/// still needs it raises it again (see [`Block::margin`]).
pub(super) async fn register(
    client: &Client,
    key: &Key,
    decision: &Decision,
    margin: Duration,
) -> Result<Decider, Error> {
    client
        .query_typed(
            "INSERT INTO face_enroll.quota (tenant, target, action, quota, rate, decider, next_slot)
             VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + interval '1 s' / $5) ON CONFLICT DO NOTHING",
            &key.with(&[(&decision.quota, Type::FLOAT8), (&decision.rate, Type::FLOAT8), (&decision.json, Type::TEXT)]),
        )
        .await?;
    let row = client
        .query_typed_one(
            "UPDATE face_enroll.quota SET margin = CASE WHEN next_slot < clock_timestamp() - interval '1 min' THEN $4
                                                        ELSE greatest(margin, $4) END
             WHERE tenant = $1 AND target = $2 AND action = $3
             RETURNING decider, version, quota, rate, clock_timestamp(), decided_at",
            &key.with(&[(&margin.as_secs_f64(), Type::FLOAT8)]),
        )
        .await?;
    decider(&row)
}

/// Takes `count` slots, from `lead` after now.
pub(super) async fn take(client: &Client, key: &Key, count: u32, lead: Duration) -> Result<Taken, Error> {
    // What lies further ahead than all processes together could have taken is left by a clock that was set back.
    let rows = client
        .query_typed(
            "UPDATE face_enroll.quota
             SET next_slot = greatest(least(next_slot, clock_timestamp() + (1 + 2000 * gap) * interval '1 s'),
                                      clock_timestamp() + $5 * interval '1 s', paused_until)
                             + $4 * gap * interval '1 s',
                 slots = slots + $4
             WHERE tenant = $1 AND target = $2 AND action = $3 AND paused_until < clock_timestamp() + interval '1 s'
             RETURNING next_slot, gap, margin, quota, rate",
            &key.with(&[(&i64::from(count), Type::INT8), (&lead.as_secs_f64(), Type::FLOAT8)]),
        )
        .await?;
    if let Some(row) = rows.first() {
        let gap = Duration::from_secs_f64(row.try_get(1)?);
        let first = since_1970(row.try_get(0)?).saturating_sub(gap * count);
        let margin = Duration::from_secs_f64(row.try_get(2)?);
        let (quota, rate) = (row.try_get(3)?, row.try_get(4)?);
        return Ok(Taken::Block(Block { first, gap, count, quota, rate, margin }));
    }
    let row = client
        .query_typed_one(
            "SELECT paused_until FROM face_enroll.quota WHERE tenant = $1 AND target = $2 AND action = $3",
            &key.with(&[]),
        )
        .await?;
    Ok(Taken::PausedUntil(since_1970(row.try_get(0)?)))
}

/// Reads the decider.
pub(super) async fn read_decider(client: &Client, key: &Key) -> Result<Decider, Error> {
    let row = client
        .query_typed_one(
            "SELECT decider, version, quota, rate, clock_timestamp(), decided_at FROM face_enroll.quota
             WHERE tenant = $1 AND target = $2 AND action = $3",
            &key.with(&[]),
        )
        .await?;
    decider(&row)
}

/// Writes a decision. False if another process has decided since.
pub(super) async fn decide(client: &Client, key: &Key, decision: &Decision) -> Result<bool, Error> {
    let pause = decision.pause.unwrap_or_default().as_secs_f64();
    let rows = client
        .query_typed(
            "UPDATE face_enroll.quota
             SET decider = $4, rate = $5, quota = $6, version = version + 1, decided_at = clock_timestamp(),
                 paused_until = CASE WHEN $7 > 0 THEN greatest(paused_until, clock_timestamp() + $7 * interval '1 s')
                                     ELSE paused_until END
             WHERE tenant = $1 AND target = $2 AND action = $3 AND version = $8
             RETURNING 1",
            &key.with(&[
                (&decision.json, Type::TEXT),
                (&decision.rate, Type::FLOAT8),
                (&decision.quota, Type::FLOAT8),
                (&pause, Type::FLOAT8),
                (&decision.version, Type::INT8),
            ]),
        )
        .await?;
    Ok(!rows.is_empty())
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Key {
    fn with<'a>(&'a self, more: &[Parameter<'a>]) -> Vec<Parameter<'a>> {
        let mut all: Vec<Parameter<'a>> =
            vec![(&self.tenant, Type::TEXT), (&self.target, Type::TEXT), (&self.action, Type::TEXT)];
        all.extend(more.iter().cloned());
        all
    }
}

fn decider(row: &Row) -> Result<Decider, Error> {
    Ok(Decider {
        json: row.try_get(0)?,
        version: row.try_get(1)?,
        quota: row.try_get(2)?,
        rate: row.try_get(3)?,
        now: since_1970(row.try_get(4)?),
        decided_at: since_1970(row.try_get(5)?),
    })
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
