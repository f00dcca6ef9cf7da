//! The throw-away workspace in which something is installed or tried. It has no row: what a crash
//! leaves of one is removed at the next start.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use boatyard_egress::Policy;
use boatyard_link::message::{ExecExit, ExecRequest};
use boatyard_model::{ToolId, WorkspaceId};
use boatyard_runtime::StartSpec;
use boatyard_store::Reason;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use super::{
    super::{disk, prepare},
    failed,
};
use crate::{
    agents,
    app::App,
    hub::{Attached, attached::Purpose, builders::Refusals, exec::Piece},
    jobs::dispatch,
    settings::egress::Egress,
};

/// Where packages are put; what is below becomes the tool's folder.
pub(super) const PLACE: &str = "/work";
/// Output that is kept of a command, in bytes: its end.
const KEPT: usize = 16 << 10;
/// Lines of it that a reason repeats.
const LINES: usize = 40;
/// Where programs are looked for in every workspace, after a Node of our own.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The authorities that this machine trusts, which every workspace sees.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How much longer than its own deadline a command is waited for.
const GRACE: Duration = Duration::from_secs(10);

/// What may leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Requests to the package sources, and what the settings allow every workspace: somebody who
    /// may asked for this installation.
    Packages,
    /// Nothing.
    Closed,
}

/// A workspace that will be thrown away.
pub(super) struct Builder<'a> {
    app: &'a App,
    pub(super) workspace: WorkspaceId,
    pub(super) attached: Arc<Attached>,
    policy: watch::Sender<Arc<Policy>>,
    refusals: Arc<Refusals>,
    _egress: DropGuard,
}

impl<'a> Builder<'a> {
    /// Makes one and starts it.
    ///
    /// # Errors
    /// When the machine refuses; nothing is left then.
    pub(super) async fn start(app: &'a App, way: Way) -> Result<Self, Reason> {
        let workspace = WorkspaceId::new();
        let started = Self::started(app, workspace, way).await;
        if started.is_err() {
            clear(app, workspace).await;
        }
        started
    }

    async fn started(app: &'a App, workspace: WorkspaceId, way: Way) -> Result<Self, Reason> {
        let spec = StartSpec {
            generation: 1,
            layers: Vec::new(),
            mirror: None,
            limits: app.settings.limits.workspace(),
        };
        app.runtime.create(workspace).await.map_err(prepare::runtime_failed)?;
        app.runtime.start(workspace, &spec).await.map_err(prepare::runtime_failed)?;
        let connection = app.runtime.connect(workspace).await.map_err(prepare::runtime_failed)?;
        let attached = Attached::start(connection, Purpose::Builder)
            .await
            .map_err(prepare::workspace_failed)?;
        let policy = match way {
            Way::Packages => app.hub.package_policy().map_err(|e| failed(format!("{e:#}")))?,
            Way::Closed => Policy::default(),
        };
        let (policy, receiver) = watch::channel(Arc::new(policy));
        let (egress, refusals) = app
            .hub
            .serve_builder_by(workspace, receiver)
            .await
            .map_err(prepare::workspace_failed)?;
        Ok(Self { app, workspace, attached, policy, refusals, _egress: egress })
    }

    /// From now on nothing leaves it.
    pub(super) fn close_way(&self) {
        self.policy.send_replace(Arc::new(Policy::default()));
    }

    /// Runs a command to its good end: the end of what it said.
    ///
    /// # Errors
    /// That it failed, with the end of what it said.
    pub(super) async fn run(
        &self,
        argv: &[String],
        node: Option<ToolId>,
        deadline: Instant,
    ) -> Result<String, Reason> {
        self.output(argv, node, deadline, KEPT).await
    }

