//! Who sees what: visibility, shares of tasks, workspaces and sessions, and what they gave to whom.
//!
//! ```text
//! share (a code's hash, a role, an end, a number of uses) ─┬─► grant: a person may look, or act
//!                                                          └─► guest: a browser may look
//! ```
//!
//! A grant lasts as long as its share: it ends with it, and when who shared is no longer a member.
//! A share of a task is one of its workspaces and sessions, a share of a workspace one of its
//! sessions; so what is asked about one thing is asked about all that it belongs to ([`Standing`]).

use boatyard_model::{
    BlobId, MemberId, OrganizationId, PersonId, RepositoryId, RepositoryRole, Role, SessionId,
    ShareId, TaskId, Timestamp, Visibility, WorkspaceId, id::IdError,
};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one, read_page},
    row::record,
};

mod seen;

pub(crate) use seen::{Listed, seen};

/// Shares of one organization that still work, at most.
pub const SHARES_MAX: u32 = 2000;

/// Browsers of guests that one share lets in, at most.
pub const GUESTS_MAX: u32 = 1000;

/// What can be shared, and seen by some and not by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThingId {
    /// A task, with its workspaces and sessions.
    Task(TaskId),
    /// A workspace, with its sessions.
    Workspace(WorkspaceId),
    /// A session.
    Session(SessionId),
}

impl std::fmt::Display for ThingId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Task(id) => id.fmt(f),
            Self::Workspace(id) => id.fmt(f),
            Self::Session(id) => id.fmt(f),
        }
    }
}

impl std::str::FromStr for ThingId {
    type Err = IdError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        if text.starts_with(TaskId::PREFIX) {
            text.parse().map(Self::Task)
        } else if text.starts_with(WorkspaceId::PREFIX) {
            text.parse().map(Self::Workspace)
        } else {
            text.parse().map(Self::Session)
        }
    }
}

/// For whom lists leave out what is not theirs to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Viewer {
    /// The member of the organization.
    pub member: MemberId,
    /// The person behind it.
    pub person: Option<PersonId>,
}

impl Viewer {
    /// Under what a share's grant to somebody stands.
    pub fn holder(&self) -> String {
        self.person.map_or_else(|| self.member.to_string(), |person| person.to_string())
    }
}

/// Shares that still give what they gave. `$now` is the place of the time.
macro_rules! good {
    ($now:literal) => {
        concat!(
            "share.revoked IS NULL AND share.expires > ",
            $now,
            " AND NOT EXISTS (SELECT 1 FROM member
                WHERE member.id = share.owner AND member.removed IS NOT NULL)"
        )
    };
}

/// What is known of somebody and a thing beside whose it is and how visible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// What was shared.
    pub shared: Option<Role>,
    /// What the role is narrowed to by the repository.
    pub narrowed: Option<RepositoryRole>,
}

record! {
    /// A share.
    #[derive(Debug, Clone)]
    pub struct ShareRow [owned] {
        /// Its id.
        pub id: ShareId,
        /// What is shared: the id of a task, workspace or session.
        pub subject: String,
        /// As what: a viewer looks, a member acts.
        pub role: Role,
        /// Whether it lets people without an account look.
        pub guests: bool,
        /// How many may take it; none for as many as want.
        pub uses: Option<u64>,
        /// How many took it.
        pub used: u64,
        /// When it was made.
        pub created: Timestamp,
        /// When it ends.
        pub expires: Timestamp,
        /// When it was taken back.
        pub revoked: Option<Timestamp>,
    }
}

/// A share to be stored.
#[derive(Debug, Clone)]
pub struct NewShare {
    /// Who shares.
    pub owner: Owner,
    /// What.
    pub subject: ThingId,
    /// As what.
    pub role: Role,
    /// Whether people without an account may look.
    pub guests: bool,
    /// The SHA-256 of the code, in small hexadecimal digits.
    pub hash: String,
    /// How many may take it.
    pub uses: Option<u64>,
    /// When it ends.
    pub expires: Timestamp,
}

