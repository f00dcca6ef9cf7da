//! What was used, day by day: time in which agents worked, tasks, and what models were asked.
//!
//! ```text
//!  a session begins to run ─► its clock ─► waits, idles, ends, or a minute is over ─► its time
//!  model calls, time, tasks ─ at midnight in UTC ─► usage_day: the figures of the day, for good
//! ```
//!
//! Time in which a session waits for a person, a budget or a quota is not counted. Days that are
//! stored are read as they were stored; those that follow are added up from what there is.

use std::collections::HashMap;

use boatyard_model::{MemberId, OrganizationId, SessionId, SessionState, Timestamp, WorkspaceId};

use crate::{
    Result, Store, Tx,
    conn::{exec, find, list, read_all, read_one},
    row::record,
    sessions::SessionRow,
};

/// The milliseconds of a day.
pub const DAY: i64 = 86_400_000;
/// The most rows that are given at once.
const ROWS: u32 = 100_000;
/// Until when an organization's days are stored, by its id.
const STORED: &str = "usage_stored:";

/// The beginning of the day of a moment, in UTC.
pub const fn day_of(time: Timestamp) -> Timestamp {
    Timestamp(time.0 - time.0.rem_euclid(DAY))
}

record! {
    /// What a person used on a day, on a repository, with an agent and a model.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct DayRow [owned] {
        /// The day's beginning.
        pub day: Timestamp,
        /// The repository's id; empty where there is none.
        pub repository: String,
        /// The agent's name; empty where that is not known.
        pub agent: String,
        /// The provider's name; empty for what no model did.
        pub provider: String,
        /// The model; empty for what no model did.
        pub model: String,
        /// Tasks that were ordered.
        pub tasks: u64,
        /// Milliseconds in which the agent worked.
        pub millis: u64,
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
        /// Millionths of a US dollar.
        pub micros: u64,
        /// Of these: what people paid by connections of their own.
        pub own_micros: u64,
        /// Requests whose price is not known.
        pub unknown: u64,
        /// Requests whose usage was reckoned.
        pub reckoned: u64,
    }
}

/// Everything of an organization ($1) from $2 on and before $3, at $4: one row for each day,
/// person, repository, agent and model.
const LIVE: &str = "FROM (
    SELECT owner, day, repository, agent, provider, model, SUM(tasks) AS tasks,
        SUM(millis) AS millis, SUM(calls) AS calls, SUM(input) AS input, SUM(output) AS output,
        SUM(cache_read) AS cache_read, SUM(cache_write) AS cache_write,
        SUM(reasoning) AS reasoning, SUM(micros) AS micros, SUM(own_micros) AS own_micros,
        SUM(unknown) AS unknown, SUM(reckoned) AS reckoned, organization
    FROM (
        SELECT model_call.organization AS organization, model_call.owner AS owner,
            model_call.time - model_call.time % 86400000 AS day,
            COALESCE(workspace.repository, '') AS repository,
            COALESCE(session.agent, '') AS agent, model_call.provider AS provider,
            COALESCE(model_call.model, '') AS model, 0 AS tasks, 0 AS millis, 1 AS calls,
            model_call.input AS input, model_call.output AS output,
            model_call.cache_read AS cache_read, model_call.cache_write AS cache_write,
            model_call.reasoning AS reasoning, COALESCE(model_call.micros, 0) AS micros,
            CASE WHEN model_call.paid_by IS NULL THEN 0 ELSE COALESCE(model_call.micros, 0) END
                AS own_micros,
            CASE WHEN model_call.micros IS NULL THEN 1 ELSE 0 END AS unknown,
            CASE WHEN model_call.estimated THEN 1 ELSE 0 END AS reckoned
        FROM model_call
            LEFT JOIN session ON session.id = model_call.session
            LEFT JOIN workspace ON workspace.id = model_call.workspace
        WHERE model_call.organization = $1 AND model_call.time >= $2 AND model_call.time < $3
        UNION ALL
        SELECT clock.organization, clock.owner, clock.day, COALESCE(workspace.repository, ''),
            session.agent, '', '', 0, clock.millis, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        FROM (
            SELECT session, organization, owner, day, millis FROM session_time
                WHERE organization = $1 AND day >= $2 AND day < $3
            UNION ALL
            SELECT session, organization, owner, $4 - $4 % 86400000,
                $4 - CASE WHEN since > $4 - $4 % 86400000 THEN since ELSE $4 - $4 % 86400000 END
                FROM session_clock
                WHERE organization = $1 AND since <= $4 AND $4 >= $2 AND $4 < $3
        ) AS clock
            JOIN session ON session.id = clock.session
            JOIN workspace ON workspace.id = session.workspace
        UNION ALL
        SELECT organization, owner, created - created % 86400000, COALESCE(repository, ''), agent,
            '', '', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        FROM task WHERE organization = $1 AND created >= $2 AND created < $3
    ) AS parts
    GROUP BY organization, owner, day, repository, agent, provider, model
) AS sums ORDER BY day, owner, repository, agent, provider, model";

