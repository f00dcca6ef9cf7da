//! Organizations, and what a member may do in single repositories of one.
//!
//! An organization that is deleted leaves its row: what belongs to it (the history of its tasks)
//! refers to it. Nobody is in it any more.

use boatyard_model::{
    MemberId, OrganizationId, PersonId, RepositoryId, RepositoryRole, Role, SessionState,
    Timestamp, Visibility,
};
use serde_json::json;

use crate::{
    BUILT_IN_ORGANIZATION, Error, Owner, Result, Store, Tx,
    conn::{exec, find, list, read_all, read_one},
    members::MemberRow,
    row::record,
    sessions::SessionRow,
};

/// The most organizations of a server.
pub const ORGANIZATIONS_MAX: usize = 1000;

/// The most members whose role in one repository is named.
pub const REPOSITORY_ROLES_MAX: usize = 1000;

record! {
    /// An organization.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct OrganizationRow {
        /// Its id.
        pub id: OrganizationId,
        /// What people call it.
        pub name: String,
        /// What tasks, sessions and workspaces in it are for others when nobody says.
        pub visibility: Visibility,
        /// When it was made.
        pub created: Timestamp,
        /// When it was deleted.
        pub deleted: Option<Timestamp>,
    }
}

record! {
    /// A role in one repository.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RepositoryRoleRow [owned] {
        /// The repository.
        pub repository: RepositoryId,
        /// Whose role: a member's id; empty for everybody who has none of his own.
        pub member: String,
        /// It.
        pub role: RepositoryRole,
        /// When it was given.
        pub created: Timestamp,
    }
}

impl RepositoryRoleRow {
    /// The member whose role it is; none for everybody's.
    pub fn of(&self) -> Option<MemberId> {
        self.member.parse().ok()
    }
}

impl Tx {
    /// Makes an organization, with its first owner if a person is to own it at once.
    ///
    /// # Errors
    /// [`Error::Refused`] when there are too many, or one has the name.
    pub async fn create_organization(
        &mut self,
        name: &str,
        first: Option<PersonId>,
    ) -> Result<(OrganizationRow, Option<MemberRow>)> {
        let there =
            find!(self, (u64,), "SELECT COUNT(*) FROM organization WHERE deleted IS NULL",)?;
        if there.is_some_and(|(count,)| count >= ORGANIZATIONS_MAX as u64) {
            let detail = format!("there are {ORGANIZATIONS_MAX} organizations, as many as may be");
            return Err(Error::Refused { detail });
        }
        self.free_organization_name(name, None).await?;
        let id = OrganizationId::new();
        exec!(
            self,
            "INSERT INTO organization (id, name, created) VALUES ($1, $2, $3)",
            id,
            name,
            self.now(),
        )?;
        self.note("organization", id);
        let member = match first {
            Some(person) => Some(self.add_member(id, person, Role::Owner).await?),
            None => None,
        };
        Ok((self.organization_row(id).await?, member))
    }

    /// Changes what is not absent.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] when another has the name.
    pub async fn change_organization(
        &mut self,
        by: Owner,
        id: OrganizationId,
        name: Option<String>,
        visibility: Option<Visibility>,
    ) -> Result<OrganizationRow> {
        if let Some(name) = &name {
            self.free_organization_name(name, Some(id)).await?;
        }
        exec!(
            self,
            "UPDATE organization SET name = COALESCE($2, name),
                visibility = COALESCE($3, visibility)
             WHERE id = $1 AND deleted IS NULL",
            id,
            name,
            visibility,
        )?;
        let row = self.organization_row(id).await?;
        let told = json!({ "organization": id, "name": row.name, "visibility": row.visibility });
        let owner = Owner { organization: id, ..by };
        self.feed(owner, "organization.changed", told).await?;
        Ok(row)
    }

