//! Lists, creations, blobs, streams: what works without a sandbox.

use boatyard_api::{
    IdempotencyKey, ProblemKind,
    client::Step,
    repository::{NewRepository, RepositoryFilter},
    workspace::NewWorkspace,
};
use boatyard_model::{BlobId, SessionId, WorkspaceId, WorkspaceKind, WorkspaceLimits};
use boatyard_store::{NewSession, Owner, workspaces};
use reqwest::{Method, header};

use crate::machine::{Machine, problem_of};

async fn session(machine: &Machine) -> SessionId {
    let (owner, workspace, session) = (Owner::BUILT_IN, WorkspaceId::new(), SessionId::new());
    let new_workspace = workspaces::NewWorkspace {
        id: workspace,
        owner,
        name: None,
        kind: WorkspaceKind::Sandbox,
        runtime: "bare".to_owned(),
        isolation: None,
        lowers: Vec::new(),
        repository: None,
        folder: None,
        base_commit: None,
        branch: None,
        limits: WorkspaceLimits::default(),
        task: None,
        forked_from: None,
        begins: boatyard_store::Begins::Later,
    };
    let new_session = NewSession {
        settings: boatyard_model::AgentSettings::default(),
        id: session,
        owner,
        workspace,
        attempt: None,
        agent: "demo".to_owned(),
        model: None,
        cwd: "/work".to_owned(),
        client_key: None,
    };
    let work = machine.store.write(|tx| {
        Box::pin(async move {
            tx.create_workspace(new_workspace).await?;
            tx.create_session(new_session).await
        })
    });
    work.await.unwrap();
    session
}

#[tokio::test]
async fn pages_hold_everything_once() {
    let machine = Machine::start().await;
    let mut made = Vec::new();
    for n in 0..7 {
        let source = format!("sent:repository-{n}");
        made.push(machine.client.create_repository(&NewRepository { source }).await.unwrap().id);
    }
    let again = NewRepository { source: "sent:repository-3".to_owned() };
    assert_eq!(machine.client.create_repository(&again).await.unwrap().id, made[3]);
    let mut filter = RepositoryFilter { limit: Some(3), cursor: None };
    let (mut listed, mut pages) = (Vec::new(), 0);
    loop {
        let page = machine.client.list_repositories(&filter).await.unwrap();
        listed.extend(page.items.iter().map(|repository| repository.id));
        pages += 1;
        let Some(next) = page.next_cursor else { break };
        filter.cursor = Some(next);
    }
    made.reverse();
    assert_eq!((listed, pages), (made, 3));
}

#[tokio::test]
async fn a_blob_comes_back_as_it_was_and_acts_as_nothing() {
    let machine = Machine::start().await;
    let blob = machine.client.create_blob("image/png", "not really").await.unwrap();
    let content = machine.client.read_blob(blob.id).await.unwrap();
    assert_eq!((content.mime.as_str(), &content.bytes[..]), ("image/png", &b"not really"[..]));
    let answer = machine.get(&format!("/api/blobs/{}", blob.id)).await;
    let tag = answer.headers()[header::ETAG].clone();
    assert!(
        answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("sandbox")
    );
    let path = format!("/api/blobs/{}", blob.id);
    let known = machine.request(Method::GET, &path).header(header::IF_NONE_MATCH, tag).send();
    assert_eq!(known.await.unwrap().status(), 304);
    let html = machine.client.create_blob("text/html", "<script>").await.unwrap();
    let answer = machine.get(&format!("/api/blobs/{}", html.id)).await;
    let disposition = answer.headers()[header::CONTENT_DISPOSITION].to_str().unwrap();
    assert!(disposition.starts_with("attachment"), "{disposition}");

    let post = |mime: &str, body: Vec<u8>| {
        let request =
            machine.request(Method::POST, "/api/blobs").header(header::CONTENT_TYPE, mime);
        request.body(body).send()
    };
    for mime in ["", "x", "a/b/c", "a/ b"] {
        let problem = problem_of(post(mime, vec![0]).await.unwrap()).await;
        assert!(problem.is(ProblemKind::UnsupportedMediaType), "{mime}");
    }
    assert!(problem_of(post("a/b", Vec::new()).await.unwrap()).await.is(ProblemKind::Invalid));
    let large = post("a/b", vec![0; (20 << 20) + 1]).await.unwrap();
    assert!(problem_of(large).await.is(ProblemKind::TooLarge));
    let missing = machine.client.read_blob(BlobId::new()).await.unwrap_err();
    assert!(missing.problem().unwrap().is(ProblemKind::NotFound));
}

#[tokio::test]
async fn a_session_is_followed_to_its_end() {
    let machine = Machine::start().await;
    let id = session(&machine).await;
    let mut follow = machine.client.follow_session(id, 0);
    let Some(Ok(Step::Item(first))) = follow.next().await else { panic!("no event") };
    let work =
        machine.store.write(move |tx| Box::pin(async move { tx.end_session(id, None).await }));
    work.await.unwrap();
    let mut last = first.seq;
    while let Some(step) = follow.next().await {
        let Step::Item(event) = step.unwrap() else { panic!("a cut") };
        assert!(event.seq > last);
        last = event.seq;
    }
    let session = machine.client.find_session(id).await.unwrap();
    assert_eq!(session.last_seq, last);
    // Of a session that is over, the stream ends at once.
    let mut rest = machine.client.follow_session(id, last);
    assert!(rest.next().await.is_none());
    // With the header of a browser that comes back.
    let path = format!("/api/sessions/{id}/events?after=0");
    let resumed = machine.request(Method::GET, &path).header("last-event-id", last).send();
    let text = resumed.await.unwrap().text().await.unwrap();
    assert_eq!(text, "retry: 1000\n\nevent: end\ndata: {}\n\n");
    let ahead = machine.get(&format!("/api/sessions/{id}/events?after={}", last + 1)).await;
    assert_eq!(problem_of(ahead).await.field.as_deref(), Some("query.after"));
}

#[tokio::test]
async fn the_feed_tells_of_what_was_made() {
    let machine = Machine::start().await;
    let id = session(&machine).await;
    let text = machine.get("/api/events?follow=false").await.text().await.unwrap();
    assert!(text.contains(&format!("\"session\":\"{id}\"")), "{text}");
    let mut follow = machine.client.follow_feed(0);
    assert!(matches!(follow.next().await, Some(Ok(Step::Item(_)))));
}

#[tokio::test]
async fn a_machine_without_sandboxes_says_so() {
    let machine = Machine::start().await;
    let key = IdempotencyKey::random();
    let error = machine.client.create_workspace(&NewWorkspace::default(), Some(&key)).await;
    let problem = error.unwrap_err().problem().unwrap().clone();
    assert!(problem.status >= 500 && !problem.is(ProblemKind::Internal), "{problem:?}");
    assert!(problem.detail.contains("user namespace"), "{problem:?}");
}
