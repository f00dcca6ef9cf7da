//! Objects for the server, as a pack.

use boatyard_model::name::CommitId;

use super::{Call, Error, Repository, Result};
use crate::process::Running;

/// How many commits the server may say it has.
const HAVE_MAX: usize = 10_000;

impl Repository<'_> {
    /// Starts to write everything that is reachable from `want` and not from `have` as a pack to
    /// its standard output.
    ///
    /// # Errors
    /// When `want` is not there, or git can't be started.
    pub async fn pack(&self, want: &str, have: &[String]) -> Result<(Running, Vec<u8>)> {
        let want: CommitId = want.parse()?;
        if !self.exists()? {
            return Err(Error::NoRepository(self.below.clone()));
        }
        self.require(&want).await?;
        let mut revisions = format!("{want}\n");
        for commit in self.known(have).await? {
            revisions.push('^');
            revisions.push_str(&commit);
            revisions.push('\n');
        }
        let args = ["pack-objects", "--revs", "--stdout", "--quiet", "--delta-base-offset"];
        let call = Call::new(args).stdin(Vec::new());
        let running = self.start(&self.path, &call)?;
        Ok((running, revisions.into_bytes()))
    }

    /// Those of `commits` that are here: git refuses to leave out what it does not know.
    async fn known(&self, commits: &[String]) -> Result<Vec<String>> {
        let mut asked = String::new();
        for commit in commits.iter().take(HAVE_MAX) {
            let commit: CommitId = commit.parse()?;
            asked.push_str(commit.as_str());
            asked.push('\n');
        }
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let call = Call::new(["cat-file", "--batch-check=%(objectname) %(objecttype)"]);
        let printed = self.run(call.stdin(asked.into_bytes())).await?;
        let lines = String::from_utf8_lossy(&printed.stdout);
        let known = lines.lines().filter_map(|line| line.strip_suffix(" commit"));
        Ok(known.map(str::to_owned).collect())
    }
}
