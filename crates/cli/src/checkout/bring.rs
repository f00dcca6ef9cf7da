//! What a task changed, into the user's checkout.

use std::{collections::BTreeSet, ffi::OsString, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use boatyard_api::{
    Client,
    model::{TaskId, name::Branch},
};

use super::{Checkout, git, said, temporary};
use crate::failure::Failure;

/// More paths than these are counted, not named.
const NAMED: usize = 5;

/// What came into the checkout.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Brought {
    /// A branch.
    Branch,
    /// Changes in the working tree, some of them with conflict markers.
    Changes {
        /// Paths with conflict markers.
        conflicts: Vec<String>,
    },
}

/// A result as a bundle on disk.
pub(crate) struct Bundle {
    folder: tempfile::TempDir,
}

impl Bundle {
    /// Downloads an attempt's branch.
    pub(crate) async fn download(
        client: &Client,
        task: TaskId,
        attempt: Option<u32>,
    ) -> Result<Self> {
        let folder = temporary()?;
        let mut response = client.read_attempt_bundle(task, attempt).await?;
        let path = folder.path().join("result.bundle");
        let mut file = std::fs::File::create(&path)
            .with_context(|| format!("{} can't be made", path.display()))?;
        while let Some(piece) = response.chunk().await.context("the result broke off")? {
            file.write_all(&piece)
                .context("the result can't be written to the temporary folder")?;
        }
        file.sync_all()?;
        Ok(Self { folder })
    }

    /// One that is on disk already.
    #[cfg(test)]
    pub(crate) fn at(folder: tempfile::TempDir) -> Self {
        Self { folder }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("result.bundle")
    }
}

impl Checkout {
    /// Whether it has the commit that a result began at.
    async fn check_base(&self, base: &str) -> Result<()> {
        match self.commit(base).await? {
            Some(_) => Ok(()),
            None => Err(Failure::new(format!(
                "{} has not got the commit that the task began at ({})",
                self.root.display(),
                base.chars().take(12).collect::<String>()
            ))
            .next("go to a checkout of the task's repository, and `git fetch` there first")
            .into()),
        }
    }

    /// Makes `name` the result's branch here; a branch that would lose commits is not touched.
    pub(crate) async fn bring_branch(
        &self,
        bundle: &Bundle,
        from: &str,
        base: &str,
        name: &Branch,
    ) -> Result<Brought> {
        self.check_base(base).await?;
        let path = bundle.path();
        let refspec = format!("refs/heads/{from}:{}", name.full());
        // Not --quiet: its words tell why a branch is refused.
        let args: [OsString; 5] = [
            "fetch".into(),
            "--no-tags".into(),
            "--end-of-options".into(),
            path.into_os_string(),
            refspec.into(),
        ];
        let ran = git(&self.root, &args).await?;
        if ran.status.success() {
            return Ok(Brought::Branch);
        }
        let failure = if ran.stderr.contains("non-fast-forward") {
            Failure::new(format!("the branch {name} is there and has other commits"))
                .next("choose another name with --branch NAME")
        } else if ran.stderr.contains("refusing to fetch into") {
            Failure::new(format!("the branch {name} is checked out"))
                .next("choose another name with --branch NAME")
        } else {
            said("fetch", &ran.stderr)
        };
        Err(failure.into())
    }

    /// Applies the result's changes to the working tree. Files with changes of the user's own
    /// that the result changes as well are not touched: then nothing is.
    pub(crate) async fn bring_changes(
        &self,
        bundle: &Bundle,
        from: &str,
        base: &str,
        head: &str,
    ) -> Result<Brought> {
        self.check_base(base).await?;
        // Its objects come in without any reference, for the three-way merge.
        let unbundle: [OsString; 3] =
            ["bundle".into(), "unbundle".into(), bundle.path().into_os_string()];
        git(&self.root, &unbundle).await?.checked(&unbundle)?;
        let found = self.commit(head).await?;
        if found.is_none() {
            return Err(
                Failure::new(format!("the result's bundle has no commit {head} ({from})")).into()
            );
        }
        let names = ["diff", "--name-only", "-z", "--no-renames", base, head];
        let names = git(&self.root, names).await?.checked(&names.map(OsString::from))?;
        let touched: BTreeSet<String> = String::from_utf8_lossy(&names.stdout)
            .split('\0')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect();
        let dirty = self.dirty().await?;
        let in_danger: Vec<&String> =
            dirty.iter().filter(|path| touched.contains(path.as_str())).collect();
        if !in_danger.is_empty() {
            return Err(self.would_lose(&in_danger).into());
        }
        let patch = self.folder_patch(bundle.folder.path(), base, head).await?;
        let args: [OsString; 4] =
            ["apply".into(), "--3way".into(), "--whitespace=nowarn".into(), patch.into()];
        let ran = git(&self.root, &args).await?;
        if !ran.status.success() && !ran.stderr.contains("with conflicts") {
            return Err(said("apply", &ran.stderr)
                .next("bring it in as a branch instead: boatyard apply ID --branch NAME")
                .into());
        }
        let unmerged = ["diff", "--name-only", "-z", "--diff-filter=U"];
        let unmerged = git(&self.root, unmerged).await?;
        let conflicts = String::from_utf8_lossy(&unmerged.stdout)
            .split('\0')
            .filter(|path| !path.is_empty())
            .map(str::to_owned)
            .collect();
        Ok(Brought::Changes { conflicts })
    }

    async fn folder_patch(
        &self,
        folder: &Path,
        base: &str,
        head: &str,
    ) -> Result<std::path::PathBuf> {
        let path = folder.join("result.patch");
        let output = format!("--output={}", path.display());
        let args = [
            "diff",
            "--binary",
            "--full-index",
            "--no-color",
            "--no-ext-diff",
            &output,
            base,
            head,
        ];
        git(&self.root, args).await?.checked(&args.map(OsString::from))?;
        Ok(path)
    }

    fn would_lose(&self, paths: &[&String]) -> Failure {
        let mut names: Vec<String> =
            paths.iter().take(NAMED).map(|path| crate::text::clean_line(path)).collect();
        if paths.len() > NAMED {
            names.push(format!("{} more", paths.len() - NAMED));
        }
        Failure::new(format!(
            "changes of your own that are in no commit would be lost in {}",
            names.join(", ")
        ))
        .next("commit or stash them first, or bring it in as a branch: --branch NAME")
    }
}

#[cfg(test)]
mod tests;
