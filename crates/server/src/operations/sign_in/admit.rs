//! From an account at a provider to a person here.
//!
//! ```text
//! known account ───────────────────────────────────────────────► its person
//! linking, signed in ──────────────────────────────────────────► who is signed in
//! address of a person ─ vouched for, and either the provider is
//!                       trusted and the address was shown here too,
//!                       or the person has no other way ─────────► that person
//! invitation · allowed domain · open · a group that has a role ─► a new person
//! ```
//!
//! All of it is one transaction. An account is known by issuer and subject alone. An address that
//! two people may claim (one here, one at a provider that lets anybody write anything) links nothing
//! by itself: who is here already signs in as before, and links the account then.

use std::collections::BTreeMap;

use boatyard_api::{
    Problem,
    sign_in::{ProviderKind, Refusal},
};
use boatyard_model::{OrganizationId, PersonId, Role};
use boatyard_store::{
    Address, BUILT_IN_ORGANIZATION, Error, InvitationRow, NewPerson, Tx, audit,
    identities::{AccountSeen, Granted, IdentityRow},
};

use super::store_problem;
use crate::{
    app::App,
    auth::{
        Ways, hash_of,
        providers::{
            Account, Provider,
            flow::Flow,
            spec::{Grant, Place},
        },
    },
};

/// The longest address that is kept, in bytes (RFC 5321).
const EMAIL_MAX: usize = 254;
/// The longest name that is kept, in characters.
const NAME_MAX: usize = boatyard_api::identity::NAME_MAX;

/// Who came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// Who.
    pub(crate) person: PersonId,
    /// The organization of the invitation.
    pub(crate) organization: Option<OrganizationId>,
}

/// Decides whose an account is, and keeps that.
///
/// # Errors
/// When the database fails. Whoever is not let in has a [`Refusal`].
pub(crate) async fn admit(
    app: &App,
    ways: &Ways,
    provider: &Provider,
    account: Account,
    flow: &Flow,
) -> Result<Result<Admitted, Refusal>, Problem> {
    let invitation = match &flow.invitation {
        None => None,
        Some(code) => {
            let hash = hash_of(code);
            match app.store.invitation_by_hash(&hash).await.map_err(store_problem)? {
                Some(row) => Some((hash, row)),
                None => return Ok(Err(Refusal::Invitation)),
            }
        }
    };
    let email = account.email.as_deref().and_then(address);
    let name = name(&account, email.as_deref());
    audit::note("provider", &provider.name);
    audit::note("account", email.as_deref().unwrap_or(&account.subject));
    let wish = Wish {
        seen: AccountSeen {
            provider: provider.name.clone(),
            issuer: account.issuer,
            subject: account.subject,
            email,
            name,
        },
        vouched: account.verified || provider.settings.trust_email,
        trusted: provider.settings.trust_email,
        grants: matching(provider, &account.groups),
        ways: ways.clone(),
        invitation,
        link: flow.link.map(|link| link.person),
    };
    match app.store.write(move |tx| Box::pin(async move { wish.grant(tx).await })).await {
        Ok(outcome) => Ok(outcome),
        // Whatever it is that an invitation is refused for.
        Err(Error::Refused { .. }) => Ok(Err(Refusal::Invitation)),
        Err(error) => Err(store_problem(error)),
    }
}

/// What the groups of an account are worth.
fn matching(provider: &Provider, groups: &[String]) -> Vec<Grant> {
    // GitHub's names are the same in small and large letters; others' are as they are written.
    let same = |group: &String, wanted: &String| match provider.settings.kind {
        ProviderKind::Github => group.eq_ignore_ascii_case(wanted),
        ProviderKind::Oidc | ProviderKind::Google => group == wanted,
    };
    let is_one = |grant: &&Grant| groups.iter().any(|group| same(group, &grant.group));
    provider.grants.iter().filter(is_one).cloned().collect()
}

