//! Repositories that a mirror is kept of.

use boatyard_model::{OrganizationId, RepositoryId, Timestamp, name::RepositorySource};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    row::record,
    shares::{self, Listed, Viewer},
    state::words,
};

words! {
    /// Where a repository comes from.
    RepositoryKind {
        /// Over HTTPS.
        Https = "https",
        /// Over SSH.
        Ssh = "ssh",
        /// From a path on the server's machine.
        Path = "path",
        /// From the client, as a bundle.
        Sent = "sent",
    }

    /// Where a mirror stands.
    RepositoryState {
        /// Nothing was fetched yet.
        New = "new",
        /// A fetch is under way.
        Fetching = "fetching",
        /// It was fetched.
        Ready = "ready",
        /// The last fetch failed; what was there before is still good.
        Failed = "failed",
    }
}

impl From<&RepositorySource> for RepositoryKind {
    fn from(source: &RepositorySource) -> Self {
        match source {
            RepositorySource::Https { .. } => Self::Https,
            RepositorySource::Ssh { .. } => Self::Ssh,
            RepositorySource::Path(_) => Self::Path,
            RepositorySource::Sent(_) => Self::Sent,
        }
    }
}

record! {
    /// A repository.
    #[derive(Debug, Clone)]
    pub struct RepositoryRow [owned] {
        /// Its id.
        pub id: RepositoryId,
        /// Its address, as [`RepositorySource`] writes it.
        pub source: String,
        /// Where it comes from.
        pub kind: RepositoryKind,
        /// Its folder in a workspace.
        pub folder: String,
        /// The branch that its HEAD names.
        pub default_branch: Option<String>,
        /// Where its mirror stands.
        pub state: RepositoryState,
        /// Why the last fetch failed.
        pub error: Option<String>,
        /// What the mirror takes on disk.
        pub bytes: u64,
        /// When it was named first.
        pub created: Timestamp,
        /// When it was fetched last.
        pub fetched: Option<Timestamp>,
        /// When it was used last.
        pub last_used: Timestamp,
    }
}

impl Tx {
    /// The repository with this address; made if it is new.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn find_or_create_repository(
        &mut self,
        owner: Owner,
        source: &RepositorySource,
    ) -> Result<RepositoryRow> {
        let now = self.now();
        let (address, folder) = (source.to_string(), source.folder());
        let row = find!(
            self,
            RepositoryRow,
            format!(
                "INSERT INTO repository (id, organization, owner, source, kind, folder, state,
                    created, last_used)
                 VALUES ($1, $2, $3, $4, $5, $6, 'new', $7, $7)
                 ON CONFLICT (organization, source) DO UPDATE SET last_used = excluded.last_used
                 RETURNING {}",
                RepositoryRow::COLUMNS
            ),
            RepositoryId::new(),
            owner.organization,
            owner.member,
            address,
            RepositoryKind::from(source),
            folder,
            now,
        )?;
        let row = row.ok_or_else(|| Error::not_found("repository", source))?;
        self.note("repository", row.id);
        Ok(row)
    }

    /// Notes that a fetch begins.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn repository_fetching(&mut self, id: RepositoryId) -> Result<()> {
        let touched = exec!(self, "UPDATE repository SET state = 'fetching' WHERE id = $1", id)?;
        if touched == 0 { Err(Error::not_found("repository", id)) } else { Ok(()) }
    }

    /// Notes that a fetch is done.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn repository_fetched(
        &mut self,
        id: RepositoryId,
        default_branch: Option<String>,
        bytes: u64,
    ) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE repository SET state = 'ready', error = NULL, fetched = $2, last_used = $2,
                default_branch = COALESCE($3, default_branch), bytes = $4
             WHERE id = $1",
            id,
            self.now(),
            default_branch,
            bytes,
        )?;
        if touched == 0 { Err(Error::not_found("repository", id)) } else { Ok(()) }
    }

    /// Notes that a fetch failed.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn repository_failed(&mut self, id: RepositoryId, error: String) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE repository SET state = 'failed', error = $2 WHERE id = $1",
            id,
            error,
        )?;
        if touched == 0 { Err(Error::not_found("repository", id)) } else { Ok(()) }
    }

    /// Puts mirrors whose fetch ended with the server before back to what they were.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn reset_fetching(&mut self) -> Result<u64> {
        exec!(
            self,
            "UPDATE repository SET state = CASE WHEN fetched IS NULL THEN 'new' ELSE 'ready' END
             WHERE state = 'fetching'",
        )
    }

    /// Notes that a repository is used.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn touch_repository(&mut self, id: RepositoryId) -> Result<()> {
        exec!(self, "UPDATE repository SET last_used = $2 WHERE id = $1", id, self.now())?;
        Ok(())
    }

    /// Removes a repository's row if no workspace and no layer that is left refers to it: whether
    /// it did. Tasks keep its address.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn remove_repository(&mut self, id: RepositoryId) -> Result<bool> {
        let removed = exec!(
            self,
            "DELETE FROM repository WHERE id = $1
             AND NOT EXISTS (SELECT 1 FROM workspace
                WHERE workspace.repository = repository.id AND workspace.state <> 'deleted')
             AND NOT EXISTS (SELECT 1 FROM layer
                WHERE layer.repository = repository.id AND layer.state <> 'deleted')
             AND NOT EXISTS (SELECT 1 FROM task WHERE task.repository = repository.id
                AND task.state IN ('queued', 'preparing', 'running', 'waiting'))",
            id,
        )?;
        Ok(removed > 0)
    }
}

