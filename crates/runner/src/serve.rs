//! `serve`: takes links from `init`, one after another, and does what comes over them.
//!
//! ```text
//!            connection                         10 s without link and work
//!  waiting ─────────────► one live link ─► ended ─► waiting ───────────────► exit 0
//!                             │ connection: the old link is closed, its streams end
//!                             └──────► one live link
//! ```
//!
//! Sessions and what they run know nothing of links: they go on when one ends, and what they say
//! waits in the spool.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use boatyard_link::{GoAwayCode, Incoming, Link, Options, ResetCode, Role, message::Header};
use boatyard_model::time::SystemClock;
use boatyard_sandbox::{
    cgroup, fds,
    programs::Finder,
    serve::{Connections, Inherited},
    spawn::Identity,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, unix::AsyncFd},
    net::UnixStream,
    sync::watch,
    time::timeout,
};

use crate::{
    beneath::Folder,
    blobs::Blobs,
    events, exec, file,
    git::{self, Git},
    ids::Owner,
    layout::Layout,
    process::{Groups, Starter, readable},
    sessions::{Context, Sessions, SharedClock},
    spool::Spool,
};

mod control;

/// How long `serve` stays without a link and without work.
const LINGER: Duration = Duration::from_secs(10);

/// How long a replaced link may take to be told so.
const CLOSING: Duration = Duration::from_millis(100);

/// Threads that touch the disk for file streams. Each counts against the workspace's processes.
const BLOCKING_THREADS: usize = 4;

/// How long an unused one of them stays.
const BLOCKING_KEEP: Duration = Duration::from_secs(2);

/// What a runner is made of.
#[derive(Debug)]
pub struct Setup {
    /// The workspace's generation.
    pub generation: u64,
    /// Where things are.
    pub layout: Layout,
    /// As whom processes are started.
    pub identity: Identity,
    /// To whom files that are written here belong; this process if absent.
    pub owner: Option<Owner>,
    /// The workspace's control group.
    pub cgroup: Option<OwnedFd>,
    /// The spool.
    pub spool: File,
    /// How much the spool holds, in bytes.
    pub spool_capacity: u64,
    /// Finds out which program has a connection.
    pub finder: Finder,
}

/// Everything that outlives a link.
#[derive(Debug)]
pub struct Runner {
    generation: u64,
    layout: Arc<Layout>,
    starter: Arc<Starter>,
    git: Arc<Git>,
    work: Arc<Folder>,
    blobs: Arc<Blobs>,
    spool: Arc<Spool>,
    sessions: Sessions,
    execs: AtomicU32,
    /// How many links there have been.
    links: AtomicU64,
    /// What commands have started.
    commands: Groups,
    /// Finds who connects.
    finder: Arc<Mutex<Finder>>,
    broken: watch::Sender<Option<String>>,
}

/// The process `serve`, which a fork of `init` becomes; its exit code.
pub fn main(inherited: Inherited) -> i32 {
    // Nobody sees its standard error; that it failed is told by the next one (`runner_lost`).
    if life(inherited).is_ok() { 0 } else { 1 }
}

