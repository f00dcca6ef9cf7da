//! The spawner's loop: requests, children that set themselves up, deaths, workers.
//!
//! ```text
//!            Start                 end of sync socket
//!  (nothing) ─────► Starting ───────────────────────► Running
//!                      │ error, Kill, deadline           │ Kill, death
//!                      ▼                                 ▼
//!                    Ending ── process ends ─► groups removed ─► replies, (nothing)
//! ```
//!
//! Nothing here waits but for the next event. What the server may have in flight is bounded: it
//! is not read from while too many replies wait to be sent, and too many slow requests are
//! answered with `Busy`.

mod ending;
mod outbox;
mod poller;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    ffi::CString,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use self::{
    outbox::Outbox,
    poller::{Events, Poller},
};
use super::{
    hint::{self, plain, refuse},
    kept::Kept,
    meta::{Meta, has_ended},
    start::{micros, told_by_child},
    state::{Phase, Sandbox, Starting, State, Waiting},
    worker::{Task, Worker},
};
use crate::{
    Error, Result,
    error::Step as _,
    protocol::{
        Failure, FailureKind, REQUEST_MAX, Ready, Reply, Request, SnapshotMode, Start, Started,
        decode_request,
    },
    sys::{
        dir,
        process::{Wait, reap},
        socket,
    },
};

/// How long a child may take to set itself up.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a killed sandbox may take to die before the server is told that it did not.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long the groups of a dead sandbox may stay busy.
const GROUPS_LIMIT: Duration = Duration::from_secs(5);
/// How soon removing a busy group is tried again; nothing announces that it can be.
const GROUPS_STEP: Duration = Duration::from_micros(500);
/// Requests taken before other events have their turn.
const BATCH: usize = 16;
/// Workers that are hard on the disk, at one time.
const HEAVY_MAX: usize = 6;
/// Slow requests that wait for a worker.
const QUEUE_MAX: usize = 1024;
/// Requests that wait for the end of one sandbox.
const WAITING_MAX: usize = 64;

/// The client's socket; other tokens are counted up from 1.
const CLIENT: u64 = 0;

/// Serves until the server closes its socket or asks for the end.
pub(super) fn run(state: State, client: BorrowedFd<'_>) -> Result<()> {
    let mut this = Loop::new(state, client)?;
    this.greet()?;
    let result = this.serve();
    if this.state.running.is_empty() {
        this.state.host.remove_bases();
    }
    result
}

/// What a token stands for.
#[derive(Debug, Clone, Copy)]
enum Watch {
    /// The socket to a child that sets itself up.
    Sync(u128),
    /// A first process.
    Process(u128),
    /// A worker, by this token.
    Worker,
}

/// The tokens of one sandbox.
#[derive(Debug, Clone, Copy)]
struct Tokens {
    process: u64,
    sync: Option<u64>,
}

/// What to do when time is up, unless it has happened by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Start { ws: u128, generation: u64 },
    Kill { ws: u128, generation: u64 },
}

/// The groups of a dead sandbox, which were busy.
#[derive(Debug)]
struct Cleanup {
    name: CString,
    /// None for a sandbox that an earlier spawner knew.
    end: Option<End>,
    deadline: Instant,
}

/// Who is told about an end.
#[derive(Debug)]
struct End {
    ws: u128,
    generation: u64,
    /// Empty: it ended by itself.
    waiting: Vec<Waiting>,
}

struct Loop<'a> {
    state: State,
    client: BorrowedFd<'a>,
    poller: Poller,
    outbox: Outbox,
    watches: HashMap<u64, Watch>,
    tokens: HashMap<u128, Tokens>,
    next_token: u64,
    workers: HashMap<u64, Worker>,
    queue: VecDeque<(u64, Task)>,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    cleanups: Vec<Cleanup>,
    ending: bool,
}

impl<'a> Loop<'a> {
    fn new(state: State, client: BorrowedFd<'a>) -> Result<Self> {
        let poller = Poller::new()?;
        poller::set_nonblocking(client)?;
        poller.add(client, CLIENT, Events::Read)?;
        let mut this = Self {
            state,
            client,
            poller,
            outbox: Outbox::default(),
            watches: HashMap::new(),
            tokens: HashMap::new(),
            next_token: CLIENT + 1,
            workers: HashMap::new(),
            queue: VecDeque::new(),
            timers: BinaryHeap::new(),
            cleanups: Vec::new(),
            ending: false,
        };
        let adopted: Vec<u128> = this.state.running.keys().copied().collect();
        for ws in adopted {
            this.watch_process(ws)?;
        }
        let deadline = Instant::now() + GROUPS_LIMIT;
        for name in std::mem::take(&mut this.state.left_groups) {
            this.cleanups.push(Cleanup { name, end: None, deadline });
        }
        let trash = dir::list(this.state.trash.as_fd()).step("list trash")?;
        this.discard(trash.into_iter().map(|entry| entry.name).collect());
        Ok(this)
    }