/// An address as it is kept; none if it can't be one.
fn address(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let (local, domain) = text.rsplit_once('@')?;
    let is_one = text.len() <= EMAIL_MAX
        && !local.is_empty()
        && domain.contains('.')
        && !text.chars().any(|c| c.is_control() || c.is_whitespace());
    is_one.then_some(text)
}

/// What the person is called: as the provider says, else by the address.
fn name(account: &Account, email: Option<&str>) -> String {
    let told = account.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let by_address = || email.and_then(|email| email.split('@').next());
    let name = told.or_else(by_address).unwrap_or("Somebody");
    name.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect()
}

/// Somebody who wants in.
struct Wish {
    seen: AccountSeen,
    /// Whether the address is known to be the person's.
    vouched: bool,
    /// Whether the provider's addresses are as good as one's own.
    trusted: bool,
    grants: Vec<Grant>,
    ways: Ways,
    invitation: Option<(String, InvitationRow)>,
    link: Option<PersonId>,
}

type Outcome<T> = Result<Result<T, Refusal>, Error>;

impl Wish {
    async fn grant(self, tx: &mut Tx) -> Outcome<Admitted> {
        let outcome = self.decide(tx).await;
        if let Ok(Err(refusal)) = &outcome {
            tx.note("refused", refusal.as_str());
        }
        // The sign-in that follows, or the refusal, is what the log is about.
        tx.changes_nothing();
        outcome
    }

