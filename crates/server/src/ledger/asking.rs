//! The question for more money, asked as a permission is, and what follows from its answer.

use std::time::Duration;

use boatyard_api::Problem;
use boatyard_egress::gateway::Stopped;
use boatyard_model::{
    EventBody, PermissionId, Role, SessionId, Timestamp, TurnOutcome,
    event::{NoticeLevel, PermissionKind, PermissionOption, PermissionOutcome},
};
use boatyard_store::{
    BudgetAskRow, BudgetKey, BudgetPeriod, BudgetScope, BudgetUnit, Error, NewBudgetAsk, Owner,
    PermissionState, QuotaKey, QuotaKind, QuotaScope, Result, Tx,
};
use tokio::{sync::watch, time::sleep};

use super::{
    Ledger, dollars,
    payer::Payer,
    spent::{Judged, Over, Price},
};
use crate::{app::App, auth::Caller, hub::HubError, jobs::finish, operations::store_problem};

/// How the ids of options begin that add money; the micros follow.
const RAISE: &str = "raise_";
/// The option that ends the turn.
const STOP: &str = "stop";
/// The least that is added: micros of a dollar, milliseconds, bytes.
const fn least(unit: BudgetUnit) -> u64 {
    match unit {
        BudgetUnit::Money => 1_000_000,
        BudgetUnit::Minutes => 30 * 60_000,
        BudgetUnit::Storage => 1 << 30,
    }
}

/// What is added is a multiple of this: whole cents, minutes, MiB.
const fn step(unit: BudgetUnit) -> u64 {
    match unit {
        BudgetUnit::Money => 10_000,
        BudgetUnit::Minutes => 60_000,
        BudgetUnit::Storage => 1 << 20,
    }
}

/// So much of something, for people.
fn amount(unit: BudgetUnit, value: u64) -> String {
    match unit {
        BudgetUnit::Money => dollars(value),
        BudgetUnit::Minutes => format!("{} minutes", value / 60_000),
        BudgetUnit::Storage => format!("{} MiB", value >> 20),
    }
}

/// How long the end of a turn is waited for after a no.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// The code of the notice that tells why a turn ended.
const NOTICE: &str = "limit_cost";

/// Whose budget it is, for people.
fn name(key: &BudgetKey) -> String {
    let whose = match (key.unit, key.scope) {
        (BudgetUnit::Money, BudgetScope::Organization) => "organization's budget",
        (BudgetUnit::Money, BudgetScope::Person) => "person's budget",
        (_, BudgetScope::Task) => "task's budget",
        (_, BudgetScope::Attempt) => "attempt's limit",
        (BudgetUnit::Minutes, BudgetScope::Organization) => "organization's quota of minutes",
        (BudgetUnit::Minutes, BudgetScope::Person) => "person's quota of minutes",
        (BudgetUnit::Storage, BudgetScope::Organization) => "organization's quota of storage",
        (BudgetUnit::Storage, BudgetScope::Person) => "person's quota of storage",
    };
    let period = match key.period {
        BudgetPeriod::Day => " for today",
        BudgetPeriod::Month => " for this month",
        BudgetPeriod::Total => "",
    };
    format!("the {whose}{period}")
}

fn title(over: &Over) -> String {
    let unit = over.key.unit;
    let (spent, limit, name) =
        (amount(unit, over.spent), amount(unit, over.limit), name(&over.key));
    match unit {
        BudgetUnit::Money => {
            format!("Models may cost no more: {name} is {limit}, and {spent} is spent. Raise it?")
        }
        BudgetUnit::Minutes => format!(
            "Agents may work no longer: {name} is {limit}, and {spent} are used. It goes on at \
             midnight UTC by itself. Raise it?"
        ),
        BudgetUnit::Storage => format!(
            "Nothing more may be stored: {name} is {limit}, and {spent} are used. It goes on by \
             itself when there is room. Raise it?"
        ),
    }
}

fn options(over: &Over) -> Vec<PermissionOption> {
    // Whole cents, and enough that the next request is let through.
    let (unit, least) = (over.key.unit, least(over.key.unit));
    let missing = over.spent.saturating_sub(over.limit);
    let whole_steps = |value: u64| value.div_ceil(step(unit)) * step(unit);
    let half = whole_steps((over.base / 2).max(least) + missing);
    let whole = whole_steps(over.base.max(2 * least) + missing);
    let raise = |value: u64| PermissionOption {
        id: format!("{RAISE}{value}"),
        name: format!("Raise by {}", amount(unit, value)),
        kind: PermissionKind::AllowOnce,
    };
    let stop = PermissionOption {
        id: STOP.to_owned(),
        name: "Stop".to_owned(),
        kind: PermissionKind::RejectOnce,
    };
    vec![raise(half), raise(whole), stop]
}

