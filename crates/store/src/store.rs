//! The handle: how a database is opened, and what its handles share.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use boatyard_model::{
    OrganizationId, SessionId, Timestamp,
    time::{Clock, SystemClock},
};
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    Error, Result,
    conn::{Readers, exec, read_one, sqlite},
    events::StoredEvent,
    feed::FeedEntry,
    follow::Channels,
    migrations::{self, Pending},
    pages::Pages,
    sessions::{SessionFilter, SessionRow},
    tasks::{TaskFilter, TaskRow},
    writer::{self, Op, Tx, WriterParts},
};

/// How long after a burst of commits the log is copied into the database.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(1);
/// Pages of 4 KiB in the log at which the writer itself finishes a checkpoint: 64 MiB.
const LOG_MAX: i64 = 16_384;

/// What is called when migrations are about to run on a database that is not new: the place for a
/// backup ([`Before::backup_to`]). An error refuses to open.
pub type BeforeMigration =
    Box<dyn FnOnce(Before) -> futures_util::future::BoxFuture<'static, BoxResult> + Send>;

/// What the hook before migrations returns.
pub type BoxResult = std::result::Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How to open a database.
pub struct Options {
    /// The file; made if it isn't there.
    pub path: PathBuf,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Connections that read; between 2 and 8 by default, as many as cores.
    pub readers: u32,
    /// Called before migrations of a database that is not new.
    pub before_migration: Option<BeforeMigration>,
}

impl Options {
    /// This file, the machine's clock, no hook.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            path: path.into(),
            clock: Arc::new(SystemClock),
            readers: u32::try_from(cores.clamp(2, 8)).unwrap_or(2),
            before_migration: None,
        }
    }
}

/// A database before its migrations.
pub struct Before {
    path: PathBuf,
    /// Which are about to run.
    pub pending: Pending,
}

impl Before {
    /// Writes a copy of the database to a file that isn't there yet.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn backup_to(&self, path: &Path) -> Result<()> {
        vacuum_into(&self.path, path).await
    }
}

/// The database. A handle: cloning it is cheap, and the last one that is dropped ends the writer.
#[derive(Clone)]
pub struct Store {
    path: Arc<Path>,
    readers: Readers,
    ops: mpsc::Sender<Op>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    schema: i64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What the writer and the handles share.
pub(crate) struct Shared {
    pub(crate) sessions: Channels<SessionId, StoredEvent>,
    pub(crate) feeds: Channels<OrganizationId, FeedEntry>,
    pub(crate) task_pages: Pages<TaskFilter, TaskRow>,
    pub(crate) session_pages: Pages<SessionFilter, SessionRow>,
    /// How often keys ceased to work.
    pub(crate) revocations: AtomicU64,
    /// The same number, for those who wait for it to rise.
    pub(crate) rights: watch::Sender<u64>,
    /// Something was committed.
    pub(crate) dirty: Arc<Notify>,
    /// The writer is gone.
    pub(crate) closed: Notify,
    tasks: Mutex<Vec<tokio::task::AbortHandle>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

impl Store {
    /// Opens a database, makes it if it isn't there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`Error::Newer`] if a newer program wrote it, [`Error::Altered`] if it isn't ours,
    /// [`Error::Backup`] if the hook refused, [`Error::Database`] otherwise.
    pub async fn open(options: Options) -> Result<Self> {
        let Options { path, clock, readers, before_migration } = options;
        sqlite::private(&path)
            .map_err(|source| Error::File { path: path.clone(), source: Arc::new(source) })?;
        let mut side = sqlite::open_side(&path).await?;
        let pending = migrations::pending(&mut side).await?;
        if !pending.is_new()
            && !pending.is_empty()
            && let Some(hook) = before_migration
        {
            let before = Before { path: path.clone(), pending: pending.clone() };
            hook(before).await.map_err(|error| Error::Backup(Arc::from(error)))?;
        }
        let schema = migrations::run(&mut side, &pending, clock.now()).await?;
        let readers = Readers::Sqlite(sqlite::open_readers(&path, readers).await?);
        let (ops, queue) = mpsc::channel(writer::QUEUE);
        let shared = Arc::new(Shared {
            sessions: Channels::default(),
            feeds: Channels::default(),
            task_pages: Pages::default(),
            session_pages: Pages::default(),
            revocations: AtomicU64::new(0),
            rights: watch::Sender::new(0),
            dirty: Arc::default(),
            closed: Notify::new(),
            tasks: Mutex::new(Vec::new()),
        });
        let parts = WriterParts {
            path: path.clone(),
            ops: queue,
            shared: Arc::clone(&shared),
            clock: Arc::clone(&clock),
        };
        writer::start(parts).await?;
        // Not before the others are open: the last one to be closed copies the log and removes it.
        sqlx::Connection::close(side).await?;
        let checkpoints = checkpoints(path.clone(), Arc::clone(&shared.dirty), ops.downgrade());
        let task = tokio::spawn(checkpoints).abort_handle();
        shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        Ok(Self { path: path.into(), readers, ops, shared, clock, schema })
    }