    /// The same, with this much of its output.
    pub(super) async fn output(
        &self,
        argv: &[String],
        node: Option<ToolId>,
        deadline: Instant,
        kept: usize,
    ) -> Result<String, Reason> {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = ExecRequest {
            command: argv.to_vec(),
            environment: environment(&self.app.settings.egress, node),
            cwd: Some(PLACE.to_owned()),
            deadline_millis: Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)),
            stdin: false,
        };
        let shown = argv.join(" ");
        let ran = async {
            let mut exec = self.attached.exec(request, None).await?;
            let mut said = Vec::new();
            loop {
                match exec.next().await? {
                    Piece::Stdout(bytes) | Piece::Stderr(bytes) => {
                        said.extend_from_slice(&bytes);
                        if said.len() > 2 * kept {
                            said.drain(..said.len() - kept);
                        }
                    }
                    Piece::Exit(exit, _) => return Ok((exit, said)),
                }
            }
        };
        let limit = self.app.settings.limits.disk.bytes();
        let ran = tokio::select! {
            ran = tokio::time::timeout(left + GRACE, ran) => ran,
            bytes = disk::taken_too_much(self.app, self.workspace, limit) => {
                return Err(failed(format!(
                    "`{shown}` was ended: it has written {}, more than the {} that a workspace may \
                     take (`[limits] disk` in boatyard.toml).",
                    disk::mib(bytes),
                    disk::mib(limit)
                )));
            }
        };
        let (exit, mut said) = ran
            .map_err(|_| failed(format!("`{shown}` did not end when it was ended.")))?
            .map_err(prepare::workspace_failed)?;
        said.drain(..said.len().saturating_sub(kept));
        let text = String::from_utf8_lossy(&said).into_owned();
        let why = match exit {
            ExecExit::Exited { code: 0 } => return Ok(text),
            ExecExit::Exited { code } => format!("ended with code {code}"),
            ExecExit::Signalled { signal: 9 } => {
                "was killed, perhaps for its memory (`[limits] memory` in boatyard.toml)".to_owned()
            }
            ExecExit::Signalled { signal } => format!("was ended by signal {signal}"),
            ExecExit::TimedOut => {
                "took longer than it may (`[limits] install_time` in boatyard.toml)".to_owned()
            }
            ExecExit::NotStarted { message } => {
                return Err(failed(not_started(&argv[0], &message)));
            }
        };
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
        let mut text = format!("`{shown}` {why}.\n{end}").trim_end().to_owned();
        for refusal in self.refusals.told() {
            text.push_str("\nThis did not pass: ");
            text.push_str(&refusal);
        }
        Err(failed(text))
    }

    /// Ends what runs in it and keeps its files as a tool.
    ///
    /// # Errors
    /// When the machine refuses.
    pub(super) async fn keep(&self, tool: ToolId) -> Result<(), Reason> {
        self.app.runtime.kill(self.workspace).await.map_err(prepare::runtime_failed)?;
        self.app.runtime.keep_tool(self.workspace, tool).await.map_err(prepare::runtime_failed)
    }

    /// Throws it away.
    pub(super) async fn end(self) {
        clear(self.app, self.workspace).await;
    }
}

async fn clear(app: &App, workspace: WorkspaceId) {
    if let Err(error) = app.runtime.kill(workspace).await {
        tracing::warn!(workspace.id = %workspace, error = %crate::chain(&error), "a builder was not ended");
    }
    match app.runtime.remove(workspace).await {
        Ok(()) | Err(boatyard_runtime::Error::NotFound(_)) => {}
        Err(error) => {
            tracing::warn!(workspace.id = %workspace, error = %crate::chain(&error), "a builder was not removed");
        }
    }
}

/// What an installation and its check get beside what every command gets: a Node of our own goes
/// before the system's, and what pip put there is found.
fn environment(egress: &Egress, node: Option<ToolId>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([
        ("CI".to_owned(), "1".to_owned()),
        ("PYTHONPATH".to_owned(), PLACE.to_owned()),
    ]);
    let mut set = |name: &str, value: &str| variables.insert(name.to_owned(), value.to_owned());
    // Three tries within seconds: a source that does not answer is told soon.
    set("npm_config_fetch_retry_mintimeout", "1000");
    // pip unpacks there first; `/tmp` is a small piece of memory.
    set("TMPDIR", dispatch::HOME);
    if let Some(address) = &egress.npm_registry {
        set("npm_config_registry", address);
    }
    if let Some(address) = &egress.pypi_index {
        set("PIP_INDEX_URL", address);
    }
    // npm and pip bring authorities of their own; those that this machine trusts may be more.
    if Path::new(AUTHORITIES).exists() {
        for name in ["npm_config_cafile", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "SSL_CERT_FILE"] {
            set(name, AUTHORITIES);
        }
    }
    if let Some(node) = node {
        variables.insert("PATH".to_owned(), format!("{}:{PATH}", agents::node_folder(node)));
    }
    variables
}

fn not_started(program: &str, message: &str) -> String {
    match program {
        "npm" => "npm is not on the PATH of workspaces. Install Node.js with npm on this machine \
                  (on Debian: `apt install npm`), or name the folder of one under `[tools] paths` \
                  in boatyard.toml, and run the installation again."
            .to_owned(),
        "python3" => "python3 is not on the PATH of workspaces. Install Python with pip on this \
                      machine (on Debian: `apt install python3-pip`) and run the installation again."
            .to_owned(),
        program => format!("`{program}` could not be started: {message}."),
    }
}
