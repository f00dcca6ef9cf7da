//! Workspaces, layers, repositories, blobs, keys.

use std::time::Duration;

use boatyard_model::{
    AgentOffers, Content, LayerId, PromptMode, SessionId, Timestamp, ToolId, WorkspaceId,
    WorkspaceState, name::RepositorySource,
};
use boatyard_store::{
    Again, BUILT_IN_ORGANIZATION, Error, LayerKind, LayerState, NewBlob, NewKey, NewLayer,
    NewPrompt, NewTool, NewWorkspace, Owner, RepositoryState, ToolKind, ToolMade, ToolState,
    Wished, WorkspaceUpdate, keys::USE_NOTED,
};

use crate::{World, task, world};

fn layer(id: LayerId, cache_key: Option<&str>, parents: Vec<LayerId>) -> NewLayer {
    NewLayer {
        id,
        owner: Owner::BUILT_IN,
        repository: None,
        kind: LayerKind::Prepared,
        cache_key: cache_key.map(Into::into),
        parents,
    }
}

async fn ready(world: &World, cache_key: Option<&str>, parents: Vec<LayerId>) -> LayerId {
    let id = LayerId::new();
    let new = layer(id, cache_key, parents);
    let write = world.store.write(move |tx| {
        Box::pin(async move {
            tx.create_layer(new).await?;
            tx.layer_ready(id, 10).await
        })
    });
    write.await.unwrap()
}

#[tokio::test]
async fn a_workspace_follows_its_states_and_idles() {
    let world = world().await;
    let store = &world.store;
    let id = world.workspace().await;
    let session = world.session_in(id).await;
    world.clock.forward(Duration::from_secs(100));
    let before = store.now();
    let idle = || store.idle_workspaces(before, 10);
    assert!(idle().await.unwrap().is_empty(), "its session is starting");
    store.write(move |tx| Box::pin(tx.end_session(session, None))).await.unwrap();
    assert_eq!(idle().await.unwrap().len(), 1);
    store.write(move |tx| Box::pin(async move { tx.touch_workspaces(&[id]).await })).await.unwrap();
    assert!(idle().await.unwrap().is_empty());
    assert_eq!(store.write(move |tx| Box::pin(tx.next_generation(id))).await.unwrap(), 1);
    let update = WorkspaceUpdate {
        disk_bytes: Some(5),
        recovered: Some(true),
        ..WorkspaceUpdate::default()
    };
    store.write(move |tx| Box::pin(tx.update_workspace(id, update))).await.unwrap();
    let row = store.workspace(id).await.unwrap();
    assert_eq!((row.disk_bytes, row.recovered, row.generation), (5, true, 1));
    let to = |state| store.write(move |tx| Box::pin(tx.set_workspace_state(id, state, None)));
    to(WorkspaceState::Asleep).await.unwrap();
    assert!(matches!(to(WorkspaceState::Creating).await, Err(Error::IllegalState { .. })));
    to(WorkspaceState::Deleted).await.unwrap();
    let list = store.list_workspaces(BUILT_IN_ORGANIZATION, None, None, 10, None).await.unwrap();
    assert!(list.is_empty());
    assert_eq!(store.count_workspaces().await.unwrap(), [(WorkspaceState::Deleted, 1)]);
}

