//! What models were asked and what it cost: one row for each request in which a model ran.

use boatyard_model::{AttemptId, OrganizationId, SessionId, TaskId, Timestamp, WorkspaceId};

use crate::{
    Owner, Result, Store, Tx,
    budgets::BudgetScope,
    conn::{exec, read_all, read_one},
    row::record,
    state::words,
};

/// A request in which a model ran.
#[derive(Debug, Clone)]
pub struct NewModelCall {
    /// Whose it is.
    pub owner: Owner,
    /// When it began.
    pub time: Timestamp,
    /// Where it came from.
    pub workspace: WorkspaceId,
    /// The session that asked; none if that is not known.
    pub session: Option<SessionId>,
    /// Its task.
    pub task: Option<TaskId>,
    /// Its attempt.
    pub attempt: Option<AttemptId>,
    /// The provider's name.
    pub provider: String,
    /// The model.
    pub model: Option<String>,
    /// Tokens that were read, cached ones aside.
    pub input: u64,
    /// Tokens that were written.
    pub output: u64,
    /// Tokens that came from the provider's cache.
    pub cache_read: u64,
    /// Tokens that were put into it.
    pub cache_write: u64,
    /// Of those that were written: reasoning.
    pub reasoning: u64,
    /// Millionths of a US dollar; none where no price is known.
    pub micros: Option<u64>,
    /// The connection by which a person paid; none where the organization did.
    pub paid_by: Option<String>,
    /// The provider did not say what was used, or not to the end.
    pub estimated: bool,
    /// The answer's status.
    pub status: Option<u32>,
    /// How long it took.
    pub millis: u64,
}

words! {
    /// By what usage is added up.
    UsageGroup {
        /// By days, in UTC.
        Day = "day",
        /// By models.
        Model = "model",
        /// By providers.
        Provider = "provider",
        /// By tasks.
        Task = "task",
        /// By sessions.
        Session = "session",
        /// By people.
        Person = "person",
        /// By repositories.
        Repository = "repository",
        /// By agents.
        Agent = "agent",
    }
}

/// Which usage is added up. What is not set is not asked for.
#[derive(Debug, Clone, Default)]
pub struct UsageFilter {
    /// From this time on.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
    /// Of this task.
    pub task: Option<TaskId>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// Of this provider.
    pub provider: Option<String>,
    /// Of this model.
    pub model: Option<String>,
    /// Of this person.
    pub person: Option<String>,
}

record! {
    /// Usage, added up.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct UsageSum {
        /// What it is of: a day's beginning in milliseconds, a name or an id; none where it is not
        /// known.
        pub label: Option<String>,
        /// Requests.
        pub calls: u64,
        /// Tokens that were read, cached ones aside.
        pub input: u64,
        /// Tokens that were written.
        pub output: u64,
        /// Tokens that came from a cache.
        pub cache_read: u64,
        /// Tokens that were put into one.
        pub cache_write: u64,
        /// Of those that were written: reasoning.
        pub reasoning: u64,
        /// Millionths of a US dollar, of what has a price.
        pub micros: u64,
        /// Requests whose price is not known.
        pub unknown: u64,
        /// Requests whose usage was reckoned.
        pub reckoned: u64,
    }
}

/// The most groups that are given.
const GROUPS: u32 = 1000;

/// The milliseconds of a day.
const DAY: i64 = 86_400_000;

impl UsageGroup {
    /// What rows are put together by. Constants only: it becomes part of a statement.
    fn expression(self) -> String {
        match self {
            Self::Day => format!("CAST(time - time % {DAY} AS TEXT)"),
            Self::Model => "model".to_owned(),
            Self::Provider => "provider".to_owned(),
            Self::Task => "task".to_owned(),
            Self::Session => "session".to_owned(),
            Self::Person => "owner".to_owned(),
            Self::Repository => "repository".to_owned(),
            Self::Agent => "agent".to_owned(),
        }
    }

    /// Where rows come from.
    const fn source(self) -> &'static str {
        match self {
            Self::Repository => {
                "(SELECT model_call.*, workspace.repository AS repository FROM model_call
                    LEFT JOIN workspace ON workspace.id = model_call.workspace) AS model_call"
            }
            Self::Agent => {
                "(SELECT model_call.*, session_of.agent AS agent FROM model_call
                    LEFT JOIN session AS session_of ON session_of.id = model_call.session)
                    AS model_call"
            }
            _ => "model_call",
        }
    }

    /// Days as they follow each other; what cost most, first, for the rest.
    const fn order(self) -> &'static str {
        match self {
            Self::Day => "CAST(label AS BIGINT)",
            _ => "micros DESC, calls DESC, label",
        }
    }
}

