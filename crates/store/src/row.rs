//! From a database's row to a record of ours.
//!
//! [`record!`] makes a struct together with the list of its columns, so that a `SELECT` and the
//! struct that takes its rows can't differ. A column's value is a [`Cell`], whichever the driver;
//! [`Column`] makes a typed value of it. A second driver adds one `StoreRow` and nothing else.

use std::{borrow::Cow, error::Error as StdError};

use boatyard_model::{
    AgentOffers, AgentSettings, AskAnswer, AskId, AskState, AttemptId, AttemptState, AuditOutcome,
    BlobId, BudgetId, ConnectionId, Content, DeviceId, EgressMode, IdentityId, InvitationId, JobId,
    JobState, KeyId, KeyKind, LayerId, MemberId, OrganizationId, PasskeyId, PermissionId, PersonId,
    PromptId, PromptMode, PromptState, QuestionId, QuotaId, RepositoryId, RepositoryRole,
    RequestVerdict, RequestWay, Role, RuleId, RuleScope, Scopes, SessionId, SessionState, ShareId,
    TaskId, TaskLimits, Timestamp, ToolId, TurnOutcome, Visibility, WorkspaceId, WorkspaceKind,
    WorkspaceLimits, WorkspaceState,
    event::{PermissionOption, Usage},
};
use sqlx::{Decode, Row, Sqlite, TypeInfo, ValueRef, sqlite::SqliteRow};

type BoxError = Box<dyn StdError + Send + Sync>;

/// One value of a row.
#[derive(Debug)]
pub(crate) enum Cell<'r> {
    Null,
    Int(i64),
    Text(Cow<'r, str>),
}

/// A row of one of the drivers.
pub(crate) trait StoreRow {
    fn cell(&self, index: usize) -> Result<Cell<'_>, sqlx::Error>;

    fn get<T: Column>(&self, index: usize) -> Result<T, sqlx::Error> {
        T::from_cell(self.cell(index)?)
            .map_err(|source| sqlx::Error::ColumnDecode { index: index.to_string(), source })
    }
}

impl StoreRow for SqliteRow {
    fn cell(&self, index: usize) -> Result<Cell<'_>, sqlx::Error> {
        let raw = self.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        let decoded = match raw.type_info().name() {
            "TEXT" => <&str as Decode<Sqlite>>::decode(raw).map(|text| Cell::Text(text.into())),
            _ => <i64 as Decode<Sqlite>>::decode(raw).map(Cell::Int),
        };
        decoded.map_err(|source| sqlx::Error::ColumnDecode { index: index.to_string(), source })
    }
}

impl StoreRow for rusqlite::Row<'_> {
    fn cell(&self, index: usize) -> Result<Cell<'_>, sqlx::Error> {
        use rusqlite::types::ValueRef::{Integer, Null, Text};
        let decode =
            |source: BoxError| sqlx::Error::ColumnDecode { index: index.to_string(), source };
        match self.get_ref(index).map_err(|error| decode(error.into()))? {
            Null => Ok(Cell::Null),
            Integer(int) => Ok(Cell::Int(int)),
            Text(text) => {
                let text = std::str::from_utf8(text).map_err(|error| decode(error.into()))?;
                Ok(Cell::Text(text.into()))
            }
            other => Err(decode(format!("found a {}", other.data_type()).into())),
        }
    }
}

/// A struct that [`record!`] made, or a tuple of some columns.
pub(crate) trait Record: Sized {
    /// The record in a row with its columns in order.
    fn read(row: &impl StoreRow) -> Result<Self, sqlx::Error>;
}

macro_rules! tuples {
    ($($($column:ident $index:literal),+;)*) => {$(
        impl<$($column: Column),+> Record for ($($column,)+) {
            fn read(row: &impl StoreRow) -> Result<Self, sqlx::Error> {
                Ok(($(row.get::<$column>($index)?,)+))
            }
        }
    )*};
}