fn live_sql() -> String {
    format!("SELECT {} {LIVE} LIMIT {ROWS}", DayRow::COLUMNS)
}

impl Tx {
    /// Starts or stops a session's clock when its state changes.
    pub(crate) async fn clock_session(
        &mut self,
        session: &SessionRow,
        to: SessionState,
    ) -> Result<()> {
        if to == SessionState::Running {
            exec!(
                self,
                "INSERT INTO session_clock (session, organization, owner, since)
                 VALUES ($1, $2, $3, $4) ON CONFLICT (session) DO NOTHING",
                session.id,
                session.owner.organization,
                session.owner.member,
                self.now(),
            )?;
        } else if session.state == SessionState::Running {
            let clock = find!(
                self,
                Clock,
                format!(
                    "DELETE FROM session_clock WHERE session = $1 RETURNING {}",
                    Clock::COLUMNS
                ),
                session.id,
            )?;
            if let Some(clock) = clock {
                self.add_time(&clock).await?;
            }
        }
        Ok(())
    }

    /// Counts what clocks show so far, and has them go on from here.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn count_clocks(&mut self) -> Result<()> {
        let now = self.now();
        let sql = format!("SELECT {} FROM session_clock WHERE since < $1", Clock::COLUMNS);
        for clock in list!(self, Clock, sql, now)? {
            self.add_time(&clock).await?;
            let sql = "UPDATE session_clock SET since = $2 WHERE session = $1";
            exec!(self, sql, clock.session, now)?;
        }
        Ok(())
    }

    /// Stops the clocks of a workspace's sessions without counting: it was gone for some time, and
    /// nobody knows since when.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn forget_clocks(&mut self, workspace: WorkspaceId) -> Result<()> {
        exec!(
            self,
            "DELETE FROM session_clock WHERE session IN
                (SELECT id FROM session WHERE workspace = $1)",
            workspace,
        )?;
        Ok(())
    }

    async fn add_time(&mut self, clock: &Clock) -> Result<()> {
        let now = self.now();
        let mut since = clock.since;
        while since < now {
            let day = day_of(since);
            let until = Timestamp(day.0.saturating_add(DAY)).min(now);
            exec!(
                self,
                "INSERT INTO session_time (session, day, organization, owner, millis)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (session, day) DO UPDATE SET
                    millis = session_time.millis + excluded.millis",
                clock.session,
                day,
                clock.organization,
                clock.owner,
                until.0 - since.0,
            )?;
            since = until;
        }
        Ok(())
    }

    /// Stores the figures of an organization's days that are over and are not stored yet; the last
    /// one that was stored is stored anew. At most `most` days: how many rows there are, and of how
    /// many days.
    ///
    /// # Errors
    /// When they can't be stored.
    pub async fn store_days(
        &mut self,
        organization: OrganizationId,
        most: u64,
    ) -> Result<(u64, u64)> {
        let today = day_of(self.now());
        let name = format!("{STORED}{organization}");
        let stored = self.meta(&name).await?.and_then(|text| text.parse::<i64>().ok());
        let first = match stored {
            Some(until) => Some(until - DAY),
            None => self.first_day(organization).await?,
        };
        let mut day = first.map_or(today, |first| Timestamp(first).min(Timestamp(today.0 - DAY)));
        let (mut rows, mut days) = (0, 0);
        while day < today && days < most {
            let next = Timestamp(day.0 + DAY);
            let live = list!(self, DayRow, live_sql(), organization, day, next, next)?;
            let sql = "DELETE FROM usage_day WHERE organization = $1 AND day = $2";
            exec!(self, sql, organization, day)?;
            for row in live {
                self.store_day(row).await?;
                rows += 1;
            }
            days += 1;
            day = next;
        }
        self.set_meta(&name, &day.0.to_string()).await?;
        Ok((rows, days))
    }

    async fn first_day(&mut self, organization: OrganizationId) -> Result<Option<i64>> {
        let row = find!(
            self,
            (Option<i64>,),
            "SELECT MIN(first) FROM (
                SELECT MIN(time) AS first FROM model_call WHERE organization = $1
                UNION ALL SELECT MIN(day) FROM session_time WHERE organization = $1
                UNION ALL SELECT MIN(created) FROM task WHERE organization = $1) AS firsts",
            organization,
        )?;
        Ok(row.and_then(|(first,)| first).map(|first| day_of(Timestamp(first)).0))
    }

    async fn store_day(&mut self, row: DayRow) -> Result<()> {
        let sql = format!(
            "INSERT INTO usage_day ({}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
                $13, $14, $15, $16, $17, $18, $19)",
            DayRow::COLUMNS
        );
        exec!(
            self,
            sql,
            row.owner.organization,
            row.owner.member,
            row.day,
            row.repository,
            row.agent,
            row.provider,
            row.model,
            row.tasks,
            row.millis,
            row.calls,
            row.input,
            row.output,
            row.cache_read,
            row.cache_write,
            row.reasoning,
            row.micros,
            row.own_micros,
            row.unknown,
            row.reckoned,
        )?;
        Ok(())
    }
}

