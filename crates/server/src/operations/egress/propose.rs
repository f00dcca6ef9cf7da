//! Rules that are proposed: from what was recorded, and from what a repository asks for.

use std::time::Duration;

use boatyard_api::{
    Problem,
    egress::{EgressProposal, ProposalSource, ProposedRule},
};
use boatyard_egress::{
    Policy, Rule, RuleSet,
    rules::{
        Layer, Target,
        proposal::{Wanted, propose},
        text,
    },
};
use boatyard_model::{RuleScope, RuleSpec, Wish};
use boatyard_store::{RulePlace, WantedRow};
use http::Method;

use super::places;
use crate::{app::App, auth::Caller, jobs::environments, operations::store_problem};

/// How far back refusals are looked at.
const REFUSED: Duration = Duration::from_secs(7 * 24 * 3600);

/// The smallest set of rules for what passed only because a place learned, with `refused` also for
/// what was refused within the last seven days; and what the repository's environment asks for.
///
/// # Errors
/// When there is no such place, or the store can't be read.
pub async fn propose_egress(
    app: &App,
    caller: &Caller,
    place: RulePlace,
    refused: bool,
) -> Result<EgressProposal, Problem> {
    let places = places(app, caller, place, Wish::Look).await?;
    let organization = caller.owner.organization;
    let policies = app.hub.policies();
    let rules = policies.rules_for(organization, places).await.map_err(store_problem)?;
    let now = app.store.now();
    let since = refused.then(|| {
        let ago = i64::try_from(REFUSED.as_millis()).unwrap_or(i64::MAX);
        boatyard_model::Timestamp(now.0.saturating_sub(ago))
    });
    // What was over a moment ago counts too.
    app.hub.traffic().flush().await;
    let rows = app.store.wanted(organization, place, since).await.map_err(store_problem)?;
    let requests = rows.iter().map(|row| row.requests).sum();
    let wanted: Vec<Wanted> = rows.iter().filter_map(wanted).collect();
    let mut items: Vec<ProposedRule> = propose(&wanted, &rules)
        .into_iter()
        .map(|one| ProposedRule {
            text: one.spec.to_string(),
            note: note(&one.spec, &wanted),
            rule: one.spec,
            source: ProposalSource::Recorded,
            requests: one.requests,
        })
        .collect();
    if let RulePlace::Workspace(id) = place {
        let row = app.store.workspace(id).await.map_err(store_problem)?;
        let environment = environments::of(app, &row).await.map_err(store_problem)?;
        let asked = environment.egress.iter().filter(|spec| opens_more(spec, &rules));
        items.extend(asked.map(|spec| ProposedRule {
            rule: spec.clone(),
            text: spec.to_string(),
            source: ProposalSource::Repository,
            requests: 0,
            note: Some(format!("asked for by {}", environment.path)),
        }));
    }
    Ok(EgressProposal { items, requests })
}

/// What was recorded, as the rules see it.
fn wanted(row: &WantedRow) -> Option<Wanted> {
    let target = Target { host: row.host.parse().ok()?, port: u16::try_from(row.port).ok()? };
    let request = match (&row.path, row.method.parse::<Method>()) {
        (Some(path), Ok(method)) if method != Method::CONNECT => Some((method, path.clone())),
        _ => None,
    };
    Some(Wanted { target, request, count: row.requests })
}

/// Whether a rule would let anything pass that does not yet.
fn opens_more(spec: &RuleSpec, have: &RuleSet) -> bool {
    let Ok(wished) = Rule::from_spec("", spec) else { return false };
    let all: Vec<&Rule> = have.rules().collect();
    wished
        .iter()
        .any(|wished| !all.iter().any(|rule| rule.action == wished.action && rule.covers(wished)))
}

/// What a rule lets out beyond what was seen.
fn note(spec: &RuleSpec, wanted: &[Wanted]) -> Option<String> {
    if spec.preset.is_some() || !spec.methods.is_empty() || spec.purpose.is_some() {
        return None;
    }
    let policy = Policy::from(RuleSet::of(vec![std::sync::Arc::new(Layer::new(
        RuleScope::Organization,
        Rule::from_spec("", spec).ok()?,
    ))]));
    let is_tunnel = |wanted: &&Wanted| {
        wanted.request.is_none()
            && policy.rules().rules().any(|rule| rule.is_about_host(&wanted.target))
    };
    wanted.iter().find(is_tunnel).map(|_| {
        "its connections were not opened, so that methods and paths are not known: name them if not \
         all of this host is meant"
            .to_owned()
    })
}

/// The rules that a repository's file asks for, in lines.
pub(crate) fn asked(presets: &[String], allow: &[String]) -> Result<Vec<RuleSpec>, String> {
    let mut specs = Vec::new();
    for preset in presets {
        let spec = RuleSpec::preset(preset);
        Rule::from_spec("", &spec).map_err(|fault| format!("`egress.presets`: {fault}"))?;
        specs.push(spec);
    }
    for line in allow {
        let spec = text::parse(line)
            .map_err(|fault| format!("`egress.allow` at `{line}`: {fault}; {}", fault.mend))?;
        specs.push(spec);
    }
    Ok(specs)
}
