//! Processes that the runner starts, in groups that end together.
//!
//! A [`Starter`] knows as whom (`sandbox::spawn::Identity`: the worker in a workspace, the caller
//! in a plain process) and below which control group. A [`Group`] holds everything that one
//! session or one command started, and whatever that started. [`GroupSpawner`] hands a group to an
//! agent's driver. Only the exec of a process is in the sandbox crate; here it becomes async.

use std::{
    collections::HashMap,
    fmt, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub use boatyard_agent::process::Exit;
use boatyard_agent::process::{Process, ProcessControl, ProcessSpec, Spawner, Stdin};
use boatyard_sandbox::{
    cgroup::SessionGroup,
    spawn::{Child, Command, Identity, Status, Stdio},
};
use futures_util::FutureExt;
use rustix::process::Signal;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
    sync::watch,
};

/// How often a killed group is looked at until it is empty. The kernel needs well under a
/// millisecond for most.
const DEATH_TICK: Duration = Duration::from_millis(1);

/// Starts processes for this workspace.
#[derive(Debug)]
pub struct Starter {
    identity: Identity,
    cgroup: Option<OwnedFd>,
}

/// Counts the groups of this program: a name is never used twice, whoever asks.
static NAMES: AtomicU64 = AtomicU64::new(1);

/// What is to be started.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Program and arguments; a program without a slash is looked up in the environment's `PATH`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// What it reads.
    pub stdin: Stdin,
}

/// Groups of which something may run that nobody attends to any more, or that must end with the
/// others before the workspace sleeps.
#[derive(Debug, Default)]
pub struct Groups(Mutex<Vec<Arc<Group>>>);

/// A process that runs. Dropping it leaves the process to its group.
#[derive(Debug)]
pub struct Running {
    /// Its standard input, if a pipe was asked for.
    pub stdin: Option<pipe::Sender>,
    /// Its standard output.
    pub stdout: pipe::Receiver,
    /// Its standard error.
    pub stderr: pipe::Receiver,
    /// How it ended.
    pub exit: ExitWatch,
    pid: u32,
}

/// Tells when a process has ended; may be asked any number of times.
#[derive(Debug, Clone)]
pub struct ExitWatch(watch::Receiver<Option<Exit>>);

/// The processes that end together.
pub struct Group {
    /// None once it was taken away.
    inner: Mutex<Option<SessionGroup>>,
    /// The processes that were started here and have not ended.
    leaders: Arc<Mutex<HashMap<u32, Arc<Child>>>>,
    identity: Identity,
}

impl Starter {
    /// Starts processes as `identity`, in groups below `cgroup` where there is one.
    pub fn new(identity: Identity, cgroup: Option<OwnedFd>) -> Self {
        Self { identity, cgroup }
    }

    /// A new, empty group. Its name begins with `kind`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn group(&self, kind: &str) -> io::Result<Arc<Group>> {
        let n = NAMES.fetch_add(1, Ordering::Relaxed);
        // The process id keeps the names of two starts of `serve` apart.
        let name = format!("{kind}-{}-{n}", std::process::id());
        let cgroup = self.cgroup.as_ref().map(AsFd::as_fd);
        let inner = SessionGroup::create(cgroup, &name).map_err(io_error)?;
        Ok(Arc::new(Group {
            inner: Mutex::new(Some(inner)),
            leaders: Arc::default(),
            identity: self.identity,
        }))
    }
}

