//! Which credential goes with which repositories, and the keys that commits are signed with.

use boatyard_model::{ConnectionId, OrganizationId, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, read_all, read_one},
    row::record,
};

/// The most bindings of an organization.
pub const GIT_BINDINGS_MAX: usize = 1000;

record! {
    /// That a credential goes with a repository, or with all below a place.
    #[derive(Debug, Clone)]
    pub struct GitBindingRow [owned] {
        /// `host[:port]/owner/repository`, or with `/*` at its end all below it.
        pub place: String,
        /// Which credential.
        pub connection: ConnectionId,
        /// Whether workspaces of other repositories fetch with it too.
        pub shared: bool,
        /// When it was bound.
        pub created: Timestamp,
        /// Why it was not taken when it was last used.
        pub problem: Option<String>,
        /// Since when it is not.
        pub problem_since: Option<Timestamp>,
    }
}

record! {
    /// The key of an organization, sealed.
    #[derive(Debug, Clone)]
    pub struct GitKeyRow [owned] {
        /// The public half, as ssh writes it.
        pub public_key: String,
        /// The private half, sealed.
        pub sealed: String,
        /// What sealed it.
        pub sealed_by: String,
        /// When it was made.
        pub created: Timestamp,
    }
}

record! {
    /// In whose name a person's workspaces commit.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct GitIdentityRow [owned] {
        /// The name.
        pub name: String,
        /// The address.
        pub email: String,
        /// When it was last changed.
        pub changed: Timestamp,
    }
}

impl Tx {
    /// Has a person's workspaces commit in this name; none: in the server's.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn set_git_identity(
        &mut self,
        owner: Owner,
        identity: Option<(String, String)>,
    ) -> Result<()> {
        let Some((name, email)) = identity else {
            let sql = "DELETE FROM git_identity WHERE organization = $1 AND owner = $2";
            exec!(self, sql, owner.organization, owner.member)?;
            return Ok(());
        };
        exec!(
            self,
            "INSERT INTO git_identity (organization, owner, name, email, changed)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (organization, owner) DO UPDATE SET name = excluded.name,
                email = excluded.email, changed = excluded.changed",
            owner.organization,
            owner.member,
            name,
            email,
            self.now(),
        )?;
        Ok(())
    }

    /// Binds a person's own credential to a place, in the stead of the one that was.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn bind_own_git(
        &mut self,
        owner: Owner,
        place: &str,
        connection: ConnectionId,
    ) -> Result<()> {
        exec!(
            self,
            "INSERT INTO git_own_binding (organization, owner, place, connection, created)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (organization, owner, place) DO UPDATE SET
                connection = excluded.connection, created = excluded.created, problem = NULL,
                problem_since = NULL",
            owner.organization,
            owner.member,
            place,
            connection,
            self.now(),
        )?;
        Ok(())
    }

    /// Takes a person's own credential from a place.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn unbind_own_git(&mut self, owner: Owner, place: &str) -> Result<()> {
        let sql = "DELETE FROM git_own_binding
                   WHERE organization = $1 AND owner = $2 AND place = $3";
        match exec!(self, sql, owner.organization, owner.member, place)? {
            0 => Err(Error::not_found("own connection of", place)),
            _ => Ok(()),
        }
    }

    /// As [`Tx::git_problem`], of a person's own credential.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn own_git_problem(
        &mut self,
        owner: Owner,
        place: &str,
        problem: Option<String>,
    ) -> Result<()> {
        let since = problem.as_ref().map(|_| self.now());
        exec!(
            self,
            "UPDATE git_own_binding SET problem = $4, problem_since = $5
             WHERE organization = $1 AND owner = $2 AND place = $3
             AND (problem IS NULL) <> ($4 IS NULL)",
            owner.organization,
            owner.member,
            place,
            problem,
            since,
        )?;
        Ok(())
    }

    /// Binds a credential to a place, in the stead of the one that was.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn bind_git(
        &mut self,
        owner: Owner,
        place: &str,
        connection: ConnectionId,
        shared: bool,
    ) -> Result<()> {
        exec!(
            self,
            "INSERT INTO git_binding (organization, owner, place, connection, shared, created)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (organization, place) DO UPDATE SET owner = $2, connection = $4,
                shared = $5, created = $6, problem = NULL, problem_since = NULL",
            owner.organization,
            owner.member,
            place,
            connection,
            shared,
            self.now(),
        )?;
        Ok(())
    }

    /// Takes a credential from a place.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn unbind_git(&mut self, organization: OrganizationId, place: &str) -> Result<()> {
        let gone = exec!(
            self,
            "DELETE FROM git_binding WHERE organization = $1 AND place = $2",
            organization,
            place,
        )?;
        if gone == 0 { Err(Error::not_found("connection of", place)) } else { Ok(()) }
    }

    /// Notes that a credential is not taken at a place, or is again: whether that is news.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn git_problem(
        &mut self,
        organization: OrganizationId,
        place: &str,
        problem: Option<String>,
    ) -> Result<bool> {
        let since = problem.as_ref().map(|_| self.now());
        let changed = exec!(
            self,
            "UPDATE git_binding SET problem = $3, problem_since = $4
             WHERE organization = $1 AND place = $2
             AND (problem IS NULL) <> ($3 IS NULL)",
            organization,
            place,
            problem,
            since,
        )?;
        Ok(changed > 0)
    }

    /// Keeps an organization's key, if it has none: the one that it has then.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn keep_git_key(
        &mut self,
        owner: Owner,
        public_key: &str,
        sealed: &str,
        sealed_by: &str,
    ) -> Result<()> {
        exec!(
            self,
            "INSERT INTO git_key (organization, owner, public_key, sealed, sealed_by, created)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (organization) DO NOTHING",
            owner.organization,
            owner.member,
            public_key,
            sealed,
            sealed_by,
            self.now(),
        )?;
        Ok(())
    }

    /// Forgets an organization's key: the next one that is needed is a new one.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn forget_git_key(&mut self, organization: OrganizationId) -> Result<()> {
        exec!(self, "DELETE FROM git_key WHERE organization = $1", organization)?;
        Ok(())
    }

    /// Puts a key that was sealed anew in the place of itself.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn reseal_git_key(
        &mut self,
        organization: OrganizationId,
        sealed: &str,
        sealed_by: &str,
    ) -> Result<()> {
        exec!(
            self,
            "UPDATE git_key SET sealed = $2, sealed_by = $3 WHERE organization = $1",
            organization,
            sealed,
            sealed_by,
        )?;
        Ok(())
    }
}

