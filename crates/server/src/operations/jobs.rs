//! Background work, as people see it.

use boatyard_api::{
    Cursor, Problem,
    job::{Job, JobFilter, JobPage},
    page::limit,
};
use boatyard_model::JobId;
use boatyard_store::JobRow;

use super::store_problem;
use crate::{app::App, auth::Caller, jobs::housekeeping};

/// Jobs of every organization, the newest first: whoever may look runs the server.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_jobs(app: &App, _: &Caller, filter: JobFilter) -> Result<JobPage, Problem> {
    let limit = limit(filter.limit)?;
    let before = super::tasks::cursor_id(filter.cursor.as_ref())?;
    let wanted =
        boatyard_store::JobFilter { state: filter.state, kind: filter.name, subject: None, before };
    let rows = app.store.list_jobs(None, &wanted, limit).await.map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor =
        rows.last().filter(|_| full).map(|row| Cursor::after(&row.number.to_string()));
    Ok(JobPage { items: rows.into_iter().map(job).collect(), next_cursor })
}

fn job(row: JobRow) -> Job {
    Job {
        id: row.id,
        name: row.kind,
        subject: row.subject,
        state: row.state,
        tries: row.attempts,
        max_tries: row.max_attempts,
        due: row.run_at,
        error: row.error,
        created: row.created,
        ended: row.ended,
    }
}

/// One job.
///
/// # Errors
/// When there is none.
pub async fn find_job(app: &App, _: &Caller, id: JobId) -> Result<Job, Problem> {
    let row = app.store.job(id).await.map_err(store_problem)?;
    Ok(job(row))
}

/// Ends a job that is not over.
///
/// # Errors
/// When there is none, or it is over.
pub async fn cancel_job(app: &App, caller: &Caller, id: JobId) -> Result<Job, Problem> {
    find_job(app, caller, id).await?;
    app.store
        .write(move |tx| Box::pin(async move { tx.cancel_job(id).await }))
        .await
        .map_err(store_problem)?;
    find_job(app, caller, id).await
}

/// Enqueues a housekeeping job now.
///
/// # Errors
/// When there is none of this name.
pub async fn run_job(app: &App, caller: &Caller, name: String) -> Result<Job, Problem> {
    if !housekeeping::BY_NAME.contains(&name.as_str()) {
        let detail =
            format!("there is no job `{name}`; there is {}", housekeeping::BY_NAME.join(", "));
        return Err(Problem::invalid("name", detail));
    }
    boatyard_store::audit::note("job", &name);
    // The server's own, as it is by the clock: one of its kind at a time, whoever asks.
    let enqueued =
        app.store.enqueue(vec![housekeeping::job(&name)]).await.map_err(store_problem)?;
    let id = enqueued.first().map(|job| job.id());
    let id = id.ok_or_else(|| Problem::unavailable("the job was not enqueued"))?;
    find_job(app, caller, id).await
}
