//! A browser's way to a provider and back.

use boatyard_api::{Problem, identity::ServerState, sign_in::Refusal};
use boatyard_store::audit::{self, Actor};
use http::HeaderMap;

use super::{
    admit::{self, Admitted},
    store_problem,
};
use crate::{
    app::App,
    auth::{
        Auth, Entrance, Known, SignedIn, Via, Visitor,
        cookie::Transport,
        hex,
        providers::{
            Back, Provider,
            flow::{self, Flow, Flows, Linking},
        },
        random,
    },
};

/// The longest code of an invitation, in bytes; ours are below 100.
const INVITATION_MAX: usize = 200;
/// The longest code of a provider, in bytes.
const CODE_MAX: usize = 4096;

/// What a browser wants that sets out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start<'a> {
    /// Where in the page it wants to go in the end.
    pub(crate) next: Option<&'a str>,
    /// The code of an invitation.
    pub(crate) invitation: Option<&'a str>,
    /// Whether the account is to be linked to who is signed in.
    pub(crate) link: bool,
}

/// Where a browser is sent, and what it carries.
pub(crate) struct Sent {
    pub(crate) url: String,
    pub(crate) cookie: String,
}

/// With what a provider sends a browser back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Returned {
    pub(crate) code: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) error: Option<String>,
    /// Who the provider says that it is (RFC 9207).
    pub(crate) issuer: Option<String>,
}

/// A browser that is back.
pub(crate) struct Arrived {
    /// Where in the page it goes.
    pub(crate) next: String,
    /// As whom; none where an account was linked, and nothing else changes.
    pub(crate) signed_in: Option<SignedIn>,
}

/// The provider of this name, if people may sign in by it.
fn usable(app: &App, name: &str) -> Result<std::sync::Arc<Provider>, Refusal> {
    let provider = app.sign_in.provider(name).filter(|provider| provider.settings.enabled);
    provider.ok_or(Refusal::NoProvider)
}

/// Sends a browser to a provider.
///
/// # Errors
/// When that can't be.
pub(crate) async fn set_out(
    app: &App,
    auth: &Auth,
    name: &str,
    start: Start<'_>,
    known: Option<&Known>,
    transport: Transport,
) -> Result<Sent, Refusal> {
    let provider = usable(app, name)?;
    if auth.state() != ServerState::People {
        return Err(Refusal::NotSetUp);
    }
    let link = match (start.link, known.map(|known| &known.caller)) {
        (false, _) => None,
        (true, Some(caller)) => match (caller.person, caller.via) {
            (Some(person), Via::Device(device)) if auth.in_full(caller).await.is_ok() => {
                Some(Linking { person, device })
            }
            _ => return Err(Refusal::NotBegun),
        },
        (true, None) => return Err(Refusal::NotBegun),
    };
    let state = hex(&random::<16>());
    let away =
        app.sign_in.away(&provider, &state).await.map_err(|fault| told(&provider, &fault))?;
    let invitation = start.invitation.filter(|code| code.len() <= INVITATION_MAX);
    let flow = Flow {
        provider: provider.name.clone(),
        state,
        nonce: away.nonce,
        verifier: away.verifier,
        next: flow::next(start.next),
        invitation: invitation.map(str::to_owned),
        link,
        until: Flows::until(app.store.now()),
    };
    let cookie = app.sign_in.flows().set(&flow, transport);
    Ok(Sent { url: away.url.into(), cookie })
}

/// What went wrong at a provider is for the log: the person learns what kind of thing it was.
fn told(provider: &Provider, fault: &crate::auth::providers::fault::Fault) -> Refusal {
    let refusal = fault.refusal();
    let reason = refusal.as_str();
    tracing::warn!(provider = provider.name, reason, "a sign-in came to nothing: {fault}");
    audit::note("reason", fault);
    refusal
}

/// Takes a browser in that comes back from a provider.
///
/// # Errors
/// When the database fails. Whoever is not let in has a [`Refusal`].
pub(crate) async fn arrive(
    app: &App,
    auth: &Auth,
    name: &str,
    back: &Returned,
    headers: &HeaderMap,
    visitor: &Visitor,
) -> Result<Result<Arrived, Refusal>, Problem> {
    audit::note("provider", name);
    let state = back.state.as_deref().unwrap_or_default();
    // First of all whether it is this browser's: whatever else the address says is worth nothing
    // before.
    let Some(flow) = app.sign_in.flows().take(headers, name, state, app.store.now()) else {
        return Ok(Err(Refusal::NotBegun));
    };
    let provider = match usable(app, name) {
        Ok(provider) => provider,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if back.issuer.as_deref().is_some_and(|issuer| issuer != provider.issuer) {
        audit::note("reason", "another provider answered");
        return Ok(Err(Refusal::Nonsense));
    }
    let code = match (&back.error, &back.code) {
        (None, Some(code)) if !code.is_empty() && code.len() <= CODE_MAX => code,
        (Some(error), _) => {
            let shown: String = error.chars().filter(|c| c.is_ascii_graphic()).take(60).collect();
            tracing::info!(provider = name, error = shown, "a provider let somebody not in");
            audit::note("reason", shown);
            return Ok(Err(Refusal::Denied));
        }
        (None, _) => return Ok(Err(Refusal::Nonsense)),
    };
    let back = Back { code, nonce: &flow.nonce, verifier: &flow.verifier };
    let account = match app.sign_in.back(&provider, &back).await {
        Ok(account) => account,
        Err(fault) => return Ok(Err(told(&provider, &fault))),
    };
    if let Some(link) = flow.link
        && !is_signed_in(app, link).await?
    {
        return Ok(Err(Refusal::NotBegun));
    }
    let admitted = admit::admit(app, &auth.ways(), &provider, account, &flow).await?;
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let next = flow.next;
    if flow.link.is_some() {
        name_actor(app, admitted, &provider.name).await?;
        audit::note("linked", admitted.person);
        return Ok(Ok(Arrived { next, signed_in: None }));
    }
    let mut entrance = Entrance::of(admitted.person, &provider.name);
    entrance.organization = admitted.organization;
    let signed_in = auth.enter(entrance, visitor).await?;
    Ok(Ok(Arrived { next, signed_in: Some(signed_in) }))
}

/// Whether the browser that began to link an account is still signed in as the same person.
async fn is_signed_in(app: &App, link: Linking) -> Result<bool, Problem> {
    let device = app.store.find_device(link.device).await.map_err(store_problem)?;
    let now = app.store.now();
    Ok(device.is_some_and(|device| {
        device.person == link.person && device.revoked.is_none() && now < device.expires
    }))
}

/// Says in the audit log who it was.
async fn name_actor(app: &App, admitted: Admitted, way: &str) -> Result<(), Problem> {
    let standings = app.store.list_standings(admitted.person).await.map_err(store_problem)?;
    let wanted = |organization| admitted.organization.is_none_or(|wanted| wanted == organization);
    let Some(standing) = standings.into_iter().find(|one| wanted(one.owner.organization)) else {
        return Ok(());
    };
    audit::name_actor(Actor {
        organization: Some(standing.owner.organization),
        member: Some(standing.owner.member),
        person: Some(admitted.person),
        name: standing.name,
        via: way.to_owned(),
        address: None,
    });
    Ok(())
}
