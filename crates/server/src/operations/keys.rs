//! API keys: made, looked at, revoked; and what was called with them.
//!
//! A key can do what its member may do, and of that what it is for. Nobody makes a key that can do
//! more, or lasts longer, than what it was made with.

use boatyard_api::{
    Cursor, Problem,
    key::{
        ApiKey, ApiKeyFilter, ApiKeyList, KeyCall, KeyCallFilter, KeyCallPage, KeysOf, MadeApiKey,
        NewApiKey,
    },
    page::limit,
};
use boatyard_model::{KeyId, KeyKind, Role, Scopes, Timestamp};
use boatyard_store::{KeyCallRow, NewKey, Owner, SeenKeyRow, audit};

use super::store_problem;
use crate::{
    app::App,
    auth::{Caller, Via, new_key},
};

/// The most keys of a member that work.
const MEMBER_MAX: u64 = 100;
/// The most keys of an organization that work.
const ORGANIZATION_MAX: u64 = 2000;
/// The most keys in a list.
const LISTED: u32 = 2000;
/// The longest name, in characters.
pub(super) const NAME_MAX: usize = 80;
/// Characters of a secret that may be shown, to recognize it by: the prefix and four more.
const SHOWN: usize = 7;

/// Keys, those that work first.
///
/// # Errors
/// When the caller may not see those that it asks for.
pub async fn list_keys(
    app: &App,
    caller: &Caller,
    filter: ApiKeyFilter,
) -> Result<ApiKeyList, Problem> {
    let member = match filter.of {
        KeysOf::Own => Some(caller.owner.member),
        KeysOf::Organization => {
            require(caller, Role::Admin, "query.of")?;
            None
        }
    };
    let organization = caller.owner.organization;
    let rows = app.store.keys_of(organization, member, filter.all, LISTED).await;
    let rows = rows.map_err(store_problem)?;
    Ok(ApiKeyList { items: rows.into_iter().map(|row| shown(caller, row)).collect() })
}

/// A key.
///
/// # Errors
/// When there is none that the caller may see.
pub async fn find_key(app: &App, caller: &Caller, id: KeyId) -> Result<ApiKey, Problem> {
    Ok(shown(caller, find(app, caller, id).await?))
}

/// Makes a key. Its secret is in the answer and nowhere else.
///
/// # Errors
/// When it would do more, or last longer, than what it is made with; when there are too many.
pub async fn create_key(app: &App, caller: &Caller, new: NewApiKey) -> Result<MadeApiKey, Problem> {
    let name = checked_name(&new.name).map_err(|detail| Problem::invalid("name", detail))?;
    let scopes = new.scopes.unwrap_or(caller.scopes);
    if scopes.is_empty() {
        return Err(Problem::invalid("scopes", "a key that is for nothing is of no use"));
    }
    if !caller.scopes.cover(scopes) {
        return Err(Problem::not_allowed(format!(
            "a key can't be for more than what it is made with, which is for {}",
            caller.scopes
        ))
        .at("scopes")
        .with_next("Leave scopes out, or make the key in a browser in which you are signed in."));
    }
    let expires = until(app, caller, new.expires).await?;
    if let Some(role) = new.service {
        require(caller, Role::Admin, "service")?;
        if role == Role::Owner {
            let detail = "an owner is a person, and not a key of the organization's";
            return Err(Problem::invalid("service", detail));
        }
    } else if caller.person.is_none() {
        return Err(Problem::not_allowed("there is no person behind this key to make one for")
            .at("service")
            .with_next("Say `service` with a role to make a key of the organization's."));
    }
    let (secret, hash) = new_key();
    let mut made = NewKey {
        owner: caller.owner,
        kind: if new.service.is_some() { KeyKind::Service } else { KeyKind::Personal },
        name,
        prefix: prefix_of(&secret),
        hash,
        scopes,
        expires,
    };
    audit::note("name", &made.name);
    audit::note("prefix", &made.prefix);
    audit::note("scopes", made.scopes);
    if let Some(expires) = made.expires {
        audit::note("expires", expires);
    }
    let service = new.service;
    if let Some(role) = service {
        audit::note("service", role);
    }
    let write = app.store.write(move |tx| {
        Box::pin(async move {
            let (all, own) = tx.count_keys(made.owner).await?;
            if all >= ORGANIZATION_MAX || (service.is_none() && own >= MEMBER_MAX) {
                return Ok(None);
            }
            if let Some(role) = service {
                let organization = made.owner.organization;
                let member = tx.create_service_member(organization, &made.name, role).await?;
                made.owner = Owner { organization, member };
            }
            tx.create_key(made).await.map(Some)
        })
    });
    let id = write.await.map_err(store_problem)?.ok_or_else(|| {
        Problem::conflict(format!(
            "there are as many keys as may be: {MEMBER_MAX} of a person, {ORGANIZATION_MAX} of an \
             organization"
        ))
        .with_next("Revoke one that is not needed; `boatyard key list` tells when each was used.")
    })?;
    let row = app.store.find_seen_key(caller.owner.organization, id).await;
    let row = row.map_err(store_problem)?.ok_or_else(|| Problem::not_found("key", id))?;
    Ok(MadeApiKey { key: shown(caller, row), secret })
}

