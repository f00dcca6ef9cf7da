//! The statements of the queue that touch many rows at once.

use std::time::Duration;

use boatyard_model::{JobId, JobState, Timestamp};

use super::{Enqueued, JobOutcome, JobRow, Lease, NewJob, Settlement};
use crate::{
    Error, Result, Tx,
    bulk::{self, Rows},
    conn::{exec, find, list, sqlite},
    row::json,
    writer::{Answer, Group},
};

const INSERT: &str = "INSERT INTO job (id, organization, owner, state, queue, kind, subject, \
                      run_at, max_attempts, dedup_key, created, payload) VALUES ";
const ROW: &str = "(?,?,?,'queued',?,?,?,?,?,?,?,?)";

impl Tx {
    pub(crate) async fn enqueue_group(
        &mut self,
        group: Group<NewJob, Enqueued>,
        answers: &mut Vec<Answer>,
    ) -> Result<()> {
        let mut jobs = Vec::new();
        let mut replies = Vec::with_capacity(group.len());
        for (part, reply) in group {
            replies.push((part.len(), reply));
            jobs.extend(part);
        }
        let outcome = self.insert_jobs(jobs).await;
        bulk::deal(outcome, replies, answers)
    }

    /// Stores jobs; those without a key in statements of many rows.
    pub(crate) async fn insert_jobs(&mut self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>> {
        let now = self.now();
        let mut enqueued = Vec::with_capacity(jobs.len());
        let mut rows = Rows::new(INSERT, ROW, "");
        for job in jobs {
            if !self.effects.queues.contains(&job.queue) {
                self.effects.queues.push(job.queue.clone());
            }
            let id = JobId::new();
            let payload = json(&job.payload)?;
            let organization = job.owner.organization;
            let key = job.dedup_key.clone();
            rows.add(|row| {
                row.text(id.to_string())
                    .text(organization.to_string())
                    .text(job.owner.member.to_string())
                    .text(job.queue)
                    .text(job.kind)
                    .maybe(job.subject)
                    .int(job.run_at.unwrap_or(now).0)
                    .int(i64::from(job.max_attempts))
                    .maybe(job.dedup_key)
                    .int(now.0)
                    .text(payload);
            });
            // One with a key is in a statement of its own, after those before it.
            let Some(key) = key else {
                enqueued.push(Enqueued::New(id));
                continue;
            };
            if rows.insert_last_or_nothing(&mut self.conn).await? {
                enqueued.push(Enqueued::New(id));
                continue;
            }
            let existing = find!(
                self,
                JobRow,
                format!(
                    "SELECT {} FROM job WHERE organization = $1 AND dedup_key = $2
                     AND state IN ('queued', 'running')",
                    JobRow::COLUMNS
                ),
                organization,
                key,
            )?;
            let existing = existing.ok_or_else(|| Error::not_found("job with key", &key))?;
            enqueued.push(Enqueued::Existing(existing.id));
        }
        rows.flush(&mut self.conn).await?;
        let new = enqueued.iter().filter(|job| matches!(job, Enqueued::New(_))).count();
        self.effects.tally.enqueued += new as u64;
        Ok(enqueued)
    }

    pub(crate) async fn claim(
        &mut self,
        queue: &str,
        worker: &str,
        limit: u32,
        lease: Duration,
    ) -> Result<Vec<JobRow>> {
        let now = self.now();
        let mut jobs = list!(
            self,
            JobRow,
            format!(
                "UPDATE job SET state = 'running', lease_owner = $2, lease_until = $3,
                    generation = generation + 1, attempts = attempts + 1,
                    started = COALESCE(started, $4)
                 WHERE number IN (
                    SELECT number FROM job WHERE state = 'queued' AND queue = $1 AND run_at <= $4
                    ORDER BY run_at, number LIMIT $5{})
                 RETURNING {}",
                sqlite::CLAIM_LOCK,
                JobRow::COLUMNS
            ),
            queue,
            worker,
            now.after(lease),
            now,
            limit,
        )?;
        self.effects.tally.claimed += jobs.len() as u64;
        jobs.sort_by_key(|job| (job.run_at, job.number));
        Ok(jobs)
    }

    /// When the next queued job of a queue is due.
    pub(crate) async fn next_due(&mut self, queue: &str) -> Result<Option<Timestamp>> {
        let next = find!(
            self,
            (Option<i64>,),
            "SELECT MIN(run_at) FROM job WHERE state = 'queued' AND queue = $1",
            queue,
        )?;
        Ok(next.and_then(|(at,)| at).map(Timestamp))
    }

    /// When the next lease runs out.
    pub(crate) async fn next_lease(&mut self) -> Result<Option<Timestamp>> {
        let next = find!(
            self,
            (Option<i64>,),
            "SELECT MIN(lease_until) FROM job WHERE state = 'running'",
        )?;
        Ok(next.and_then(|(at,)| at).map(Timestamp))
    }

    /// Puts jobs whose lease ran out back into the queue, or fails them if it was the last
    /// attempt. How many it were.
    pub(crate) async fn reclaim(&mut self, now: Timestamp) -> Result<u64> {
        let failed = exec!(
            self,
            "UPDATE job SET state = 'failed', ended = $1, lease_owner = NULL, lease_until = NULL,
                generation = generation + 1,
                error = 'its worker was lost in the last of its attempts'
             WHERE state = 'running' AND lease_until <= $1 AND attempts >= max_attempts",
            now,
        )?;
        let queued = list!(
            self,
            (String,),
            "UPDATE job SET state = 'queued', run_at = $1, lease_owner = NULL, lease_until = NULL,
                generation = generation + 1, error = 'its worker was lost'
             WHERE state = 'running' AND lease_until <= $1 RETURNING queue",
            now,
        )?;
        let count = failed + queued.len() as u64;
        self.effects.tally.failed += failed;
        self.effects.tally.retried += queued.len() as u64;
        for (queue,) in queued {
            if !self.effects.queues.contains(&queue) {
                self.effects.queues.push(queue);
            }
        }
        Ok(count)
    }

    pub(crate) async fn settle_group(
        &mut self,
        group: Group<Settlement, Result<()>>,
        answers: &mut Vec<Answer>,
    ) -> Result<()> {
        let mut jobs = Vec::new();
        let mut replies = Vec::with_capacity(group.len());
        for (part, reply) in group {
            replies.push((part.len(), reply));
            jobs.extend(part);
        }
        let outcome = self.settle_jobs(jobs).await;
        bulk::deal(outcome, replies, answers)
    }

    pub(crate) async fn settle_jobs(&mut self, jobs: Vec<Settlement>) -> Result<Vec<Result<()>>> {
        let mut results = Vec::with_capacity(jobs.len());
        for Settlement { lease, outcome } in jobs {
            let held = match outcome {
                JobOutcome::Done => self.end_done(lease).await?,
                JobOutcome::Failed { error } => self.end_failed(lease, &error).await?,
                JobOutcome::Retry { at, error } => self.retry(lease, at, &error).await?,
                JobOutcome::Release { at } => self.release(lease, at).await?,
            };
            results.push(if held { Ok(()) } else { Err(Error::LeaseLost { job: lease.job }) });
        }
        Ok(results)
    }

    async fn end_done(&mut self, lease: Lease) -> Result<bool> {
        let touched = exec!(
            self,
            "UPDATE job SET state = 'done', ended = $3, error = NULL, lease_owner = NULL,
                lease_until = NULL
             WHERE id = $1 AND generation = $2 AND state = 'running'",
            lease.job,
            lease.generation,
            self.now(),
        )?;
        self.effects.tally.completed += touched;
        Ok(touched > 0)
    }

    async fn end_failed(&mut self, lease: Lease, error: &str) -> Result<bool> {
        let touched = exec!(
            self,
            "UPDATE job SET state = 'failed', ended = $3, error = $4, lease_owner = NULL,
                lease_until = NULL
             WHERE id = $1 AND generation = $2 AND state = 'running'",
            lease.job,
            lease.generation,
            self.now(),
            error,
        )?;
        self.effects.tally.failed += touched;
        Ok(touched > 0)
    }

    async fn retry(&mut self, lease: Lease, at: Timestamp, error: &str) -> Result<bool> {
        let found = find!(
            self,
            (String, JobState),
            "UPDATE job SET
                state = CASE WHEN attempts >= max_attempts THEN 'failed' ELSE 'queued' END,
                ended = CASE WHEN attempts >= max_attempts THEN $5 ELSE NULL END,
                run_at = $3, error = $4, lease_owner = NULL, lease_until = NULL
             WHERE id = $1 AND generation = $2 AND state = 'running' RETURNING queue, state",
            lease.job,
            lease.generation,
            at,
            error,
            self.now(),
        )?;
        match &found {
            Some((_, JobState::Failed)) => self.effects.tally.failed += 1,
            Some(_) => self.effects.tally.retried += 1,
            None => {}
        }
        Ok(self.touched(found.map(|(queue, _)| queue)))
    }

    async fn release(&mut self, lease: Lease, at: Timestamp) -> Result<bool> {
        let queue = find!(
            self,
            (String,),
            "UPDATE job SET state = 'queued', attempts = attempts - 1, run_at = $3,
                lease_owner = NULL, lease_until = NULL
             WHERE id = $1 AND generation = $2 AND state = 'running' RETURNING queue",
            lease.job,
            lease.generation,
            at,
        )?;
        Ok(self.touched(queue.map(|(queue,)| queue)))
    }

    /// Remembers the queue that a job went back to.
    fn touched(&mut self, queue: Option<String>) -> bool {
        let Some(queue) = queue else { return false };
        if !self.effects.queues.contains(&queue) {
            self.effects.queues.push(queue);
        }
        true
    }
}
