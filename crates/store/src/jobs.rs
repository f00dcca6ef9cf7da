//! The durable queue of background work.
//!
//! ```text
//!            claim: lease until T, generation + 1
//!  queued ───────────────────────────────────────► running ──► done | failed
//!    ▲  └──► cancelled ◄─────────────────────────────┤
//!    └────────── retry at a time, lease run out ─────┘
//! ```
//!
//! A worker that claims a job gets its **generation**; each write about the job names it, so a
//! worker that was away for longer than its lease can change nothing any more
//! ([`Error::LeaseLost`]). A job whose lease ran out goes back to the queue until its attempts are
//! used up. The worker's loop is the caller's:
//!
//! ```text
//! loop { for job in store.claim("default", "worker-1", 16, lease, wait) { run; settle } }
//! ```

use std::time::Duration;

use boatyard_model::{JobId, JobState, OrganizationId, Timestamp};
use serde_json::Value;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_one, read_page},
    row::record,
    writer::{ClaimRequest, Op},
};

mod bulk;

/// The queue that is meant when nobody says otherwise.
pub const DEFAULT_QUEUE: &str = "default";

/// A job to be enqueued. [`NewJob::new`] gives one that is due at once.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Whose it is.
    pub owner: Owner,
    /// Workers of this queue may claim it.
    pub queue: String,
    /// What it does, for the worker.
    pub kind: String,
    /// What it is about: the id of a task, a workspace, …
    pub subject: Option<String>,
    /// What the worker must know.
    pub payload: Value,
    /// Not to be begun before; at once if absent.
    pub run_at: Option<Timestamp>,
    /// How often it may be begun.
    pub max_attempts: u32,
    /// While a job with this key is queued or running, no other one is stored.
    pub dedup_key: Option<String>,
}

impl NewJob {
    /// Tries that a job has unless somebody says otherwise.
    pub const MAX_ATTEMPTS: u32 = 20;

    /// A job of this kind, due at once, in the default queue.
    pub fn new(kind: impl Into<String>, payload: Value) -> Self {
        Self {
            owner: Owner::BUILT_IN,
            queue: DEFAULT_QUEUE.to_owned(),
            kind: kind.into(),
            subject: None,
            payload,
            run_at: None,
            max_attempts: Self::MAX_ATTEMPTS,
            dedup_key: None,
        }
    }

    /// The same about this thing.
    #[must_use]
    pub fn about(mut self, subject: impl ToString) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// The same, once at a time for this key.
    #[must_use]
    pub fn once_for(mut self, key: impl Into<String>) -> Self {
        self.dedup_key = Some(key.into());
        self
    }

    /// The same, not before this time.
    #[must_use]
    pub fn at(mut self, time: Timestamp) -> Self {
        self.run_at = Some(time);
        self
    }

    /// The same in this queue.
    #[must_use]
    pub fn in_queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = queue.into();
        self
    }
}

/// What became of a job that was to be enqueued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in the queue.
    New(JobId),
    /// One with its key was there already.
    Existing(JobId),
}

impl Enqueued {
    /// The job that is there now.
    pub const fn id(self) -> JobId {
        match self {
            Self::New(id) | Self::Existing(id) => id,
        }
    }
}

record! {
    /// A job.
    #[derive(Debug, Clone)]
    pub struct JobRow [owned] {
        /// Its id.
        pub id: JobId,
        /// Its place in the order of enqueueing, for paging.
        pub number: u64,
        /// Where it stands.
        pub state: JobState,
        /// Whose workers may claim it.
        pub queue: String,
        /// What it does.
        pub kind: String,
        /// What it is about.
        pub subject: Option<String>,
        /// Not to be begun before.
        pub run_at: Timestamp,
        /// How often it was claimed: what a worker must name to write about it.
        pub generation: u64,
        /// How often it was begun.
        pub attempts: u32,
        /// How often it may be.
        pub max_attempts: u32,
        /// Who holds it.
        pub lease_owner: Option<String>,
        /// Until when.
        pub lease_until: Option<Timestamp>,
        /// Why the last try failed.
        pub error: Option<String>,
        /// When it was enqueued.
        pub created: Timestamp,
        /// When it was begun first.
        pub started: Option<Timestamp>,
        /// When it was over.
        pub ended: Option<Timestamp>,
        /// What the worker must know.
        pub payload: Value,
    }
}

