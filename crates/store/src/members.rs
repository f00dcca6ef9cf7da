//! People in organizations, with their roles.
//!
//! A member who is removed leaves its row: what it made goes on being its own, until somebody gives
//! it to another ([`Tx::transfer_work`]). What proves it to be the member (its keys, and its browsers
//! where it is in no other organization), its own credentials and the invitations that it gave die
//! with the removal, in the same transaction.
//!
//! An organization always has an owner who can sign in: a change that would leave none is refused
//! ([`Tx::require_owner`]). There is one writer, so two owners can't leave at once.

use boatyard_model::{
    MemberId, OrganizationId, PersonId, RepositoryId, RepositoryRole, Role, Timestamp,
};
use serde_json::json;

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    row::record,
};

record! {
    /// A member.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct MemberRow {
        /// Its id.
        pub id: MemberId,
        /// The organization.
        pub organization: OrganizationId,
        /// Who it is.
        pub person: Option<PersonId>,
        /// What it may do.
        pub role: Role,
        /// As shown to people.
        pub name: String,
        /// In small letters.
        pub email: Option<String>,
        /// When it became one.
        pub created: Timestamp,
        /// When it was removed.
        pub removed: Option<Timestamp>,
        /// Since when the person can't sign in.
        pub disabled: Option<Timestamp>,
        /// When the person was here last, roughly.
        pub last_seen: Option<Timestamp>,
    }
}

/// What was given from one member to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Tasks.
    pub tasks: u64,
    /// Sessions.
    pub sessions: u64,
    /// Workspaces.
    pub workspaces: u64,
}

/// What happened to a member, as the feed tells it.
#[derive(Debug, Clone, Copy)]
enum Change {
    Joined,
    Changed,
    Removed,
}

impl MemberRow {
    /// Whether it may do anything now.
    pub const fn is_active(&self) -> bool {
        self.removed.is_none() && self.disabled.is_none()
    }
}

impl Tx {
    /// Makes a person a member; one who was removed gets its member back, with its work.
    ///
    /// # Errors
    /// [`Error::Refused`] for one who is a member already.
    pub async fn add_member(
        &mut self,
        organization: OrganizationId,
        person: PersonId,
        role: Role,
    ) -> Result<MemberRow> {
        let there = find!(
            self,
            (MemberId,),
            "SELECT id FROM member WHERE organization = $1 AND person = $2 AND removed IS NULL",
            organization,
            person,
        )?;
        if there.is_some() {
            let detail = "that person is a member of the organization already".to_owned();
            return Err(Error::Refused { detail });
        }
        let owner = self.join_organization(person, organization, role).await?;
        self.note("member", owner.member);
        self.note("role", role);
        self.tell_member(organization, owner.member, Change::Joined).await?;
        self.member_row(organization, owner.member).await
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] when no owner would be left.
    pub async fn set_member_role(
        &mut self,
        organization: OrganizationId,
        id: MemberId,
        role: Role,
    ) -> Result<MemberRow> {
        let before = self.active_member(organization, id).await?;
        if before.role == role {
            return Ok(before);
        }
        if before.person.is_none() && role == Role::Owner {
            let detail = "an owner is a person, and not a key of the organization's".to_owned();
            return Err(Error::Refused { detail });
        }
        self.note("role", role);
        self.note("role_before", before.role);
        exec!(self, "UPDATE member SET role = $2 WHERE id = $1", id, role)?;
        if before.role == Role::Owner {
            self.require_owner(organization).await?;
        }
        if !role.includes(before.role) {
            self.revoke_invitations_of(id, Some(role)).await?;
        }
        self.rights_changed();
        self.tell_member(organization, id, Change::Changed).await?;
        self.member_row(organization, id).await
    }

    /// Makes another member an owner, and of the owner who does so an admin.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] for one who can't sign in.
    pub async fn transfer_organization(&mut self, by: Owner, to: MemberId) -> Result<MemberRow> {
        let heir = self.active_member(by.organization, to).await?;
        if heir.disabled.is_some() {
            let detail = format!("{} can't sign in: the account is disabled", heir.name);
            return Err(Error::Refused { detail });
        }
        let heir = self.set_member_role(by.organization, to, Role::Owner).await?;
        if to != by.member {
            self.set_member_role(by.organization, by.member, Role::Admin).await?;
        }
        Ok(heir)
    }

