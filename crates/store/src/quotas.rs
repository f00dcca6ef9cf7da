//! Quotas: how much an organization and its people may use at the same time, or on a day.
//!
//! | kind | counts | when it is reached |
//! |---|---|---|
//! | `tasks` | attempts that are prepared or run | further ones stay queued |
//! | `workspaces` | workspaces in use: all but those that a task left behind asleep | further attempts stay queued, other workspaces are refused |
//! | `minutes` | time in which agents worked since midnight in UTC | attempts and prompts wait for the next day, what runs is held |
//! | `storage` | bytes of workspaces, snapshots and uploads | the same, until there is room |
//!
//! All of it is counted from rows as they are at the moment: nothing is counted at the end, and
//! nothing can be counted twice.

use boatyard_model::{MemberId, OrganizationId, QuotaId, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, list, read_all, read_one},
    days::day_of,
    row::record,
    state::words,
    tasks::Reason,
};

/// The most quotas of an organization.
pub const QUOTAS_MAX: usize = 1000;

words! {
    /// Whose a quota is.
    QuotaScope {
        /// The organization's, all its people together.
        Organization = "organization",
        /// That of each person who has none of their own.
        Each = "each",
        /// One person's.
        Person = "person",
    }

    /// What is limited.
    QuotaKind {
        /// Attempts that are under way.
        Tasks = "tasks",
        /// Workspaces in use.
        Workspaces = "workspaces",
        /// Time in which agents work on a day, in milliseconds.
        Minutes = "minutes",
        /// Bytes.
        Storage = "storage",
    }
}

impl QuotaKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tasks, Self::Workspaces, Self::Minutes, Self::Storage];
    /// Those that keep an attempt from beginning.
    pub const OF_ATTEMPTS: [Self; 4] = Self::ALL;
    /// Those that keep a workspace from being made.
    pub const OF_WORKSPACES: [Self; 2] = [Self::Workspaces, Self::Storage];
    /// Those that keep a turn from going on.
    pub const OF_TURNS: [Self; 2] = [Self::Minutes, Self::Storage];
}

record! {
    /// A quota.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct QuotaRow [owned] {
        /// Its id.
        pub id: QuotaId,
        /// Whose it is.
        pub scope: QuotaScope,
        /// The id of whose it is; the organization's for `each`.
        pub subject: String,
        /// What is limited.
        pub kind: QuotaKind,
        /// A count, milliseconds or bytes.
        pub amount: u64,
        /// What somebody added.
        pub extra: u64,
        /// The day for which; 0 for good.
        pub extra_since: Timestamp,
        /// Whether who runs the server set it.
        pub imposed: bool,
        /// When it was made.
        pub created: Timestamp,
    }
}

record! {
    /// What is used at a moment.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct QuotaUse {
        /// Attempts that are under way.
        pub tasks: u64,
        /// Workspaces in use.
        pub workspaces: u64,
        /// Milliseconds in which agents worked today.
        pub millis: u64,
        /// Bytes.
        pub storage: u64,
    }
}

/// Which quota. There is one at most for each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuotaKey {
    /// Whose.
    pub scope: QuotaScope,
    /// The id of whose it is.
    pub subject: String,
    /// What is limited.
    pub kind: QuotaKind,
}

/// A quota that is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Which.
    pub row: QuotaRow,
    /// What it is, with what was added.
    pub limit: u64,
    /// What is used.
    pub used: u64,
}

impl QuotaUse {
    /// What is used of this.
    pub const fn of(&self, kind: QuotaKind) -> u64 {
        match kind {
            QuotaKind::Tasks => self.tasks,
            QuotaKind::Workspaces => self.workspaces,
            QuotaKind::Minutes => self.millis,
            QuotaKind::Storage => self.storage,
        }
    }
}

impl QuotaRow {
    /// What it is at a moment, with what was added.
    pub fn limit(&self, now: Timestamp) -> u64 {
        let is_added = self.extra_since.0 == 0 || self.extra_since == day_of(now);
        self.amount.saturating_add(if is_added { self.extra } else { 0 })
    }

    /// Which it is.
    pub fn key(&self) -> QuotaKey {
        QuotaKey { scope: self.scope, subject: self.subject.clone(), kind: self.kind }
    }
}

/// The quotas that hold for somebody: a person's own goes before that of each.
pub fn holding(rows: &[QuotaRow], owner: Owner) -> impl Iterator<Item = &QuotaRow> {
    let member = owner.member.to_string();
    let own: Vec<QuotaKind> = rows
        .iter()
        .filter(|row| row.scope == QuotaScope::Person && row.subject == member)
        .map(|row| row.kind)
        .collect();
    rows.iter().filter(move |row| match row.scope {
        QuotaScope::Organization => true,
        QuotaScope::Each => !own.contains(&row.kind),
        QuotaScope::Person => row.subject == member,
    })
}

