//! Tasks and their attempts.
//!
//! An attempt's state changes only as [`AttemptState::may_become`] lets it; the task's state
//! follows from its attempts' in the same transaction and is stored for lists.

use std::sync::Arc;

use boatyard_model::{
    AttemptId, AttemptState, BlobId, Content, OrganizationId, RepositoryId, SessionId, TaskId,
    TaskLimits, Timestamp, Visibility, WorkspaceId, WorkspaceLimits,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Error, IdempotencyKey, Owner, Result, Store, Tx,
    conn::{exec, find, list, read_one, read_page},
    jobs::NewJob,
    row::{self, record},
    shares::{self, Listed, Viewer},
};

mod attempts;
mod queue;

pub use attempts::{AttemptUpdate, Begin};

/// The job that is enqueued for each new attempt. Its payload is `{"task", "attempt", "n"}`, its
/// subject the attempt.
pub const JOB_ATTEMPT: &str = "attempt";

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, for programs: `setup_failed`, …
    pub code: String,
    /// For people, with the next step.
    pub text: String,
}

/// A step of an attempt's preparation or end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// `repository`, `workspace`, `setup`, `agent`, `result`, `check`, `push`.
    pub name: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took, in milliseconds; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub millis: Option<u64>,
    /// What was found.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
}

record! {
    /// A task as lists show it.
    #[derive(Debug, Clone)]
    pub struct TaskRow [owned] {
        /// Its id.
        pub id: TaskId,
        /// Its attempts' states taken together.
        pub state: AttemptState,
        /// A line.
        pub title: String,
        /// The repository, while it is kept.
        pub repository: Option<RepositoryId>,
        /// The repository's address.
        pub source: String,
        /// The agent; `claude, codex` where there are several.
        pub agent: String,
        /// How many attempts it has.
        pub attempts: u32,
        /// The session of the attempt that began last.
        pub session: Option<SessionId>,
        /// When it was ordered.
        pub created: Timestamp,
        /// When its first attempt began.
        pub started: Option<Timestamp>,
        /// When its last attempt was over.
        pub ended: Option<Timestamp>,
        /// Who may see it.
        pub visibility: Visibility,
    }
}

record! {
    /// What a task's order says beside its row.
    #[derive(Debug, Clone)]
    pub struct OrderRow {
        /// The model that was asked for.
        pub model: Option<String>,
        /// The branch or commit that was asked for.
        pub base: Option<String>,
        /// The environment that was asked for.
        pub environment: Option<String>,
        /// What each attempt may use.
        pub limits: TaskLimits,
        /// What each workspace may use.
        pub workspace_limits: WorkspaceLimits,
        /// What the caller kept with it.
        pub options: Value,
        /// What is to be done.
        pub prompt: Vec<Content>,
    }
}

record! {
    /// One try at a task.
    #[derive(Debug, Clone)]
    pub struct AttemptRow [owned] {
        /// Its id.
        pub id: AttemptId,
        /// The task.
        pub task: TaskId,
        /// Its number, from 1.
        pub n: u32,
        /// Where it stands.
        pub state: AttemptState,
        /// Why, where that is not plain.
        pub reason: Option<Reason>,
        /// Where it works.
        pub workspace: Option<WorkspaceId>,
        /// Its conversation.
        pub session: Option<SessionId>,
        /// The agent that it is made with.
        pub agent: String,
        /// The model that was asked for.
        pub model: Option<String>,
        /// Its branch.
        pub branch: Option<String>,
        /// The commit that the branch began at.
        pub base_commit: Option<String>,
        /// What it handed back, as the caller keeps it.
        pub result: Option<Value>,
        /// What was done to prepare and end it.
        pub phases: Vec<Phase>,
        /// When it was ordered.
        pub created: Timestamp,
        /// When its preparation began.
        pub started: Option<Timestamp>,
        /// When it was over.
        pub ended: Option<Timestamp>,
    }
}

/// A task to be stored.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Whose it is.
    pub owner: Owner,
    /// A line for lists.
    pub title: String,
    /// What is to be done.
    pub prompt: Vec<Content>,
    /// The repository.
    pub repository: Option<RepositoryId>,
    /// The repository's address.
    pub source: String,
    /// The branch or commit that is asked for.
    pub base: Option<String>,
    /// The environment that is asked for.
    pub environment: Option<String>,
    /// What each attempt may use.
    pub limits: TaskLimits,
    /// What each workspace may use.
    pub workspace_limits: WorkspaceLimits,
    /// The more, the earlier among what its organization has queued.
    pub priority: i64,
    /// What the caller wants to be kept with it: whether to push, …
    pub options: Value,
    /// The attempts to make, at least one.
    pub attempts: Vec<NewAttempt>,
    /// The client's name for the request.
    pub idempotency: Option<IdempotencyKey>,
}

/// Whom an attempt is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAttempt {
    /// The agent.
    pub agent: String,
    /// The model that is asked for.
    pub model: Option<String>,
}

