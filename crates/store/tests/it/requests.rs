//! What left workspaces, and what waits for a person.

use std::time::Duration;

use boatyard_model::{
    AskAnswer, AskState, EventBody, PromptMode, RequestVerdict, RequestWay, RuleSpec, SessionState,
    Timestamp, WorkspaceId,
};
use boatyard_store::{
    AskFilter, AskOutcome, Asking, BUILT_IN_ORGANIZATION, Error, NewAsk, NewPrompt, NewRule, Owner,
    RequestFilter, RequestGroup, RequestPage, RequestRow, RulePlace, Store,
};

use crate::{World, text, world};

fn request(workspace: WorkspaceId, time: i64, host: &str) -> RequestRow {
    RequestRow {
        way: RequestWay::Proxy,
        method: "GET".into(),
        host: host.into(),
        port: 443,
        path: Some("/a".into()),
        verdict: RequestVerdict::Allowed,
        status: Some(200),
        sent: 1,
        received: 10,
        micros: 1500,
        ..RequestRow::new(Owner::BUILT_IN, workspace, Timestamp(time))
    }
}

async fn log(store: &Store, rows: Vec<RequestRow>) {
    store.write(move |tx| Box::pin(async move { tx.log_requests(rows).await })).await.unwrap();
}

async fn hosts(store: &Store, filter: &RequestFilter, page: RequestPage) -> Vec<String> {
    let rows = store.list_requests(BUILT_IN_ORGANIZATION, filter, page, 100).await.unwrap();
    rows.into_iter().map(|row| row.host).collect()
}

#[tokio::test]
async fn the_log_is_read_in_pages_filtered_and_added_up() {
    let World { store, .. } = &world().await;
    let (one, two) = (WorkspaceId::new(), WorkspaceId::new());
    let mut rows: Vec<RequestRow> =
        (0..300).map(|n| request(one, n * 1000, &format!("h{n}.example"))).collect();
    rows.push(RequestRow {
        verdict: RequestVerdict::Denied,
        rule: Some("never".into()),
        reason: Some("rule `never` forbids it".into()),
        status: None,
        ..request(two, 300_000, "a.evil.test")
    });
    rows.push(RequestRow { way: RequestWay::Git, ..request(two, 301_000, "evil.test") });
    let expected = rows.clone();
    log(store, rows).await;

    let all = RequestFilter::default();
    let whole = store
        .list_requests(BUILT_IN_ORGANIZATION, &all, RequestPage::After(0), 1000)
        .await
        .unwrap();
    let same: Vec<RequestRow> =
        whole.iter().map(|row| RequestRow { number: 0, ..row.clone() }).collect();
    assert_eq!(same, expected);

    // Pages follow each other without a gap.
    let mut seen = 0;
    let mut page = RequestPage::NEWEST;
    loop {
        let rows = store.list_requests(BUILT_IN_ORGANIZATION, &all, page, 50).await.unwrap();
        let Some(last) = rows.last() else { break };
        seen += rows.len();
        page = RequestPage::Before(last.number);
    }
    assert_eq!(seen, 302);

    let check = async |filter: RequestFilter, expected: &[&str]| {
        assert_eq!(hosts(store, &filter, RequestPage::NEWEST).await, expected, "{filter:?}");
    };
    let none = RequestFilter::default;
    check(RequestFilter { workspace: Some(two), ..none() }, &["evil.test", "a.evil.test"]).await;
    check(RequestFilter { host: Some("*.evil.test".into()), ..none() }, &["a.evil.test"]).await;
    check(RequestFilter { host: Some("evil.test".into()), ..none() }, &["evil.test"]).await;
    check(RequestFilter { way: Some(RequestWay::Git), ..none() }, &["evil.test"]).await;
    let denied = Some(RequestVerdict::Denied);
    check(RequestFilter { verdict: denied, ..none() }, &["a.evil.test"]).await;
    check(RequestFilter { rule: Some("never".into()), ..none() }, &["a.evil.test"]).await;
    let (from, to) = (Some(Timestamp(1000)), Some(Timestamp(3000)));
    check(RequestFilter { from, to, ..none() }, &["h2.example", "h1.example"]).await;
    check(RequestFilter { program: Some("curl".into()), ..none() }, &[]).await;

    let minutes = store
        .request_buckets(BUILT_IN_ORGANIZATION, &all, RequestGroup::Verdict, 60_000, 100)
        .await
        .unwrap();
    let counts: Vec<(i64, &str, u64)> =
        minutes.iter().map(|sum| (sum.time.0, sum.key.as_str(), sum.count)).collect();
    let mut expected: Vec<(i64, &str, u64)> = (0..5).map(|n| (n * 60_000, "allowed", 60)).collect();
    expected.extend([(300_000, "allowed", 1), (300_000, "denied", 1)]);
    assert_eq!(counts, expected);
    let top =
        store.top_requests(BUILT_IN_ORGANIZATION, &all, RequestGroup::Workspace, 10).await.unwrap();
    assert_eq!((top[0].key.clone(), top[0].count, top[0].refused), (one.to_string(), 300, 0));
    assert_eq!((top[1].count, top[1].refused, top[1].received), (2, 1, 20));
}

