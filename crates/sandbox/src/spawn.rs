//! Starting processes, for `serve`: as the worker, in a session's group, with nothing inherited.
//!
//! [`Command`] describes a process, [`Child`] is one. A child starts with an empty environment,
//! no descriptor but its three standard ones, default signals, no capability and no way to gain
//! one.
//!
//! The child runs a fixed list of system calls between `clone` and `execve` and allocates
//! nothing, so that starting is sound however many threads `serve` has.

mod child;

use std::{
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

pub use crate::sys::process::Status;
use crate::{
    Error, Result, WORKER_GID, WORKER_UID,
    cgroup::SessionGroup,
    error::Step as _,
    sys::{
        check,
        process::{Wait, reap, signal},
        retry,
    },
};

/// Where a program without a slash is looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Who the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// The worker: user and group 1000 where ids are mapped, else the same id without any
    /// capability.
    #[default]
    Worker,
    /// Whoever the caller is, with the caller's capabilities (for tools of the runner itself).
    Caller,
}

/// Whether a process begins a session (and process group) of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Session {
    /// It does.
    #[default]
    New,
    /// It stays in the caller's.
    Caller,
}

/// What one of the three standard descriptors is.
#[derive(Debug, Default)]
pub enum Stdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// A new pipe; the other end is in [`Child`].
    Pipe,
    /// This descriptor.
    Fd(OwnedFd),
}

/// A process to start.
#[derive(Debug)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
    identity: Identity,
    session: Session,
    group: Option<JoinGroup>,
    terminal: Option<OwnedFd>,
    limits: Vec<(i32, u64)>,
    stdio: [Stdio; 3],
}

/// The group to be born in.
#[derive(Debug)]
struct JoinGroup {
    /// `cgroup.procs`, open for writing, where there are control groups.
    procs: Option<OwnedFd>,
    /// The environment marker, where there are none.
    marker: Option<(OsString, OsString)>,
}

/// A process that was started. Dropping it neither ends nor reaps the process.
#[derive(Debug)]
pub struct Child {
    /// Its process id, as seen in the caller's namespace.
    pub pid: u32,
    /// Readable when the process has ended.
    pub pidfd: OwnedFd,
    /// The writing end of its standard input, when that is a pipe.
    pub stdin: Option<OwnedFd>,
    /// The reading end of its standard output, when that is a pipe.
    pub stdout: Option<OwnedFd>,
    /// The reading end of its standard error, when that is a pipe.
    pub stderr: Option<OwnedFd>,
}

impl Command {
    /// A worker process that runs `program` (looked for in the `PATH` of its own environment
    /// when the name has no slash), in a new session, in `/`, with `/dev/null` thrice and no
    /// environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            identity: Identity::default(),
            session: Session::default(),
            group: None,
            terminal: None,
            limits: Vec::new(),
            stdio: Default::default(),
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment, which is otherwise empty.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(known, _)| known != name.as_ref());
        self.environment.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets variables of the environment.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        variables.into_iter().fold(self, |command, (name, value)| command.env(name, value))
    }

    /// Starts in this folder, entered with the rights of the process itself.
    pub fn cwd(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Who the process is.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    /// Whether it begins a session of its own.
    pub fn session(mut self, session: Session) -> Self {
        self.session = session;
        self
    }

    /// Born as a member of `group`: nothing it starts can be outside.
    ///
    /// # Errors
    /// The group is gone.
    pub fn group(mut self, group: &SessionGroup) -> Result<Self> {
        self.group = Some(JoinGroup { procs: group.procs()?, marker: group.marker() });
        Ok(self)
    }

    /// Makes `terminal` (the inner side of a pty) the controlling terminal; begins a session.
    pub fn controlling_terminal(mut self, terminal: OwnedFd) -> Self {
        self.session = Session::New;
        self.terminal = Some(terminal);
        self
    }

    /// Sets a resource limit (`libc::RLIMIT_*`), soft and hard.
    pub fn limit(mut self, resource: i32, value: u64) -> Self {
        self.limits.push((resource, value));
        self
    }

    /// What standard input is.
    pub fn stdin(mut self, stdio: Stdio) -> Self {
        self.stdio[0] = stdio;
        self
    }

    /// What standard output is.
    pub fn stdout(mut self, stdio: Stdio) -> Self {
        self.stdio[1] = stdio;
        self
    }

    /// What standard error is.
    pub fn stderr(mut self, stdio: Stdio) -> Self {
        self.stdio[2] = stdio;
        self
    }

    /// Starts the process; when this returns, its program runs.
    ///
    /// # Errors
    /// [`Error::System`] with the step that failed: `find program`, `enter folder`, `join
    /// group`, `fork` (the limit on processes is reached), …
    pub fn spawn(self) -> Result<Child> {
        let worker = match self.identity {
            Identity::Caller => None,
            Identity::Worker if ids_are_mapped() => {
                Some(child::Worker { uid: WORKER_UID, gid: WORKER_GID, change: true })
            }
            // SAFETY: these calls always succeed and take nothing.
            Identity::Worker => Some(unsafe {
                child::Worker { uid: libc::getuid(), gid: libc::getgid(), change: false }
            }),
        };
        let mut environment = self.environment;
        let mut procs = None;
        if let Some(group) = self.group {
            environment.extend(group.marker);
            procs = group.procs;
        }
        let programs = candidates(&self.program, &environment)?;
        let mut arguments = vec![c_string(&self.program)?];
        for argument in &self.arguments {
            arguments.push(c_string(argument)?);
        }
        let mut variables = Vec::with_capacity(environment.len());
        for (name, value) in &environment {
            let mut variable = name.clone();
            variable.push("=");
            variable.push(value);
            variables.push(c_string(&variable)?);
        }
        let directory = c_string(self.directory.as_deref().unwrap_or(Path::new("/")).as_os_str())?;

        let mut inner: [Option<OwnedFd>; 3] = [None, None, None];
        let mut outer: [Option<OwnedFd>; 3] = [None, None, None];
        for (index, stdio) in self.stdio.into_iter().enumerate() {
            let (ours, theirs) = stdio.open(index)?;
            outer[index] = ours;
            inner[index] = Some(above_stdio(theirs)?);
        }
        let plan = child::Plan {
            programs: &programs,
            arguments: &child::pointers(&arguments),
            environment: &child::pointers(&variables),
            directory: &directory,
            worker,
            new_session: self.session == Session::New,
            procs: procs.as_ref().map(AsRawFd::as_raw_fd),
            terminal: self.terminal.as_ref().map(AsRawFd::as_raw_fd),
            limits: &self.limits,
            stdio: inner.each_ref().map(|fd| fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)),
        };
        let (pid, pidfd) = child::start(&plan)?;
        let [stdin, stdout, stderr] = outer;
        Ok(Child { pid, pidfd, stdin, stdout, stderr })
    }
}

