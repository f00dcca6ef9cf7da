//! Checkouts that share the mirror's objects, and the branches on them.
//!
//! A checkout is a repository of its own, so that an agent may do with it what it likes; its
//! objects come from the read-only mirror by `alternates`, so that making it costs the files only.

use boatyard_link::message::GitAuthor;
use boatyard_model::name::{Branch, CommitId};

use super::{Base, Call, Error, Exit, Repository, Result};

/// What a repository without any commit calls its first branch until a branch is begun.
const FIRST_BRANCH: &str = "main";

impl Repository<'_> {
    /// Makes the checkout, or brings the one that is there to `commit`, detached. An empty
    /// `commit` stands for a repository without any: the branch is unborn.
    ///
    /// # Errors
    /// When the commit is not to be had, or git fails.
    pub async fn checkout(&self, commit: &str, origin: &str) -> Result<()> {
        match (Base::parse(commit)?, self.exists()?) {
            (Base::Nothing, true) => Ok(()),
            (Base::Nothing, false) => self.make_empty(origin).await,
            (Base::Commit(commit), true) => self.bring_to(&commit, origin).await,
            (Base::Commit(commit), false) => self.make(&commit, origin).await,
        }
    }

    /// Begins `branch` at `commit` (or, where that is empty, unborn) and switches to it; commits
    /// made there are by `author`. Asked twice, it is done once.
    ///
    /// # Errors
    /// [`Error::BranchExists`] when it is there with another beginning, or git fails.
    pub async fn begin_branch(&self, branch: &str, commit: &str, author: &GitAuthor) -> Result<()> {
        let branch: Branch = branch.parse()?;
        let base = Base::parse(commit)?;
        if !self.exists()? {
            return Err(Error::NoRepository(self.below.clone()));
        }
        match base {
            Base::Nothing => {
                self.run(Call::new(["symbolic-ref", "HEAD", &branch.full()])).await?;
            }
            Base::Commit(commit) => self.switch_to_new(&branch, &commit).await?,
        }
        for (name, value) in [("user.name", &author.name), ("user.email", &author.email)] {
            let value = value.replace(['\n', '\0'], " ");
            self.run(Call::new(["config", "--replace-all", name, &value])).await?;
        }
        if author.signs {
            // With what, the system's configuration says.
            for name in ["commit.gpgSign", "tag.gpgSign"] {
                self.run(Call::new(["config", "--replace-all", name, "true"])).await?;
            }
        }
        Ok(())
    }

    async fn switch_to_new(&self, branch: &Branch, commit: &CommitId) -> Result<()> {
        self.require(commit).await?;
        let args = ["switch", "--quiet", "--create", branch.as_str(), commit.as_str()];
        let Err(error) = self.run(Call::new(args)).await else { return Ok(()) };
        let Some(there) = self.reference(&branch.full()).await? else { return Err(error) };
        if there != *commit {
            return Err(Error::BranchExists(branch.to_string()));
        }
        self.run(Call::new(["switch", "--quiet", branch.as_str()])).await?;
        Ok(())
    }

    /// What a reference points at; none if there is none of this name.
    pub(super) async fn reference(&self, name: &str) -> Result<Option<CommitId>> {
        let call = Call::new(["rev-parse", "--quiet", "--verify", "--end-of-options", name]);
        let printed = self.run(call.accepts(&[0, 1])).await?;
        match printed.exit {
            Exit::Code(0) => super::one_id(&printed, "rev-parse").map(Some),
            _ => Ok(None),
        }
    }

    async fn make_empty(&self, origin: &str) -> Result<()> {
        self.git.work.make_folder(&self.below)?;
        let branch = format!("--initial-branch={FIRST_BRANCH}");
        self.run(Call::new(["init", "--quiet", "--template=", &branch, "."])).await?;
        self.set_origin(origin).await
    }

    async fn make(&self, commit: &CommitId, origin: &str) -> Result<()> {
        let (parent, name) = self.path.rsplit_once('/').unwrap_or((".", &self.path));
        if let Some((above, _)) = self.below.rsplit_once('/') {
            self.git.work.make_folder(above)?;
        }
        let mirror = self.git.layout.mirror.clone();
        // Without files first: they are written once, and in parallel, at the right commit.
        let clone = [
            "clone",
            "--quiet",
            "--shared",
            "--no-checkout",
            "--template=",
            "--origin=origin",
            "--",
            &mirror,
            name,
        ];
        self.run_in(parent, Call::new(clone)).await?;
        self.require(commit).await?;
        self.set_origin(origin).await?;
        // For the agent's own git as for ours: a prepared checkout is shown through an overlay, which
        // has other file numbers; without this, the first `git status` would read every file.
        for (name, value) in [("core.checkStat", "minimal"), ("core.trustctime", "false")] {
            self.run(Call::new(["config", name, value])).await?;
        }
        self.detach(commit).await
    }

    async fn bring_to(&self, commit: &CommitId, origin: &str) -> Result<()> {
        if self.head().await?.as_ref() == Some(commit) && self.is_detached().await? {
            return Ok(());
        }
        if self.require(commit).await.is_err() {
            let mirror = self.git.layout.mirror.clone();
            let all = "+refs/heads/*:refs/remotes/origin/*";
            let fetch = ["fetch", "--quiet", "--no-write-fetch-head", "--", &mirror, all];
            self.run(Call::new(fetch)).await?;
            self.require(commit).await?;
        }
        self.set_origin(origin).await?;
        self.detach(commit).await
    }

    async fn is_detached(&self) -> Result<bool> {
        let call = Call::new(["symbolic-ref", "--quiet", "HEAD"]).accepts(&[0, 1]);
        Ok(self.run(call).await?.exit == Exit::Code(1))
    }

    async fn detach(&self, commit: &CommitId) -> Result<()> {
        let args = ["checkout", "--quiet", "--force", "--detach", commit.as_str()];
        self.run(Call::new(args)).await?;
        Ok(())
    }

    async fn set_origin(&self, origin: &str) -> Result<()> {
        if origin.is_empty() {
            return Ok(());
        }
        let origin = origin.replace(['\n', '\0'], "");
        let set = Call::new(["config", "--replace-all", "remote.origin.url", &origin]);
        self.run(set).await?;
        let fetch = "+refs/heads/*:refs/remotes/origin/*";
        self.run(Call::new(["config", "--replace-all", "remote.origin.fetch", fetch])).await?;
        Ok(())
    }
}
