//! What a driver needs of whoever starts processes.
//!
//! The runner implements [`Spawner`] with the sandbox crate: the process runs as the worker user,
//! in the session's own control group. A driver never starts, signals or waits for a process in any
//! other way, so the same drivers run under a test's `tokio::process`.

use std::{fmt, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream that is read.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// A byte stream that is written.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Starts processes for a driver, all of them in the session's control group.
#[async_trait]
pub trait Spawner: Send + Sync + 'static {
    /// Starts a process with exactly this argument vector and environment.
    ///
    /// # Errors
    /// When it can't be started: not found, not executable, no more processes allowed.
    async fn spawn(&self, spec: ProcessSpec) -> io::Result<Process>;
}

/// What is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessSpec {
    /// The program and its arguments; a program without a slash is looked up in the environment's
    /// `PATH`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: PathBuf,
    /// What it reads.
    pub stdin: Stdin,
}

/// Where a process's standard input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// A pipe: [`Process::stdin`] is there.
    Pipe,
}

/// A process that runs.
pub struct Process {
    /// Its standard input, if a pipe was asked for. Dropping it closes it.
    pub stdin: Option<Writer>,
    /// Its standard output.
    pub stdout: Reader,
    /// Its standard error.
    pub stderr: Reader,
    /// Resolves when the process itself (not its children) has ended.
    pub exit: BoxFuture<'static, io::Result<Exit>>,
    /// Ends it.
    pub control: Arc<dyn ProcessControl>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// How a driver ends a process. Both may be called when it is gone already, and must not block.
pub trait ProcessControl: Send + Sync + 'static {
    /// Asks it to end: SIGTERM to its process group.
    fn terminate(&self);
    /// Ends it and everything that it started: the control group, or as near as can be had.
    fn kill(&self);
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}
