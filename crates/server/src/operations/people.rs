//! People: setting the server up, signing in and up, one's own account, everybody's accounts.
//!
//! ```text
//! setup ───────► the built-in person is somebody (the first who asks) ──┐
//! password ────► compared ──────────────────────────────────────────────┼─► a device and its cookie
//! sign-up ─────► invitation, or the policy ─► person, member ───────────┘
//! ```

use boatyard_api::{
    Problem,
    identity::{
        Device, Devices, Identity, IdentityChange, Login, LoginLink, Membership, NAME_MAX,
        NewAccount, PasswordChange, Person, PersonChange, PersonFilter, PersonPage, ServerState,
        Setup,
    },
    page::{self, Cursor},
};
use boatyard_model::{DeviceId, OrganizationId, PersonId, Scopes};
use boatyard_store::{
    Address, Claim, FIRST_ORGANIZATION, NewPerson, PasswordHash, PersonRefused, PersonRow,
    PersonUpdate, audit,
};

use super::store_problem;
use crate::{
    auth::{
        Auth, Caller, Entrance, Holder, Known, SignedIn, Via, Visitor,
        code::Purpose,
        hash_of,
        password::{self, Compared},
    },
    settings::sign_in::is_domain,
};

/// The longest address, in bytes (RFC 5321).
const EMAIL_MAX: usize = 254;

/// How long after a link that was made for it one may set a password without the one before.
const RESET_FOR: std::time::Duration = std::time::Duration::from_secs(3600);

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
    let attempt = auth.rates.attempt(&email)?;
    let found = auth.store().find_person_by_email(&email).await.map_err(Problem::internal)?;
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
            let Some(person) = tx.create_person(&new).await? else { return Ok(None) };
            let organization = match way_in {
                WayIn::Invitation(hash, _) => {
                    tx.accept_invitation(&hash, person).await?.organization
                }
                WayIn::Policy(role) => {
                    tx.add_member(FIRST_ORGANIZATION, person, role).await?.organization
                }
            };
            Ok(Some((person, organization)))
        })
    });
    made.await.map_err(store_problem)?.ok_or_else(address_taken)
}

/// Who the caller is, in full.
///
/// # Errors
/// When it can't be read.
pub async fn identity(auth: &Auth, known: &Known) -> Result<Identity, Problem> {
    let caller = &known.caller;
    let (person, standings) = match caller.person {
        Some(id) => (
            auth.store().find_person(id).await.map_err(Problem::internal)?,
            auth.store().list_standings(id).await.map_err(Problem::internal)?,
        ),
        None => {
            let own =
                auth.store().find_standing_of(caller.owner).await.map_err(Problem::internal)?;
            (None, own.into_iter().collect())
        }
    };
    let here = standings.iter().find(|one| one.owner == caller.owner);
    Ok(Identity {
        person: caller.person,
        name: caller.name.to_string(),
        email: person.and_then(|person| person.email),
        operator: caller.operator,
        organization: caller.owner.organization,
        organization_name: here.map(|one| one.organization_name.clone()).unwrap_or_default(),
        member: caller.owner.member,
        role: caller.role,
        scopes: match caller.via {
            Via::Device(_) if caller.scopes == Scopes::ALL => None,
            Via::Device(_) | Via::Guest(_) | Via::Key(_) | Via::Server => Some(caller.scopes),
        },
        organizations: standings
            .into_iter()
            .map(|one| Membership {
                id: one.owner.organization,
                name: one.organization_name,
                role: one.role,
                member: one.owner.member,
            })
            .collect(),
        csrf: known.csrf.clone(),
    })
}

/// The person who asks.
fn oneself(caller: &Caller) -> Result<PersonId, Problem> {
    caller.person.ok_or_else(|| {
        Problem::not_allowed("a key of the organization's own has no account")
            .with_next("Sign in as yourself.")
    })
}

fn current_device(caller: &Caller) -> Option<DeviceId> {
    match caller.via {
        Via::Device(id) => Some(id),
        Via::Key(_) | Via::Guest(_) | Via::Server => None,
    }
}

