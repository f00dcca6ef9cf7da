//! Invitations into organizations. Only the hash of a code is kept.
//!
//! ```text
//!  open ──► spent      as often as it may be
//!     ├───► expired    by itself
//!     └───► withdrawn  by an admin, or with the right of the one who gave it
//! ```

use boatyard_model::{InvitationId, MemberId, OrganizationId, PersonId, Role, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one},
    members::MemberRow,
    row::record,
};

/// Invitations of an organization that may be open at a time.
pub const INVITATIONS_MAX: u64 = 1000;

record! {
    /// An invitation.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct InvitationRow [owned] {
        /// Its id.
        pub id: InvitationId,
        /// What who comes by it may do.
        pub role: Role,
        /// The only address that it is for, in small letters.
        pub email: Option<String>,
        /// How often it may be used.
        pub uses: u32,
        /// How often it was.
        pub used: u32,
        /// When it was given.
        pub created: Timestamp,
        /// Until when it is good.
        pub expires: Timestamp,
        /// When it was withdrawn.
        pub revoked: Option<Timestamp>,
        /// When it was sent by mail.
        pub mailed: Option<Timestamp>,
    }
}

/// Where an invitation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvitationState {
    /// It can be used.
    Open,
    /// It was used as often as it may be.
    Spent,
    /// Its time is over.
    Expired,
    /// It was withdrawn.
    Withdrawn,
}

/// An invitation to be stored.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    /// Its id.
    pub id: InvitationId,
    /// Who gives it.
    pub owner: Owner,
    /// The SHA-256 of its code, in small hexadecimal digits.
    pub hash: String,
    /// What who comes by it may do.
    pub role: Role,
    /// The only address that it is for, in small letters.
    pub email: Option<String>,
    /// How often it may be used.
    pub uses: u32,
    /// Until when it is good.
    pub expires: Timestamp,
}

impl InvitationRow {
    /// Where it stands at this time.
    pub fn state(&self, now: Timestamp) -> InvitationState {
        match () {
            () if self.revoked.is_some() => InvitationState::Withdrawn,
            () if self.used >= self.uses => InvitationState::Spent,
            () if self.expires <= now => InvitationState::Expired,
            () => InvitationState::Open,
        }
    }

    /// Why it can't be used at this time, if so.
    pub fn refusal(&self, now: Timestamp) -> Option<String> {
        match self.state(now) {
            InvitationState::Open => None,
            InvitationState::Spent if self.uses == 1 => {
                Some("this invitation was used already".to_owned())
            }
            InvitationState::Spent => {
                Some(format!("this invitation was used {} times, as often as it may be", self.uses))
            }
            InvitationState::Expired => {
                Some(format!("this invitation was good until {}", self.expires))
            }
            InvitationState::Withdrawn => Some("this invitation was withdrawn".to_owned()),
        }
    }
}

