//! What models may cost: limits for an organization, a person, a task or an attempt, for a day, a
//! month or in all; and the questions that are asked where one is reached.

use boatyard_model::{
    AttemptId, BudgetId, EventBody, OrganizationId, PermissionId, SessionId, TaskId, Timestamp,
    event::PermissionOption,
};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    events::NewEvent,
    row::record,
    state::words,
};

words! {
    /// Whose a budget is.
    BudgetScope {
        /// All of an organization.
        Organization = "organization",
        /// A person's.
        Person = "person",
        /// A task's, with all its attempts.
        Task = "task",
        /// One attempt's.
        Attempt = "attempt",
    }

    /// What a limit is of, which a person is asked to raise.
    BudgetUnit {
        /// Millionths of a US dollar.
        Money = "money",
        /// A quota's milliseconds of a day.
        Minutes = "minutes",
        /// A quota's bytes.
        Storage = "storage",
    }

    /// For how long a budget is.
    BudgetPeriod {
        /// A day, in UTC.
        Day = "day",
        /// A month, in UTC.
        Month = "month",
        /// As long as there is what it is for.
        Total = "total",
    }
}

record! {
    /// A budget.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct BudgetRow [owned] {
        /// Its id.
        pub id: BudgetId,
        /// Whose it is.
        pub scope: BudgetScope,
        /// The id of whose it is.
        pub subject: String,
        /// For how long.
        pub period: BudgetPeriod,
        /// The limit, in millionths of a US dollar.
        pub micros: u64,
        /// What somebody added in one period.
        pub extra: u64,
        /// When that period began.
        pub extra_since: Timestamp,
        /// When it was made.
        pub created: Timestamp,
    }
}

record! {
    /// A permission that stands for more money.
    #[derive(Debug, Clone)]
    pub struct BudgetAskRow [owned] {
        /// The permission.
        pub permission: PermissionId,
        /// The session that waits.
        pub session: SessionId,
        /// Whose budget.
        pub scope: BudgetScope,
        /// The id of whose it is.
        pub subject: String,
        /// For how long.
        pub period: BudgetPeriod,
        /// When the period began.
        pub since: Timestamp,
        /// What it was, where it has no row of its own.
        pub base: u64,
        /// What it is of.
        pub unit: BudgetUnit,
    }
}

/// Which budget: there is one at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BudgetKey {
    /// Whose it is.
    pub scope: BudgetScope,
    /// The id of whose it is.
    pub subject: String,
    /// For how long.
    pub period: BudgetPeriod,
    /// What it is of; all but money are quotas.
    pub unit: BudgetUnit,
}

/// What is asked of a person.
#[derive(Debug, Clone)]
pub struct NewBudgetAsk {
    /// The session that waits.
    pub session: SessionId,
    /// The budget.
    pub budget: BudgetKey,
    /// When its period began.
    pub since: Timestamp,
    /// What it was, where it has no row of its own.
    pub base: u64,
    /// What is asked.
    pub title: String,
    /// What may be answered.
    pub options: Vec<PermissionOption>,
    /// No answer by then is a no.
    pub deadline: Timestamp,
}

/// The most budgets of an organization.
pub const BUDGETS_MAX: usize = 1000;

