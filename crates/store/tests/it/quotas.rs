//! What may be used, whose turn it is, and what was used each day.

use boatyard_model::{
    AttemptState, MemberId, OrganizationId, PromptMode, SessionId, SessionState, Timestamp,
};
use boatyard_store::{
    BUILT_IN_ORGANIZATION, DAY, Error, Imposed, NewPrompt, NewTask, Owner, QuotaKey, QuotaKind,
    QuotaScope, TaskDetail,
};

use crate::{World, task, text, world};

/// Somebody of an organization, both of them made.
async fn person(world: &World, organization: u128, member: u128) -> Owner {
    let owner = Owner {
        organization: OrganizationId::from_u128(organization),
        member: MemberId::from_u128(member),
    };
    let path = world.path.clone();
    let made = tokio::task::spawn_blocking(move || {
        let conn = rusqlite::Connection::open(path).unwrap();
        conn.busy_timeout(crate::LONG).unwrap();
        let (organization, member) = (owner.organization.to_string(), owner.member.to_string());
        conn.execute(
            "INSERT OR IGNORE INTO organization (id, name, created) VALUES (?1, ?1, 0)",
            [&organization],
        )
        .unwrap();
        conn.execute(
            "INSERT OR IGNORE INTO member (id, organization, name, created) VALUES (?2, ?1, ?2, 0)",
            [&organization, &member],
        )
        .unwrap();
    });
    made.await.unwrap();
    owner
}

async fn order(world: &World, owner: Owner, title: &str, priority: i64) -> TaskDetail {
    let new = NewTask { owner, priority, ..task(title) };
    let created = world.store.write(move |tx| Box::pin(tx.create_task(new))).await.unwrap();
    world.store.task(created.id()).await.unwrap()
}

/// The title of the task that begins next.
async fn next(world: &World, places: u32) -> Option<String> {
    let begun = world.store.write(move |tx| Box::pin(tx.begin_next_attempt(places))).await.unwrap();
    let attempt = begun?;
    Some(world.store.task(attempt.task).await.unwrap().task.title)
}

