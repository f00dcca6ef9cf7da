//! Results: a branch that was taken out of a workspace.
//!
//! What a workspace sends is a pack. It is indexed strictly (every object whole, every link there)
//! into a repository of its own that has
//! the mirror's objects as alternates, and exactly one reference is made in it. From there it is
//! shown, handed out as a bundle, and pushed.

use std::path::{Path, PathBuf};

use boatyard_egress::git::Direction;
use boatyard_model::{
    AttemptId, RepositoryId,
    diff::{FILES_MAX, Files},
    event::DiffFile,
    name::{Branch, CommitId, RepositorySource},
};
use tokio::io::AsyncRead;

use super::{
    Mirrors,
    fetch::{EMPTY_TREE, FetchError, Network},
    git::{Git, GitError, Temporary},
};

/// A difference, as it is shown.
pub struct Difference {
    /// File by file.
    pub files: Vec<DiffFile>,
    /// The unified patch.
    pub patch: Vec<u8>,
    /// Whether something was left out.
    pub cut: bool,
}

impl Mirrors {
    /// Where an attempt's result is.
    pub fn result_path(&self, attempt: AttemptId) -> PathBuf {
        self.shared.results.join(format!("{attempt}.git"))
    }

    /// Takes a pack that a workspace sent, and makes `branch` at `head` of it. The result that was
    /// there before is replaced.
    ///
    /// # Errors
    /// When the pack is not whole, not what it says, or too large; nothing is kept then.
    pub async fn take_result(
        &self,
        attempt: AttemptId,
        repository: RepositoryId,
        branch: &Branch,
        head: &CommitId,
        pack: impl AsyncRead + Send + Unpin,
        max_bytes: u64,
    ) -> Result<(), GitError> {
        let quarantine = Temporary(self.incoming("result"));
        Git::bare("init")
            .args(["--bare", "--quiet", "--template="])
            .arg(&quarantine.0)
            .run_quietly()
            .await?;
        let io = |source| GitError::Io { command: "init".to_owned(), source };
        let alternates = quarantine.0.join("objects/info");
        tokio::fs::create_dir_all(&alternates).await.map_err(io)?;
        let objects = format!("{}/objects\n", self.path(repository).display());
        tokio::fs::write(alternates.join("alternates"), objects).await.map_err(io)?;
        Git::new(&quarantine.0, "index-pack")
            .args(["--stdin", "--strict", &format!("--max-input-size={max_bytes}")])
            .with_input(pack, 1 << 20)
            .await?;
        Git::new(&quarantine.0, "update-ref")
            .args([&branch.full(), head.as_str()])
            .run_quietly()
            .await?;
        let place = self.result_path(attempt);
        if place.exists() {
            tokio::fs::remove_dir_all(&place).await.map_err(io)?;
        }
        tokio::fs::rename(&quarantine.0, &place).await.map_err(io)
    }

    /// Removes a result that nobody needs.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn remove_result(&self, attempt: AttemptId) -> std::io::Result<()> {
        match tokio::fs::remove_dir_all(self.result_path(attempt)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The difference between two commits of a result; the empty tree where there is no base.
    ///
    /// # Errors
    /// When there is no such result, or git fails.
    pub async fn result_difference(
        &self,
        attempt: AttemptId,
        base: Option<&CommitId>,
        head: &CommitId,
        context: u32,
        max_bytes: u64,
    ) -> Result<Difference, GitError> {
        let place = self.result_path(attempt);
        let base = base.map_or(EMPTY_TREE, CommitId::as_str);
        let raw = diff(&place)
            .args(["--raw", "--numstat", "-z", base, head.as_str(), "--"])
            .output(16 << 20)
            .await?;
        let Files { files, cut: more } = Files::parse(&raw, FILES_MAX);
        let patch = diff(&place)
            .args(["--patch", &format!("--unified={context}"), base, head.as_str(), "--"])
            .output(max_bytes)
            .await;
        match patch {
            Ok(patch) => Ok(Difference { files, patch, cut: more }),
            Err(GitError::TooLarge { .. }) => {
                Ok(Difference { files, patch: Vec::new(), cut: true })
            }
            Err(error) => Err(error),
        }
    }

    /// The result's branch as a bundle of what its base lacks.
    ///
    /// # Errors
    /// When there is no such result, or git fails.
    pub async fn result_bundle(
        &self,
        attempt: AttemptId,
        branch: &Branch,
        base: Option<&CommitId>,
        max_bytes: u64,
    ) -> Result<Vec<u8>, GitError> {
        let mut git = Git::new(&self.result_path(attempt), "bundle").args([
            "create",
            "--quiet",
            "-",
            &branch.full(),
        ]);
        if let Some(base) = base {
            git = git.arg(format!("^{base}"));
        }
        git.output(max_bytes).await
    }

    /// Pushes the result's branch to where the repository came from.
    ///
    /// # Errors
    /// When the origin refuses it or can't be reached.
    pub async fn push_result(
        &self,
        attempt: AttemptId,
        source: &RepositorySource,
        branch: &Branch,
        network: &Network,
    ) -> Result<(), FetchError> {
        match self.push_once(attempt, source, branch, network).await {
            // A token that was made may have been taken back since.
            Err(FetchError::Git { .. }) if network.forget(source).await => {
                self.push_once(attempt, source, branch, network).await
            }
            pushed => pushed,
        }
    }

    async fn push_once(
        &self,
        attempt: AttemptId,
        source: &RepositorySource,
        branch: &Branch,
        network: &Network,
    ) -> Result<(), FetchError> {
        let push = Git::new(&self.result_path(attempt), "push");
        let (git, address) = self.remote(push, source, network, Direction::Push).await?;
        let reference = branch.full();
        git.args(["--quiet", "--no-verify"])
            .args(["--end-of-options", &address, &format!("{reference}:{reference}")])
            .deadline(network.settings.repositories.fetch_time.duration())
            .run_quietly()
            .await
            .map_err(|error| FetchError::Git { source_name: source.to_string(), source: error })
    }
}

fn diff(repository: &Path) -> Git {
    Git::new(repository, "diff-tree").args([
        "-r",
        "--no-commit-id",
        "--no-ext-diff",
        "--no-textconv",
        "--find-renames",
        "--no-color",
        "--full-index",
    ])
}

/// What the files below a folder take, without following links. For our own folders only.
pub fn folder_bytes(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