impl JobRow {
    /// The claim on it.
    pub const fn lease(&self) -> Lease {
        Lease { job: self.id, generation: self.generation }
    }
}

/// A worker's claim on a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: JobId,
    /// The claim's number.
    pub generation: u64,
}

/// What a worker says about a job that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The claim.
    pub lease: Lease,
    /// What became of it.
    pub outcome: JobOutcome,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// It is done.
    Done,
    /// It failed for good.
    Failed {
        /// Why.
        error: String,
    },
    /// It failed, and is to be tried again; failed for good if it was the last attempt.
    Retry {
        /// When.
        at: Timestamp,
        /// Why it failed.
        error: String,
    },
    /// It wasn't begun or isn't finished, and that is no failure: the attempt doesn't count.
    Release {
        /// When it may be claimed again.
        at: Timestamp,
    },
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only those in this state.
    pub state: Option<JobState>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only those about this.
    pub subject: Option<String>,
    /// Only those with a smaller `number` (newest first).
    pub before: Option<u64>,
}

/// A worker that waits for jobs. If it goes away between being given some and taking them, they go
/// back to the queue.
struct Waiting<'a> {
    answer: oneshot::Receiver<Result<Vec<JobRow>>>,
    store: &'a Store,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // From here on the writer finds that nobody takes what it gives.
        self.answer.close();
        let Ok(Ok(jobs)) = self.answer.try_recv() else { return };
        if jobs.is_empty() {
            return;
        }
        let at = self.store.now();
        let release =
            |job: &JobRow| Settlement { lease: job.lease(), outcome: JobOutcome::Release { at } };
        let jobs = jobs.iter().map(release).collect();
        let (reply, _) = oneshot::channel();
        // With a full queue, or a closed store, their leases run out.
        let _ = self.store.ops().try_send(Op::Settle { jobs, reply });
    }
}

