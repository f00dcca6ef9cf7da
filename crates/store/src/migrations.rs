//! The schema's history, embedded in the program and run when a database is opened.
//!
//! A migration that was shipped is never edited: its checksum is kept in the database, and a
//! database whose history differs from the program's is refused. So is one that is newer.

use std::collections::BTreeMap;

use boatyard_model::Timestamp;
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::{Error, Result, conn::sqlite};

/// Every migration, in order: number, name, text.
const ALL: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("migrations/0001_first.sql")),
    (2, "agents", include_str!("migrations/0002_agents.sql")),
    (3, "conversations", include_str!("migrations/0003_conversations.sql")),
    (4, "egress", include_str!("migrations/0004_egress.sql")),
    (5, "requests", include_str!("migrations/0005_requests.sql")),
    (6, "connections", include_str!("migrations/0006_connections.sql")),
    (7, "usage", include_str!("migrations/0007_usage.sql")),
    (8, "git", include_str!("migrations/0008_git.sql")),
    (9, "people", include_str!("migrations/0009_people.sql")),
    (10, "organizations", include_str!("migrations/0010_organizations.sql")),
    (11, "sharing", include_str!("migrations/0011_sharing.sql")),
    (12, "keys", include_str!("migrations/0012_keys.sql")),
    (13, "identities", include_str!("migrations/0013_identities.sql")),
    (14, "quotas", include_str!("migrations/0014_quotas.sql")),
    (15, "audit", include_str!("migrations/0015_audit.sql")),
];

/// The migrations that a database lacks.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The newest that was run; 0 for a new database.
    pub found: i64,
    /// The newest that this program has.
    pub known: i64,
}

impl Pending {
    /// Whether the database is new: nothing in it that could be lost.
    pub const fn is_new(&self) -> bool {
        self.found == 0
    }

    /// Whether there is nothing to do.
    pub const fn is_empty(&self) -> bool {
        self.found == self.known
    }
}

/// Changes when a character of a shipped migration does: FNV-1a over its text.
fn checksum(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

pub(crate) async fn pending(conn: &mut SqliteConnection) -> Result<Pending> {
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS schema_migration (
            version BIGINT PRIMARY KEY,
            name TEXT NOT NULL,
            checksum TEXT NOT NULL,
            applied BIGINT NOT NULL
        )",
    )
    .execute(&mut *conn)
    .await?;
    let rows: Vec<(i64, String)> =
        sqlx::query_as("SELECT version, checksum FROM schema_migration").fetch_all(conn).await?;
    let run: BTreeMap<i64, String> = rows.into_iter().collect();
    let found = run.keys().next_back().copied().unwrap_or(0);
    let known = ALL.last().map_or(0, |(version, ..)| *version);
    if found > known {
        return Err(Error::Newer { found, known });
    }
    for (version, _, text) in ALL.iter().filter(|(version, ..)| *version <= found) {
        if run.get(version).is_none_or(|sum| *sum != checksum(text)) {
            return Err(Error::Altered { version: *version });
        }
    }
    Ok(Pending { found, known })
}

/// Runs what is pending, each migration in a transaction of its own; the schema's number then.
pub(crate) async fn run(
    conn: &mut SqliteConnection,
    pending: &Pending,
    now: Timestamp,
) -> Result<i64> {
    for (version, name, shipped) in ALL.iter().filter(|(version, ..)| *version > pending.found) {
        let text = shipped.replace("{{serial}}", sqlite::SERIAL);
        let mut transaction = sqlx::Connection::begin(&mut *conn).await?;
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *transaction).await?;
        sqlx::query(
            "INSERT INTO schema_migration (version, name, checksum, applied)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(version)
        .bind(name)
        .bind(checksum(shipped))
        .bind(now.0)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
    }
    Ok(pending.known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_each_other() {
        for (place, (version, ..)) in (1..).zip(ALL) {
            assert_eq!(*version, place);
        }
    }
}
