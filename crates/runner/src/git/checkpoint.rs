//! Commits of the files: a checkpoint at each turn's end, beside the branch, and the result.

use boatyard_link::message::{DiffFile, GitAuthor};
use boatyard_model::name::{Branch, CommitId};

use super::{Base, Call, Error, Exit, Repository, Result};

/// Below this, a checkpoint for each turn.
pub const TURNS: &str = "refs/boatyard/turns/";

/// Who makes checkpoints; they never become part of a branch.
const CHECKPOINT_AUTHOR: (&str, &str) = ("Boatyard", "boatyard@localhost");

/// How many of its own commits an agent's turn is shown with.
const COMMITS_MAX: usize = 50;

/// A commit that an agent made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its id.
    pub commit: CommitId,
    /// Its first line.
    pub subject: String,
}

/// What is handed back.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The branch's head; none in a repository that has no commit and no file.
    pub head: Option<CommitId>,
    /// Commits on it since its base.
    pub commits: u32,
    /// What differs from the base.
    pub files: Vec<DiffFile>,
    /// Why the commit has no signature although it should.
    pub unsigned: Option<String>,
}

impl Repository<'_> {
    /// Keeps a tree as the checkpoint of a turn. The user's index and branch stay as they are.
    ///
    /// # Errors
    /// When git fails.
    pub async fn keep_checkpoint(&self, turn: u32, tree: &CommitId) -> Result<CommitId> {
        let parents: Vec<CommitId> = self.head().await?.into_iter().collect();
        let (name, email) = CHECKPOINT_AUTHOR;
        let author = GitAuthor { name: name.into(), email: email.into(), signs: false };
        let message = format!("Checkpoint of turn {turn}\n");
        let commit = self.commit_tree(tree, &parents, &message, &author).await?;
        let reference = format!("{TURNS}{turn}");
        let args = ["update-ref", "--no-deref", &reference, commit.as_str()];
        self.run(Call::new(args)).await?;
        Ok(commit)
    }

    /// The commits that the checked out one has and `before` had not, the oldest first.
    ///
    /// # Errors
    /// When git fails.
    pub async fn made_since(&self, before: Option<&CommitId>) -> Result<Vec<Made>> {
        let Some(head) = self.head().await? else { return Ok(Vec::new()) };
        if before == Some(&head) {
            return Ok(Vec::new());
        }
        let max = format!("--max-count={COMMITS_MAX}");
        let mut args = vec!["log", "-z", "--format=%H %s", &*max, head.as_str()];
        if let Some(before) = before {
            args.extend(["--not", before.as_str()]);
        }
        args.push("--");
        let printed = self.run(Call::new(args)).await?;
        let text = String::from_utf8_lossy(&printed.stdout);
        let mut made = Vec::new();
        for line in text.split('\0').filter(|line| !line.is_empty()) {
            let (id, subject) = line.split_once(' ').unwrap_or((line, ""));
            let commit = id.parse().map_err(|_| Error::Output("log".into()))?;
            made.push(Made { commit, subject: subject.to_owned() });
        }
        made.reverse();
        Ok(made)
    }

    /// Commits what is left on `branch`, wherever the agent left its head: if it went elsewhere,
    /// the branch follows, and nothing that was on it is lost.
    ///
    /// # Errors
    /// When git fails.
    pub async fn finish(
        &self,
        branch: &str,
        base: &str,
        message: &str,
        author: &GitAuthor,
    ) -> Result<Finished> {
        let branch: Branch = branch.parse()?;
        let base = Base::parse(base)?;
        let now = self.now().await?;
        let here = self.head().await?;
        let tip = self.reference(&branch.full()).await?;
        let mut parents: Vec<CommitId> = here.iter().cloned().collect();
        if let Some(tip) = &tip
            && !self.contains(here.as_ref(), tip).await?
        {
            parents.push(tip.clone());
        }
        let committed = match parents.first() {
            Some(first) => self.tree_of(first).await?,
            None => self.empty_tree().await?,
        };
        let mut unsigned = None;
        let head = if parents.len() < 2 && committed == now.tree {
            parents.pop()
        } else {
            let commit = self.commit_tree(&now.tree, &parents, message, author).await;
            Some(match commit {
                // Work is not lost for the want of a signature.
                Err(Error::Failed { complaint, .. }) if author.signs => {
                    unsigned = Some(complaint);
                    let author = GitAuthor { signs: false, ..author.clone() };
                    self.commit_tree(&now.tree, &parents, message, &author).await?
                }
                commit => commit?,
            })
        };
        if let Some(head) = &head {
            if tip.as_ref() != Some(head) {
                let full = branch.full();
                let args = ["update-ref", "-m", "boatyard: result", &*full, head.as_str()];
                self.run(Call::new(args)).await?;
            }
            self.settle_on(&branch).await?;
        }
        let from = self.base(&base).await?;
        let files = self.difference(&from, &now.tree).await?.files;
        let commits = match &head {
            Some(head) => self.count(&base, head).await?,
            None => 0,
        };
        Ok(Finished { head, commits, files, unsigned })
    }

    /// Whether `commit` is `head` or behind it.
    async fn contains(&self, head: Option<&CommitId>, commit: &CommitId) -> Result<bool> {
        let Some(head) = head else { return Ok(false) };
        if head == commit {
            return Ok(true);
        }
        let args = ["merge-base", "--is-ancestor", commit.as_str(), head.as_str()];
        Ok(self.run(Call::new(args).accepts(&[0, 1])).await?.exit == Exit::Code(0))
    }

    async fn tree_of(&self, commit: &CommitId) -> Result<CommitId> {
        let tree = format!("{commit}^{{tree}}");
        self.id(Call::new(["rev-parse", "--verify", "--end-of-options", &tree])).await
    }

    /// Makes the branch the checked out one and the user's index what it holds; the files are that
    /// already.
    async fn settle_on(&self, branch: &Branch) -> Result<()> {
        self.run(Call::new(["symbolic-ref", "HEAD", &branch.full()])).await?;
        self.run(Call::new(["reset", "--quiet", "--mixed"])).await?;
        Ok(())
    }

    async fn count(&self, base: &Base, head: &CommitId) -> Result<u32> {
        let mut args = vec!["rev-list", "--count", head.as_str()];
        if let Base::Commit(base) = base {
            args.extend(["--not", base.as_str()]);
        }
        args.push("--");
        let printed = self.run(Call::new(args)).await?;
        let text = String::from_utf8_lossy(&printed.stdout);
        text.trim().parse().map_err(|_| Error::Output("rev-list".into()))
    }

    pub(super) async fn commit_tree(
        &self,
        tree: &CommitId,
        parents: &[CommitId],
        message: &str,
        author: &GitAuthor,
    ) -> Result<CommitId> {
        let mut args = vec!["commit-tree"];
        if author.signs {
            args.push("-S");
        }
        for parent in parents {
            args.extend(["-p", parent.as_str()]);
        }
        args.extend(["-F", "-", tree.as_str()]);
        let clean = |text: &str| text.replace(['<', '>', '\n', '\0'], " ");
        let call = Call::new(args)
            .stdin(message.as_bytes().to_vec())
            .env("GIT_AUTHOR_NAME", clean(&author.name))
            .env("GIT_AUTHOR_EMAIL", clean(&author.email))
            .env("GIT_COMMITTER_NAME", clean(&author.name))
            .env("GIT_COMMITTER_EMAIL", clean(&author.email));
        self.id(call).await
    }
}