/// The first quota that is reached: `all` is what the organization uses, `own` what the person does.
pub fn first_reached(
    rows: &[QuotaRow],
    owner: Owner,
    kinds: &[QuotaKind],
    all: QuotaUse,
    own: QuotaUse,
    now: Timestamp,
) -> Option<Reached> {
    let mut held = holding(rows, owner).filter(|row| kinds.contains(&row.kind));
    held.find_map(|row| {
        let used = match row.scope {
            QuotaScope::Organization => all.of(row.kind),
            QuotaScope::Each | QuotaScope::Person => own.of(row.kind),
        };
        let limit = row.limit(now);
        (used >= limit).then(|| Reached { row: row.clone(), limit, used })
    })
}

impl Reached {
    /// Why something waits for it, for people.
    pub fn reason(&self) -> Reason {
        let code = format!("quota_{}", self.row.kind.as_str());
        Reason { code, text: self.to_string() }
    }
}

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whose = match self.row.scope {
            QuotaScope::Organization => "The organization",
            QuotaScope::Each | QuotaScope::Person => "This person",
        };
        let (limit, used) = (self.limit, self.used);
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        match self.row.kind {
            QuotaKind::Tasks => write!(
                f,
                "{whose} may have {limit} task{} under way at a time, and has {used}: this one \
                 begins when one of them ends or waits for a person.",
                plural(limit)
            ),
            QuotaKind::Workspaces => write!(
                f,
                "{whose} may have {limit} workspace{} in use, and has {used}. Remove one by \
                 `boatyard workspace delete`, or ask an administrator for more.",
                plural(limit)
            ),
            QuotaKind::Minutes => write!(
                f,
                "{whose} may have agents work for {} minute{} a day, and all of them are used. It \
                 goes on at midnight UTC, or when an administrator gives more by `boatyard quota \
                 set minutes`.",
                limit / 60_000,
                plural(limit / 60_000)
            ),
            QuotaKind::Storage => write!(
                f,
                "{whose} may store {} MiB, and stores {} MiB. Remove workspaces that are not \
                 needed by `boatyard workspace delete`, or ask an administrator for more.",
                limit >> 20,
                used >> 20
            ),
        }
    }
}

/// What is used by an organization ($1), or by one person in it ($2), on the day that began at $3,
/// at $4.
const USED: &str = "SELECT
    (SELECT COUNT(*) FROM attempt WHERE organization = $1 AND ($2 IS NULL OR owner = $2)
        AND state IN ('preparing', 'running')) AS tasks,
    (SELECT COUNT(*) FROM workspace WHERE organization = $1 AND ($2 IS NULL OR owner = $2)
        AND (state IN ('creating', 'awake') OR (state = 'asleep' AND (task IS NULL OR EXISTS (
            SELECT 1 FROM attempt WHERE attempt.workspace = workspace.id
                AND attempt.state IN ('queued', 'preparing', 'running', 'waiting'))))))
    + (SELECT COUNT(*) FROM attempt WHERE organization = $1 AND ($2 IS NULL OR owner = $2)
        AND state = 'preparing' AND workspace IS NULL) AS workspaces,
    (SELECT CAST(COALESCE(SUM(millis), 0) AS BIGINT) FROM session_time
        WHERE organization = $1 AND day = $3 AND ($2 IS NULL OR owner = $2))
    + (SELECT CAST(COALESCE(SUM($4 - CASE WHEN since > $3 THEN since ELSE $3 END), 0) AS BIGINT)
        FROM session_clock WHERE organization = $1 AND since <= $4
        AND ($2 IS NULL OR owner = $2)) AS millis,
    (SELECT CAST(COALESCE(SUM(disk_bytes), 0) AS BIGINT) FROM workspace
        WHERE organization = $1 AND state <> 'deleted' AND ($2 IS NULL OR owner = $2))
    + (SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM layer WHERE organization = $1
        AND kind = 'snapshot' AND state = 'ready' AND ($2 IS NULL OR owner = $2))
    + (SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM blob
        WHERE organization = $1 AND ($2 IS NULL OR owner = $2)) AS storage";

fn used_sql() -> String {
    format!("SELECT {} FROM ({USED}) AS used", QuotaUse::COLUMNS)
}

fn all_sql() -> String {
    format!("SELECT {} FROM quota WHERE organization = $1 ORDER BY created, id", QuotaRow::COLUMNS)
}

impl Tx {
    /// The quotas of an organization, as this transaction sees them.
    pub(crate) async fn quotas(&mut self, organization: OrganizationId) -> Result<Vec<QuotaRow>> {
        Ok(list!(self, QuotaRow, all_sql(), organization)?)
    }

    pub(crate) async fn quota_use(
        &mut self,
        organization: OrganizationId,
        member: Option<MemberId>,
    ) -> Result<QuotaUse> {
        let now = self.now();
        let row = find!(self, QuotaUse, used_sql(), organization, member, day_of(now), now)?;
        Ok(row.unwrap_or_default())
    }