    /// Deletes an organization in which nothing is left but its history: no other member, no
    /// workspace, no task under way. Credentials, keys, invitations and devices there go with it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] with what is left.
    pub async fn delete_organization(&mut self, id: OrganizationId) -> Result<()> {
        self.organization_row(id).await?;
        let refused = |detail: String| Err(Error::Refused { detail });
        if id == BUILT_IN_ORGANIZATION {
            return refused(
                "the first organization belongs to the server itself and stays".to_owned(),
            );
        }
        let left = find!(
            self,
            (u64, u64, u64),
            "SELECT (SELECT COUNT(*) FROM member WHERE organization = $1 AND removed IS NULL
                    AND person IS NOT NULL),
                (SELECT COUNT(*) FROM workspace WHERE organization = $1 AND state <> 'deleted'),
                (SELECT COUNT(*) FROM task WHERE organization = $1
                    AND state IN ('queued', 'preparing', 'running', 'waiting'))",
            id,
        )?;
        let (members, workspaces, tasks) = left.unwrap_or_default();
        if members > 1 {
            let others = counted(members - 1, "other member");
            return refused(format!("there {others} in it; remove them first"));
        }
        if tasks > 0 {
            let tasks = counted(tasks, "task");
            return refused(format!("there {tasks} under way in it; cancel them first"));
        }
        if workspaces > 0 {
            let workspaces = counted(workspaces, "workspace");
            return refused(format!("there {workspaces} in it; delete them first"));
        }
        let now = self.now();
        exec!(self, "UPDATE organization SET deleted = $2 WHERE id = $1", id, now)?;
        let members = list!(
            self,
            (MemberId,),
            "SELECT id FROM member WHERE organization = $1 AND removed IS NULL",
            id,
        )?;
        for (member,) in members {
            self.close_member(id, member).await?;
        }
        exec!(
            self,
            "UPDATE connection SET sealed = '', removed = $2
             WHERE organization = $1 AND removed IS NULL",
            id,
            now,
        )?;
        exec!(self, "DELETE FROM git_binding WHERE organization = $1", id)?;
        exec!(self, "DELETE FROM git_key WHERE organization = $1", id)?;
        exec!(
            self,
            "UPDATE api_key SET revoked = $2 WHERE organization = $1 AND revoked IS NULL",
            id,
            now,
        )?;
        exec!(
            self,
            "UPDATE invitation SET revoked = $2 WHERE organization = $1 AND revoked IS NULL",
            id,
            now,
        )?;
        self.rights_changed();
        Ok(())
    }

    /// Says who may do what in one repository, in the stead of what was said.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a member who is not there.
    pub async fn set_repository_roles(
        &mut self,
        by: Owner,
        repository: RepositoryId,
        everybody: Option<RepositoryRole>,
        members: Vec<(MemberId, RepositoryRole)>,
    ) -> Result<()> {
        exec!(self, "DELETE FROM repository_role WHERE repository = $1", repository)?;
        let mut wanted: Vec<(String, RepositoryRole)> = Vec::with_capacity(members.len() + 1);
        wanted.extend(everybody.map(|role| (String::new(), role)));
        for (member, role) in members {
            let row = self.member_row(by.organization, member).await?;
            if row.removed.is_some() {
                return Err(Error::not_found("member", member));
            }
            wanted.push((member.to_string(), role));
        }
        for (member, role) in wanted {
            exec!(
                self,
                "INSERT INTO repository_role (organization, owner, repository, member, role, created)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (repository, member) DO UPDATE SET role = excluded.role",
                by.organization,
                by.member,
                repository,
                member,
                role,
                self.now(),
            )?;
        }
        self.feed(by, "repository.access", json!({ "repository": repository })).await?;
        // Who may look is looked up anew, by streams too.
        self.rights_changed();
        Ok(())
    }

    pub(crate) async fn organization_row(&mut self, id: OrganizationId) -> Result<OrganizationRow> {
        let row = find!(
            self,
            OrganizationRow,
            format!(
                "SELECT {} FROM organization WHERE id = $1 AND deleted IS NULL",
                OrganizationRow::COLUMNS
            ),
            id,
        )?;
        row.ok_or_else(|| Error::not_found("organization", id))
    }

    async fn free_organization_name(
        &mut self,
        name: &str,
        but: Option<OrganizationId>,
    ) -> Result<()> {
        let there = find!(
            self,
            (OrganizationId,),
            "SELECT id FROM organization WHERE LOWER(name) = LOWER($1) AND deleted IS NULL
             AND id <> $2",
            name,
            but.map(|id| id.to_string()).unwrap_or_default(),
        )?;
        match there {
            Some(_) => {
                Err(Error::Refused { detail: format!("there is an organization `{name}` already") })
            }
            None => Ok(()),
        }
    }
}

