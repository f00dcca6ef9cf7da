//! One's own accounts at providers.

use boatyard_api::{Problem, sign_in::LinkedAccount};
use boatyard_model::IdentityId;

use super::{Removed, can_come_in, last_way, left, person_of, store_problem};
use crate::{
    app::App,
    auth::{Auth, Caller},
};

/// The caller's accounts at providers, oldest first.
///
/// # Errors
/// When the caller is nobody in particular; when they can't be read.
pub async fn list_accounts(app: &App, caller: &Caller) -> Result<Vec<LinkedAccount>, Problem> {
    let rows = app.store.list_identities(person_of(caller)?).await.map_err(store_problem)?;
    let shown = rows.into_iter().map(|row| LinkedAccount {
        id: row.id,
        provider: row.provider,
        email: row.email,
        name: row.name,
        created: row.created,
        last_used: row.last_used,
    });
    Ok(shown.collect())
}

/// Takes an account away: it signs in nobody any more, until it is linked again.
///
/// # Errors
/// When the caller has no such account, or no other way to sign in.
pub async fn remove_account(
    app: &App,
    auth: &Auth,
    caller: &Caller,
    id: IdentityId,
) -> Result<(), Problem> {
    let person = person_of(caller)?;
    let left = left(app, &auth.ways(), None);
    let write = app.store.write(move |tx| {
        Box::pin(async move {
            let own = tx.identities_of(person).await?;
            let Some(gone) = own.iter().find(|account| account.id == id) else {
                return tx.remove_identity(person, id).await.map(|()| Removed::Done);
            };
            // What is left is looked at without it, and only then it goes.
            let others = own.iter().filter(|account| account.id != id);
            let by_others = others.map(|account| account.issuer.clone()).collect::<Vec<_>>();
            let mut left = left;
            left.issuers.retain(|issuer| by_others.contains(issuer));
            if !can_come_in(tx, person, &left).await? {
                tx.changes_nothing();
                return Ok(Removed::Last);
            }
            tx.note("provider", &gone.provider);
            tx.remove_identity(person, id).await.map(|()| Removed::Done)
        })
    });
    match write.await.map_err(store_problem)? {
        Removed::Done => Ok(()),
        Removed::Last => Err(last_way()),
    }
}