/// Changes one's own account.
///
/// # Errors
/// When the name makes no sense; when it can't be stored.
pub async fn change_identity(
    auth: &Auth,
    caller: &Caller,
    change: &IdentityChange,
) -> Result<(), Problem> {
    let person = oneself(caller)?;
    let name = change.name.as_deref().map(name).transpose()?;
    let update = PersonUpdate { name, ..PersonUpdate::default() };
    update_account(auth, person, update).await
}

async fn update_account(auth: &Auth, id: PersonId, update: PersonUpdate) -> Result<(), Problem> {
    let disables = update.disabled == Some(true);
    let done = auth.store().write(move |tx| {
        Box::pin(async move {
            if disables {
                tx.require_owners_beside(id).await?;
            }
            tx.update_person(id, &update).await
        })
    });
    match done.await.map_err(store_problem)? {
        Ok(()) => Ok(()),
        Err(PersonRefused::LastOperator) => {
            Err(Problem::conflict("nobody could run this server any more")
                .with_next("Make somebody else an operator first."))
        }
    }
}

/// Sets one's password. Other browsers are signed out, and links that were not used yet end.
///
/// # Errors
/// When the one before is not right, or the new one is too easy to guess.
pub async fn change_password(
    auth: &Auth,
    caller: &Caller,
    change: &PasswordChange,
) -> Result<(), Problem> {
    let person = oneself(caller)?;
    if !auth.ways().password {
        return Err(passwords_are_off());
    }
    let found = auth.store().find_person(person).await.map_err(Problem::internal)?;
    let row = found.ok_or_else(|| Problem::not_found("person", person))?;
    let Some(email) = &row.email else {
        return Err(Problem::conflict("nobody has claimed this server; the printed link signs in"));
    };
    let device = current_device(caller);
    if row.password.is_some() && !came_for_a_new_one(auth, device).await? {
        let current = change.current.as_deref().unwrap_or_default();
        if auth.passwords.compare(current, row.password.as_ref()).await? == Compared::Other {
            return Err(Problem::not_allowed("this is not your password").at("current").with_next(
                "Try again; an operator of this server can give you a link for a new one.",
            ));
        }
    }
    let hash = hashed(auth, &change.password, email, &row.name).await?;
    let set = auth.store().write(move |tx| {
        Box::pin(async move { tx.set_password(person, Some(&hash), device).await })
    });
    set.await.map_err(store_problem)?;
    auth.forget_codes(person);
    Ok(())
}

/// Whether a browser came in by an operator's link for a new password, just now.
async fn came_for_a_new_one(auth: &Auth, device: Option<DeviceId>) -> Result<bool, Problem> {
    let Some(id) = device else { return Ok(false) };
    let row = auth.store().find_device(id).await.map_err(Problem::internal)?;
    Ok(row.is_some_and(|row| {
        row.way == Purpose::NewPassword.way() && auth.store().now().since(row.created) < RESET_FOR
    }))
}

/// The browsers in which one is signed in.
///
/// # Errors
/// When they can't be read.
pub async fn list_devices(auth: &Auth, caller: &Caller) -> Result<Devices, Problem> {
    let rows = auth.store().list_devices(oneself(caller)?).await.map_err(Problem::internal)?;
    let current = current_device(caller);
    let item = |row: boatyard_store::DeviceRow| Device {
        id: row.id,
        current: current == Some(row.id),
        way: row.way,
        address: row.address,
        program: row.program,
        created: row.created,
        last_seen: row.last_seen,
        expires: row.expires,
    };
    Ok(Devices { items: rows.into_iter().map(item).collect() })
}

/// Signs one of one's own browsers out.
///
/// # Errors
/// When it is none of one's own.
pub async fn end_device(auth: &Auth, caller: &Caller, id: DeviceId) -> Result<(), Problem> {
    let person = oneself(caller)?;
    auth.store()
        .write(move |tx| Box::pin(async move { tx.revoke_device(person, id).await }))
        .await
        .map_err(store_problem)
}

/// Signs oneself out everywhere, or everywhere else.
///
/// # Errors
/// When it can't be stored.
pub async fn end_devices(
    auth: &Auth,
    caller: &Caller,
    keep: Option<DeviceId>,
) -> Result<(), Problem> {
    let person = oneself(caller)?;
    let ended = auth
        .store()
        .write(move |tx| Box::pin(async move { tx.revoke_devices(person, keep).await }));
    audit::note("devices", ended.await.map_err(store_problem)?);
    auth.forget_codes(person);
    Ok(())
}

