//! Everybody's accounts, for those who run the server.

use boatyard_api::{
    Problem,
    identity::{LoginLink, Person, PersonChange, PersonFilter, PersonPage},
    page::{self, Cursor},
};
use boatyard_model::PersonId;
use boatyard_store::{PersonRow, PersonUpdate, audit};

use super::{account::update_account, name};
use crate::auth::{Auth, Holder, code::Purpose};

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