    /// Removes a member. Its work stays its own, or becomes another's.
    ///
    /// # Errors
    /// [`Error::NotFound`] for either; [`Error::Refused`] when no owner would be left.
    pub async fn remove_member(
        &mut self,
        organization: OrganizationId,
        id: MemberId,
        heir: Option<MemberId>,
    ) -> Result<Moved> {
        let before = self.active_member(organization, id).await?;
        let moved = match heir {
            Some(heir) => self.transfer_work(organization, id, heir).await?,
            None => Moved::default(),
        };
        self.close_member(organization, id).await?;
        if before.role == Role::Owner {
            self.require_owner(organization).await?;
        }
        self.tell_member(organization, id, Change::Removed).await?;
        Ok(moved)
    }

    /// Gives all that a member works on to another: tasks, sessions, workspaces. Prompts keep who
    /// wrote them, and what was paid stays who paid it.
    ///
    /// # Errors
    /// [`Error::NotFound`] for either; [`Error::Refused`] when both are one.
    pub async fn transfer_work(
        &mut self,
        organization: OrganizationId,
        from: MemberId,
        to: MemberId,
    ) -> Result<Moved> {
        self.member_row(organization, from).await?;
        self.active_member(organization, to).await?;
        if from == to {
            let detail = "what a member works on can't be given to the same member".to_owned();
            return Err(Error::Refused { detail });
        }
        exec!(self, "UPDATE attempt SET owner = $2 WHERE owner = $1", from, to)?;
        let moved = Moved {
            tasks: exec!(self, "UPDATE task SET owner = $2 WHERE owner = $1", from, to)?,
            sessions: exec!(self, "UPDATE session SET owner = $2 WHERE owner = $1", from, to)?,
            workspaces: exec!(
                self,
                "UPDATE workspace SET owner = $2 WHERE owner = $1 AND state <> 'deleted'",
                from,
                to,
            )?,
        };
        let told = json!({ "from": from, "to": to, "tasks": moved.tasks,
            "sessions": moved.sessions, "workspaces": moved.workspaces });
        self.feed(Owner { organization, member: to }, "work.transferred", told).await?;
        // Who is whose owner is looked up anew, by streams too.
        self.rights_changed();
        Ok(moved)
    }

    /// Refuses what leaves an organization without an owner who can sign in.
    ///
    /// # Errors
    /// [`Error::Refused`] then.
    pub async fn require_owner(&mut self, organization: OrganizationId) -> Result<()> {
        let left = find!(
            self,
            (u64,),
            "SELECT COUNT(*) FROM standing WHERE organization = $1 AND role = 'owner'",
            organization,
        )?;
        if left.is_some_and(|(count,)| count > 0) {
            return Ok(());
        }
        let name = self.organization_row(organization).await?.name;
        Err(Error::Refused {
            detail: format!("that would leave the organization `{name}` without an owner"),
        })
    }

    /// The same for every organization that a person owns.
    ///
    /// # Errors
    /// [`Error::Refused`] then.
    pub async fn require_owners_beside(&mut self, person: PersonId) -> Result<()> {
        let alone = find!(
            self,
            (String,),
            "SELECT organization.name FROM member
                JOIN organization ON organization.id = member.organization
             WHERE member.person = $1 AND member.role = 'owner' AND member.removed IS NULL
                AND organization.deleted IS NULL
                AND NOT EXISTS (SELECT 1 FROM standing WHERE standing.role = 'owner'
                    AND standing.organization = member.organization AND standing.person <> $1)
             ORDER BY organization.name LIMIT 1",
            person,
        )?;
        match alone {
            Some((name,)) => Err(Error::Refused {
                detail: format!("that would leave the organization `{name}` without an owner"),
            }),
            None => Ok(()),
        }
    }

