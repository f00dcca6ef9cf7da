//! Who sees what: visibility, shares, guests, presence, and streams that end with the right to them.

use std::time::Duration;

use boatyard_api::{
    ProblemKind,
    client::{Parser, Step},
    repository::NewRepository,
    session::{NewPrompt, SessionChange, SessionFilter},
    share::{NewShare, PresenceUpdate, ShareState, TakeShare},
};
use boatyard_model::{PromptMode, RepositoryRole, Role, SessionId, Visibility};
use reqwest::{Method, Response, header};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    machine::{Machine, problem_of},
    team::{self, Somebody},
};

/// Nothing here takes longer.
const LONG: Duration = Duration::from_secs(30);

fn prompt() -> NewPrompt {
    NewPrompt { text: "hello".to_owned(), images: Vec::new(), mode: PromptMode::Queue }
}

fn share(session: SessionId, role: Role) -> NewShare {
    NewShare { subject: session.to_string(), role, guests: false, expires_in: None, uses: None }
}

fn code(url: Option<String>) -> TakeShare {
    TakeShare { code: url.unwrap().split_once("code=").unwrap().1.to_owned() }
}

async fn set(by: &Somebody, session: SessionId, visibility: Visibility) {
    let change = SessionChange { visibility: Some(visibility), ..SessionChange::default() };
    let changed = by.client.change_session(session, &change).await.unwrap();
    assert_eq!(changed.visibility, visibility);
}

/// What becomes of looking and of acting.
async fn tries(by: &Somebody, session: SessionId) -> (u16, u16) {
    let status = |error: Option<boatyard_api::Error>| match error {
        None => 200,
        Some(error) => error.problem().unwrap_or_else(|| panic!("{error}")).status,
    };
    let looks = by.client.find_session(session).await;
    let acts = by.client.create_prompt(session, &prompt(), None).await;
    (status(looks.err()), status(acts.err()))
}

async fn listed(by: &Somebody) -> Vec<SessionId> {
    let page = by.client.list_sessions(&SessionFilter::default()).await.unwrap();
    page.items.into_iter().map(|session| session.id).collect()
}

#[tokio::test]
async fn a_session_is_seen_by_whom_it_is_for() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let ben = team::member(&machine, "Ben", Role::Member).await;
    let vera = team::member(&machine, "Vera", Role::Viewer).await;
    let adam = team::member(&machine, "Adam", Role::Admin).await;
    let (workspace, session) = team::session(&machine, ana.owner, Visibility::Private).await;

    assert_eq!(tries(&ana, session).await, (200, 200));
    assert_eq!(tries(&ben, session).await, (404, 404));
    // A viewer's role is refused before anything is looked for.
    assert_eq!(tries(&vera, session).await, (404, 403));
    assert_eq!(tries(&adam, session).await, (200, 200));
    assert_eq!((listed(&ana).await, listed(&adam).await), (vec![session], vec![session]));
    assert!(listed(&ben).await.is_empty() && listed(&vera).await.is_empty());
    let workspaces = ben.client.list_workspaces(&Default::default()).await.unwrap();
    assert!(workspaces.items.is_empty());
    for path in [
        format!("/api/sessions/{session}/transcript"),
        format!("/api/sessions/{session}/events"),
        format!("/api/sessions/{session}/prompts"),
        format!("/api/sessions/{session}/presence"),
        format!("/api/workspaces/{workspace}"),
        format!("/api/workspaces/{workspace}/files"),
        format!("/api/workspaces/{workspace}/egress"),
    ] {
        let answer = machine.anonymous(Method::GET, &path).bearer_auth(&ben.secret).send().await;
        assert_eq!(answer.unwrap().status(), 404, "{path}");
    }
    let feed = async |by: &Somebody| {
        let request = machine.anonymous(Method::GET, "/api/events?follow=false");
        let answer = request.bearer_auth(&by.secret).send().await.unwrap();
        timeout(LONG, answer.text()).await.unwrap().unwrap()
    };
    let id = session.to_string();
    assert!(!feed(&ben).await.contains(&id) && feed(&ben).await.contains("event: end"));
    assert!(feed(&ana).await.contains(&id) && feed(&adam).await.contains(&id));

    set(&ana, session, Visibility::Visible).await;
    assert_eq!(tries(&ben, session).await, (200, 403));
    assert_eq!(tries(&vera, session).await, (200, 403));
    assert_eq!(listed(&ben).await, vec![session]);
    assert!(feed(&ben).await.contains(&id));
    set(&adam, session, Visibility::Open).await;
    assert_eq!(tries(&ben, session).await, (200, 200));
    assert_eq!(tries(&vera, session).await, (200, 403));
    // To act is not to decide.
    let change =
        SessionChange { visibility: Some(Visibility::Private), ..SessionChange::default() };
    let refused = ben.client.change_session(session, &change).await.unwrap_err();
    let problem = refused.problem().unwrap();
    assert!(problem.is(ProblemKind::NotAllowed) && problem.next.is_some(), "{problem:?}");
    let refused = ben.client.delete_session(session).await.unwrap_err();
    assert!(refused.problem().unwrap().is(ProblemKind::NotAllowed));
    // Whose prompt it was is shown.
    let prompts = ana.client.list_prompts(session, &Default::default()).await.unwrap();
    let authors: Vec<_> = prompts.items.iter().filter_map(|p| p.author.as_deref()).collect();
    assert_eq!(authors, ["Ana", "Adam", "Ben"]);
}