const SUMS: &str = "COUNT(*) AS calls, CAST(COALESCE(SUM(input), 0) AS BIGINT) AS input,
    CAST(COALESCE(SUM(output), 0) AS BIGINT) AS output,
    CAST(COALESCE(SUM(cache_read), 0) AS BIGINT) AS cache_read,
    CAST(COALESCE(SUM(cache_write), 0) AS BIGINT) AS cache_write,
    CAST(COALESCE(SUM(reasoning), 0) AS BIGINT) AS reasoning,
    CAST(COALESCE(SUM(micros), 0) AS BIGINT) AS micros,
    CAST(COALESCE(SUM(CASE WHEN micros IS NULL THEN 1 ELSE 0 END), 0) AS BIGINT) AS unknown,
    CAST(COALESCE(SUM(CASE WHEN estimated THEN 1 ELSE 0 END), 0) AS BIGINT) AS reckoned";

const WHERE: &str = "organization = $1 AND ($2 IS NULL OR time >= $2) AND ($3 IS NULL OR time < $3)
    AND ($4 IS NULL OR task = $4) AND ($5 IS NULL OR session = $5)
    AND ($6 IS NULL OR provider = $6) AND ($7 IS NULL OR model = $7)
    AND ($8 IS NULL OR owner = $8)";

impl Tx {
    /// Keeps a request in which a model ran.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn add_model_call(&mut self, call: NewModelCall) -> Result<()> {
        exec!(
            self,
            "INSERT INTO model_call (organization, owner, time, workspace, session, task, attempt,
                provider, model, input, output, cache_read, cache_write, reasoning, micros,
                estimated, status, millis, paid_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
                $18, $19)",
            call.owner.organization,
            call.owner.member,
            call.time,
            call.workspace,
            call.session,
            call.task,
            call.attempt,
            call.provider,
            call.model,
            call.input,
            call.output,
            call.cache_read,
            call.cache_write,
            call.reasoning,
            call.micros,
            call.estimated,
            call.status,
            call.millis,
            call.paid_by,
        )?;
        Ok(())
    }
}

impl Store {
    /// What was used, put together, the 1000 largest groups at most.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn usage_by(
        &self,
        organization: OrganizationId,
        group: UsageGroup,
        filter: UsageFilter,
    ) -> Result<Vec<UsageSum>> {
        let (columns, by) = (UsageSum::COLUMNS, group.expression());
        let (order, source) = (group.order(), group.source());
        let sql = format!(
            "SELECT {columns} FROM (SELECT {by} AS label, {SUMS} FROM {source} WHERE {WHERE}
                GROUP BY {by}) AS sums ORDER BY {order} LIMIT {GROUPS}"
        );
        self.usage(sql, organization, filter).await
    }

    /// All that was used.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn usage_in_all(
        &self,
        organization: OrganizationId,
        filter: UsageFilter,
    ) -> Result<UsageSum> {
        let columns = UsageSum::COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM (SELECT CAST(NULL AS TEXT) AS label, {SUMS} FROM model_call
                WHERE {WHERE}) AS sums"
        );
        let sums = self.usage(sql, organization, filter).await?;
        sums.into_iter().next().ok_or_else(|| crate::Error::not_found("usage", organization))
    }

    async fn usage(
        &self,
        sql: String,
        organization: OrganizationId,
        filter: UsageFilter,
    ) -> Result<Vec<UsageSum>> {
        read_all!(
            self,
            UsageSum,
            sql,
            organization,
            filter.from,
            filter.to,
            filter.task,
            filter.session,
            filter.provider,
            filter.model,
            filter.person,
        )
    }

    /// What was spent by somebody or something since a time, in millionths of a US dollar: of the
    /// organization's money, without what people paid themselves.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn spent(
        &self,
        organization: OrganizationId,
        scope: BudgetScope,
        subject: &str,
        since: Timestamp,
    ) -> Result<u64> {
        let which = match scope {
            BudgetScope::Organization => "organization = $3",
            BudgetScope::Person => "owner = $3",
            BudgetScope::Task => "task = $3",
            BudgetScope::Attempt => "attempt = $3",
        };
        let sql = format!(
            "SELECT CAST(COALESCE(SUM(micros), 0) AS BIGINT) FROM model_call
             WHERE organization = $1 AND time >= $2 AND paid_by IS NULL AND {which}"
        );
        let row = read_one!(self, (i64,), sql, organization, since, subject)?;
        Ok(row.map_or(0, |(micros,)| micros.unsigned_abs()))
    }

    /// Whether anything of a session was counted that has a price.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn has_usage(&self, session: SessionId) -> Result<bool> {
        let row = read_one!(
            self,
            (i64,),
            "SELECT 1 FROM model_call WHERE session = $1 AND micros IS NOT NULL LIMIT 1",
            session,
        )?;
        Ok(row.is_some())
    }
}