/// Who takes a share.
#[derive(Debug, Clone)]
pub enum Taker {
    /// Somebody who is signed in.
    Known {
        /// The organization and the member.
        owner: Owner,
        /// The person, if there is one.
        person: Option<PersonId>,
    },
    /// A browser.
    Guest {
        /// The SHA-256 of what its cookie holds.
        hash: String,
        /// From where.
        address: Option<String>,
        /// What it says it is.
        agent: Option<String>,
    },
}

/// What came of taking a share.
#[derive(Debug, Clone)]
pub enum Taken {
    /// It is given, or was before.
    Given(ShareRow),
    /// There is no such share.
    Unknown,
    /// It was taken back.
    Revoked,
    /// Its time is over.
    Ended,
    /// As many as may have taken it.
    Spent,
    /// It is not for people without an account.
    NoGuests,
    /// It is for members of its organization only.
    NotTheirs,
}

impl Tx {
    /// Stores a share.
    ///
    /// None if there are [`SHARES_MAX`] already.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_share(&mut self, new: NewShare) -> Result<Option<ShareRow>> {
        let open = find!(
            self,
            (i64,),
            "SELECT COUNT(*) FROM share WHERE organization = $1 AND revoked IS NULL
                AND expires > $2",
            new.owner.organization,
            self.now(),
        )?;
        if open.is_some_and(|(open,)| open >= i64::from(SHARES_MAX)) {
            return Ok(None);
        }
        let id = ShareId::new();
        self.note("share", id);
        self.note("subject", new.subject);
        self.note("role", new.role);
        Ok(find!(
            self,
            ShareRow,
            format!(
                "INSERT INTO share (id, organization, owner, subject, role, guests, hash, uses,
                    created, expires)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING {}",
                ShareRow::COLUMNS
            ),
            id,
            new.owner.organization,
            new.owner.member,
            new.subject.to_string(),
            new.role,
            new.guests,
            new.hash,
            new.uses,
            self.now(),
            new.expires,
        )?)
    }

    /// Takes a share back: what it gave ends.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn revoke_share(&mut self, id: ShareId) -> Result<ShareRow> {
        let row = find!(
            self,
            ShareRow,
            format!(
                "UPDATE share SET revoked = COALESCE(revoked, $2) WHERE id = $1 RETURNING {}",
                ShareRow::COLUMNS
            ),
            id,
            self.now(),
        )?;
        self.effects.keys = true;
        row.ok_or_else(|| Error::not_found("share", id))
    }

    /// Takes what a code gives. Somebody who took it before takes it once more for nothing. Of many
    /// who take the last use in the same moment one gets it.
    ///
    /// # Errors
    /// When it can't be stored; why it is not given is told by [`Taken`].
    pub async fn take_share(&mut self, hash: &str, taker: Taker) -> Result<Taken> {
        let now = self.now();
        let row = find!(
            self,
            ShareRow,
            format!("SELECT {} FROM share WHERE hash = $1", ShareRow::COLUMNS),
            hash,
        )?;
        let Some(row) = row else { return Ok(Taken::Unknown) };
        let good = find!(
            self,
            (String,),
            concat!("SELECT id FROM share WHERE id = $1 AND ", good!("$2")),
            row.id,
            now,
        )?;
        if good.is_none() {
            let over = row.revoked.is_none() && row.expires <= now;
            return Ok(if over { Taken::Ended } else { Taken::Revoked });
        }
        match &taker {
            Taker::Guest { .. } if !row.guests => return Ok(Taken::NoGuests),
            Taker::Guest { .. } => {
                let there = find!(
                    self,
                    (i64,),
                    "SELECT COUNT(*) FROM share_guest WHERE share = $1",
                    row.id
                )?;
                if there.is_some_and(|(there,)| there >= i64::from(GUESTS_MAX)) {
                    return Ok(Taken::Spent);
                }
            }
            Taker::Known { owner, .. }
                if owner.organization != row.owner.organization && row.role != Role::Viewer =>
            {
                return Ok(Taken::NotTheirs);
            }
            Taker::Known { owner, person } => {
                let holder = Viewer { member: owner.member, person: *person }.holder();
                let before = find!(
                    self,
                    (String,),
                    "SELECT holder FROM share_grant WHERE share = $1 AND holder = $2",
                    row.id,
                    holder,
                )?;
                if before.is_some() {
                    return Ok(Taken::Given(row));
                }
            }
        }
        let counted = find!(
            self,
            ShareRow,
            format!(
                "UPDATE share SET used = used + 1 WHERE id = $1 AND (uses IS NULL OR used < uses)
                 RETURNING {}",
                ShareRow::COLUMNS
            ),
            row.id,
        )?;
        let Some(row) = counted else { return Ok(Taken::Spent) };
        match taker {
            Taker::Known { owner, person } => {
                exec!(
                    self,
                    "INSERT INTO share_grant (share, organization, owner, holder, subject, created)
                     VALUES ($1, $2, $3, $4, $5, $6)",
                    row.id,
                    owner.organization,
                    owner.member,
                    Viewer { member: owner.member, person }.holder(),
                    row.subject,
                    now,
                )?;
            }
            Taker::Guest { hash, address, agent } => {
                exec!(
                    self,
                    "INSERT INTO share_guest (hash, share, organization, owner, address, agent,
                        created)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                    hash,
                    row.id,
                    row.owner.organization,
                    row.owner.member,
                    address,
                    agent,
                    now,
                )?;
            }
        }
        Ok(Taken::Given(row))
    }

    /// Sets who sees a thing, and all that belongs to it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn set_visibility(&mut self, thing: ThingId, to: Visibility) -> Result<()> {
        self.note("visibility", to);
        // Who follows what he may no longer see is to be sent away.
        self.effects.keys = true;
        let touched = match thing {
            ThingId::Task(id) => {
                exec!(self, "UPDATE workspace SET visibility = $2 WHERE task = $1", id, to)?;
                exec!(self, "UPDATE session SET visibility = $2 WHERE task = $1", id, to)?;
                exec!(self, "UPDATE task SET visibility = $2 WHERE id = $1", id, to)?
            }
            ThingId::Workspace(id) => {
                exec!(self, "UPDATE session SET visibility = $2 WHERE workspace = $1", id, to)?;
                exec!(self, "UPDATE workspace SET visibility = $2 WHERE id = $1", id, to)?
            }
            ThingId::Session(id) => {
                exec!(self, "UPDATE session SET visibility = $2 WHERE id = $1", id, to)?
            }
        };
        if touched == 0 { Err(Error::not_found("subject", thing)) } else { Ok(()) }
    }

    /// Sets who may see what is made in an organization from now on, where nobody says.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn set_default_visibility(
        &mut self,
        organization: OrganizationId,
        to: Visibility,
    ) -> Result<()> {
        let sql = "UPDATE organization SET visibility = $2 WHERE id = $1";
        let touched = exec!(self, sql, organization, to)?;
        if touched == 0 { Err(Error::not_found("organization", organization)) } else { Ok(()) }
    }

    /// Removes shares that were over before `before`, with what they gave; how many, at most
    /// `limit` at a time.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn remove_old_shares(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        exec!(
            self,
            "DELETE FROM share WHERE id IN
                (SELECT id FROM share WHERE expires < $1 OR revoked < $1 LIMIT $2)",
            before,
            limit,
        )
    }
}

