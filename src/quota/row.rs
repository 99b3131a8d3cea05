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
    pub(super) count: usize,
    pub(super) rate: f64,
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
}

/// A change of the decider.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) json: String,
    pub(super) rate: f64,
    pub(super) quota: f64,
    pub(super) throttled: u32,
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
    // A crash of the server may take back the last slots. It takes longer to start again than slots reach ahead.
    client.batch_execute("SET synchronous_commit = off").await?;
    version(client).await
}

/// Makes the row if it is absent, and raises its margin.
pub(super) async fn register(
    client: &Client,
    key: &Key,
    decision: &Decision,
    margin: Duration,
) -> Result<(Decider, Sample), Error> {
    client
        .query_typed(
            "INSERT INTO face_enroll.quota (tenant, target, action, quota, rate, decider, next_slot)
             VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp() + interval '1 s' / $5) ON CONFLICT DO NOTHING",
            &with_key(
                key,
                &[(&decision.quota, Type::FLOAT8), (&decision.rate, Type::FLOAT8), (&decision.json, Type::TEXT)],
            ),
        )
        .await?;
    // A quota that nobody has used for a minute forgets the margin of the hosts that used it.
    query(
        client,
        "UPDATE face_enroll.quota SET margin = CASE WHEN next_slot < clock_timestamp() - interval '1 min' THEN $4
                                                    ELSE greatest(margin, $4) END
         WHERE tenant = $1 AND target = $2 AND action = $3
         RETURNING decider, version, quota, rate, clock_timestamp()",
        &with_key(key, &[(&margin.as_secs_f64(), Type::FLOAT8)]),
    )
    .await
    .and_then(|(row, sent, received)| decider(&row, sent, received))
}

/// Takes `count` slots, from `lead` after now.
pub(super) async fn take(client: &Client, key: &Key, count: usize, lead: Duration) -> Result<(Taken, Sample), Error> {
    let wanted = i32::try_from(count).unwrap_or(i32::MAX);
    let sent = Instant::now();
    // What lies further ahead than all processes together could have taken is left by a clock that was set back.
    let rows = client
        .query_typed(
            "UPDATE face_enroll.quota
             SET next_slot = greatest(least(next_slot, clock_timestamp() + (1 + 200 * gap) * interval '1 s'),
                                      clock_timestamp() + $5 * interval '1 s', paused_until)
                             + $4 * gap * interval '1 s',
                 calls = calls + $4
             WHERE tenant = $1 AND target = $2 AND action = $3 AND paused_until < clock_timestamp() + interval '1 s'
             RETURNING next_slot, gap, rate, clock_timestamp()",
            &with_key(key, &[(&wanted, Type::INT4), (&lead.as_secs_f64(), Type::FLOAT8)]),
        )
        .await?;
    let received = Instant::now();
    if let Some(row) = rows.first() {
        let gap = Duration::from_secs_f64(row.try_get(1)?);
        let end = since_1970(row.try_get(0)?);
        let first = end.saturating_sub(gap * u32::try_from(count).unwrap_or(u32::MAX));
        let block = Block { first, gap, count, rate: row.try_get(2)? };
        return Ok((Taken::Block(block), sample(row.try_get(3)?, sent, received)));
    }
    let (row, sent, received) = query(
        client,
        "SELECT paused_until, clock_timestamp() FROM face_enroll.quota WHERE tenant = $1 AND target = $2 AND action = $3",
        &with_key(key, &[]),
    )
    .await?;
    Ok((Taken::PausedUntil(since_1970(row.try_get(0)?)), sample(row.try_get(1)?, sent, received)))
}

/// Reads the decider.
pub(super) async fn read_decider(client: &Client, key: &Key) -> Result<(Decider, Sample), Error> {
    query(
        client,
        "SELECT decider, version, quota, rate, clock_timestamp() FROM face_enroll.quota
         WHERE tenant = $1 AND target = $2 AND action = $3",
        &with_key(key, &[]),
    )
    .await
    .and_then(|(row, sent, received)| decider(&row, sent, received))
}

/// Writes a decision. False if another process has decided since.
pub(super) async fn decide(client: &Client, key: &Key, decision: &Decision) -> Result<bool, Error> {
    let pause = decision.pause.unwrap_or_default().as_secs_f64();
    let rows = client
        .query_typed(
            "UPDATE face_enroll.quota
             SET decider = $4, rate = $5, quota = $6, throttled = throttled + $7, version = version + 1,
                 paused_until = CASE WHEN $8 > 0 THEN greatest(paused_until, clock_timestamp() + $8 * interval '1 s')
                                     ELSE paused_until END
             WHERE tenant = $1 AND target = $2 AND action = $3 AND version = $9
             RETURNING 1",
            &with_key(
                key,
                &[
                    (&decision.json, Type::TEXT),
                    (&decision.rate, Type::FLOAT8),
                    (&decision.quota, Type::FLOAT8),
                    (&i64::from(decision.throttled), Type::INT8),
                    (&pause, Type::FLOAT8),
                    (&decision.version, Type::INT8),
                ],
            ),
        )
        .await?;
    Ok(!rows.is_empty())
}

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

fn with_key<'a>(key: &'a Key, more: &[Parameter<'a>]) -> Vec<Parameter<'a>> {
    let mut all: Vec<Parameter<'a>> =
        vec![(&key.tenant, Type::TEXT), (&key.target, Type::TEXT), (&key.action, Type::TEXT)];
    all.extend(more.iter().cloned());
    all
}

async fn query(client: &Client, sql: &str, parameters: &[Parameter<'_>]) -> Result<(Row, Instant, Instant), Error> {
    let sent = Instant::now();
    let row = client.query_typed_one(sql, parameters).await?;
    Ok((row, sent, Instant::now()))
}

fn decider(row: &Row, sent: Instant, received: Instant) -> Result<(Decider, Sample), Error> {
    let decider =
        Decider { json: row.try_get(0)?, version: row.try_get(1)?, quota: row.try_get(2)?, rate: row.try_get(3)? };
    Ok((decider, sample(row.try_get(4)?, sent, received)))
}

fn sample(server: SystemTime, sent: Instant, received: Instant) -> Sample {
    Sample { sent, received, server: since_1970(server) }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
