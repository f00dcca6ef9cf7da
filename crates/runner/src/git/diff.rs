//! What differs between two trees: file by file, and as a patch.

use boatyard_model::{
    diff::{FILES_MAX, Files},
    name::CommitId,
};

use super::{Call, Repository, Result};

/// The longest patch, whatever was asked for.
pub const PATCH_MAX: u64 = 16 << 20;

/// The most lines of context: whole files, in effect.
const CONTEXT_MAX: u32 = 100_000;

/// Never a program that the repository or its user configured.
const PLAIN: [&str; 4] = ["--no-ext-diff", "--no-textconv", "--no-color", "--find-renames"];

impl Repository<'_> {
    /// The files that differ between two trees (or commits).
    ///
    /// # Errors
    /// When git fails.
    pub async fn difference(&self, from: &CommitId, to: &CommitId) -> Result<Files> {
        let mut args = vec!["diff-tree", "-r", "-z", "--raw", "--numstat", "--no-abbrev"];
        args.extend(PLAIN);
        args.extend(["--end-of-options", from.as_str(), to.as_str()]);
        let printed = self.run(Call::new(args)).await?;
        let mut files = Files::parse(&printed.stdout, FILES_MAX);
        files.cut |= printed.cut;
        Ok(files)
    }

    /// The patch from one tree to another, at most `max` bytes of it, and whether it was cut.
    ///
    /// # Errors
    /// When git fails.
    pub async fn patch(
        &self,
        from: &CommitId,
        to: &CommitId,
        context: u32,
        max: u64,
    ) -> Result<(Vec<u8>, bool)> {
        let context = format!("--unified={}", context.min(CONTEXT_MAX));
        let mut args = vec!["diff-tree", "-r", "--patch", "--full-index", &*context];
        args.extend(PLAIN);
        args.extend(["--end-of-options", from.as_str(), to.as_str()]);
        let max = usize::try_from(max.min(PATCH_MAX)).unwrap_or(0);
        let printed = self.run(Call::new(args).max(max)).await?;
        Ok((printed.stdout, printed.cut))
    }
}
