//! Figures for who looks after an installation.
//!
//! What happens is counted when it is committed, with the macros of the `metrics` crate; what
//! there is at a moment ([`Figures`]) is asked of the database when somebody wants to know, and
//! reads nothing but the partial indexes of what is open.
//!
//! | name | counts |
//! |---|---|
//! | `boatyard_events_appended_total` | events stored |
//! | `boatyard_events_lag_seconds` | from the oldest event of the last commit to that commit |
//! | `boatyard_jobs_enqueued_total`, `…_claimed_total` | jobs put into the queue, taken from it |
//! | `boatyard_jobs_completed_total`, `…_failed_total` | jobs ended, well or for good |
//! | `boatyard_jobs_retried_total` | jobs that failed or lost their worker, and come again |

use std::time::Duration;

use boatyard_model::{SessionState, Timestamp};

use crate::{
    Result, Store,
    conn::{read_all, read_one},
};

/// What one transaction did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) enqueued: u64,
    pub(crate) claimed: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) retried: u64,
}

impl Tally {
    /// Counts it; `lag` is the age of the oldest event, if there was one.
    pub(crate) fn tell(&self, lag: Option<Duration>) {
        for (name, count) in [
            ("boatyard_events_appended_total", self.events),
            ("boatyard_jobs_enqueued_total", self.enqueued),
            ("boatyard_jobs_claimed_total", self.claimed),
            ("boatyard_jobs_completed_total", self.completed),
            ("boatyard_jobs_failed_total", self.failed),
            ("boatyard_jobs_retried_total", self.retried),
        ] {
            if count > 0 {
                metrics::counter!(name).increment(count);
            }
        }
        if let Some(lag) = lag {
            metrics::gauge!("boatyard_events_lag_seconds").set(lag.as_secs_f64());
        }
    }
}

/// What there is at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Jobs that are due and wait for a worker.
    pub jobs_due: u64,
    /// For how long the one has waited that waits longest.
    pub jobs_oldest: Duration,
    /// Jobs that a worker holds.
    pub jobs_running: u64,
    /// Sessions that are not over, by state; states without any are absent.
    pub sessions: Vec<(SessionState, u64)>,
}

impl Store {
    /// What there is now.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn figures(&self) -> Result<Figures> {
        let now = self.now();
        let jobs = read_one!(
            self,
            (i64, Option<i64>, i64),
            "SELECT COUNT(*), MIN(run_at),
                (SELECT COUNT(*) FROM job WHERE state = 'running')
             FROM job WHERE state = 'queued' AND run_at <= $1",
            now,
        )?;
        let (due, oldest, running) = jobs.unwrap_or_default();
        let states = read_all!(
            self,
            (String, i64),
            "SELECT state, COUNT(*) FROM session WHERE state <> 'ended' GROUP BY state",
        )?;
        let sessions = states
            .into_iter()
            .filter_map(|(state, count)| Some((state.parse().ok()?, count.unsigned_abs())));
        Ok(Figures {
            jobs_due: due.unsigned_abs(),
            jobs_oldest: oldest.map_or(Duration::ZERO, |at| now.since(Timestamp(at))),
            jobs_running: running.unsigned_abs(),
            sessions: sessions.collect(),
        })
    }
}
