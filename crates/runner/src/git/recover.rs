//! Back to the last checkpoint, after the host went down.
//!
//! A workspace's files are written without waiting for the disk, so that after a crash those of the
//! last minute may be there in part only, and git's own among them. Checkpoints are made durable by
//! the host; the newest that is whole is where the workspace goes on:
//!
//! ```text
//! locks of gits that died, objects without content ─► removed
//! files as they are       ─► a commit under refs/boatyard/recovered/, so that nothing is lost
//! newest whole checkpoint ─► the files; its parent ─► the branch, where that is broken; new index
//! ```
//!
//! Where no turn has ended yet there is no checkpoint: files stay as the disk has them.

use boatyard_link::message::GitAuthor;
use boatyard_model::name::{Branch, CommitId};

use super::{Base, Call, Repository, Result, checkpoint::TURNS, tree::INDEX};

/// Below this, what was there when the host had crashed, by the start that found it.
pub const KEPT: &str = "refs/boatyard/recovered/";

/// What a git that died leaves behind, in `.git`.
const LOCKS: [&str; 5] =
    ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "boatyard-index.lock"];

/// How many objects of one folder are looked at: git packs them long before.
const OBJECTS_MAX: usize = 100_000;

/// What became of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The turn whose checkpoint the files are of; none if there is none that is whole.
    pub turn: Option<u32>,
    /// The files as the crash left them; none if they could not be read.
    pub kept: Option<CommitId>,
}

impl Repository<'_> {
    /// Brings the files, and a branch that is broken, back to the last checkpoint. What `base` has
    /// is the mirror's and no crash of a workspace's; `start` tells this crash from others.
    ///
    /// # Errors
    /// When there is no repository, or git can't be run.
    pub async fn recover(&self, branch: Option<&str>, base: &str, start: u64) -> Result<Recovered> {
        let branch = branch.map(str::parse::<Branch>).transpose()?;
        let base = self.base(&Base::parse(base)?).await?;
        self.remove_locks(branch.as_ref())?;
        self.remove_hollow_objects()?;
        // What can't be kept is told by its absence.
        let kept = self.keep_what_is_there(start).await.ok();
        for (turn, checkpoint) in self.checkpoints().await? {
            // One that is broken itself is passed over: the one before it may not be.
            if self.go_back_to(&checkpoint, branch.as_ref(), &base).await.is_ok() {
                return Ok(Recovered { turn: Some(turn), kept });
            }
        }
        Ok(Recovered { turn: None, kept })
    }

    fn remove_locks(&self, branch: Option<&Branch>) -> Result<()> {
        let of_branch = branch.map(|branch| format!("{}.lock", branch.full()));
        for lock in LOCKS.into_iter().chain(of_branch.as_deref()) {
            self.git.work.remove(&format!("{}/.git/{lock}", self.below))?;
        }
        Ok(())
    }

    /// Objects that a crash left without content; git would take them for ones that it has.
    fn remove_hollow_objects(&self) -> Result<()> {
        let objects = format!("{}/.git/objects", self.below);
        for first in 0..=u8::MAX {
            let folder = format!("{objects}/{first:02x}");
            if !self.git.work.exists(&folder)? {
                continue;
            }
            let (entries, _) = self.git.work.list(&folder, OBJECTS_MAX)?;
            for entry in entries.iter().filter(|entry| entry.bytes == 0) {
                self.git.work.remove(&format!("{folder}/{}", entry.name))?;
            }
        }
        Ok(())
    }

    /// A commit of the files as they are. Every file is read: what an index says of them may be
    /// older, or newer, than what the disk has.
    async fn keep_what_is_there(&self, start: u64) -> Result<CommitId> {
        self.forget_index()?;
        let tree = self.now().await?.tree;
        let parents: Vec<CommitId> = self.head().await.ok().flatten().into_iter().collect();
        let author =
            GitAuthor { name: "Boatyard".into(), email: "boatyard@localhost".into(), signs: false };
        let commit = self.commit_tree(&tree, &parents, "As the crash left it\n", &author).await?;
        let reference = format!("{KEPT}{start}");
        self.run(Call::new(["update-ref", "--no-deref", &reference, commit.as_str()])).await?;
        Ok(commit)
    }

    /// Checkpoints by their turns, the newest first.
    async fn checkpoints(&self) -> Result<Vec<(u32, CommitId)>> {
        // What can't be read is told on standard error and passed over.
        let call = Call::new(["for-each-ref", "--format=%(refname) %(objectname)", TURNS]);
        let printed = self.run(call).await?;
        let text = String::from_utf8_lossy(&printed.stdout);
        let mut found: Vec<(u32, CommitId)> = text
            .lines()
            .filter_map(|line| {
                let (name, id) = line.strip_prefix(TURNS)?.split_once(' ')?;
                Some((name.parse().ok()?, id.parse().ok()?))
            })
            .collect();
        found.sort_by_key(|(turn, _)| std::cmp::Reverse(*turn));
        Ok(found)
    }

    async fn go_back_to(
        &self,
        checkpoint: &CommitId,
        branch: Option<&Branch>,
        base: &CommitId,
    ) -> Result<()> {
        // Before a file is touched.
        self.read_whole(checkpoint, base).await?;
        if let Some(branch) = branch {
            self.mend_branch(branch, checkpoint, base).await?;
        }
        // Files that it does not have go: they are in the commit that was kept.
        self.forget_index()?;
        self.now().await?;
        let index = format!("{}/.git/{INDEX}", self.path);
        let back = ["read-tree", "--reset", "-u", checkpoint.as_str()];
        self.run(Call::new(back).env("GIT_INDEX_FILE", index)).await?;
        if self.head().await?.is_some() {
            self.run(Call::new(["read-tree", "--reset", "HEAD"])).await?;
        }
        Ok(())
    }

    /// A branch whose tip can't be read goes back to where it was at the checkpoint.
    async fn mend_branch(
        &self,
        branch: &Branch,
        checkpoint: &CommitId,
        base: &CommitId,
    ) -> Result<()> {
        let full = branch.full();
        if let Ok(Some(tip)) = self.reference(&full).await
            && self.read_whole(&tip, base).await.is_ok()
        {
            return Ok(());
        }
        // Git refuses to write over a reference that it can't read.
        self.git.work.remove(&format!("{}/.git/{full}", self.below))?;
        let parent = format!("{checkpoint}^");
        if let Some(tip) = self.reference(&parent).await? {
            self.run(Call::new(["update-ref", &full, tip.as_str()])).await?;
        }
        Ok(())
    }

    /// Reads every file of a commit that `base` has not.
    async fn read_whole(&self, commit: &CommitId, base: &CommitId) -> Result<()> {
        let args = ["diff", "--shortstat", "--no-ext-diff", base.as_str(), commit.as_str(), "--"];
        self.run(Call::new(args)).await.map(drop)
    }

    fn forget_index(&self) -> Result<()> {
        Ok(self.git.work.remove(&format!("{}/.git/index", self.below))?)
    }
}
