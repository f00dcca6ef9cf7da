//! People: accounts on this server, and what each is in its organizations.
//!
//! ```text
//! person ──┬── member (role) ── organization        what a person may do: its standing
//!          └── device                               where a person is signed in
//! ```
//!
//! Everything that takes rights away (a role, an account, a password) counts as a revocation
//! ([`Store::revocations`]), so that nobody goes on with what was remembered of them.

use std::fmt;

use boatyard_model::{MemberId, OrganizationId, PersonId, Role, Timestamp};

use crate::{
    BUILT_IN_MEMBER, BUILT_IN_ORGANIZATION, Error, Owner, Result, Store, Tx,
    audit::Actor,
    conn::{exec, find, list, read_all, read_one},
    row::{Cell, Column, record},
};

/// The person that exists from the first migration on, until it is claimed without an address and
/// without a way to sign in.
pub const BUILT_IN_PERSON: PersonId = PersonId::from_u128(1);

/// The hash of a password, with its parameters. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(<hidden>)")
    }
}

impl Column for PasswordHash {
    fn from_cell(cell: Cell<'_>) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        String::from_cell(cell).map(Self)
    }
}

record! {
    /// A person's account.
    #[derive(Debug, Clone)]
    pub struct PersonRow {
        /// Its id.
        pub id: PersonId,
        /// In small letters; none for the one built in, until somebody claims it.
        pub email: Option<String>,
        /// Since when the address is known to be the person's.
        pub verified: Option<Timestamp>,
        /// As shown to people.
        pub name: String,
        /// What a password is compared with; none where the person has none.
        pub password: Option<PasswordHash>,
        /// When the password was set.
        pub password_set: Option<Timestamp>,
        /// Whether the person may run the server itself.
        pub operator: bool,
        /// Since when the person can't sign in.
        pub disabled: Option<Timestamp>,
        /// Since when the built-in person is somebody.
        pub claimed: Option<Timestamp>,
        /// When it was made.
        pub created: Timestamp,
        /// When the person was here last, roughly.
        pub last_seen: Option<Timestamp>,
    }
}

record! {
    /// What a person is in an organization, now.
    #[derive(Debug, Clone)]
    pub struct StandingRow [owned] {
        /// What it may do there.
        pub role: Role,
        /// Who; none for a key of the organization's own.
        pub person: Option<PersonId>,
        /// As shown to people.
        pub name: String,
        /// In small letters.
        pub email: Option<String>,
        /// Whether the person may run the server itself.
        pub operator: bool,
        /// The organization's name.
        pub organization_name: String,
    }
}

/// A person to be stored.
#[derive(Debug, Clone)]
pub struct NewPerson {
    /// In small letters.
    pub email: String,
    /// Whether the address is known to be the person's: a provider vouched for it, or an answer to
    /// a mail did.
    pub address: Address,
    /// As shown to people.
    pub name: String,
    /// What a password is compared with.
    pub password: Option<PasswordHash>,
}

/// Whether an address is known to be somebody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// It was shown to be.
    Verified,
    /// Somebody says so.
    Claimed,
}

/// A change of an account; what is none stays as it is.
#[derive(Debug, Clone, Default)]
pub struct PersonUpdate {
    /// As shown to people.
    pub name: Option<String>,
    /// Whether the person may run the server itself.
    pub operator: Option<bool>,
    /// Whether the person can't sign in.
    pub disabled: Option<bool>,
}

/// What came of somebody's wish to be the built-in person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is theirs.
    Done,
    /// Somebody was faster.
    Late,
    /// The address is somebody else's.
    AddressTaken,
}

/// Why an account was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonRefused {
    /// Nobody could run the server any more.
    LastOperator,
}

impl Tx {
    /// What was remembered of anybody's rights counts no more, once this is committed.
    pub fn rights_changed(&mut self) {
        self.effects.keys = true;
    }

