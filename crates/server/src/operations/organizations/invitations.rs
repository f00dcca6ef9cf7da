//! Invitations: given, looked at, used, withdrawn.

use std::time::Duration;

use boatyard_api::{
    Cursor, Problem,
    organization::{
        INVITATION_PREFIX, INVITATION_TIME, INVITATION_TIME_MAX, INVITATION_USES_MAX, Invitation,
        InvitationCode, InvitationFilter, InvitationPage, InvitationPreview, InvitationState,
        Invited, Joined, NewInvitation,
    },
    page::limit,
};
use boatyard_model::{InvitationId, Role, Timestamp};
use boatyard_store::{Error, InvitationRow, audit};

use super::store_problem;
use crate::{
    app::App,
    auth::{self, Caller},
    mail::Mail,
};

/// Random bytes in a code.
const CODE_BYTES: usize = 24;

/// The longest mail address, in bytes (RFC 5321).
const EMAIL_MAX: usize = 254;

/// The longest code that is looked at, in bytes; ours have 53.
const CODE_MAX: usize = 100;

/// Invitations of the organization, the newest first.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_invitations(
    app: &App,
    caller: &Caller,
    filter: InvitationFilter,
) -> Result<InvitationPage, Problem> {
    let limit = limit(filter.limit)?;
    let before = crate::operations::tasks::cursor_id(filter.cursor.as_ref())?;
    let rows = app.store.invitations(caller.owner.organization, before, limit).await;
    let rows = rows.map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.id.to_string()));
    let now = app.store.now();
    Ok(InvitationPage { items: rows.into_iter().map(|row| shown(row, now)).collect(), next_cursor })
}

/// An invitation.
///
/// # Errors
/// When there is none.
pub async fn find_invitation(
    app: &App,
    caller: &Caller,
    id: InvitationId,
) -> Result<Invitation, Problem> {
    let row = app.store.invitation(caller.owner.organization, id).await.map_err(store_problem)?;
    Ok(shown(row, app.store.now()))
}

/// Gives an invitation. `url` is the server's public address.
///
/// # Errors
/// When it gives more than the caller has, or makes no sense.
pub async fn create_invitation(
    app: &App,
    caller: &Caller,
    new: NewInvitation,
    url: &str,
) -> Result<Invited, Problem> {
    if new.role == Role::Owner && caller.role != Role::Owner {
        return Err(Problem::not_allowed("only an owner invites an owner")
            .at("role")
            .with_next("Invite as `admin`, `member` or `viewer`."));
    }
    let email = new.email.as_deref().map(address).transpose()?;
    let uses = match (new.uses, &email) {
        (Some(n), Some(_)) if n > 1 => {
            let detail = "an invitation for one mail address is used once";
            return Err(Problem::invalid("uses", detail));
        }
        (Some(n), _) if !(1..=INVITATION_USES_MAX).contains(&n) => {
            let detail = format!("{n} is not between 1 and {INVITATION_USES_MAX}");
            return Err(Problem::invalid("uses", detail));
        }
        (uses, _) => uses.unwrap_or(1),
    };
    let seconds = new.expires_in.unwrap_or(INVITATION_TIME);
    if !(1..=INVITATION_TIME_MAX).contains(&seconds) {
        let detail =
            format!("{seconds} s is not between 1 s and {INVITATION_TIME_MAX} s (90 days)");
        return Err(Problem::invalid("expires_in", detail));
    }
    if new.mail == Some(true) && app.mail.is_none() {
        let detail = "this server can't send mail: nothing in its settings says how";
        return Err(Problem::invalid("mail", detail)
            .with_next("Give the link to whom it is for, or have [mail] set in boatyard.toml."));
    }
    if new.mail == Some(true) && email.is_none() {
        let detail = "there is no address to send the invitation to";
        return Err(Problem::invalid("email", detail).with_next("Say whom it is for."));
    }
    let expires = app.store.now().after(Duration::from_secs(seconds));
    let mut random = [0; CODE_BYTES];
    rand::Rng::fill_bytes(&mut rand::rng(), &mut random);
    let code = format!("{INVITATION_PREFIX}{}", crate::hex(&random));
    if let Some(email) = &email {
        audit::note("email", email);
    }
    let id = InvitationId::new();
    let stored = boatyard_store::NewInvitation {
        id,
        owner: caller.owner,
        hash: auth::hash_of(&code),
        role: new.role,
        email: email.clone(),
        uses,
        expires,
    };
    let write = app.store.write(move |tx| Box::pin(tx.create_invitation(stored)));
    let row = write.await.map_err(store_problem)?;
    let url = format!("{url}/invite?code={code}");
    let mail = app.mail.as_ref().filter(|_| new.mail != Some(false));
    let mail_failed = match (mail, &email) {
        (Some(mail), Some(email)) => match send(app, caller, mail, email, &row, &url).await? {
            Sent::Yes(row) => {
                let invitation = shown(row, app.store.now());
                return Ok(Invited { invitation, url: None, code: None, mail_failed: None });
            }
            Sent::No(why) => Some(why),
        },
        _ => None,
    };
    let invitation = shown(row, app.store.now());
    Ok(Invited { invitation, url: Some(url), code: Some(code), mail_failed })
}

