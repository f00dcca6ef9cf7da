//! People's accounts at providers of sign-in, and the providers that were set up by the API.
//!
//! An account is known by who says so and whom it means (`issuer`, `subject`), and by nothing else:
//! an address may pass to somebody else.

use std::collections::BTreeMap;

use boatyard_model::{IdentityId, OrganizationId, PersonId, Role, Timestamp};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, list, read_all},
    row::{json, record},
};

/// The memberships that an account's groups gave.
pub type Granted = BTreeMap<OrganizationId, Role>;

record! {
    /// A person's account at a provider.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct IdentityRow {
        /// Its id.
        pub id: IdentityId,
        /// Whose it is.
        pub person: PersonId,
        /// The provider by whose name it was last used.
        pub provider: String,
        /// Who says so.
        pub issuer: String,
        /// Whom that means.
        pub subject: String,
        /// The address that the provider told last.
        pub email: Option<String>,
        /// The name that the provider told last.
        pub name: String,
        /// The memberships that its groups gave.
        pub granted: Granted,
        /// When it was linked.
        pub created: Timestamp,
        /// When it was used last.
        pub last_used: Timestamp,
    }
}

/// An account as a provider tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountSeen {
    /// The provider's name.
    pub provider: String,
    /// Who says so.
    pub issuer: String,
    /// Whom that means.
    pub subject: String,
    /// The address.
    pub email: Option<String>,
    /// The name.
    pub name: String,
}

record! {
    /// A provider of sign-in that was set up by the API.
    #[derive(Debug, Clone)]
    pub struct SignInProviderRow [owned] {
        /// Its name, in addresses and on the page.
        pub name: String,
        /// What it is, as JSON.
        pub settings: String,
        /// The client's secret, sealed.
        pub sealed: String,
        /// The key of the vault that sealed it.
        pub sealed_by: String,
        /// When it was set up.
        pub created: Timestamp,
        /// When it was changed last.
        pub changed: Timestamp,
    }
}

/// A provider to be stored.
#[derive(Debug, Clone)]
pub struct NewSignInProvider {
    /// Who sets it up.
    pub owner: Owner,
    /// Its name.
    pub name: String,
    /// What it is, as JSON.
    pub settings: String,
    /// The client's secret, sealed.
    pub sealed: String,
    /// The key of the vault that sealed it.
    pub sealed_by: String,
}