async fn set(world: &World, owner: Owner, scope: QuotaScope, kind: QuotaKind, amount: u64) {
    let subject = match scope {
        QuotaScope::Person => owner.member.to_string(),
        QuotaScope::Organization | QuotaScope::Each => owner.organization.to_string(),
    };
    let key = QuotaKey { scope, subject, kind };
    world
        .store
        .write(move |tx| {
            let key = key.clone();
            Box::pin(async move { tx.set_quota(owner, key, amount, Imposed::No).await })
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn organizations_take_turns_and_each_has_its_own_order() {
    let world = world().await;
    let (a, b) = (person(&world, 7, 7).await, person(&world, 8, 8).await);
    for title in ["a1", "a2", "a3", "a4"] {
        order(&world, a, title, 0).await;
    }
    order(&world, b, "b1", 0).await;
    order(&world, b, "b urgent", 1).await;
    order(&world, b, "b2", 0).await;
    let mut begun = Vec::new();
    while let Some(title) = next(&world, 9).await {
        begun.push(title);
    }
    // A later order of another organization does not wait behind all of the first one's.
    assert_eq!(begun, ["a1", "b urgent", "a2", "b1", "a3", "b2", "a4"]);
    assert_eq!(next(&world, 9).await, None);
}

#[tokio::test]
async fn who_has_reached_a_quota_waits_with_a_reason_and_holds_up_nobody_else() {
    let world = world().await;
    let (ann, ben) = (person(&world, 7, 7).await, person(&world, 7, 8).await);
    set(&world, ann, QuotaScope::Each, QuotaKind::Tasks, 1).await;
    order(&world, ann, "ann 1", 0).await;
    let held = order(&world, ann, "ann 2", 5).await;
    order(&world, ben, "ben 1", 0).await;
    assert_eq!(next(&world, 9).await.as_deref(), Some("ann 2"), "it is urgent");
    assert_eq!(next(&world, 9).await.as_deref(), Some("ben 1"));
    assert_eq!(next(&world, 9).await, None);
    let first = world.store.list_tasks(ann.organization, Default::default(), 9).await.unwrap();
    let waits = first.iter().find(|row| row.title == "ann 1").unwrap();
    let reason = world.store.attempts(waits.id).await.unwrap().remove(0).reason.unwrap();
    assert_eq!(reason.code, "quota_tasks");
    assert!(reason.text.starts_with("This person may have 1 task under way"), "{}", reason.text);
    // One's own goes before that of each.
    set(&world, ann, QuotaScope::Person, QuotaKind::Tasks, 2).await;
    assert_eq!(next(&world, 9).await.as_deref(), Some("ann 1"));
    let begun = world.store.attempts(waits.id).await.unwrap().remove(0);
    assert_eq!((begun.state, begun.reason), (AttemptState::Preparing, None));
    // That of the organization holds for all together.
    set(&world, ann, QuotaScope::Organization, QuotaKind::Tasks, 3).await;
    order(&world, ben, "ben 2", 0).await;
    assert_eq!(next(&world, 9).await, None);
    let id = held.attempts[0].id;
    let end = AttemptState::Cancelled;
    let ended = world.store.write(move |tx| Box::pin(tx.set_attempt_state(id, end, None)));
    ended.await.unwrap();
    // Each has one under way again, and one is as many as ben may.
    assert_eq!(next(&world, 9).await, None);
    set(&world, ben, QuotaScope::Each, QuotaKind::Tasks, 2).await;
    assert_eq!(next(&world, 9).await.as_deref(), Some("ben 2"));
}

#[tokio::test]
async fn a_machine_with_too_much_to_do_is_the_reason_until_something_begins() {
    let world = world().await;
    let detail = order(&world, Owner::BUILT_IN, "one", 0).await;
    let reason = async || world.store.attempts(detail.task.id).await.unwrap().remove(0).reason;
    let held = world.store.write(|tx| Box::pin(tx.hold_queued("There is no memory.")));
    held.await.unwrap();
    assert_eq!(reason().await.unwrap().code, "load");
    assert_eq!(next(&world, 0).await, None);
    assert_eq!(reason().await, None, "now it waits for a place only");
    assert_eq!(next(&world, 1).await.as_deref(), Some("one"));
}

async fn run(world: &World, session: SessionId) {
    let prompt = NewPrompt {
        owner: Owner::BUILT_IN,
        session,
        mode: PromptMode::Queue,
        content: text("go"),
        author: None,
    };
    let begun = world.store.write(move |tx| {
        let prompt = prompt.clone();
        Box::pin(async move {
            tx.create_prompt(prompt).await?;
            tx.deliver_prompt(session).await
        })
    });
    assert!(begun.await.unwrap().is_some());
}

/// Moves the clock to this time.
fn at(world: &World, time: i64) {
    world.clock.advance(time - world.store.now().0);
}

async fn become_(world: &World, session: SessionId, state: SessionState) {
    let write = world.store.write(move |tx| Box::pin(tx.set_session_state(session, state, None)));
    write.await.unwrap();
}

#[tokio::test]
async fn time_is_counted_while_an_agent_works_and_split_at_midnight() {
    let world = world().await;
    let session = world.session().await;
    let minutes = async || world.store.quota_use(BUILT_IN_ORGANIZATION, None).await.unwrap().millis;
    // Half an hour before midnight.
    at(&world, 2 * DAY - 1_800_000);
    run(&world, session).await;
    at(&world, 2 * DAY - 600_000);
    assert_eq!(minutes().await, 1_200_000, "it shows before it is stored");
    become_(&world, session, SessionState::Waiting).await;
    at(&world, 2 * DAY - 300_000);
    assert_eq!(minutes().await, 1_200_000, "who waits for a person does not work");
    become_(&world, session, SessionState::Running).await;
    at(&world, 2 * DAY + 60_000);
    assert_eq!(minutes().await, 60_000, "a new day");
    let quota = (QuotaScope::Organization, QuotaKind::Minutes);
    set(&world, Owner::BUILT_IN, quota.0, quota.1, 60_000).await;
    let kinds = [QuotaKind::Minutes];
    let reached = world.store.quota_reached(Owner::BUILT_IN, &kinds).await.unwrap().unwrap();
    assert_eq!((reached.limit, reached.used), (60_000, 60_000));
    // Somebody gives more for today.
    let key = reached.row.key();
    let raise = world.store.write(move |tx| {
        let key = key.clone();
        Box::pin(async move {
            tx.raise_quota(Owner::BUILT_IN, key, 60_000, Timestamp(2 * DAY), 60_000).await
        })
    });
    raise.await.unwrap();
    assert!(world.store.quota_reached(Owner::BUILT_IN, &kinds).await.unwrap().is_none());
    // The day before is stored, twice without harm.
    for _ in 0..2 {
        let stored = world.store.write(|tx| {
            Box::pin(async move {
                tx.count_clocks().await?;
                tx.store_days(BUILT_IN_ORGANIZATION, 7).await
            })
        });
        stored.await.unwrap();
    }
    let days = async |from: i64, to: i64| {
        let days = world.store.days(BUILT_IN_ORGANIZATION, Timestamp(from), Timestamp(to));
        days.await.unwrap().iter().map(|row| (row.day.0 / DAY, row.millis)).collect::<Vec<_>>()
    };
    assert_eq!(days(0, 2 * DAY).await, [(1, 1_500_000)]);
    assert_eq!(days(0, 3 * DAY).await, [(1, 1_500_000), (2, 60_000)]);
    become_(&world, session, SessionState::Idle).await;
    at(&world, 2 * DAY + 120_000);
    assert_eq!(days(2 * DAY, 3 * DAY).await, [(2, 60_000)]);
}

#[tokio::test]
async fn what_would_go_past_a_quota_is_refused_in_its_transaction() {
    let world = world().await;
    let owner = Owner::BUILT_IN;
    world.workspace().await;
    set(&world, owner, QuotaScope::Person, QuotaKind::Workspaces, 1).await;
    let kinds = &QuotaKind::OF_WORKSPACES;
    let refused = world.store.write(move |tx| Box::pin(tx.within_quota(owner, kinds))).await;
    let Err(Error::Quota { reason }) = refused else { panic!("{refused:?}") };
    assert_eq!(reason.code, "quota_workspaces");
    // An attempt waits for it instead.
    order(&world, owner, "one", 0).await;
    assert_eq!(next(&world, 9).await, None);
    let rows = world.store.quotas(BUILT_IN_ORGANIZATION).await.unwrap();
    let id = rows[0].id;
    let gone = world.store.write(move |tx| Box::pin(tx.remove_quota(BUILT_IN_ORGANIZATION, id)));
    gone.await.unwrap();
    assert_eq!(next(&world, 9).await.as_deref(), Some("one"));
}