tuples! {
    A 0;
    A 0, B 1;
    A 0, B 1, C 2;
    A 0, B 1, C 2, D 3;
    A 0, B 1, C 2, D 3, E 4, F 5;
}

/// A row that came as a JSON array, with many others in one text: a driver's row costs a
/// hand-over between threads and an allocation for each value.
#[derive(Debug, serde::Deserialize)]
struct JsonRow<'a>(#[serde(borrow)] Vec<JsonCell<'a>>);

/// One value of such a row; text that needs no unescaping is not copied.
#[derive(Debug)]
enum JsonCell<'a> {
    Null,
    Int(i64),
    Text(Cow<'a, str>),
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for JsonCell<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CellVisitor;

        impl<'de> serde::de::Visitor<'de> for CellVisitor {
            type Value = JsonCell<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("text, a whole number or null")
            }

            fn visit_unit<E>(self) -> Result<JsonCell<'de>, E> {
                Ok(JsonCell::Null)
            }

            fn visit_bool<E>(self, yes: bool) -> Result<JsonCell<'de>, E> {
                Ok(JsonCell::Int(i64::from(yes)))
            }

            fn visit_i64<E>(self, int: i64) -> Result<JsonCell<'de>, E> {
                Ok(JsonCell::Int(int))
            }

            fn visit_u64<E: serde::de::Error>(self, int: u64) -> Result<JsonCell<'de>, E> {
                i64::try_from(int).map(JsonCell::Int).map_err(E::custom)
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<JsonCell<'de>, E> {
                Ok(JsonCell::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<JsonCell<'de>, E> {
                Ok(JsonCell::Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_any(CellVisitor)
    }
}

impl StoreRow for JsonRow<'_> {
    fn cell(&self, index: usize) -> Result<Cell<'_>, sqlx::Error> {
        match self.0.get(index) {
            Some(JsonCell::Null) => Ok(Cell::Null),
            Some(JsonCell::Int(int)) => Ok(Cell::Int(*int)),
            Some(JsonCell::Text(text)) => Ok(Cell::Text(Cow::Borrowed(text))),
            None => Err(sqlx::Error::ColumnNotFound(index.to_string())),
        }
    }
}

/// The records in a JSON array of such arrays.
pub(crate) fn all_from_json<T: Record>(text: &str) -> crate::Result<Vec<T>> {
    let rows: Vec<JsonRow<'_>> = serde_json::from_str(text)?;
    rows.iter().map(|row| Ok(T::read(row)?)).collect()
}

/// A type that is kept in one column.
pub(crate) trait Column: Sized {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxError>;
}

