//! The one writer: every change of the database is an operation that it runs.
//!
//! ```text
//!  callers ──ops──► [bounded queue] ──► gather ─► BEGIN ─► run each ─► serve waiting claims ─► COMMIT
//!                                         ▲                                                       │
//!                                         └────────── what arrived meanwhile ◄── replies, wake-ups ┘
//! ```
//!
//! The writer has a thread of its own, in which the database is called directly: what it costs
//! beyond the database's own work is one wake-up on the way in and one on the way out.
//!
//! One transaction takes all operations that arrived while the one before was being made durable,
//! so the cost of the disk is shared and nobody waits for a timer: an operation that comes alone
//! is committed at once. Only those who come in a crowd are waited for, some microseconds, so that
//! they go on sharing. Operations are run in the order of arrival; neighbours of the same kind
//! (appends, enqueues) become statements of many rows. A closure ([`Store::write`]) has a
//! savepoint of its own when it shares the transaction, so its failure is its own.
//!
//! A caller that goes away doesn't undo its operation: it is done wholly or not at all.
//! After the commit, and only then, followers see the events and callers get their answers.

mod batch;
mod claims;

use std::{path::PathBuf, sync::Arc, time::Duration};

use boatyard_model::{AuditOutcome, OrganizationId, SessionId, Timestamp, time::Clock};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Error, Result, Store, audit,
    conn::{Conn, direct::Connection},
    events::{Appended, Heads, Prepared},
    feed::FeedEntry,
    figures::Tally,
    jobs::{Enqueued, NewJob, Settlement},
    store::Shared,
};

use batch::Writer;

pub(crate) use batch::Answer;
pub(crate) use claims::ClaimRequest;

/// Operations that wait for the writer at most; whoever comes after waits for a place.
pub(crate) const QUEUE: usize = 4096;

/// How long one closure may take. Everybody else waits meanwhile.
pub(crate) const CLOSURE_LIMIT: Duration = Duration::from_secs(20);

/// A transaction. What changes the database is a method of it, so that several changes can be
/// made in one: [`Store::write`].
pub struct Tx {
    pub(crate) conn: Conn,
    pub(crate) heads: Heads,
    pub(crate) effects: Effects,
    /// The request that the operation under way is done for, while its entry in the audit log is
    /// still to be appended.
    pub(crate) audited: Option<Arc<audit::Context>>,
    clock: Arc<dyn Clock>,
}

/// What is to be done when the transaction is durable.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) feed: Vec<(OrganizationId, FeedEntry)>,
    pub(crate) events: Vec<Published>,
    /// Queues that got a job whose time has come, or will come.
    pub(crate) queues: Vec<String>,
    /// Some key ceased to work.
    pub(crate) keys: bool,
    /// What is counted.
    pub(crate) tally: Tally,
}

/// A stored event, and the last number that its session had given before.
pub(crate) struct Published {
    pub(crate) session: SessionId,
    pub(crate) before: u64,
    pub(crate) seq: u64,
    pub(crate) event: Prepared,
}

impl Tx {
    pub(crate) fn new(conn: Conn, clock: Arc<dyn Clock>) -> Self {
        Self { conn, heads: Heads::default(), effects: Effects::default(), audited: None, clock }
    }

    /// The time by the store's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// One operation of the writer.
pub(crate) enum Op {
    /// A caller's closure.
    Run(Box<dyn Work>),
    /// Events, and jobs that follow from them.
    Append { events: Vec<Prepared>, follow_up: Vec<NewJob>, reply: Reply<Vec<Appended>> },
    /// Jobs.
    Enqueue { jobs: Vec<NewJob>, reply: Reply<Vec<Enqueued>> },
    /// A worker's wish for jobs.
    Claim(ClaimRequest),
    /// What became of jobs.
    Settle { jobs: Vec<Settlement>, reply: Reply<Vec<Result<()>>> },
    /// The rest of a checkpoint, between two transactions.
    Checkpoint { reply: Reply<()> },
    /// Look at the clock again.
    Poke,
    /// This is the last one.
    Close,
}

/// What several callers gave, each with the place for its answer.
pub(crate) type Group<T, A> = Vec<(Vec<T>, Reply<Vec<A>>)>;

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// A closure with a place for its result.
pub(crate) trait Work: Send {
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Result<()>>;

