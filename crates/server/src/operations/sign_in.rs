//! How people sign in: what is switched on, providers, passkeys, accounts at providers.
//!
//! - [`admit`]: from an account at a provider to a person here.
//! - [`accounts`]: one's own accounts at providers.
//! - [`passkeys`]: making, using and removing passkeys.
//! - [`providers`]: setting up providers.
//! - [`travel`]: a browser's way to a provider and back.

use boatyard_api::{
    Problem,
    identity::{ProviderWay, ServerState, SignUp},
    sign_in::{SetBy, SignInSettings, SignInUpdate, Switch},
};
use boatyard_model::PersonId;
use boatyard_store::{Tx, audit, identities::SignInWays};

use super::store_problem;
use crate::{
    app::App,
    auth::{Auth, Caller, StoredWays, Ways, passkeys::place},
    settings::sign_in::is_domain,
};

pub mod accounts;
pub(crate) mod admit;
pub mod passkeys;
pub mod providers;
pub(crate) mod travel;

/// The most allowed domains.
const DOMAINS_MAX: usize = 500;

/// What is switched on, and who said so.
///
/// # Errors
/// When it can't be read.
pub async fn find_sign_in(app: &App, auth: &Auth) -> Result<SignInSettings, Problem> {
    let stored = auth.stored_ways().await.map_err(store_problem)?;
    let (file, ways) = (auth.settings(), auth.ways());
    let passkeys_for = place(app.sign_in.url());
    let mut warnings = Vec::new();
    if let (true, Err(why)) = (ways.passkeys, &passkeys_for) {
        warnings.push(format!("Nobody can sign in by a passkey: {why}."));
    }
    if ways.sign_up == SignUp::Domains && ways.allowed_domains.is_empty() {
        warnings.push("Nobody can sign up: no domain is allowed.".to_owned());
    }
    Ok(SignInSettings {
        password: Switch {
            on: ways.password,
            set_by: set_by(file.password.is_some(), stored.password.is_some()),
        },
        passkeys: Switch {
            on: ways.passkeys,
            set_by: set_by(file.passkeys.is_some(), stored.passkeys.is_some()),
        },
        sign_up: ways.sign_up,
        sign_up_set_by: set_by(file.sign_up.is_some(), stored.sign_up.is_some()),
        allowed_domains: ways.allowed_domains.clone(),
        allowed_domains_set_by: set_by(
            file.allowed_domains.is_some(),
            stored.allowed_domains.is_some(),
        ),
        passkeys_for: passkeys_for.ok(),
        warnings,
    })
}

const fn set_by(file: bool, api: bool) -> SetBy {
    match (file, api) {
        (true, _) => SetBy::File,
        (false, true) => SetBy::Api,
        (false, false) => SetBy::Default,
    }
}

/// Changes what is switched on. What the settings file says can't be changed here, and nobody can
/// switch off what those who run the server need to come in.
///
/// # Errors
/// When it makes no sense, is for the file to say, or would lock everybody out.
pub async fn change_sign_in(
    app: &App,
    auth: &Auth,
    update: SignInUpdate,
) -> Result<SignInSettings, Problem> {
    let file = auth.settings();
    let of_the_file = [
        ("password", file.password.is_some() && update.password.is_some()),
        ("passkeys", file.passkeys.is_some() && update.passkeys.is_some()),
        ("sign_up", file.sign_up.is_some() && update.sign_up.is_some()),
        ("allowed_domains", file.allowed_domains.is_some() && update.allowed_domains.is_some()),
    ];
    if let Some((field, _)) = of_the_file.into_iter().find(|(_, is)| *is) {
        let detail = format!("the settings file says `{field}` in [sign_in], which goes first");
        return Err(Problem::conflict(detail)
            .at(field)
            .with_next("Change it there and start the server again."));
    }
    let mut stored = auth.stored_ways().await.map_err(store_problem)?;
    if let Some(domains) = &update.allowed_domains {
        stored.allowed_domains = Some(allowed(domains)?);
    }
    stored.password = update.password.or(stored.password);
    stored.passkeys = update.passkeys.or(stored.passkeys);
    stored.sign_up = update.sign_up.or(stored.sign_up);
    let wanted = Ways::new(file, &stored);
    keep_a_way_in(app, auth, &left(app, &wanted, None)).await?;
    note(&stored);
    auth.store_ways(stored).await?;
    find_sign_in(app, auth).await
}