#[tokio::test]
async fn a_long_log_is_read_in_pages_that_find_the_few_that_are_wanted() {
    const ROWS: i64 = 100_000;
    const EVERY: i64 = 997;
    let World { store, .. } = &world().await;
    let (crowd, few) = (WorkspaceId::new(), WorkspaceId::new());
    let row = |n: i64| {
        let is_rare = n % EVERY == 0;
        RequestRow {
            verdict: if is_rare { RequestVerdict::Denied } else { RequestVerdict::Allowed },
            ..request(
                if is_rare { few } else { crowd },
                n,
                if is_rare { "rare.example" } else { "usual.example" },
            )
        }
    };
    for first in (0..ROWS).step_by(10_000) {
        log(store, (first..first + 10_000).map(row).collect()).await;
    }
    let rare: Vec<i64> = (0..ROWS).filter(|n| n % EVERY == 0).rev().collect();
    let none = RequestFilter::default;
    for filter in [
        RequestFilter { workspace: Some(few), ..none() },
        RequestFilter { host: Some("rare.example".into()), ..none() },
        RequestFilter { host: Some("*.example".into()), workspace: Some(few), ..none() },
        RequestFilter { verdict: Some(RequestVerdict::Denied), ..none() },
    ] {
        let (mut times, mut page) = (Vec::new(), RequestPage::NEWEST);
        loop {
            let rows = store.list_requests(BUILT_IN_ORGANIZATION, &filter, page, 40).await.unwrap();
            let Some(last) = rows.last() else { break };
            page = RequestPage::Before(last.number);
            times.extend(rows.iter().map(|row| row.time.0));
        }
        assert_eq!(times, rare, "{filter:?}");
    }
    // From the middle, both ways; and added up.
    let newest = store.list_requests(BUILT_IN_ORGANIZATION, &none(), RequestPage::NEWEST, 1).await;
    let middle = newest.unwrap()[0].number - 50_000;
    for (page, expected) in [
        (RequestPage::Before(middle), [49_998, 49_997]),
        (RequestPage::After(middle), [50_000, 50_001]),
    ] {
        let rows = store.list_requests(BUILT_IN_ORGANIZATION, &none(), page, 2).await.unwrap();
        assert_eq!([rows[0].time.0, rows[1].time.0], expected);
    }
    let top = store.top_requests(BUILT_IN_ORGANIZATION, &none(), RequestGroup::Host, 10).await;
    let counts: Vec<(String, u64)> =
        top.unwrap().into_iter().map(|sum| (sum.key, sum.count)).collect();
    let few = rare.len() as u64;
    let expected = [("usual.example", ROWS as u64 - few), ("rare.example", few)];
    assert_eq!(counts, expected.map(|(host, count)| (host.to_owned(), count)));
}

