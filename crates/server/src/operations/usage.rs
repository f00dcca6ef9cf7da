//! What models cost, and what they may.

use boatyard_api::{
    Problem,
    usage::{
        Budget, BudgetList, BudgetPeriod, BudgetScope, NewBudget, UsageGroup, UsageQuery,
        UsageReport, UsageSum,
    },
};
use boatyard_model::{AttemptId, BudgetId, MemberId, TaskId, Timestamp, Wish};
use boatyard_store::{BUDGETS_MAX, BudgetKey, BudgetRow, ThingId, UsageFilter};

use super::{own, store_problem};
use crate::{
    access::{self, things},
    app::App,
    auth::Caller,
    ledger::{micros, spent},
};

fn usd(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}

/// What was used, added up.
///
/// # Errors
/// When it can't be read.
pub async fn read_usage(
    app: &App,
    caller: &Caller,
    query: UsageQuery,
) -> Result<UsageReport, Problem> {
    let UsageQuery { group, from, to, task, session, provider, model, person } = query;
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err(Problem::invalid("query.to", "it is not after `from`"));
    }
    let named =
        [(task.map(ThingId::Task), "query.task"), (session.map(ThingId::Session), "query.session")];
    for (thing, field) in named {
        if let Some(id) = thing.filter(|_| !access::sees_all(caller)) {
            let at = |problem: Problem| problem.at(field);
            let thing = things::thing(app, id).await.map_err(at)?;
            access::check(app, caller, thing, Wish::Look).await.map_err(at)?;
        }
    }
    let group = group.unwrap_or_default();
    let by = match group {
        UsageGroup::Day => boatyard_store::UsageGroup::Day,
        UsageGroup::Model => boatyard_store::UsageGroup::Model,
        UsageGroup::Provider => boatyard_store::UsageGroup::Provider,
        UsageGroup::Task => boatyard_store::UsageGroup::Task,
        UsageGroup::Session => boatyard_store::UsageGroup::Session,
        UsageGroup::Person => boatyard_store::UsageGroup::Person,
        UsageGroup::Repository => boatyard_store::UsageGroup::Repository,
        UsageGroup::Agent => boatyard_store::UsageGroup::Agent,
    };
    let filter = UsageFilter { from, to, task, session, provider, model, person };
    let organization = caller.owner.organization;
    // What has ended is seen by who asks after it.
    app.hub.ledger().flush().await.map_err(store_problem)?;
    let store = &app.store;
    let sums = store.usage_by(organization, by, filter.clone()).await.map_err(store_problem)?;
    let total = store.usage_in_all(organization, filter).await.map_err(store_problem)?;
    let mut items = Vec::with_capacity(sums.len());
    for row in sums {
        let thing = row.label.as_deref().and_then(|label| label.parse().ok());
        let is_of_things = matches!(group, UsageGroup::Task | UsageGroup::Session);
        // What one may not see is in the sum of all, and told nowhere else.
        if match thing.filter(|_| is_of_things) {
            Some(id) => exists(app, caller, id).await?,
            None => true,
        } {
            items.push(sum(row, group));
        }
    }
    Ok(UsageReport { group, items, total: sum(total, UsageGroup::Model) })
}

/// Whether a thing exists for a caller.
async fn exists(app: &App, caller: &Caller, id: ThingId) -> Result<bool, Problem> {
    if access::sees_all(caller) {
        return Ok(true);
    }
    match things::thing(app, id).await {
        Ok(thing) => Ok(things::right(app, caller, &thing).await?.is_some()),
        Err(problem) if problem.status == 404 => Ok(false),
        Err(problem) => Err(problem),
    }
}

/// Whether a budget is a caller's to see: the organization's, one's own, and those of what one may
/// look at.
async fn is_seen(app: &App, caller: &Caller, row: &BudgetRow) -> Result<bool, Problem> {
    use boatyard_store::BudgetScope as Scope;
    if access::sees_all(caller) || row.scope == Scope::Organization {
        return Ok(true);
    }
    let task = match row.scope {
        Scope::Organization | Scope::Person => None,
        Scope::Task => row.subject.parse().ok(),
        Scope::Attempt => match row.subject.parse() {
            Ok(id) => match app.store.attempt(id).await {
                Ok(attempt) => Some(attempt.task),
                Err(boatyard_store::Error::NotFound { .. }) => None,
                Err(error) => return Err(store_problem(error)),
            },
            Err(_) => None,
        },
    };
    match task {
        Some(task) => exists(app, caller, ThingId::Task(task)).await,
        None => Ok(row.subject == caller.owner.member.to_string()),
    }
}

fn sum(row: boatyard_store::UsageSum, group: UsageGroup) -> UsageSum {
    let label = match group {
        UsageGroup::Day => row.label.as_deref().and_then(day),
        _ => row.label,
    };
    UsageSum {
        label,
        calls: row.calls,
        input_tokens: row.input,
        output_tokens: row.output,
        cache_read_tokens: row.cache_read,
        cache_write_tokens: row.cache_write,
        reasoning_tokens: row.reasoning,
        cost_usd: usd(row.micros),
        unknown_cost: row.unknown,
        estimated: row.reckoned,
    }
}

/// `2026-11-21` of a day's beginning in milliseconds.
fn day(millis: &str) -> Option<String> {
    let day = Timestamp(millis.parse().ok()?).to_string();
    Some(day.split('T').next()?.to_owned())
}

