//! What of a checkout goes to the server, as a git bundle of what the server lacks.

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use boatyard_api::{
    Client,
    model::{RepositoryId, name::CommitId},
    repository::{NewRepository, Ref, Repository},
};
use futures_util::stream;
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, ChildStdout},
};

use super::{Checkout, command, git, said, start, temporary};
use crate::{failure::Failure, output::Output, text};

/// Bytes that are read from git at a time.
const CHUNK: usize = 256 << 10;
/// Who stands under a commit of what is not committed, where git knows nobody.
const NOBODY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "Boatyard"),
    ("GIT_AUTHOR_EMAIL", "boatyard@localhost"),
    ("GIT_COMMITTER_NAME", "Boatyard"),
    ("GIT_COMMITTER_EMAIL", "boatyard@localhost"),
];

/// What to do with changes that are in no commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dirty {
    /// They stay here; a notice says so.
    LeaveOut,
    /// They are sent as a commit that no branch here has.
    Include,
}

/// What was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The repository on the server.
    pub(crate) repository: RepositoryId,
    /// Where work begins.
    pub(crate) base: CommitId,
}

/// Sends what the server lacks of a checkout, so that work can begin at `base` (HEAD without it).
pub(crate) async fn send(
    client: &Client,
    output: &Output,
    checkout: &Checkout,
    base: Option<&str>,
    dirty: Dirty,
) -> Result<Sent> {
    let head = checkout.commit("HEAD").await?;
    let commit = match base {
        Some(name) => checkout.commit(name).await?.ok_or_else(|| {
            Failure::usage(format!(
                "there is no branch or commit {name} in {}",
                checkout.root.display()
            ))
            .next("`git branch` lists the branches")
        })?,
        None => head.clone().ok_or_else(|| {
            Failure::usage(format!("{} has no commit yet", checkout.root.display()))
                .next("make a first one: git add -A && git commit -m \"Begin\"")
        })?,
    };
    if checkout.git(["rev-parse", "--is-shallow-repository"]).await? == "true" {
        return Err(Failure::usage(
            "the checkout has only a part of its history (a shallow clone)",
        )
        .next("get the rest with `git fetch --unshallow`, or name the repository's address")
        .into());
    }
    let borrowed = Borrowed::new(checkout).await?;
    let changed = checkout.dirty().await?;
    let base = match (dirty, changed.len() as u64, &head) {
        (_, 0, _) => commit,
        (Dirty::LeaveOut, 1, _) => {
            output
                .warning("1 changed file is in no commit and stays here; --include-dirty sends it");
            commit
        }
        (Dirty::LeaveOut, n, _) => {
            output.warning(format!(
                "{n} changed files are in no commit and stay here; --include-dirty sends them"
            ));
            commit
        }
        (Dirty::Include, n, Some(head)) if *head == commit => {
            let all = borrowed.commit_everything(checkout, head).await?;
            output.note(format!("Sent with {} in no commit.", text::count(n, "changed file")));
            all
        }
        (Dirty::Include, ..) => {
            return Err(Failure::usage("--include-dirty goes with what is checked out")
                .next("leave out --base, or leave out --include-dirty")
                .into());
        }
    };
    let repository = registered(client, checkout).await?;
    let branch = checkout.git(["symbolic-ref", "--quiet", "--short", "HEAD"]).await.ok();
    let branch = branch.filter(|_| head.as_ref() == Some(&base));
    // A commit that is no branch's head gets a name of its own, so that it is kept.
    let reference = match branch {
        Some(branch) => format!("refs/heads/{branch}"),
        None => format!("refs/boatyard/sent/{}", &base.as_str()[..16]),
    };
    let is_there = |known: &Ref| known.commit == base.as_str();
    if repository.refs.iter().any(is_there) {
        return Ok(Sent { repository: repository.id, base });
    }
    let pack = borrowed.bundle(&reference, &base, &repository.refs).await?;
    let bytes = Arc::clone(&pack.bytes);
    let body = reqwest::Body::wrap_stream(stream::try_unfold(pack, Pack::next));
    // If git gave up, its reason stands in the error of the stream.
    client.send_bundle(repository.id, body).await.context("the repository could not be sent")?;
    output.detail(format!("Sent {}.", text::bytes(bytes.load(Ordering::Relaxed))));
    Ok(Sent { repository: repository.id, base })
}

/// The repository that a checkout is on the server.
pub(crate) async fn registered(client: &Client, checkout: &Checkout) -> Result<Repository> {
    let source = format!("sent:{}", checkout.name());
    Ok(client.create_repository(&NewRepository { source }).await?)
}

/// A temporary bare repository with the objects of a checkout.
struct Borrowed {
    folder: tempfile::TempDir,
    objects: PathBuf,
}