fn note(stored: &StoredWays) {
    let on = |on: Option<bool>| on.map_or("by itself", |on| if on { "on" } else { "off" });
    audit::note("password", on(stored.password));
    audit::note("passkeys", on(stored.passkeys));
    if let Some(sign_up) = stored.sign_up {
        audit::note("sign_up", sign_up.as_str());
    }
    if let Some(domains) = &stored.allowed_domains {
        audit::note("allowed_domains", domains.join(" "));
    }
}

fn allowed(domains: &[String]) -> Result<Vec<String>, Problem> {
    if domains.len() > DOMAINS_MAX {
        let detail = format!("there may be {DOMAINS_MAX} domains");
        return Err(Problem::invalid("allowed_domains", detail));
    }
    let mut all = Vec::with_capacity(domains.len());
    for (place, domain) in domains.iter().enumerate() {
        let small = domain.trim().trim_start_matches('@').to_ascii_lowercase();
        if !is_domain(&small) {
            let shown: String = domain.chars().take(100).collect();
            let detail = format!("`{shown}` is no domain, as example.com");
            return Err(Problem::invalid(format!("allowed_domains[{place}]"), detail));
        }
        if !all.contains(&small) {
            all.push(small);
        }
    }
    Ok(all)
}

/// Ways by which people can come in, if these are switched on and the provider `without` is gone.
fn left(app: &App, ways: &Ways, without: Option<&str>) -> SignInWays {
    let providers = app.sign_in.providers();
    let usable = providers
        .iter()
        .filter(|provider| provider.settings.enabled && Some(provider.name.as_str()) != without);
    SignInWays {
        password: ways.password,
        passkeys: ways.passkeys && place(app.sign_in.url()).is_ok(),
        issuers: usable.map(|provider| provider.issuer.clone()).collect(),
    }
}

/// Refuses what would leave nobody who runs the server a way to sign in.
async fn keep_a_way_in(app: &App, auth: &Auth, left: &SignInWays) -> Result<(), Problem> {
    if auth.state() != ServerState::People {
        return Ok(());
    }
    let can = app.store.operators_who_can_sign_in(left).await.map_err(store_problem)?;
    if can > 0 {
        return Ok(());
    }
    let detail = "nobody who runs this server could sign in any more";
    Err(Problem::conflict(detail)
        .with_next("Sign in in the way that is to stay first: set a password, make a passkey, or link a provider."))
}

/// The providers that the page offers.
pub(crate) fn ways_of_providers(app: &App) -> Vec<ProviderWay> {
    let providers = app.sign_in.providers();
    let usable = providers
        .iter()
        .filter(|provider| provider.settings.enabled && provider.locked().is_none());
    usable
        .map(|provider| ProviderWay {
            name: provider.name.clone(),
            label: provider.label.clone(),
            kind: provider.settings.kind.as_str().to_owned(),
        })
        .collect()
}

/// Whether the page offers passkeys.
pub(crate) fn offers_passkeys(app: &App, ways: &Ways) -> bool {
    ways.passkeys && place(app.sign_in.url()).is_ok()
}

/// Who is signed in, in a browser or with a key.
fn person_of(caller: &Caller) -> Result<PersonId, Problem> {
    caller.person.ok_or_else(|| {
        Problem::not_allowed("a key of the organization's own has no account")
            .with_next("Sign in as yourself.")
    })
}

/// What was found in a transaction that must not leave somebody without a way in.
enum Removed {
    Done,
    Last,
}

/// Whether a person can still come in, by what is switched on.
async fn can_come_in(
    tx: &mut Tx,
    person: PersonId,
    left: &SignInWays,
) -> Result<bool, boatyard_store::Error> {
    let Some(row) = tx.find_person(person).await? else { return Ok(false) };
    if left.password && row.password.is_some() {
        return Ok(true);
    }
    if left.passkeys && tx.count_passkeys(person).await? > 0 {
        return Ok(true);
    }
    let accounts = tx.identities_of(person).await?;
    Ok(accounts.iter().any(|account| left.issuers.contains(&account.issuer)))
}

fn last_way() -> Problem {
    Problem::conflict("this is your only way of signing in")
        .with_next("Set a password, make another passkey, or link another account first.")
}
