//! Sessions: prompts, turns, what waits for a person.

use std::time::Duration;

use boatyard_model::{
    AttemptState, EventBody, PermissionId, PromptMode, PromptState, QuestionId, SessionId,
    SessionState, Timestamp, TurnOutcome,
    event::{PermissionKind, PermissionOption, PermissionOutcome},
};
use boatyard_store::{
    AttemptUpdate, BUILT_IN_ORGANIZATION, Created, Error, JOB_TURN_COMPLETED, JobFilter, NewPrompt,
    NewSession, Owner, PermissionState, QuestionState, Resolution, Restarted, Store,
};

use crate::{World, event, task, text, world};

pub(crate) fn prompt(session: SessionId, mode: PromptMode, said: &str) -> NewPrompt {
    NewPrompt {
        owner: Owner::BUILT_IN,
        session,
        mode,
        content: text(said),
        author: Some("Owner".into()),
    }
}

async fn say(
    store: &Store,
    session: SessionId,
    mode: PromptMode,
    said: &str,
) -> boatyard_store::PromptRow {
    let new = prompt(session, mode, said);
    store.write(move |tx| Box::pin(tx.create_prompt(new))).await.unwrap()
}

fn completed(outcome: TurnOutcome) -> EventBody {
    EventBody::TurnCompleted { outcome, error: None, checkpoint: Some("c0ffee".into()), millis: 12 }
}

fn asked(permission: PermissionId, deadline: Timestamp) -> EventBody {
    let option = |id: &str, kind| PermissionOption { id: id.into(), name: id.into(), kind };
    EventBody::PermissionRequested {
        permission,
        tool: None,
        title: "Run rm".into(),
        options: vec![
            option("yes", PermissionKind::AllowOnce),
            option("no", PermissionKind::RejectOnce),
        ],
        deadline,
    }
}

async fn kinds(store: &Store, session: SessionId) -> Vec<String> {
    let events = store.read_events(session, 0, 1000).await.unwrap();
    events.iter().map(|event| event.kind.to_string()).collect()
}

/// A session that belongs to an attempt, and runs its first turn.
async fn working(world: &World) -> (SessionId, boatyard_model::AttemptId) {
    let workspace = world.workspace().await;
    let store = &world.store;
    let created = store.write(move |tx| Box::pin(tx.create_task(task("Work")))).await.unwrap();
    let Created::New(id, attempts) = created else { panic!() };
    let attempt = attempts[0];
    let session = SessionId::new();
    store
        .write(move |tx| {
            Box::pin(async move {
                tx.begin_next_attempt(9).await?;
                let new = NewSession {
                    settings: boatyard_model::AgentSettings::default(),
                    id: session,
                    owner: Owner::BUILT_IN,
                    workspace,
                    attempt: Some((id, attempt)),
                    agent: "demo".into(),
                    model: None,
                    cwd: "/work/b".into(),
                    client_key: None,
                };
                tx.create_session(new).await?;
                let update = AttemptUpdate {
                    session: Some(session),
                    workspace: Some(workspace),
                    ..AttemptUpdate::default()
                };
                tx.update_attempt(attempt, update).await?;
                tx.create_prompt(prompt(session, PromptMode::Queue, "Go")).await?;
                tx.deliver_prompt(session).await
            })
        })
        .await
        .unwrap()
        .unwrap();
    (session, attempt)
}