    /// Tells the server that we are up, or why sandboxes can't be made.
    fn greet(&mut self) -> Result<()> {
        let Some(isolation) = self.state.isolation() else {
            return Err(Error::Refused(Failure {
                kind: FailureKind::System,
                step: "cgroup limits".into(),
                errno: 0,
                hint: "no control group limits memory and processes here: mount cgroup2 with its \
                       controllers, or run Boatyard as an ordinary user"
                    .into(),
            }));
        };
        let running = u32::try_from(self.state.running.len()).unwrap_or(u32::MAX);
        let ready = Ready { isolation, limits: self.state.host.limits_by(), running };
        self.reply(0, &Reply::Ready(ready));
        Ok(())
    }

    fn serve(&mut self) -> Result<()> {
        loop {
            let server_lives = self.outbox.flush(self.client)?;
            if !server_lives || (self.ending && self.outbox.is_empty()) {
                return Ok(());
            }
            self.poller.change(self.client, CLIENT, self.outbox.interest())?;
            for token in self.poller.wait(self.timeout())? {
                if token == CLIENT {
                    self.requests()?;
                } else {
                    self.event(token)?;
                }
            }
            self.clean_up();
            self.times_up();
        }
    }

    /// How long nothing needs to be done without an event.
    fn timeout(&self) -> Option<Duration> {
        let timer =
            self.timers.peek().map(|Reverse((at, _))| at.saturating_duration_since(Instant::now()));
        let cleanup = (!self.cleanups.is_empty()).then_some(GROUPS_STEP);
        timer.into_iter().chain(cleanup).min()
    }

