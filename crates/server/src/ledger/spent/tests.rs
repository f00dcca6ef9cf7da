//! Sums and budgets, without a store.

use std::time::Duration;

use boatyard_egress::gateway::{End, Tokens, Usage};
use boatyard_model::{AttemptId, BudgetId};
use boatyard_store::Owner;

use super::*;

const DAY: i64 = 86_400_000;

fn payer(limit: Option<u64>) -> Payer {
    let attempt = Some(AttemptId::new());
    Payer { owner: Owner::BUILT_IN, session: Some(SessionId::new()), task: None, attempt, limit }
}

fn call(workspace: WorkspaceId, payer: &Payer, time: i64, micros: u64) -> Call {
    Call {
        time: Timestamp(time),
        workspace,
        session: payer.session,
        provider: "openai".to_owned(),
        method: "POST".to_owned(),
        path: String::new(),
        status: Some(200),
        end: End::Complete,
        sent: 0,
        received: 0,
        duration: Duration::ZERO,
        held: Duration::ZERO,
        model: None,
        usage: Some(Usage {
            tokens: Tokens::default(),
            cache_write_long: 0,
            model: None,
            estimated: false,
        }),
        micros: Some(micros),
        paid_by: None,
        is_unauthorized: false,
        instead_of: None,
        next: None,
    }
}

fn budget(scope: BudgetScope, subject: String, period: BudgetPeriod, micros: u64) -> BudgetRow {
    BudgetRow {
        owner: Owner::BUILT_IN,
        id: BudgetId::new(),
        scope,
        subject,
        period,
        micros,
        extra: 0,
        extra_since: Timestamp(0),
        created: Timestamp(0),
    }
}

/// Reads as the ledger does, from a store in which nothing is.
fn read(state: &mut State, payer: &Payer, budgets: Vec<BudgetRow>, now: Timestamp) {
    state.keep_budgets(payer.owner.organization, budgets);
    state.keep_quotas(payer.owner.organization, vec![]);
    for (subject, since) in state.unknown(payer, now) {
        state.keep_spent(subject, since, 0);
    }
}

#[test]
fn what_ends_counts_at_once_and_an_attempt_has_the_limit_of_its_order() {
    let (mut state, workspace, now) = (State::default(), WorkspaceId::new(), Timestamp(DAY));
    let payer = Arc::new(payer(Some(100)));
    state.keep_payer(workspace, payer.session.unwrap(), &payer);
    assert_eq!(state.judge(&payer, Price::Paid, now), Judged::Unknown);
    read(&mut state, &payer, vec![], now);
    assert_eq!(state.judge(&payer, Price::Paid, now), Judged::Go);
    state.ended(&call(workspace, &payer, DAY, 99));
    assert_eq!(state.judge(&payer, Price::Paid, now), Judged::Go);
    state.ended(&call(workspace, &payer, DAY, 5));
    let Judged::Over(over) = state.judge(&payer, Price::Paid, now) else { panic!("it is spent") };
    assert_eq!((over.spent, over.limit, over.until), (104, 100, None));
    // Somebody raised it: the row says what it is now.
    let key = BudgetKey::attempt(payer.attempt.unwrap());
    let row = budget(key.scope, key.subject, key.period, 100);
    let raised = BudgetRow { extra: 50, extra_since: ALWAYS, ..row };
    read(&mut state, &payer, vec![raised], now);
    assert_eq!(state.judge(&payer, Price::Paid, now), Judged::Go);
}

#[test]
fn a_period_begins_with_nothing_spent_and_what_was_added_is_gone() {
    let (mut state, workspace) = (State::default(), WorkspaceId::new());
    let payer = Arc::new(payer(None));
    state.keep_payer(workspace, payer.session.unwrap(), &payer);
    let organization = payer.owner.organization.to_string();
    let row = budget(BudgetScope::Organization, organization, BudgetPeriod::Day, 10);
    let row = BudgetRow { extra: 5, extra_since: Timestamp(DAY), ..row };
    let today = Timestamp(DAY + 1);
    read(&mut state, &payer, vec![row.clone()], today);
    state.ended(&call(workspace, &payer, DAY + 1, 12));
    assert_eq!(state.judge(&payer, Price::Paid, today), Judged::Go);
    state.ended(&call(workspace, &payer, DAY + 2, 3));
    let Judged::Over(over) = state.judge(&payer, Price::Paid, today) else { panic!("it is spent") };
    assert_eq!((over.spent, over.limit, over.base), (15, 15, 10));
    assert_eq!(over.until, Some(Timestamp(2 * DAY)));
    let tomorrow = Timestamp(2 * DAY);
    assert_eq!(state.judge(&payer, Price::Paid, tomorrow), Judged::Unknown);
    read(&mut state, &payer, vec![row], tomorrow);
    assert_eq!(state.judge(&payer, Price::Paid, tomorrow), Judged::Go);
}