impl Tx {
    /// Sets a budget, in the stead of the one that was. What somebody added to that is gone.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn set_budget(
        &mut self,
        owner: Owner,
        key: BudgetKey,
        micros: u64,
    ) -> Result<BudgetRow> {
        let columns = BudgetRow::COLUMNS;
        let row = find!(
            self,
            BudgetRow,
            format!(
                "INSERT INTO budget (id, organization, owner, scope, subject, period, micros,
                    created)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (organization, scope, subject, period)
                    DO UPDATE SET micros = excluded.micros, extra = 0
                 RETURNING {columns}"
            ),
            BudgetId::new(),
            owner.organization,
            owner.member,
            key.scope,
            key.subject,
            key.period,
            micros,
            self.now(),
        )?;
        self.note("scope", key.scope.as_str());
        self.note("subject", &key.subject);
        self.note("micros", micros);
        row.ok_or_else(|| Error::not_found("budget", key.subject))
    }

    /// Adds to a budget in the period that began at `since`; one that has no row gets it, with
    /// `base`.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn raise_budget(
        &mut self,
        owner: Owner,
        key: BudgetKey,
        base: u64,
        since: Timestamp,
        micros: u64,
    ) -> Result<()> {
        exec!(
            self,
            "INSERT INTO budget (id, organization, owner, scope, subject, period, micros, extra,
                extra_since, created)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (organization, scope, subject, period) DO UPDATE SET
                extra = excluded.extra
                    + CASE WHEN budget.extra_since = excluded.extra_since THEN budget.extra ELSE 0 END,
                extra_since = excluded.extra_since",
            BudgetId::new(),
            owner.organization,
            owner.member,
            key.scope,
            key.subject,
            key.period,
            base,
            micros,
            since,
            self.now(),
        )?;
        Ok(())
    }

    /// Removes a budget.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove_budget(
        &mut self,
        organization: OrganizationId,
        id: BudgetId,
    ) -> Result<()> {
        let removed = exec!(
            self,
            "DELETE FROM budget WHERE id = $1 AND organization = $2",
            id,
            organization,
        )?;
        if removed == 0 { Err(Error::not_found("budget", id)) } else { Ok(()) }
    }

    /// Asks a person for more money, as for a permission, if nobody in the session has asked
    /// already: then it is that one. None where the session has no turn that could wait.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn ask_for_budget(&mut self, ask: NewBudgetAsk) -> Result<Option<PermissionId>> {
        let open = find!(
            self,
            (String,),
            "SELECT permission.id FROM permission
                JOIN budget_ask ON budget_ask.permission = permission.id
             WHERE permission.session = $1 AND permission.state = 'open' LIMIT 1",
            ask.session,
        )?;
        if let Some((id,)) = open {
            return Ok(id.parse().ok());
        }
        let session = self.session(ask.session).await?;
        if session.turn.is_none() {
            return Ok(None);
        }
        let permission = PermissionId::new();
        let NewBudgetAsk { budget, since, base, title, options, deadline, .. } = ask;
        let body =
            EventBody::PermissionRequested { permission, tool: None, title, options, deadline };
        self.append(vec![NewEvent::own(session.id, self.now(), session.turn, body)]).await?;
        exec!(
            self,
            "INSERT INTO budget_ask (permission, organization, owner, session, scope, subject,
                period, since, base, unit)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            permission,
            session.owner.organization,
            session.owner.member,
            session.id,
            budget.scope,
            budget.subject,
            budget.period,
            since,
            base,
            budget.unit,
        )?;
        Ok(Some(permission))
    }
}

impl Store {
    /// An organization's budgets, the oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn budgets(&self, organization: OrganizationId) -> Result<Vec<BudgetRow>> {
        let sql = format!(
            "SELECT {} FROM budget WHERE organization = $1 ORDER BY created, id",
            BudgetRow::COLUMNS
        );
        read_all!(self, BudgetRow, sql, organization)
    }

    /// The question for more money that a permission stands for, if it does.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn budget_ask(&self, permission: PermissionId) -> Result<Option<BudgetAskRow>> {
        let sql = format!("SELECT {} FROM budget_ask WHERE permission = $1", BudgetAskRow::COLUMNS);
        read_one!(self, BudgetAskRow, sql, permission)
    }
}

impl BudgetAskRow {
    /// Which budget.
    pub fn key(&self) -> BudgetKey {
        BudgetKey {
            scope: self.scope,
            subject: self.subject.clone(),
            period: self.period,
            unit: self.unit,
        }
    }
}

impl BudgetKey {
    /// A budget of money.
    pub const fn of(scope: BudgetScope, subject: String, period: BudgetPeriod) -> Self {
        Self { scope, subject, period, unit: BudgetUnit::Money }
    }

    /// All of an attempt.
    pub fn attempt(id: AttemptId) -> Self {
        Self::of(BudgetScope::Attempt, id.to_string(), BudgetPeriod::Total)
    }

    /// All of a task.
    pub fn task(id: TaskId) -> Self {
        Self::of(BudgetScope::Task, id.to_string(), BudgetPeriod::Total)
    }
}
