//! A server under test, and a machine that can't make sandboxes.

use std::{os::fd::OwnedFd, sync::Arc};

use boatyard_api::{Client, Problem, problem};
use boatyard_model::{KeyId, LayerId, ToolId, WorkspaceId};
use boatyard_runtime::{
    Capabilities, Capture, Connection, DiskUsage, Error, Existing, Frozen, Isolation, Runtime,
    SnapshotKind, StartSpec, Started,
};
use boatyard_server::{
    Parts, Serving, auth::Admin, providers::Providers, settings::Settings, vault::Master,
};
use boatyard_store::{NewKey, Options, Owner, Store};
use reqwest::{Method, RequestBuilder, Response, header};
use tokio::net::TcpListener;

/// Refuses everything that takes a kernel.
struct Bare(Capabilities);

fn refused<T>() -> Result<T, Error> {
    Err(Error::Step {
        step: "making a user namespace".to_owned(),
        hint: "this is a test".to_owned(),
        source: std::io::ErrorKind::PermissionDenied.into(),
    })
}

#[async_trait::async_trait]
impl Runtime for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn tried(&self) -> Option<&Capabilities> {
        Some(&self.0)
    }

    async fn capabilities(&self) -> Result<&Capabilities, Error> {
        Ok(&self.0)
    }

    async fn create(&self, _: WorkspaceId) -> Result<(), Error> {
        refused()
    }

    async fn start(&self, _: WorkspaceId, _: &StartSpec) -> Result<Started, Error> {
        refused()
    }

    async fn kill(&self, _: WorkspaceId) -> Result<(), Error> {
        Ok(())
    }

    async fn connect(&self, workspace: WorkspaceId) -> Result<Connection, Error> {
        Err(Error::NotRunning(workspace))
    }

    async fn egress_listener(&self, workspace: WorkspaceId) -> Result<OwnedFd, Error> {
        Err(Error::NotRunning(workspace))
    }

    async fn capture(&self, workspace: WorkspaceId) -> Result<Capture, Error> {
        Err(Error::NotRunning(workspace))
    }

    async fn gateway_listener(&self, workspace: WorkspaceId) -> Result<OwnedFd, Error> {
        Err(Error::NotRunning(workspace))
    }

    async fn set_frozen(&self, workspace: WorkspaceId, _: Frozen) -> Result<(), Error> {
        Err(Error::NotRunning(workspace))
    }

    async fn snapshot(
        &self,
        workspace: WorkspaceId,
        _: LayerId,
        _: SnapshotKind,
    ) -> Result<(), Error> {
        Err(Error::NotFound(workspace))
    }

    async fn sync(&self, workspace: WorkspaceId) -> Result<(), Error> {
        Err(Error::NotFound(workspace))
    }

    async fn remove(&self, _: WorkspaceId) -> Result<(), Error> {
        Ok(())
    }

    async fn keep_tool(&self, workspace: WorkspaceId, _: ToolId) -> Result<(), Error> {
        Err(Error::NotFound(workspace))
    }

    async fn remove_tool(&self, _: ToolId) -> Result<(), Error> {
        Ok(())
    }

    async fn list_tools(&self) -> Result<Vec<ToolId>, Error> {
        Ok(Vec::new())
    }

    async fn tool_usage(&self, _: ToolId) -> Result<DiskUsage, Error> {
        refused()
    }

    async fn remove_layer(&self, _: LayerId) -> Result<(), Error> {
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Existing>, Error> {
        Ok(Vec::new())
    }

    async fn list_layers(&self) -> Result<Vec<LayerId>, Error> {
        Ok(Vec::new())
    }

    async fn disk_usage(&self, _: WorkspaceId) -> Result<DiskUsage, Error> {
        Ok(DiskUsage::default())
    }

    async fn layer_usage(&self, _: LayerId) -> Result<DiskUsage, Error> {
        Ok(DiskUsage::default())
    }

    async fn spool(&self, _: WorkspaceId) -> Result<Option<std::fs::File>, Error> {
        Ok(None)
    }
}

/// A server on a port and a folder of its own.
pub(crate) struct Machine {
    /// The server.
    pub(crate) serving: Serving,
    /// Its database.
    pub(crate) store: Store,
    /// Our client, with the key.
    pub(crate) client: Client,
    /// The key's id.
    pub(crate) key: KeyId,
    /// The key.
    pub(crate) secret: String,
    raw: reqwest::Client,
    _data: tempfile::TempDir,
}

impl Machine {
    /// Starts one for the person at this machine.
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default(), None).await
    }

    /// Starts one with these settings, set up by this account if there is one.
    pub(crate) async fn with(settings: Settings, admin: Option<Admin>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(data.path().join("boatyard.db"))).await.unwrap();
        let (secret, hash) = boatyard_server::auth::new_key();
        let (name, prefix) = ("test".to_owned(), secret[..8].to_owned());
        let new = NewKey::local(Owner::BUILT_IN, name, prefix, hash);
        let work = store.write(|tx| Box::pin(async move { tx.create_key(new).await }));
        let key = work.await.unwrap();
        let capabilities = Capabilities { isolation: Isolation::Rootless, checks: Vec::new() };
        let parts = Parts {
            data: data.path().to_owned(),
            store: store.clone(),
            settings,
            runtime: Arc::new(Bare(capabilities)),
            providers: Providers::default(),
            master: Master::default(),
            admin,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serving = boatyard_server::start(parts, listener).await.unwrap();
        let url = format!("http://{}", serving.address());
        let client = Client::new(&url, Some(&secret)).unwrap();
        let raw = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only([])
            .build()
            .unwrap();
        Self { serving, store, client, key, secret, raw, _data: data }
    }

    /// A request without anything that says who.
    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.raw.request(method, format!("http://{}{path}", self.serving.address()))
    }

    /// A request with the key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(&self.secret)
    }

    /// Reads something with the key.
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }
}

/// The problem in an answer, which must be one.
pub(crate) async fn problem_of(response: Response) -> Problem {
    let status = response.status().as_u16();
    let mime = response.headers().get(header::CONTENT_TYPE).cloned();
    let text = response.text().await.unwrap();
    assert_eq!(mime.as_ref().map(|mime| mime.as_bytes()), Some(problem::MEDIA_TYPE.as_bytes()));
    let problem: Problem = serde_json::from_str(&text).unwrap();
    assert_eq!(problem.status, status, "{text}");
    assert!(problem.known_kind().is_some() && problem.request_id.is_some(), "{text}");
    problem
}