    /// Gives the caller the result, or why there is none.
    fn settle(self: Box<Self>, committed: Result<()>);
}

struct Closure<T, F> {
    closure: Option<F>,
    value: Option<T>,
    reply: Reply<T>,
    /// The request that it is done for.
    audited: Option<Arc<audit::Context>>,
    /// It appended that request's entry to the audit log.
    claim: Option<audit::Claim>,
}

impl<T, F> Closure<T, F> {
    fn new(closure: F, reply: Reply<T>, audited: Option<Arc<audit::Context>>) -> Self {
        Self { closure: Some(closure), value: None, reply, audited, claim: None }
    }
}

impl<T, F> Work for Closure<T, F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
{
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Result<()>> {
        Box::pin(async move {
            let closure = self.closure.take().ok_or(Error::Closed)?;
            tx.audited = self.audited.take().filter(|context| !context.is_recorded());
            self.value = Some(closure(tx).await?);
            // The change and its entry are one: neither is stored without the other.
            if let Some(context) = tx.audited.take()
                && let Some(claim) = context.claim()
            {
                tx.append_audit(context.unsealed(AuditOutcome::Allowed, None))?;
                self.claim = Some(claim);
            }
            Ok(())
        })
    }

    fn settle(self: Box<Self>, committed: Result<()>) {
        let Self { value, reply, claim, .. } = *self;
        if let Some(claim) = claim
            && committed.is_ok()
        {
            claim.keep();
        }
        let result = committed.and_then(|()| value.ok_or(Error::Closed));
        // A caller that went away doesn't want to know.
        let _ = reply.send(result);
    }
}

impl Store {
    /// Runs `closure` in one transaction: all that it does is stored together with its return, or
    /// nothing if it returns an error.
    ///
    /// ```ignore
    /// store.write(move |tx| Box::pin(async move {
    ///     tx.set_workspace_state(id, WorkspaceState::Awake, None).await?;
    ///     tx.enqueue(job).await
    /// })).await
    /// ```
    ///
    /// The closure must await nothing but the transaction's methods: everybody else waits for it.
    /// Dropping the returned future doesn't take the work back.
    ///
    /// The first write of a request that changes something appends the request's entry to the
    /// [audit log](crate::audit).
    ///
    /// # Errors
    /// The closure's own, or why it could not be committed.
    pub async fn write<T, F>(&self, closure: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = Closure::new(closure, reply, audit::current());
        self.send(Op::Run(Box::new(work))).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// The same for what is no change in anybody's eyes, and so not in the audit log: that somebody
    /// asked.
    pub(crate) async fn write_aside<T, F>(&self, closure: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Op::Run(Box::new(Closure::new(closure, reply, None)))).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// The same for what may be left undone: nobody hears of its outcome, and it is given up at
    /// once if the writer has too much to do.
    pub(crate) fn write_unwatched<F>(&self, closure: F)
    where
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<()>> + Send + 'static,
    {
        let (reply, _) = oneshot::channel();
        let work = Closure::new(closure, reply, None);
        if self.ops().try_send(Op::Run(Box::new(work))).is_err() {
            tracing::debug!("the writer has too much to do for what may be left undone");
        }
    }

    pub(crate) async fn send(&self, op: Op) -> Result<()> {
        self.ops().send(op).await.map_err(|_| Error::Closed)
    }
}

/// What the writer is made of.
pub(crate) struct WriterParts {
    pub(crate) path: PathBuf,
    pub(crate) ops: mpsc::Receiver<Op>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Starts the writer's thread; it ends when every handle of the store is gone.
///
/// # Errors
/// When the thread can't be started or the database not be opened.
pub(crate) async fn start(parts: WriterParts) -> Result<()> {
    let (opened, answer) = oneshot::channel();
    let path = parts.path.clone();
    let failed = |source| Error::File { path: path.clone(), source: Arc::new(source) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.map_err(&failed)?;
    let thread = move || match Connection::open(&parts.path) {
        Ok(conn) => {
            let writer = Writer::new(parts, Conn::Sqlite(conn));
            let _ = opened.send(Ok(()));
            runtime.block_on(writer.run());
        }
        Err(error) => {
            let _ = opened.send(Err(error));
        }
    };
    std::thread::Builder::new().name("store-write".to_owned()).spawn(thread).map_err(&failed)?;
    answer.await.map_err(|_| Error::Closed)?
}