record! {
    /// A session that runs.
    #[derive(Debug)]
    struct Clock {
        session: SessionId,
        organization: OrganizationId,
        owner: MemberId,
        since: Timestamp,
    }
}

impl Store {
    /// What was used on the days from `from` on and before `to`, 100,000 rows at most.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn days(
        &self,
        organization: OrganizationId,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<DayRow>> {
        let name = format!("{STORED}{organization}");
        let row = read_one!(self, (String,), "SELECT value FROM meta WHERE name = $1", name)?;
        let stored = row.and_then(|(value,)| value.parse().ok()).map(Timestamp);
        let until = stored.unwrap_or(from).clamp(from, to.max(from));
        let sql = format!(
            "SELECT {} FROM usage_day WHERE organization = $1 AND day >= $2 AND day < $3
             ORDER BY day, owner, repository, agent, provider, model LIMIT {ROWS}",
            DayRow::COLUMNS
        );
        let mut rows = read_all!(self, DayRow, sql, organization, from, until)?;
        if until < to {
            let now = self.now();
            rows.extend(read_all!(self, DayRow, live_sql(), organization, until, to, now)?);
        }
        Ok(rows)
    }

    /// Every organization that there is.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn every_organization(&self) -> Result<Vec<OrganizationId>> {
        let rows = read_all!(self, (String,), "SELECT id FROM organization ORDER BY id")?;
        Ok(rows.into_iter().filter_map(|(id,)| id.parse().ok()).collect())
    }

    /// What people and repositories are called, by their ids.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn names_for_usage(
        &self,
        organization: OrganizationId,
    ) -> Result<HashMap<String, String>> {
        let rows = read_all!(
            self,
            (String, String),
            "SELECT id, name FROM member WHERE organization = $1
             UNION ALL SELECT id, source FROM repository WHERE organization = $1",
            organization,
        )?;
        Ok(rows.into_iter().collect())
    }
}