#[tokio::test]
async fn a_role_in_a_repository_narrows_what_is_worked_on_in_it() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let ben = team::member(&machine, "Ben", Role::Member).await;
    let adam = team::member(&machine, "Adam", Role::Admin).await;
    let new = NewRepository { source: "sent:secret".to_owned() };
    let repository = ana.client.create_repository(&new).await.unwrap().id;
    let (workspace, session) =
        team::session_in(&machine, ana.owner, Visibility::Open, Some(repository)).await;
    let all = async |by: &Somebody| {
        let repositories = by.client.list_repositories(&Default::default()).await.unwrap();
        let workspaces = by.client.list_workspaces(&Default::default()).await.unwrap();
        (repositories.items.len(), workspaces.items.len(), listed(by).await.len())
    };
    let name = async |role: Option<RepositoryRole>| {
        let (by, only) = (adam.owner, ben.owner.member);
        let named = role.map(|role| (only, role)).into_iter().collect::<Vec<_>>();
        let work = machine.store.write(move |tx| {
            Box::pin(async move { tx.set_repository_roles(by, repository, None, named).await })
        });
        work.await.unwrap();
    };
    assert_eq!((tries(&ben, session).await, all(&ben).await), ((200, 200), (1, 1, 1)));
    name(Some(RepositoryRole::Viewer)).await;
    assert_eq!((tries(&ben, session).await, all(&ben).await), ((200, 403), (1, 1, 1)));
    name(Some(RepositoryRole::None)).await;
    assert_eq!((tries(&ben, session).await, all(&ben).await), ((404, 404), (0, 0, 0)));
    assert!(ben.client.find_repository(repository).await.is_err());
    assert!(ben.client.find_workspace(workspace).await.is_err());
    // Others are not narrowed by that.
    assert_eq!((tries(&ana, session).await, all(&ana).await), ((200, 200), (1, 1, 1)));
    assert_eq!((tries(&adam, session).await, all(&adam).await), ((200, 200), (1, 1, 1)));
    name(None).await;
    assert_eq!(tries(&ben, session).await, (200, 200));
}

