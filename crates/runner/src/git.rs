//! Git, run inside as the worker.
//!
//! Nothing outside a workspace opens its `.git`; what the server wants to know or have of a
//! repository is asked for by a `git` stream and done here with the git program: argument vectors
//! only, an environment of our own, no hooks, no monitor, no helper, a deadline and a bound on what
//! is read from it. The worker may have put anything into the repository's configuration; what that
//! makes git do happens with the worker's own rights.
//!
//! - [`checkout`]: a checkout that shares the mirror's objects; branches.
//! - [`tree`]: the files as they are now, as a tree object, beside the user's index.
//! - [`diff`]: what differs between two trees.
//! - [`checkpoint`]: commits of the files at a turn's end, and the result of an attempt.
//! - [`recover`]: back to the last checkpoint, after the host went down.
//! - [`pack`]: objects for the server.
//! - [`stream`]: the link's side of all this.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use boatyard_agent::process::{Exit, Stdin};
use boatyard_link::message::{Failure, FailureCode};
use boatyard_model::name::{CommitId, NameError};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::OwnedMutexGuard,
    time::timeout,
};

use crate::{
    beneath::{self, Folder},
    environment,
    layout::Layout,
    process::{Group, Spec, Starter},
};

pub mod checkout;
pub mod checkpoint;
pub mod diff;
pub mod pack;
pub mod recover;
pub mod stream;
pub mod tree;

/// What every call of git is given: nothing that the repository configures runs beside git itself.
const SAFE: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    "core.quotePath=false",
    "core.sshCommand=false",
    "credential.helper=",
    "protocol.ext.allow=never",
    "commit.gpgSign=false",
    "tag.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "advice.addEmbeddedRepo=false",
    "checkout.workers=0",
    // Below an overlay, a file's number and its change time are not those of the index.
    "core.checkStat=minimal",
    "core.trustctime=false",
    "core.fsync=committed,reference",
    "core.fsyncMethod=batch",
];

/// How long one call may take: a checkout of a large repository on a cold disk.
const DEADLINE: Duration = Duration::from_secs(120);

/// How much of what a call prints is read where no other bound is given.
const STDOUT_MAX: usize = 64 << 20;

/// How much of its complaints is kept.
const STDERR_MAX: usize = 16 << 10;

/// Why git did not do what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is not one below `/work`.
    #[error("`{0}` is not a folder below the workspace's files")]
    Folder(String),
    /// There is no repository.
    #[error("there is no git repository in `{0}`")]
    NoRepository(String),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A commit that is not there.
    #[error("the commit {0} is not in the repository")]
    NoCommit(String),
    /// A branch that begins elsewhere.
    #[error("the branch `{0}` exists already and is at another commit")]
    BranchExists(String),
    /// Git could not be started.
    #[error("git can't be started")]
    Start(#[source] io::Error),
    /// It took too long.
    #[error("`git {command}` took longer than {} s", limit.as_secs())]
    Timeout {
        /// Which.
        command: String,
        /// How long it had.
        limit: Duration,
    },
    /// It failed.
    #[error("`git {command}` failed with {exit}: {complaint}")]
    Failed {
        /// Which.
        command: String,
        /// How it ended.
        exit: Exit,
        /// What it wrote to standard error, its end.
        complaint: String,
    },
    /// It printed something else than expected.
    #[error("`git {0}` printed something unexpected")]
    Output(String),
    /// The files could not be reached.
    #[error("the repository's files can't be reached")]
    Files(#[from] beneath::Error),
    /// The pipe to or from git failed.
    #[error("git can't be talked to")]
    Pipe(#[source] io::Error),
}

/// Result of a git operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Git in this workspace.
#[derive(Debug)]
pub struct Git {
    layout: Arc<Layout>,
    starter: Arc<Starter>,
    work: Arc<Folder>,
    /// One operation at a time in each repository: they share a temporary index.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// One operation on a repository. Dropping it kills what it left running.
#[derive(Debug)]
pub struct Repository<'a> {
    git: &'a Git,
    /// Its folder, below the root of the work.
    below: String,
    /// Its folder, absolute.
    path: String,
    group: Arc<Group>,
    _alone: OwnedMutexGuard<()>,
}

/// A commit, or nothing at all: the place from which a difference begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// The empty tree.
    Nothing,
    /// This commit (or tree).
    Commit(CommitId),
}

impl Base {
    /// From the text in a request; empty means nothing.
    ///
    /// # Errors
    /// When it is neither empty nor an object id.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() { Ok(Self::Nothing) } else { Ok(Self::Commit(text.parse()?)) }
    }
}

