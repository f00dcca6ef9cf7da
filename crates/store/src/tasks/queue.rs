//! Which attempt begins next, and why others do not.
//!
//! ```text
//!  a place is free ─► the organization with the fewest attempts under way; of several, the one
//!                     that has waited longest for its turn
//!                       └─► its attempts by priority, the oldest first,
//!                           but for people who have reached a quota
//! ```
//!
//! An attempt that a quota or the machine keeps in the queue has the reason, and loses it when that
//! is over. All of it is decided in the transaction that begins an attempt, so that no two look at
//! the same free place.

use std::collections::HashMap;

use boatyard_model::{AttemptId, AttemptState, MemberId, OrganizationId, TaskId};

use super::{AttemptRow, Reason};
use crate::{
    Owner, Result, Store, Tx,
    conn::{exec, find, list, read_one},
    quotas::{self, QuotaKind},
    row::{self, record},
};

/// The code of the reason why nothing begins on a machine that has too much to do.
pub(super) const HELD_BY_LOAD: &str = "load";
/// Attempts of one person whose reason is told at a time; those behind them wait for these first.
const TOLD: u32 = 100;

record! {
    /// The first attempt that somebody has queued.
    #[derive(Debug)]
    struct First {
        id: AttemptId,
        owner: MemberId,
        priority: i64,
    }
}

impl Tx {
    /// Makes the attempt whose turn it is `preparing`, if there is a place and one that may take
    /// it.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn begin_next_attempt(&mut self, places: u32) -> Result<Option<AttemptRow>> {
        // Who asks for this has seen that the machine is well again.
        let sql = "UPDATE attempt SET reason = NULL WHERE state = 'queued' AND reason LIKE $1";
        exec!(self, sql, format!("{{\"code\":\"{HELD_BY_LOAD}\"%"))?;
        if self.busy_places().await? >= u64::from(places) {
            return Ok(None);
        }
        for organization in self.turns().await? {
            let Some(attempt) = self.next_of(organization).await? else { continue };
            exec!(
                self,
                "INSERT INTO organization_turn (organization, owner, begun) VALUES ($1, $2, $3)
                 ON CONFLICT (organization) DO UPDATE SET owner = excluded.owner,
                    begun = CASE WHEN excluded.begun > organization_turn.begun
                        THEN excluded.begun ELSE organization_turn.begun + 1 END",
                organization,
                attempt.owner,
                self.now(),
            )?;
            self.set_attempt_state(attempt.id, AttemptState::Preparing, None).await?;
            return self.attempt(attempt.id).await.map(Some);
        }
        Ok(None)
    }

    /// The organizations that have something queued, in the order of their turns.
    async fn turns(&mut self) -> Result<Vec<OrganizationId>> {
        let rows = list!(
            self,
            (String,),
            "SELECT waiting.organization FROM
                (SELECT DISTINCT organization FROM attempt WHERE state = 'queued') AS waiting
                LEFT JOIN (SELECT organization, COUNT(*) AS busy FROM attempt
                    WHERE state IN ('preparing', 'running') GROUP BY organization) AS working
                    ON working.organization = waiting.organization
                LEFT JOIN organization_turn
                    ON organization_turn.organization = waiting.organization
             ORDER BY COALESCE(working.busy, 0), COALESCE(organization_turn.begun, 0),
                waiting.organization",
        )?;
        Ok(rows.into_iter().filter_map(|(id,)| id.parse().ok()).collect())
    }

    /// The attempt of an organization that may begin first.
    async fn next_of(&mut self, organization: OrganizationId) -> Result<Option<First>> {
        let quotas = self.quotas(organization).await?;
        let all = match quotas.is_empty() {
            true => quotas::QuotaUse::default(),
            false => self.quota_use(organization, None).await?,
        };
        let mut best: Option<First> = None;
        for first in self.first_of_each(organization).await? {
            let owner = Owner { organization, member: first.owner };
            let reached = match quotas.is_empty() {
                true => None,
                false => {
                    let own = self.quota_use(organization, Some(owner.member)).await?;
                    let kinds = &QuotaKind::OF_ATTEMPTS;
                    quotas::first_reached(&quotas, owner, kinds, all, own, self.now())
                }
            };
            let reason = reached.as_ref().map(quotas::Reached::reason);
            self.tell_queued(owner, reason.as_ref()).await?;
            if reached.is_some() {
                continue;
            }
            let is_before = best
                .as_ref()
                .is_none_or(|best| (-first.priority, first.id) < (-best.priority, best.id));
            if is_before {
                best = Some(first);
            }
        }
        Ok(best)
    }

    /// The first attempt of each person who has some queued.
    async fn first_of_each(&mut self, organization: OrganizationId) -> Result<Vec<First>> {
        let owners = list!(
            self,
            (String,),
            "SELECT DISTINCT owner FROM attempt WHERE organization = $1 AND state = 'queued'
             ORDER BY owner",
            organization,
        )?;
        let mut first = Vec::with_capacity(owners.len());
        for (owner,) in owners {
            let sql = format!(
                "SELECT {} FROM attempt WHERE organization = $1 AND owner = $2
                 AND state = 'queued' ORDER BY priority DESC, id LIMIT 1",
                First::COLUMNS
            );
            first.extend(find!(self, First, sql, organization, owner)?);
        }
        Ok(first)
    }

    /// Keeps why somebody's queued attempts wait, and tells it where it is news.
    async fn tell_queued(&mut self, owner: Owner, reason: Option<&Reason>) -> Result<()> {
        let reason = reason.map(row::json).transpose()?;
        let told = list!(
            self,
            (String, i64),
            "UPDATE attempt SET reason = $3 WHERE id IN (
                SELECT id FROM attempt WHERE organization = $1 AND owner = $2
                    AND state = 'queued' AND COALESCE(reason, '') <> COALESCE($3, '')
                    ORDER BY id LIMIT $4)
             RETURNING task, n",
            owner.organization,
            owner.member,
            reason,
            TOLD,
        )?;
        self.tell_tasks(told).await
    }

    /// Keeps that nothing that is queued begins for now, where it has no other reason.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn hold_queued(&mut self, text: &str) -> Result<()> {
        let reason = Reason { code: HELD_BY_LOAD.to_owned(), text: text.to_owned() };
        let told = list!(
            self,
            (String, i64),
            "UPDATE attempt SET reason = $1 WHERE id IN (
                SELECT id FROM attempt WHERE state = 'queued' AND reason IS NULL
                    ORDER BY id LIMIT $2)
             RETURNING task, n",
            row::json(&reason)?,
            TOLD,
        )?;
        self.tell_tasks(told).await
    }

    async fn tell_tasks(&mut self, attempts: Vec<(String, i64)>) -> Result<()> {
        // Each task once: its feed says that it changed.
        let mut tasks: HashMap<TaskId, u32> = HashMap::new();
        for (task, n) in attempts {
            if let Ok(task) = task.parse() {
                tasks.insert(task, u32::try_from(n).unwrap_or(u32::MAX));
            }
        }
        for (task, n) in tasks {
            self.task_follows(task, n).await?;
        }
        Ok(())
    }
}

impl Store {
    /// How many attempts are queued and how many are being prepared.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn queue_counts(&self) -> Result<(u64, u64)> {
        let row = read_one!(
            self,
            (i64, i64),
            "SELECT (SELECT COUNT(*) FROM attempt WHERE state = 'queued'),
                (SELECT COUNT(*) FROM attempt WHERE state = 'preparing')",
        )?;
        Ok(row.map_or((0, 0), |(queued, preparing)| {
            (queued.unsigned_abs(), preparing.unsigned_abs())
        }))
    }
}
