//! Budgets, their periods, and what was spent of each.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use boatyard_egress::gateway::Call;
use boatyard_model::{MemberId, OrganizationId, SessionId, Timestamp, WorkspaceId};
use boatyard_store::{
    BudgetKey, BudgetPeriod, BudgetRow, BudgetScope, BudgetUnit, Owner, QuotaKind, QuotaRow,
    QuotaScope, QuotaUse, quotas,
};

use super::{Payers, Pending, REMEMBERED, day_of, month_of, payer::Payer};

/// Of whom money is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    pub(crate) scope: BudgetScope,
    pub(crate) subject: String,
}

/// A budget that is spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) key: BudgetKey,
    /// When its period began, and when that ends.
    pub(crate) since: Timestamp,
    pub(crate) until: Option<Timestamp>,
    pub(crate) spent: u64,
    /// What it is, with what was added.
    pub(crate) limit: u64,
    /// What it was before anything was added.
    pub(crate) base: u64,
}

/// How long it counts what was read of the use of a quota: minutes pass slowly.
const USE_COUNTS: Duration = Duration::from_secs(5);

/// Whether a request costs the organization money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Price {
    /// It does.
    Paid,
    /// Nobody pays, or a person does.
    Free,
}

/// Whether there is money for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    Go,
    /// Something has to be read first.
    Unknown,
    Over(Over),
}

/// A limit that holds for a request.
struct Limit {
    key: BudgetKey,
    since: Timestamp,
    limit: u64,
    base: u64,
}

/// What is remembered. All of it but what is pending can be read again.
#[derive(Default)]
pub(crate) struct State {
    payers: Payers,
    budgets: HashMap<OrganizationId, Arc<[BudgetRow]>>,
    spent: HashMap<(Subject, Timestamp), u64>,
    quotas: HashMap<OrganizationId, Arc<[QuotaRow]>>,
    uses: HashMap<(OrganizationId, Option<MemberId>), (Instant, QuotaUse)>,
    pending: VecDeque<Pending>,
}

/// When what has no beginning began: before everything, and before every month that has one.
pub(crate) const ALWAYS: Timestamp = Timestamp(-1);

/// When the period of a budget began.
pub(crate) fn since(period: BudgetPeriod, now: Timestamp) -> Timestamp {
    match period {
        BudgetPeriod::Day => day_of(now),
        BudgetPeriod::Month => month_of(now),
        BudgetPeriod::Total => ALWAYS,
    }
}

/// When it ends.
pub(crate) fn until(period: BudgetPeriod, since: Timestamp) -> Option<Timestamp> {
    const DAY: i64 = 86_400_000;
    match period {
        BudgetPeriod::Day => Some(Timestamp(since.0 + DAY)),
        // Whichever day comes 31 days after the first is in the next month, or its first.
        BudgetPeriod::Month => Some(month_of(Timestamp(since.0 + 31 * DAY))),
        BudgetPeriod::Total => None,
    }
}

/// What a budget is in the period that began then, with what was added in it.
pub(crate) fn limit_of(row: &BudgetRow, since: Timestamp) -> u64 {
    let extra = if row.extra_since == since { row.extra } else { 0 };
    row.micros.saturating_add(extra)
}

/// Whose money a request costs.
fn subjects(payer: &Payer) -> impl Iterator<Item = Subject> {
    let of = |scope, subject| Some(Subject { scope, subject });
    let task = payer.task.and_then(|id| of(BudgetScope::Task, id.to_string()));
    let attempt = payer.attempt.and_then(|id| of(BudgetScope::Attempt, id.to_string()));
    [
        of(BudgetScope::Organization, payer.owner.organization.to_string()),
        of(BudgetScope::Person, payer.owner.member.to_string()),
        task,
        attempt,
    ]
    .into_iter()
    .flatten()
}

impl State {
    pub(crate) fn payer(
        &self,
        workspace: WorkspaceId,
        session: Option<SessionId>,
    ) -> Option<Arc<Payer>> {
        self.payers.get(&(workspace, session?)).map(Arc::clone)
    }

    pub(crate) fn keep_payer(
        &mut self,
        workspace: WorkspaceId,
        session: SessionId,
        payer: &Arc<Payer>,
    ) {
        if self.payers.len() >= REMEMBERED {
            self.payers.clear();
        }
        self.payers.insert((workspace, session), Arc::clone(payer));
    }