#[tokio::test]
async fn a_share_gives_what_it_says_for_as_long_as_it_works() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let ben = team::member(&machine, "Ben", Role::Member).await;
    let vera = team::member(&machine, "Vera", Role::Viewer).await;
    let stranger = team::elsewhere(&machine, "Stranger").await;
    let (_, session) = team::session(&machine, ana.owner, Visibility::Private).await;

    let refused = ben.client.create_share(&share(session, Role::Viewer)).await.unwrap_err();
    assert!(refused.problem().unwrap().is(ProblemKind::NotFound), "it does not exist for Ben");
    let made = ana.client.create_share(&share(session, Role::Member)).await.unwrap();
    let take = code(made.url.clone());
    for (by, expected) in [(&ben, (200, 200)), (&vera, (200, 403))] {
        by.client.take_share(&take).await.unwrap();
        by.client.take_share(&take).await.unwrap();
        assert_eq!(tries(by, session).await, expected);
    }
    assert_eq!(listed(&ben).await, vec![session]);
    assert_eq!(ana.client.find_share(made.id).await.unwrap().used, 2, "once for each");
    let refused = stranger.client.take_share(&take).await.unwrap_err();
    assert!(refused.problem().unwrap().is(ProblemKind::NotAllowed), "{refused}");

    let looking = ana.client.create_share(&share(session, Role::Viewer)).await.unwrap();
    stranger.client.take_share(&code(looking.url)).await.unwrap();
    assert_eq!(tries(&stranger, session).await, (200, 403));
    assert!(listed(&stranger).await.is_empty(), "it is no session of that organization");

    let revoked = ana.client.revoke_share(made.id).await.unwrap();
    assert_eq!(revoked.state, ShareState::Revoked);
    assert_eq!(tries(&ben, session).await, (404, 404));
    assert!(listed(&ben).await.is_empty());
    let refused = ben.client.take_share(&take).await.unwrap_err();
    assert!(refused.problem().unwrap().detail.contains("taken back"), "{refused}");
    // Who shared is no longer a member: what was shared is over.
    let owner = ana.owner;
    let removed = machine.store.write(move |tx| {
        Box::pin(
            async move { tx.remove_member(owner.organization, owner.member, None).await.map(drop) },
        )
    });
    removed.await.unwrap();
    assert_eq!(tries(&stranger, session).await, (404, 404));
}

#[tokio::test]
async fn of_many_who_take_the_last_use_one_gets_it() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let (_, session) = team::session(&machine, ana.owner, Visibility::Private).await;
    let new = NewShare { uses: Some(3), ..share(session, Role::Viewer) };
    let made = ana.client.create_share(&new).await.unwrap();
    let take = code(made.url);
    let mut all = Vec::new();
    for n in 0..10 {
        all.push(team::member(&machine, &format!("Taker{n}"), Role::Member).await);
    }
    let taken = futures_util::future::join_all(all.iter().map(|by| by.client.take_share(&take)));
    let (given, refused): (Vec<_>, Vec<_>) = taken.await.into_iter().partition(Result::is_ok);
    assert_eq!((given.len(), refused.len()), (3, 7));
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(error.problem().unwrap().detail.contains("as often as it may"), "{error}");
    }
    let spent = ana.client.find_share(made.id).await.unwrap();
    assert_eq!((spent.state, spent.used), (ShareState::Spent, 3));
}

#[tokio::test]
async fn what_makes_no_sense_is_named() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let (_, session) = team::session(&machine, ana.owner, Visibility::Private).await;
    let good = share(session, Role::Viewer);
    for (new, field) in [
        (NewShare { subject: "x".to_owned(), ..good.clone() }, "subject"),
        (NewShare { subject: SessionId::new().to_string(), ..good.clone() }, "subject"),
        (NewShare { role: Role::Owner, ..good.clone() }, "role"),
        (NewShare { role: Role::Member, guests: true, ..good.clone() }, "guests"),
        (NewShare { expires_in: Some(0), ..good.clone() }, "expires_in"),
        (NewShare { expires_in: Some(u64::MAX), ..good.clone() }, "expires_in"),
        (NewShare { uses: Some(0), ..good.clone() }, "uses"),
        (NewShare { uses: Some(u64::MAX), ..good.clone() }, "uses"),
    ] {
        let error = ana.client.create_share(&new).await.unwrap_err();
        assert_eq!(error.problem().unwrap().field.as_deref(), Some(field), "{error}");
    }
    for bad in ["", "x", "share_", "share_00", &"share_0".repeat(1000)] {
        let error = ana.client.take_share(&TakeShare { code: bad.to_owned() }).await.unwrap_err();
        let problem = error.problem().unwrap();
        assert_eq!((problem.status, problem.field.as_deref()), (403, Some("code")), "{bad}");
    }
}

