//! What may be used: quotas, and what is used of each at the moment.
//!
//! A person's and the organization's money of a month are budgets; they are shown and set here too,
//! so that there is one place for everything that has a limit.

use boatyard_api::{
    Problem,
    quota::{NewQuota, Quota, QuotaKind, QuotaList, QuotaScope, QuotaUse},
};
use boatyard_model::{BudgetId, MemberId, OrganizationId, QuotaId, Role};
use boatyard_store::{
    BudgetKey, BudgetPeriod, BudgetRow, BudgetScope, Imposed, Owner, QUOTAS_MAX, QuotaKey,
    QuotaRow, audit,
};

use super::store_problem;
use crate::{
    app::App,
    auth::Caller,
    ledger::{micros, spent},
};

pub mod days;

/// Milliseconds of a minute.
const MINUTE: f64 = 60_000.0;
/// Millionths of a US dollar.
const DOLLAR: f64 = 1_000_000.0;
/// The largest limit that is taken: beyond it numbers lose their exactness.
const MOST: f64 = 9e15;

type Kind = boatyard_store::QuotaKind;
type Scope = boatyard_store::QuotaScope;

/// The quotas that hold for the caller, or all of them for an administrator.
///
/// # Errors
/// When they can't be read.
pub async fn list_quotas(app: &App, caller: &Caller) -> Result<QuotaList, Problem> {
    let organization = caller.owner.organization;
    let all = app.store.quota_use(organization, None).await.map_err(store_problem)?;
    let own = used_by(app, organization, caller.owner.member).await?;
    let names = app.store.names_for_usage(organization).await.map_err(store_problem)?;
    let mut items = Vec::new();
    for row in app.store.quotas(organization).await.map_err(store_problem)? {
        if !sees(caller, &row) {
            continue;
        }
        let used = match (row.scope, row.subject.parse()) {
            (Scope::Organization, _) => all,
            (Scope::Person, Ok(member)) => used_by(app, organization, member).await?,
            _ => own,
        };
        items.push(shown(app, row, used, &names));
    }
    app.hub.ledger().flush().await.map_err(store_problem)?;
    for row in app.store.budgets(organization).await.map_err(store_problem)? {
        let is_own = row.subject == caller.owner.member.to_string();
        let is_seen = match row.scope {
            BudgetScope::Organization => true,
            BudgetScope::Person => is_own || caller.role >= Role::Admin,
            BudgetScope::Task | BudgetScope::Attempt => false,
        };
        if is_seen && row.period == BudgetPeriod::Month {
            items.push(money(app, row, &names).await?);
        }
    }
    Ok(QuotaList { items, organization: usage(all), own: usage(own) })
}

fn sees(caller: &Caller, row: &QuotaRow) -> bool {
    row.scope != Scope::Person
        || caller.role >= Role::Admin
        || row.subject == caller.owner.member.to_string()
}

async fn used_by(
    app: &App,
    organization: OrganizationId,
    member: MemberId,
) -> Result<boatyard_store::QuotaUse, Problem> {
    app.store.quota_use(organization, Some(member)).await.map_err(store_problem)
}

fn usage(used: boatyard_store::QuotaUse) -> QuotaUse {
    QuotaUse {
        tasks: used.tasks,
        workspaces: used.workspaces,
        minutes: used.millis as f64 / MINUTE,
        storage: used.storage,
    }
}

/// How many of the store's make one of those that people write.
const fn unit(kind: Kind) -> f64 {
    match kind {
        Kind::Minutes => MINUTE,
        Kind::Tasks | Kind::Workspaces | Kind::Storage => 1.0,
    }
}

fn shown(
    app: &App,
    row: QuotaRow,
    used: boatyard_store::QuotaUse,
    names: &std::collections::HashMap<String, String>,
) -> Quota {
    let (used, unit) = (used.of(row.kind), unit(row.kind));
    let limit = row.limit(app.store.now());
    Quota {
        id: row.id,
        kind: match row.kind {
            Kind::Tasks => QuotaKind::Tasks,
            Kind::Workspaces => QuotaKind::Workspaces,
            Kind::Minutes => QuotaKind::Minutes,
            Kind::Storage => QuotaKind::Storage,
        },
        scope: match row.scope {
            Scope::Organization => QuotaScope::Organization,
            Scope::Each => QuotaScope::Each,
            Scope::Person => QuotaScope::Person,
        },
        name: names.get(&row.subject).cloned(),
        subject: row.subject,
        limit: row.amount as f64 / unit,
        extra: limit.saturating_sub(row.amount) as f64 / unit,
        used: used as f64 / unit,
        reached: used >= limit,
        imposed: row.imposed,
        created: row.created,
    }
}