/// Makes a key cease to work, at once and for good.
///
/// # Errors
/// When there is none that the caller may revoke.
pub async fn revoke_key(app: &App, caller: &Caller, id: KeyId) -> Result<(), Problem> {
    let row = find(app, caller, id).await?;
    if row.kind.is_server_s() && !caller.operator {
        return Err(Problem::not_allowed("this key is the server's own")
            .with_next("Ask one of those who run the server."));
    }
    if row.role.is_some_and(|role| !caller.role.includes(role)) {
        return Err(Problem::not_allowed("this key is somebody's who may do more than you")
            .with_next("Ask an owner of the organization."));
    }
    revoke(app, row.owner, row.kind, id).await
}

/// The key that the caller uses.
///
/// # Errors
/// When it uses none.
pub async fn find_own_key(app: &App, caller: &Caller) -> Result<ApiKey, Problem> {
    Ok(shown(caller, own(app, caller).await?))
}

/// Makes the key that the caller uses cease to work.
///
/// # Errors
/// When it uses none.
pub async fn revoke_own_key(app: &App, caller: &Caller) -> Result<(), Problem> {
    let key = own(app, caller).await?;
    audit::note("id", key.id);
    revoke(app, key.owner, key.kind, key.id).await
}

/// Calls with a key, the newest first.
///
/// # Errors
/// When there is no such key that the caller may see.
pub async fn list_key_calls(
    app: &App,
    caller: &Caller,
    id: KeyId,
    filter: KeyCallFilter,
) -> Result<KeyCallPage, Problem> {
    let limit = limit(filter.limit)?;
    let before = super::tasks::cursor_id(filter.cursor.as_ref())?;
    find(app, caller, id).await?;
    if before.is_none() {
        // Who looks after something ended is to find it.
        app.calls.flush().await;
    }
    let rows = app.store.key_calls(id, before.unwrap_or(u64::MAX), filter.failed, limit).await;
    let rows = rows.map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor =
        rows.last().filter(|_| full).map(|row| Cursor::after(&row.number.to_string()));
    Ok(KeyCallPage { items: rows.into_iter().map(call).collect(), next_cursor })
}

/// What may be shown of a secret.
pub(super) fn prefix_of(secret: &str) -> String {
    secret.chars().take(SHOWN).collect()
}

/// A name for a key, or why it can't be one.
pub(super) fn checked_name(name: &str) -> Result<String, String> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_MAX {
        return Err(format!("expected 1 to {NAME_MAX} characters"));
    }
    if name.chars().any(char::is_control) {
        return Err("a name has no control characters".to_owned());
    }
    Ok(name.to_owned())
}