#[tokio::test]
async fn the_log_keeps_so_many_rows_and_days() {
    let World { store, .. } = &world().await;
    let workspace = WorkspaceId::new();
    log(store, (0..100).map(|n| request(workspace, n, &n.to_string())).collect()).await;
    let trim = async |before: i64, rows: u64, limit: u32| {
        store
            .write(move |tx| {
                Box::pin(async move { tx.trim_requests(Timestamp(before), rows, limit).await })
            })
            .await
            .unwrap()
    };
    let left = async || hosts(store, &RequestFilter::default(), RequestPage::After(0)).await;
    assert_eq!(trim(0, 1000, 50).await, 0);
    assert_eq!(trim(10, 1000, 50).await, 10);
    assert_eq!(left().await.first().unwrap(), "10");
    assert_eq!(trim(0, 20, 50).await, 50);
    assert_eq!(trim(0, 20, 50).await, 20);
    assert_eq!(trim(0, 20, 50).await, 0);
    let left = left().await;
    assert_eq!((left.len(), left[0].as_str()), (20, "80"));
}

fn question(world: &World, workspace: WorkspaceId, words: &str) -> NewAsk {
    NewAsk {
        workspace,
        question: words.into(),
        method: Some("GET".into()),
        host: "api.example".into(),
        port: 443,
        path: Some("/x".into()),
        shape: Some("/x".into()),
        rule: "ask first".into(),
        credential: None,
        program: None,
        deadline: world.store.now().after(Duration::from_secs(300)),
    }
}

async fn ask(store: &Store, new: NewAsk) -> Asking {
    store.write(move |tx| Box::pin(async move { tx.open_ask(new, 2).await })).await.unwrap()
}

/// A workspace with a session that is in its first turn.
async fn at_work(world: &World) -> (WorkspaceId, boatyard_model::SessionId) {
    let workspace = world.workspace().await;
    let session = world.session_in(workspace).await;
    let prompt = NewPrompt {
        owner: Owner::BUILT_IN,
        session,
        mode: PromptMode::Queue,
        content: text("work"),
        author: None,
    };
    world
        .store
        .write(move |tx| {
            Box::pin(async move {
                tx.create_prompt(prompt).await?;
                tx.set_session_state(session, SessionState::Idle, None).await?;
                tx.set_session_state(session, SessionState::Running, None).await.map(drop)
            })
        })
        .await
        .unwrap();
    (workspace, session)
}

#[tokio::test]
async fn a_question_is_asked_once_told_and_answered_once() {
    let world = world().await;
    let store = &world.store;
    let (workspace, session) = at_work(&world).await;
    let Asking::New(row) = ask(store, question(&world, workspace, "q")).await else {
        panic!("not asked")
    };
    assert_eq!((row.state, row.session), (AskState::Open, Some(session)));
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Waiting);
    let Asking::Shared(same) = ask(store, question(&world, workspace, "q")).await else {
        panic!("asked twice")
    };
    assert_eq!(same.id, row.id);
    let Asking::New(other) = ask(store, question(&world, workspace, "r")).await else {
        panic!("not asked")
    };
    assert!(matches!(ask(store, question(&world, workspace, "s")).await, Asking::Full(2)));

    let answer = async |id, answer| {
        let outcome = AskOutcome::answered(answer, "Owner".into());
        store.write(move |tx| Box::pin(async move { tx.resolve_ask(id, outcome).await })).await
    };
    let yes = answer(row.id, AskAnswer::Once).await.unwrap();
    assert_eq!((yes.state, yes.resolver.as_deref()), (AskState::Allowed, Some("Owner")));
    assert!(matches!(
        answer(row.id, AskAnswer::Never).await,
        Err(Error::AlreadyResolved { kind: "ask", .. })
    ));
    // The other one still waits.
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Waiting);
    answer(other.id, AskAnswer::No).await.unwrap();
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Running);

    let events = store.read_events(session, 0, 100).await.unwrap();
    let told: Vec<EventBody> = events.iter().map(|event| event.event().unwrap().body).collect();
    let asked = |body: &&EventBody| matches!(body, EventBody::EgressAsked { .. });
    assert_eq!(told.iter().filter(asked).count(), 2);
    assert!(told.contains(&EventBody::EgressAnswered {
        ask: other.id,
        state: AskState::Denied,
        answer: Some(AskAnswer::No),
        by: Some("Owner".into()),
    }));
    let feed = store.read_feed(BUILT_IN_ORGANIZATION, 0, 100).await.unwrap();
    let kinds: Vec<&str> =
        feed.iter().map(|entry| &*entry.kind).filter(|kind| kind.starts_with("egress")).collect();
    assert_eq!(kinds, ["egress.asked", "egress.asked", "egress.answered", "egress.answered"]);
    // What somebody waited for is no word for the next.
    assert!(matches!(ask(store, question(&world, workspace, "q")).await, Asking::New(_)));
}