impl NewTask {
    /// The agents, as lists show them.
    fn agents(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for attempt in &self.attempts {
            if !names.contains(&attempt.agent.as_str()) {
                names.push(&attempt.agent);
            }
        }
        names.join(", ")
    }

    /// The model, if it is the same in all attempts.
    fn model(&self) -> Option<&str> {
        let first = self.attempts.first()?;
        let same = self.attempts.iter().all(|attempt| attempt.model == first.model);
        first.model.as_deref().filter(|_| same)
    }
}

/// What became of a task that was to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is stored, with these attempts by number.
    New(TaskId, Vec<AttemptId>),
    /// The same request made it before.
    Existing(TaskId),
}

impl Created {
    /// The task that is there now.
    pub const fn id(&self) -> TaskId {
        match self {
            Self::New(id, _) | Self::Existing(id) => *id,
        }
    }
}

/// A task with everything.
#[derive(Debug, Clone)]
pub struct TaskDetail {
    /// Its row.
    pub task: TaskRow,
    /// The rest of its order.
    pub order: OrderRow,
    /// Its attempts, by number.
    pub attempts: Vec<AttemptRow>,
}

/// Which tasks to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TaskFilter {
    /// Only those in this state.
    pub state: Option<AttemptState>,
    /// Only those of this repository.
    pub repository: Option<RepositoryId>,
    /// Only those with a smaller id (newest first).
    pub before: Option<TaskId>,
    /// Without what is not theirs to see; none for those who may see all.
    pub seen_by: Option<Viewer>,
}

impl Tx {
    /// Stores a task with its attempts, all queued, and a job [`JOB_ATTEMPT`] for each. The same
    /// request again (by its key) gives the task that is there.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the key was used for another request.
    pub async fn create_task(&mut self, new: NewTask) -> Result<Created> {
        if let Some(key) = &new.idempotency
            && let Some(before) = self.idempotent(new.owner.organization, key).await?
        {
            let id = before.parse().map_err(|_| Error::Conflict { key: key.key.clone() })?;
            return Ok(Created::Existing(id));
        }
        let (id, now, owner) = (TaskId::new(), self.now(), new.owner);
        if let Some(key) = &new.idempotency {
            self.remember(owner, key, &id.to_string()).await?;
        }
        self.note("task", id);
        let (agents, model) = (new.agents(), new.model().map(str::to_owned));
        exec!(
            self,
            "INSERT INTO task (id, organization, owner, state, title, repository, source, agent,
                attempts, created, visibility)
             VALUES ($1, $2, $3, 'queued', $4, $5, $6, $7, $8, $9,
                COALESCE((SELECT visibility FROM organization WHERE id = $2), 'visible'))",
            id,
            owner.organization,
            owner.member,
            new.title,
            new.repository,
            new.source,
            agents,
            new.attempts.len(),
            now,
        )?;
        let (limits, workspace_limits) =
            (row::json(&new.limits)?, row::json(&new.workspace_limits)?);
        let (options, prompt) = (row::json(&new.options)?, row::json(&new.prompt)?);
        exec!(
            self,
            "INSERT INTO task_order (task, model, base, environment, limits, workspace_limits,
                options, prompt)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            id,
            model,
            new.base,
            new.environment,
            limits,
            workspace_limits,
            options,
            prompt,
        )?;
        let blobs: Vec<BlobId> = crate::events::blobs_in(&new.prompt);
        self.hold_blobs(&id.to_string(), &blobs).await?;
        let mut made = Vec::new();
        let mut jobs = Vec::new();
        // In the order of their numbers: that is how they are begun.
        let mut ids: Vec<AttemptId> = new.attempts.iter().map(|_| AttemptId::new()).collect();
        ids.sort_unstable();
        for ((n, attempt), with) in (1_u32..).zip(ids).zip(new.attempts) {
            let branch = format!("boatyard/{id}-{n}");
            exec!(
                self,
                "INSERT INTO attempt (id, organization, owner, task, n, state, branch, phases,
                    created, agent, model, priority)
                 VALUES ($1, $2, $3, $4, $5, 'queued', $6, '[]', $7, $8, $9, $10)",
                attempt,
                owner.organization,
                owner.member,
                id,
                n,
                branch,
                now,
                with.agent,
                with.model,
                new.priority,
            )?;
            let payload = json!({ "task": id, "attempt": attempt, "n": n });
            let mut job = NewJob::new(JOB_ATTEMPT, payload).about(attempt);
            job.owner = owner;
            jobs.push(job);
            made.push(attempt);
        }
        self.insert_jobs(jobs).await?;
        self.tell_task(owner, id, &new.title, AttemptState::Queued, None).await?;
        Ok(Created::New(id, made))
    }

    async fn tell_task(
        &mut self,
        owner: Owner,
        task: TaskId,
        title: &str,
        state: AttemptState,
        attempt: Option<u32>,
    ) -> Result<()> {
        let mut told = json!({ "task": task, "title": title, "state": state });
        if let Some(attempt) = attempt {
            told["attempt"] = attempt.into();
        }
        self.feed(owner, "task.state", told).await.map(drop)
    }

    /// Cancels every attempt of a task that is not over; those attempts as they were before, so
    /// that the caller can stop what runs. Jobs about them that are not over are cancelled.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn cancel_task(
        &mut self,
        id: TaskId,
        reason: Option<Reason>,
    ) -> Result<Vec<AttemptRow>> {
        let sql = format!("SELECT {} FROM attempt WHERE task = $1 ORDER BY n", AttemptRow::COLUMNS);
        let attempts = list!(self, AttemptRow, sql, id)?;
        if attempts.is_empty() {
            return Err(Error::not_found("task", id));
        }
        let mut alive = Vec::new();
        for attempt in attempts.into_iter().filter(|attempt| !attempt.state.is_terminal()) {
            self.cancel_jobs_about(&attempt.id.to_string()).await?;
            self.set_attempt_state(attempt.id, AttemptState::Cancelled, reason.clone()).await?;
            alive.push(attempt);
        }
        Ok(alive)
    }

    /// One task's row, as this transaction sees it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn task(&mut self, id: TaskId) -> Result<TaskRow> {
        let sql = format!("SELECT {} FROM task WHERE id = $1", TaskRow::COLUMNS);
        find!(self, TaskRow, sql, id)?.ok_or_else(|| Error::not_found("task", id))
    }

    /// Derives a task's state from its attempts', stores it, and tells the feed that `attempt`
    /// changed.
    async fn task_follows(&mut self, id: TaskId, attempt: u32) -> Result<()> {
        let states = list!(self, (String,), "SELECT state FROM attempt WHERE task = $1", id)?;
        let states = states.into_iter().filter_map(|(state,)| state.parse().ok());
        let state = AttemptState::of_task(states);
        let now = self.now();
        let ended = state.is_terminal().then_some(now);
        let begun = (state != AttemptState::Queued).then_some(now);
        let task = find!(
            self,
            TaskRow,
            format!(
                "UPDATE task SET state = $2, ended = $3, started = COALESCE(started, $4)
                 WHERE id = $1 RETURNING {}",
                TaskRow::COLUMNS
            ),
            id,
            state,
            ended,
            begun,
        )?;
        let task = task.ok_or_else(|| Error::not_found("task", id))?;
        self.tell_task(task.owner, id, &task.title, state, Some(attempt)).await
    }
}

