//! Running the git program on our own repositories.
//!
//! Arguments are a vector, the environment is empty but for what is named here, no configuration of
//! the machine or of a person is read, no prompt is ever shown, no hook runs, and no transport
//! works but the ones that a command is given. Every run has a deadline and bounded output; it is
//! killed with all its helpers when the deadline passes or its caller goes away.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

/// For what only reads our own disk.
pub const LOCAL_DEADLINE: Duration = Duration::from_secs(120);
/// What is kept of standard error: its end says what went wrong.
const STDERR_KEPT: usize = 8 << 10;

/// Why a git command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git program.
    #[error("the `git` program can't be started; install git 2.39 or newer")]
    Missing(#[source] std::io::Error),
    /// It ended badly; the message is the end of what it said, without secrets.
    #[error("git {command} failed: {message}")]
    Failed {
        /// Its first argument.
        command: String,
        /// What it said.
        message: String,
    },
    /// It took too long.
    #[error("git {command} took longer than {} s", .limit.as_secs())]
    TimedOut {
        /// Its first argument.
        command: String,
        /// How long it was given.
        limit: Duration,
    },
    /// It printed, or fetched, more than it may.
    #[error("{what} is larger than the limit of {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The disk or a pipe failed.
    #[error("git {command} could not be run")]
    Io {
        /// Its first argument.
        command: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// One run of the git program.
pub struct Git {
    command: Command,
    name: String,
    deadline: Duration,
    config: Vec<(String, String)>,
}

impl Git {
    /// `git <name>` in (or on) the bare repository at `repository`.
    pub fn new(repository: &Path, name: &str) -> Self {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(repository).arg(name);
        Self::prepared(command, name)
    }

    /// `git <name>` with no repository.
    pub fn bare(name: &str) -> Self {
        let mut command = Command::new("git");
        command.arg(name);
        Self::prepared(command, name)
    }

    fn prepared(mut command: Command, name: &str) -> Self {
        command
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("GIT_NO_LAZY_FETCH", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        let git =
            Self { command, name: name.to_owned(), deadline: LOCAL_DEADLINE, config: Vec::new() };
        git.config("core.hooksPath", "/dev/null")
            .config("core.fsmonitor", "false")
            .config("core.alternateRefsCommand", "true")
            .config("protocol.allow", "never")
            .config("gc.auto", "0")
            .config("maintenance.auto", "false")
            .config("safe.directory", "*")
            .config("advice.fetchShowForcedUpdates", "false")
            .config("submodule.recurse", "false")
            .config("pack.threads", "2")
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.command.arg(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a configuration value for this run, by the environment, where it can hold a secret.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((key.into(), value.into()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<OsString>) -> Self {
        self.command.env(key, value.into());
        self
    }

    /// Sets the deadline; [`LOCAL_DEADLINE`] otherwise.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn spawn(&mut self) -> Result<Child, GitError> {
        self.command.env("GIT_CONFIG_COUNT", self.config.len().to_string());
        for (i, (key, value)) in self.config.iter().enumerate() {
            self.command.env(format!("GIT_CONFIG_KEY_{i}"), key);
            self.command.env(format!("GIT_CONFIG_VALUE_{i}"), value);
        }
        self.command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => GitError::Missing(error),
            _ => self.io(error),
        })
    }

    fn io(&self, source: std::io::Error) -> GitError {
        GitError::Io { command: self.name.clone(), source }
    }

    /// Runs it and gives what it printed, at most `limit` bytes.
    ///
    /// # Errors
    /// When it fails, takes too long or prints more.
    pub async fn output(self, limit: u64) -> Result<Vec<u8>, GitError> {
        self.run(Input::None, limit).await
    }

    /// Runs it and gives what it printed as text without the last line end.
    ///
    /// # Errors
    /// As [`Self::output`]; text that is not UTF-8 counts as a failure.
    pub async fn text(self) -> Result<String, GitError> {
        let name = self.name.clone();
        let output = self.output(1 << 20).await?;
        let mut text = String::from_utf8(output).map_err(|_| GitError::Failed {
            command: name,
            message: "it printed something that is not UTF-8".to_owned(),
        })?;
        text.truncate(text.trim_end_matches('\n').len());
        Ok(text)
    }

    /// Runs it for its effect.
    ///
    /// # Errors
    /// As [`Self::output`].
    pub async fn run_quietly(self) -> Result<(), GitError> {
        self.output(1 << 20).await.map(drop)
    }

    /// Runs it with `input` as its standard input.
    ///
    /// # Errors
    /// As [`Self::output`].
    pub async fn with_input(
        mut self,
        input: impl AsyncRead + Send + Unpin,
        limit: u64,
    ) -> Result<Vec<u8>, GitError> {
        self.command.stdin(Stdio::piped());
        self.run(Input::Stream(Box::new(input)), limit).await
    }

    async fn run(mut self, input: Input<'_>, limit: u64) -> Result<Vec<u8>, GitError> {
        let mut child = self.spawn()?;
        let group = ProcessGroup(child.id());
        let deadline = self.deadline;
        let name = self.name.clone();
        let work = async {
            let stdin = child.stdin.take();
            let stdout = child.stdout.take().expect("it is piped");
            let stderr = child.stderr.take().expect("it is piped");
            let feed = async {
                let (Input::Stream(mut stream), Some(mut stdin)) = (input, stdin) else {
                    return Ok(());
                };
                match tokio::io::copy(&mut stream, &mut stdin).await {
                    // It ended before it read everything: its exit code says why.
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                    Err(error) => Err(error),
                    Ok(_) => stdin.shutdown().await,
                }
            };
            let (fed, output, said) =
                tokio::join!(feed, read_up_to(stdout, limit), read_end(stderr));
            fed.map_err(|e| self.io(e))?;
            let output = output.map_err(|e| self.io(e))?;
            let Some(output) = output else {
                return Err(GitError::TooLarge { what: "the output of git", limit });
            };
            let status = child.wait().await.map_err(|e| self.io(e))?;
            if status.success() {
                Ok(output)
            } else {
                let message = plain_message(&said.map_err(|e| self.io(e))?);
                let message = if message.is_empty() { status.to_string() } else { message };
                Err(GitError::Failed { command: self.name.clone(), message })
            }
        };
        let result = tokio::time::timeout(deadline, work).await;
        drop(group);
        result.unwrap_or(Err(GitError::TimedOut { command: name, limit: deadline }))
    }
}

enum Input<'a> {
    None,
    Stream(Box<dyn AsyncRead + Send + Unpin + 'a>),
}

/// Kills git and the helpers it started (`git-remote-https`, `ssh`, `index-pack`) when dropped, so
/// that nothing of a run outlives it.
struct ProcessGroup(Option<u32>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let Some(pid) = self.0.and_then(|id| i32::try_from(id).ok()) else { return };
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            // It fails when all of the group has ended, which is the usual case.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Where programs are: the server's own search path, read once.
fn search_path() -> OsString {
    std::env::var_os("PATH")
        .unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())
}

async fn read_up_to(from: impl AsyncRead + Unpin, limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(limit + 1).read_to_end(&mut bytes).await?;
    Ok((bytes.len() as u64 <= limit).then_some(bytes))
}

async fn read_end(mut from: impl AsyncRead + Unpin) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let mut piece = vec![0; 4096];
    loop {
        let n = from.read(&mut piece).await?;
        if n == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(&piece[..n]);
        if kept.len() > 2 * STDERR_KEPT {
            kept.drain(..kept.len() - STDERR_KEPT);
        }
    }
}

/// The end of what git said, in a few lines, without progress bars and without addresses that carry
/// a user or password.
fn plain_message(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text
        .split(['\n', '\r'])
        .map(|line| line.strip_prefix("remote: ").unwrap_or(line).trim())
        .filter(|line| !line.is_empty() && !line.contains('%'))
        .collect();
    let from = lines.len().saturating_sub(6);
    let mut message = lines[from..].join("; ");
    while let Some(scheme) = message.find("://") {
        let rest = &message[scheme + 3..];
        let authority = rest.find(['/', ' ', '\'', ';']).unwrap_or(rest.len());
        match rest[..authority].rfind('@') {
            Some(at) => message.replace_range(scheme + 3..scheme + 3 + at + 1, ""),
            None => break,
        }
    }
    message
}

/// The path of a loose temporary file or folder that is removed when dropped.
pub struct Temporary(pub PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What is left after a failed removal is removed at the next start.
        let _ = std::fs::remove_file(&self.0).or_else(|_| std::fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_takes_too_long_is_killed() {
        let git = Git::bare("-c")
            .args(["alias.hang=!sleep 60", "hang"])
            .deadline(Duration::from_millis(50));
        assert!(matches!(git.run_quietly().await, Err(GitError::TimedOut { .. })));
    }

    #[tokio::test]
    async fn output_is_bounded() {
        let git = Git::bare("-c").args(["alias.loud=!yes | head -c 100000", "loud"]);
        assert!(matches!(git.output(1000).await, Err(GitError::TooLarge { .. })));
    }

    #[test]
    fn messages_carry_no_credentials() {
        let said = b"Receiving: 10%\rfatal: unable to access 'https://me:pw@host/x/': refused\n";
        assert_eq!(plain_message(said), "fatal: unable to access 'https://host/x/': refused");
    }
}