/// Why a request does not go on, for its agent.
fn stopped(over: &Over, why: &str) -> Stopped {
    let unit = over.key.unit;
    let (spent, limit) = (amount(unit, over.spent), amount(unit, over.limit));
    let (is_spent, command) = match unit {
        BudgetUnit::Money => ("is spent", "budget set"),
        BudgetUnit::Minutes => ("are used", "quota set minutes"),
        BudgetUnit::Storage => ("are used", "quota set storage"),
    };
    Stopped(format!(
        "Boatyard passes no more requests to models on: {} is {limit}, {spent} {is_spent}, and \
         {why}. A person raises it by `boatyard {command}`.",
        name(&over.key)
    ))
}

/// Waits for as long as a budget is spent, and has a person asked meanwhile.
///
/// # Errors
/// The outer one when nothing is known, the inner one when the request may not go.
pub(super) async fn wait(
    ledger: &Ledger,
    payer: &Payer,
    price: Price,
    over: &Over,
    changed: &mut watch::Receiver<u64>,
) -> Result<std::result::Result<(), Stopped>> {
    let Some(session) = payer.session else {
        return Ok(Err(stopped(over, "there is no session in which somebody could be asked")));
    };
    let Some(permission) = ask(ledger, session, over).await? else {
        return Ok(Err(stopped(over, "the session has no turn that could wait for a person")));
    };
    let outcome = answer(ledger, (payer, price), session, permission, over, changed).await?;
    if let Some(PermissionState::Denied | PermissionState::Expired) = outcome {
        turn_ends(ledger, session).await?;
    }
    Ok(match outcome {
        Some(PermissionState::Open) | None => Ok(()),
        Some(PermissionState::Allowed) => {
            // It is stored, and whoever stored it may not have said so yet: judged by what was
            // before, it would be asked for once more.
            ledger.changed(payer.owner.organization);
            Ok(())
        }
        Some(PermissionState::Denied) => Err(stopped(over, "a person said no to more")),
        Some(PermissionState::Expired) => Err(stopped(over, "nobody allowed more in time")),
        Some(PermissionState::Cancelled) => Err(stopped(over, "the turn is over")),
    })
}

