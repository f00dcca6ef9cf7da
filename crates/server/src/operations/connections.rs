//! Connections: made, looked at, given other values, removed. Their values come in and never go out.

use boatyard_api::{
    Problem,
    connection::{
        Connection, ConnectionBinding, ConnectionCheck, ConnectionScope, ConnectionState,
        NewConnection, Rekey, Rekeyed, RotateConnection,
    },
};
use boatyard_egress::rules::HostPattern;
use boatyard_model::{ConnectionId, Role, Timestamp};
use boatyard_store::{ConnectionRow, RulePlace};

use super::{own, store_problem};
use crate::{
    app::App,
    auth::Caller,
    connections::{kinds, spec},
    vault,
};

/// The most connections of an organization.
const MOST: usize = 1000;

/// All connections, by name.
///
/// # Errors
/// When they can't be read.
pub async fn list_connections(app: &App, caller: &Caller) -> Result<Vec<Connection>, Problem> {
    let rows = app.store.list_connections(caller.owner.organization).await;
    let rows = rows.map_err(store_problem)?;
    let mut list = Vec::with_capacity(rows.len());
    for row in rows.into_iter().filter(|row| sees(caller, row)) {
        list.push(shown(app, row).await?);
    }
    Ok(list)
}

/// A connection.
///
/// # Errors
/// When there is none.
pub async fn find_connection(
    app: &App,
    caller: &Caller,
    id: ConnectionId,
) -> Result<Connection, Problem> {
    shown(app, find(app, caller, id).await?).await
}

/// Makes a connection.
///
/// # Errors
/// When it is bound to nothing or to everything, its value can't be one, or its name or a variable
/// of it is taken.
pub async fn create_connection(
    app: &App,
    caller: &Caller,
    new: NewConnection,
) -> Result<Connection, Problem> {
    let kind = spec::wanted_kind(&new.kind)?;
    let name = spec::name(&new)?;
    let binding = spec::binding(&new, kind)?;
    let compiled = spec::compile(&name, &binding)?;
    let expires = future(app, new.expires)?;
    let personal = new.scope == ConnectionScope::Person;
    if !personal {
        for_all(caller)?;
    }
    let provider = provider(app, &new, kind)?;
    let value = spec::value(new.value, &compiled.places)?;
    let there = app.store.list_connections(caller.owner.organization).await;
    let there = there.map_err(store_problem)?;
    if there.len() >= MOST {
        return Err(Problem::conflict(format!("there are {MOST} connections, as many as may be")));
    }
    // What others have of their own is no matter here.
    let beside: Vec<ConnectionRow> = there
        .into_iter()
        .filter(|row| row.personal == personal && (!personal || row.owner == caller.owner))
        .collect();
    if beside.iter().any(|row| row.name == name) {
        return Err(taken(&name));
    }
    if let Some(other) = beside.iter().find(|row| provider.is_some() && row.provider == provider) {
        let detail = format!("your connection `{}` is for that provider already", other.name);
        return Err(Problem::already_exists(detail)
            .at("provider")
            .with_next("Give that one a new value with `boatyard connection rotate`."));
    }
    free_variables(&beside, &binding)?;
    let id = ConnectionId::new();
    let sealed = app.connections.seal(id, caller.owner.organization, &value);
    let sealed = sealed.map_err(vault_problem)?;
    let new = boatyard_store::NewConnection {
        id,
        owner: caller.owner,
        name: name.clone(),
        kind: kind.name.to_owned(),
        binding: serde_json::to_string(&binding).map_err(Problem::internal)?,
        sealed: sealed.text,
        sealed_by: sealed.by,
        expires,
        personal,
        provider,
    };
    let write = app.store.write(move |tx| Box::pin(tx.create_connection(new)));
    let row = write.await.map_err(|error| match error {
        // Somebody was faster.
        boatyard_store::Error::IllegalState { .. } => taken(&name),
        error => store_problem(error),
    })?;
    changed(app, caller).await?;
    shown(app, row).await
}

/// Whether the caller sees it: others' own are nobody else's.
fn sees(caller: &Caller, row: &ConnectionRow) -> bool {
    !row.personal || row.owner.member == caller.owner.member
}

/// Refuses who may not decide for the organization.
fn for_all(caller: &Caller) -> Result<(), Problem> {
    match caller.role >= Role::Admin {
        true => Ok(()),
        false => {
            Err(Problem::not_allowed("connections of the organization are for its administrators")
                .with_next("Make it your own, for your workspaces alone: `--mine`."))
        }
    }
}