    /// Makes the built-in person somebody: the first who asks gets it.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn claim_built_in(&mut self, new: &NewPerson) -> Result<Claim> {
        let now = self.now();
        let other = self.find_person_by_email(&new.email).await?;
        if other.is_some_and(|other| other.id != BUILT_IN_PERSON) {
            self.changes_nothing();
            return Ok(Claim::AddressTaken);
        }
        let password = new.password.as_ref().map(|hash| hash.0.as_str());
        let touched = exec!(
            self,
            "UPDATE person SET email = $2, verified = $3, name = $4, password = $5,
                password_set = $6, operator = 1, claimed = $7
             WHERE id = $1 AND claimed IS NULL",
            BUILT_IN_PERSON,
            new.email,
            (new.address == Address::Verified).then_some(now),
            new.name,
            password,
            password.map(|_| now),
            now,
        )?;
        if touched == 0 {
            self.changes_nothing();
            return Ok(Claim::Late);
        }
        self.name_actor(Actor {
            organization: Some(BUILT_IN_ORGANIZATION),
            member: Some(BUILT_IN_MEMBER),
            person: Some(BUILT_IN_PERSON),
            name: new.name.clone(),
            via: "setup".to_owned(),
            address: None,
        });
        self.note("email", &new.email);
        self.rename_members(BUILT_IN_PERSON, &new.name)?;
        // Who came in by a printed link came as nobody in particular.
        self.revoke_devices(BUILT_IN_PERSON, None).await?;
        Ok(Claim::Done)
    }

    /// Stores a person. None if the address is somebody's.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_person(&mut self, new: &NewPerson) -> Result<Option<PersonId>> {
        if self.find_person_by_email(&new.email).await?.is_some() {
            return Ok(None);
        }
        let (id, now) = (PersonId::new(), self.now());
        let password = new.password.as_ref().map(|hash| hash.0.as_str());
        exec!(
            self,
            "INSERT INTO person (id, email, verified, name, password, password_set, created)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            id,
            new.email,
            (new.address == Address::Verified).then_some(now),
            new.name,
            password,
            password.map(|_| now),
            now,
        )?;
        Ok(Some(id))
    }

    /// The person with this address, in small letters.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_person_by_email(&mut self, email: &str) -> Result<Option<PersonRow>> {
        find!(
            self,
            PersonRow,
            format!("SELECT {} FROM person WHERE email = $1", PersonRow::COLUMNS),
            email,
        )
    }

    /// A person.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_person(&mut self, id: PersonId) -> Result<Option<PersonRow>> {
        find!(
            self,
            PersonRow,
            format!("SELECT {} FROM person WHERE id = $1", PersonRow::COLUMNS),
            id,
        )
    }

    /// Makes a person a member of an organization, or changes what it is there: one that was
    /// removed gets its member, and with it its work, back.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such person; when it can't be stored.
    pub async fn join_organization(
        &mut self,
        person: PersonId,
        organization: OrganizationId,
        role: Role,
    ) -> Result<Owner> {
        let Some(row) = self.find_person(person).await? else {
            return Err(Error::not_found("person", person));
        };
        exec!(
            self,
            "INSERT INTO member (id, organization, person, name, role, created)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (organization, person) WHERE person IS NOT NULL
                DO UPDATE SET role = excluded.role, removed = NULL, name = excluded.name",
            MemberId::new(),
            organization,
            person,
            row.name,
            role,
            self.now(),
        )?;
        self.rights_changed();
        let found = find!(
            self,
            (MemberId,),
            "SELECT id FROM member WHERE person = $1 AND organization = $2",
            person,
            organization,
        )?;
        let (member,) = found.ok_or_else(|| Error::not_found("member", person))?;
        Ok(Owner { organization, member })
    }

    /// The organizations of a person, the one joined first before the others.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_standings(&mut self, person: PersonId) -> Result<Vec<StandingRow>> {
        list!(self, StandingRow, standings_of_person(), person)
    }

    /// Sets what a password is compared with, or that there is none; every browser but `keep` is
    /// signed out.
    ///
    /// # Errors
    /// [`Error::NotFound`]; when it can't be stored.
    pub async fn set_password(
        &mut self,
        person: PersonId,
        password: Option<&PasswordHash>,
        keep: Option<boatyard_model::DeviceId>,
    ) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE person SET password = $2, password_set = $3 WHERE id = $1",
            person,
            password.map(|hash| hash.0.as_str()),
            password.map(|_| self.now()),
        )?;
        if touched == 0 {
            return Err(Error::not_found("person", person));
        }
        self.revoke_devices(person, keep).await?;
        Ok(())
    }

    /// Renews the hash of a password that was right, unless the password was changed meanwhile.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn renew_password(
        &mut self,
        person: PersonId,
        from: &PasswordHash,
        to: &PasswordHash,
    ) -> Result<()> {
        exec!(
            self,
            "UPDATE person SET password = $3 WHERE id = $1 AND password = $2",
            person,
            from.0,
            to.0,
        )?;
        Ok(())
    }

    /// The address of a person is known to be its own from now on.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn verify_address(&mut self, person: PersonId) -> Result<()> {
        exec!(
            self,
            "UPDATE person SET verified = COALESCE(verified, $2) WHERE id = $1",
            person,
            self.now(),
        )?;
        Ok(())
    }

    /// Changes an account. One who may not sign in any more is signed out everywhere at once.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] when an organization would be left without an owner;
    /// when it can't be stored.
    pub async fn update_person(
        &mut self,
        person: PersonId,
        update: &PersonUpdate,
    ) -> Result<Result<(), PersonRefused>> {
        let Some(row) = self.find_person(person).await? else {
            return Err(Error::not_found("person", person));
        };
        let operator = update.operator.unwrap_or(row.operator);
        let disabled = match update.disabled {
            Some(true) => Some(row.disabled.unwrap_or(self.now())),
            Some(false) => None,
            None => row.disabled,
        };
        let runs_the_server =
            |operator: bool, disabled: Option<Timestamp>| operator && disabled.is_none();
        if runs_the_server(row.operator, row.disabled) && !runs_the_server(operator, disabled) {
            let other = find!(
                self,
                (i64,),
                "SELECT COUNT(*) FROM person
                 WHERE operator = 1 AND disabled IS NULL AND id <> $1
                    AND (claimed IS NOT NULL OR id <> $2)",
                person,
                BUILT_IN_PERSON,
            )?;
            if other.is_none_or(|(count,)| count == 0) {
                return Ok(Err(PersonRefused::LastOperator));
            }
        }
        let name = update.name.as_deref().unwrap_or(&row.name);
        exec!(
            self,
            "UPDATE person SET name = $2, operator = $3, disabled = $4 WHERE id = $1",
            person,
            name,
            operator,
            disabled,
        )?;
        self.rename_members(person, name)?;
        if disabled.is_some() {
            self.revoke_devices(person, None).await?;
            if row.disabled.is_none() {
                self.require_owners_beside(person).await?;
            }
        }
        self.rights_changed();
        Ok(Ok(()))
    }

    fn rename_members(&mut self, person: PersonId, name: &str) -> Result<()> {
        exec!(self, "UPDATE member SET name = $2 WHERE person = $1", person, name)?;
        self.rights_changed();
        Ok(())
    }

    /// Notes that a person is here.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn touch_person(&mut self, person: PersonId) -> Result<()> {
        exec!(self, "UPDATE person SET last_seen = $2 WHERE id = $1", person, self.now())?;
        Ok(())
    }
}