impl Group {
    /// Starts a process in the group. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When it can't be started: not found, not executable, no more processes allowed, the group
    /// is gone.
    pub fn start(&self, spec: Spec) -> io::Result<Running> {
        let (program, arguments) = spec
            .argv
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "there is no program"))?;
        let stdin = match spec.stdin {
            Stdin::Null => Stdio::Null,
            Stdin::Pipe => Stdio::Pipe,
        };
        let command = Command::new(program)
            .args(arguments)
            .envs(spec.env)
            .cwd(&spec.cwd)
            .identity(self.identity)
            .stdin(stdin)
            .stdout(Stdio::Pipe)
            .stderr(Stdio::Pipe);
        let mut child = {
            let inner = lock(&self.inner);
            let group = inner.as_ref().ok_or_else(gone)?;
            command.group(group).and_then(Command::spawn).map_err(io_error)?
        };
        let stdin = child.stdin.take().map(pipe::Sender::from_owned_fd).transpose()?;
        let reader = |fd: Option<OwnedFd>| pipe::Receiver::from_owned_fd(fd.ok_or_else(gone)?);
        let stdout = reader(child.stdout.take())?;
        let stderr = reader(child.stderr.take())?;
        let pid = child.pid;
        let exit = self.watch(child)?;
        Ok(Running { stdin, stdout, stderr, exit, pid })
    }

    /// Follows the process to its end, so that it is reaped whoever still asks.
    fn watch(&self, child: Child) -> io::Result<ExitWatch> {
        let pidfd = readable(child.pidfd.try_clone()?)?;
        let (tell, exit) = watch::channel(None);
        let child = Arc::new(child);
        lock(&self.leaders).insert(child.pid, child.clone());
        let leaders = self.leaders.clone();
        tokio::spawn(async move {
            let status = loop {
                match child.try_wait() {
                    Ok(Some(status)) => break exit_of(status),
                    Ok(None) => {}
                    // Somebody else reaped it: it is over, with a code that nobody knows.
                    Err(_) => break Exit::Code(-1),
                }
                match pidfd.readable().await {
                    Ok(mut ready) => ready.clear_ready(),
                    Err(_) => break Exit::Code(-1),
                }
            };
            lock(&leaders).remove(&child.pid);
            tell.send_replace(Some(status));
        });
        Ok(ExitWatch(exit))
    }

    /// Kills every process of the group at once.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> io::Result<()> {
        for child in lock(&self.leaders).values() {
            // Each leads a process group of its own. It may just have ended.
            let pid = i32::try_from(child.pid).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            }
        }
        match &*lock(&self.inner) {
            Some(group) => group.kill().map_err(io_error),
            None => Ok(()),
        }
    }

    /// Whether none of its processes is left.
    ///
    /// # Errors
    /// When that can't be known.
    pub fn is_empty(&self) -> io::Result<bool> {
        if !lock(&self.leaders).is_empty() {
            return Ok(false);
        }
        match &*lock(&self.inner) {
            Some(group) => group.is_empty().map_err(io_error),
            None => Ok(true),
        }
    }

    /// Kills every process and waits until all are dead. Gives the time that it took.
    ///
    /// # Errors
    /// When one is left after `within`.
    pub async fn end(&self, within: Duration) -> io::Result<Duration> {
        let begin = Instant::now();
        self.kill()?;
        while !self.is_empty()? {
            if begin.elapsed() > within {
                let text = "a process outlives its kill";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            tokio::time::sleep(DEATH_TICK).await;
            // What was forked between the last look and the kill.
            self.kill()?;
        }
        Ok(begin.elapsed())
    }

    /// Asks every process to end, waits up to `grace` for that, and kills what is left.
    ///
    /// # Errors
    /// When one is left `within` the kill.
    pub async fn end_gently(&self, grace: Duration, within: Duration) -> io::Result<Duration> {
        let begin = Instant::now();
        let members = match &*lock(&self.inner) {
            Some(group) => group.members().map_err(io_error)?,
            None => Vec::new(),
        };
        let leaders: Vec<u32> = lock(&self.leaders).keys().copied().collect();
        for pid in members.into_iter().chain(leaders) {
            if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
                // It may just have ended.
                let _ = rustix::process::kill_process(pid, Signal::TERM);
            }
        }
        while !self.is_empty()? && begin.elapsed() < grace {
            tokio::time::sleep(DEATH_TICK).await;
        }
        self.end(within).await?;
        Ok(begin.elapsed())
    }

    /// Whether a process that was started here (not by one of these) still runs.
    pub fn has_leader(&self) -> bool {
        !lock(&self.leaders).is_empty()
    }

    /// Whether it has this name.
    pub fn is_named(&self, name: &str) -> bool {
        lock(&self.inner).as_ref().is_some_and(|group| group.name() == name)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(mut group) = lock(&self.inner).take() else { return };
        // Whoever drops it with something running gave up on it. Without that, what a command left
        // in the background is not touched.
        if self.has_leader() {
            let _ = group.kill();
        }
        // The kernel takes a group away only once its dead are gone, which is a moment after the
        // kill; what is left then is removed with the workspace's own group.
        for _ in 0..REMOVE_TRIES {
            match group.remove() {
                Ok(()) => return,
                Err((back, _)) => group = back,
            }
            std::thread::yield_now();
        }
    }
}

