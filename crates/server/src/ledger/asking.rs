//! The question for more money, asked as a permission is, and what follows from its answer.

use std::time::Duration;

use boatyard_egress::gateway::Stopped;
use boatyard_model::{
    EventBody, PermissionId, SessionId, TurnOutcome,
    event::{NoticeLevel, PermissionKind, PermissionOption, PermissionOutcome},
};
use boatyard_store::{
    BudgetAskRow, BudgetKey, BudgetPeriod, BudgetScope, BudgetUnit, Error, NewBudgetAsk, Owner,
    PermissionState, Result, Tx,
};
use tokio::{sync::watch, time::sleep};

use super::{
    Ledger, dollars,
    payer::Payer,
    spent::{Judged, Over},
};
use crate::{app::App, hub::HubError, jobs::finish};

/// How the ids of options begin that add money; the micros follow.
const RAISE: &str = "raise_";
/// The option that ends the turn.
const STOP: &str = "stop";
/// The least that is added, in micros.
const LEAST: u64 = 1_000_000;
/// How long the end of a turn is waited for after a no.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// The code of the notice that tells why a turn ended.
const NOTICE: &str = "limit_cost";

/// Whose budget it is, for people.
fn name(key: &BudgetKey) -> String {
    let whose = match key.scope {
        BudgetScope::Organization => "organization's budget",
        BudgetScope::Person => "person's budget",
        BudgetScope::Task => "task's budget",
        BudgetScope::Attempt => "attempt's limit",
    };
    let period = match key.period {
        BudgetPeriod::Day => " for today",
        BudgetPeriod::Month => " for this month",
        BudgetPeriod::Total => "",
    };
    format!("the {whose}{period}")
}

fn title(over: &Over) -> String {
    let (spent, limit) = (dollars(over.spent), dollars(over.limit));
    format!(
        "Models may cost no more: {} is {limit}, and {spent} is spent. Raise it?",
        name(&over.key)
    )
}

fn options(over: &Over) -> Vec<PermissionOption> {
    // Whole cents, and enough that the next request is let through.
    let missing = over.spent.saturating_sub(over.limit);
    let cents = |micros: u64| micros.div_ceil(10_000) * 10_000;
    let half = cents((over.base / 2).max(LEAST) + missing);
    let whole = cents(over.base.max(2 * LEAST) + missing);
    let raise = |micros: u64| PermissionOption {
        id: format!("{RAISE}{micros}"),
        name: format!("Raise by {}", dollars(micros)),
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
    let (spent, limit) = (dollars(over.spent), dollars(over.limit));
    Stopped(format!(
        "Boatyard passes no more requests to models on: {} is {limit}, {spent} is spent, and \
         {why}. A person raises it by `boatyard budget set`.",
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
    over: &Over,
    changed: &mut watch::Receiver<u64>,
) -> Result<std::result::Result<(), Stopped>> {
    let Some(session) = payer.session else {
        return Ok(Err(stopped(over, "there is no session in which somebody could be asked")));
    };
    let Some(permission) = ask(ledger, session, over).await? else {
        return Ok(Err(stopped(over, "the session has no turn that could wait for a person")));
    };
    let outcome = answer(ledger, payer, session, permission, over, changed).await?;
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
    payer: &Payer,
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
                if alive.is_err() || !ledger.is_over(payer).await? {
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
    async fn is_over(&self, payer: &Payer) -> Result<bool> {
        loop {
            let judged = self.state().judge(payer, self.0.store.now());
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
    let Some(micros) = raise.and_then(|micros| micros.parse::<u64>().ok()) else { return Ok(()) };
    tx.raise_budget(owner, ask.key(), ask.base, ask.since, micros).await
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