/// What became of an invitation's mail.
enum Sent {
    /// It went out.
    Yes(InvitationRow),
    /// Why it did not.
    No(String),
}

/// Sends an invitation to whom it is for.
async fn send(
    app: &App,
    caller: &Caller,
    mail: &Mail,
    email: &str,
    row: &InvitationRow,
    url: &str,
) -> Result<Sent, Problem> {
    let organization = caller.owner.organization;
    let name = app.store.organization(organization).await.map_err(store_problem)?.name;
    let days = row.expires.since(app.store.now()).as_secs() / (24 * 3600);
    let until = match days {
        0 => "less than a day".to_owned(),
        1 => "one day".to_owned(),
        days => format!("{days} days"),
    };
    let text = format!(
        "{by} invites you to {name} on Boatyard, as {role}.\n\n\
         Open this to join; it is for you alone and good for {until}:\n\n{url}\n\n\
         If you don't know what this is about, there is nothing that you need to do.\n",
        by = caller.name,
        role = row.role,
    );
    if let Err(error) = mail.send(email, &format!("An invitation to {name}"), text).await {
        let why = crate::chain(&error);
        tracing::warn!(error = why, "an invitation was not mailed");
        return Ok(Sent::No(why));
    }
    let id = row.id;
    let write = app.store.write(move |tx| Box::pin(async move { tx.invitation_mailed(id).await }));
    write.await.map_err(store_problem)?;
    let row = app.store.invitation(organization, id).await.map_err(store_problem)?;
    Ok(Sent::Yes(row))
}

/// Withdraws an invitation.
///
/// # Errors
/// When there is none.
pub async fn withdraw_invitation(
    app: &App,
    caller: &Caller,
    id: InvitationId,
) -> Result<(), Problem> {
    let organization = caller.owner.organization;
    let write = app
        .store
        .write(move |tx| Box::pin(async move { tx.revoke_invitation(organization, id).await }));
    write.await.map_err(store_problem)
}

/// What an invitation is to, for whoever has its code.
///
/// # Errors
/// When the code is of none, or the invitation can't be used any more, with the reason.
pub async fn preview_invitation(
    app: &App,
    code: &InvitationCode,
) -> Result<InvitationPreview, Problem> {
    let row = match well_formed(&code.code) {
        true => app.store.invitation_by_hash(&auth::hash_of(&code.code)).await,
        false => Ok(None),
    };
    let row = row.map_err(store_problem)?.ok_or_else(|| unknown("query.code"))?;
    if let Some(why) = row.refusal(app.store.now()) {
        return Err(refused(why, "query.code"));
    }
    let organization = app.store.organization(row.owner.organization).await;
    let organization = organization.map_err(|_| unknown("query.code"))?;
    let by = app.store.member(organization.id, row.owner.member).await.map_err(store_problem)?;
    Ok(InvitationPreview {
        organization: organization.id,
        organization_name: organization.name,
        role: row.role,
        email: row.email,
        invited_by: by.name,
        expires: row.expires,
    })
}

