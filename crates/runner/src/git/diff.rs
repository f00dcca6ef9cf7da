//! What differs between two trees: file by file, and as a patch.

use boatyard_link::message::DiffFile;
use boatyard_model::{event::FileChange, name::CommitId};

use super::{Call, Error, Printed, Repository, Result};

/// How many files a difference names.
pub const FILES_MAX: usize = 10_000;

/// The longest patch, whatever was asked for.
pub const PATCH_MAX: u64 = 16 << 20;

/// The most lines of context: whole files, in effect.
const CONTEXT_MAX: u32 = 100_000;

/// Never a program that the repository or its user configured.
const PLAIN: [&str; 4] = ["--no-ext-diff", "--no-textconv", "--no-color", "--find-renames"];

/// What differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// File by file, in the order of their paths.
    pub files: Vec<DiffFile>,
    /// There are more.
    pub cut: bool,
}

impl Repository<'_> {
    /// The files that differ between two trees (or commits).
    ///
    /// # Errors
    /// When git fails.
    pub async fn difference(&self, from: &CommitId, to: &CommitId) -> Result<Difference> {
        let mut args = vec!["diff-tree", "-r", "-z", "--raw", "--numstat", "--no-abbrev"];
        args.extend(PLAIN);
        args.extend(["--end-of-options", from.as_str(), to.as_str()]);
        let printed = self.run(Call::new(args)).await?;
        parse(&printed)
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

/// Reads `--raw --numstat -z`: first `:… status NUL path NUL [path NUL]` for each file, then
/// `added TAB removed TAB path NUL`, or for a renamed file `added TAB removed TAB NUL old NUL new
/// NUL`, in the same order.
fn parse(printed: &Printed) -> Result<Difference> {
    let wrong = || Error::Output("diff-tree".into());
    let mut fields = printed.stdout.split(|byte| *byte == 0).peekable();
    let mut files: Vec<DiffFile> = Vec::new();
    let mut cut = printed.cut;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while let Some(head) = fields.next_if(|field| field.first() == Some(&b':')) {
        let status = head.rsplit(|byte| *byte == b' ').next().and_then(|s| s.first());
        let first = text(fields.next().ok_or_else(wrong)?);
        let (change, path, old_path) = match status.ok_or_else(wrong)? {
            b'A' => (FileChange::Added, first, None),
            b'D' => (FileChange::Deleted, first, None),
            b'R' => {
                let new = text(fields.next().ok_or_else(wrong)?);
                (FileChange::Renamed, new, Some(first))
            }
            b'C' => (FileChange::Added, text(fields.next().ok_or_else(wrong)?), Some(first)),
            _ => (FileChange::Modified, first, None),
        };
        files.push(DiffFile { path, old_path, change, added: None, removed: None });
    }
    for file in &mut files {
        let Some(counts) = fields.next().filter(|field| !field.is_empty()) else { break };
        let mut parts = counts.splitn(3, |byte| *byte == b'\t');
        let mut number = || {
            let digits = std::str::from_utf8(parts.next()?).ok()?;
            digits.parse::<u32>().ok()
        };
        // A binary file has `-` in both places.
        (file.added, file.removed) = (number(), number());
        if parts.next().is_some_and(<[u8]>::is_empty) {
            // The two names of a renamed file.
            fields.next();
            fields.next();
        }
    }
    if files.len() > FILES_MAX {
        files.truncate(FILES_MAX);
        cut = true;
    }
    Ok(Difference { files, cut })
}