async fn money(
    app: &App,
    row: BudgetRow,
    names: &std::collections::HashMap<String, String>,
) -> Result<Quota, Problem> {
    let since = spent::since(row.period, app.store.now());
    let spent = app.store.spent(row.owner.organization, row.scope, &row.subject, since).await;
    let spent = spent.map_err(store_problem)?;
    let limit = spent::limit_of(&row, since);
    let scope = match row.scope {
        BudgetScope::Organization => QuotaScope::Organization,
        _ => QuotaScope::Person,
    };
    Ok(Quota {
        // What is behind it has the same number.
        id: QuotaId::from_u128(row.id.to_u128()),
        kind: QuotaKind::Money,
        scope,
        name: names.get(&row.subject).cloned(),
        subject: row.subject,
        limit: row.micros as f64 / DOLLAR,
        extra: limit.saturating_sub(row.micros) as f64 / DOLLAR,
        used: spent as f64 / DOLLAR,
        reached: spent >= limit,
        imposed: false,
        created: row.created,
    })
}

/// Sets a quota. What waits for it looks again.
///
/// # Errors
/// When whose it is does not exist, the limit is none, or it is not the caller's to set.
pub async fn set_quota(app: &App, caller: &Caller, new: NewQuota) -> Result<Quota, Problem> {
    let NewQuota { kind, scope, subject, limit } = new;
    if !(0.0..=MOST).contains(&limit) {
        return Err(Problem::invalid("limit", format!("{limit} is not a number from 0 on")));
    }
    let is_named = subject.is_some();
    let (organization, subject) = whose(app, caller, scope, subject).await?;
    let owner = Owner { organization, member: caller.owner.member };
    audit::note("kind", kind.as_str());
    audit::note("subject", &subject);
    audit::note("limit", limit);
    let names = app.store.names_for_usage(organization).await.map_err(store_problem)?;
    let kind = match kind {
        QuotaKind::Money => return set_money(app, owner, scope, subject, limit, &names).await,
        QuotaKind::Tasks => Kind::Tasks,
        QuotaKind::Workspaces => Kind::Workspaces,
        QuotaKind::Minutes => Kind::Minutes,
        QuotaKind::Storage => Kind::Storage,
    };
    let is_count = matches!(kind, Kind::Tasks | Kind::Workspaces | Kind::Storage);
    if is_count && limit.fract() != 0.0 {
        return Err(Problem::invalid("limit", format!("{limit} is no whole number")));
    }
    let scope = match scope {
        QuotaScope::Organization => Scope::Organization,
        QuotaScope::Each => Scope::Each,
        QuotaScope::Person => Scope::Person,
    };
    let key = QuotaKey { scope, subject, kind };
    let there = app.store.quotas(organization).await.map_err(store_problem)?;
    let before = there.iter().find(|row| row.key() == key);
    if before.is_none() && there.len() >= QUOTAS_MAX {
        return Err(Problem::conflict(format!("there are {QUOTAS_MAX} quotas already"))
            .with_next("Remove one: `boatyard quota list` shows them."));
    }
    let was_imposed = before.is_some_and(|row| row.imposed);
    if was_imposed {
        may_change_imposed(caller)?;
    }
    // An operator's own organization is theirs as an administrator; who names one means it as who
    // runs the server.
    let imposes = caller.operator && scope == Scope::Organization && is_named;
    let imposed = match was_imposed || imposes {
        true => Imposed::Yes,
        false => Imposed::No,
    };
    let amount = (limit * unit(kind)).round() as u64;
    let row = app
        .store
        .write(move |tx| {
            let key = key.clone();
            Box::pin(async move { tx.set_quota(owner, key, amount, imposed).await })
        })
        .await
        .map_err(store_problem)?;
    changed(app, organization);
    let used = match row.scope {
        Scope::Organization => app.store.quota_use(organization, None).await,
        Scope::Each => app.store.quota_use(organization, Some(caller.owner.member)).await,
        Scope::Person => app.store.quota_use(organization, row.subject.parse().ok()).await,
    };
    Ok(shown(app, row, used.map_err(store_problem)?, &names))
}

