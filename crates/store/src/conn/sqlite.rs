//! What is SQLite's own: how it is opened, how a transaction begins, the words of the migrations.

use std::{path::Path, time::Duration};

use sqlx::{
    ConnectOptions as _, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

/// The automatically numbered primary key. AUTOINCREMENT, so that the number of a removed row is
/// never given again.
pub(crate) const SERIAL: &str = "INTEGER PRIMARY KEY AUTOINCREMENT";

/// Takes the write lock at once, so that a transaction can't fail half way because another
/// program wrote in between.
pub(crate) const BEGIN: &str = "BEGIN IMMEDIATE";

/// Added to a `SELECT` that picks rows to claim: one writer needs no lock.
pub(crate) const CLAIM_LOCK: &str = "";

/// The rows of a query as one JSON array, in the query's order.
pub(crate) fn json_rows(columns: &str, query: &str) -> String {
    format!("SELECT json_group_array(json_array({columns})) FROM ({query})")
}

/// How long a statement waits for another program's lock (a backup, `sqlite3` in a shell).
pub(crate) const BUSY: Duration = Duration::from_secs(10);

/// Statements that a connection keeps prepared: more than this crate has.
pub(crate) const STATEMENTS: usize = 400;

/// A busy hour's log is cut back to so many bytes when it starts from the beginning again.
pub(crate) const LOG_KEPT: i64 = 64 << 20;

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENTS)
        .pragma("journal_size_limit", LOG_KEPT.to_string())
        .disable_statement_logging()
}

/// Makes a database that is not there yet readable for its owner only, wherever it lies; the files
/// that SQLite lays beside it take its mode.
pub(crate) fn private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match opened {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A connection for migrations, checkpoints, backups and checks, beside the one that writes.
pub(crate) async fn open_side(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    options(path)
        .pragma("wal_autocheckpoint", "0")
        .thread_name(|_| "store-side".to_owned())
        .connect()
        .await
}

/// The connections that read, at most `count`; one that is idle for a minute is closed.
pub(crate) async fn open_readers(path: &Path, count: u32) -> Result<SqlitePool, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(count)
        .min_connections(1)
        .idle_timeout(Duration::from_secs(60))
        .max_lifetime(None)
        .acquire_timeout(BUSY)
        .test_before_acquire(false)
        .connect_with(
            options(path)
                .create_if_missing(false)
                .read_only(true)
                .row_buffer_size(256)
                .thread_name(|n| format!("store-read-{n}")),
        )
        .await
}
