//! Stories about the store, each on a database of its own in a real file.

mod audit;
mod database;
mod jobs;
mod keys;
mod killed;
mod log;
mod organizations;
mod people;
mod quotas;
mod requests;
mod sessions;
mod tasks;
mod things;
mod usage;

use std::{path::PathBuf, sync::Arc, time::Duration};

use boatyard_model::{
    Content, SessionId, TaskLimits, Timestamp, WorkspaceId, WorkspaceKind, WorkspaceLimits,
    WorkspaceState, event::EventBody, time::Clock,
};
use boatyard_store::{
    IdempotencyKey, NewAttempt, NewEvent, NewSession, NewTask, NewWorkspace, Options, Origin,
    Owner, Store,
};
use boatyard_testkit::ManualClock;

/// Longer than anything takes; a test that waits for it has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) path: PathBuf,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("boatyard.db");
    let clock = Arc::new(ManualClock::at(Timestamp(1_000_000)));
    let store = open(&path, &clock).await;
    World { store, clock, path, folder }
}

pub(crate) async fn open(path: &std::path::Path, clock: &Arc<ManualClock>) -> Store {
    let mut options = Options::new(path);
    options.clock = Arc::clone(clock) as Arc<dyn Clock>;
    Store::open(options).await.unwrap()
}

impl World {
    /// Forgets the handle without closing, as a killed process does, and opens the file again.
    pub(crate) async fn reopened(mut self) -> Self {
        self.store = open(&self.path, &self.clock).await;
        self
    }

    pub(crate) async fn workspace(&self) -> WorkspaceId {
        let id = WorkspaceId::new();
        let new = NewWorkspace {
            id,
            owner: Owner::BUILT_IN,
            name: None,
            kind: WorkspaceKind::Sandbox,
            runtime: "native".into(),
            isolation: None,
            lowers: vec![],
            repository: None,
            folder: None,
            base_commit: None,
            branch: None,
            limits: WorkspaceLimits::default(),
            task: None,
            forked_from: None,
            begins: boatyard_store::Begins::Later,
        };
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    tx.create_workspace(new).await?;
                    tx.set_workspace_state(id, WorkspaceState::Awake, None).await
                })
            })
            .await
            .unwrap();
        id
    }

    pub(crate) async fn session(&self) -> SessionId {
        let workspace = self.workspace().await;
        self.session_in(workspace).await
    }

    pub(crate) async fn session_in(&self, workspace: WorkspaceId) -> SessionId {
        let new = NewSession {
            settings: boatyard_model::AgentSettings::default(),
            id: SessionId::new(),
            owner: Owner::BUILT_IN,
            workspace,
            attempt: None,
            agent: "demo".into(),
            model: None,
            cwd: "/work".into(),
            client_key: None,
        };
        self.store.write(move |tx| Box::pin(tx.create_session(new))).await.unwrap().id
    }
}

pub(crate) fn text(text: &str) -> Vec<Content> {
    vec![Content::Text { text: text.into() }]
}

pub(crate) fn attempts(n: usize) -> Vec<NewAttempt> {
    vec![NewAttempt { agent: "demo".into(), model: None }; n]
}

pub(crate) fn task(title: &str) -> NewTask {
    NewTask {
        owner: Owner::BUILT_IN,
        title: title.into(),
        prompt: text(title),
        repository: None,
        source: "https://example.com/a/b".into(),
        base: None,
        environment: None,
        limits: TaskLimits::default(),
        workspace_limits: WorkspaceLimits::default(),
        priority: 0,
        options: serde_json::json!({}),
        attempts: attempts(1),
        idempotency: None,
    }
}

pub(crate) fn key(key: &str, request_hash: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey {
        route: "POST /api/tasks".into(),
        key: key.into(),
        request_hash: request_hash.into(),
    })
}

pub(crate) fn event(session: SessionId, n: u64, body: EventBody) -> NewEvent {
    NewEvent {
        session,
        time: Timestamp(5),
        turn: Some(1),
        origin: Some(Origin { epoch: 1, n }),
        body,
    }
}

pub(crate) fn delta(message: &str, text: &str) -> EventBody {
    EventBody::MessageDelta { message: message.into(), text: text.into() }
}

pub(crate) fn notice(text: &str) -> EventBody {
    EventBody::Notice {
        level: boatyard_model::event::NoticeLevel::Info,
        code: "test".into(),
        text: text.into(),
        data: None,
    }
}