#[tokio::test]
async fn what_was_answered_while_nobody_waited_holds_for_the_next() {
    let world = world().await;
    let (workspace, _) = at_work(&world).await;
    let Asking::New(row) = ask(&world.store, question(&world, workspace, "q")).await else {
        panic!("not asked")
    };
    // The server dies, and with it the connection that waited.
    let world = world.reopened().await;
    let store = &world.store;
    let open = AskFilter { state: Some(AskState::Open), ..AskFilter::default() };
    let listed = store.list_asks(BUILT_IN_ORGANIZATION, open, 10).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), [row.id]);
    let mut outcome = AskOutcome::answered(AskAnswer::Once, "Owner".into());
    outcome.waited = false;
    let id = row.id;
    store
        .write(move |tx| Box::pin(async move { tx.resolve_ask(id, outcome).await }))
        .await
        .unwrap();
    let again = ask(store, question(&world, workspace, "q")).await;
    assert!(matches!(again, Asking::Answered(row) if row.id == id && row.spent), "once");
    assert!(matches!(ask(store, question(&world, workspace, "q")).await, Asking::New(_)), "twice");
}

#[tokio::test]
async fn a_lasting_answer_lasts_as_long_as_its_rule() {
    let world = world().await;
    let store = &world.store;
    let (workspace, _) = at_work(&world).await;
    let Asking::New(row) = ask(store, question(&world, workspace, "q")).await else {
        panic!("not asked")
    };
    let place = RulePlace::Workspace(workspace);
    let mut rule = NewRule::new(Owner::BUILT_IN, place, RuleSpec::host("api.example"));
    rule.expires = Some(store.now().after(Duration::from_secs(600)));
    let mut outcome = AskOutcome::answered(AskAnswer::TenMinutes, "Owner".into());
    outcome.made = Some(rule.id.to_string());
    let id = row.id;
    store
        .write(move |tx| {
            Box::pin(async move {
                tx.create_rule(&rule).await?;
                tx.resolve_ask(id, outcome).await
            })
        })
        .await
        .unwrap();
    let stands = async |workspace, words: &str| {
        store.standing_answer(workspace, words).await.unwrap().map(|row| row.id)
    };
    assert_eq!(stands(workspace, "q").await, Some(id));
    assert_eq!(stands(workspace, "r").await, None);
    let other = world.workspace().await;
    assert_eq!(stands(other, "q").await, None);
    // It is kept as long as its rule is.
    let all = store.now().after(Duration::from_secs(1));
    let gone = async || {
        store
            .write(move |tx| Box::pin(async move { tx.remove_old_asks(all, 10).await }))
            .await
            .unwrap()
    };
    assert_eq!(gone().await, 0);
    world.clock.forward(Duration::from_secs(601));
    assert_eq!(stands(workspace, "q").await, None);
}

#[tokio::test]
async fn what_nobody_answers_is_a_no() {
    let world = world().await;
    let store = &world.store;
    let (workspace, session) = at_work(&world).await;
    let Asking::New(row) = ask(store, question(&world, workspace, "q")).await else {
        panic!("not asked")
    };
    let expire =
        async || store.write(|tx| Box::pin(async move { tx.expire_asks(10).await })).await.unwrap();
    assert!(expire().await.is_empty());
    world.clock.forward(Duration::from_secs(300));
    let expired = expire().await;
    assert_eq!(
        expired.iter().map(|row| (row.id, row.state)).collect::<Vec<_>>(),
        [(row.id, AskState::Expired)]
    );
    assert_eq!(store.session(session).await.unwrap().state, SessionState::Running);
    assert!(store.open_asks(workspace).await.unwrap().is_empty());
}