#[tokio::test]
async fn a_guest_looks_at_what_is_shared_and_at_nothing_else() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let (workspace, session) = team::session(&machine, ana.owner, Visibility::Private).await;
    let (_, other) = team::session(&machine, ana.owner, Visibility::Open).await;
    let enter =
        |take: &TakeShare| machine.anonymous(Method::POST, "/api/auth/guest").json(take).send();
    let closed = ana.client.create_share(&share(session, Role::Viewer)).await.unwrap();
    let refused = enter(&code(closed.url)).await.unwrap();
    assert!(problem_of(refused).await.is(ProblemKind::Unauthenticated));
    let new = NewShare { guests: true, ..share(session, Role::Viewer) };
    let made = ana.client.create_share(&new).await.unwrap();
    let entered = enter(&code(made.url)).await.unwrap();
    assert_eq!(entered.status(), 200);
    let cookie = entered.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let ask = async |method: Method, path: String| -> u16 {
        let request = machine.anonymous(method, &path).header(header::COOKIE, &cookie);
        request.json(&json!({ "text": "hello" })).send().await.unwrap().status().as_u16()
    };
    for path in ["", "/transcript", "/prompts", "/presence", "/events?follow=false"] {
        let path = format!("/api/sessions/{session}{path}");
        assert_eq!(ask(Method::GET, path.clone()).await, 200, "{path}");
    }
    assert_eq!(ask(Method::GET, format!("/api/sessions/{other}")).await, 404);
    assert_eq!(ask(Method::GET, format!("/api/workspaces/{workspace}")).await, 404);
    for path in ["/api/sessions", "/api/tasks", "/api/events", "/api/members", "/api/connections"] {
        assert_eq!(ask(Method::GET, path.to_owned()).await, 401, "{path}");
    }
    for path in ["/prompts", "/stop", "/presence"] {
        let status = ask(Method::POST, format!("/api/sessions/{session}{path}")).await;
        assert!(matches!(status, 401 | 403), "{path}: {status}");
    }
    ana.client.revoke_share(made.id).await.unwrap();
    assert_eq!(ask(Method::GET, format!("/api/sessions/{session}")).await, 401);
}

/// A stream that is read frame by frame.
struct Stream {
    answer: Response,
    parser: Parser,
}

impl Stream {
    async fn open(machine: &Machine, by: &Somebody, path: &str) -> Self {
        let request = machine.anonymous(Method::GET, path).bearer_auth(&by.secret);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        Self { answer, parser: Parser::default() }
    }