/// The budgets that the caller may see, with what is spent of each.
///
/// # Errors
/// When they can't be read.
pub async fn list_budgets(app: &App, caller: &Caller) -> Result<BudgetList, Problem> {
    app.hub.ledger().flush().await.map_err(store_problem)?;
    let rows = app.store.budgets(caller.owner.organization).await.map_err(store_problem)?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        if is_seen(app, caller, &row).await? {
            items.push(shown(app, row).await?);
        }
    }
    Ok(BudgetList { items })
}

async fn shown(app: &App, row: BudgetRow) -> Result<Budget, Problem> {
    let since = spent::since(row.period, app.store.now());
    let organization = row.owner.organization;
    let spent = app.store.spent(organization, row.scope, &row.subject, since).await;
    let spent = spent.map_err(store_problem)?;
    let extra = spent::limit_of(&row, since) - row.micros;
    Ok(Budget {
        id: row.id,
        scope: match row.scope {
            boatyard_store::BudgetScope::Organization => BudgetScope::Organization,
            boatyard_store::BudgetScope::Person => BudgetScope::Person,
            boatyard_store::BudgetScope::Task => BudgetScope::Task,
            boatyard_store::BudgetScope::Attempt => BudgetScope::Attempt,
        },
        subject: row.subject,
        period: match row.period {
            boatyard_store::BudgetPeriod::Day => BudgetPeriod::Day,
            boatyard_store::BudgetPeriod::Month => BudgetPeriod::Month,
            boatyard_store::BudgetPeriod::Total => BudgetPeriod::Total,
        },
        limit_usd: usd(row.micros),
        extra_usd: usd(extra),
        spent_usd: usd(spent),
        since: (since.0 > 0).then_some(since),
        created: row.created,
    })
}

/// Sets a budget. Requests that wait for money look again.
///
/// # Errors
/// When what it is for does not exist, or the limit is none.
pub async fn set_budget(app: &App, caller: &Caller, new: NewBudget) -> Result<Budget, Problem> {
    let NewBudget { scope, subject, period, limit_usd } = new;
    let limit = micros(limit_usd).ok_or_else(|| {
        Problem::invalid("limit_usd", format!("{limit_usd} is not an amount from 0 on"))
    })?;
    let organization = caller.owner.organization;
    let (scope, subject, usual) = match scope {
        BudgetScope::Organization => {
            let own = organization.to_string();
            if subject.is_some_and(|subject| subject != own) {
                return Err(Problem::invalid("subject", "there is no such organization"));
            }
            (boatyard_store::BudgetScope::Organization, own, BudgetPeriod::Month)
        }
        BudgetScope::Person => {
            let own = caller.owner.member.to_string();
            let subject = subject.unwrap_or_else(|| own.clone());
            let member = subject.parse::<MemberId>().map_err(|_| {
                Problem::invalid("subject", format!("there is no person `{subject}`"))
            })?;
            super::quotas::member_of(app, organization, member).await?;
            (boatyard_store::BudgetScope::Person, subject, BudgetPeriod::Month)
        }
        BudgetScope::Task => {
            let id: TaskId = parse(subject, "a task's")?;
            let task = app.store.task(id).await.map_err(|e| store_problem(e).at("subject"))?;
            let may = access::check(app, caller, &task.task, Wish::Manage).await;
            may.map_err(|problem| problem.at("subject"))?;
            (boatyard_store::BudgetScope::Task, id.to_string(), BudgetPeriod::Total)
        }
        BudgetScope::Attempt => {
            let id: AttemptId = parse(subject, "an attempt's")?;
            let attempt = app.store.attempt(id).await;
            let attempt = attempt.map_err(|e| store_problem(e).at("subject"))?;
            own(caller, attempt.owner, "attempt", id)?;
            (boatyard_store::BudgetScope::Attempt, id.to_string(), BudgetPeriod::Total)
        }
    };
    let period = match period.unwrap_or(usual) {
        BudgetPeriod::Day => boatyard_store::BudgetPeriod::Day,
        BudgetPeriod::Month => boatyard_store::BudgetPeriod::Month,
        BudgetPeriod::Total => boatyard_store::BudgetPeriod::Total,
    };
    let key = BudgetKey::of(scope, subject, period);
    let there = app.store.budgets(organization).await.map_err(store_problem)?;
    let is_there = there.iter().any(|row| {
        (row.scope, row.period) == (key.scope, key.period) && row.subject == key.subject
    });
    if !is_there && there.len() >= BUDGETS_MAX {
        return Err(Problem::conflict(format!("there are {BUDGETS_MAX} budgets already"))
            .with_next("Remove one: `boatyard budget list` shows them."));
    }
    let owner = caller.owner;
    let row = app
        .store
        .write(move |tx| {
            let key = key.clone();
            Box::pin(async move { tx.set_budget(owner, key, limit).await })
        })
        .await
        .map_err(store_problem)?;
    app.hub.ledger().changed(organization);
    shown(app, row).await
}

fn parse<T: std::str::FromStr>(subject: Option<String>, whose: &str) -> Result<T, Problem> {
    let wrong = || Problem::invalid("subject", format!("it takes {whose} id"));
    subject.ok_or_else(wrong)?.parse().map_err(|_| wrong())
}

/// Removes a budget. Requests that wait for it go on.
///
/// # Errors
/// When there is none.
pub async fn remove_budget(app: &App, caller: &Caller, id: BudgetId) -> Result<(), Problem> {
    let organization = caller.owner.organization;
    app.store
        .write(move |tx| Box::pin(async move { tx.remove_budget(organization, id).await }))
        .await
        .map_err(store_problem)?;
    app.hub.ledger().changed(organization);
    Ok(())
}
