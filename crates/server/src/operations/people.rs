//! People: setting the server up, signing in and up, one's own account, everybody's accounts.
//!
//! ```text
//! setup ───────► the built-in person is somebody (the first who asks) ──┐
//! password ────► compared ──────────────────────────────────────────────┼─► a device and its cookie
//! sign-up ─────► invitation, or the policy ─► person, member ───────────┘
//! ```

use std::net::IpAddr;

use boatyard_api::{
    Problem,
    identity::{Login, NAME_MAX, NewAccount, ServerState, Setup},
};
use boatyard_model::{OrganizationId, PersonId};
use boatyard_store::{Address, Claim, FIRST_ORGANIZATION, NewPerson, PasswordHash, audit};

use super::store_problem;
use crate::{
    auth::{
        Auth, Entrance, SignedIn, Visitor, hash_of,
        password::{self, Compared},
    },
    rates::{self, Face},
    settings::sign_in::is_domain,
};

mod account;
mod everybody;

pub use account::{
    change_identity, change_password, choose_organization, end_device, end_devices, identity,
    list_devices, sign_out,
};
pub use everybody::{create_person_link, find_person, list_people, update_person};

/// The longest address, in bytes (RFC 5321).
const EMAIL_MAX: usize = 254;

/// An address as it is kept: in small letters.
///
/// # Errors
/// When it is none.
pub fn address(text: &str) -> Result<String, Problem> {
    let text = text.trim().to_lowercase();
    let good = text.rsplit_once('@').is_some_and(|(local, domain)| {
        let plain =
            |c: char| !c.is_whitespace() && !c.is_control() && !"\"(),:;<>@[\\]".contains(c);
        (1..=64).contains(&local.len()) && local.chars().all(plain) && is_domain(domain)
    });
    if good && text.len() <= EMAIL_MAX {
        return Ok(text);
    }
    Err(Problem::invalid("email", "this is no mail address; write it as name@example.com"))
}

/// A name as it is shown.
fn name(text: &str) -> Result<String, Problem> {
    let text = text.trim();
    let length = text.chars().count();
    if (1..=NAME_MAX).contains(&length) && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Problem::invalid(
        "name",
        format!("a name has 1 to {NAME_MAX} characters, all of them visible"),
    ))
}

/// What a new password is compared with from now on.
async fn hashed(
    auth: &Auth,
    password: &str,
    email: &str,
    name: &str,
) -> Result<PasswordHash, Problem> {
    if let Some(objection) = password::objection(password, email, name) {
        return Err(Problem::invalid("password", format!("the password {objection}")));
    }
    auth.passwords.hash(password).await
}

fn passwords_are_off() -> Problem {
    Problem::not_allowed("passwords don't sign in on this server")
        .at("password")
        .with_next("Sign in by one of the other ways.")
}

/// Signs a browser in.
///
/// # Errors
/// When what it brings is not right; it isn't told which part of it.
pub async fn sign_in(auth: &Auth, login: &Login, visitor: &Visitor) -> Result<SignedIn, Problem> {
    match (&login.key, &login.email, &login.password) {
        (Some(key), None, None) => auth.enter_by_secret(key.trim(), visitor).await,
        (None, Some(email), Some(password)) => by_password(auth, email, password, visitor).await,
        (None, Some(_), None) => Err(Problem::invalid("password", "missing field `password`")),
        (None, None, _) => {
            Err(Problem::invalid("email", "expected `email` and `password`, or `key`"))
        }
        (Some(_), _, _) => {
            Err(Problem::invalid("key", "expected `key` alone, or `email` and `password`"))
        }
    }
}