#[tokio::test]
async fn a_turn_runs_from_prompt_to_the_job_that_carries_on() {
    let world = world().await;
    let store = &world.store;
    let session = world.session().await;
    let first = say(store, session, PromptMode::Queue, "One").await;
    let second = say(store, session, PromptMode::Queue, "Two").await;
    let third = say(store, session, PromptMode::Interrupt, "Three").await;
    assert!(first.place < second.place && second.place < third.place);

    // What is queued can be changed and taken back.
    let edited = text("One, better");
    let id = first.id;
    store.write(move |tx| Box::pin(tx.edit_prompt(id, Some(edited), None))).await.unwrap();
    let id = second.id;
    store.write(move |tx| Box::pin(tx.withdraw_prompt(id))).await.unwrap();

    // Who interrupts comes first.
    let delivery = store.write(move |tx| Box::pin(tx.deliver_prompt(session))).await.unwrap();
    let delivery = delivery.unwrap();
    assert_eq!((delivery.turn, delivery.prompt), (1, third.id));
    let busy = store.write(move |tx| Box::pin(tx.deliver_prompt(session))).await.unwrap();
    assert!(busy.is_none(), "a turn is under way");
    let row = store.session(session).await.unwrap();
    assert_eq!((row.state, row.turn), (SessionState::Running, Some(1)));
    let late = store.write(move |tx| Box::pin(tx.withdraw_prompt(third.id))).await;
    assert!(matches!(late, Err(Error::IllegalState { kind: "prompt", .. })));

    store.append(vec![event(session, 1, completed(TurnOutcome::Completed))]).await.unwrap();
    let row = store.session(session).await.unwrap();
    assert_eq!((row.state, row.turn, row.turns), (SessionState::Idle, None, 1));
    let turn = store.turn(session, 1).await.unwrap();
    assert_eq!(turn.outcome, Some(TurnOutcome::Completed));
    assert_eq!(turn.checkpoint.as_deref(), Some("c0ffee"));
    assert_eq!(store.prompt(third.id).await.unwrap().state, PromptState::Done);
    let filter = JobFilter { kind: Some(JOB_TURN_COMPLETED.into()), ..JobFilter::default() };
    let jobs = store.list_jobs(BUILT_IN_ORGANIZATION, &filter, 10).await.unwrap();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].payload["turn"], 1);
    // Once more, from a new runner: the turn is over already.
    let mut again = event(session, 1, completed(TurnOutcome::Failed));
    again.origin = None;
    store.append(vec![again]).await.unwrap();
    assert_eq!(store.turn(session, 1).await.unwrap().outcome, Some(TurnOutcome::Completed));
    assert_eq!(store.list_jobs(BUILT_IN_ORGANIZATION, &filter, 10).await.unwrap().len(), 1);

    let delivery = store.write(move |tx| Box::pin(tx.deliver_prompt(session))).await.unwrap();
    let delivery = delivery.unwrap();
    assert_eq!((delivery.turn, delivery.prompt), (2, first.id));
    assert_eq!(delivery.content, text("One, better"));
    let steered = say(store, session, PromptMode::Steer, "Left").await.id;
    let turn = store.write(move |tx| Box::pin(tx.steer_prompt(steered, Restarted::No))).await;
    assert_eq!(turn.unwrap(), 2);
    assert_eq!(
        kinds(store, session).await,
        [
            "session.state",
            "turn.started",
            "session.state",
            "turn.completed",
            "session.state",
            "turn.completed",
            "turn.started",
            "session.state",
            "turn.steered"
        ]
    );
}

#[tokio::test]
async fn a_permission_waits_and_the_first_answer_wins() {
    let world = world().await;
    let store = &world.store;
    let (session, attempt) = working(&world).await;
    assert_eq!(store.attempt(attempt).await.unwrap().state, AttemptState::Running);
    let permission = PermissionId::new();
    let later = store.now().after(Duration::from_secs(60));
    store.append(vec![event(session, 1, asked(permission, later))]).await.unwrap();
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Waiting);
    assert_eq!(store.attempt(attempt).await.unwrap().state, AttemptState::Waiting);
    assert_eq!(store.open_decisions(session).await.unwrap().0[0].id, permission);
    let open = store.open_decisions_of(BUILT_IN_ORGANIZATION).await.unwrap();
    assert_eq!(open.keys().copied().collect::<Vec<_>>(), [session]);
    assert_eq!(open[&session].0[0].id, permission);
    assert_eq!(store.next_deadline().await.unwrap(), Some(later));

    let answer = |option: &str, outcome| {
        let resolution =
            Resolution { outcome, option: Some(option.into()), by: Some("Owner".into()) };
        store.write(move |tx| Box::pin(tx.resolve_permission(permission, resolution)))
    };
    let wrong = answer("perhaps", PermissionOutcome::Allowed).await;
    assert!(matches!(wrong, Err(Error::NoSuchOption { option, .. }) if option == "perhaps"));
    let (yes, no) = tokio::join!(
        answer("yes", PermissionOutcome::Allowed),
        answer("no", PermissionOutcome::Denied)
    );
    assert_eq!(yes.unwrap().state, PermissionState::Allowed);
    assert!(matches!(no, Err(Error::AlreadyResolved { outcome, .. }) if outcome == "allowed"));
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Running);
    assert_eq!(store.attempt(attempt).await.unwrap().state, AttemptState::Running);
}