impl Store {
    /// One repository.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn repository(&self, id: RepositoryId) -> Result<RepositoryRow> {
        let sql = format!("SELECT {} FROM repository WHERE id = $1", RepositoryRow::COLUMNS);
        read_one!(self, RepositoryRow, sql, id)?.ok_or_else(|| Error::not_found("repository", id))
    }

    /// The repository with this address.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_repository(
        &self,
        organization: OrganizationId,
        source: &RepositorySource,
    ) -> Result<Option<RepositoryRow>> {
        read_one!(
            self,
            RepositoryRow,
            format!(
                "SELECT {} FROM repository WHERE organization = $1 AND source = $2",
                RepositoryRow::COLUMNS
            ),
            organization,
            source.to_string(),
        )
    }

    /// Repositories, newest first, those after `before` in that order, without what is not theirs
    /// to see for `seen_by`.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_repositories(
        &self,
        organization: OrganizationId,
        before: Option<RepositoryId>,
        limit: u32,
        seen_by: Option<Viewer>,
    ) -> Result<Vec<RepositoryRow>> {
        read_all!(
            self,
            RepositoryRow,
            format!(
                "SELECT {} FROM repository WHERE organization = $1 AND ($2 IS NULL OR id < $2){}
                 ORDER BY id DESC LIMIT $3",
                RepositoryRow::COLUMNS,
                shares::seen(seen_by, Listed::Repositories, 4),
            ),
            organization,
            before,
            limit,
            seen_by.map(|viewer| viewer.member),
            seen_by.map(|viewer| viewer.holder()),
            self.now(),
        )
    }

    /// Repositories that were not used since `before` and that nothing alive refers to.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn unused_repositories(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<RepositoryRow>> {
        read_all!(
            self,
            RepositoryRow,
            format!(
                "SELECT {} FROM repository WHERE last_used < $1
                 AND NOT EXISTS (SELECT 1 FROM workspace
                    WHERE workspace.repository = repository.id AND workspace.state <> 'deleted')
                 AND NOT EXISTS (SELECT 1 FROM task WHERE task.repository = repository.id
                    AND task.state IN ('queued', 'preparing', 'running', 'waiting'))
                 ORDER BY last_used LIMIT $2",
                RepositoryRow::COLUMNS
            ),
            before,
            limit,
        )
    }
}