/// The provider of models that a person's own is for.
fn provider(app: &App, new: &NewConnection, kind: &kinds::Kind) -> Result<Option<String>, Problem> {
    let is_personal = new.scope == ConnectionScope::Person;
    let known = || {
        let known: Vec<&str> = crate::providers::names(&app.settings).collect();
        format!("It is one of {}.", known.join(", "))
    };
    match &new.provider {
        None if is_personal && kind.name == "model" => {
            Err(Problem::invalid("provider", "say which provider you pay by it").with_next(known()))
        }
        None => Ok(None),
        Some(_) if !is_personal || kind.name != "model" => {
            let detail = "only a person's own connection of the kind `model` is for a provider";
            Err(Problem::invalid("provider", detail).with_next(
                "The organization's is named as `connection` in [providers.NAME] of boatyard.toml.",
            ))
        }
        Some(name) if !crate::providers::names(&app.settings).any(|known| known == name) => {
            let detail = format!("there is no model provider `{name}`");
            Err(Problem::invalid("provider", detail).with_next(known()))
        }
        Some(name) => Ok(Some(name.clone())),
    }
}

fn taken(name: &str) -> Problem {
    Problem::already_exists(format!("there is a connection `{name}` already")).at("name").with_next(
        "Choose another name, or give that one a new value with `boatyard connection rotate`.",
    )
}

/// A variable names one credential.
fn free_variables(there: &[ConnectionRow], binding: &ConnectionBinding) -> Result<(), Problem> {
    for row in there {
        let Ok(other) = serde_json::from_str::<ConnectionBinding>(&row.binding) else { continue };
        let both = binding.variables.iter().find(|name| other.variables.contains(name));
        if let Some(name) = both {
            let detail = format!("the variable {name} is the connection `{}`'s", row.name);
            return Err(Problem::already_exists(detail)
                .at("binding.variables")
                .with_next("Name another variable with --env, or remove that connection."));
        }
    }
    Ok(())
}

/// Gives a connection another value. Its placeholders stay.
///
/// # Errors
/// When there is none, or the value can't be one.
pub async fn rotate_connection(
    app: &App,
    caller: &Caller,
    id: ConnectionId,
    request: RotateConnection,
) -> Result<Connection, Problem> {
    let row = managed(app, caller, id).await?;
    let binding = binding_of(&row)?;
    let compiled = spec::compile(&row.name, &binding)?;
    let expires = future(app, request.expires)?;
    let value = spec::value(request.value, &compiled.places)?;
    let sealed = app.connections.seal(id, row.owner.organization, &value);
    let sealed = sealed.map_err(vault_problem)?;
    let write = app
        .store
        .write(move |tx| Box::pin(tx.rotate_connection(id, sealed.text, sealed.by, expires)));
    let row = write.await.map_err(store_problem)?;
    changed(app, caller).await?;
    shown(app, row).await
}

/// Removes a connection: its value is gone at once, and requests that still use it are refused.
///
/// # Errors
/// When there is none.
pub async fn remove_connection(
    app: &App,
    caller: &Caller,
    id: ConnectionId,
) -> Result<(), Problem> {
    managed(app, caller, id).await?;
    let write = app.store.write(move |tx| Box::pin(tx.remove_connection(id)));
    write.await.map_err(store_problem)?;
    changed(app, caller).await
}

/// Looks whether a connection works: whether its value opens, whether its hosts may be reached, and
/// what its service says to it where Boatyard knows how to ask.
///
/// # Errors
/// When there is none.
pub async fn check_connection(
    app: &App,
    caller: &Caller,
    id: ConnectionId,
) -> Result<ConnectionCheck, Problem> {
    let row = managed(app, caller, id).await?;
    let mut findings = warnings(app, &row).await?;
    let value = match app.connections.value(id) {
        Ok(value) => value,
        Err(withheld) => {
            findings.insert(0, format!("{}. {}", capital(&withheld.why), withheld.mend));
            return Ok(ConnectionCheck { good: false, findings });
        }
    };
    findings.insert(0, "Its value can be opened.".to_owned());
    let binding = binding_of(&row)?;
    let mut good = true;
    match crate::connections::asked(app, &row, &binding, value).await {
        None => findings.push(
            "Boatyard does not know how to ask its service whether it knows the value.".to_owned(),
        ),
        Some(Ok(text)) => findings.push(text),
        Some(Err(text)) => {
            good = false;
            findings.push(text);
        }
    }
    Ok(ConnectionCheck { good, findings })
}