    /// The data of the next event of this name; none at the stream's end.
    async fn until(&mut self, name: &str) -> Option<String> {
        let found = async {
            loop {
                while let Some(frame) = self.parser.frame().unwrap() {
                    if frame.event.as_deref() == Some(name) {
                        return Some(frame.data);
                    }
                }
                let piece = self.answer.chunk().await.ok()??;
                self.parser.push(&piece).unwrap();
            }
        };
        timeout(LONG, found).await.expect("no such event came")
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_reason_when_the_right_to_it_is_gone() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let ben = team::member(&machine, "Ben", Role::Member).await;
    let adam = team::member(&machine, "Adam", Role::Admin).await;
    let (_, session) = team::session(&machine, ana.owner, Visibility::Private).await;
    let events = format!("/api/sessions/{session}/events");

    // A share that is taken back.
    let made = ana.client.create_share(&share(session, Role::Viewer)).await.unwrap();
    ben.client.take_share(&code(made.url)).await.unwrap();
    let mut stream = Stream::open(&machine, &ben, &events).await;
    ana.client.revoke_share(made.id).await.unwrap();
    let reason = stream.until("closed").await.unwrap();
    assert!(reason.contains("no longer shared"), "{reason}");
    assert_eq!(stream.until("end").await, None, "nothing follows");

    // Our own client says it, and does not come back.
    set(&ana, session, Visibility::Visible).await;
    let mut followed = ben.client.follow_session(session, 0);
    assert!(matches!(followed.next().await, Some(Ok(Step::Item(_)))));
    set(&ana, session, Visibility::Private).await;
    let error = loop {
        match timeout(LONG, followed.next()).await.unwrap().unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.problem().unwrap().is(ProblemKind::NotAllowed), "{error}");

    // A role that shrinks: the feed is asked for anew, with less in it.
    let mut feed = Stream::open(&machine, &adam, "/api/events").await;
    let owner = adam.owner;
    let work = machine.store.write(move |tx| {
        Box::pin(async move {
            tx.set_member_role(owner.organization, owner.member, Role::Member).await.map(drop)
        })
    });
    work.await.unwrap();
    assert!(feed.until("goodbye").await.is_some());

    // A key that is revoked, on the session and on the feed.
    let mut own = Stream::open(&machine, &ana, &events).await;
    let mut feed = Stream::open(&machine, &ana, "/api/events").await;
    let key = ana.key;
    machine.store.write(move |tx| Box::pin(tx.revoke_key(key))).await.unwrap();
    for stream in [&mut own, &mut feed] {
        let reason = stream.until("closed").await.unwrap();
        assert!(reason.contains("revoked"), "{reason}");
    }
}

#[tokio::test]
async fn a_key_whose_time_is_over_ends_its_streams() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let (_, session) = team::session(&machine, ana.owner, Visibility::Private).await;
    let soon = machine.store.now().after(Duration::from_secs(2));
    let kind = boatyard_model::KeyKind::Personal;
    let scopes = boatyard_model::Scopes::ALL;
    let (_, secret) = team::key(&machine, ana.owner, kind, scopes, Some(soon)).await;
    let path = format!("/api/sessions/{session}/events");
    let request = machine.anonymous(Method::GET, &path).bearer_auth(&secret);
    let mut stream = Stream { answer: request.send().await.unwrap(), parser: Parser::default() };
    let reason = stream.until("closed").await.unwrap();
    assert!(reason.contains("over") || reason.contains("expired"), "{reason}");
}

#[tokio::test]
async fn who_follows_a_session_is_told_who_else_does_and_who_writes() {
    let machine = Machine::start().await;
    let ana = team::member(&machine, "Ana", Role::Member).await;
    let vera = team::member(&machine, "Vera", Role::Viewer).await;
    let (_, session) = team::session(&machine, ana.owner, Visibility::Visible).await;
    let events = format!("/api/sessions/{session}/events");
    let mut hers = Stream::open(&machine, &ana, &events).await;
    let mut other = Stream::open(&machine, &vera, &events).await;
    for stream in [&mut hers, &mut other] {
        let told = stream.until("presence").await.unwrap();
        assert!(told.contains("Ana") && told.contains("Vera"), "{told}");
    }
    let typing = PresenceUpdate { typing: true };
    let there = ana.client.set_presence(session, &typing).await.unwrap();
    assert_eq!(there.people.iter().filter(|one| one.typing).count(), 1);
    while !other.until("presence").await.unwrap().contains(r#""typing":true"#) {}
    let refused = vera.client.set_presence(session, &typing).await.unwrap_err();
    assert!(refused.problem().unwrap().is(ProblemKind::NotAllowed), "a viewer writes nothing");
    assert_eq!(vera.client.find_presence(session).await.unwrap().people.len(), 2);
}
