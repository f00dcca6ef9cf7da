//! What models cost, and what they may.

use boatyard_model::{
    PromptMode, SessionId, SessionState, TaskId, Timestamp, WorkspaceId,
    event::{PermissionKind, PermissionOption, PermissionOutcome},
};
use boatyard_store::{
    BUILT_IN_ORGANIZATION, BudgetKey, BudgetPeriod, BudgetScope, BudgetUnit, Error, NewBudgetAsk,
    NewModelCall, Owner, Resolution, UsageFilter, UsageGroup, UsageSum,
};

use crate::{World, world};

const DAY: i64 = 86_400_000;

fn call(time: i64, model: Option<&str>, micros: Option<u64>) -> NewModelCall {
    NewModelCall {
        owner: Owner::BUILT_IN,
        time: Timestamp(time),
        workspace: WorkspaceId::new(),
        session: None,
        task: None,
        attempt: None,
        provider: "openai".to_owned(),
        model: model.map(str::to_owned),
        input: 10,
        output: 5,
        cache_read: 1,
        cache_write: 0,
        reasoning: 2,
        micros,
        paid_by: None,
        estimated: micros.is_none(),
        status: Some(200),
        millis: 7,
    }
}

async fn keep(world: &World, calls: Vec<NewModelCall>) {
    let write = world.store.write(move |tx| {
        Box::pin(async move {
            for call in calls {
                tx.add_model_call(call).await?;
            }
            Ok(())
        })
    });
    write.await.unwrap();
}

fn shown(sums: &[UsageSum]) -> Vec<(Option<&str>, u64, u64, u64)> {
    sums.iter().map(|sum| (sum.label.as_deref(), sum.calls, sum.micros, sum.unknown)).collect()
}

#[tokio::test]
async fn usage_is_put_together_by_what_one_wants() {
    let world = world().await;
    let (task, session) = (TaskId::new(), SessionId::new());
    let mut of_task = call(DAY + 5, Some("a"), Some(300));
    (of_task.task, of_task.session) = (Some(task), Some(session));
    let calls = vec![
        call(3, Some("a"), Some(100)),
        call(DAY - 1, Some("b"), Some(50)),
        of_task,
        call(2 * DAY, Some("c"), None),
        call(2 * DAY, None, Some(0)),
    ];
    keep(&world, calls).await;
    let store = &world.store;
    let by =
        async |group, filter| store.usage_by(BUILT_IN_ORGANIZATION, group, filter).await.unwrap();
    let all = UsageFilter::default;
    let days = by(UsageGroup::Day, all()).await;
    let expected =
        [(Some("0"), 2, 150, 0), (Some("86400000"), 1, 300, 0), (Some("172800000"), 2, 0, 1)];
    assert_eq!(shown(&days), expected);
    let models = by(UsageGroup::Model, all()).await;
    let expected =
        [(Some("a"), 2, 400, 0), (Some("b"), 1, 50, 0), (None, 1, 0, 0), (Some("c"), 1, 0, 1)];
    assert_eq!(shown(&models), expected);
    let of_task = UsageFilter { task: Some(task), ..all() };
    assert_eq!(shown(&by(UsageGroup::Provider, of_task).await), [(Some("openai"), 1, 300, 0)]);
    let first_day = UsageFilter { to: Some(Timestamp(DAY)), ..all() };
    let sum = store.usage_in_all(BUILT_IN_ORGANIZATION, first_day).await.unwrap();
    assert_eq!((sum.calls, sum.input, sum.output, sum.reasoning), (2, 20, 10, 4));
    let none = UsageFilter { model: Some("d".to_owned()), ..all() };
    let sum = store.usage_in_all(BUILT_IN_ORGANIZATION, none).await.unwrap();
    assert_eq!((sum.calls, sum.micros), (0, 0));
    assert!(store.has_usage(session).await.unwrap());
    assert!(!store.has_usage(SessionId::new()).await.unwrap());
    let since = async |scope, subject: &str, since| {
        store.spent(BUILT_IN_ORGANIZATION, scope, subject, Timestamp(since)).await.unwrap()
    };
    let (organization, task) = (BUILT_IN_ORGANIZATION.to_string(), task.to_string());
    assert_eq!(since(BudgetScope::Organization, &organization, 0).await, 450);
    assert_eq!(since(BudgetScope::Organization, &organization, DAY).await, 300);
    assert_eq!(since(BudgetScope::Task, &task, 0).await, 300);
    assert_eq!(since(BudgetScope::Person, &Owner::BUILT_IN.member.to_string(), 4).await, 350);
}