impl Store {
    /// Puts jobs into the queue, durably when this returns.
    ///
    /// # Errors
    /// When they can't be stored.
    pub async fn enqueue(&self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>> {
        let (reply, answer) = oneshot::channel();
        self.send(Op::Enqueue { jobs, reply }).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Claims up to `limit` due jobs of a queue, each for `lease`. Waits up to `wait` while there
    /// are none, and then gives an empty list. May be dropped: what was claimed goes back.
    ///
    /// # Errors
    /// When the claim can't be stored.
    pub async fn claim(
        &self,
        queue: &str,
        worker: &str,
        limit: u32,
        lease: Duration,
        wait: Duration,
    ) -> Result<Vec<JobRow>> {
        let (reply, answer) = oneshot::channel();
        self.send(Op::Claim(ClaimRequest {
            queue: queue.to_owned(),
            worker: worker.to_owned(),
            limit,
            lease,
            until: Instant::now() + wait,
            reply,
        }))
        .await?;
        let mut waiting = Waiting { answer, store: self };
        let answer = (&mut waiting.answer).await;
        answer.map_err(|_| Error::Closed)?
    }

    /// Ends or gives back jobs. One result for each, in order.
    ///
    /// # Errors
    /// Inside: [`Error::LeaseLost`] where it is no longer the caller's. Outside: when nothing
    /// could be stored.
    pub async fn settle(&self, jobs: Vec<Settlement>) -> Result<Vec<Result<()>>> {
        let (reply, answer) = oneshot::channel();
        self.send(Op::Settle { jobs, reply }).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// One job.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn job(&self, id: JobId) -> Result<JobRow> {
        read_one!(self, JobRow, format!("SELECT {} FROM job WHERE id = $1", JobRow::COLUMNS), id)?
            .ok_or_else(|| Error::not_found("job", id))
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_jobs(
        &self,
        organization: impl Into<Option<OrganizationId>>,
        filter: &JobFilter,
        limit: u32,
    ) -> Result<Vec<JobRow>> {
        let organization: Option<OrganizationId> = organization.into();
        read_page!(
            self,
            JobRow,
            format!(
                "SELECT {} FROM job WHERE ($1 IS NULL OR organization = $1)
                 AND ($2 IS NULL OR state = $2) AND ($3 IS NULL OR kind = $3)
                 AND ($4 IS NULL OR subject = $4) AND number < $5
                 ORDER BY number DESC LIMIT $6",
                JobRow::COLUMNS
            ),
            organization,
            filter.state,
            filter.kind,
            filter.subject,
            filter.before.unwrap_or(i64::MAX.unsigned_abs()),
            limit,
        )
    }

    /// Makes waiting workers look at the clock again: for tests that move it.
    ///
    /// # Errors
    /// When the store is closed.
    pub async fn poke_jobs(&self) -> Result<()> {
        self.send(Op::Poke).await
    }
}

impl Tx {
    /// Puts a job into the queue, together with the change that it follows from.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn enqueue(&mut self, job: NewJob) -> Result<Enqueued> {
        let mut enqueued = self.insert_jobs(vec![job]).await?;
        enqueued.pop().ok_or(Error::Closed)
    }

    /// Ends or gives back a job, together with the change that was its work.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], and then the whole closure should fail: somebody else does the work.
    pub async fn settle(&mut self, settlement: Settlement) -> Result<()> {
        let mut results = self.settle_jobs(vec![settlement]).await?;
        results.pop().unwrap_or(Ok(()))
    }

    /// Holds on to a job for longer.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    pub async fn renew(&mut self, lease: Lease, length: Duration) -> Result<()> {
        let until = self.now().after(length);
        let touched = exec!(
            self,
            "UPDATE job SET lease_until = $3
             WHERE id = $1 AND generation = $2 AND state = 'running'",
            lease.job,
            lease.generation,
            until,
        )?;
        if touched == 0 { Err(Error::LeaseLost { job: lease.job }) } else { Ok(()) }
    }

    /// Ends a job that is not over: a queued one is never begun, the holder of a running one loses
    /// its lease. Says whether it was running.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::IllegalState`] if it is over.
    pub async fn cancel_job(&mut self, id: JobId) -> Result<WasRunning> {
        let found =
            find!(self, JobRow, format!("SELECT {} FROM job WHERE id = $1", JobRow::COLUMNS), id)?;
        let job = found.ok_or_else(|| Error::not_found("job", id))?;
        if !job.state.may_become(JobState::Cancelled) {
            return Err(Error::IllegalState {
                kind: "job",
                id: id.to_string(),
                from: job.state.as_str(),
                to: JobState::Cancelled.as_str(),
            });
        }
        exec!(
            self,
            "UPDATE job SET state = 'cancelled', ended = $2, lease_owner = NULL, lease_until = NULL,
             generation = generation + 1 WHERE id = $1",
            id,
            self.now(),
        )?;
        Ok(if job.state == JobState::Running { WasRunning::Yes } else { WasRunning::No })
    }

    /// Ends every job about this that is not over; how many.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn cancel_jobs_about(&mut self, subject: &str) -> Result<u64> {
        exec!(
            self,
            "UPDATE job SET state = 'cancelled', ended = $2, lease_owner = NULL, lease_until = NULL,
             generation = generation + 1
             WHERE subject = $1 AND state IN ('queued', 'running')",
            subject,
            self.now(),
        )
    }

    /// Takes every lease from workers other than this one: at the start of a server that is the
    /// only one, for those of the one before. The attempts that they had begun count.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn reclaim_from_others(&mut self, worker: &str) -> Result<u64> {
        let now = self.now();
        exec!(
            self,
            "UPDATE job SET lease_until = $2 WHERE state = 'running' AND lease_owner <> $1",
            worker,
            now,
        )?;
        self.reclaim(now).await
    }

    /// Removes jobs that were over before this time, at most `limit`, oldest first.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn remove_old_jobs(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        exec!(
            self,
            "DELETE FROM job WHERE number IN (
                SELECT number FROM job WHERE state IN ('done', 'failed', 'cancelled')
                AND ended < $1 ORDER BY number LIMIT $2)",
            before,
            limit,
        )
    }
}

/// Whether a job that was cancelled had a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasRunning {
    /// It had; its lease is lost now.
    Yes,
    /// It waited.
    No,
}
