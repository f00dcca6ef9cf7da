//! Workers that wait for jobs.
//!
//! A worker's wish is served in the transaction in which it arrives, or it is parked and served in
//! the very transaction that enqueues a job for it: from order to start there is one commit, no
//! poll and no second round. While nobody waits there is no timer; while somebody does, the writer
//! wakes when the next job is due or the next lease runs out, and every [`SAFETY`] at the latest.

use std::time::Duration;

use boatyard_model::Timestamp;
use tokio::time::Instant;

use super::{Reply, Tx};
use crate::{Error, Result, jobs::JobRow};

/// The longest sleep while a worker waits: in case a clock was set.
const SAFETY: Duration = Duration::from_secs(5);
/// Workers that may wait at a time.
const PARKED_MAX: usize = 1024;

/// A worker's wish.
pub(crate) struct ClaimRequest {
    pub(crate) queue: String,
    pub(crate) worker: String,
    pub(crate) limit: u32,
    pub(crate) lease: Duration,
    /// With nothing to do by then, the answer is an empty list.
    pub(crate) until: Instant,
    pub(crate) reply: Reply<Vec<JobRow>>,
}

struct Parked {
    request: ClaimRequest,
    /// It came in this transaction, so its queue must be looked at.
    new: bool,
}

#[derive(Default)]
pub(crate) struct Claims {
    parked: Vec<Parked>,
    served: Vec<(Reply<Vec<JobRow>>, Vec<JobRow>)>,
    /// When the next job of a parked worker's queue is due, as far as is known.
    next_due: Option<Timestamp>,
    /// No lease runs out before; none if it isn't known.
    next_lease: Option<Timestamp>,
    look: bool,
}

impl Claims {
    pub(super) fn add(&mut self, request: ClaimRequest) {
        if self.parked.len() >= PARKED_MAX {
            let _ = request.reply.send(Ok(Vec::new()));
            return;
        }
        self.parked.push(Parked { request, new: true });
    }

    pub(super) fn poke(&mut self) {
        self.look = true;
    }

    /// Gives parked workers what there is for them now.
    pub(super) async fn serve(&mut self, tx: &mut Tx) -> Result<()> {
        let now = Instant::now();
        self.parked.retain(|parked| !parked.request.reply.is_closed());
        if self.parked.is_empty() {
            return Ok(());
        }
        let time = tx.now();
        if self.next_lease.is_none_or(|lease| lease <= time) {
            tx.reclaim(time).await?;
            self.next_lease = Some(tx.next_lease().await?.unwrap_or(Timestamp(i64::MAX)));
        }
        let due = self.next_due.is_some_and(|due| due <= time);
        let look_at_all = std::mem::take(&mut self.look) || due;
        let touched = std::mem::take(&mut tx.effects.queues);
        let mut looked = false;
        let mut index = 0;
        while index < self.parked.len() {
            let Parked { request, new } = &self.parked[index];
            if !look_at_all && !*new && !touched.contains(&request.queue) {
                if request.until <= now {
                    let parked = self.parked.remove(index);
                    self.served.push((parked.request.reply, Vec::new()));
                } else {
                    index += 1;
                }
                continue;
            }
            looked = true;
            let jobs =
                tx.claim(&request.queue, &request.worker, request.limit, request.lease).await?;
            if jobs.is_empty() && request.until > now {
                self.parked[index].new = false;
                index += 1;
                continue;
            }
            let until = time.after(request.lease);
            if !jobs.is_empty() && self.next_lease.is_none_or(|lease| until < lease) {
                self.next_lease = Some(until);
            }
            let parked = self.parked.remove(index);
            self.served.push((parked.request.reply, jobs));
        }
        if looked && !self.parked.is_empty() {
            let mut next = None;
            let mut queues: Vec<&str> =
                self.parked.iter().map(|parked| parked.request.queue.as_str()).collect();
            queues.sort_unstable();
            queues.dedup();
            for queue in queues {
                let due = tx.next_due(queue).await?;
                next = next.into_iter().chain(due).min();
            }
            self.next_due = next;
        }
        Ok(())
    }

    /// The transaction was undone: what was claimed in it was not.
    pub(super) fn rolled_back(&mut self) {
        self.next_lease = None;
        self.next_due = None;
        self.look = true;
    }

    /// Answers those that were served. Jobs that nobody takes any more go back to the queue when
    /// their lease runs out, unless the writer gives them back: they are returned.
    pub(super) fn answer(&mut self, committed: &Result<()>) -> Vec<JobRow> {
        let mut orphans = Vec::new();
        for (reply, jobs) in self.served.drain(..) {
            let answer = match committed {
                Ok(()) => Ok(jobs),
                Err(error) => Err(error.clone()),
            };
            if let Err(Ok(jobs)) = reply.send(answer) {
                orphans.extend(jobs);
            }
        }
        orphans
    }

    /// The store is closed: nobody gets anything any more.
    pub(super) fn give_up(&mut self) {
        for parked in self.parked.drain(..) {
            let _ = parked.request.reply.send(Err(Error::Closed));
        }
    }

    /// Sleeps until a parked worker may have something to do; for ever if nobody is parked.
    pub(super) fn sleep(&self, tx: &Tx) -> impl Future<Output = ()> + use<> {
        let mut until = None;
        if let Some(first) = self.parked.iter().map(|parked| parked.request.until).min() {
            let now = tx.now();
            let next = self.next_due.into_iter().chain(self.next_lease).min();
            // A millisecond more, since the clock counts whole ones.
            let wait = next.map_or(SAFETY, |next| next.since(now) + Duration::from_millis(1));
            until = Some((Instant::now() + wait.min(SAFETY)).min(first));
        }
        async move {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }
}