async fn by_password(
    auth: &Auth,
    email: &str,
    password: &str,
    visitor: &Visitor,
) -> Result<SignedIn, Problem> {
    if !auth.ways().password {
        return Err(passwords_are_off());
    }
    let email = address(email)?;
    audit::note("email", &email);
    let found = auth.store().find_person_by_email(&email).await.map_err(Problem::internal)?;
    let face = face(auth, found.as_ref().map(|person| person.id), visitor.address).await?;
    let attempt = auth.rates.attempt(&email, visitor.address, face)?;
    let hash = found.as_ref().and_then(|person| person.password.clone());
    // As long for an address that nobody has.
    let compared = auth.passwords.compare(password, hash.as_ref()).await?;
    let (Some(person), true) = (found, compared != Compared::Other) else {
        return Err(Problem::unauthenticated(
            "this address and this password don't belong together",
        )
        .at("password")
        .with_next("Try again; an operator of this server can give you a link for a new one."));
    };
    attempt.succeeded();
    if person.disabled.is_some() {
        return Err(Problem::not_allowed("this account is disabled")
            .with_next("Ask an operator of this server."));
    }
    if let (Compared::SameOutdated, Some(old)) = (compared, hash) {
        let new = auth.passwords.hash(password).await?;
        let id = person.id;
        let renewed = auth
            .store()
            .write(move |tx| Box::pin(async move { tx.renew_password(id, &old, &new).await }));
        renewed.await.map_err(store_problem)?;
    }
    auth.enter(Entrance::of(person.id, "password"), visitor).await
}

/// Whether a person was signed in from there before. What somebody else gets wrong elsewhere does
/// not keep such a one out.
async fn face(
    auth: &Auth,
    person: Option<PersonId>,
    address: Option<IpAddr>,
) -> Result<Face, Problem> {
    let (Some(person), Some(address)) = (person, address) else { return Ok(Face::Stranger) };
    let before = auth.store().addresses_of(person).await.map_err(Problem::internal)?;
    let here = rates::Key::address(address);
    let is_here = |text: &String| text.parse().is_ok_and(|it| rates::Key::address(it) == here);
    Ok(if before.iter().any(is_here) { Face::Familiar } else { Face::Stranger })
}

/// Makes the one who has the printed code the first owner and operator.
///
/// # Errors
/// When the server is somebody's already or for one person only, the code is wrong, or what was
/// filled in makes no sense.
pub async fn set_up(auth: &Auth, setup: &Setup, visitor: &Visitor) -> Result<SignedIn, Problem> {
    match auth.state() {
        ServerState::Setup => {}
        ServerState::People => return Err(too_late()),
        ServerState::Single => {
            return Err(Problem::conflict("this server is for the one who started it").with_next(
                "Open the link that `boatyard up` printed; [sign_in] in boatyard.toml makes it a \
                 server for several people.",
            ));
        }
    }
    if !auth.setup().is(setup.code.trim()) {
        return Err(Problem::unauthenticated("this is not the code of this server's setup")
            .at("code")
            .with_next(
                "Open the link that `boatyard up` printed last; a restart prints a new one.",
            ));
    }
    let (email, name) = (address(&setup.email)?, name(&setup.name)?);
    let password = match &setup.password {
        Some(password) => Some(hashed(auth, password, &email, &name).await?),
        None if auth.ways().password => {
            return Err(Problem::invalid("password", "missing field `password`"));
        }
        None => None,
    };
    audit::note("email", &email);
    // Whoever reads what the server prints is trusted with all of it.
    let new = NewPerson { email, address: Address::Verified, name, password };
    let claim = auth
        .store()
        .write(move |tx| Box::pin(async move { tx.claim_built_in(&new).await }))
        .await
        .map_err(store_problem)?;
    match claim {
        Claim::Done => auth.claimed(),
        Claim::Late => return Err(too_late()),
        Claim::AddressTaken => return Err(address_taken()),
    }
    auth.enter(Entrance::of(boatyard_store::BUILT_IN_PERSON, "setup"), visitor).await
}

fn too_late() -> Problem {
    Problem::conflict("this server was set up already")
        .at("code")
        .with_next("Sign in, or ask somebody who is here already for an invitation.")
}

fn address_taken() -> Problem {
    Problem::already_exists("there is an account with this address")
        .at("email")
        .with_next("Sign in with it.")
}