    /// The time by the store's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The schema's number, read from the database: shows that it answers.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn schema(&self) -> Result<i64> {
        let found = read_one!(self, (Option<i64>,), "SELECT MAX(version) FROM schema_migration")?;
        Ok(found.and_then(|(version,)| version).unwrap_or(self.schema))
    }

    /// Writes a copy of the database, as it is at one moment, to a file that isn't there yet.
    /// Work goes on meanwhile.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn backup_to(&self, path: &Path) -> Result<()> {
        vacuum_into(&self.path, path).await
    }

    /// Checks the whole database. May take long; others go on.
    ///
    /// # Errors
    /// [`Error::Damaged`] with what was found first.
    pub async fn check(&self) -> Result<()> {
        let mut conn = sqlite::open_side(&self.path).await?;
        let found: (String,) =
            sqlx::query_as("PRAGMA integrity_check(1)").fetch_one(&mut conn).await?;
        if found.0 != "ok" {
            return Err(Error::Damaged { detail: found.0 });
        }
        let orphan: Option<(String,)> =
            sqlx::query_as("SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1")
                .fetch_optional(&mut conn)
                .await?;
        match orphan {
            None => Ok(()),
            Some((table,)) => Err(Error::Damaged {
                detail: format!("a row of {table} refers to one that is not there"),
            }),
        }
    }

    /// Ends: what was given to the writer before is still stored, what comes after is refused with
    /// [`Error::Closed`]. The other handles can only read from then on.
    ///
    /// # Errors
    /// When the log can't be copied into the database; nothing is lost by that.
    pub async fn close(self) -> Result<()> {
        let closed = Arc::clone(&self.shared);
        let gone = closed.closed.notified();
        self.ops.send(Op::Close).await.map_err(|_| Error::Closed)?;
        gone.await;
        let Readers::Sqlite(pool) = &self.readers;
        pool.close().await;
        let mut conn = sqlite::open_side(&self.path).await?;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut conn).await?;
        sqlx::Connection::close(conn).await?;
        Ok(())
    }

    /// The size of the database's files, in bytes.
    pub fn bytes(&self) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        size(&self.path) + size(Path::new(&log))
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    pub(crate) fn ops(&self) -> &mpsc::Sender<Op> {
        &self.ops
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Tx {
    /// A value that was kept under this name.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn meta(&mut self, name: &str) -> Result<Option<String>> {
        let row =
            crate::conn::find!(self, (String,), "SELECT value FROM meta WHERE name = $1", name)?;
        Ok(row.map(|(value,)| value))
    }

    /// Keeps a value under a name: the instance's id, the last run of a daily job, …
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn set_meta(&mut self, name: &str, value: &str) -> Result<()> {
        exec!(
            self,
            "INSERT INTO meta (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name,
            value,
        )?;
        Ok(())
    }
}

async fn vacuum_into(from: &Path, to: &Path) -> Result<()> {
    let conflict = std::io::ErrorKind::InvalidInput;
    let target = to.to_str().ok_or_else(|| Error::File {
        path: to.to_owned(),
        source: Arc::new(std::io::Error::new(conflict, "its name is not UTF-8")),
    })?;
    let mut conn = sqlite::open_side(from).await?;
    sqlx::query("VACUUM INTO $1").bind(target).execute(&mut conn).await?;
    sqlx::Connection::close(conn).await?;
    let file = |source| Error::File { path: to.to_owned(), source: Arc::new(source) };
    // The copy is only a backup once it is on the disk.
    let synced = tokio::fs::File::open(to).await.map_err(file)?;
    synced.sync_all().await.map_err(file)
}

/// Copies the log into the database in small steps beside the writer, so that no commit has to.
async fn checkpoints(path: PathBuf, dirty: Arc<Notify>, ops: mpsc::WeakSender<Op>) {
    let mut conn = None;
    loop {
        dirty.notified().await;
        tokio::time::sleep(CHECKPOINT_AFTER).await;
        if let Err(error) = checkpoint(&path, &mut conn, &ops).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a checkpoint failed");
            conn = None;
        }
    }
}

async fn checkpoint(
    path: &Path,
    conn: &mut Option<sqlx::SqliteConnection>,
    ops: &mpsc::WeakSender<Op>,
) -> Result<()> {
    if conn.is_none() {
        *conn = Some(sqlite::open_side(path).await?);
    }
    let Some(open) = conn else { return Ok(()) };
    let (_busy, log, _copied): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut *open).await?;
    if log > LOG_MAX {
        // It grows faster than it is copied, and starts from its beginning only when all of it
        // was: the writer does the small rest between two transactions.
        let Some(ops) = ops.upgrade() else { return Ok(()) };
        let (reply, done) = tokio::sync::oneshot::channel();
        ops.send(Op::Checkpoint { reply }).await.map_err(|_| Error::Closed)?;
        drop(ops);
        done.await.map_err(|_| Error::Closed)??;
    }
    Ok(())
}
