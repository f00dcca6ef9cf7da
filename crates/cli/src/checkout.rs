//! The user's own git repository: what to send of it, and what to bring back into it.
//!
//! Nothing of it is changed that wasn't asked for: sending reads it through a temporary bare
//! repository that borrows its objects, so that no reference, index or configuration is touched.
//!
//! ```text
//! checkout ◄─ borrows ─ temporary repository ─ git bundle ─► server      (boatyard run)
//! checkout ◄─ git fetch / git apply --3way ─ bundle ◄─────── server      (boatyard apply)
//! ```

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::{Context as _, Result};
use boatyard_api::model::name::CommitId;
use sha2::{Digest as _, Sha256};
use tokio::process::{Child, Command};

use crate::failure::Failure;

pub(crate) mod bring;
pub(crate) mod send;

/// The longest piece of git's own words that an error repeats.
const SAID_MAX: usize = 2_000;

/// A repository of the user's.
#[derive(Debug, Clone)]
pub(crate) struct Checkout {
    /// The top of its working tree.
    pub(crate) root: PathBuf,
}

/// What git did.
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Checkout {
    /// The repository that `path` lies in.
    pub(crate) async fn find(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Err(Failure::usage(format!("{} is no folder", path.display()))
                .next("name a repository: a folder, owner/repo, or an https:// or ssh:// address")
                .into());
        }
        let ran = git(path, ["rev-parse", "--show-toplevel"]).await?;
        if ran.status.success() {
            return Ok(Self { root: PathBuf::from(ran.text()) });
        }
        if ran.stderr.contains("must be run in a work tree") {
            return Err(Failure::usage(format!("{} is a bare repository", path.display()))
                .next("name a checkout of it, or its address")
                .into());
        }
        if ran.stderr.contains("dubious ownership") {
            return Err(Failure::usage(format!("git does not trust {}", path.display()))
                .next(format!("git config --global --add safe.directory {}", path.display()))
                .into());
        }
        Err(Failure::usage(format!("{} is not in a git repository", path.display()))
            .next("make one with `git init` and a first commit, or name another with --repo")
            .into())
    }

    /// Runs git here; fails with what it said if it fails.
    pub(crate) async fn git<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        let args: Vec<OsString> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let ran = git(&self.root, &args).await?;
        ran.checked(&args).map(|ran| ran.text())
    }

    /// The commit that a name means here; none if there is no such.
    pub(crate) async fn commit(&self, name: &str) -> Result<Option<CommitId>> {
        let revision = format!("{name}^{{commit}}");
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &revision];
        let ran = git(&self.root, args).await?;
        Ok(ran.status.success().then(|| ran.text().parse().ok()).flatten())
    }

    /// A name for the server, the same each time for this checkout, and of no other one.
    pub(crate) fn name(&self) -> String {
        let folder = self.root.file_name().unwrap_or_default().to_string_lossy();
        let kept: String = folder
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .take(60)
            .collect();
        let kept = kept.trim_start_matches(['.', '-']);
        let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(machine.trim().as_bytes());
        hash.update(self.root.as_os_str().as_encoded_bytes());
        let digest = hash.finalize();
        let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{short}", if kept.is_empty() { "repository" } else { kept })
    }

    /// Paths with changes that are in no commit, untracked ones as well.
    pub(crate) async fn dirty(&self) -> Result<Vec<String>> {
        let args = ["status", "--porcelain=v1", "-z", "--untracked-files=all"];
        let ran = git(&self.root, args).await?.checked(&args.map(OsString::from))?;
        let text = String::from_utf8_lossy(&ran.stdout).into_owned();
        let mut paths = Vec::new();
        let mut entries = text.split('\0').filter(|entry| entry.len() > 3);
        while let Some(entry) = entries.next() {
            let (status, path) = entry.split_at(3);
            paths.push(path.to_owned());
            // A rename has its old name in an entry of its own.
            if status.starts_with(['R', 'C']) {
                paths.extend(entries.next().map(str::to_owned));
            }
        }
        Ok(paths)
    }
}

impl Ran {
    /// What it printed, without the line break at its end.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches('\n').to_owned()
    }

    fn checked(self, args: &[OsString]) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let what = args.first().map(|arg| arg.to_string_lossy()).unwrap_or_default();
        Err(said(&what, &self.stderr).into())
    }
}

/// An error with what git said.
pub(crate) fn said(what: &str, stderr: &str) -> Failure {
    let words: String = stderr.trim().chars().take(SAID_MAX).collect();
    Failure::new(format!("`git {what}` failed: {words}"))
}

/// A git command in a folder. Nothing of it asks on the terminal.
pub(crate) fn command(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .env("GIT_TERMINAL_PROMPT", "0")
        // Its words are read here.
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs git to its end.
pub(crate) async fn git<S: AsRef<OsStr>>(
    folder: &Path,
    args: impl IntoIterator<Item = S>,
) -> Result<Ran> {
    let output = command(folder).args(args).output().await.map_err(not_started)?;
    Ok(Ran {
        status: output.status,
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Starts git with its output to be read.
pub(crate) fn start<S: AsRef<OsStr>>(
    folder: &Path,
    args: impl IntoIterator<Item = S>,
) -> Result<Child> {
    let mut command = command(folder);
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(not_started)
}

fn not_started(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::new("git is not installed")
            .next("install git (apt install git) and try again")
            .into();
    }
    anyhow::Error::new(error).context("git could not be started")
}

/// A folder that goes when it is dropped.
pub(crate) fn temporary() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("boatyard-")
        .tempdir()
        .context("no temporary folder can be made")
}