/// When a key ends that this caller makes: a key makes none that outlives it.
pub(super) async fn until(
    app: &App,
    caller: &Caller,
    wanted: Option<Timestamp>,
) -> Result<Option<Timestamp>, Problem> {
    if let Some(at) = wanted
        && at <= app.store.now()
    {
        return Err(Problem::invalid("expires", format!("{at} is over already")));
    }
    let own = match caller.via {
        Via::Key(own) => Some(own),
        // A browser that was signed in with a key ends with it.
        Via::Device(device) => {
            let device = app.store.find_device(device).await.map_err(store_problem)?;
            device.and_then(|device| device.api_key)
        }
        Via::Guest(_) | Via::Server => None,
    };
    let Some(own) = own else { return Ok(wanted) };
    let row = app.store.find_key(own).await.map_err(store_problem)?;
    let Some(end) = row.and_then(|row| row.expires) else { return Ok(wanted) };
    match wanted {
        Some(at) if at > end => {
            let detail = format!("the key that it is made with ends at {end}");
            Err(Problem::invalid("expires", detail))
        }
        wanted => Ok(wanted.or(Some(end))),
    }
}

async fn revoke(app: &App, owner: Owner, kind: KeyKind, id: KeyId) -> Result<(), Problem> {
    let write = app.store.write(move |tx| {
        Box::pin(async move {
            tx.revoke_devices_of_key(id).await?;
            if kind == KeyKind::Service {
                tx.retire_service_member(owner).await?;
            }
            tx.revoke_key(id).await
        })
    });
    write.await.map_err(store_problem)
}

/// A key of the organization that is the caller's, or that an admin looks at.
async fn find(app: &App, caller: &Caller, id: KeyId) -> Result<SeenKeyRow, Problem> {
    let row = app.store.find_seen_key(caller.owner.organization, id).await;
    row.map_err(store_problem)?
        .filter(|row| row.owner == caller.owner || caller.role.includes(Role::Admin))
        .ok_or_else(|| Problem::not_found("key", id))
}

async fn own(app: &App, caller: &Caller) -> Result<SeenKeyRow, Problem> {
    let id = own_key(caller)?;
    let gone = || Problem::not_found("key", id);
    // That of the machine's own account may speak in another organization than its own.
    let row = app.store.find_any_key(id).await.map_err(store_problem)?.ok_or_else(gone)?;
    let row = app.store.find_seen_key(row.owner.organization, id).await;
    row.map_err(store_problem)?.ok_or_else(gone)
}

fn own_key(caller: &Caller) -> Result<KeyId, Problem> {
    match caller.via {
        Via::Key(id) => Ok(id),
        Via::Device(_) | Via::Guest(_) | Via::Server => {
            Err(Problem::conflict("this is not asked with a key")
                .with_next("Sign out instead; `/api/auth/devices` has the browsers."))
        }
    }
}

fn require(caller: &Caller, role: Role, field: &str) -> Result<(), Problem> {
    if caller.role.includes(role) {
        return Ok(());
    }
    let detail = format!("this needs the role `{role}`; yours is `{}`", caller.role);
    Err(Problem::not_allowed(detail).at(field).with_next("Ask an admin of the organization."))
}

fn shown(caller: &Caller, row: SeenKeyRow) -> ApiKey {
    let current = own_key(caller).is_ok_and(|id| id == row.id);
    ApiKey {
        id: row.id,
        kind: row.kind,
        name: row.name,
        prefix: row.prefix,
        scopes: row.scopes,
        member: row.owner.member,
        member_name: row.member_name,
        role: row.role,
        created: row.created,
        last_used: row.last_used,
        last_address: row.last_address,
        expires: row.expires,
        revoked: row.revoked,
        current,
    }
}

fn call(row: KeyCallRow) -> KeyCall {
    KeyCall {
        number: row.number,
        time: row.time,
        method: row.method,
        path: row.path,
        status: u16::try_from(row.status).unwrap_or_default(),
        address: row.address,
        calls: row.calls,
        micros: row.micros,
    }
}

/// What a key may be for that somebody with these scopes gives away: what was asked for, less what
/// it does not have itself.
pub(super) fn given(asked: Scopes, own: Scopes) -> Scopes {
    asked.shared_with(own)
}