#[tokio::test]
async fn what_nobody_answers_ends_by_its_deadline_or_its_turn() {
    let world = world().await;
    let store = &world.store;
    let (session, _) = working(&world).await;
    let soon = store.now().after(Duration::from_secs(5));
    let later = store.now().after(Duration::from_secs(500));
    let (first, second) = (PermissionId::new(), PermissionId::new());
    let question = QuestionId::new();
    let asks = EventBody::QuestionAsked {
        question,
        text: "Which?".into(),
        options: vec!["a".into()],
        deadline: soon,
    };
    let events = vec![
        event(session, 1, asked(first, soon)),
        event(session, 2, asked(second, later)),
        event(session, 3, asks),
        // The same id again changes nothing.
        event(session, 4, asked(second, soon)),
    ];
    store.append(events).await.unwrap();
    world.clock.forward(Duration::from_secs(6));
    let (permissions, questions) =
        store.write(move |tx| Box::pin(tx.expire_decisions(10))).await.unwrap();
    assert_eq!(permissions.iter().map(|row| row.id).collect::<Vec<_>>(), [first]);
    assert_eq!(permissions[0].state, PermissionState::Expired);
    assert_eq!(questions.len(), 1);
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Waiting);

    store.append(vec![event(session, 5, completed(TurnOutcome::Cancelled))]).await.unwrap();
    assert_eq!(store.permission(second).await.unwrap().state, PermissionState::Cancelled);
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Idle);
    assert_eq!(store.next_deadline().await.unwrap(), None);
}

#[tokio::test]
async fn what_an_agent_withdraws_is_closed_in_its_own_session_and_never_an_answer() {
    let world = world().await;
    let store = &world.store;
    let (session, attempt) = working(&world).await;
    let other = world.session().await;
    let later = store.now().after(Duration::from_secs(500));
    let (permission, question) = (PermissionId::new(), QuestionId::new());
    let (text, options) = ("Which?".to_owned(), vec![]);
    let asks = EventBody::QuestionAsked { question, text, options, deadline: later };
    let events = vec![event(session, 1, asked(permission, later)), event(session, 2, asks)];
    store.append(events).await.unwrap();
    let withdraw = async |session| {
        let permission =
            store.write(move |tx| Box::pin(tx.withdraw_permission(session, permission))).await;
        permission.unwrap().map(|row| row.state)
    };
    assert_eq!(withdraw(other).await, None);
    assert_eq!(store.permission(permission).await.unwrap().state, PermissionState::Open);

    assert_eq!(withdraw(session).await, Some(PermissionState::Cancelled));
    assert_eq!(withdraw(session).await, None, "once");
    let row = store.permission(permission).await.unwrap();
    assert_eq!((row.choice, row.resolver), (None, None));
    assert_eq!(store.attempt(attempt).await.unwrap().state, AttemptState::Waiting);

    let closed = store
        .write(move |tx| Box::pin(tx.withdraw_question(session, question)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((closed.state, closed.answer), (QuestionState::Cancelled, None));
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Running);
    assert_eq!(store.attempt(attempt).await.unwrap().state, AttemptState::Running);
    let kinds: Vec<String> = store
        .read_events_before(session, u64::MAX, 3)
        .await
        .unwrap()
        .iter()
        .map(|event| event.kind.to_string())
        .collect();
    assert_eq!(kinds, ["permission.resolved", "question.answered", "session.state"]);
}

#[tokio::test]
async fn an_ended_session_takes_nothing_more() {
    let world = world().await;
    let store = &world.store;
    let session = world.session().await;
    let queued = say(store, session, PromptMode::Queue, "Late").await.id;
    store.write(move |tx| Box::pin(tx.end_session(session, Some("gone".into())))).await.unwrap();
    assert_eq!(store.prompt(queued).await.unwrap().state, PromptState::Withdrawn);
    let new = prompt(session, PromptMode::Queue, "Too late");
    let refused = store.write(move |tx| Box::pin(tx.create_prompt(new))).await;
    assert!(matches!(refused, Err(Error::IllegalState { kind: "session", .. })));
    let last = store.read_events_before(session, u64::MAX, 1).await.unwrap();
    assert!(last[0].json.contains(r#""type":"session.state","state":"ended","reason":"gone""#));
}

#[tokio::test]
async fn a_client_s_key_finds_its_session() {
    let world = world().await;
    let workspace = world.workspace().await;
    let create = || {
        let new = NewSession {
            settings: boatyard_model::AgentSettings::default(),
            id: SessionId::new(),
            owner: Owner::BUILT_IN,
            workspace,
            attempt: None,
            agent: "demo".into(),
            model: None,
            cwd: "/work".into(),
            client_key: Some("mine".into()),
        };
        world.store.write(move |tx| Box::pin(tx.create_session(new)))
    };
    let (first, second) = tokio::join!(create(), create());
    assert_eq!(first.unwrap().id, second.unwrap().id);
}