#[test]
fn a_sum_counts_each_call_once_whether_it_is_stored_or_waits() {
    let (mut state, workspace, now) = (State::default(), WorkspaceId::new(), Timestamp(DAY));
    let payer = Arc::new(payer(Some(1000)));
    let session = payer.session.unwrap();
    // Nobody knew who pays when this one ended.
    state.ended(&call(workspace, &payer, DAY, 1));
    state.keep_payer(workspace, session, &payer);
    state.ended(&call(workspace, &payer, DAY, 20));
    // The store has an older one; one of those that wait is counted already.
    state.keep_budgets(payer.owner.organization, vec![]);
    for (subject, since) in state.unknown(&payer, now) {
        state.keep_spent(subject, since, 300);
    }
    let spent = |state: &State| *state.spent.values().max().unwrap();
    assert_eq!(spent(&state), 320);
    let first = state.first(10);
    assert_eq!(first.len(), 2);
    state.stored(2, &[(0, Arc::clone(&payer))]);
    assert_eq!(spent(&state), 321);
    assert!(state.has_room(1));
}

#[test]
fn what_a_person_pays_is_nobody_elses_and_quotas_hold_for_it_all_the_same() {
    let (mut state, workspace, now) = (State::default(), WorkspaceId::new(), Timestamp(DAY));
    let payer = Arc::new(payer(Some(100)));
    state.keep_payer(workspace, payer.session.unwrap(), &payer);
    read(&mut state, &payer, vec![], now);
    let own = Call { paid_by: Some("mine".into()), ..call(workspace, &payer, DAY, 500) };
    state.ended(&own);
    assert_eq!(state.judge(&payer, Price::Paid, now), Judged::Go);
    let quota = QuotaRow {
        owner: Owner::BUILT_IN,
        id: boatyard_model::QuotaId::new(),
        scope: QuotaScope::Each,
        subject: payer.owner.organization.to_string(),
        kind: QuotaKind::Minutes,
        amount: 60_000,
        extra: 0,
        extra_since: Timestamp(0),
        imposed: false,
        created: Timestamp(0),
    };
    state.keep_quotas(payer.owner.organization, vec![quota]);
    assert_eq!(state.judge(&payer, Price::Free, now), Judged::Unknown);
    assert_eq!(state.unknown_uses(payer.owner).len(), 2);
    for (member, millis) in [(None, 90_000), (Some(payer.owner.member), 59_999)] {
        let used = QuotaUse { millis, ..QuotaUse::default() };
        state.keep_use(payer.owner.organization, member, used);
    }
    assert_eq!(state.judge(&payer, Price::Free, now), Judged::Go, "others used the rest");
    let used = QuotaUse { millis: 60_000, ..QuotaUse::default() };
    state.keep_use(payer.owner.organization, Some(payer.owner.member), used);
    let Judged::Over(over) = state.judge(&payer, Price::Free, now) else { panic!("it is used") };
    assert_eq!((over.key.unit, over.key.scope), (BudgetUnit::Minutes, BudgetScope::Person));
    assert_eq!((over.since, over.until), (Timestamp(DAY), Some(Timestamp(2 * DAY))));
}

#[test]
fn months_are_as_long_as_they_are() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    for (now, begin, end) in [
        ("2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("2026-12-31T00:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
    ] {
        let begun = since(BudgetPeriod::Month, at(now));
        assert_eq!((begun, until(BudgetPeriod::Month, begun)), (at(begin), Some(at(end))));
    }
}
