//! Shares of tasks, workspaces and sessions by a link.
//!
//! The code of a link is 256 random bits; the database keeps its hash. Whoever may decide about a
//! thing may share it, and take a share of it back; who took it has the right for as long as the
//! share works, and not a moment longer.

use std::time::Duration;

use boatyard_api::{
    Cursor, Problem,
    page::limit,
    share::{
        CODE_PREFIX, EXPIRES_DEFAULT, EXPIRES_MAX, NewShare, Share, ShareFilter, SharePage,
        ShareState, Sharing, TakeShare, TakenShare,
    },
};
use boatyard_model::{Role, ShareId, Timestamp, Wish};
use boatyard_store::{SHARES_MAX, ShareRow, Taken, Taker, ThingId};
use sha2::{Digest as _, Sha256};

use super::store_problem;
use crate::{
    access::{self, things},
    app::App,
    auth::Caller,
};

/// The most that may take one share, where there is a limit.
const USES_MAX: u64 = 10_000;

/// The longest code that is looked at, in bytes; ours are below it.
const CODE_MAX: usize = 200;

/// A fresh code for a link.
fn new_code() -> String {
    let mut bytes = [0; 32];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut bytes);
    format!("{CODE_PREFIX}{}", crate::hex(&bytes))
}

/// Under what the database knows a code.
pub(crate) fn hash_of(code: &str) -> String {
    crate::hex(&Sha256::digest(code))
}

fn subject(text: &str, field: &str) -> Result<ThingId, Problem> {
    let wrong = || {
        let detail = "it takes the id of a task, a workspace or a session";
        Problem::invalid(field, detail)
    };
    text.parse().map_err(|_| wrong())
}

/// Makes a share, and gives its link.
///
/// # Errors
/// When there is nothing of that id, it is not the caller's to decide about, or a part makes no
/// sense.
pub async fn create_share(
    app: &App,
    caller: &Caller,
    new: NewShare,
    url: &str,
) -> Result<Share, Problem> {
    let id = subject(&new.subject, "subject")?;
    let thing = things::thing(app, id).await.map_err(|problem| problem.at("subject"))?;
    things::check(app, caller, thing, Wish::Manage).await.map_err(|p| p.at("subject"))?;
    if !matches!(new.role, Role::Viewer | Role::Member) {
        let detail = format!("a link gives `viewer` or `member`, not `{}`", new.role);
        return Err(Problem::invalid("role", detail));
    }
    if new.guests && new.role != Role::Viewer {
        let detail = "people without an account may look only";
        return Err(Problem::invalid("guests", detail).with_next("Leave out one of the two."));
    }
    let seconds = new.expires_in.unwrap_or(EXPIRES_DEFAULT);
    if !(1..=EXPIRES_MAX).contains(&seconds) {
        let detail = format!("{seconds} is not between 1 and {EXPIRES_MAX} seconds");
        return Err(Problem::invalid("expires_in", detail));
    }
    if new.uses.is_some_and(|uses| !(1..=USES_MAX).contains(&uses)) {
        let detail = format!("it takes a number from 1 to {USES_MAX}, or none for no limit");
        return Err(Problem::invalid("uses", detail));
    }
    let code = new_code();
    let stored = boatyard_store::NewShare {
        owner: caller.owner,
        subject: id,
        role: new.role,
        guests: new.guests,
        hash: hash_of(&code),
        uses: new.uses,
        expires: app.store.now().after(Duration::from_secs(seconds)),
    };
    let row = app
        .store
        .write(move |tx| Box::pin(tx.create_share(stored)))
        .await
        .map_err(store_problem)?;
    let full = || {
        Problem::conflict(format!("{SHARES_MAX} shares work already, as many as may"))
            .with_next("Take some back: `boatyard share list` shows them.")
    };
    let mut share = share(row.ok_or_else(full)?, app.store.now());
    share.url = Some(format!("{url}/share?code={code}"));
    Ok(share)
}

fn share(row: ShareRow, now: Timestamp) -> Share {
    let state = if row.revoked.is_some() {
        ShareState::Revoked
    } else if row.expires <= now {
        ShareState::Ended
    } else if row.uses.is_some_and(|uses| row.used >= uses) {
        ShareState::Spent
    } else {
        ShareState::Open
    };
    Share {
        id: row.id,
        subject: row.subject,
        role: row.role,
        guests: row.guests,
        state,
        uses: row.uses,
        used: row.used,
        owner: row.owner.member,
        created: row.created,
        expires: row.expires,
        revoked: row.revoked,
        url: None,
    }
}