/// Uses an invitation: the caller is a member of its organization then.
///
/// # Errors
/// When the code is of none, the invitation can't be used any more or is for somebody else, or the
/// caller is no person.
pub async fn accept_invitation(
    app: &App,
    caller: &Caller,
    code: InvitationCode,
) -> Result<Joined, Problem> {
    let Some(person) = caller.person else {
        return Err(Problem::not_allowed("an invitation is for a person, and this key has none")
            .with_next("Sign in, and open the link."));
    };
    if !well_formed(&code.code) {
        return Err(unknown("code"));
    }
    let hash = auth::hash_of(&code.code);
    if let Some(row) = app.store.invitation_by_hash(&hash).await.map_err(store_problem)? {
        audit::concerns(Some(row.owner.organization));
        audit::note("invitation", row.id);
    }
    let write = app
        .store
        .write(move |tx| Box::pin(async move { tx.accept_invitation(&hash, person).await }));
    let member = write.await.map_err(|error| invitation_problem(error, "code"))?;
    let organization = app.store.organization(member.organization).await.map_err(store_problem)?;
    Ok(Joined {
        organization: organization.id,
        organization_name: organization.name,
        member: member.id,
        role: member.role,
    })
}

/// What the store says to the use of an invitation, as it is told to who has the code.
pub(crate) fn invitation_problem(error: Error, field: &str) -> Problem {
    match error {
        Error::NotFound { kind: "invitation" | "organization", .. } => unknown(field),
        Error::Refused { detail } => refused(detail, field),
        error => store_problem(error),
    }
}

/// A mail address as it is kept: in small letters.
fn address(text: &str) -> Result<String, Problem> {
    let wrong = |detail: &str| Err(Problem::invalid("email", detail));
    let text = text.trim().to_lowercase();
    let Some((local, domain)) = text.rsplit_once('@') else {
        return wrong("a mail address has an @");
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || "<>,;:\"()[]\\".contains(c);
    if local.is_empty() || domain.is_empty() || text.len() > EMAIL_MAX || text.contains(is_odd) {
        return wrong("this is no mail address");
    }
    Ok(text)
}

/// Whether a text may be a code at all.
pub(crate) fn well_formed(code: &str) -> bool {
    code.starts_with(INVITATION_PREFIX) && code.len() <= CODE_MAX
}

/// That a code is none.
pub(crate) fn unknown(field: &str) -> Problem {
    Problem::not_found("invitation", "with this code")
        .at(field)
        .with_next("Copy the whole link, or ask for another invitation.")
}

fn refused(why: String, field: &str) -> Problem {
    Problem::conflict(why).at(field).with_next("Ask who invited you for another one.")
}

fn shown(row: InvitationRow, now: Timestamp) -> Invitation {
    let state = match row.state(now) {
        boatyard_store::InvitationState::Open => InvitationState::Open,
        boatyard_store::InvitationState::Spent => InvitationState::Spent,
        boatyard_store::InvitationState::Expired => InvitationState::Expired,
        boatyard_store::InvitationState::Withdrawn => InvitationState::Withdrawn,
    };
    Invitation {
        id: row.id,
        role: row.role,
        email: row.email,
        state,
        uses: row.uses,
        used: row.used,
        by: row.owner.member,
        created: row.created,
        expires: row.expires,
        withdrawn: row.revoked,
        mailed: row.mailed,
    }
}