    pub(crate) fn forget_budgets(&mut self, organization: OrganizationId) {
        self.budgets.remove(&organization);
        self.quotas.remove(&organization);
        // Work may have been given to somebody else.
        self.payers.clear();
        self.forget_uses();
    }

    /// What is used of quotas is read again.
    pub(crate) fn forget_uses(&mut self) {
        self.uses.clear();
    }

    pub(crate) fn keep_quotas(&mut self, organization: OrganizationId, rows: Vec<QuotaRow>) {
        self.quotas.insert(organization, rows.into());
    }

    pub(crate) fn keep_use(
        &mut self,
        organization: OrganizationId,
        member: Option<MemberId>,
        used: QuotaUse,
    ) {
        if self.uses.len() >= REMEMBERED {
            self.uses.clear();
        }
        self.uses.insert((organization, member), (Instant::now(), used));
    }

    /// Whose use of quotas has to be read.
    pub(crate) fn unknown_uses(&self, owner: Owner) -> Vec<Option<MemberId>> {
        let rows = self.quotas.get(&owner.organization).map(Arc::clone).unwrap_or_default();
        let kinds = QuotaKind::OF_TURNS;
        let mut holding = quotas::holding(&rows, owner).filter(|row| kinds.contains(&row.kind));
        let whose = [None, Some(owner.member)];
        match holding.next() {
            Some(_) => whose
                .into_iter()
                .filter(|member| self.used(owner.organization, *member).is_none())
                .collect(),
            None => Vec::new(),
        }
    }

    fn used(&self, organization: OrganizationId, member: Option<MemberId>) -> Option<QuotaUse> {
        let (since, used) = self.uses.get(&(organization, member))?;
        (since.elapsed() < USE_COUNTS).then_some(*used)
    }

    /// Whether a quota keeps a turn from going on.
    fn judge_quotas(&self, payer: &Payer, now: Timestamp) -> Judged {
        let owner = payer.owner;
        let Some(rows) = self.quotas.get(&owner.organization) else { return Judged::Unknown };
        let kinds = &QuotaKind::OF_TURNS;
        if !quotas::holding(rows, owner).any(|row| kinds.contains(&row.kind)) {
            return Judged::Go;
        }
        let all = self.used(owner.organization, None);
        let own = self.used(owner.organization, Some(owner.member));
        let (Some(all), Some(own)) = (all, own) else { return Judged::Unknown };
        let Some(reached) = quotas::first_reached(rows, owner, kinds, all, own, now) else {
            return Judged::Go;
        };
        let row = reached.row;
        let (scope, subject) = match row.scope {
            QuotaScope::Organization => (BudgetScope::Organization, row.subject),
            // More is for this person only.
            QuotaScope::Each | QuotaScope::Person => {
                (BudgetScope::Person, owner.member.to_string())
            }
        };
        let (unit, period) = match row.kind {
            QuotaKind::Storage => (BudgetUnit::Storage, BudgetPeriod::Total),
            _ => (BudgetUnit::Minutes, BudgetPeriod::Day),
        };
        let since = since(period, now);
        Judged::Over(Over {
            key: BudgetKey { scope, subject, period, unit },
            since,
            until: until(period, since),
            spent: reached.used,
            limit: reached.limit,
            base: row.amount,
        })
    }

    pub(crate) fn keep_budgets(&mut self, organization: OrganizationId, rows: Vec<BudgetRow>) {
        self.budgets.insert(organization, rows.into());
    }

    /// The limits that hold for a request; none where they are not known.
    fn limits(&self, payer: &Payer, now: Timestamp) -> Option<Vec<Limit>> {
        let rows = self.budgets.get(&payer.owner.organization)?;
        let subjects: Vec<Subject> = subjects(payer).collect();
        let mut limits: Vec<Limit> = rows
            .iter()
            .filter(|row| {
                subjects.iter().any(|one| one.scope == row.scope && one.subject == row.subject)
            })
            .map(|row| {
                let since = since(row.period, now);
                let BudgetRow { scope, subject, period, micros, .. } = row.clone();
                let key = BudgetKey::of(scope, subject, period);
                Limit { key, since, limit: limit_of(row, since), base: micros }
            })
            .collect();
        if let (Some(attempt), Some(limit)) = (payer.attempt, payer.limit) {
            let key = BudgetKey::attempt(attempt);
            // One that was raised has a row, which says what it is now.
            if !limits.iter().any(|known| known.key == key) {
                limits.push(Limit { key, since: ALWAYS, limit, base: limit });
            }
        }
        Some(limits)
    }