/// One call of git.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    args: Vec<&'a str>,
    env: Vec<(String, String)>,
    stdin: Option<Vec<u8>>,
    max: usize,
    accepts: &'a [i32],
}

/// What a call printed.
#[derive(Debug)]
pub(crate) struct Printed {
    pub(crate) exit: Exit,
    pub(crate) stdout: Vec<u8>,
    /// Standard output had more than was wanted; the call was ended.
    pub(crate) cut: bool,
    complaint: String,
}

impl<'a> Call<'a> {
    pub(crate) fn new(args: impl IntoIterator<Item = &'a str>) -> Self {
        let args = args.into_iter().collect();
        Self { args, env: Vec::new(), stdin: None, max: STDOUT_MAX, accepts: &[0] }
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = Some(bytes);
        self
    }

    /// Reads at most so many bytes of its output.
    pub(crate) fn max(mut self, bytes: usize) -> Self {
        self.max = bytes;
        self
    }

    /// Which exit codes are no failure.
    pub(crate) fn accepts(mut self, codes: &'a [i32]) -> Self {
        self.accepts = codes;
        self
    }

    fn name(&self) -> String {
        self.args.first().copied().unwrap_or_default().to_owned()
    }
}

impl Git {
    /// Git below the layout's work folder, which `work` is.
    pub fn new(layout: Arc<Layout>, starter: Arc<Starter>, work: Arc<Folder>) -> Self {
        Self { layout, starter, work, busy: Mutex::default() }
    }

    /// Begins an operation in `folder`, after those that are under way there.
    ///
    /// # Errors
    /// When the folder is not one below the work, or the kernel refuses a process group.
    pub async fn repository(&self, folder: &str) -> Result<Repository<'_>> {
        let below = self
            .layout
            .below_work(folder)
            .filter(|below| !below.is_empty())
            .ok_or_else(|| Error::Folder(folder.chars().take(200).collect()))?
            .to_owned();
        let alone = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            busy.entry(below.clone()).or_default().clone()
        };
        let alone = alone.lock_owned().await;
        let path = format!("{}/{below}", self.layout.work);
        let group = self.starter.group("git").map_err(Error::Start)?;
        Ok(Repository { git: self, below, path, group, _alone: alone })
    }
}

