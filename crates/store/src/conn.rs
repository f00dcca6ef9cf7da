//! The drivers: one enum of connections, one of reader pools, and macros that write a statement
//! once for each of them.
//!
//! The SQL text is the same for all. What differs is in [`sqlite`]: one file per driver with the
//! tokens of the migrations, how a transaction begins, how a row is locked. A second driver adds a
//! variant here, an arm in each of the macros, and its dialect file.
//!
//! SQLite is reached in two ways. Readers come from `sqlx`'s pool, whose connections have a thread
//! each. The one connection that writes is called [directly](direct), in the writer's own thread:
//! to hand each of its statements to another thread and wait for the answer took longer than the
//! statements, and with some of them longer than the disk.

pub(crate) mod direct;
pub(crate) mod sqlite;

use std::{borrow::Cow, sync::Arc};

use boatyard_model::{
    AskAnswer, AskId, AskState, AttemptId, AttemptState, AuditOutcome, BlobId, BudgetId,
    ConnectionId, DeviceId, IdentityId, InvitationId, JobId, JobState, KeyId, KeyKind, LayerId,
    MemberId, OrganizationId, PasskeyId, PermissionId, PersonId, PromptId, PromptMode, PromptState,
    QuestionId, QuotaId, RepositoryId, RepositoryRole, RequestVerdict, RequestWay, Role, RuleId,
    Scopes, SessionId, SessionState, ShareId, TaskId, Timestamp, ToolId, TurnOutcome, Visibility,
    WorkspaceId, WorkspaceKind, WorkspaceState,
};
use sqlx::{AssertSqlSafe, SqlitePool};

/// The connection that writes.
pub(crate) enum Conn {
    Sqlite(direct::Connection),
}

/// A parameter of a statement that writes.
#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
    Shared(Arc<str>),
}

/// The connections that read.
#[derive(Clone)]
pub(crate) enum Readers {
    Sqlite(SqlitePool),
}

/// The text of a statement. Every text in this crate is put together from constants of this
/// crate; values are bound.
pub(crate) fn sql(text: impl Into<Cow<'static, str>>) -> AssertSqlSafe<Cow<'static, str>> {
    AssertSqlSafe(text.into())
}

/// The parameters of a statement that writes.
macro_rules! values {
    ($($bind:expr),*) => {
        &[$($crate::conn::Value::from($crate::conn::Bind::sql(&$bind))),*]
    };
}

/// Runs a statement in a transaction: the number of rows that it touched.
macro_rules! exec {
    ($tx:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match &$tx.conn {
            $crate::conn::Conn::Sqlite(conn) => {
                conn.execute($sql.as_ref(), $crate::conn::values!($($bind),*))
            }
        }
    };
}

/// Runs a statement in a transaction: its first row, if it has any.
macro_rules! find {
    ($tx:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match &$tx.conn {
            $crate::conn::Conn::Sqlite(conn) => {
                conn.first::<$row>($sql.as_ref(), $crate::conn::values!($($bind),*))
            }
        }
    };
}

/// Runs a statement in a transaction: all its rows.
macro_rules! list {
    ($tx:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match &$tx.conn {
            $crate::conn::Conn::Sqlite(conn) => {
                conn.all::<$row>($sql.as_ref(), $crate::conn::values!($($bind),*))
            }
        }
    };
}

/// Reads outside a transaction: the first row, if there is any.
macro_rules! read_one {
    ($store:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $store.readers() {
            $crate::conn::Readers::Sqlite(pool) => sqlx::query_as::<_, $row>($crate::conn::sql($sql))
                $(.bind($crate::conn::Bind::sql(&$bind)))*
                .fetch_optional(pool)
                .await
                .map_err($crate::Error::from),
        }
    };
}

/// Reads outside a transaction: all rows.
macro_rules! read_all {
    ($store:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $store.readers() {
            $crate::conn::Readers::Sqlite(pool) => sqlx::query_as::<_, $row>($crate::conn::sql($sql))
                $(.bind($crate::conn::Bind::sql(&$bind)))*
                .fetch_all(pool)
                .await
                .map_err($crate::Error::from),
        }
    };
}

/// Reads outside a transaction: all rows of a list, in one piece. The query selects the record's
/// columns.
macro_rules! read_page {
    ($store:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {{
        let sql = $crate::conn::sqlite::json_rows(<$row>::COLUMNS, &$sql);
        let text = $crate::conn::read_one!($store, (String,), sql $(, $bind)*);
        match text {
            Ok(Some((text,))) => $crate::row::all_from_json::<$row>(&text),
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }};
}

pub(crate) use read_page;
pub(crate) use {exec, find, list, read_all, read_one, values};

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value<'_> {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<bool> for Value<'_> {
    fn from(yes: bool) -> Self {
        Self::Int(yes.into())
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, T::into)
    }
}

/// A value as all drivers take it: text, a number of 64 bits, or nothing.
pub(crate) trait Bind {
    type Sql<'a>
    where
        Self: 'a;

    fn sql(&self) -> Self::Sql<'_>;
}

impl<T: Bind> Bind for Option<T> {
    type Sql<'a>
        = Option<T::Sql<'a>>
    where
        T: 'a;

    fn sql(&self) -> Self::Sql<'_> {
        self.as_ref().map(T::sql)
    }
}

impl<T: Bind + ?Sized> Bind for &T {
    type Sql<'a>
        = T::Sql<'a>
    where
        Self: 'a;

    fn sql(&self) -> Self::Sql<'_> {
        T::sql(self)
    }
}