impl Child {
    /// How the process ended, once; none while it runs.
    ///
    /// # Errors
    /// It was reaped already.
    pub fn try_wait(&self) -> Result<Option<Status>> {
        reap(self.pidfd.as_fd(), Wait::Poll).step("wait for a process")
    }

    /// Waits for the end of the process (blocking; an async caller waits for
    /// [`Child::pidfd`] to become readable and calls [`Child::try_wait`]).
    ///
    /// # Errors
    /// It was reaped already.
    pub fn wait(&self) -> Result<Status> {
        reap(self.pidfd.as_fd(), Wait::Block)
            .step("wait for a process")?
            .ok_or_else(|| Error::invalid("the process has not ended"))
    }

    /// Sends `signal` to the process (not to what it started).
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, number: i32) -> Result<()> {
        signal(self.pidfd.as_fd(), number).step("signal a process")
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Stdio {
    /// Our end, if any, and the child's.
    fn open(self, index: usize) -> Result<(Option<OwnedFd>, OwnedFd)> {
        match self {
            Self::Fd(fd) => Ok((None, fd)),
            Self::Null => {
                // SAFETY: a constant C string; the result is a new descriptor.
                let fd = check(unsafe {
                    libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC)
                })
                .step("open /dev/null")?;
                // SAFETY: just opened, ours alone.
                Ok((None, unsafe { OwnedFd::from_raw_fd(fd) }))
            }
            Self::Pipe => {
                let (reader, writer) = pipe().step("make a pipe")?;
                Ok(if index == 0 { (Some(writer), reader) } else { (Some(reader), writer) })
            }
        }
    }
}

/// A pipe, both ends closed on exec: first the end to read from.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for two; both results are new.
    unsafe {
        check(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Whether the worker's id exists in this user namespace.
fn ids_are_mapped() -> bool {
    static MAPPED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *MAPPED.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        map.lines().any(|line| {
            let mut fields = line.split_ascii_whitespace().map(str::parse::<u32>);
            match (fields.next(), fields.next(), fields.next()) {
                (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) => {
                    (first..first.saturating_add(count)).contains(&WORKER_UID)
                }
                _ => false,
            }
        })
    })
}

/// The same file under a number that is not one of the standard three.
fn above_stdio(fd: OwnedFd) -> Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    // SAFETY: integers only; the result is a new descriptor.
    let copy = retry(|| check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) }))
        .step("duplicate a descriptor")?;
    // SAFETY: just made, ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The paths at which `program` may be, in order.
fn candidates(program: &OsStr, environment: &[(OsString, OsString)]) -> Result<Vec<CString>> {
    if program.is_empty() {
        return Err(Error::invalid("the program's name is empty"));
    }
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    let path = environment.iter().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value);
    std::env::split_paths(path)
        // A relative entry would find programs that the working folder happens to hold.
        .filter(|folder| folder.is_absolute())
        .map(|folder| c_string(folder.join(program).as_os_str()))
        .collect()
}

fn c_string(text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes())
        .map_err(|_| Error::invalid(format!("a zero byte in {}", text.display())))
}