/// Signs the browser that asks out.
///
/// # Errors
/// When it can't be stored.
pub async fn sign_out(auth: &Auth, caller: &Caller) -> Result<(), Problem> {
    let Some(device) = current_device(caller) else { return Ok(()) };
    auth.store()
        .write(move |tx| Box::pin(async move { tx.end_device(device).await }))
        .await
        .map_err(store_problem)
}

/// Has the browser that asks look at another organization of the person's.
///
/// # Errors
/// When the person is no member of it, or what asks is a key, which has its own.
pub async fn choose_organization(
    auth: &Auth,
    caller: &Caller,
    organization: OrganizationId,
) -> Result<(), Problem> {
    let person = oneself(caller)?;
    let Some(device) = current_device(caller) else {
        return Err(Problem::not_allowed("a key is for the organization that it was made in")
            .with_next("Send the header X-Boatyard-Organization, or use a key of the other one."));
    };
    let standing = auth.store().find_standing(person, organization).await;
    if standing.map_err(Problem::internal)?.is_none() {
        return Err(Problem::not_found("organization", organization).at("organization"));
    }
    auth.store()
        .write(move |tx| Box::pin(async move { tx.switch_device(device, organization).await }))
        .await
        .map_err(store_problem)
}

/// All accounts of this server.
///
/// # Errors
/// When the page makes no sense, or can't be read.
pub async fn list_people(auth: &Auth, filter: &PersonFilter) -> Result<PersonPage, Problem> {
    let limit = page::limit(filter.limit)?;
    let after = filter.cursor.as_ref().map(Cursor::key).transpose()?;
    let after = after.map(|key| key.parse()).transpose();
    let after = after.map_err(|error| Problem::invalid("query.cursor", error))?;
    let mut rows = auth.store().list_people(after, limit + 1).await.map_err(Problem::internal)?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let last = rows.last().filter(|_| more);
    let next_cursor = last.map(|row| Cursor::after(&row.id.to_string()));
    Ok(PersonPage { items: rows.into_iter().map(person).collect(), next_cursor })
}

fn person(row: PersonRow) -> Person {
    Person {
        id: row.id,
        name: row.name,
        email: row.email,
        verified: row.verified.is_some(),
        password: row.password.is_some(),
        operator: row.operator,
        disabled: row.disabled.is_some(),
        created: row.created,
        last_seen: row.last_seen,
    }
}

/// One account.
///
/// # Errors
/// When there is none.
pub async fn find_person(auth: &Auth, id: PersonId) -> Result<Person, Problem> {
    let row = auth.store().find_person(id).await.map_err(Problem::internal)?;
    row.map(person).ok_or_else(|| Problem::not_found("person", id))
}

/// Changes an account. One that is disabled is signed out everywhere at once; its keys rest with it.
///
/// # Errors
/// When nobody could run the server, or an organization, any more.
pub async fn update_person(
    auth: &Auth,
    id: PersonId,
    change: &PersonChange,
) -> Result<Person, Problem> {
    find_person(auth, id).await?;
    let name = change.name.as_deref().map(name).transpose()?;
    if let Some(operator) = change.operator {
        audit::note("operator", operator);
    }
    if let Some(disabled) = change.disabled {
        audit::note("disabled", disabled);
    }
    let update = PersonUpdate { name, operator: change.operator, disabled: change.disabled };
    update_account(auth, id, update).await?;
    if change.disabled == Some(true) {
        auth.forget_codes(id);
    }
    find_person(auth, id).await
}

/// A link by which somebody who forgot the password signs in once and sets a new one.
///
/// # Errors
/// When there is no such account, or nobody could sign in with it.
pub async fn create_person_link(
    auth: &Auth,
    url: &str,
    id: PersonId,
) -> Result<LoginLink, Problem> {
    let person = find_person(auth, id).await?;
    if person.disabled {
        return Err(Problem::conflict("this account is disabled").with_next("Enable it first."));
    }
    if person.email.is_none() {
        return Err(Problem::conflict("nobody has claimed this account"));
    }
    let (code, expires) =
        auth.issue_code(Holder { person: id, key: None, purpose: Purpose::NewPassword });
    Ok(LoginLink { url: format!("{url}/?code={code}"), expires })
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
