//! What the server asks of git in a workspace: [`GitRequest`], answered by a [`GitReply`].

use boatyard_model::event::DiffFile;
use serde::{Deserialize, Serialize};

use super::Failure;

/// A git operation. `folder` is a repository below `/work`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum GitRequest {
    /// Make a checkout of the mirror at `/mirror`, sharing its objects, detached at `commit`; or
    /// bring the one that is there to `commit`. Answered by [`GitReply::Done`].
    Checkout {
        /// Where.
        folder: String,
        /// What.
        commit: String,
        /// The address that `origin` gets.
        origin: String,
    },
    /// Begin the branch `branch` at `commit` and switch to it. Answered by [`GitReply::Done`].
    Branch {
        /// Where.
        folder: String,
        /// The new branch.
        branch: String,
        /// Where it begins.
        commit: String,
        /// Name and address for commits.
        author: GitAuthor,
    },
    /// Commit what is left on the branch. Answered by [`GitReply::Finished`].
    Finish {
        /// Where.
        folder: String,
        /// The branch that the result is on.
        branch: String,
        /// Where the branch began.
        base: String,
        /// The commit's message, if one is needed.
        message: String,
        /// Who commits.
        author: GitAuthor,
    },
    /// The difference to `base`. Answered by [`GitReply::Diff`], then the patch as bytes.
    Diff {
        /// Where.
        folder: String,
        /// From here.
        base: String,
        /// To here; the files as they are now if absent.
        head: Option<String>,
        /// Lines of context.
        context: u32,
        /// Cut the patch after so many bytes.
        max: u64,
    },
    /// Bring the files back to the last checkpoint, after a crash of the host. Answered by
    /// [`GitReply::Recovered`].
    Recover {
        /// Where.
        folder: String,
        /// The branch that the work is on, if it is on one.
        branch: Option<String>,
        /// Where the branch began; empty where there was no commit.
        base: String,
        /// The generation whose start found the crash.
        start: u64,
    },
    /// Everything reachable from `want` and not from `have`, as a pack. Answered by
    /// [`GitReply::Done`], then the pack as bytes.
    Pack {
        /// Where.
        folder: String,
        /// A commit.
        want: String,
        /// Commits that the server has.
        have: Vec<String>,
    },
}

/// Who a commit is by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GitAuthor {
    /// A name.
    pub name: String,
    /// A mail address.
    pub email: String,
    /// Whether what is committed in this name is signed, with the key that the server has.
    #[serde(default)]
    pub signs: bool,
}

/// The answer to a [`GitRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum GitReply {
    /// It is done.
    Done,
    /// What is left is committed.
    Finished {
        /// The branch's head.
        head: String,
        /// Commits on the branch since its base.
        commits: u32,
        /// What differs from the base.
        files: Vec<DiffFile>,
        /// Why the commit has no signature although it should.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unsigned: Option<String>,
    },
    /// What differs.
    Diff {
        /// File by file, at most 10,000.
        files: Vec<DiffFile>,
        /// Whether there are more files, or the patch was cut.
        cut: bool,
    },
    /// Files are as a checkpoint had them, or as the crash left them.
    Recovered {
        /// The turn whose checkpoint it was; absent if no checkpoint is whole.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn: Option<u32>,
        /// The commit that keeps what was there before; absent if it could not be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<String>,
    },
    /// It could not be done.
    Failed(Failure),
}
