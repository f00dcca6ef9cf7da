//! Rules as people see them, with what they can't do.

use boatyard_api::{Problem, egress::EgressRule};
use boatyard_egress::{
    Rule, RuleSet,
    rules::{Layer, review},
};
use boatyard_model::{OrganizationId, RuleAction, RuleScope};
use boatyard_store::{RulePlace, RuleRow};

use crate::{
    app::App,
    operations::store_problem,
    policies::{BaseRule, Made},
};

/// The rules of one place, the settings' before those that were made. `rules` are all that hold
/// there.
pub(super) async fn rules_of(
    app: &App,
    organization: OrganizationId,
    place: RulePlace,
    rules: &RuleSet,
) -> Result<Vec<EgressRule>, Problem> {
    let now = app.store.now();
    let mut shown = Vec::new();
    if place == RulePlace::Organization {
        shown.extend(app.hub.policies().base().rules().iter().map(of_settings));
    }
    let rows = app.store.rules(organization, place).await.map_err(store_problem)?;
    let holds = |row: &&RuleRow| row.expires.is_none_or(|ends| ends > now);
    shown.extend(rows.iter().filter(holds).map(|row| of_row(row, place)));
    let guard = app.hub.policies().base().guard();
    let above: Vec<&Layer> = rules
        .layers()
        .iter()
        .map(AsRef::as_ref)
        .filter(|layer| layer.scope < place.scope())
        .collect();
    let here: Vec<&Rule> = rules
        .layers()
        .iter()
        .filter(|layer| layer.scope == place.scope())
        .flat_map(|layer| &layer.rules)
        .collect();
    for rule in &mut shown {
        let (own, others): (Vec<&Rule>, Vec<&Rule>) =
            here.iter().copied().partition(|other| *other.name == rule.name);
        let told: Vec<Vec<String>> = own
            .iter()
            .map(|rule| review::warnings(rule, place.scope(), &others, &above, guard))
            .collect();
        // Of a preset, what concerns all of it.
        if told.iter().all(|warnings| !warnings.is_empty()) {
            rule.warnings.extend(told.into_iter().next().unwrap_or_default());
        }
    }
    Ok(shown)
}

/// A rule by the name that it has in records.
pub(super) async fn named(
    app: &App,
    organization: OrganizationId,
    name: &str,
) -> Result<Option<EgressRule>, Problem> {
    let Ok(id) = name.parse() else {
        let base = app.hub.policies().base().rules();
        return Ok(base.iter().find(|rule| rule.name == name).map(of_settings));
    };
    match app.store.rule(id).await {
        Ok(row) if row.owner.organization == organization => {
            Ok(row.place().map(|place| of_row(&row, place)))
        }
        Ok(_) | Err(boatyard_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(store_problem(error)),
    }
}

fn of_settings(rule: &BaseRule) -> EgressRule {
    EgressRule {
        id: None,
        name: rule.name.clone(),
        scope: RuleScope::Organization,
        repository: None,
        workspace: None,
        action: rule.spec.action,
        text: rule.spec.to_string(),
        rule: Some(rule.spec.clone()),
        expires: None,
        created: None,
        warnings: Vec::new(),
    }
}

fn of_row(row: &RuleRow, place: RulePlace) -> EgressRule {
    let made = Made::of(row);
    let (repository, workspace) = match place {
        RulePlace::Organization => (None, None),
        RulePlace::Repository(id) => (Some(id), None),
        RulePlace::Workspace(id) => (None, Some(id)),
    };
    EgressRule {
        id: Some(row.id),
        name: row.id.to_string(),
        scope: place.scope(),
        repository,
        workspace,
        action: made.spec.as_ref().map_or(RuleAction::Deny, |spec| spec.action),
        text: made.spec.as_ref().map_or_else(String::new, ToString::to_string),
        rule: made.spec,
        expires: row.expires,
        created: Some(row.created),
        warnings: made.odd.into_iter().collect(),
    }
}