/// Changes keys of the vault, while everything goes on.
///
/// # Errors
/// When there is no other master key, or the vault is locked.
pub async fn rekey(app: &App, _: &Caller, request: Rekey) -> Result<Rekeyed, Problem> {
    let vault = app.connections.vault();
    let mut done = Rekeyed::default();
    if !(request.data || request.master || request.forget) {
        return Err(Problem::invalid("data", "say which keys to change: data, master, or forget"));
    }
    if request.forget {
        vault.begin_anew().await.map_err(vault_problem)?;
    }
    if request.master {
        let changed = vault.change_master().await.map_err(vault_problem)?;
        done.rewrapped = changed.rewrapped as u64;
        done.master = Some(changed.master);
    }
    if request.data {
        vault.renew().await.map_err(vault_problem)?;
        done.sealed = app.connections.reseal().await.map_err(vault_problem)?;
        done.sealed += app.sign_in.reseal().await.map_err(vault_problem)?;
        vault.forget_unused().await.map_err(vault_problem)?;
    }
    app.sign_in.read().await.map_err(store_problem)?;
    let every = app.connections.organizations();
    for organization in every {
        app.connections.changed(organization).await.map_err(store_problem)?;
    }
    Ok(done)
}

async fn find(app: &App, caller: &Caller, id: ConnectionId) -> Result<ConnectionRow, Problem> {
    let row = app.store.connection(id).await.map_err(store_problem)?;
    own(caller, row.owner, "connection", id)?;
    match sees(caller, &row) {
        true => Ok(row),
        false => Err(Problem::not_found("connection", id)),
    }
}

/// One that the caller may change: an own one, or the organization's for an administrator.
async fn managed(app: &App, caller: &Caller, id: ConnectionId) -> Result<ConnectionRow, Problem> {
    let row = find(app, caller, id).await?;
    if !row.personal {
        for_all(caller)?;
    }
    Ok(row)
}

async fn changed(app: &App, caller: &Caller) -> Result<(), Problem> {
    app.connections.changed(caller.owner.organization).await.map_err(store_problem)
}

fn future(app: &App, expires: Option<Timestamp>) -> Result<Option<Timestamp>, Problem> {
    match expires {
        Some(at) if at <= app.store.now() => {
            Err(Problem::invalid("expires", format!("{at} is over already")))
        }
        expires => Ok(expires),
    }
}

fn binding_of(row: &ConnectionRow) -> Result<ConnectionBinding, Problem> {
    serde_json::from_str(&row.binding).map_err(Problem::internal)
}

pub(super) fn vault_problem(error: vault::Error) -> Problem {
    match &error {
        vault::Error::Locked(_) => Problem::unavailable(error.to_string()),
        vault::Error::Same(_) | vault::Error::Damaged => Problem::conflict(error.to_string()),
        vault::Error::Master(_) | vault::Error::Unwritable(_) => Problem::conflict(crate::chain(
            &error,
        ))
        .with_next(
            "The server reads it with the rights of its own account; start the server again where \
                 that may not.",
        ),
        vault::Error::Store(_) => Problem::internal(error),
    }
}

async fn shown(app: &App, row: ConnectionRow) -> Result<Connection, Problem> {
    let warnings = warnings(app, &row).await?;
    let is_over = row.expires.is_some_and(|expires| expires <= app.store.now());
    let state = match app.connections.value(row.id) {
        _ if is_over => ConnectionState::Expired,
        Ok(_) => ConnectionState::Active,
        Err(_) => ConnectionState::Locked,
    };
    Ok(Connection {
        id: row.id,
        binding: binding_of(&row)?,
        name: row.name,
        kind: row.kind,
        scope: match row.personal {
            true => ConnectionScope::Person,
            false => ConnectionScope::Organization,
        },
        provider: row.provider,
        state,
        created: row.created,
        rotated: row.rotated,
        expires: row.expires,
        last_used: row.last_used,
        last_refused: row.last_refused,
        warnings,
    })
}

/// What keeps a connection from being used, or is odd.
async fn warnings(app: &App, row: &ConnectionRow) -> Result<Vec<String>, Problem> {
    let mut warnings = Vec::new();
    let organization = row.owner.organization;
    let policies = app.hub.policies();
    let rules = policies.rules_for(organization, [RulePlace::Organization]).await;
    let rules = rules.map_err(store_problem)?;
    let binding = binding_of(row)?;
    for host in &binding.hosts {
        let Ok(pattern) = host.parse::<HostPattern>() else { continue };
        let touches = |rule: &HostPattern| rule.covers(&pattern) || pattern.covers(rule);
        if !rules.rules().any(|rule| touches(&rule.host)) {
            warnings.push(format!(
                "No rule of the organization lets a request reach {host}: `boatyard egress allow \
                 {host}` does."
            ));
        }
    }
    if row.last_refused.is_some_and(|refused| refused >= row.rotated) {
        warnings
            .push("Its service answered last that it does not know the value (401).".to_owned());
    }
    if kinds::kind(&row.kind).is_none() {
        warnings.push(format!("This release does not know the kind `{}`.", row.kind));
    }
    Ok(warnings)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