impl Bind for str {
    type Sql<'a> = &'a str;

    fn sql(&self) -> &str {
        self
    }
}

impl Bind for String {
    type Sql<'a> = &'a str;

    fn sql(&self) -> &str {
        self
    }
}

impl Bind for bool {
    type Sql<'a> = bool;

    fn sql(&self) -> bool {
        *self
    }
}

impl Bind for Timestamp {
    type Sql<'a> = i64;

    fn sql(&self) -> i64 {
        self.0
    }
}

macro_rules! ints {
    ($($ty:ty),*) => {$(
        impl Bind for $ty {
            type Sql<'a> = i64;

            /// Counters and sizes: none of ours comes near the limit of 63 bits.
            fn sql(&self) -> i64 {
                i64::try_from(*self).unwrap_or(i64::MAX)
            }
        }
    )*};
}

ints!(i64, u64, u32, usize);

macro_rules! ids {
    ($($ty:ty),*) => {$(
        impl Bind for $ty {
            type Sql<'a> = String;

            fn sql(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

ids!(
    AskId,
    AttemptId,
    BlobId,
    BudgetId,
    ConnectionId,
    JobId,
    KeyId,
    LayerId,
    MemberId,
    OrganizationId,
    PermissionId,
    PromptId,
    QuestionId,
    RepositoryId,
    RuleId,
    SessionId,
    TaskId,
    ToolId,
    WorkspaceId,
    DeviceId,
    IdentityId,
    InvitationId,
    PasskeyId,
    PersonId,
    QuotaId,
    ShareId,
    Scopes
);

macro_rules! states {
    ($($ty:ty),*) => {$(
        impl Bind for $ty {
            type Sql<'a> = &'static str;

            fn sql(&self) -> &'static str {
                self.as_str()
            }
        }
    )*};
}

states!(
    AuditOutcome,
    KeyKind,
    RepositoryRole,
    Role,
    Visibility,
    AskAnswer,
    AskState,
    AttemptState,
    JobState,
    PromptMode,
    PromptState,
    RequestVerdict,
    RequestWay,
    SessionState,
    TurnOutcome,
    WorkspaceKind,
    WorkspaceState
);
states!(
    crate::repositories::RepositoryKind,
    crate::repositories::RepositoryState,
    crate::layers::LayerKind,
    crate::layers::LayerState,
    crate::tools::ToolKind,
    crate::tools::ToolState,
    crate::connections::VaultKeyPurpose,
    crate::decisions::PermissionState,
    crate::decisions::QuestionState,
    crate::budgets::BudgetScope,
    crate::budgets::BudgetUnit,
    crate::quotas::QuotaKind,
    crate::quotas::QuotaScope,
    crate::budgets::BudgetPeriod,
    crate::codes::DeviceCodeState
);