/// What waits for a quota looks again.
fn changed(app: &App, organization: OrganizationId) {
    app.hub.ledger().changed(organization);
    app.places.look();
}

fn may_change_imposed(caller: &Caller) -> Result<(), Problem> {
    match caller.operator {
        true => Ok(()),
        false => Err(Problem::not_allowed("this quota was set by who runs the server")
            .with_next("Ask them for another one.")),
    }
}

/// Whose a quota is to be: the organization, and the id.
async fn whose(
    app: &App,
    caller: &Caller,
    scope: QuotaScope,
    subject: Option<String>,
) -> Result<(OrganizationId, String), Problem> {
    let own = caller.owner.organization;
    match scope {
        QuotaScope::Organization | QuotaScope::Each => {
            let wanted = match &subject {
                None => own,
                Some(text) => text.parse().map_err(|_| {
                    Problem::invalid("subject", "it takes an organization's id, org_…")
                })?,
            };
            let unknown =
                || Problem::invalid("subject", format!("there is no organization `{wanted}`"));
            if wanted != own {
                let every = app.store.every_organization().await.map_err(store_problem)?;
                if !(caller.operator && every.contains(&wanted)) {
                    return Err(unknown());
                }
            }
            Ok((wanted, wanted.to_string()))
        }
        QuotaScope::Person => {
            let member = match &subject {
                None => caller.owner.member,
                Some(text) => text
                    .parse::<MemberId>()
                    .map_err(|_| Problem::invalid("subject", "it takes a member's id, mem_…"))?,
            };
            member_of(app, own, member).await?;
            Ok((own, member.to_string()))
        }
    }
}

/// Refuses somebody who is not of the organization.
pub(crate) async fn member_of(
    app: &App,
    organization: OrganizationId,
    member: MemberId,
) -> Result<(), Problem> {
    let names = app.store.names_for_usage(organization).await.map_err(store_problem)?;
    match names.contains_key(&member.to_string()) {
        true => Ok(()),
        false => Err(Problem::invalid("subject", format!("there is no person `{member}`"))),
    }
}

async fn set_money(
    app: &App,
    owner: Owner,
    scope: QuotaScope,
    subject: String,
    limit: f64,
    names: &std::collections::HashMap<String, String>,
) -> Result<Quota, Problem> {
    let scope = match scope {
        QuotaScope::Organization => BudgetScope::Organization,
        QuotaScope::Person => BudgetScope::Person,
        QuotaScope::Each => {
            let detail = "money is the organization's or one person's";
            return Err(Problem::invalid("scope", detail));
        }
    };
    let limit = micros(limit)
        .ok_or_else(|| Problem::invalid("limit", format!("{limit} is not an amount from 0 on")))?;
    let key = BudgetKey::of(scope, subject, BudgetPeriod::Month);
    let row = app
        .store
        .write(move |tx| {
            let key = key.clone();
            Box::pin(async move { tx.set_budget(owner, key, limit).await })
        })
        .await
        .map_err(store_problem)?;
    changed(app, owner.organization);
    money(app, row, names).await
}

/// Removes a quota. What waits for it goes on.
///
/// # Errors
/// When there is none, or it is not the caller's to remove.
pub async fn remove_quota(app: &App, caller: &Caller, id: QuotaId) -> Result<(), Problem> {
    let organization = caller.owner.organization;
    let rows = app.store.quotas(organization).await.map_err(store_problem)?;
    let write = match rows.iter().find(|row| row.id == id) {
        Some(row) => {
            if row.imposed {
                may_change_imposed(caller)?;
            }
            app.store
                .write(move |tx| Box::pin(async move { tx.remove_quota(organization, id).await }))
                .await
        }
        None => {
            let budget = BudgetId::from_u128(id.to_u128());
            let gone = app.store.write(move |tx| {
                Box::pin(async move { tx.remove_budget(organization, budget).await })
            });
            gone.await.map_err(|error| match error {
                boatyard_store::Error::NotFound { .. } => {
                    boatyard_store::Error::NotFound { kind: "quota", id: id.to_string() }
                }
                error => error,
            })
        }
    };
    write.map_err(store_problem)?;
    changed(app, organization);
    Ok(())
}