impl Store {
    /// One task's row.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn task_row(&self, id: TaskId) -> Result<TaskRow> {
        let sql = format!("SELECT {} FROM task WHERE id = $1", TaskRow::COLUMNS);
        read_one!(self, TaskRow, sql, id)?.ok_or_else(|| Error::not_found("task", id))
    }

    /// One task with its attempts.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn task(&self, id: TaskId) -> Result<TaskDetail> {
        let task = self.task_row(id).await?;
        let sql = format!("SELECT {} FROM task_order WHERE task = $1", OrderRow::COLUMNS);
        let order =
            read_one!(self, OrderRow, sql, id)?.ok_or_else(|| Error::not_found("task", id))?;
        let attempts = self.attempts(id).await?;
        // An attempt may have ended between these reads: what is told together fits together.
        let state = match attempts.is_empty() {
            true => task.state,
            false => AttemptState::of_task(attempts.iter().map(|attempt| attempt.state)),
        };
        Ok(TaskDetail { task: TaskRow { state, ..task }, order, attempts })
    }

    /// Tasks, newest first: the very same page as long as no task changed.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn task_page(
        &self,
        organization: OrganizationId,
        filter: TaskFilter,
        limit: u32,
    ) -> Result<Arc<Vec<TaskRow>>> {
        let read = self.list_tasks(organization, filter, limit);
        if filter.seen_by.is_some() {
            // What somebody may see ends by itself, too: nothing would tell.
            return Ok(Arc::new(read.await?));
        }
        self.shared().task_pages.get((organization, filter, limit), read).await
    }

    /// Tasks, newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_tasks(
        &self,
        organization: OrganizationId,
        filter: TaskFilter,
        limit: u32,
    ) -> Result<Vec<TaskRow>> {
        let before = match filter.before {
            Some(id) => id.to_string(),
            // Greater than any id.
            None => format!("{}`", TaskId::PREFIX),
        };
        let mut conditions = String::from("organization = $1 AND id < $2");
        for (wanted, condition) in [
            (filter.state.is_some(), " AND state = $4"),
            (filter.repository.is_some(), " AND repository = $5"),
        ] {
            if wanted {
                conditions.push_str(condition);
            }
        }
        conditions.push_str(&shares::seen(filter.seen_by, Listed::Tasks, 6));
        let columns = TaskRow::COLUMNS;
        read_page!(
            self,
            TaskRow,
            format!("SELECT {columns} FROM task WHERE {conditions} ORDER BY id DESC LIMIT $3"),
            organization,
            before,
            limit,
            filter.state,
            filter.repository,
            filter.seen_by.map(|viewer| viewer.member),
            filter.seen_by.map(|viewer| viewer.holder()),
            self.now(),
        )
    }
}