/// Makes an account, by an invitation or where that is allowed without one, and signs it in.
///
/// # Errors
/// When nobody may, or not this one; when the invitation is no good; when the address has an
/// account.
pub async fn sign_up(
    auth: &Auth,
    account: &NewAccount,
    visitor: &Visitor,
) -> Result<SignedIn, Problem> {
    if auth.state() != ServerState::People {
        return Err(Problem::conflict("nobody signs up here before the server is set up"));
    }
    if !auth.ways().password {
        return Err(passwords_are_off());
    }
    let (email, name) = (address(&account.email)?, name(&account.name)?);
    audit::note("email", &email);
    let way_in = way_in(auth, account.invitation.as_deref(), &email).await?;
    let password = hashed(auth, &account.password, &email, &name).await?;
    let address = way_in.address();
    let new = NewPerson { email, address, name, password: Some(password) };
    let (person, organization) = create(auth, new, way_in).await?;
    auth.enter(Entrance::of(person, "password").into(organization), visitor).await
}

/// How somebody comes in who has no account yet.
#[derive(Debug)]
pub enum WayIn {
    /// By an invitation whose code has this hash; whether it came to the address by mail.
    Invitation(String, Address),
    /// By the policy: what it makes of them in the first organization.
    Policy(boatyard_model::Role),
}

impl WayIn {
    const fn address(&self) -> Address {
        match self {
            Self::Invitation(_, address) => *address,
            Self::Policy(_) => Address::Claimed,
        }
    }
}

/// How somebody with an address that is merely claimed comes in.
async fn way_in(auth: &Auth, code: Option<&str>, email: &str) -> Result<WayIn, Problem> {
    let Some(code) = code else {
        return Ok(WayIn::Policy(auth.ways().admit(email, Address::Claimed)?));
    };
    let hash = hash_of(code.trim());
    let found = auth.store().invitation_by_hash(&hash).await.map_err(store_problem)?;
    let Some(row) = found else {
        return Err(Problem::invalid("invitation", "there is no invitation with this code")
            .with_next("Open the link of the invitation again, or ask for another."));
    };
    if let Some(reason) = row.refusal(auth.store().now()) {
        return Err(Problem::conflict(reason).at("invitation").with_next("Ask for another."));
    }
    // Who has a code that was mailed to an address has that address.
    let mailed = row.mailed.is_some() && row.email.as_deref() == Some(email);
    Ok(WayIn::Invitation(hash, if mailed { Address::Verified } else { Address::Claimed }))
}

/// Makes a person who comes in this way, and a member: who, and where.
///
/// # Errors
/// When the address has an account, or the invitation is no good (any more).
pub async fn create(
    auth: &Auth,
    new: NewPerson,
    way_in: WayIn,
) -> Result<(PersonId, OrganizationId), Problem> {
    let made = auth.store().write(move |tx| {
        Box::pin(async move {
            let Some(person) = tx.create_person(&new).await? else {
                tx.changes_nothing();
                return Ok(None);
            };
            tx.note("person", person);
            let organization = match way_in {
                WayIn::Invitation(hash, _) => {
                    tx.accept_invitation(&hash, person).await?.organization
                }
                WayIn::Policy(role) => {
                    tx.add_member(FIRST_ORGANIZATION, person, role).await?.organization
                }
            };
            tx.name_actor(audit::Actor {
                organization: Some(organization),
                person: Some(person),
                name: new.name,
                via: "sign-up".to_owned(),
                ..audit::Actor::default()
            });
            Ok(Some((person, organization)))
        })
    });
    made.await.map_err(store_problem)?.ok_or_else(address_taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_small_letters_and_nonsense_is_refused() {
        assert_eq!(address(" Ada.L+x@Example.COM ").unwrap(), "ada.l+x@example.com");
        assert_eq!(address("ada@localhost").unwrap(), "ada@localhost");
        let long = format!("{}@example.com", "x".repeat(65));
        for bad in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "a b@example.com",
            "a@b@c",
            "a@-x.com",
            "a@x..com",
            "<a>@example.com",
            "a\n@example.com",
            "a\u{0}@example.com",
            &long,
        ] {
            let problem = address(bad).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("email"), "{bad:?}");
        }
    }

    #[test]
    fn names_can_be_seen() {
        assert_eq!(name("  Ada Lovelace ").unwrap(), "Ada Lovelace");
        for bad in ["", "   ", "a\nb", &"x".repeat(NAME_MAX + 1)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }
}