/// Which shares to list.
#[derive(Debug, Clone, Default)]
pub struct ShareFilter {
    /// Only those of this task, workspace or session.
    pub subject: Option<ThingId>,
    /// Only those that this member made.
    pub owner: Option<MemberId>,
    /// Only those with a smaller id (newest first).
    pub before: Option<ShareId>,
}

impl Store {
    /// One share.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn share(&self, id: ShareId) -> Result<ShareRow> {
        let sql = format!("SELECT {} FROM share WHERE id = $1", ShareRow::COLUMNS);
        read_one!(self, ShareRow, sql, id)?.ok_or_else(|| Error::not_found("share", id))
    }

    /// Shares, newest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_shares(
        &self,
        organization: OrganizationId,
        filter: ShareFilter,
        limit: u32,
    ) -> Result<Vec<ShareRow>> {
        read_page!(
            self,
            ShareRow,
            format!(
                "SELECT {} FROM share WHERE organization = $1 AND ($2 IS NULL OR id < $2)
                    AND ($4 IS NULL OR subject = $4) AND ($5 IS NULL OR owner = $5)
                 ORDER BY id DESC LIMIT $3",
                ShareRow::COLUMNS
            ),
            organization,
            filter.before,
            limit,
            filter.subject.map(|subject| subject.to_string()),
            filter.owner,
        )
    }

    /// The share that a guest's browser came by, if it still works.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn share_of_guest(&self, hash: &str) -> Result<Option<ShareRow>> {
        let columns = ShareRow::COLUMNS;
        read_one!(
            self,
            ShareRow,
            format!(
                "SELECT {columns} FROM share WHERE guests AND {}
                    AND id = (SELECT share FROM share_guest WHERE share_guest.hash = $1)",
                good!("$2")
            ),
            hash,
            self.now(),
        )
    }

    /// A share, if it still works.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn good_share(&self, id: ShareId) -> Result<Option<ShareRow>> {
        let columns = ShareRow::COLUMNS;
        read_one!(
            self,
            ShareRow,
            format!("SELECT {columns} FROM share WHERE id = $1 AND {}", good!("$2")),
            id,
            self.now(),
        )
    }

    /// How somebody stands to a thing, which is known by its own id and the ids of what it belongs
    /// to, and whose repository is in `repository` or, if that is none, in `workspace`.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn standing(
        &self,
        viewer: Viewer,
        things: [Option<String>; 3],
        repository: Option<RepositoryId>,
        workspace: Option<WorkspaceId>,
    ) -> Result<Standing> {
        let [own, above, top] = things;
        let row = read_one!(
            self,
            (Option<i64>, Option<String>),
            concat!(
                "SELECT
                    (SELECT MAX(CASE share.role WHEN 'member' THEN 2 ELSE 1 END)
                     FROM share_grant JOIN share ON share.id = share_grant.share
                     WHERE share_grant.holder = $1 AND share_grant.subject IN ($3, $4, $5) AND ",
                good!("$8"),
                "),
                    (SELECT role FROM repository_role WHERE member IN ($2, '') AND repository =
                        COALESCE($6, (SELECT repository FROM workspace WHERE id = $7))
                     ORDER BY member DESC LIMIT 1)"
            ),
            viewer.holder(),
            viewer.member,
            own,
            above,
            top,
            repository,
            workspace,
            self.now(),
        )?;
        let Some((shared, narrowed)) = row else { return Ok(Standing::default()) };
        let shared = shared.map(|rank| if rank > 1 { Role::Member } else { Role::Viewer });
        // Checked in the database; what a newer program wrote there gives as little as may be.
        let narrowed = narrowed.map(|role| role.parse().unwrap_or(RepositoryRole::None));
        Ok(Standing { shared, narrowed })
    }

    /// Who may see what is made in an organization, where nobody says.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn default_visibility(&self, organization: OrganizationId) -> Result<Visibility> {
        let sql = "SELECT visibility FROM organization WHERE id = $1";
        let row = read_one!(self, (String,), sql, organization)?;
        let (text,) = row.ok_or_else(|| Error::not_found("organization", organization))?;
        // Checked in the database; what a newer program wrote there is kept to as few as may be.
        Ok(text.parse().unwrap_or(Visibility::Private))
    }

    /// What holds on to a blob: ids of tasks and sessions.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn holders_of_blob(&self, blob: BlobId) -> Result<Vec<String>> {
        let rows = read_all!(
            self,
            (String,),
            "SELECT holder FROM blob_use WHERE blob = $1 ORDER BY holder LIMIT 100",
            blob,
        )?;
        Ok(rows.into_iter().map(|(holder,)| holder).collect())
    }
}