/// Shares, the newest first: all for an admin, else one's own; those of one thing for who may
/// decide about it.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_shares(
    app: &App,
    caller: &Caller,
    filter: ShareFilter,
) -> Result<SharePage, Problem> {
    let limit = limit(filter.limit)?;
    let before = super::tasks::cursor_id(filter.cursor.as_ref())?;
    let wanted = match &filter.subject {
        Some(text) => Some(subject(text, "query.subject")?),
        None => None,
    };
    let mut owner = (!access::sees_all(caller)).then_some(caller.owner.member);
    if let Some(id) = wanted {
        let at = |problem: Problem| problem.at("query.subject");
        let thing = things::thing(app, id).await.map_err(at)?;
        things::check(app, caller, thing, Wish::Manage).await.map_err(at)?;
        owner = None;
    }
    let wanted = boatyard_store::ShareFilter { subject: wanted, owner, before };
    let rows = app
        .store
        .list_shares(caller.owner.organization, wanted, limit)
        .await
        .map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.id.to_string()));
    let now = app.store.now();
    Ok(SharePage { items: rows.into_iter().map(|row| share(row, now)).collect(), next_cursor })
}

/// The share, if the caller made it or may decide about what it shares.
async fn row(app: &App, caller: &Caller, id: ShareId) -> Result<ShareRow, Problem> {
    let missing = || Problem::not_found("share", id);
    let row = app.store.share(id).await.map_err(store_problem)?;
    if row.owner.organization != caller.owner.organization {
        return Err(missing());
    }
    if row.owner == caller.owner || access::sees_all(caller) {
        return Ok(row);
    }
    let thing = row.subject.parse().map_err(|_| missing())?;
    let thing = things::thing(app, thing).await.map_err(|_| missing())?;
    things::check(app, caller, thing, Wish::Manage).await.map_err(|_| missing())?;
    Ok(row)
}

/// One share.
///
/// # Errors
/// When there is none.
pub async fn find_share(app: &App, caller: &Caller, id: ShareId) -> Result<Share, Problem> {
    Ok(share(row(app, caller, id).await?, app.store.now()))
}

/// Takes a share back: what it gave is over when this returns.
///
/// # Errors
/// When there is none.
pub async fn revoke_share(app: &App, caller: &Caller, id: ShareId) -> Result<Share, Problem> {
    row(app, caller, id).await?;
    let row =
        app.store.write(move |tx| Box::pin(tx.revoke_share(id))).await.map_err(store_problem)?;
    Ok(share(row, app.store.now()))
}

/// Takes what a link gives.
///
/// # Errors
/// When its code is not known, is over, or was used as often as it may be.
pub async fn take_share(app: &App, take: TakeShare, taker: Taker) -> Result<TakenShare, Problem> {
    let code = take.code.trim();
    let hash = match code.len() <= CODE_MAX && code.starts_with(CODE_PREFIX) {
        true => hash_of(code),
        // No hash of ours: it is not found.
        false => String::new(),
    };
    let guest = matches!(taker, Taker::Guest { .. });
    let taken = app
        .store
        .write(move |tx| Box::pin(async move { tx.take_share(&hash, taker).await }))
        .await
        .map_err(store_problem)?;
    let over = |detail: &str| {
        Problem::not_allowed(detail).at("code").with_next("Ask who sent it for another link.")
    };
    match taken {
        Taken::Given(row) => Ok(TakenShare {
            share: row.id,
            subject: row.subject,
            role: row.role,
            expires: row.expires,
            guest,
        }),
        Taken::Unknown => Err(over("this link is not known")),
        Taken::Revoked => Err(over("this link was taken back")),
        Taken::Ended => Err(over("the time of this link is over")),
        Taken::Spent => Err(over("this link was used as often as it may be")),
        Taken::NoGuests => Err(Problem::unauthenticated("this link is for people with an account")
            .at("code")
            .with_next("Sign in, and open it again.")),
        Taken::NotTheirs => Err(over("this link is for members of its organization")
            .with_next("Ask for an invitation, or for a link to look.")),
    }
}

/// What of the organization is for whom, where nobody says.
///
/// # Errors
/// When it can't be read.
pub async fn find_sharing(app: &App, caller: &Caller) -> Result<Sharing, Problem> {
    let visibility = app.store.default_visibility(caller.owner.organization).await;
    Ok(Sharing { visibility: visibility.map_err(store_problem)? })
}

/// Sets it, for what is made from now on.
///
/// # Errors
/// When it can't be stored.
pub async fn set_sharing(app: &App, caller: &Caller, sharing: Sharing) -> Result<Sharing, Problem> {
    let organization = caller.owner.organization;
    app.store
        .write(move |tx| Box::pin(tx.set_default_visibility(organization, sharing.visibility)))
        .await
        .map_err(store_problem)?;
    find_sharing(app, caller).await
}
