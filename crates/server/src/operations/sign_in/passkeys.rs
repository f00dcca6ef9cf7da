//! Passkeys: made by who is signed in, used by who wants to be.

use boatyard_api::{
    Problem,
    sign_in::{NewPasskey, Passkey, PasskeyChallenge, PasskeyLogin},
};
use boatyard_model::{PasskeyId, PersonId};
use boatyard_store::{
    audit,
    passkeys::{Kept, PASSKEYS_MAX, PasskeyRow},
};

use super::{Removed, can_come_in, last_way, left, person_of, store_problem};
use crate::{
    app::App,
    auth::{Auth, Caller, passkeys::Maker},
};

/// The longest name of a passkey, in characters.
const NAME_MAX: usize = 100;

fn switched_on(auth: &Auth) -> Result<(), Problem> {
    if auth.ways().passkeys {
        return Ok(());
    }
    Err(Problem::not_allowed("signing in by passkeys is switched off on this server")
        .with_next("Choose another way, or ask one of its operators."))
}

fn shown(row: PasskeyRow) -> Passkey {
    Passkey { id: row.id, name: row.name, created: row.created, last_used: row.last_used }
}

/// The caller's passkeys, oldest first.
///
/// # Errors
/// When the caller is nobody in particular; when they can't be read.
pub async fn list_passkeys(app: &App, caller: &Caller) -> Result<Vec<Passkey>, Problem> {
    let rows = app.store.list_passkeys(person_of(caller)?).await.map_err(store_problem)?;
    Ok(rows.into_iter().map(shown).collect())
}

/// What the caller's authenticator is asked for a new passkey.
///
/// # Errors
/// When passkeys are switched off or impossible here; when the caller has no account of its own.
pub async fn begin_passkey(
    app: &App,
    auth: &Auth,
    caller: &Caller,
) -> Result<PasskeyChallenge, Problem> {
    switched_on(auth)?;
    let person = person_of(caller)?;
    auth.in_full(caller).await?;
    let row = app.store.find_person(person).await.map_err(store_problem)?;
    let row = row.ok_or_else(|| Problem::not_found("person", person))?;
    let there = app.store.list_passkeys(person).await.map_err(store_problem)?;
    if there.len() >= PASSKEYS_MAX {
        return Err(too_many());
    }
    let email = row.email.as_deref().unwrap_or(&row.name);
    let maker = Maker { person, email, name: &row.name };
    let passkeys = app.sign_in.passkeys();
    let (attempt, options) = passkeys.begin_register(app.sign_in.url(), &maker, &there)?;
    Ok(PasskeyChallenge { attempt, options })
}

fn too_many() -> Problem {
    Problem::conflict(format!("you have {PASSKEYS_MAX} passkeys, as many as may be"))
        .with_next("Remove one that you don't use.")
}

/// Keeps a passkey that the caller's authenticator made.
///
/// # Errors
/// When it answers no challenge of the caller's, or is known already.
pub async fn finish_passkey(
    app: &App,
    auth: &Auth,
    caller: &Caller,
    new: NewPasskey,
) -> Result<Passkey, Problem> {
    switched_on(auth)?;
    let person = person_of(caller)?;
    auth.in_full(caller).await?;
    let name = name(app, new.name)?;
    let passkeys = app.sign_in.passkeys();
    let made = passkeys.finish_register(app.sign_in.url(), person, &new.attempt, new.credential)?;
    audit::note("name", &name);
    let write = app.store.write(move |tx| {
        Box::pin(async move {
            tx.create_passkey(person, &name, &made.credential_id, &made.credential).await
        })
    });
    match write.await.map_err(store_problem)? {
        Kept::Now(row) => Ok(shown(row)),
        Kept::Before => Err(Problem::already_exists("this passkey is known already")
            .at("credential")
            .with_next("Sign in with it.")),
        Kept::TooMany => Err(too_many()),
    }
}

fn name(app: &App, wanted: Option<String>) -> Result<String, Problem> {
    let Some(wanted) = wanted else {
        let day: String = app.store.now().to_string().chars().take(10).collect();
        return Ok(format!("Passkey of {day}"));
    };
    let name = wanted.trim();
    if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        let detail = format!("a name has 1 to {NAME_MAX} characters, and no line breaks");
        return Err(Problem::invalid("name", detail));
    }
    Ok(name.to_owned())
}

/// Removes a passkey: it signs in nobody any more.
///
/// # Errors
/// When the caller has no such, or no other way to sign in.
pub async fn remove_passkey(
    app: &App,
    auth: &Auth,
    caller: &Caller,
    id: PasskeyId,
) -> Result<(), Problem> {
    let person = person_of(caller)?;
    let left = left(app, &auth.ways(), None);
    let write = app.store.write(move |tx| {
        Box::pin(async move {
            let only = tx.count_passkeys(person).await? <= 1;
            let mut left = left;
            left.passkeys = left.passkeys && !only;
            if tx.find_passkey(person, id).await? && !can_come_in(tx, person, &left).await? {
                tx.changes_nothing();
                return Ok(Removed::Last);
            }
            tx.remove_passkey(person, id).await.map(|()| Removed::Done)
        })
    });
    match write.await.map_err(store_problem)? {
        Removed::Done => Ok(()),
        Removed::Last => Err(last_way()),
    }
}

/// What an authenticator is asked of who wants to sign in.
///
/// # Errors
/// When passkeys are switched off, or impossible here.
pub fn begin_passkey_login(app: &App, auth: &Auth) -> Result<PasskeyChallenge, Problem> {
    switched_on(auth)?;
    let (attempt, options) = app.sign_in.passkeys().begin_sign_in(app.sign_in.url())?;
    Ok(PasskeyChallenge { attempt, options })
}

/// Who a passkey proves somebody to be.
///
/// # Errors
/// When it proves nothing.
pub async fn finish_passkey_login(
    app: &App,
    auth: &Auth,
    login: PasskeyLogin,
) -> Result<PersonId, Problem> {
    switched_on(auth)?;
    let url = app.sign_in.url();
    let shown = app.sign_in.passkeys().shown(url, &login.attempt, login.credential)?;
    let unknown = || {
        Problem::unauthenticated("this server does not know that passkey (any more)")
            .at("credential")
            .with_next("Sign in in another way, and make a new passkey.")
    };
    let row = app.store.passkey_by_credential(&shown.credential_id).await.map_err(store_problem)?;
    let row = row.filter(|row| row.person == shown.person).ok_or_else(unknown)?;
    let credential = shown.check(url, &row)?;
    let person = app.store.find_person(row.person).await.map_err(store_problem)?;
    let person = person.ok_or_else(unknown)?;
    if person.disabled.is_some() {
        return Err(Problem::not_allowed("this account was switched off")
            .with_next("Ask one of the server's operators."));
    }
    let (id, was) = (row.id, row.credential);
    let write = app.store.write(move |tx| {
        Box::pin(async move {
            // The sign-in that follows is what the log is about.
            tx.changes_nothing();
            tx.use_passkey(id, &was, &credential).await
        })
    });
    // Somebody else used the same passkey in this moment: one of the two is a copy.
    if write.await.map_err(store_problem)? { Ok(row.person) } else { Err(unknown()) }
}
