//! What would become of a request, without making it.

use boatyard_api::{
    Problem,
    egress::{EgressOutcome, EgressTest, EgressVerdict},
};
use boatyard_egress::{
    Policy,
    rules::{Host, Judgement, MethodName, Reason, Target, Verdict, Wish},
};
use boatyard_store::RulePlace;
use http::Method;
use std::sync::Arc;

use super::{argument, places, shown};
use crate::{app::App, auth::Caller, operations::store_problem};

/// The longest address that is tried.
const URL_MAX: usize = 8 * 1024;

/// A request as it was described.
struct Tried {
    target: Target,
    method: Method,
    path: String,
    query: Option<String>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A connection whose inside is not seen.
    Tunnel,
    /// A request over TLS: seen where that is opened.
    Https,
    /// A request that is seen.
    Http,
}

/// Tells what would become of a request, and by which rule of which scope.
///
/// # Errors
/// When the request makes no sense, or there is no such place.
pub async fn test_egress(
    app: &App,
    caller: &Caller,
    place: RulePlace,
    test: EgressTest,
) -> Result<EgressOutcome, Problem> {
    let tried = read(&test)?;
    let places = places(app, caller, place, boatyard_model::Wish::Look).await?;
    let organization = caller.owner.organization;
    let policies = app.hub.policies();
    let policy = match place {
        // With its credentials: those have TLS opened as well.
        RulePlace::Workspace(id) => {
            let watched = policies.watch(id).await.map_err(store_problem)?;
            Arc::clone(&watched.borrow())
        }
        _ => {
            let rules = policies.rules_for(organization, places).await.map_err(store_problem)?;
            Arc::new(Policy::from(rules))
        }
    };
    let target = &tried.target;
    let opened = tried.kind == Kind::Https && policy.opens(target);
    let wish = match tried.kind {
        Kind::Tunnel => Wish::Tunnel,
        Kind::Https if !opened => Wish::Tunnel,
        Kind::Https | Kind::Http => Wish::Request {
            method: &tried.method,
            path: &tried.path,
            query: tried.query.as_deref(),
        },
    };
    let Judgement { verdict, scope } = policy.rules().judge(target, wish);
    let whose = scope.map_or_else(String::new, |scope| format!(" of the {scope}"));
    let (kind, name, reason) = match &verdict {
        Verdict::Allowed(rule) => {
            (EgressVerdict::Allowed, Some(rule), format!("rule `{rule}`{whose} allows it"))
        }
        Verdict::Ask(rule) => {
            (EgressVerdict::Ask, Some(rule), format!("rule `{rule}`{whose} has a person asked"))
        }
        Verdict::Learned => (
            EgressVerdict::Learned,
            None,
            "no rule is about it; it passes and is recorded, because this learns".to_owned(),
        ),
        Verdict::Denied(reason) => (EgressVerdict::Denied, reason.rule(), reason.to_string()),
    };
    let rule = match name {
        Some(name) => shown::named(app, organization, name).await?,
        None => None,
    };
    let mut warnings = Vec::new();
    if policies.base().is_offline() {
        warnings
            .push("nothing leaves at all: `[egress] offline` is set in boatyard.toml".to_owned());
    }
    if let Host::Address(address) = target.host
        && let Err(kind) = policies.base().guard().judge(address)
    {
        warnings.push(format!(
            "{address} is {kind}, which no rule opens; `[egress] allow_private` in boatyard.toml does"
        ));
    }
    let host = match tried.target.port {
        80 | 443 => target.host.to_string(),
        _ => target.to_string(),
    };
    let next = match &verdict {
        Verdict::Denied(Reason::Forbidden(_) | Reason::Above(_)) => {
            Some("only a change of that rule, or of its scope, lets it pass".to_owned())
        }
        Verdict::Denied(_) => Some(format!("boatyard egress allow {host}{}", argument(place))),
        _ => None,
    };
    Ok(EgressOutcome { verdict: kind, reason, rule, scope, opened, warnings, next })
}

fn read(test: &EgressTest) -> Result<Tried, Problem> {
    let form = "write it as https://example.com/path, or as example.com:22 for a connection";
    let wrong = |what: String| Problem::invalid("url", what).with_next(form);
    if test.url.len() > URL_MAX {
        return Err(wrong(format!("it is longer than {URL_MAX} bytes")));
    }
    let named = test.method.as_deref().unwrap_or("GET");
    let method = match named {
        "CONNECT" => Method::CONNECT,
        text => {
            MethodName::try_from(text.to_owned())
                .map_err(|error| Problem::invalid("method", error))?
                .0
        }
    };
    if !test.url.contains("://") {
        let target = test.url.rsplit_once(':').and_then(|(host, port)| {
            let host = host.parse().ok()?;
            Some(Target { host, port: port.parse().ok().filter(|port| *port > 0)? })
        });
        let target = target
            .ok_or_else(|| wrong(format!("`{}` has no host and port", shown_url(&test.url))))?;
        let path = "/".to_owned();
        return Ok(Tried { target, method, path, query: None, kind: Kind::Tunnel });
    }
    // Not read as a browser does: what a path leads to is what is judged.
    let (scheme, rest) = test.url.split_once("://").unwrap_or_default();
    let (kind, usual) = match scheme {
        _ if method == Method::CONNECT => (Kind::Tunnel, if scheme == "http" { 80 } else { 443 }),
        "https" => (Kind::Https, 443),
        "http" => (Kind::Http, 80),
        _ => {
            return Err(wrong(format!(
                "`{}` is no http:// or https:// address",
                shown_url(&test.url)
            )));
        }
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, place) = rest.split_at(end);
    let authority: http::uri::Authority = authority
        .parse()
        .map_err(|_| wrong(format!("`{}` names no host", shown_url(&test.url))))?;
    if authority.as_str().contains('@') {
        return Err(wrong("a user name has no place in it".to_owned()));
    }
    let host = authority
        .host()
        .parse()
        .map_err(|error: boatyard_egress::Error| wrong(error.to_string()))?;
    let (path, query) = match place.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (place, None),
    };
    let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    let target = Target { host, port: authority.port_u16().unwrap_or(usual) };
    Ok(Tried { target, method, path, query, kind })
}

fn shown_url(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(100).collect()
}