impl Tx {
    /// The account that this issuer knows by this subject.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn identity_of(
        &mut self,
        issuer: &str,
        subject: &str,
    ) -> Result<Option<IdentityRow>> {
        let sql = format!(
            "SELECT {} FROM identity WHERE issuer = $1 AND subject = $2",
            IdentityRow::COLUMNS
        );
        Ok(find!(self, IdentityRow, sql, issuer, subject)?)
    }

    /// Links an account to a person. It must be nobody's: see [`Tx::identity_of`].
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_identity(
        &mut self,
        person: PersonId,
        seen: &AccountSeen,
        granted: &Granted,
    ) -> Result<IdentityId> {
        let id = IdentityId::new();
        exec!(
            self,
            "INSERT INTO identity (id, person, provider, issuer, subject, email, name, granted,
                created, last_used)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
            id,
            person,
            seen.provider,
            seen.issuer,
            seen.subject,
            seen.email,
            seen.name,
            json(granted)?,
            self.now(),
        )?;
        Ok(id)
    }

    /// Notes that an account was used, with what its provider told of it.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn use_identity(
        &mut self,
        id: IdentityId,
        seen: &AccountSeen,
        granted: &Granted,
    ) -> Result<()> {
        exec!(
            self,
            "UPDATE identity SET provider = $2, email = $3, name = $4, granted = $5, last_used = $6
             WHERE id = $1",
            id,
            seen.provider,
            seen.email,
            seen.name,
            json(granted)?,
            self.now(),
        )?;
        Ok(())
    }

    /// Takes an account from a person.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the person has no such.
    pub async fn remove_identity(&mut self, person: PersonId, id: IdentityId) -> Result<()> {
        let touched =
            exec!(self, "DELETE FROM identity WHERE id = $1 AND person = $2", id, person)?;
        if touched == 0 { Err(Error::not_found("account", id)) } else { Ok(()) }
    }

    /// A person's accounts, oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn identities_of(&mut self, person: PersonId) -> Result<Vec<IdentityRow>> {
        let sql =
            format!("SELECT {} FROM identity WHERE person = $1 ORDER BY id", IdentityRow::COLUMNS);
        Ok(list!(self, IdentityRow, sql, person)?)
    }

    /// Whether a person has an account at a provider, or a passkey.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn has_other_ways(&mut self, person: PersonId) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM identity WHERE person = $1)
                       OR EXISTS (SELECT 1 FROM passkey WHERE person = $1)";
        let found = find!(self, (bool,), sql, person)?;
        Ok(found.is_some_and(|(found,)| found))
    }

    /// The organization with this id or, without one, with this name, if it is there.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn organization_with(
        &mut self,
        id: Option<OrganizationId>,
        name: &str,
    ) -> Result<Option<OrganizationId>> {
        let found = find!(
            self,
            (OrganizationId,),
            "SELECT id FROM organization WHERE deleted IS NULL AND (id = $1 OR name = $2)
             ORDER BY id LIMIT 1",
            id,
            id.is_none().then_some(name),
        )?;
        Ok(found.map(|(id,)| id))
    }

    /// Whether an organization would have no owner who can sign in without this person.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn is_only_owner(
        &mut self,
        person: PersonId,
        organization: OrganizationId,
    ) -> Result<bool> {
        let others = find!(
            self,
            (u64,),
            "SELECT COUNT(*) FROM standing
             WHERE organization = $1 AND role = 'owner' AND person <> $2",
            organization,
            person,
        )?;
        Ok(others.is_none_or(|(others,)| others == 0))
    }

    /// Stores a provider, in the place of one of the same name.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn put_sign_in_provider(&mut self, new: NewSignInProvider) -> Result<()> {
        exec!(
            self,
            "INSERT INTO sign_in_provider
                (name, organization, owner, settings, sealed, sealed_by, created, changed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
             ON CONFLICT (name) DO UPDATE SET settings = excluded.settings,
                sealed = excluded.sealed, sealed_by = excluded.sealed_by,
                changed = excluded.changed",
            new.name,
            new.owner.organization,
            new.owner.member,
            new.settings,
            new.sealed,
            new.sealed_by,
            self.now(),
        )?;
        Ok(())
    }

    /// Removes a provider. The accounts that were linked by it stay, and can't be used.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove_sign_in_provider(&mut self, name: &str) -> Result<()> {
        let touched = exec!(self, "DELETE FROM sign_in_provider WHERE name = $1", name)?;
        if touched == 0 { Err(Error::not_found("provider", name)) } else { Ok(()) }
    }

    /// Stores a provider's secret as another key seals it, unless it was changed meanwhile: whether
    /// it did.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn reseal_sign_in_provider(
        &mut self,
        name: &str,
        was: &str,
        sealed: &str,
        sealed_by: &str,
    ) -> Result<bool> {
        let touched = exec!(
            self,
            "UPDATE sign_in_provider SET sealed = $3, sealed_by = $4 WHERE name = $1 AND sealed = $2",
            name,
            was,
            sealed,
            sealed_by,
        )?;
        Ok(touched > 0)
    }
}

impl Store {
    /// A person's accounts at providers, oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_identities(&self, person: PersonId) -> Result<Vec<IdentityRow>> {
        let sql =
            format!("SELECT {} FROM identity WHERE person = $1 ORDER BY id", IdentityRow::COLUMNS);
        read_all!(self, IdentityRow, sql, person)
    }

    /// The providers that were set up by the API, by name.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn sign_in_providers(&self) -> Result<Vec<SignInProviderRow>> {
        let sql =
            format!("SELECT {} FROM sign_in_provider ORDER BY name", SignInProviderRow::COLUMNS);
        read_all!(self, SignInProviderRow, sql)
    }

    /// How many of those who run the server could sign in if only these ways were left.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn operators_who_can_sign_in(&self, ways: &SignInWays) -> Result<usize> {
        let operators = read_all!(
            self,
            (String, bool, bool),
            "SELECT id, password IS NOT NULL,
                EXISTS (SELECT 1 FROM passkey WHERE passkey.person = person.id)
             FROM person WHERE operator = 1 AND disabled IS NULL AND email IS NOT NULL",
        )?;
        let accounts = read_all!(
            self,
            (String, String),
            "SELECT identity.person, identity.issuer FROM identity
                JOIN person ON person.id = identity.person
             WHERE person.operator = 1 AND person.disabled IS NULL",
        )?;
        let can = |(person, password, passkey): &&(String, bool, bool)| {
            let mut own = accounts.iter().filter(|(whose, _)| whose == person);
            (ways.password && *password)
                || (ways.passkeys && *passkey)
                || own.any(|(_, issuer)| ways.issuers.contains(issuer))
        };
        Ok(operators.iter().filter(can).count())
    }
}

/// Ways of signing in.
#[derive(Debug, Clone, Default)]
pub struct SignInWays {
    /// By a password.
    pub password: bool,
    /// By a passkey.
    pub passkeys: bool,
    /// By an account of these issuers.
    pub issuers: Vec<String>,
}