    /// The first of these quotas that somebody has reached.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn quota_reached(
        &mut self,
        owner: Owner,
        kinds: &[QuotaKind],
    ) -> Result<Option<Reached>> {
        let rows = self.quotas(owner.organization).await?;
        if !holding(&rows, owner).any(|row| kinds.contains(&row.kind)) {
            return Ok(None);
        }
        let all = self.quota_use(owner.organization, None).await?;
        let own = self.quota_use(owner.organization, Some(owner.member)).await?;
        Ok(first_reached(&rows, owner, kinds, all, own, self.now()))
    }

    /// Refuses what would go past a quota.
    ///
    /// # Errors
    /// [`Error::Quota`].
    pub async fn within_quota(&mut self, owner: Owner, kinds: &[QuotaKind]) -> Result<()> {
        match self.quota_reached(owner, kinds).await? {
            Some(reached) => Err(Error::Quota { reason: reached.reason() }),
            None => Ok(()),
        }
    }

    /// Sets a quota, in the stead of the one with the same key. What was added to that is gone.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn set_quota(
        &mut self,
        owner: Owner,
        key: QuotaKey,
        amount: u64,
        imposed: Imposed,
    ) -> Result<QuotaRow> {
        let sql = format!(
            "INSERT INTO quota (id, organization, owner, scope, subject, kind, amount, imposed,
                created)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (organization, scope, subject, kind) DO UPDATE SET owner = excluded.owner,
                amount = excluded.amount, extra = 0, extra_since = 0, imposed = excluded.imposed
             RETURNING {}",
            QuotaRow::COLUMNS
        );
        let row = find!(
            self,
            QuotaRow,
            sql,
            QuotaId::new(),
            owner.organization,
            owner.member,
            key.scope,
            key.subject,
            key.kind,
            amount,
            imposed == Imposed::Yes,
            self.now(),
        )?;
        row.ok_or_else(|| Error::not_found("quota", key.subject))
    }

    /// Adds to a quota: on the day that began at `since`, or for good where that is 0. One that
    /// has no row, because it is that of each person, gets one with `base`.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn raise_quota(
        &mut self,
        owner: Owner,
        key: QuotaKey,
        base: u64,
        since: Timestamp,
        extra: u64,
    ) -> Result<()> {
        exec!(
            self,
            "INSERT INTO quota (id, organization, owner, scope, subject, kind, amount, extra,
                extra_since, created)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (organization, scope, subject, kind) DO UPDATE SET
                extra = excluded.extra
                    + CASE WHEN quota.extra_since = excluded.extra_since THEN quota.extra ELSE 0 END,
                extra_since = excluded.extra_since",
            QuotaId::new(),
            owner.organization,
            owner.member,
            key.scope,
            key.subject,
            key.kind,
            base,
            extra,
            since,
            self.now(),
        )?;
        Ok(())
    }

    /// Removes a quota.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove_quota(&mut self, organization: OrganizationId, id: QuotaId) -> Result<()> {
        let sql = "DELETE FROM quota WHERE id = $1 AND organization = $2";
        match exec!(self, sql, id, organization)? {
            0 => Err(Error::not_found("quota", id)),
            _ => Ok(()),
        }
    }
}

/// Whether who runs the server set a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imposed {
    /// They did.
    Yes,
    /// Somebody of the organization did.
    No,
}

impl Store {
    /// An organization's quotas, the oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn quotas(&self, organization: OrganizationId) -> Result<Vec<QuotaRow>> {
        read_all!(self, QuotaRow, all_sql(), organization)
    }

    /// What an organization uses, or one person in it.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn quota_use(
        &self,
        organization: OrganizationId,
        member: Option<MemberId>,
    ) -> Result<QuotaUse> {
        let now = self.now();
        let row = read_one!(self, QuotaUse, used_sql(), organization, member, day_of(now), now)?;
        Ok(row.unwrap_or_default())
    }

    /// The first of these quotas that somebody has reached.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn quota_reached(
        &self,
        owner: Owner,
        kinds: &[QuotaKind],
    ) -> Result<Option<Reached>> {
        let rows = self.quotas(owner.organization).await?;
        if !holding(&rows, owner).any(|row| kinds.contains(&row.kind)) {
            return Ok(None);
        }
        let all = self.quota_use(owner.organization, None).await?;
        let own = self.quota_use(owner.organization, Some(owner.member)).await?;
        Ok(first_reached(&rows, owner, kinds, all, own, self.now()))
    }

    /// The organizations that have quotas on what turns use, with whoever works in them.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn working_under_quota(&self) -> Result<Vec<(OrganizationId, MemberId)>> {
        let rows = read_all!(
            self,
            (String, String),
            "SELECT DISTINCT organization, owner FROM session_clock WHERE EXISTS (
                SELECT 1 FROM quota WHERE quota.organization = session_clock.organization
                    AND quota.kind IN ('minutes', 'storage'))",
        )?;
        let ids = rows.into_iter().filter_map(|(organization, member)| {
            Some((organization.parse().ok()?, member.parse().ok()?))
        });
        Ok(ids.collect())
    }
}