impl Borrowed {
    async fn new(checkout: &Checkout) -> Result<Self> {
        let folder = temporary()?;
        let format = checkout.git(["rev-parse", "--show-object-format"]).await?;
        let objects =
            checkout.git(["rev-parse", "--path-format=absolute", "--git-path", "objects"]);
        let objects = PathBuf::from(objects.await?);
        let format = format!("--object-format={format}");
        let args = ["init", "--quiet", "--bare", "--template=", &format, "."].map(OsString::from);
        git(folder.path(), &args).await?.checked(&args)?;
        let alternates = folder.path().join("objects/info/alternates");
        let mut line = objects.clone().into_os_string();
        line.push("\n");
        std::fs::write(&alternates, line.as_encoded_bytes())
            .with_context(|| format!("{} can't be written", alternates.display()))?;
        Ok(Self { folder, objects })
    }

    /// A commit of everything in the working tree that git does not ignore. Index and branch of
    /// the checkout stay as they are.
    async fn commit_everything(&self, checkout: &Checkout, head: &CommitId) -> Result<CommitId> {
        let own =
            checkout.git(["rev-parse", "--path-format=absolute", "--git-path", "index"]).await?;
        // The copy knows what has not changed, which spares reading all files.
        if std::fs::copy(&own, self.folder.path().join("index")).is_err() {
            self.with_own_index(checkout, &["read-tree", head.as_str()], &[]).await?;
        }
        self.with_own_index(checkout, &["add", "--all", "--", "."], &[]).await?;
        let tree = self.with_own_index(checkout, &["write-tree"], &[]).await?;
        let known = checkout.git(["config", "user.email"]).await.is_ok();
        let who: &[(&str, &str)] = if known { &[] } else { &NOBODY };
        let message = "Changes that were not committed";
        let args = ["commit-tree", &tree, "-p", head.as_str(), "-m", message];
        let commit = self.with_own_index(checkout, &args, who).await?;
        commit.parse().context("git gave no commit")
    }

    /// The bundle that brings `reference`, leaving out what `known` has already.
    async fn bundle(&self, reference: &str, base: &CommitId, known: &[Ref]) -> Result<Pack> {
        let folder = self.folder.path();
        let update = ["update-ref", reference, base.as_str()];
        git(folder, update).await?.checked(&update.map(OsString::from))?;
        let mut wanted = vec![reference.to_owned()];
        for Ref { commit, .. } in known {
            // Only what is here as well can be left out.
            let exists = ["cat-file", "-e", &format!("{commit}^{{commit}}")].map(str::to_owned);
            if git(folder, &exists).await?.status.success() {
                wanted.push(format!("^{commit}"));
            }
        }
        let count = ["rev-list", "--count"].map(str::to_owned);
        let missing = git(folder, count.iter().chain(&wanted)).await?;
        if missing.text() == "0" {
            // Everything is there, but not under this name. No bundle is empty: it takes the one
            // commit along.
            wanted.truncate(1);
            wanted.push("-1".to_owned());
        }
        let create = ["bundle", "create", "--quiet", "-"].map(str::to_owned);
        let mut child = start(folder, create.iter().chain(&wanted))?;
        let stdout = child.stdout.take().context("git has no output")?;
        Ok(Pack { child, stdout, bytes: Arc::default() })
    }

    /// Runs git on the checkout's working tree with an index and objects of our own.
    async fn with_own_index(
        &self,
        checkout: &Checkout,
        args: &[&str],
        who: &[(&str, &str)],
    ) -> Result<String> {
        let folder = self.folder.path();
        let output = command(&checkout.root)
            .args(args)
            .env("GIT_INDEX_FILE", folder.join("index"))
            .env("GIT_OBJECT_DIRECTORY", folder.join("objects"))
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.objects)
            .envs(who.iter().copied())
            .stderr(Stdio::piped())
            .output()
            .await
            .context("git could not be started")?;
        if !output.status.success() {
            let what = args.first().copied().unwrap_or_default();
            return Err(said(what, &String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// A bundle as git makes it.
struct Pack {
    child: Child,
    stdout: ChildStdout,
    bytes: Arc<AtomicU64>,
}

impl Pack {
    /// The next piece. An error of git ends the upload, so that the server never takes half a
    /// bundle for a whole one.
    async fn next(mut self) -> io::Result<Option<(Vec<u8>, Self)>> {
        let mut piece = vec![0; CHUNK];
        let n = self.stdout.read(&mut piece).await?;
        if n > 0 {
            piece.truncate(n);
            self.bytes.fetch_add(n as u64, Ordering::Relaxed);
            return Ok(Some((piece, self)));
        }
        let mut words = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut words).await?;
        }
        let status = self.child.wait().await?;
        if status.success() {
            return Ok(None);
        }
        Err(io::Error::other(said("bundle", &words)))
    }
}

#[cfg(test)]
mod tests;
