//! One's own account: who one is, its password, its browsers.

use boatyard_api::{
    Problem,
    identity::{Device, Devices, Identity, IdentityChange, Membership, PasswordChange},
};
use boatyard_model::{DeviceId, OrganizationId, PersonId, Scopes};
use boatyard_store::{PersonRefused, PersonUpdate, audit};

use super::{hashed, name, passwords_are_off};
use crate::{
    auth::{Auth, Caller, Known, Via, code::Purpose, password::Compared},
    operations::store_problem,
};

/// How long after a link that was made for it one may set a password without the one before.
const RESET_FOR: std::time::Duration = std::time::Duration::from_secs(3600);

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

pub(super) async fn update_account(
    auth: &Auth,
    id: PersonId,
    update: PersonUpdate,
) -> Result<(), Problem> {
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
    if row.password.is_none() {
        auth.in_full(caller).await?;
    }
    if row.password.is_some() && !came_for_a_new_one(auth, device).await? {
        // A stolen browser is no place to guess the password from.
        let face = super::face(auth, Some(person), caller.address).await?;
        let attempt = auth.rates.attempt(email, caller.address, face)?;
        let current = change.current.as_deref().unwrap_or_default();
        if auth.passwords.compare(current, row.password.as_ref()).await? == Compared::Other {
            return Err(Problem::not_allowed("this is not your password").at("current").with_next(
                "Try again; an operator of this server can give you a link for a new one.",
            ));
        }
        attempt.succeeded();
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
