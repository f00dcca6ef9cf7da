//! What models cost: who pays for a request, whether there is money for it, and what was spent.
//!
//! ```text
//!  gateway ── admit ──► Ledger ─ below every budget ─► go
//!     │                   └─ one is spent ─► a person is asked, in the session ─► raised: go
//!     │                                      (the request is held meanwhile)       no:     402
//!     └─── ended ────► spent (in memory, at once) ─► pending ─► store, in batches
//! ```
//!
//! What is spent is known in memory the moment a request ends, so that requests of several
//! workspaces go past a budget by what was under way when it was reached and by no more. What waits
//! to be stored is bounded: beyond it, requests wait before they go.
//!
//! - [`payer`]: whom a request is made for.
//! - [`spent`]: budgets, their periods, and what was spent of each.
//! - [`asking`]: the question for more money, and its answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use boatyard_egress::gateway::{Admission, Asked, Call, Later, Purse, Stopped};
use boatyard_model::{OrganizationId, SessionId, Timestamp, WorkspaceId};
use boatyard_store::{NewModelCall, Store};
use tokio::sync::{Notify, watch};

use crate::{
    rates::{Key, Limit},
    unrecorded::Unrecorded,
};

pub(crate) mod asking;
mod payer;
pub(crate) mod spent;

use payer::Payer;
use spent::{Judged, Price, State};

/// Calls that may wait to be stored. Past it, requests wait until some are.
const PENDING: usize = 4096;
/// How many are stored at once.
const BATCH: usize = 256;
/// How long is waited before storing is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Who pays, and what was spent. A cheap clone.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Inner>);

struct Inner {
    store: Store,
    /// Whose those workspaces are that no table knows.
    unrecorded: Unrecorded,
    /// How long a person has to answer.
    answer_time: Duration,
    /// How often the workspaces of one member may ask.
    rate: Arc<Limit>,
    state: Mutex<State>,
    /// Held while what is pending is stored, and while sums are read: each sum counts each call
    /// once.
    storing: tokio::sync::Mutex<()>,
    /// There is something to store.
    arrived: Notify,
    /// Told when budgets or sums are others than before, or something was stored.
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

/// Whether a request is counted among those that its member's workspaces may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Yes,
    No,
}

/// A call that waits to be stored.
pub(crate) struct Pending {
    call: Call,
    /// Whom it was made for; it is part of the sums then.
    payer: Option<Arc<Payer>>,
}