    fn requests(&mut self) -> Result<()> {
        // One more than is allowed, so that a longer one is seen to be too long.
        let mut buffer = [0; REQUEST_MAX + 1];
        for _ in 0..BATCH {
            if self.outbox.is_full() {
                return Ok(());
            }
            let received = match socket::receive(self.client, &mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    self.reply(0, &Reply::Failed(plain(FailureKind::Invalid, "too long")));
                    continue;
                }
                // Reset: the server is gone.
                Err(_) => None,
                Ok(received) => Some(received.length).filter(|length| *length > 0),
            };
            let Some(length) = received else {
                self.ending = true;
                self.outbox.clear();
                return Ok(());
            };
            match decode_request(&buffer[..length]) {
                Ok((id, request)) => self.request(id, request),
                Err(error) => {
                    let id = buffer[..length].first_chunk().copied().map_or(0, u64::from_le_bytes);
                    self.reply(id, &Reply::Failed(hint::failure(&error)));
                }
            }
        }
        Ok(())
    }

    fn request(&mut self, id: u64, request: Request) {
        let result = match request {
            Request::Start(start) => self.start(id, &start),
            Request::Create { ws } => self.state.create(ws).map(Some),
            Request::Kill { ws } => self.kill(id, ws),
            Request::Remove { ws } => {
                self.state.remove(ws).and_then(|name| self.work(id, Task::Discard(vec![name])))
            }
            Request::RemoveLayer { layer } => self.remove_kept(id, Kept::Layer(layer)),
            Request::RemoveTool { tool } => self.remove_kept(id, Kept::Tool(tool)),
            Request::KeepTool { ws, tool } => self.keep_tool(id, ws, tool),
            Request::Freeze { ws } => {
                self.state.alive(ws).and_then(|_| self.work(id, Task::Freeze(ws)))
            }
            Request::Thaw { ws } => {
                self.state.alive(ws).and_then(|_| self.work(id, Task::Thaw(ws)))
            }
            Request::Snapshot { ws, layer, mode: SnapshotMode::Rename } => {
                self.state.freeze_into_layer(ws, layer).map(Some)
            }
            Request::Snapshot { ws, layer, mode: SnapshotMode::Copy } => self.copy(id, ws, layer),
            Request::List { after } => self.state.list(after).map(Some),
            Request::ListLayers { after } => self.state.list_layers(after).map(Some),
            Request::ListTools { after } => self.state.list_tools(after).map(Some),
            Request::Usage { ws } => {
                self.state.existing(ws).and_then(|_| self.work(id, Task::Usage(ws)))
            }
            Request::LayerUsage { layer } => self.work(id, Task::KeptUsage(Kept::Layer(layer))),
            Request::ToolUsage { tool } => self.work(id, Task::KeptUsage(Kept::Tool(tool))),
            Request::OpenSpool { ws } => self.state.open_spool(ws).map(|spool| {
                self.outbox.push(id, &Reply::Spool, Some(spool));
                None
            }),
            Request::Sync { ws } => self.sync(id, ws),
            Request::Probe => self.work(id, Task::Probe),
            Request::Shutdown => {
                self.ending = true;
                Ok(Some(Reply::Done))
            }
        };
        match result {
            Ok(Some(reply)) => self.reply(id, &reply),
            // Answered later.
            Ok(None) => {}
            Err(error) => self.reply(id, &Reply::Failed(hint::failure(&error))),
        }
    }

    fn start(&mut self, request: u64, start: &Start) -> Result<Option<Reply>> {
        let since = Instant::now();
        let begun = self.state.begin(start, since)?;
        self.discard(begun.discarded);
        let sync = self.watch(begun.sync.as_fd(), Watch::Sync(start.ws))?;
        let starting = Starting {
            request,
            sync: begun.sync,
            since,
            clone_us: begun.clone_us,
            unclean: begun.unclean,
        };
        let sandbox = Sandbox {
            pid: begun.process.pid,
            pidfd: begun.process.pidfd,
            generation: start.generation,
            phase: Phase::Starting(starting),
        };
        self.state.running.insert(start.ws, sandbox);
        self.watch_process(start.ws)?;
        if let Some(tokens) = self.tokens.get_mut(&start.ws) {
            tokens.sync = Some(sync);
        }
        let timer = Timer::Start { ws: start.ws, generation: start.generation };
        self.timers.push(Reverse((since + START_LIMIT, timer)));
        Ok(None)
    }

    fn kill(&mut self, request: u64, ws: u128) -> Result<Option<Reply>> {
        if !self.state.running.contains_key(&ws) {
            return Ok(Some(Reply::Done));
        }
        self.end(
            ws,
            Waiting::Kill(request),
            plain(FailureKind::NotRunning, "killed while it started"),
        )?;
        Ok(None)
    }

    fn copy(&mut self, request: u64, ws: u128, layer: u128) -> Result<Option<Reply>> {
        self.state.alive(ws)?;
        self.work_at(ws, request, Task::CopyUpper { ws, layer })
    }

    fn keep_tool(&mut self, request: u64, ws: u128, tool: u128) -> Result<Option<Reply>> {
        self.state.quiet(ws)?;
        self.state.existing(ws)?;
        self.work_at(ws, request, Task::KeepTool { ws, tool })
    }

    /// Has `task` done, which has the workspace's files for itself.
    fn work_at(&mut self, ws: u128, request: u64, task: Task) -> Result<Option<Reply>> {
        if !self.state.copying.insert(ws) {
            return Err(refuse(FailureKind::Busy, "workspace"));
        }
        let result = self.work(request, task);
        if result.is_err() {
            self.state.copying.remove(&ws);
        }
        result
    }

    fn remove_kept(&mut self, request: u64, kept: Kept) -> Result<Option<Reply>> {
        let name = self.state.remove_kept(kept)?;
        self.work(request, Task::Discard(vec![name]))
    }

    fn sync(&mut self, request: u64, ws: u128) -> Result<Option<Reply>> {
        let folder = self.state.existing(ws)?;
        let mut works = Vec::new();
        // What an earlier boot left stays: its mark makes the next start unclean.
        let meta = Meta::read(folder.as_fd()).step("read meta")?.unwrap_or_default();
        if !self.state.running.contains_key(&ws) && meta.boot == self.state.boot {
            let entries = dir::list(folder.as_fd()).step("list workspace")?;
            works = entries
                .into_iter()
                .map(|entry| entry.name)
                .filter(|name| name.to_bytes().starts_with(b"w-"))
                .collect();
        }
        self.work(request, Task::Sync { folder: ws, works })
    }

    fn event(&mut self, token: u64) -> Result<()> {
        match self.watches.get(&token) {
            // Of a batch in which an earlier event ended this watch.
            None => Ok(()),
            Some(Watch::Sync(ws)) => self.sync_event(*ws),
            Some(Watch::Process(ws)) => self.died(*ws),
            Some(Watch::Worker) => self.worker_ended(token),
        }
    }

    /// A child's socket closed: its program runs, or it failed.
    fn sync_event(&mut self, ws: u128) -> Result<()> {
        self.unwatch_sync(ws)?;
        let Some(sandbox) = self.state.running.get_mut(&ws) else { return Ok(()) };
        let Phase::Starting(starting) = &sandbox.phase else { return Ok(()) };
        let request = starting.request;
        if let Some(error) = told_by_child(&starting.sync) {
            let failure = hint::failure(&error);
            sandbox.phase = Phase::Ending(vec![Waiting::Start(request, failure)]);
            return Ok(());
        }
        if has_ended(sandbox.pidfd.as_fd()) {
            // Its death is an event of its own.
            return Ok(());
        }
        let started = Started {
            pid: sandbox.pid.unsigned_abs(),
            generation: sandbox.generation,
            unclean: starting.unclean,
            clone_us: starting.clone_us,
            total_us: micros(starting.since),
        };
        sandbox.phase = Phase::Running;
        self.reply(request, &Reply::Started(started));
        Ok(())
    }

    /// Has `task` done; answered later.
    fn work(&mut self, request: u64, task: Task) -> Result<Option<Reply>> {
        if task.is_heavy() && self.heavy_workers() >= HEAVY_MAX {
            if self.queue.len() >= QUEUE_MAX {
                return Err(refuse(FailureKind::Busy, "spawner"));
            }
            self.queue.push_back((request, task));
            return Ok(None);
        }
        let worker = Worker::start(&mut self.state, request, task)?;
        let token = self.watch(worker.process.pidfd.as_fd(), Watch::Worker)?;
        self.workers.insert(token, worker);
        Ok(None)
    }

    /// Removes entries of the trash, with nobody waiting for it.
    fn discard(&mut self, names: Vec<CString>) {
        if names.is_empty() {
            return;
        }
        // What can't be removed now is removed when the next spawner starts.
        let _ = self.work(0, Task::Discard(names));
    }

    fn heavy_workers(&self) -> usize {
        self.workers.values().filter(|worker| worker.task.is_heavy()).count()
    }

    fn worker_ended(&mut self, token: u64) -> Result<()> {
        let Some(worker) = self.workers.remove(&token) else { return Ok(()) };
        self.unwatch(worker.process.pidfd.as_fd(), token)?;
        reap(worker.process.pidfd.as_fd(), Wait::Poll).step("reap worker")?;
        if let Task::CopyUpper { ws, .. } | Task::KeepTool { ws, .. } = &worker.task {
            self.state.copying.remove(ws);
        }
        if worker.request != 0 {
            self.reply(worker.request, &worker.answer());
        }
        if self.heavy_workers() < HEAVY_MAX
            && let Some((request, task)) = self.queue.pop_front()
            && let Err(error) = self.work(request, task)
        {
            self.reply(request, &Reply::Failed(hint::failure(&error)));
        }
        Ok(())
    }

    fn reply(&mut self, id: u64, reply: &Reply) {
        self.outbox.push(id, reply, None::<OwnedFd>);
    }

    fn watch_process(&mut self, ws: u128) -> Result<()> {
        let Some(sandbox) = self.state.running.get(&ws) else { return Ok(()) };
        let process = self.next_token;
        self.next_token += 1;
        self.poller.add(sandbox.pidfd.as_fd(), process, Events::Read)?;
        self.watches.insert(process, Watch::Process(ws));
        self.tokens.insert(ws, Tokens { process, sync: None });
        Ok(())
    }

    fn watch(&mut self, fd: BorrowedFd<'_>, watch: Watch) -> Result<u64> {
        let token = self.next_token;
        self.next_token += 1;
        self.poller.add(fd, token, Events::Read)?;
        self.watches.insert(token, watch);
        Ok(token)
    }

    /// To be called before `fd` is closed: children may hold copies of it, which would keep it
    /// watched.
    fn unwatch(&mut self, fd: BorrowedFd<'_>, token: u64) -> Result<()> {
        self.watches.remove(&token);
        self.poller.remove(fd)
    }

    /// To be called while the phase is still `Starting`, for the same reason.
    fn unwatch_sync(&mut self, ws: u128) -> Result<()> {
        let Some(token) = self.tokens.get_mut(&ws).and_then(|tokens| tokens.sync.take()) else {
            return Ok(());
        };
        self.watches.remove(&token);
        match self.state.running.get(&ws).map(|sandbox| &sandbox.phase) {
            Some(Phase::Starting(starting)) => self.poller.remove(starting.sync.as_fd()),
            _ => Ok(()),
        }
    }
}