#[tokio::test]
async fn a_budget_is_one_and_is_raised_for_its_period() {
    let world = world().await;
    let store = &world.store;
    let key = BudgetKey {
        scope: BudgetScope::Organization,
        subject: BUILT_IN_ORGANIZATION.to_string(),
        period: BudgetPeriod::Day,
        unit: BudgetUnit::Money,
    };
    let set = |micros| {
        let key = key.clone();
        store.write(move |tx| {
            Box::pin(async move { tx.set_budget(Owner::BUILT_IN, key, micros).await })
        })
    };
    let raise = |since, micros| {
        let key = key.clone();
        let since = Timestamp(since);
        store.write(move |tx| {
            Box::pin(async move { tx.raise_budget(Owner::BUILT_IN, key, 0, since, micros).await })
        })
    };
    let first = set(100).await.unwrap();
    assert_eq!(set(200).await.unwrap().id, first.id);
    raise(DAY, 10).await.unwrap();
    raise(DAY, 5).await.unwrap();
    let row = &store.budgets(BUILT_IN_ORGANIZATION).await.unwrap()[0];
    assert_eq!((row.micros, row.extra, row.extra_since), (200, 15, Timestamp(DAY)));
    raise(2 * DAY, 7).await.unwrap();
    let row = &store.budgets(BUILT_IN_ORGANIZATION).await.unwrap()[0];
    assert_eq!((row.extra, row.extra_since), (7, Timestamp(2 * DAY)));
    let remove = |id| {
        store.write(move |tx| {
            Box::pin(async move { tx.remove_budget(BUILT_IN_ORGANIZATION, id).await })
        })
    };
    remove(first.id).await.unwrap();
    assert!(matches!(remove(first.id).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_session_that_asks_for_money_waits_and_asks_once() {
    let world = world().await;
    let store = &world.store;
    let session = world.session().await;
    let ask = || {
        let option = PermissionOption {
            id: "raise_5".to_owned(),
            name: "Raise".to_owned(),
            kind: PermissionKind::AllowOnce,
        };
        let budget = BudgetKey {
            scope: BudgetScope::Attempt,
            subject: "att_x".to_owned(),
            period: BudgetPeriod::Total,
            unit: BudgetUnit::Money,
        };
        let ask = NewBudgetAsk {
            session,
            budget,
            since: Timestamp(0),
            base: 5,
            title: "More?".to_owned(),
            options: vec![option],
            deadline: Timestamp(i64::MAX),
        };
        store.write(move |tx| Box::pin(async move { tx.ask_for_budget(ask).await }))
    };
    assert_eq!(ask().await.unwrap(), None, "no turn that could wait");
    let say = crate::sessions::prompt(session, PromptMode::Queue, "Go");
    let deliver = store.write(move |tx| {
        Box::pin(async move {
            tx.create_prompt(say).await?;
            tx.deliver_prompt(session).await
        })
    });
    deliver.await.unwrap().expect("a turn");
    let permission = ask().await.unwrap().expect("it is asked");
    assert_eq!(ask().await.unwrap(), Some(permission));
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Waiting);
    let row = store.budget_ask(permission).await.unwrap().unwrap();
    assert_eq!((row.base, row.session), (5, session));
    let yes = Resolution {
        outcome: PermissionOutcome::Allowed,
        option: Some("raise_5".to_owned()),
        by: None,
    };
    let resolve = store
        .write(move |tx| Box::pin(async move { tx.resolve_permission(permission, yes).await }));
    resolve.await.unwrap();
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Running);
    assert_ne!(ask().await.unwrap(), Some(permission), "the next is another");
}