impl Tx {
    /// Stores an invitation.
    ///
    /// # Errors
    /// [`Error::Refused`] when too many are open.
    pub async fn create_invitation(&mut self, new: NewInvitation) -> Result<InvitationRow> {
        let now = self.now();
        let open = find!(
            self,
            (u64,),
            "SELECT COUNT(*) FROM invitation WHERE organization = $1 AND revoked IS NULL
             AND used < uses AND expires > $2",
            new.owner.organization,
            now,
        )?;
        if open.is_some_and(|(count,)| count >= INVITATIONS_MAX) {
            let detail = format!("{INVITATIONS_MAX} invitations are open, as many as may be");
            return Err(Error::Refused { detail });
        }
        exec!(
            self,
            "INSERT INTO invitation (id, organization, owner, hash, role, email, uses, created,
                expires)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            new.id,
            new.owner.organization,
            new.owner.member,
            new.hash,
            new.role,
            new.email,
            new.uses,
            now,
            new.expires,
        )?;
        self.note("invitation", new.id);
        self.note("role", new.role);
        self.note("uses", new.uses);
        self.invitation_row(new.owner.organization, new.id).await
    }

    /// Withdraws an invitation that was not used up.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke_invitation(
        &mut self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE invitation SET revoked = COALESCE(revoked, $3)
             WHERE id = $1 AND organization = $2",
            id,
            organization,
            self.now(),
        )?;
        if touched == 0 { Err(Error::not_found("invitation", id)) } else { Ok(()) }
    }

    /// Notes that an invitation went out by mail.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn invitation_mailed(&mut self, id: InvitationId) -> Result<()> {
        exec!(self, "UPDATE invitation SET mailed = $2 WHERE id = $1", id, self.now())?;
        Ok(())
    }

    /// Makes a person a member by the invitation whose code has this hash: the only way in by it.
    /// The number of its uses is changed and the member is made in one transaction.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a code that never was; [`Error::Refused`] with the reason for one
    /// that is spent, over or withdrawn, was given by one who can't sign in any more, is for another
    /// address, or leads where the person is already.
    pub async fn accept_invitation(&mut self, hash: &str, person: PersonId) -> Result<MemberRow> {
        let row = find!(
            self,
            InvitationRow,
            format!("SELECT {} FROM invitation WHERE hash = $1", InvitationRow::COLUMNS),
            hash,
        )?;
        let row = row.ok_or_else(|| Error::not_found("invitation", "with this code"))?;
        let now = self.now();
        if let Some(detail) = row.refusal(now) {
            return Err(Error::Refused { detail });
        }
        let who = self.find_person(person).await?;
        let who = who.ok_or_else(|| Error::not_found("person", person))?;
        if let Some(email) = &row.email
            && who.email.as_ref() != Some(email)
        {
            let detail =
                "this invitation is for another mail address than your account's".to_owned();
            return Err(Error::Refused { detail });
        }
        let organization = row.owner.organization;
        self.organization_row(organization).await?;
        let giver = find!(
            self,
            (Role,),
            "SELECT role FROM standing WHERE owner = $1 AND organization = $2",
            row.owner.member,
            organization,
        )?;
        // One whose account is disabled gives nothing as long as it is.
        if giver.is_none_or(|(giver,)| !giver.includes(Role::Admin)) {
            let detail = "who gave this invitation may give none now".to_owned();
            return Err(Error::Refused { detail });
        }
        let member = self.add_member(organization, person, row.role).await?;
        let touched = exec!(
            self,
            "UPDATE invitation SET used = used + 1 WHERE id = $1 AND used < uses",
            row.id,
        )?;
        if touched == 0 {
            return Err(Error::not_found("invitation", row.id));
        }
        exec!(
            self,
            "INSERT INTO invitation_use (organization, owner, invitation, used)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (invitation, owner) DO UPDATE SET used = excluded.used",
            organization,
            member.id,
            row.id,
            now,
        )?;
        Ok(member)
    }

    /// Withdraws the invitations of a member who may not give them any more: all, or those that a
    /// lesser role does not allow.
    pub(crate) async fn revoke_invitations_of(
        &mut self,
        member: MemberId,
        left: Option<Role>,
    ) -> Result<()> {
        let kept = match left {
            Some(Role::Owner) => return Ok(()),
            Some(Role::Admin) => "AND role = 'owner'",
            Some(Role::Member | Role::Viewer) | None => "",
        };
        exec!(
            self,
            format!(
                "UPDATE invitation SET revoked = $2 WHERE owner = $1 AND revoked IS NULL {kept}"
            ),
            member,
            self.now(),
        )?;
        Ok(())
    }

    async fn invitation_row(
        &mut self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<InvitationRow> {
        let row = find!(
            self,
            InvitationRow,
            format!(
                "SELECT {} FROM invitation WHERE id = $1 AND organization = $2",
                InvitationRow::COLUMNS
            ),
            id,
            organization,
        )?;
        row.ok_or_else(|| Error::not_found("invitation", id))
    }
}

impl Store {
    /// An invitation of an organization.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn invitation(
        &self,
        organization: OrganizationId,
        id: InvitationId,
    ) -> Result<InvitationRow> {
        let row = read_one!(
            self,
            InvitationRow,
            format!(
                "SELECT {} FROM invitation WHERE id = $1 AND organization = $2",
                InvitationRow::COLUMNS
            ),
            id,
            organization,
        )?;
        row.ok_or_else(|| Error::not_found("invitation", id))
    }

    /// The invitation whose code has this hash, whatever became of it.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn invitation_by_hash(&self, hash: &str) -> Result<Option<InvitationRow>> {
        read_one!(
            self,
            InvitationRow,
            format!("SELECT {} FROM invitation WHERE hash = $1", InvitationRow::COLUMNS),
            hash,
        )
    }

    /// Invitations of an organization, the newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn invitations(
        &self,
        organization: OrganizationId,
        before: Option<InvitationId>,
        limit: u32,
    ) -> Result<Vec<InvitationRow>> {
        read_all!(
            self,
            InvitationRow,
            format!(
                "SELECT {} FROM invitation WHERE organization = $1 AND ($2 = '' OR id < $2)
                 ORDER BY id DESC LIMIT $3",
                InvitationRow::COLUMNS
            ),
            organization,
            before.map_or_else(String::new, |id| id.to_string()),
            limit,
        )
    }
}