impl Store {
    /// In whose name a person's workspaces commit; none where that is the server's.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn git_identity(&self, owner: Owner) -> Result<Option<GitIdentityRow>> {
        let sql = format!(
            "SELECT {} FROM git_identity WHERE organization = $1 AND owner = $2",
            GitIdentityRow::COLUMNS
        );
        read_one!(self, GitIdentityRow, sql, owner.organization, owner.member)
    }

    /// A person's own bindings, by place.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn own_git_bindings(&self, owner: Owner) -> Result<Vec<GitBindingRow>> {
        read_all!(
            self,
            GitBindingRow,
            "SELECT organization, owner, place, connection, FALSE AS shared, created, problem,
                problem_since
             FROM git_own_binding WHERE organization = $1 AND owner = $2 ORDER BY place LIMIT $3",
            owner.organization,
            owner.member,
            GIT_BINDINGS_MAX as u64,
        )
    }

    /// The bindings of an organization, by place.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn git_bindings(&self, organization: OrganizationId) -> Result<Vec<GitBindingRow>> {
        read_all!(
            self,
            GitBindingRow,
            format!(
                "SELECT {} FROM git_binding WHERE organization = $1 ORDER BY place LIMIT $2",
                GitBindingRow::COLUMNS
            ),
            organization,
            GIT_BINDINGS_MAX as u64,
        )
    }

    /// The key of an organization; none while it never needed one.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn git_key(&self, organization: OrganizationId) -> Result<Option<GitKeyRow>> {
        read_one!(
            self,
            GitKeyRow,
            format!("SELECT {} FROM git_key WHERE organization = $1", GitKeyRow::COLUMNS),
            organization,
        )
    }
}