fn standings_of_person() -> String {
    format!("SELECT {} FROM standing WHERE person = $1 ORDER BY owner", StandingRow::COLUMNS)
}

impl Store {
    /// A person.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_person(&self, id: PersonId) -> Result<Option<PersonRow>> {
        read_one!(
            self,
            PersonRow,
            format!("SELECT {} FROM person WHERE id = $1", PersonRow::COLUMNS),
            id,
        )
    }

    /// The person with this address, in small letters.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_person_by_email(&self, email: &str) -> Result<Option<PersonRow>> {
        read_one!(
            self,
            PersonRow,
            format!("SELECT {} FROM person WHERE email = $1", PersonRow::COLUMNS),
            email,
        )
    }

    /// Whether somebody is the built-in person: whether this server was set up for people.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn is_claimed(&self) -> Result<bool> {
        let built_in = self.find_person(BUILT_IN_PERSON).await?;
        Ok(built_in.is_some_and(|person| person.claimed.is_some()))
    }

    /// The people of this server, the newest last, after one of them.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_people(&self, after: Option<PersonId>, limit: u32) -> Result<Vec<PersonRow>> {
        read_all!(
            self,
            PersonRow,
            format!("SELECT {} FROM person WHERE id > $1 ORDER BY id LIMIT $2", PersonRow::COLUMNS),
            after.map_or_else(String::new, |id| id.to_string()),
            limit,
        )
    }

    /// What a person is in an organization, if anything.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_standing(
        &self,
        person: PersonId,
        organization: OrganizationId,
    ) -> Result<Option<StandingRow>> {
        read_one!(
            self,
            StandingRow,
            format!(
                "SELECT {} FROM standing WHERE person = $1 AND organization = $2",
                StandingRow::COLUMNS
            ),
            person,
            organization,
        )
    }

    /// What a member is, if it is not removed.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn find_standing_of(&self, owner: Owner) -> Result<Option<StandingRow>> {
        read_one!(
            self,
            StandingRow,
            format!(
                "SELECT {} FROM standing WHERE owner = $1 AND organization = $2",
                StandingRow::COLUMNS
            ),
            owner.member,
            owner.organization,
        )
    }

    /// The organizations of a person, the one joined first before the others.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_standings(&self, person: PersonId) -> Result<Vec<StandingRow>> {
        read_all!(self, StandingRow, standings_of_person(), person)
    }

    /// Notes that a person is here, in the background.
    pub fn note_presence(&self, person: PersonId) {
        self.write_unwatched(move |tx| Box::pin(tx.touch_person(person)));
    }
}

/// Where people come in who were not invited.
pub const FIRST_ORGANIZATION: OrganizationId = BUILT_IN_ORGANIZATION;
