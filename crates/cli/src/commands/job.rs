//! `boatyard job`: durable background work.

use anyhow::Result;
use boatyard_api::{
    job::{Job, JobFilter},
    model::{
        JobId, JobState,
        time::{Clock as _, SystemClock},
    },
};
use tokio::time::MissedTickBehavior;

use super::Context;
use crate::{
    failure::{Exit, Failure},
    output::table::Table,
    text::{ago, clean_line},
    watch::{TICK, interrupts},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List jobs, the newest first
    #[command(visible_alias = "ls")]
    List {
        /// Only those in this state: queued, running, done, failed, cancelled
        #[arg(long)]
        state: Option<JobState>,
        /// Only those of this name
        #[arg(long)]
        name: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Show a job
    Show {
        /// The job's id, job_…
        id: JobId,
    },
    /// Cancel a job
    Cancel {
        /// The job's id, job_…
        id: JobId,
    },
    /// Run a maintenance job now
    Run {
        /// Which: idle-reaper, daily-usage, gc, …
        name: String,
        /// Wait for its end, and end with 1 if it failed
        #[arg(long)]
        once: bool,
    },
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::List { state, name, limit } => {
            let filter = JobFilter { state, name, limit: Some(limit), cursor: None };
            let page = client.list_jobs(&filter).await?;
            if output.is_json() {
                output.json(&page)?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["JOB", "NAME", "STATE", "TRIES", "CREATED", "ABOUT"], 5);
            let now = SystemClock.now();
            for job in &page.items {
                let about = job.error.as_deref().or(job.subject.as_deref()).unwrap_or_default();
                table.row(vec![
                    job.id.to_string(),
                    clean_line(&job.name),
                    job.state.to_string(),
                    format!("{}/{}", job.tries, job.max_tries),
                    ago(job.created, now),
                    clean_line(about),
                ]);
            }
            if table.is_empty() {
                output.note("There are no such jobs.");
            } else {
                output.line(table.render(output.out))?;
            }
        }
        Command::Show { id } => show(&client.find_job(id).await?, context)?,
        Command::Cancel { id } => show(&client.cancel_job(id).await?, context)?,
        Command::Run { name, once } => {
            let job = client.run_job(&name).await?;
            let job = if once { wait(job, context).await? } else { job };
            show(&job, context)?;
            if let (JobState::Failed, error) = (job.state, job.error) {
                let reason = error.map(|error| clean_line(&error)).unwrap_or_default();
                return Err(Failure::new(format!("the job {name} failed: {reason}"))
                    .next("the server's log has more")
                    .into());
            }
        }
    }
    Ok(Exit::Done)
}

async fn wait(mut job: Job, context: &Context<'_>) -> Result<Job> {
    let mut tick = tokio::time::interval(TICK);
    let mut interrupt = interrupts()?;
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while matches!(job.state, JobState::Queued | JobState::Running) {
        tokio::select! {
            _ = tick.tick() => match context.client.find_job(job.id).await {
                Ok(fresh) => job = fresh,
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            },
            _ = interrupt.recv() => {
                break;
            }
        }
    }
    Ok(job)
}

fn show(job: &Job, context: &Context<'_>) -> Result<()> {
    if context.output.is_json() {
        return context.output.json(job);
    }
    let error = job.error.as_deref().map(|error| format!("\n  {}", clean_line(error)));
    let line = format!("{}  {}  {}{}", job.id, job.name, job.state, error.unwrap_or_default());
    context.output.line(line)?;
    Ok(())
}
