//! Providers: set up, changed, tried, removed. Their secrets come in and never go out.

use boatyard_api::{
    Problem,
    sign_in::{
        NewSignInProvider, ProviderSettings, SetBy, SignInProvider, SignInProviderCheck,
        SignInProviderUpdate,
    },
};
use boatyard_store::{audit, identities::NewSignInProvider as NewRow};

use super::{keep_a_way_in, left, store_problem};
use crate::{
    app::App,
    auth::{
        Auth, Caller,
        providers::{
            PROVIDERS_MAX, Provider,
            spec::{self, Place},
        },
    },
    operations::connections::vault_problem,
};

/// The longest secret, in bytes.
const SECRET_MAX: usize = 4096;

/// All providers, by name.
pub fn list_sign_in_providers(app: &App) -> Vec<SignInProvider> {
    app.sign_in.providers().iter().map(|provider| shown(app, provider)).collect()
}

/// A provider.
///
/// # Errors
/// When there is none of this name.
pub fn find_sign_in_provider(app: &App, name: &str) -> Result<SignInProvider, Problem> {
    let provider = app.sign_in.provider(name).ok_or_else(|| unknown(name))?;
    Ok(shown(app, &provider))
}

fn unknown(name: &str) -> Problem {
    let shown: String = name.chars().take(60).collect();
    Problem::not_found("provider", shown)
}

fn shown(app: &App, provider: &Provider) -> SignInProvider {
    let mut warnings = Vec::new();
    if let Some(why) = provider.locked() {
        warnings.push(format!("Nobody can sign in by it: {why}."));
    }
    SignInProvider {
        name: provider.name.clone(),
        settings: provider.settings.clone(),
        issuer: provider.issuer.clone(),
        label: provider.label.clone(),
        callback: app.sign_in.callback(&provider.name),
        set_by: provider.set_by,
        warnings,
    }
}

fn compiled(name: &str, settings: &ProviderSettings) -> Result<(), Problem> {
    match spec::compile(name, settings) {
        Ok(_) => Ok(()),
        Err(("name", reason)) => Err(Problem::invalid("name", reason)),
        Err((field, reason)) => Err(Problem::invalid(format!("settings.{field}"), reason)),
    }
}

fn checked_secret(secret: &str) -> Result<(), Problem> {
    let wrong = |detail: &str| Err(Problem::invalid("client_secret", detail));
    match secret {
        "" => wrong("it is empty"),
        long if long.len() > SECRET_MAX => wrong("it is longer than 4 KiB"),
        text if text.chars().any(char::is_control) => wrong("it has several lines"),
        _ => Ok(()),
    }
}

/// Sets a provider up.
///
/// # Errors
/// When its settings make no sense, or its name is taken.
pub async fn create_sign_in_provider(
    app: &App,
    caller: &Caller,
    new: NewSignInProvider,
) -> Result<SignInProvider, Problem> {
    compiled(&new.name, &new.settings)?;
    let secret = new.client_secret.into_inner();
    let secret = secret.trim();
    checked_secret(secret)?;
    let there = app.sign_in.providers();
    if there.len() >= PROVIDERS_MAX {
        let detail = format!("there are {PROVIDERS_MAX} providers, as many as may be");
        return Err(Problem::conflict(detail));
    }
    if there.iter().any(|provider| provider.name == new.name) {
        let detail = format!("there is a provider `{}` already", new.name);
        return Err(Problem::already_exists(detail)
            .at("name")
            .with_next("Choose another name, or change that one."));
    }
    put(app, caller, &new.name, &new.settings, Some(secret)).await
}

/// The provider of this name, if it may be changed here.
fn changeable(app: &App, name: &str) -> Result<std::sync::Arc<Provider>, Problem> {
    let provider = app.sign_in.provider(name).ok_or_else(|| unknown(name))?;
    if provider.set_by == SetBy::File {
        let detail = format!("`{name}` stands in the settings file as [sign_in.providers.{name}]");
        return Err(
            Problem::conflict(detail).with_next("Change it there and start the server again.")
        );
    }
    Ok(provider)
}