    /// Whether there is money for a request, and whether its turn may go on.
    pub(crate) fn judge(&mut self, payer: &Payer, price: Price, now: Timestamp) -> Judged {
        match price {
            Price::Free => self.judge_quotas(payer, now),
            Price::Paid => match self.judge_money(payer, now) {
                Judged::Go => self.judge_quotas(payer, now),
                other => other,
            },
        }
    }

    fn judge_money(&self, payer: &Payer, now: Timestamp) -> Judged {
        let Some(limits) = self.limits(payer, now) else { return Judged::Unknown };
        for Limit { key, since, limit, base } in limits {
            let subject = Subject { scope: key.scope, subject: key.subject.clone() };
            let Some(spent) = self.spent.get(&(subject, since)).copied() else {
                return Judged::Unknown;
            };
            if spent >= limit {
                let until = until(key.period, since);
                return Judged::Over(Over { key, since, until, spent, limit, base });
            }
        }
        Judged::Go
    }

    /// Of whom it has to be read what was spent, and since when.
    pub(crate) fn unknown(&self, payer: &Payer, now: Timestamp) -> Vec<(Subject, Timestamp)> {
        let limits = self.limits(payer, now).unwrap_or_default();
        let subjects = limits.into_iter().map(|limit| {
            let Limit { key: BudgetKey { scope, subject, .. }, since, .. } = limit;
            (Subject { scope, subject }, since)
        });
        subjects.filter(|one| !self.spent.contains_key(one)).collect()
    }

    /// Keeps what the store says that was spent. Nothing may be stored between reading and this.
    pub(crate) fn keep_spent(&mut self, subject: Subject, since: Timestamp, stored: u64) {
        let waits = self.pending.iter().filter(|pending| {
            let is_counted = pending.payer.as_ref();
            is_counted.is_some_and(|payer| subjects(payer).any(|one| one == subject))
                && pending.call.time >= since
        });
        let ours = waits.filter(|pending| pending.call.paid_by.is_none());
        let waiting = ours.filter_map(|pending| pending.call.micros);
        let waiting = waiting.fold(0, u64::saturating_add);
        if self.spent.len() >= REMEMBERED {
            self.spent.clear();
        }
        self.spent.insert((subject, since), stored.saturating_add(waiting));
    }

    fn count(&mut self, payer: &Payer, call: &Call) {
        let Some(micros) = call.micros.filter(|micros| *micros > 0) else { return };
        if call.paid_by.is_some() {
            return;
        }
        for subject in subjects(payer) {
            for period in [BudgetPeriod::Day, BudgetPeriod::Month, BudgetPeriod::Total] {
                let key = (subject.clone(), since(period, call.time));
                if let Some(spent) = self.spent.get_mut(&key) {
                    *spent = spent.saturating_add(micros);
                }
            }
        }
    }

    /// A call is over: it counts from now on.
    pub(crate) fn ended(&mut self, call: &Call) {
        let payer = self.payer(call.workspace, call.session);
        if let Some(payer) = &payer {
            self.count(payer, call);
        }
        self.pending.push_back(Pending { call: call.clone(), payer });
    }

    /// Whether something of a workspace waits to be stored of which it is not known yet who pays.
    pub(crate) fn has_late(&self, workspace: WorkspaceId) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|pending| pending.payer.is_none() && pending.call.workspace == workspace)
    }

    /// Whether fewer than so many wait to be stored.
    pub(crate) fn has_room(&self, most: usize) -> bool {
        self.pending.len() < most
    }

    /// The first ones that wait to be stored.
    pub(crate) fn first(&self, most: usize) -> Vec<(Call, Option<Arc<Payer>>)> {
        let first = self.pending.iter().take(most);
        first.map(|pending| (pending.call.clone(), pending.payer.clone())).collect()
    }

    /// The first ones were stored; of some it was found only then who pays.
    pub(crate) fn stored(&mut self, count: usize, late: &[(usize, Arc<Payer>)]) {
        for (at, payer) in late {
            if let Some(call) = self.pending.get(*at).map(|pending| pending.call.clone()) {
                self.count(payer, &call);
            }
        }
        self.pending.drain(..count.min(self.pending.len()));
    }
}

#[cfg(test)]
mod tests;