#[tokio::test]
async fn layers_are_found_by_key_and_kept_while_something_lies_on_them() {
    let world = world().await;
    let store = &world.store;
    let base = ready(&world, Some("tree1"), vec![]).await;
    // Two made the same at once: the first wins, the second gives way.
    assert_eq!(ready(&world, Some("tree1"), vec![]).await, base);
    assert_eq!(store.layers_in(LayerState::Deleted).await.unwrap().len(), 1);
    let found = store.find_layer(BUILT_IN_ORGANIZATION, "tree1").await.unwrap().unwrap();
    assert_eq!(found.id, base);
    let upper = ready(&world, None, vec![base]).await;
    let workspace = WorkspaceId::new();
    let new = NewWorkspace {
        id: workspace,
        owner: Owner::BUILT_IN,
        name: None,
        kind: boatyard_model::WorkspaceKind::Sandbox,
        runtime: "native".into(),
        isolation: None,
        lowers: vec![upper, base],
        repository: None,
        folder: None,
        base_commit: None,
        branch: None,
        limits: boatyard_model::WorkspaceLimits::default(),
        task: None,
        forked_from: None,
        begins: boatyard_store::Begins::Later,
    };
    store.write(move |tx| Box::pin(tx.create_workspace(new))).await.unwrap();
    let end = Timestamp(i64::MAX);
    assert!(store.unused_layers(end, 10).await.unwrap().is_empty());
    let held = store.write(move |tx| Box::pin(tx.delete_layer_if_unused(upper))).await.unwrap();
    assert!(!held);
    let gone = WorkspaceState::Deleted;
    store.write(move |tx| Box::pin(tx.set_workspace_state(workspace, gone, None))).await.unwrap();
    // From the top down.
    let unused = store.unused_layers(end, 10).await.unwrap();
    assert_eq!(unused.iter().map(|layer| layer.id).collect::<Vec<_>>(), [upper]);
    for id in [upper, base] {
        assert!(store.write(move |tx| Box::pin(tx.delete_layer_if_unused(id))).await.unwrap());
    }
    store.write(move |tx| Box::pin(tx.remove_layer(base))).await.unwrap();
    assert!(matches!(store.layer(base).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_repository_is_one_for_its_address() {
    let world = world().await;
    let store = &world.store;
    let source = RepositorySource::parse("a/b", "example.com").unwrap();
    let find = || {
        let source = source.clone();
        store.write(move |tx| {
            Box::pin(async move { tx.find_or_create_repository(Owner::BUILT_IN, &source).await })
        })
    };
    let first = find().await.unwrap();
    assert_eq!(find().await.unwrap().id, first.id);
    assert_eq!((first.state, &*first.folder), (RepositoryState::New, "b"));
    let id = first.id;
    store.write(move |tx| Box::pin(tx.repository_fetching(id))).await.unwrap();
    assert_eq!(store.write(|tx| Box::pin(tx.reset_fetching())).await.unwrap(), 1);
    let failed = "unreachable".to_owned();
    store.write(move |tx| Box::pin(tx.repository_failed(id, failed))).await.unwrap();
    let main = Some("main".to_owned());
    store.write(move |tx| Box::pin(tx.repository_fetched(id, main, 77))).await.unwrap();
    let row = store.repository(id).await.unwrap();
    assert_eq!((row.state, row.error, row.bytes), (RepositoryState::Ready, None, 77));

    let mut new = task("Use it");
    new.repository = Some(id);
    let created = store.write(move |tx| Box::pin(tx.create_task(new))).await.unwrap().id();
    let end = Timestamp(i64::MAX);
    assert!(store.unused_repositories(end, 10).await.unwrap().is_empty());
    assert!(!store.write(move |tx| Box::pin(tx.remove_repository(id))).await.unwrap());
    store.write(move |tx| Box::pin(tx.cancel_task(created, None))).await.unwrap();
    assert_eq!(store.unused_repositories(end, 10).await.unwrap().len(), 1);
    assert!(store.write(move |tx| Box::pin(tx.remove_repository(id))).await.unwrap());
    let detail = store.task(created).await.unwrap();
    assert_eq!((detail.task.repository, &*detail.task.source), (None, "https://example.com/a/b"));
}

#[tokio::test]
async fn a_blob_stays_while_somebody_holds_on_to_it() {
    let world = world().await;
    let store = &world.store;
    let session: SessionId = world.session().await;
    let make = |sha256: &str| {
        let new = NewBlob {
            id: boatyard_model::BlobId::new(),
            owner: Owner::BUILT_IN,
            sha256: sha256.into(),
            bytes: 3,
            mime: "image/png".into(),
        };
        store.write(move |tx| Box::pin(tx.create_blob(new)))
    };
    let (held, loose, twin) =
        (make("aa").await.unwrap(), make("bb").await.unwrap(), make("aa").await.unwrap());
    let new = NewPrompt {
        owner: Owner::BUILT_IN,
        session,
        mode: PromptMode::Queue,
        content: vec![Content::Image { blob: held, mime: "image/png".into() }],
        author: None,
    };
    store.write(move |tx| Box::pin(tx.create_prompt(new))).await.unwrap();
    let end = Timestamp(i64::MAX);
    let files = store.write(move |tx| Box::pin(tx.remove_unused_blobs(end, 10))).await.unwrap();
    assert_eq!(files, ["bb"], "the other file has a row left");
    assert!(store.blob(held).await.is_ok());
    assert!(store.blob(loose).await.is_err() && store.blob(twin).await.is_err());
    assert!(store.is_blob_known("aa").await.unwrap() && !store.is_blob_known("bb").await.unwrap());
}

#[tokio::test]
async fn a_key_works_until_it_is_revoked() {
    let world = world().await;
    let store = &world.store;
    let new = NewKey::local(Owner::BUILT_IN, "first".into(), "by_ab".into(), "hash".into());
    let id = store.write(move |tx| Box::pin(tx.create_key(new))).await.unwrap();
    let row = store.find_key(id).await.unwrap().unwrap();
    assert!(row.use_is_news(store.now()));
    store.write(move |tx| Box::pin(tx.touch_key(id))).await.unwrap();
    let row = store.find_key_by_hash("hash").await.unwrap().unwrap();
    assert_eq!((row.id, row.owner, row.last_used), (id, Owner::BUILT_IN, Some(store.now())));
    // Noted again only when it is news.
    let noted = store.now();
    for (seconds, last) in [(59, noted), (1, noted.after(USE_NOTED))] {
        world.clock.forward(Duration::from_secs(seconds));
        store.note_key_use(id);
        // Stored after what was given to the writer before.
        store.write(|_| Box::pin(async { Ok(()) })).await.unwrap();
        let row = store.find_key(id).await.unwrap().unwrap();
        assert_eq!((row.last_used, row.use_is_news(store.now())), (Some(last), false));
    }
    assert_eq!(store.revocations(), 0);
    store.write(move |tx| Box::pin(tx.revoke_key(id))).await.unwrap();
    assert_eq!(store.revocations(), 1);
    assert!(store.find_key_by_hash("hash").await.unwrap().is_none());
    assert!(store.find_key(id).await.unwrap().is_none());
    assert_eq!(store.list_keys(BUILT_IN_ORGANIZATION).await.unwrap().len(), 1);
}

fn tool(version: &str) -> NewTool {
    NewTool {
        id: ToolId::new(),
        owner: Owner::BUILT_IN,
        kind: ToolKind::Agent,
        name: "it".into(),
        version: version.into(),
        recipe: format!("npm it@{version}"),
    }
}

fn made(version: &str, node: Option<ToolId>, bytes: u64) -> ToolMade {
    ToolMade { version: version.into(), node, bytes, offers: None, reason: None }
}

#[tokio::test]
async fn a_tool_is_installed_once_and_kept_while_something_runs_on_it() {
    let world = world().await;
    let store = &world.store;
    let wish = |new: NewTool, again| {
        store.write(move |tx| Box::pin(async move { tx.install_tool(new, again).await }))
    };
    let Wished::New(first) = wish(tool("1.0.0"), Again::No).await.unwrap() else { panic!() };
    assert_eq!(wish(tool("1.0.0"), Again::Yes).await.unwrap(), Wished::There(first));
    let Wished::New(second) = wish(tool("2.0.0"), Again::No).await.unwrap() else { panic!() };
    store
        .write(move |tx| {
            Box::pin(async move {
                tx.tool_phase(first, "packages").await?;
                tx.tool_ready(first, made("1.0.0", None, 7)).await?;
                tx.tool_ready(second, made("2.0.0", Some(first), 9)).await?;
                tx.set_tool_offers(second, &AgentOffers::default()).await
            })
        })
        .await
        .unwrap();
    // Ready is ready: a late word changes nothing.
    let late = store.write(move |tx| Box::pin(tx.tool_failed(first, "late".into()))).await;
    assert!(matches!(late, Err(Error::NotFound { .. })));
    assert_eq!(wish(tool("1.0.0"), Again::No).await.unwrap(), Wished::There(first));
    let row = store.tool(second).await.unwrap();
    assert_eq!((row.bytes, row.node, row.offers.is_some()), (9, Some(first), true));
    assert_eq!(store.list_tools(BUILT_IN_ORGANIZATION).await.unwrap().len(), 2);
    let delete =
        |id| store.write(move |tx| Box::pin(async move { tx.delete_tool_if_unused(id).await }));
    assert!(!delete(first).await.unwrap(), "the second one runs on it");
    assert!(delete(second).await.unwrap());
    assert!(delete(first).await.unwrap());
    assert_eq!(store.tools_in(ToolState::Deleted).await.unwrap().len(), 2);
    let feed = store.read_feed(BUILT_IN_ORGANIZATION, 0, 100).await.unwrap();
    let told = feed.iter().filter(|entry| &*entry.kind == "tool.state").count();
    assert_eq!(told, 7, "two wishes, a phase, two ready, two deleted");
}

#[tokio::test]
async fn added_agents_replace_each_other_by_name() {
    let world = world().await;
    let store = &world.store;
    for entry in ["{}", r#"{"title":"It"}"#] {
        store
            .write(move |tx| {
                Box::pin(tx.put_agent_entry(Owner::BUILT_IN, "it".into(), entry.into()))
            })
            .await
            .unwrap();
    }
    let entries = store.agent_entries(BUILT_IN_ORGANIZATION).await.unwrap();
    assert_eq!((entries.len(), entries[0].entry.as_str()), (1, r#"{"title":"It"}"#));
    let remove =
        || store.write(|tx| Box::pin(tx.remove_agent_entry(BUILT_IN_ORGANIZATION, "it".into())));
    assert!(remove().await.unwrap());
    assert!(!remove().await.unwrap());
}
