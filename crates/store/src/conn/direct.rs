//! SQLite, called in the thread that asks: the connection that writes.
//!
//! Its methods block, for as long as a commit takes: only the writer's thread calls them.

use std::path::Path;

use rusqlite::{
    CachedStatement, Rows,
    types::{ToSqlOutput, ValueRef},
};

use super::{
    Value,
    sqlite::{BUSY, LOG_KEPT, STATEMENTS},
};
use crate::{Result, row::Record};

/// The page cache, in KiB (as SQLite counts: a negative number of pages): the interior pages of
/// the large tables stay in memory.
const CACHE_KIB: i64 = 16 << 10;

/// An open connection.
pub(crate) struct Connection(rusqlite::Connection);

impl Connection {
    /// Opens a database that is there. The connection never copies the log into the database by
    /// itself, because that is the slowest part of a commit: the checkpoint task does.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let conn = rusqlite::Connection::open(path)?;
        conn.busy_timeout(BUSY)?;
        // The mode of the log must come first, and is answered with a row as some others are.
        for (name, value) in [("journal_mode", "wal"), ("synchronous", "full")] {
            conn.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(no_row)?;
        }
        for (name, value) in [
            ("foreign_keys", 1),
            ("wal_autocheckpoint", 0),
            ("journal_size_limit", LOG_KEPT),
            ("cache_size", -CACHE_KIB),
        ] {
            conn.pragma_update_and_check(None, name, value, |_| Ok(())).or_else(no_row)?;
        }
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self(conn))
    }

    /// Runs a statement to its end: how many rows it changed.
    pub(crate) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = begin(&mut statement, values)?;
        while rows.next()?.is_some() {}
        drop(rows);
        Ok(self.0.changes())
    }

    /// Runs a statement: its first row.
    pub(crate) fn first<T: Record>(&self, sql: &str, values: &[Value<'_>]) -> Result<Option<T>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = begin(&mut statement, values)?;
        Ok(rows.next()?.map(T::read).transpose()?)
    }

    /// Runs a statement: all its rows.
    pub(crate) fn all<T: Record>(&self, sql: &str, values: &[Value<'_>]) -> Result<Vec<T>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = begin(&mut statement, values)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(T::read(row)?);
        }
        Ok(all)
    }

    /// Whether a transaction is open. The database itself ends one that can't go on, as when the
    /// disk is full.
    pub(crate) fn in_transaction(&self) -> bool {
        !self.0.is_autocommit()
    }

    /// Closes it, in order.
    pub(crate) fn close(self) -> Result<()> {
        self.0.close().map_err(|(_, error)| error.into())
    }
}

/// Some settings answer with a row and some don't, by the version.
fn no_row(error: rusqlite::Error) -> rusqlite::Result<()> {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        error => Err(error),
    }
}

/// Binds the parameters. Those of a text are either numbered (`$1`), and may come in any order and
/// more than once, or plain (`?`).
fn begin<'s>(statement: &'s mut CachedStatement<'_>, values: &[Value<'_>]) -> Result<Rows<'s>> {
    for place in 1..=statement.parameter_count() {
        let number = statement.parameter_name(place).and_then(|name| name.get(1..)?.parse().ok());
        let index: usize = number.unwrap_or(place);
        let value = values
            .get(index - 1)
            .ok_or(rusqlite::Error::InvalidParameterCount(values.len(), index))?;
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(statement.raw_query())
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(int) => ValueRef::Integer(*int),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Shared(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}