impl Store {
    /// An organization that is not deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn organization(&self, id: OrganizationId) -> Result<OrganizationRow> {
        let row = read_one!(
            self,
            OrganizationRow,
            format!(
                "SELECT {} FROM organization WHERE id = $1 AND deleted IS NULL",
                OrganizationRow::COLUMNS
            ),
            id,
        )?;
        row.ok_or_else(|| Error::not_found("organization", id))
    }

    /// Every organization that is not deleted, the oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn organizations(&self) -> Result<Vec<OrganizationRow>> {
        read_all!(
            self,
            OrganizationRow,
            format!(
                "SELECT {} FROM organization WHERE deleted IS NULL ORDER BY id",
                OrganizationRow::COLUMNS
            ),
        )
    }

    /// The roles in one repository that are named, everybody's first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn repository_roles(
        &self,
        repository: RepositoryId,
    ) -> Result<Vec<RepositoryRoleRow>> {
        read_all!(
            self,
            RepositoryRoleRow,
            format!(
                "SELECT {} FROM repository_role WHERE repository = $1 ORDER BY member",
                RepositoryRoleRow::COLUMNS
            ),
            repository,
        )
    }

    /// Every role in a single repository that an organization has named: none, in most. With
    /// everybody's.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn all_repository_roles(
        &self,
        organization: OrganizationId,
    ) -> Result<Vec<RepositoryRoleRow>> {
        read_all!(
            self,
            RepositoryRoleRow,
            format!(
                "SELECT {} FROM repository_role WHERE organization = $1
                 ORDER BY repository, member",
                RepositoryRoleRow::COLUMNS
            ),
            organization,
        )
    }

    /// The repositories in which somebody may do less than in the organization.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn narrowed_repositories(
        &self,
        organization: OrganizationId,
    ) -> Result<Vec<crate::RepositoryRow>> {
        read_all!(
            self,
            crate::RepositoryRow,
            format!(
                "SELECT {} FROM repository WHERE organization = $1
                 AND id IN (SELECT repository FROM repository_role WHERE organization = $1)",
                crate::RepositoryRow::COLUMNS
            ),
            organization,
        )
    }

    /// What is named for a member in a repository: his own role there, else everybody's.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn repository_role(
        &self,
        repository: RepositoryId,
        member: MemberId,
    ) -> Result<Option<RepositoryRole>> {
        // His own id sorts after the empty text of everybody.
        let row = read_one!(
            self,
            RepositoryRoleRow,
            format!(
                "SELECT {} FROM repository_role WHERE repository = $1 AND member IN ($2, '')
                 ORDER BY member DESC LIMIT 1",
                RepositoryRoleRow::COLUMNS
            ),
            repository,
            member,
        )?;
        Ok(row.map(|row| row.role))
    }

    /// Sessions in a state, of every organization.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn sessions_in(&self, state: SessionState) -> Result<Vec<SessionRow>> {
        read_all!(
            self,
            SessionRow,
            format!(
                "SELECT {} FROM session_seen WHERE state = $1 ORDER BY id",
                SessionRow::COLUMNS
            ),
            state,
        )
    }
}

/// `is 1 task`, `are 2 tasks`.
fn counted(n: u64, one: &str) -> String {
    if n == 1 { format!("is 1 {one}") } else { format!("are {n} {one}s") }
}