impl Repository<'_> {
    /// Its folder, absolute.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether there is one.
    ///
    /// # Errors
    /// When the folder leads out of the work.
    pub fn exists(&self) -> Result<bool> {
        Ok(self.git.work.exists(&format!("{}/.git", self.below))?)
    }

    /// The commit that is checked out; none on a branch without commits.
    ///
    /// # Errors
    /// When git fails, or there is no repository.
    pub async fn head(&self) -> Result<Option<CommitId>> {
        if !self.exists()? {
            return Err(Error::NoRepository(self.below.clone()));
        }
        let call = Call::new(["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]);
        let printed = self.run(call.accepts(&[0, 1])).await?;
        match printed.exit {
            Exit::Code(0) => Ok(Some(one_id(&printed, "rev-parse")?)),
            _ => Ok(None),
        }
    }

    /// The object id of a call that prints one.
    pub(crate) async fn id(&self, call: Call<'_>) -> Result<CommitId> {
        let name = call.name();
        one_id(&self.run(call).await?, &name)
    }

    /// Runs git in the repository.
    pub(crate) async fn run(&self, call: Call<'_>) -> Result<Printed> {
        self.run_in(&self.path, call).await
    }

    /// Runs git in a folder.
    pub(crate) async fn run_in(&self, cwd: &str, call: Call<'_>) -> Result<Printed> {
        let command = call.name();
        let (max, accepts) = (call.max, call.accepts);
        let running = self.start(cwd, &call)?;
        let input = call.stdin.unwrap_or_default();
        let work = async {
            let crate::process::Running { stdin, mut stdout, mut stderr, mut exit, .. } = running;
            let write = async {
                if let Some(mut stdin) = stdin {
                    // It may end without reading all; its exit tells why.
                    let _ = stdin.write_all(&input).await;
                }
            };
            let read = async {
                let out = read_up_to(&mut stdout, max).await;
                if matches!(out, Ok((_, true))) {
                    // It would wait for ever for somebody to read the rest. A group that can't be
                    // killed shows when its exit is waited for.
                    let _ = self.group.kill();
                }
                out
            };
            let complain = read_end(&mut stderr, STDERR_MAX);
            let ((), out, complaint) = tokio::join!(write, read, complain);
            let (stdout, cut) = out.map_err(Error::Pipe)?;
            let complaint = String::from_utf8_lossy(&complaint).trim().to_owned();
            Ok::<_, Error>(Printed { exit: exit.wait().await, stdout, cut, complaint })
        };
        let printed = match timeout(DEADLINE, work).await {
            Ok(printed) => printed?,
            Err(_) => {
                self.group.kill().map_err(Error::Start)?;
                return Err(Error::Timeout { command, limit: DEADLINE });
            }
        };
        let accepted = match printed.exit {
            Exit::Code(code) => accepts.contains(&code),
            Exit::Signal(_) => false,
        };
        if accepted || printed.cut {
            return Ok(printed);
        }
        let Printed { exit, complaint, .. } = printed;
        Err(Error::Failed { command, exit, complaint })
    }

    /// Starts git without waiting for it.
    pub(crate) fn start(&self, cwd: &str, call: &Call<'_>) -> Result<crate::process::Running> {
        let mut argv = vec!["git".to_owned()];
        for setting in SAFE {
            argv.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        argv.extend(call.args.iter().map(|arg| (*arg).to_owned()));
        let mut env = environment::git(&self.git.layout);
        env.extend(call.env.iter().cloned());
        let stdin = if call.stdin.is_some() { Stdin::Pipe } else { Stdin::Null };
        let spec = Spec { argv, env, cwd: cwd.into(), stdin };
        self.group.start(spec).map_err(Error::Start)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NoRepository(_) | Error::NoCommit(_) => FailureCode::NotFound,
            Error::BranchExists(_) => FailureCode::Conflict,
            Error::Timeout { .. } => FailureCode::Timeout,
            Error::Start(_) | Error::Pipe(_) => FailureCode::Internal,
            Error::Folder(_)
            | Error::Name(_)
            | Error::Failed { .. }
            | Error::Output(_)
            | Error::Files(_) => FailureCode::Workspace,
        };
        Self { code, message: crate::failure::chain(&error) }
    }
}

fn one_id(printed: &Printed, command: &str) -> Result<CommitId> {
    std::str::from_utf8(&printed.stdout)
        .ok()
        .and_then(|text| text.trim_end().parse().ok())
        .ok_or_else(|| Error::Output(command.to_owned()))
}

/// Reads at most `max` bytes; tells whether there were more.
async fn read_up_to(
    pipe: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> io::Result<(Vec<u8>, bool)> {
    let mut out = Vec::new();
    pipe.take(max as u64 + 1).read_to_end(&mut out).await?;
    let cut = out.len() > max;
    out.truncate(max);
    Ok((out, cut))
}

/// Reads to the end and keeps the last `max` bytes.
async fn read_end(pipe: &mut (impl AsyncRead + Unpin), max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        // A pipe that fails has told all that it will.
        match pipe.read_buf(&mut out).await {
            Ok(0) | Err(_) => break,
            Ok(_) if out.len() > 2 * max => drop(out.drain(..out.len() - max)),
            Ok(_) => {}
        }
    }
    out.drain(..out.len().saturating_sub(max));
    out
}

#[cfg(test)]
mod tests;
