//! What a mirror has: references, and the commits that they mean.

use std::path::Path;

use boatyard_model::{
    RepositoryId,
    name::{Branch, CommitId},
};

use super::{
    Mirrors,
    git::{Git, GitError},
};

impl Mirrors {
    /// What the mirror's references point to, by name. Empty for a mirror that does not exist yet.
    ///
    /// # Errors
    /// When git fails.
    pub async fn references(
        &self,
        repository: RepositoryId,
    ) -> Result<Vec<(String, CommitId)>, GitError> {
        let mirror = self.path(repository);
        if !mirror.exists() {
            return Ok(Vec::new());
        }
        let text = Git::new(&mirror, "for-each-ref")
            .args(["--format=%(refname) %(objectname)", "refs/heads", "refs/boatyard"])
            .output(16 << 20)
            .await?;
        let lines = String::from_utf8_lossy(&text);
        let parsed = lines.lines().filter_map(|line| {
            let (name, commit) = line.rsplit_once(' ')?;
            Some((name.to_owned(), commit.parse().ok()?))
        });
        Ok(parsed.collect())
    }

    /// The branch that the mirror's HEAD names.
    ///
    /// # Errors
    /// When git fails.
    pub async fn default_branch(
        &self,
        repository: RepositoryId,
    ) -> Result<Option<Branch>, GitError> {
        let mirror = self.path(repository);
        // Our own file, of one line; only where git keeps references otherwise it names none.
        if let Ok(head) = tokio::fs::read_to_string(mirror.join("HEAD")).await
            && let Some(name) = head.trim_end().strip_prefix("ref: refs/heads/")
            && let Ok(branch) = name.parse()
        {
            return Ok(Some(branch));
        }
        let head = Git::new(&mirror, "symbolic-ref").args(["HEAD"]).text().await?;
        Ok(head.strip_prefix("refs/heads/").and_then(|name| name.parse().ok()))
    }

    /// The commits that these revisions mean, with their trees, by one run of git.
    pub(super) async fn commits(
        &self,
        mirror: &Path,
        revisions: &[(String, Option<Branch>)],
    ) -> Result<impl Iterator<Item = Option<(CommitId, String)>> + use<>, GitError> {
        let asked: String = revisions
            .iter()
            .map(|(revision, _)| format!("{revision}^{{commit}}\n{revision}^{{tree}}\n"))
            .collect();
        let told = Git::new(mirror, "cat-file")
            .args(["--batch-check=%(objectname) %(objecttype)"])
            .with_input(asked.as_bytes(), 1 << 20)
            .await?;
        let told = String::from_utf8_lossy(&told);
        let mut lines = told.lines();
        let mut found = Vec::new();
        while let (Some(commit), Some(tree)) = (lines.next(), lines.next()) {
            let commit = commit.strip_suffix(" commit").and_then(|id| id.parse().ok());
            let tree = tree.strip_suffix(" tree").map(str::to_owned);
            found.push(commit.zip(tree));
        }
        Ok(found.into_iter())
    }
}