impl Groups {
    /// Adds one.
    pub fn add(&self, group: Arc<Group>) {
        lock(&self.0).push(group);
    }

    /// Forgets those in which nothing runs any more; whether any is left.
    pub fn are_empty(&self) -> bool {
        let mut groups = lock(&self.0);
        // What can't be known counts as running.
        groups.retain(|group| !group.is_empty().unwrap_or(false));
        groups.is_empty()
    }

    /// Ends everything in all of them, as [`Group::end_gently`].
    ///
    /// # Errors
    /// When a process is left.
    pub async fn end(&self, grace: Duration, within: Duration) -> io::Result<()> {
        let groups = lock(&self.0).clone();
        let ending = groups.iter().map(|group| group.end_gently(grace, within));
        for ended in futures_util::future::join_all(ending).await {
            ended?;
        }
        self.are_empty();
        Ok(())
    }
}

/// How often the removal of a killed group is tried.
const REMOVE_TRIES: usize = 20;

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("leaders", &lock(&self.leaders).len()).finish()
    }
}

impl ExitWatch {
    /// Waits for the end.
    pub async fn wait(&mut self) -> Exit {
        match self.0.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Code(-1)),
            // The runtime is shutting down.
            Err(_) => Exit::Code(-1),
        }
    }
}

/// Lets an agent's driver start processes in a group.
#[derive(Debug, Clone)]
pub struct GroupSpawner(pub Arc<Group>);

#[async_trait::async_trait]
impl Spawner for GroupSpawner {
    async fn spawn(&self, spec: ProcessSpec) -> io::Result<Process> {
        let ProcessSpec { argv, env, cwd, stdin } = spec;
        let Running { stdin, stdout, stderr, mut exit, pid } =
            self.0.start(Spec { argv, env, cwd, stdin })?;
        let group = self.0.clone();
        Ok(Process {
            stdin: stdin.map(|pipe| Box::new(pipe) as _),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            exit: async move { Ok(exit.wait().await) }.boxed(),
            control: Arc::new(Control { group, pid }),
        })
    }
}

struct Control {
    group: Arc<Group>,
    pid: u32,
}

impl ProcessControl for Control {
    fn terminate(&self) {
        // While it is among the leaders it is not reaped, so its id is nobody else's.
        let leaders = lock(&self.group.leaders);
        if leaders.contains_key(&self.pid)
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw)
        {
            let _ = rustix::process::kill_process_group(pid, Signal::TERM);
        }
    }

    fn kill(&self) {
        // Whoever waits for its end sees whether it worked.
        let _ = self.group.kill();
    }
}

/// Waits for a descriptor that is owned here and stays open as long as the result.
#[expect(
    deprecated,
    reason = "its successor is unsafe for types that may change their descriptor; ours don't"
)]
pub(crate) fn readable<T: AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

fn exit_of(status: Status) -> Exit {
    match status {
        Status::Exited(code) => Exit::Code(code),
        Status::Signaled(signal) => Exit::Signal(signal),
    }
}

fn io_error(error: boatyard_sandbox::Error) -> io::Error {
    match error.errno() {
        Some(errno) => {
            let kind = io::Error::from_raw_os_error(errno).kind();
            io::Error::new(kind, error)
        }
        None => io::Error::other(error),
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the process group is gone")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