/// Changes a provider.
///
/// # Errors
/// When there is none, it stands in the settings file, its settings make no sense, or nobody who
/// runs the server could sign in any more.
pub async fn change_sign_in_provider(
    app: &App,
    auth: &Auth,
    caller: &Caller,
    name: &str,
    update: SignInProviderUpdate,
) -> Result<SignInProvider, Problem> {
    let before = changeable(app, name)?;
    compiled(name, &update.settings)?;
    let secret = update.client_secret.map(boatyard_api::connection::SecretText::into_inner);
    let secret = secret.as_ref().map(|secret| secret.trim());
    secret.map_or(Ok(()), checked_secret)?;
    let after = spec::compile(name, &update.settings);
    let moved = after.is_ok_and(|after| after.issuer != before.issuer);
    if before.settings.enabled && (moved || !update.settings.enabled) {
        keep_a_way_in(app, auth, &left(app, &auth.ways(), Some(name))).await?;
    }
    if moved && secret.is_none() {
        let detail = "a secret is for one provider: give the one of the new address";
        return Err(Problem::invalid("client_secret", detail));
    }
    put(app, caller, name, &update.settings, secret).await
}

async fn put(
    app: &App,
    caller: &Caller,
    name: &str,
    settings: &ProviderSettings,
    secret: Option<&str>,
) -> Result<SignInProvider, Problem> {
    let (sealed, sealed_by) = match secret {
        Some(secret) => {
            let sealed = app.sign_in.seal(name, secret).map_err(vault_problem)?;
            (sealed.text, sealed.by)
        }
        None => {
            let rows = app.store.sign_in_providers().await.map_err(store_problem)?;
            let row = rows.into_iter().find(|row| row.name == name);
            row.map(|row| (row.sealed, row.sealed_by)).ok_or_else(|| unknown(name))?
        }
    };
    audit::note("provider", name);
    audit::note("kind", settings.kind.as_str());
    audit::note("enabled", settings.enabled);
    audit::note("trust_email", settings.trust_email);
    if !settings.groups.is_empty() {
        audit::note("groups", settings.groups.join(", "));
    }
    let new = NewRow {
        owner: caller.owner,
        name: name.to_owned(),
        settings: serde_json::to_string(settings).map_err(Problem::internal)?,
        sealed,
        sealed_by,
    };
    let write = app.store.write(move |tx| Box::pin(tx.put_sign_in_provider(new)));
    write.await.map_err(store_problem)?;
    app.sign_in.read().await.map_err(store_problem)?;
    find_sign_in_provider(app, name)
}

/// Removes a provider: nobody signs in by it any more. The accounts that were linked stay linked,
/// for one that is set up at the same address.
///
/// # Errors
/// When there is none, it stands in the settings file, or nobody who runs the server could sign in
/// any more.
pub async fn remove_sign_in_provider(app: &App, auth: &Auth, name: &str) -> Result<(), Problem> {
    changeable(app, name)?;
    keep_a_way_in(app, auth, &left(app, &auth.ways(), Some(name))).await?;
    let name = name.to_owned();
    let write =
        app.store.write(move |tx| Box::pin(async move { tx.remove_sign_in_provider(&name).await }));
    write.await.map_err(store_problem)?;
    app.sign_in.read().await.map_err(store_problem)
}

/// Asks a provider, as far as that goes without anybody signing in.
///
/// # Errors
/// When there is none.
pub async fn check_sign_in_provider(app: &App, name: &str) -> Result<SignInProviderCheck, Problem> {
    let provider = app.sign_in.provider(name).ok_or_else(|| unknown(name))?;
    let callback = app.sign_in.callback(name);
    let told = format!("It must lead people back to {callback}, exactly.");
    if let Some(why) = provider.locked() {
        let findings = vec![format!("Its secret can't be used: {why}.")];
        return Ok(SignInProviderCheck { good: false, findings });
    }
    Ok(match app.sign_in.check(&provider).await {
        Ok(mut findings) => {
            findings.push(told);
            let there = app.store.organizations().await.map_err(store_problem)?;
            let lost = provider.grants.iter().filter(|grant| match &grant.organization {
                Place::First => false,
                Place::Id(id) => there.iter().all(|row| row.id != *id),
                Place::Named(name) => there.iter().all(|row| row.name != *name),
            });
            let before = findings.len();
            findings.extend(lost.map(|grant| {
                let (group, role) = (&grant.group, grant.role);
                format!("The group `{group}` is to be {role} in an organization that is not there.")
            }));
            SignInProviderCheck { good: findings.len() == before, findings }
        }
        Err(fault) => {
            let findings = vec![format!("{}: {fault}.", provider.issuer)];
            SignInProviderCheck { good: false, findings }
        }
    })
}
