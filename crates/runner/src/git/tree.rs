//! The files as they are now, as a tree object.
//!
//! They are added to an index of our own in the repository's `.git`, begun as a copy of the user's
//! (so that unchanged files are not read again), never to the user's.

use std::{io::Read, path::Path};

use boatyard_model::name::CommitId;

use super::{Base, Call, Error, Exit, Printed, Repository, Result};
use crate::beneath::Executable;

/// Our index, in `.git`.
pub(super) const INDEX: &str = "boatyard-index";

/// A larger index than this is not copied but made anew: a million files have about 100 MiB.
const INDEX_MAX: u64 = 512 << 20;

/// How many repositories without commits may lie below one.
const EMBEDDED_MAX: usize = 20;

/// The files as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// The tree of all tracked and untracked files that are not ignored.
    pub tree: CommitId,
    /// Some files could not be added: what git said of them.
    pub left_out: Option<String>,
}

impl Repository<'_> {
    /// Writes the files as they are into the object store.
    ///
    /// # Errors
    /// When git fails.
    pub async fn now(&self) -> Result<Now> {
        if !self.exists()? {
            return Err(Error::NoRepository(self.below.clone()));
        }
        let index = self.begin_index()?;
        let left_out = self.add_all(&index).await?;
        let tree = self.id(Call::new(["write-tree"]).env("GIT_INDEX_FILE", index)).await?;
        Ok(Now { tree, left_out })
    }

    /// Adds all files to the index; what could not be added is told.
    async fn add_all(&self, index: &str) -> Result<Option<String>> {
        let mut excluded: Vec<String> = Vec::new();
        loop {
            // One file that can't be read must not cost the others.
            let args = ["add", "--all", "--ignore-errors", "--", "."];
            let args = args.into_iter().chain(excluded.iter().map(String::as_str));
            let call = Call::new(args).env("GIT_INDEX_FILE", index).accepts(&[0, 1, 128]);
            let added = self.run(call).await?;
            let embedded = match added.exit {
                Exit::Code(0) if excluded.is_empty() => return Ok(None),
                Exit::Code(0 | 1) => return Ok(Some(added.complaint)),
                // A repository without commits below this one ends the whole call.
                _ => added.complaint.lines().find_map(|line| {
                    let rest = line.strip_prefix("error: '")?;
                    rest.strip_suffix("' does not have a commit checked out")
                }),
            };
            match embedded {
                Some(folder) if excluded.len() < EMBEDDED_MAX => {
                    excluded
                        .push(format!(":(top,exclude,literal){}", folder.trim_end_matches('/')));
                }
                _ => {
                    let Printed { exit, complaint, .. } = added;
                    return Err(Error::Failed { command: "add".into(), exit, complaint });
                }
            }
        }
    }

    /// The id of the tree without files, in this repository's kind of id.
    ///
    /// # Errors
    /// When git fails.
    pub async fn empty_tree(&self) -> Result<CommitId> {
        self.id(Call::new(["hash-object", "-t", "tree", "--stdin"]).stdin(Vec::new())).await
    }

    /// What `base` names; the empty tree if it is nothing.
    ///
    /// # Errors
    /// [`Error::NoCommit`] when it is not there.
    pub async fn base(&self, base: &Base) -> Result<CommitId> {
        match base {
            Base::Nothing => self.empty_tree().await,
            Base::Commit(commit) => {
                self.require(commit).await?;
                Ok(commit.clone())
            }
        }
    }

    /// Makes sure that an object is there.
    pub(super) async fn require(&self, commit: &CommitId) -> Result<()> {
        let call = Call::new(["cat-file", "-e", commit.as_str()]).accepts(&[0, 1, 128]);
        match self.run(call).await?.exit {
            Exit::Code(0) => Ok(()),
            _ => Err(Error::NoCommit(commit.to_string())),
        }
    }

    /// Lays a copy of the user's index beside it. Gives its absolute path.
    fn begin_index(&self) -> Result<String> {
        let git = format!("{}/.git", self.below);
        let ours = format!("{git}/{INDEX}");
        let lock = format!("{ours}.lock");
        for stale in [&ours, &lock] {
            self.git.work.remove(stale)?;
        }
        let path = format!("{}/{ours}", self.git.layout.work);
        let (mut from, _) = match self.git.work.read(&format!("{git}/index"), INDEX_MAX) {
            Ok(found) => found,
            // None yet, too large, or `.git` is a file: git makes a new one where we say.
            Err(_) => return Ok(self.index_elsewhere(&git).unwrap_or(path)),
        };
        let mut copy = self.git.work.write(&ours, Executable::No, INDEX_MAX)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => copy.write(&buffer[..n])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Pipe(error)),
            }
        }
        copy.commit()?;
        Ok(path)
    }

    /// Where our index goes when `.git` is a file (a worktree's or submodule's pointer): beside it.
    fn index_elsewhere(&self, git: &str) -> Option<String> {
        let is_file = self.git.work.read(git, 4096).is_ok();
        let name = format!(".{INDEX}-{}", Path::new(&self.path).file_name()?.display());
        is_file.then(|| format!("{}/../{name}", self.path))
    }
}