/// Waits until the turn was ended because of a no, for as long as that may take: an agent that was
/// told no first would end it by itself, as if it were done.
async fn turn_ends(ledger: &Ledger, session: SessionId) -> Result<()> {
    let store = &ledger.0.store;
    let row = store.session(session).await?;
    if row.turn.is_none() {
        return Ok(());
    }
    let mut log = store.follow_session(session, row.last_seq);
    let ended = async {
        loop {
            let events = log.next().await?;
            if events.iter().any(|event| &*event.kind == "turn.completed") {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(ENDS_WITHIN, ended).await.unwrap_or(Ok(()))
}

async fn ask(ledger: &Ledger, session: SessionId, over: &Over) -> Result<Option<PermissionId>> {
    let store = &ledger.0.store;
    let ask = NewBudgetAsk {
        session,
        budget: over.key.clone(),
        since: over.since,
        base: over.base,
        title: title(over),
        options: options(over),
        deadline: store.now().after(ledger.0.answer_time),
    };
    store
        .write(move |tx| {
            let ask = ask.clone();
            Box::pin(async move { tx.ask_for_budget(ask).await })
        })
        .await
}

/// Waits until a question is answered, or is none any more because there is money again: then it
/// is withdrawn, and there is no answer.
async fn answer(
    ledger: &Ledger,
    (payer, price): (&Payer, Price),
    session: SessionId,
    permission: PermissionId,
    over: &Over,
    changed: &mut watch::Receiver<u64>,
) -> Result<Option<PermissionState>> {
    let store = &ledger.0.store;
    let after = store.session(session).await?.last_seq;
    let mut log = store.follow_session(session, after);
    let row = store.permission(permission).await?;
    if row.state != PermissionState::Open {
        return Ok(Some(row.state));
    }
    let period = over.until.map(|until| until.since(store.now()));
    let period = async {
        match period {
            Some(period) => sleep(period).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(period);
    loop {
        tokio::select! {
            // It is changed when anything is; whether it matters is judged anew.
            alive = changed.changed() => {
                let state = store.permission(permission).await?.state;
                if state != PermissionState::Open {
                    return Ok(Some(state));
                }
                if alive.is_err() || !ledger.is_over(payer, price).await? {
                    break;
                }
            }
            () = &mut period => break,
            events = log.next() => {
                let is_about = |body: &EventBody| matches!(
                    body,
                    EventBody::PermissionResolved { permission: resolved, .. } if *resolved == permission
                );
                let mut events = events?.into_iter().filter_map(|stored| stored.event().ok());
                if events.any(|event| is_about(&event.body)) {
                    return Ok(Some(store.permission(permission).await?.state));
                }
            }
        }
    }
    let withdraw = store.write(move |tx| {
        Box::pin(async move { tx.withdraw_permission(session, permission).await.map(drop) })
    });
    withdraw.await?;
    // Somebody may have answered just now.
    let state = store.permission(permission).await?.state;
    Ok(Some(state).filter(|state| *state != PermissionState::Cancelled))
}

impl Ledger {
    /// Whether there is still no money for somebody.
    async fn is_over(&self, payer: &Payer, price: Price) -> Result<bool> {
        loop {
            let judged = self.state().judge(payer, price, self.0.store.now());
            match judged {
                Judged::Go => return Ok(false),
                Judged::Over(_) => return Ok(true),
                Judged::Unknown => self.read(payer).await?,
            }
        }
    }
}

/// What somebody answered is done, in the transaction that stores it.
///
/// # Errors
/// When it can't be stored.
pub(crate) async fn apply(
    tx: &mut Tx,
    owner: Owner,
    ask: &BudgetAskRow,
    option: Option<&str>,
) -> Result<()> {
    let raise = option.and_then(|option| option.strip_prefix(RAISE));
    let Some(more) = raise.and_then(|more| more.parse::<u64>().ok()) else { return Ok(()) };
    let kind = match ask.unit {
        BudgetUnit::Money => {
            return tx.raise_budget(owner, ask.key(), ask.base, ask.since, more).await;
        }
        BudgetUnit::Minutes => QuotaKind::Minutes,
        BudgetUnit::Storage => QuotaKind::Storage,
    };
    // What is of no day is raised for good.
    let since = if kind == QuotaKind::Minutes { ask.since } else { Timestamp(0) };
    tx.raise_quota(owner, quota_key(ask, kind), ask.base, since, more).await
}

fn quota_key(ask: &BudgetAskRow, kind: QuotaKind) -> QuotaKey {
    let scope = match ask.scope {
        BudgetScope::Organization => QuotaScope::Organization,
        _ => QuotaScope::Person,
    };
    QuotaKey { scope, subject: ask.subject.clone(), kind }
}

/// Refuses a raise to who may not set the limit: nobody gives himself more than he was given.
///
/// # Errors
/// When it is for an administrator, or for who runs the server.
pub(crate) async fn may_raise(
    app: &App,
    caller: &Caller,
    ask: &BudgetAskRow,
) -> std::result::Result<(), Problem> {
    if matches!(ask.scope, BudgetScope::Task | BudgetScope::Attempt) {
        return Ok(());
    }
    let refused = |who: &str| {
        Problem::not_allowed(format!("{} is raised by {who}", name(&ask.key())))
            .with_next("Ask them to answer, or answer `stop` to end the turn.")
    };
    if caller.role < Role::Admin {
        return Err(refused("an administrator of the organization"));
    }
    let kind = match ask.unit {
        BudgetUnit::Money => return Ok(()),
        BudgetUnit::Minutes => QuotaKind::Minutes,
        BudgetUnit::Storage => QuotaKind::Storage,
    };
    let key = quota_key(ask, kind);
    let rows = app.store.quotas(ask.owner.organization).await.map_err(store_problem)?;
    let is_imposed = rows.iter().any(|row| row.key() == key && row.imposed);
    if is_imposed && !caller.operator {
        return Err(refused("who runs the server"));
    }
    Ok(())
}

/// What follows when a question for more money was answered, or was not in time.
///
/// # Errors
/// When the turn can't be ended.
pub(crate) async fn answered(
    app: &App,
    ask: &BudgetAskRow,
    outcome: PermissionOutcome,
) -> std::result::Result<(), HubError> {
    let ledger = app.hub.ledger();
    ledger.changed(ask.owner.organization);
    // What is queued may begin now.
    app.places.look();
    let (why, ends) = match outcome {
        PermissionOutcome::Allowed | PermissionOutcome::Cancelled => return Ok(()),
        PermissionOutcome::Denied => ("a person said no to more", TurnOutcome::Cancelled),
        PermissionOutcome::Expired => ("nobody allowed more in time", TurnOutcome::LimitReached),
    };
    let session = match app.store.session(ask.session).await {
        Ok(session) => session,
        Err(Error::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let text = format!("The turn was ended: {} is spent, and {why}.", name(&ask.key()));
    app.hub.notice(&session, NoticeLevel::Warning, NOTICE, text, None).await?;
    finish::stop(app, ask.session, ends).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_is_enough_for_the_next_request() {
        let key = BudgetKey {
            scope: BudgetScope::Organization,
            subject: "org_1".to_owned(),
            period: BudgetPeriod::Day,
            unit: BudgetUnit::Money,
        };
        let (spent, limit) = (5_021_000, 5_000_000);
        let since = boatyard_model::Timestamp(0);
        let over = Over { key, since, until: None, spent, limit, base: limit };
        let offered: Vec<(String, String)> =
            options(&over).into_iter().map(|option| (option.id, option.name)).collect();
        let expected = [
            ("raise_2530000", "Raise by $2.53"),
            ("raise_5030000", "Raise by $5.03"),
            ("stop", "Stop"),
        ];
        let expected = expected.map(|(id, name)| (id.to_owned(), name.to_owned()));
        assert_eq!(offered, expected);
        assert_eq!(
            title(&over),
            "Models may cost no more: the organization's budget for today is $5.00, and $5.02 is \
             spent. Raise it?"
        );
        assert!(stopped(&over, "nobody allowed more in time").0.contains("boatyard budget set"));
    }
}