    async fn decide(&self, tx: &mut Tx) -> Outcome<Admitted> {
        let known = tx.identity_of(&self.seen.issuer, &self.seen.subject).await?;
        let wanted = self.wanted(tx).await?;
        let person = match (self.link, &known) {
            (Some(person), Some(row)) if row.person != person => {
                return Ok(Err(Refusal::AccountTaken));
            }
            (Some(person), _) => person,
            (None, Some(row)) => row.person,
            (None, None) => match self.newcomer(tx, &wanted).await? {
                Ok(person) => person,
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let Some(row) = tx.find_person(person).await? else {
            return Ok(Err(Refusal::NoOrganization));
        };
        if row.disabled.is_some() {
            return Ok(Err(Refusal::Disabled));
        }
        if self.vouched && row.email.is_some() && row.email == self.seen.email {
            tx.verify_address(person).await?;
        }
        let organization = self.join(tx, person).await?;
        let granted = self.follow_groups(tx, person, known.as_ref(), &wanted).await?;
        match &known {
            Some(row) => tx.use_identity(row.id, &self.seen, &granted).await?,
            None => {
                tx.create_identity(person, &self.seen, &granted).await?;
            }
        }
        if tx.list_standings(person).await?.is_empty() {
            return Ok(Err(Refusal::NoOrganization));
        }
        Ok(Ok(Admitted { person, organization }))
    }

    /// The person whom the address means, or a new one.
    async fn newcomer(&self, tx: &mut Tx, wanted: &Granted) -> Outcome<PersonId> {
        let Some(email) = &self.seen.email else { return Ok(Err(Refusal::NoAddress)) };
        if let Some(row) = tx.find_person_by_email(email).await? {
            if row.disabled.is_some() {
                return Ok(Err(Refusal::Disabled));
            }
            let other_way = row.password.is_some() || tx.has_other_ways(row.id).await?;
            // Somebody may have made the account under another's address, to be joined by whose it
            // is: one with a way in of its own is believed only if its address was shown.
            let own = row.verified.is_some();
            let is_safe = self.vouched && (!other_way || self.trusted && own);
            return Ok(if is_safe { Ok(row.id) } else { Err(Refusal::AddressTaken) });
        }
        let address = if self.vouched { Address::Verified } else { Address::Claimed };
        let admitted = self.ways.admit(email, address).ok();
        if self.invitation.is_none() && wanted.is_empty() && admitted.is_none() {
            return Ok(Err(Refusal::Closed));
        }
        if let Some((_, row)) = &self.invitation
            && row.refusal(tx.now()).is_some()
        {
            return Ok(Err(Refusal::Invitation));
        }
        let new = NewPerson {
            email: email.clone(),
            address,
            name: self.seen.name.clone(),
            password: None,
        };
        let Some(person) = tx.create_person(&new).await? else {
            return Ok(Err(Refusal::AddressTaken));
        };
        tx.note("created", person);
        if let (None, true, Some(role)) = (&self.invitation, wanted.is_empty(), admitted) {
            tx.join_organization(person, BUILT_IN_ORGANIZATION, role).await?;
        }
        Ok(Ok(person))
    }

    /// Accepts the invitation, unless the person is where it leads already.
    async fn join(&self, tx: &mut Tx, person: PersonId) -> Result<Option<OrganizationId>, Error> {
        let Some((hash, row)) = &self.invitation else { return Ok(None) };
        let organization = row.owner.organization;
        let there = tx.list_standings(person).await?;
        if !there.iter().any(|standing| standing.owner.organization == organization) {
            tx.accept_invitation(hash, person).await?;
        }
        Ok(Some(organization))
    }

    /// The roles that the account's groups are worth; the highest where several are.
    async fn wanted(&self, tx: &mut Tx) -> Result<Granted, Error> {
        let mut wanted = Granted::new();
        for grant in &self.grants {
            let organization = match &grant.organization {
                Place::First => tx.organization_with(Some(BUILT_IN_ORGANIZATION), "").await?,
                Place::Id(id) => tx.organization_with(Some(*id), "").await?,
                Place::Named(name) => tx.organization_with(None, name).await?,
            };
            let Some(organization) = organization else {
                let (group, place) = (&grant.group, &grant.organization);
                tracing::warn!(
                    group,
                    ?place,
                    "a group is something in an organization that is not there"
                );
                continue;
            };
            let role = wanted.entry(organization).or_insert(grant.role);
            *role = (*role).max(grant.role);
        }
        Ok(wanted)
    }

    /// Gives, changes and takes what the groups gave: what was given by hand stays as it is, and so
    /// does an organization's last owner.
    async fn follow_groups(
        &self,
        tx: &mut Tx,
        person: PersonId,
        known: Option<&IdentityRow>,
        wanted: &Granted,
    ) -> Result<Granted, Error> {
        let before = known.map(|row| row.granted.clone()).unwrap_or_default();
        let there: BTreeMap<OrganizationId, (boatyard_model::MemberId, Role)> = tx
            .list_standings(person)
            .await?
            .into_iter()
            .map(|standing| (standing.owner.organization, (standing.owner.member, standing.role)))
            .collect();
        let mut granted = Granted::new();
        for (organization, role) in wanted {
            match there.get(organization) {
                None => {
                    tx.join_organization(person, *organization, *role).await?;
                }
                // Given by hand.
                Some(_) if !before.contains_key(organization) => continue,
                Some((_, is)) if is == role => {}
                Some((member, is)) => {
                    if *is == Role::Owner && tx.is_only_owner(person, *organization).await? {
                        tracing::warn!(%organization, "the last owner stays one, whatever its groups");
                    } else {
                        tx.set_member_role(*organization, *member, *role).await?;
                    }
                }
            }
            granted.insert(*organization, *role);
        }
        for (organization, role) in before {
            let Some((member, is)) = there.get(&organization) else { continue };
            if wanted.contains_key(&organization) {
                continue;
            }
            if *is == Role::Owner && tx.is_only_owner(person, organization).await? {
                tracing::warn!(%organization, "the last owner stays one, whatever its groups");
                granted.insert(organization, role);
            } else {
                tx.remove_member(organization, *member, None).await?;
            }
        }
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_small_letters() {
        assert_eq!(address(" Ann@Example.COM ").as_deref(), Some("ann@example.com"));
        for bad in ["", "ann", "@example.com", "ann@localhost", "a b@example.com", "a@b.c\n.d"] {
            assert_eq!(address(bad), None, "{bad}");
        }
        assert_eq!(address(&format!("{}@example.com", "a".repeat(250))), None);
    }
}