fn life(inherited: Inherited) -> anyhow::Result<()> {
    if let Some(group) = &inherited.group {
        // What the runner before had is dead; what can't be removed is in nobody's way.
        let _ = cgroup::clear(group.as_fd());
    }
    let mapped = std::env::var(fds::ENV_IDS).is_ok_and(|ids| ids == "range");
    let owner = Owner { uid: boatyard_sandbox::WORKER_UID, gid: boatyard_sandbox::WORKER_GID };
    let setup = Setup {
        generation: inherited.generation,
        layout: Layout::default(),
        identity: Identity::Worker,
        owner: mapped.then_some(owner),
        cgroup: inherited.group,
        spool: inherited.spool,
        spool_capacity: boatyard_link::spool::CAPACITY,
        finder: inherited.finder,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_KEEP)
        .build()
        .context("the async runtime can't be started")?;
    let outcome = runtime.block_on(async {
        let runner = Runner::new(setup).await?;
        run(runner, inherited.connections).await
    });
    // A blocking read of a slow disk must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

/// Serves links until there is nothing left to do.
async fn run(runner: Arc<Runner>, connections: Connections) -> anyhow::Result<()> {
    let connections = readable(connections)?;
    let mut broken = runner.broken.subscribe();
    let mut live: Option<tokio::task::JoinHandle<()>> = None;
    let mut current: Option<Link> = None;
    loop {
        let linked = live.is_some();
        tokio::select! {
            connection = next_connection(&connections) => {
                let connection = connection.context("`init` passes on no link any more")?;
                if let Some(old) = current.take() {
                    tokio::spawn(replace(old));
                }
                let (link, task) = runner.clone().link(connection);
                (current, live) = (Some(link), Some(task));
            }
            // A task that panicked has ended as well.
            _ = ended(&mut live), if linked => (current, live) = (None, None),
            () = tokio::time::sleep(LINGER), if !linked => {
                if !runner.is_busy() {
                    return Ok(());
                }
            }
            reason = broken.wait_for(Option::is_some) => {
                let reason = reason.ok().and_then(|reason| reason.clone());
                return Err(anyhow!(reason.unwrap_or_else(|| "it broke".into())));
            }
        }
    }
}

/// Tells the other side of an old link why it ends, and ends it.
async fn replace(old: Link) {
    old.close(GoAwayCode::REPLACED, Duration::ZERO, "another link came");
    // Streams that are open would keep it; what they carry comes again over the new one.
    let _ = timeout(CLOSING, old.ended()).await;
    old.abort();
}

async fn ended(task: &mut Option<tokio::task::JoinHandle<()>>) {
    match task {
        Some(task) => _ = task.await,
        None => std::future::pending().await,
    }
}

/// The next connection that `init` passes on.
async fn next_connection(connections: &AsyncFd<Connections>) -> anyhow::Result<UnixStream> {
    loop {
        let mut ready = connections.readable().await?;
        if let Some(connection) = connections.get_ref().next()? {
            return Ok(UnixStream::from_std(connection.into())?);
        }
        ready.clear_ready();
    }
}

impl Runner {
    /// Takes over the workspace: its spool, and what an earlier runner left in it.
    ///
    /// # Errors
    /// When the spool or the folders can't be opened.
    pub async fn new(setup: Setup) -> anyhow::Result<Arc<Self>> {
        let Setup { generation, layout, identity, owner, cgroup, spool, spool_capacity, finder } =
            setup;
        let (spool, left) =
            Spool::open(spool, generation, spool_capacity).context("the spool can't be opened")?;
        let spool = Arc::new(spool);
        let folder = |path: &str| {
            Folder::open(Path::new(path), owner).with_context(|| format!("{path} can't be opened"))
        };
        let work = Arc::new(folder(&layout.work)?);
        let homes = Arc::new(folder(layout.homes())?);
        let layout = Arc::new(layout);
        let starter = Arc::new(Starter::new(identity, cgroup));
        let git = Arc::new(Git::new(layout.clone(), starter.clone(), work.clone()));
        let blobs = Arc::new(Blobs::default());
        let broken = watch::Sender::new(None);
        let context = Arc::new(Context {
            layout: layout.clone(),
            starter: starter.clone(),
            spool: spool.clone(),
            git: git.clone(),
            homes,
            blobs: blobs.clone(),
            clock: SharedClock(Arc::new(SystemClock)),
            broken: broken.clone(),
        });
        let sessions = Sessions::new(context, left);
        Ok(Arc::new(Self {
            generation,
            layout,
            starter,
            git,
            work,
            blobs,
            spool,
            sessions,
            execs: AtomicU32::new(0),
            links: AtomicU64::new(0),
            commands: Groups::default(),
            finder: Arc::new(Mutex::new(finder)),
            broken,
        }))
    }

    /// Serves one link over `io` until it ends. The task ends with it.
    pub fn link<T>(self: Arc<Self>, io: T) -> (Link, tokio::task::JoinHandle<()>)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let software = concat!("boatyard-runner ", env!("CARGO_PKG_VERSION"));
        let mut options = Options::new(software).epoch(self.generation);
        // The kernel tells of the server's end, and an idle workspace shall not wake up.
        options.keepalive = None;
        let (link, driver) = Link::start(io, Role::Acceptor, options);
        tokio::spawn(driver);
        let handle = link.clone();
        let number = self.links.fetch_add(1, Ordering::Relaxed) + 1;
        let task = tokio::spawn(async move {
            while let Some(incoming) = link.accept().await {
                tokio::spawn(self.clone().stream(incoming));
            }
            // Pictures are for prompts of the link that they came by.
            if self.links.load(Ordering::Relaxed) == number {
                self.blobs.clear();
            }
        });
        (handle, task)
    }

    /// Whether something runs that would end with this program.
    pub fn is_busy(&self) -> bool {
        self.sessions.are_alive()
            || self.execs.load(Ordering::Relaxed) > 0
            || !self.commands.are_empty()
    }

    async fn stream(self: Arc<Self>, incoming: Incoming) {
        let header = match incoming.parse::<Header>() {
            Ok(header) => header,
            Err(error) => {
                let text = format!("this runner does not know such a stream: {error}");
                return incoming.refuse(ResetCode::UNSUPPORTED, &text);
            }
        };
        let stream = incoming.stream;
        // How a stream ended is seen by the server, which ended it or lost the link; only the
        // spool's own failure concerns us.
        match header {
            Header::Control => control::serve(self, stream).await,
            Header::Events { after } => {
                let outcome = events::serve(stream, self.spool.clone(), after).await;
                if let Err(events::Error::Spool(error)) = outcome {
                    self.broken.send_replace(Some(crate::failure::chain(&error)));
                }
            }
            Header::Exec(request) => self.exec(stream, request).await,
            Header::Blob { blob, bytes, .. } => {
                let _ = self.blobs.receive(stream, blob, bytes).await;
            }
            Header::File(request) => {
                let _ = file::serve(stream, self.work.clone(), request).await;
            }
            Header::Git(request) => {
                let _ = git::stream::serve(stream, &self.git, request).await;
            }
        }
    }

    async fn exec(
        &self,
        stream: boatyard_link::Stream,
        request: boatyard_link::message::ExecRequest,
    ) {
        self.execs.fetch_add(1, Ordering::Relaxed);
        // How it ended is seen by the server, as with the other streams.
        let _ = exec::serve(stream, &self.layout, &self.starter, &self.commands, request).await;
        self.execs.fetch_sub(1, Ordering::Relaxed);
        // Off the path of the exit, which is on its way by the next turn of the loop.
        tokio::task::yield_now().await;
        self.commands.are_empty();
    }
}