impl<T: Column> Column for Option<T> {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxError> {
        match cell {
            Cell::Null => Ok(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

fn text(cell: Cell<'_>) -> Result<Cow<'_, str>, BoxError> {
    match cell {
        Cell::Text(text) => Ok(text),
        other => Err(format!("expected text, found {other:?}").into()),
    }
}

fn int(cell: &Cell<'_>) -> Result<i64, BoxError> {
    match cell {
        Cell::Int(int) => Ok(*int),
        other => Err(format!("expected a number, found {other:?}").into()),
    }
}

impl Column for String {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxError> {
        text(cell).map(Cow::into_owned)
    }
}

impl Column for bool {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxError> {
        int(&cell).map(|int| int != 0)
    }
}

impl Column for Timestamp {
    fn from_cell(cell: Cell<'_>) -> Result<Self, BoxError> {
        int(&cell).map(Self)
    }
}

macro_rules! int_columns {
    ($($ty:ty),*) => {$(
        impl Column for $ty {
            fn from_cell(cell: Cell<'_>) -> Result<Self, BoxError> {
                Ok(Self::try_from(int(&cell)?)?)
            }
        }
    )*};
}

int_columns!(i64, u64, u32, i32);

macro_rules! text_columns {
    ($($ty:ty),*) => {$(
        impl Column for $ty {
            fn from_cell(cell: Cell<'_>) -> Result<Self, BoxError> {
                Ok(text(cell)?.parse()?)
            }
        }
    )*};
}

text_columns!(
    AuditOutcome,
    AskAnswer,
    AskId,
    AskState,
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
    EgressMode,
    RuleScope,
    RequestVerdict,
    RequestWay,
    AttemptState,
    JobState,
    PromptMode,
    PromptState,
    SessionState,
    TurnOutcome,
    WorkspaceKind,
    WorkspaceState,
    DeviceId,
    IdentityId,
    InvitationId,
    PasskeyId,
    PersonId,
    QuotaId,
    ShareId,
    KeyKind,
    RepositoryRole,
    Role,
    Scopes,
    Visibility
);
text_columns!(
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

macro_rules! json_columns {
    ($($ty:ty),*) => {$(
        impl Column for $ty {
            fn from_cell(cell: Cell<'_>) -> Result<Self, BoxError> {
                Ok(serde_json::from_str(&text(cell)?)?)
            }
        }
    )*};
}

json_columns!(
    AgentOffers,
    AgentSettings,
    Vec<Content>,
    Vec<LayerId>,
    crate::identities::Granted,
    Vec<PermissionOption>,
    Vec<String>,
    Vec<crate::tasks::Phase>,
    TaskLimits,
    WorkspaceLimits,
    Usage,
    crate::tasks::Reason,
    serde_json::Value
);

/// A struct whose fields are, in this order, the columns that its `SELECT` names.
///
/// With `[owned]` it begins with `owner`, which is in two columns.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident [owned] {
        $($(#[$fmeta:meta])* pub $field:ident: $ty:ty,)*
    }) => {
        $(#[$meta])*
        pub struct $name {
            /// Whose it is.
            pub owner: $crate::Owner,
            $($(#[$fmeta])* pub $field: $ty,)*
        }

        impl $name {
            /// The columns, for `SELECT` and `RETURNING`.
            pub(crate) const COLUMNS: &'static str =
                $crate::row::record!(@join organization, owner $(, $field)*);
        }

        $crate::row::record!(@owned sqlx::sqlite::SqliteRow, $name { $($field),* });
    };
    (@from $row:ty, $name:ident) => {
        impl sqlx::FromRow<'_, $row> for $name {
            fn from_row(row: &$row) -> Result<Self, sqlx::Error> {
                $crate::row::Record::read(row)
            }
        }
    };
    (@owned $row:ty, $name:ident { $($field:ident),* }) => {
        $crate::row::record!(@from $row, $name);

        impl $crate::row::Record for $name {
            fn read(row: &impl $crate::row::StoreRow) -> Result<Self, sqlx::Error> {
                let owner = $crate::Owner {
                    organization: $crate::row::StoreRow::get(row, 0)?,
                    member: $crate::row::StoreRow::get(row, 1)?,
                };
                let mut index = 2..;
                Ok(Self {
                    owner,
                    $($field: $crate::row::StoreRow::get(row, index.next().unwrap_or_default())?,)*
                })
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[$fmeta:meta])* $fvis:vis $field:ident: $ty:ty,)*
    }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$fmeta])* $fvis $field: $ty,)* }

        impl $name {
            /// The columns, for `SELECT` and `RETURNING`.
            pub(crate) const COLUMNS: &'static str = $crate::row::record!(@join $($field),*);
        }

        $crate::row::record!(@row sqlx::sqlite::SqliteRow, $name { $($field),* });
    };
    (@join $first:ident $(, $rest:ident)*) => {
        concat!(stringify!($first) $(, ", ", stringify!($rest))*)
    };
    (@row $row:ty, $name:ident { $($field:ident),* }) => {
        $crate::row::record!(@from $row, $name);

        impl $crate::row::Record for $name {
            fn read(row: &impl $crate::row::StoreRow) -> Result<Self, sqlx::Error> {
                let mut index = 0..;
                Ok(Self {
                    $($field: $crate::row::StoreRow::get(row, index.next().unwrap_or_default())?,)*
                })
            }
        }
    };
}

pub(crate) use record;

/// JSON as it is kept in a column.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    serde_json::to_string(value)
}
