//! Background work: durable jobs, and what is looked at now and then.
//!
//! | kind | does | enqueued by |
//! |---|---|---|
//! | `attempt` | tells the places that an attempt waits | the task's creation |
//! | `dispatch` | brings a session's prompts to its agent | a prompt, the end of a turn, a start |
//! | `turn_completed` | goes on: the next prompt, or the attempt's end | the end of a turn |
//! | `finish` | takes the result of an attempt that was cancelled | the cancellation |
//! | `cost` | ends a turn whose money is spent | what the agent says of its usage |
//! | `deadline` | ends an attempt whose time is over | its first turn |
//! | `install` | installs an agent, or the Node that it runs on | a person |
//! | `idle-reaper`, `gc`, `expire`, `egress-log` | housekeeping | the clock, a person |
//! | `daily-usage` | stores the figures of days that are over | midnight in UTC, a person |
//!
//! Every job is idempotent: a server that dies in the middle of one does it again.

use std::{sync::Arc, time::Duration};

use boatyard_store::{DEFAULT_QUEUE, JobOutcome, JobRow, Settlement};
use tokio::sync::Semaphore;

use crate::app::App;

pub mod admission;
pub mod attempt;
pub mod check;
mod disk;
pub mod dispatch;
pub mod environments;
pub mod finish;
pub mod housekeeping;
pub mod install;
pub mod missing;
pub mod prepare;
pub mod setup;
pub mod shown;

/// Jobs that are worked on at a time.
const AT_ONCE: usize = 64;
/// How long a claim holds before it must be renewed.
const LEASE: Duration = Duration::from_secs(60);
/// How long one claim waits for a job; the store wakes it when one is due.
const WAIT: Duration = Duration::from_secs(60);

/// What became of a job's work.
pub enum Done {
    /// All of it.
    Yes,
    /// It must wait until then; no failure.
    Later(Duration),
}

/// Works on jobs until the server stops.
pub async fn run(app: App) {
    let worker = format!("server-{}", std::process::id());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let free = places.available_permits().max(1);
        let claim =
            app.store.claim(DEFAULT_QUEUE, &worker, u32::try_from(free).unwrap_or(1), LEASE, WAIT);
        let jobs = tokio::select! {
            () = app.stopping.cancelled() => return,
            jobs = claim => jobs,
        };
        let jobs = match jobs {
            Ok(jobs) => jobs,
            Err(boatyard_store::Error::Closed) => return,
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "jobs can't be claimed");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        for job in jobs {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let app = app.clone();
            app.tasks.clone().spawn(async move {
                work(&app, job).await;
                drop(place);
            });
        }
    }
}

/// Does one job, holding on to it as long as it takes.
async fn work(app: &App, job: JobRow) {
    let lease = job.lease();
    let renewing = async {
        loop {
            tokio::time::sleep(LEASE / 3).await;
            let renewed = app
                .store
                .write(move |tx| Box::pin(async move { tx.renew(lease, LEASE).await }))
                .await;
            if matches!(renewed, Err(boatyard_store::Error::LeaseLost { .. })) {
                return;
            }
        }
    };
    let outcome = tokio::select! {
        outcome = perform(app, &job) => outcome,
        // Somebody cancelled it, or has it now.
        () = renewing => return,
    };
    let now = app.store.now();
    let outcome = match outcome {
        Ok(Done::Yes) => JobOutcome::Done,
        Ok(Done::Later(pause)) => JobOutcome::Release { at: now.after(pause) },
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(job.id = %job.id, job.kind = %job.kind, %error, "a job failed");
            JobOutcome::Retry { at: now.after(pause(job.attempts)), error }
        }
    };
    match app.store.settle(vec![Settlement { lease, outcome }]).await {
        Ok(results) => {
            for error in results.into_iter().filter_map(Result::err) {
                tracing::debug!(job.id = %job.id, %error, "a job was somebody else's in the end");
            }
        }
        Err(error) => {
            tracing::error!(job.id = %job.id, error = %crate::chain(&error), "a job can't be settled");
        }
    }
}

/// How long to wait before the next try: doubling from a second to five minutes.
fn pause(attempts: u32) -> Duration {
    Duration::from_secs((1_u64 << attempts.saturating_sub(1).min(9)).min(300))
}

async fn perform(app: &App, job: &JobRow) -> anyhow::Result<Done> {
    match job.kind.as_str() {
        boatyard_store::JOB_ATTEMPT => {
            app.places.look();
            Ok(Done::Yes)
        }
        dispatch::JOB => dispatch::run(app, dispatch::parse(&job.payload)?).await,
        boatyard_store::JOB_TURN_COMPLETED => finish::turn_completed(app, &job.payload).await,
        finish::JOB_CANCELLED => finish::cancelled(app, &job.payload).await,
        attempt::JOB_COST => attempt::cost(app, &job.payload).await,
        attempt::JOB_DEADLINE => attempt::deadline(app, &job.payload).await,
        install::JOB => install::run(app, &job.payload).await,
        housekeeping::IDLE => housekeeping::idle(app).await,
        housekeeping::GARBAGE => housekeeping::garbage(app).await,
        housekeeping::EXPIRE => housekeeping::expire(app).await,
        housekeeping::TRAFFIC => housekeeping::traffic(app).await,
        housekeeping::USAGE => housekeeping::usage(app).await,
        housekeeping::AUDIT => housekeeping::audit(app).await,
        other => anyhow::bail!("there is no job of kind `{other}`"),
    }
}