    /// Ends what a member can do: its keys, browsers and invitations end with it.
    pub(crate) async fn close_member(
        &mut self,
        organization: OrganizationId,
        id: MemberId,
    ) -> Result<()> {
        let now = self.now();
        exec!(self, "UPDATE member SET removed = $2 WHERE id = $1", id, now)?;
        exec!(
            self,
            "UPDATE api_key SET revoked = $2 WHERE owner = $1 AND revoked IS NULL",
            id,
            now,
        )?;
        exec!(
            self,
            "UPDATE device SET revoked = $3 WHERE organization = $2 AND revoked IS NULL
                AND person = (SELECT person FROM member WHERE id = $1)
                AND NOT EXISTS (SELECT 1 FROM standing WHERE standing.person = device.person)",
            id,
            organization,
            now,
        )?;
        exec!(
            self,
            "UPDATE connection SET sealed = '', removed = $2
             WHERE owner = $1 AND personal = TRUE AND removed IS NULL",
            id,
            now,
        )?;
        exec!(self, "DELETE FROM repository_role WHERE member = $1", id)?;
        self.revoke_invitations_of(id, None).await?;
        self.rights_changed();
        Ok(())
    }

    /// A member, removed or not.
    pub(crate) async fn member_row(
        &mut self,
        organization: OrganizationId,
        id: MemberId,
    ) -> Result<MemberRow> {
        let row = find!(
            self,
            MemberRow,
            format!(
                "SELECT {} FROM member_seen WHERE id = $1 AND organization = $2",
                MemberRow::COLUMNS
            ),
            id,
            organization,
        )?;
        row.ok_or_else(|| Error::not_found("member", id))
    }

    /// A member who is not removed.
    pub(crate) async fn active_member(
        &mut self,
        organization: OrganizationId,
        id: MemberId,
    ) -> Result<MemberRow> {
        let row = self.member_row(organization, id).await?;
        if row.removed.is_some() { Err(Error::not_found("member", id)) } else { Ok(row) }
    }

    async fn tell_member(
        &mut self,
        organization: OrganizationId,
        member: MemberId,
        change: Change,
    ) -> Result<()> {
        let change = match change {
            Change::Joined => "joined",
            Change::Changed => "changed",
            Change::Removed => "removed",
        };
        let told = json!({ "member": member, "change": change });
        self.feed(Owner { organization, member }, "member.changed", told).await.map(drop)
    }
}

impl Store {
    /// A member of an organization, removed or not.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn member(&self, organization: OrganizationId, id: MemberId) -> Result<MemberRow> {
        let row = read_one!(
            self,
            MemberRow,
            format!(
                "SELECT {} FROM member_seen WHERE id = $1 AND organization = $2",
                MemberRow::COLUMNS
            ),
            id,
            organization,
        )?;
        row.ok_or_else(|| Error::not_found("member", id))
    }

    /// The people of an organization, the one who joined first before the others. Who is behind the
    /// organization's own keys is no person, and not among them.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn members(
        &self,
        organization: OrganizationId,
        after: Option<MemberId>,
        which: Which,
        limit: u32,
    ) -> Result<Vec<MemberRow>> {
        let which = match which {
            Which::Active => "AND removed IS NULL",
            Which::All => "",
        };
        read_all!(
            self,
            MemberRow,
            format!(
                "SELECT {} FROM member_seen WHERE organization = $1 AND person IS NOT NULL
                    AND id > $2 {which}
                 ORDER BY id LIMIT $3",
                MemberRow::COLUMNS
            ),
            organization,
            after.map_or_else(String::new, |id| id.to_string()),
            limit,
        )
    }

    /// How many members an organization has now.
    ///
    /// # Errors
    /// When they can't be counted.
    pub async fn count_members(&self, organization: OrganizationId) -> Result<u64> {
        let row = read_one!(
            self,
            (u64,),
            "SELECT COUNT(*) FROM member WHERE organization = $1 AND removed IS NULL
             AND person IS NOT NULL",
            organization,
        )?;
        Ok(row.map_or(0, |(count,)| count))
    }

    /// What is left of a member's role in a repository; nothing where that does not exist for it.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn role_in_repository(
        &self,
        repository: RepositoryId,
        member: MemberId,
        role: Role,
    ) -> Result<Option<Role>> {
        let named = match role {
            Role::Admin | Role::Owner => None,
            Role::Viewer | Role::Member => self.repository_role(repository, member).await?,
        };
        Ok(named.map_or(Some(role), |named: RepositoryRole| named.narrow(role)))
    }
}

/// Which members are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those who are not removed.
    Active,
    /// Those who were, too.
    All,
}
