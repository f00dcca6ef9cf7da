//! Why an operation of the store fails.

use std::{path::PathBuf, sync::Arc};

use boatyard_model::JobId;

/// What the store's operations return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation of the store failed. Cheap to clone, because one failed commit is the answer
/// to everybody whose work was in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// There is no such row.
    #[error("there is no {kind} {id}")]
    NotFound {
        /// What was looked for, as `task`.
        kind: &'static str,
        /// Its id or name.
        id: String,
    },
    /// The state machine forbids the change.
    #[error("{kind} {id} is {from} and can't become {to}")]
    IllegalState {
        /// What kind of thing.
        kind: &'static str,
        /// Which.
        id: String,
        /// Its state now.
        from: &'static str,
        /// The state that was wanted.
        to: &'static str,
    },
    /// Somebody was faster.
    #[error("{kind} {id} is {outcome} already")]
    AlreadyResolved {
        /// `permission` or `question`.
        kind: &'static str,
        /// Which.
        id: String,
        /// How it was resolved.
        outcome: String,
    },
    /// The answer is none of those that were offered.
    #[error("{kind} {id} has no option `{option}`")]
    NoSuchOption {
        /// `permission`.
        kind: &'static str,
        /// Which.
        id: String,
        /// What was chosen.
        option: String,
    },
    /// What there is forbids it; the text says why, for people.
    #[error("{detail}")]
    Refused {
        /// The whole sentence.
        detail: String,
    },
    /// A quota does not allow it.
    #[error("{}", reason.text)]
    Quota {
        /// Which, and what to do.
        reason: crate::tasks::Reason,
    },
    /// The idempotency key was used before, for another request.
    #[error("idempotency key `{key}` was used for another request")]
    Conflict {
        /// The key.
        key: String,
    },
    /// A job is no longer the caller's: its lease ran out and somebody else has it, or it is over.
    #[error("the lease of {job} is lost")]
    LeaseLost {
        /// Which.
        job: JobId,
    },
    /// The database was written by a newer Boatyard.
    #[error("the database has schema {found}, this program knows up to {known}: use a newer one")]
    Newer {
        /// The schema of the database.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// A migration that was run differs from the one in this program.
    #[error("migration {version} of the database differs from this program's")]
    Altered {
        /// Which.
        version: i64,
    },
    /// The hook before migrations refused.
    #[error("migrations were not begun")]
    Backup(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The database is damaged.
    #[error("the database is damaged: {detail}")]
    Damaged {
        /// What the check said first.
        detail: String,
    },
    /// A value could not be written as JSON.
    #[error("a value can't be written as JSON")]
    Encode(#[source] Arc<serde_json::Error>),
    /// The database refused or could not.
    #[error("the database failed")]
    Database(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// A file beside the database.
    #[error("can't use {path}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The work took longer than a transaction may.
    #[error("a transaction took longer than {seconds} s")]
    Overdue {
        /// The limit.
        seconds: u64,
    },
    /// The closure that was to write panicked.
    #[error("a transaction's closure panicked")]
    Panicked,
    /// Nothing is written any more: the store was closed.
    #[error("the store is closed")]
    Closed,
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Encode(Arc::new(error))
    }
}

impl Error {
    /// Whether the disk (or the database's own limit) is full: nothing can be written until
    /// somebody makes room.
    pub fn is_full(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let full = rusqlite::ErrorCode::DiskFull;
        let written = error.downcast_ref::<rusqlite::Error>();
        if written.is_some_and(|error| error.sqlite_error_code() == Some(full)) {
            return true;
        }
        match error.downcast_ref() {
            // SQLITE_FULL is 13.
            Some(sqlx::Error::Database(db)) => db.code().is_some_and(|code| code == "13"),
            Some(sqlx::Error::Io(io)) => io.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }

    pub(crate) fn not_found(kind: &'static str, id: impl ToString) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }
}