impl Ledger {
    /// One over this store.
    pub(crate) fn new(
        store: Store,
        answer_time: Duration,
        rate: Arc<Limit>,
        unrecorded: Unrecorded,
    ) -> Self {
        let (changed, _) = watch::channel(0);
        Self(Arc::new(Inner {
            store,
            unrecorded,
            answer_time,
            rate,
            state: Mutex::default(),
            storing: tokio::sync::Mutex::default(),
            arrived: Notify::new(),
            changed,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The budgets or quotas of an organization are others than before, or whose its work is.
    pub(crate) fn changed(&self, organization: OrganizationId) {
        self.state().forget_budgets(organization);
        self.look();
    }

    /// What is used of quotas is read again, and everything that waits looks again.
    pub(crate) fn refresh(&self) {
        self.state().forget_uses();
        self.look();
    }

    /// Everything that waits is to look again.
    fn look(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Stores what ends, for as long as there is a server.
    pub(crate) async fn run(self) {
        loop {
            self.0.arrived.notified().await;
            while let Err(error) = self.flush().await {
                if matches!(error, boatyard_store::Error::Closed) {
                    return;
                }
                tracing::error!(error = %crate::chain(&error), "what models used waits to be stored");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Stores all that has ended.
    ///
    /// # Errors
    /// When it can't be stored; it waits then.
    pub(crate) async fn flush(&self) -> boatyard_store::Result<()> {
        let _storing = self.0.storing.lock().await;
        loop {
            let batch = self.state().first(BATCH);
            if batch.is_empty() {
                return Ok(());
            }
            let mut calls = Vec::with_capacity(batch.len());
            let mut late = Vec::new();
            for (at, (call, payer)) in batch.iter().enumerate() {
                let payer = match payer {
                    Some(payer) => Arc::clone(payer),
                    None => {
                        let payer = self.payer(call.workspace, call.session).await?;
                        late.push((at, Arc::clone(&payer)));
                        payer
                    }
                };
                calls.extend(row(call, &payer));
            }
            let stored = self.0.store.write(move |tx| {
                let calls = calls.clone();
                Box::pin(async move {
                    for call in calls {
                        tx.add_model_call(call).await?;
                    }
                    Ok(())
                })
            });
            stored.await?;
            self.state().stored(batch.len(), &late);
            self.look();
        }
    }

    /// Waits until a request may go.
    async fn wait(self, asked: Asked, counted: Counted) -> Result<(), Stopped> {
        let failed = |error: boatyard_store::Error| {
            tracing::error!(error = %crate::chain(&error), "whether a request may go is not known");
            Stopped(
                "Boatyard could not read what models may cost, so it does not pass this request \
                 on. Try again; the server's log says why."
                    .to_owned(),
            )
        };
        let payer = self.payer(asked.workspace, asked.session).await.map_err(failed)?;
        if counted == Counted::No {
            self.0.rate.wait(Key::Member(payer.owner.member)).await;
        }
        let price = price(&asked);
        // What it used before counts first, also where the request did not say whose it was.
        if self.state().has_late(asked.workspace) {
            self.flush().await.map_err(failed)?;
        }
        let mut changed = self.0.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let judged = {
                let mut state = self.state();
                match state.has_room(PENDING) {
                    true => Some(state.judge(&payer, price, self.0.store.now())),
                    false => None,
                }
            };
            match judged {
                Some(Judged::Go) => return Ok(()),
                Some(Judged::Unknown) => self.read(&payer).await.map_err(failed)?,
                Some(Judged::Over(over)) => {
                    asking::wait(&self, &payer, price, &over, &mut changed)
                        .await
                        .map_err(failed)??;
                }
                // What ended before is to be stored first.
                None => {
                    if changed.changed().await.is_err() {
                        return Err(Stopped("Boatyard goes down.".to_owned()));
                    }
                }
            }
        }
    }

    /// Reads the budgets that hold for somebody, and what was spent of each.
    async fn read(&self, payer: &Payer) -> boatyard_store::Result<()> {
        let organization = payer.owner.organization;
        let _storing = self.0.storing.lock().await;
        let budgets = self.0.store.budgets(organization).await?;
        let now = self.0.store.now();
        let wanted = {
            let mut state = self.state();
            state.keep_budgets(organization, budgets);
            state.unknown(payer, now)
        };
        let quotas = self.0.store.quotas(organization).await?;
        let uses = {
            let mut state = self.state();
            state.keep_quotas(organization, quotas);
            state.unknown_uses(payer.owner)
        };
        for member in uses {
            let used = self.0.store.quota_use(organization, member).await?;
            self.state().keep_use(organization, member, used);
        }
        for (purse, since) in wanted {
            let spent =
                self.0.store.spent(organization, purse.scope, &purse.subject, since).await?;
            self.state().keep_spent(purse, since, spent);
        }
        Ok(())
    }
}

impl Purse for Ledger {
    fn admit(&self, asked: &Asked) -> Admission {
        let mut counted = Counted::No;
        {
            let mut state = self.state();
            if let Some(payer) = state.payer(asked.workspace, asked.session)
                && self.0.rate.take(Key::Member(payer.owner.member)).is_ok()
            {
                counted = Counted::Yes;
                if state.has_room(PENDING)
                    && !state.has_late(asked.workspace)
                    && let Judged::Go = state.judge(&payer, price(asked), self.0.store.now())
                {
                    return Admission::Go;
                }
            }
        }
        let waiting: Later<_> = Box::pin(self.clone().wait(asked.clone(), counted));
        Admission::Wait(waiting)
    }

    fn ended(&self, call: &Call) {
        if call.usage.is_none() {
            return;
        }
        self.state().ended(call);
        self.0.arrived.notify_one();
    }
}

/// Whether a request costs the organization money.
const fn price(asked: &Asked) -> Price {
    if asked.is_free { Price::Free } else { Price::Paid }
}

/// A call as it is stored.
fn row(call: &Call, payer: &Payer) -> Option<NewModelCall> {
    let usage = call.usage.as_ref()?;
    Some(NewModelCall {
        owner: payer.owner,
        time: call.time,
        workspace: call.workspace,
        session: payer.session,
        task: payer.task,
        attempt: payer.attempt,
        provider: call.provider.clone(),
        model: call.model.clone(),
        input: usage.tokens.input,
        output: usage.tokens.output,
        cache_read: usage.tokens.cache_read,
        cache_write: usage.tokens.cache_write,
        reasoning: usage.tokens.reasoning,
        micros: call.micros,
        paid_by: call.paid_by.as_deref().map(str::to_owned),
        estimated: usage.estimated,
        status: call.status.map(u32::from),
        millis: u64::try_from(call.duration.as_millis()).unwrap_or(u64::MAX),
    })
}

/// An amount for people: `$1.25`, and smaller ones as exactly as they are.
pub(crate) fn dollars(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    match rest % 10_000 {
        0 => format!("${whole}.{:02}", rest / 10_000),
        // A cent says nothing where what was spent is less.
        _ if micros < 1_000_000 => format!("${whole}.{rest:06}").trim_end_matches('0').to_owned(),
        _ => format!("${whole}.{:02}", rest / 10_000),
    }
}

/// What somebody wrote in US dollars, in micros.
pub(crate) fn micros(dollars: f64) -> Option<u64> {
    let micros = (dollars * 1_000_000.0).round();
    (micros.is_finite() && (0.0..=1e15).contains(&micros)).then_some(micros as u64)
}

/// Maps of what is remembered are forgotten when they are this large: all of it can be read again.
const REMEMBERED: usize = 8192;

/// Whom requests are made for, by where they come from.
type Payers = HashMap<(WorkspaceId, SessionId), Arc<Payer>>;

/// The beginning of the day of a moment, and of its month, in UTC.
fn day_of(now: Timestamp) -> Timestamp {
    const DAY: i64 = 86_400_000;
    Timestamp(now.0 - now.0.rem_euclid(DAY))
}

fn month_of(now: Timestamp) -> Timestamp {
    let text = now.to_string();
    // `2026-11-`
    let month = text.get(..8).unwrap_or_default();
    format!("{month}01T00:00:00Z").parse().unwrap_or_else(|_| day_of(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_as_people_write_it() {
        for (micros, expected) in [
            (0, "$0.00"),
            (5_000_000, "$5.00"),
            (1_234_567, "$1.23"),
            (500_000, "$0.50"),
            (1_200, "$0.0012"),
            (12_345_678_900, "$12345.67"),
        ] {
            assert_eq!(dollars(micros), expected);
        }
        assert_eq!(micros(0.1), Some(100_000));
        for wrong in [-1.0, f64::NAN, f64::INFINITY, 1e12] {
            assert_eq!(micros(wrong), None);
        }
    }

    #[test]
    fn periods_begin_at_midnight_and_on_the_first() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-21T12:34:56.789Z");
        assert_eq!(day_of(now), at("2026-11-21T00:00:00Z"));
        assert_eq!(month_of(now), at("2026-11-01T00:00:00Z"));
    }
}
